"""Generate characters in space: bent tubes, each made by several simulated hands. What glyphs.py is to pictures.

A character is a few strokes (lines, corners, arcs, S-curves, screws) in a cube. :func:`shape` makes a volume of it as
one hand: turned, stretched, moved a little, with a tremor, thicker or thinner. The characters of one :func:`cabinet`
share some strokes, so they resemble each other.

    for solid in cabinet(seed=1, characters=20, examples=2):
        solid.name, solid.volumes          # "solid-0001-007", uint8 [2, 24, 24, 24]

The same seed gives the same voxels on every machine (see portable_random).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.portable_random import normals, random_below

Points = npt.NDArray[np.float64]

SIZE = 24  # voxels, each side
_SPACING = 0.02  # between sampled points of a stroke, in sides of the cube
_MARGIN = 0.08  # of empty space, in sides of the cube


@dataclass(frozen=True, slots=True)
class Solid:
    """A named character with its volumes: uint8 [examples, size, size, size], 255 inside of a tube, 0 outside.

    strokes: float64 [P, 3] (x, y, z) each, points of a curve in the unit cube, which all volumes share.
    """

    name: str
    strokes: tuple[Points, ...]
    volumes: npt.NDArray[np.uint8]


def cabinet(seed: int, characters: int, examples: int, size: int = SIZE) -> Iterator[Solid]:
    """Yield ``characters`` that belong together, each made by ``examples`` hands.

    Raises ValueError for a negative seed, or one above 2**32 - 1, and for sizes below 8 voxels.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {seed}")
    rng = np.random.default_rng([seed, 2])
    shared = [_stroke(rng) for _ in range(5 + random_below(rng, 5))]
    for i in range(characters):
        strokes = _character(rng, shared)
        hands = (np.random.default_rng([seed, 3, i, j]) for j in range(examples))
        made = [shape(strokes, hand, size) for hand in hands]
        volumes = np.stack(made) if made else np.empty((0, size, size, size), np.uint8)
        yield Solid(f"solid-{seed:04d}-{i:03d}", strokes, volumes)


def shape(strokes: tuple[Points, ...], hand: np.random.Generator, size: int = SIZE) -> npt.NDArray[np.uint8]:
    """One volume, uint8 [size, size, size] (z, y, x), with soft edges.

    hand: random numbers for a turn about any axis (mostly below 12 degrees), proportions, place, thickness and tremor.
    """
    if size < 8:
        raise ValueError(f"size must be at least 8 voxels, got {size}")
    turn = _turn(0.06 * normals(hand, (3,)))
    scale = 0.78 + 0.07 * normals(hand, (3,))
    move = 0.5 + 0.03 * normals(hand, (3,))
    radius = 0.035 + 0.015 * hand.random()  # in sides of the cube
    paths = []
    for stroke in strokes:
        tremor = 0.02 * normals(hand, stroke.shape) + 0.02 * normals(hand, (1, 3))
        path = _path(stroke + tremor)
        paths.append(_times((path - 0.5) * scale, turn) + move)
    points = np.concatenate(paths)
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - low) * np.minimum(1.0, (1 - 2 * _MARGIN) / np.maximum(high - low, 1e-9)).min() + low
    low, high = points.min(axis=0), points.max(axis=0)
    points = points + np.maximum(_MARGIN - low, 0) - np.maximum(high - (1 - _MARGIN), 0)
    return _filled(points * size, max(0.6, radius * size), size)


def _character(rng: np.random.Generator, shared: list[Points]) -> tuple[Points, ...]:
    """Two to four strokes, most of which touch; half are shared ones, some with their axes exchanged."""
    strokes: list[Points] = []
    for _ in range(2 + random_below(rng, 3)):
        points = shared[random_below(rng, len(shared))] if rng.random() < 0.5 else _stroke(rng)
        if rng.random() < 0.5:
            points = np.roll(points, 1 + random_below(rng, 2), axis=1)
        points = points + rng.random(3) * (1 - points.max(axis=0))
        if strokes and rng.random() < 0.7:
            other = strokes[random_below(rng, len(strokes))]
            points = points + other[random_below(rng, len(other))] - points[random_below(rng, len(points))]
        strokes.append(points)
    everything = np.concatenate(strokes)
    low, extent = everything.min(axis=0), everything.max(axis=0) - everything.min(axis=0)
    scale = 1 / max(float(extent.max()), 0.3)
    return tuple(0.5 + scale * (points - low - extent / 2) for points in strokes)


def _stroke(rng: np.random.Generator) -> Points:
    """Points of a random stroke, float64 [P, 3], in the unit cube, touching its three sides at 0."""
    along = rng.random(3) - 0.5
    along = along * (0.5 + 0.5 * rng.random()) / max(_length(along), 1e-6)
    side = rng.random(3) - 0.5
    side = side - along * (_dot(side, along) / _dot(along, along))
    side = side / max(_length(side), 1e-6)
    third = _across(along, side) / max(_length(along), 1e-6)
    depth = 0.15 + 0.35 * rng.random()
    kind = rng.random()
    if kind < 0.25:  # line
        steps = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0)]
    elif kind < 0.45:  # arc
        steps = [(0.0, 0.0, 0.0), (0.2, 0.75, 0.0), (0.5, 1.0, 0.0), (0.8, 0.75, 0.0), (1.0, 0.0, 0.0)]
    elif kind < 0.6:  # S-curve
        steps = [(0.0, 0.0, 0.0), (0.25, 0.7, 0.0), (0.5, 0.0, 0.0), (0.75, -0.7, 0.0), (1.0, 0.0, 0.0)]
    elif kind < 0.8:  # corner that leaves the plane
        steps = [(0.0, 0.0, 0.0), (0.6, 0.0, 0.0), (0.7, 0.6, 0.0), (0.7, 0.8, 0.9)]
    else:  # screw
        turns = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0), (1.0, 0.0), (0.0, 1.0))
        steps = [(i / 5, a, b) for i, (a, b) in enumerate(turns)]
    points = np.stack([t * along + depth * (a * side + b * third) for t, a, b in steps])
    points = points - points.min(axis=0)
    inside: Points = points / max(1.0, float(points.max()))
    return inside


def _path(points: Points) -> Points:
    """A Catmull-Rom curve through ``points`` [P, 3], sampled about ``_SPACING`` apart: float64 [M, 3]."""
    before = np.concatenate([2 * points[:1] - points[1:2], points[:-2]])
    after = np.concatenate([points[2:], 2 * points[-1:] - points[-2:-1]])
    pieces = []
    for p0, p1, p2, p3 in zip(before, points[:-1], points[1:], after, strict=True):
        count = max(2, int(1.3 * _length(p2 - p1) / _SPACING) + 2)
        u = (np.arange(count) / (count - 1))[:, np.newaxis]
        bend = 2 * p0 - 5 * p1 + 4 * p2 - p3 + u * (3 * (p1 - p2) + p3 - p0)
        pieces.append(p1 + 0.5 * u * (p2 - p0 + u * bend))
    return np.concatenate(pieces)


def _turn(q: Points) -> Points:
    """The rotation of the quaternion (1, q), float64 [3, 3]."""
    x, y, z = q.tolist()
    norm = 1 + x * x + y * y + z * z
    rows = [
        [1 + x * x - y * y - z * z, 2 * (x * y - z), 2 * (x * z + y)],
        [2 * (x * y + z), 1 - x * x + y * y - z * z, 2 * (y * z - x)],
        [2 * (x * z - y), 2 * (y * z + x), 1 - x * x - y * y + z * z],
    ]
    matrix: Points = np.array(rows) / norm
    return matrix


def _times(points: Points, matrix: Points) -> Points:
    """points @ matrix.T, summed in one order everywhere."""
    turned: Points = points[:, :1] * matrix[:, 0] + points[:, 1:2] * matrix[:, 1] + points[:, 2:] * matrix[:, 2]
    return turned


def _dot(a: Points, b: Points) -> float:
    return float(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def _length(a: Points) -> float:
    return float(np.sqrt(_dot(a, a)))


def _across(a: Points, b: Points) -> Points:
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _filled(points: Points, radius: float, size: int) -> npt.NDArray[np.uint8]:
    """A ball of ``radius`` voxels at each of ``points`` [M, 3] (x, y, z in voxels)."""
    reach = int(radius + 1.5)
    near = np.arange(-reach, reach + 1)
    offsets = np.stack(np.meshgrid(near, near, near, indexing="ij"), axis=-1).reshape(-1, 3)
    cells = np.floor(points).astype(np.int64)[:, np.newaxis] + offsets  # [M, (2 reach + 1)^3, 3]
    step = cells + 0.5 - points[:, np.newaxis]
    squared = step[..., 0] * step[..., 0] + step[..., 1] * step[..., 1] + step[..., 2] * step[..., 2]
    # Padded by the reach, so that no ball leaves the cube.
    wide = size + 2 * reach + 2
    x, y, z = np.moveaxis(np.clip(cells + reach + 1, 0, wide - 1), -1, 0)
    nearest = np.full(wide**3, np.inf)
    np.minimum.at(nearest, ((z * wide + y) * wide + x).ravel(), squared.ravel())
    inner = slice(reach + 1, -reach - 1)
    distance = np.sqrt(nearest.reshape(wide, wide, wide)[inner, inner, inner])
    volume: npt.NDArray[np.uint8] = (np.clip(radius + 0.5 - distance, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return volume
