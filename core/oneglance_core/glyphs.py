"""Generate alphabets of invented characters, each drawn by several simulated writers.

A :class:`Glyph` is a few strokes (lines, corners, arcs, S-curves, hooks, rings, dots). :func:`draw` draws it as one
writer: with a slant, size, place, pen width and tremor. Two drawings of a glyph differ about as much as two people's
drawings of a character in Omniglot (Lake et al. 2015). The glyphs of one :func:`alphabet` share some strokes, so they
resemble each other.

    for character in alphabet(seed=1, characters=20, drawings=2):
        character.name, character.drawings          # "glyph-0001-007", uint8 [2, 105, 105]

The same seed gives the same pixels on every machine: the code uses only uniform random numbers, + - * / and square
roots, which IEEE 754 rounds identically everywhere (not so a sine).

Seeds in :data:`TRAINING_SEEDS` are for the exporter's training only. Everything shown or measured uses a smaller seed,
so no encoder was trained on it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.portable_random import normal, normals, random_below

Points = npt.NDArray[np.float64]

TRAINING_SEEDS = range(2**31, 2**32)
SIZE = 105  # pixels, as in Omniglot

_SPACING = 0.011  # between sampled points of a stroke, in picture widths: less than the pen's radius
_MIN_DISTANCE = 0.075  # between glyphs of one alphabet, in picture widths
_OUTLINE = 32  # points of a glyph that are compared with other glyphs
_MARGIN = 0.06  # white border, in picture widths


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line of the pen through ``points``, float64 [P, 2] (x, y), in [0, 1].

    smooth: a Catmull-Rom curve through the points; else straight lines between them.
    """

    points: Points
    smooth: bool


@dataclass(frozen=True, slots=True)
class Glyph:
    """The strokes of a character, which all its drawings share."""

    strokes: tuple[Stroke, ...]


@dataclass(frozen=True, slots=True)
class Character:
    """A named glyph with its drawings: uint8 [drawings, size, size], ink 0, paper 255."""

    name: str
    glyph: Glyph
    drawings: npt.NDArray[np.uint8]


def alphabet(seed: int, characters: int, drawings: int, size: int = SIZE) -> Iterator[Character]:
    """Yield ``characters`` of one invented alphabet, each drawn by ``drawings`` writers.

    Raises ValueError for a negative seed, or one above 2**32 - 1, and for sizes below 8 pixels.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {seed}")
    for i, glyph in enumerate(glyphs(np.random.default_rng([seed, 0]), characters)):
        writers = (np.random.default_rng([seed, 1, i, j]) for j in range(drawings))
        pictures = [draw(glyph, writer, size) for writer in writers]
        stack = np.stack(pictures) if pictures else np.empty((0, size, size), np.uint8)
        yield Character(f"glyph-{seed:04d}-{i:03d}", glyph, stack)


def glyphs(rng: np.random.Generator, characters: int) -> list[Glyph]:
    """``characters`` glyphs of one alphabet. They share some strokes, but none are nearly equal."""
    shared = [_stroke(rng) for _ in range(6 + random_below(rng, 7))]
    busy = rng.random()  # in [0, 1): how many strokes the characters of this alphabet have
    found: list[Glyph] = []
    outlines = np.empty((characters, _OUTLINE, 2))
    for i in range(characters):
        for _ in range(50):
            glyph = _glyph(rng, shared, busy)
            outlines[i] = _outline(glyph)
            if i == 0 or _distances(outlines[i], outlines[:i]).min() > _MIN_DISTANCE:
                break
        found.append(glyph)
    return found


def draw(glyph: Glyph, writer: np.random.Generator, size: int = SIZE) -> npt.NDArray[np.uint8]:
    """Draw ``glyph`` once: uint8 [size, size], ink 0, paper 255, with soft edges.

    writer: random numbers for slant, rotation (up to about 20 degrees, mostly below 6), proportions, place, pen width
    and tremor; the same state gives the same picture. Raises ValueError for sizes below 8.
    """
    if size < 8:
        raise ValueError(f"size must be at least 8 pixels, got {size}")
    # The writer: a small rotation as (1 - t^2, 2t) / (1 + t^2), a slant, two scales, a shift.
    t = 0.05 * normal(writer)
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    slant = 0.12 * normal(writer)
    wide, tall = (0.72 + 0.09 * normal(writer) for _ in range(2))
    right, down = (0.5 + 0.035 * normal(writer) for _ in range(2))
    pen = 0.012 + 0.005 * writer.random()  # radius, in picture widths

    paths = []
    for stroke in glyph.strokes:
        wobble = 0.028 * normals(writer, stroke.points.shape) + 0.028 * normals(writer, (1, 2))
        grown = 1 + 0.09 * normal(writer)
        middle = (stroke.points.min(axis=0) + stroke.points.max(axis=0)) / 2
        points = middle + grown * (stroke.points - middle) + wobble
        path = _path(points, stroke.smooth)  # [M, 2]
        x, y = wide * (path[:, 0] - 0.5), tall * (path[:, 1] - 0.5)
        x = x - slant * y
        paths.append(np.stack([right + cos * x - sin * y, down + sin * x + cos * y], axis=1))
    points = np.concatenate(paths)

    # A character that is too large is shrunk, and one outside the paper is moved back.
    low, high = points.min(axis=0), points.max(axis=0)
    room = 1 - 2 * _MARGIN
    points = (points - low) * np.minimum(1.0, room / np.maximum(high - low, 1e-9)).min() + low
    low, high = points.min(axis=0), points.max(axis=0)
    points = points + np.maximum(_MARGIN - low, 0) - np.maximum(high - (1 - _MARGIN), 0)
    return _ink(points * size, pen * size, size)


def _glyph(rng: np.random.Generator, shared: list[Stroke], busy: float) -> Glyph:
    count = 2 + (rng.random() < 0.3 + 0.5 * busy) + (rng.random() < 0.5 * busy)
    strokes: list[Stroke] = []
    for _ in range(count):
        # Half of the strokes are the alphabet's shared ones, some turned or mirrored: similar glyphs arise.
        stroke = shared[random_below(rng, len(shared))] if rng.random() < 0.5 else _stroke(rng)
        points = stroke.points
        if rng.random() < 0.3:
            points = points[:, ::-1] if rng.random() < 0.5 else 1 - points
        extent = points.max(axis=0) - points.min(axis=0)
        points = points - points.min(axis=0) + rng.random(2) * (1 - extent)
        if strokes and rng.random() < 0.6:
            # Most strokes of real characters touch: move a point of it to a point of an earlier stroke.
            other = strokes[random_below(rng, len(strokes))].points
            points = points + other[random_below(rng, len(other))] - points[random_below(rng, len(points))]
        strokes.append(Stroke(points, stroke.smooth))
    # Scale the whole character to fill the box.
    everything = np.concatenate([stroke.points for stroke in strokes])
    low, extent = everything.min(axis=0), everything.max(axis=0) - everything.min(axis=0)
    scale = np.minimum(1 / max(float(extent.max()), 0.3), 2.0)
    shift = 0.5 - scale * (low + extent / 2)
    return Glyph(tuple(Stroke(scale * stroke.points + shift, stroke.smooth) for stroke in strokes))


def _outline(glyph: Glyph) -> Points:
    """``_OUTLINE`` points along the glyph's strokes, float64 [_OUTLINE, 2]."""
    path = np.concatenate([_path(stroke.points, stroke.smooth) for stroke in glyph.strokes])
    return path[np.arange(_OUTLINE) * len(path) // _OUTLINE]


def _distances(outline: Points, others: Points) -> npt.NDArray[np.float64]:
    """Modified Hausdorff distance (Dubuisson and Jain 1994) to each of ``others`` [G, P, 2]."""
    step = outline[None, :, None, :] - others[:, None, :, :]  # [G, P, P, 2]
    distance = np.sqrt(step[..., 0] * step[..., 0] + step[..., 1] * step[..., 1])
    there, back = distance.min(axis=2), distance.min(axis=1)  # [G, P]
    # Added in a loop: a library's sum may use another order on another machine.
    total = [np.zeros(len(others)), np.zeros(len(others))]
    for i in range(outline.shape[0]):
        total[0] = total[0] + there[:, i]
        total[1] = total[1] + back[:, i]
    apart: npt.NDArray[np.float64] = np.maximum(total[0], total[1]) / outline.shape[0]
    return apart


def _stroke(rng: np.random.Generator) -> Stroke:
    """A random stroke inside the unit square, at least 0.05 wide or tall."""
    kind = rng.random()
    start, end = rng.random(2), rng.random(2)
    along = end - start
    length = np.sqrt(along[0] * along[0] + along[1] * along[1])
    if length < 0.35:
        along = along * (0.35 / max(float(length), 1e-6))
    across = np.array([-along[1], along[0]])
    side = 1.0 if rng.random() < 0.5 else -1.0
    if kind < 0.22:  # line
        if rng.random() < 0.5:  # half of the straight strokes are nearly vertical or horizontal
            axis = random_below(rng, 2)
            along = along * np.array([axis == 0, axis == 1]) + np.array([0.4 * (axis == 0), 0.4 * (axis == 1)])
        shape = [0 * along, along]
    elif kind < 0.40:  # corner, once or twice
        bend = 0.3 + 0.5 * rng.random()
        shape = [0 * along, bend * along + side * (0.3 + 0.4 * rng.random()) * across, along]
        if rng.random() < 0.4:
            shape.append(along + (0.3 + 0.4 * rng.random()) * side * across)
    elif kind < 0.62:  # arc
        depth = side * (0.2 + 0.5 * rng.random())
        shape = [0 * along, 0.2 * along + 0.75 * depth * across, 0.5 * along + depth * across]
        shape += [0.8 * along + 0.75 * depth * across, along]
    elif kind < 0.74:  # S-curve
        depth = side * (0.15 + 0.3 * rng.random())
        shape = [0 * along, 0.25 * along + depth * across, 0.5 * along]
        shape += [0.75 * along - depth * across, along]
    elif kind < 0.86:  # hook: a line that curls at its end
        curl = side * (0.15 + 0.25 * rng.random())
        shape = [0 * along, 0.5 * along, 0.9 * along, along + 0.6 * curl * across]
        shape += [0.85 * along + curl * across, 0.65 * along + 0.8 * curl * across]
    elif kind < 0.94:  # ring
        a, b = 0.12 + 0.25 * rng.random(), 0.12 + 0.25 * rng.random()
        octagon = [(1, 0), (0.7071, 0.7071), (0, 1), (-0.7071, 0.7071)]
        octagon += [(-1, 0), (-0.7071, -0.7071), (0, -1), (0.7071, -0.7071), (1, 0)]
        shape = [np.array([a * u, b * v]) for u, v in octagon]
    else:  # dot
        shape = [np.zeros(2), np.array([0.05, 0.03])]
    points = np.stack(shape)
    extent = points.max(axis=0) - points.min(axis=0)
    return Stroke((points - points.min(axis=0)) / max(1.0, float(extent.max())), kind >= 0.40)


def _path(points: Points, smooth: bool) -> Points:
    """Sample the stroke through ``points`` [P, 2] at most ``_SPACING`` apart: float64 [M, 2]."""
    before = np.concatenate([2 * points[:1] - points[1:2], points[:-2]])
    start, end = points[:-1], points[1:]
    after = np.concatenate([points[2:], 2 * points[-1:] - points[-2:-1]])
    step = end - start
    lengths = np.sqrt(step[:, 0] * step[:, 0] + step[:, 1] * step[:, 1])
    counts = np.maximum(2, (1.3 * lengths / _SPACING).astype(np.int64) + 2)
    pieces = []
    for p0, p1, p2, p3, count in zip(before, start, end, after, counts.tolist(), strict=True):
        u = (np.arange(count) / (count - 1))[:, None]
        if smooth:  # Catmull and Rom 1974, tension 1/2
            bend = 2 * p0 - 5 * p1 + 4 * p2 - p3 + u * (3 * (p1 - p2) + p3 - p0)
            pieces.append(p1 + 0.5 * u * (p2 - p0 + u * bend))
        else:
            pieces.append(p1 + u * (p2 - p1))
    return np.concatenate(pieces)


def _ink(points: Points, pen: float, size: int) -> npt.NDArray[np.uint8]:
    """Draw a disc of radius ``pen`` pixels at each of ``points`` [M, 2] (x, y in pixels)."""
    reach = int(pen + 1.5)
    near = np.arange(-reach, reach + 1)
    dy, dx = np.repeat(near, len(near)), np.tile(near, len(near))
    corner = np.floor(points).astype(np.int64)  # [M, 2]
    column, row = corner[:, :1] + dx, corner[:, 1:] + dy  # [M, (2 reach + 1)^2]
    x, y = column + 0.5 - points[:, :1], row + 0.5 - points[:, 1:]
    squared = x * x + y * y
    # The paper is padded by the pen's reach, so that no disc leaves it.
    wide = size + 2 * reach + 2
    cells = (row + reach + 1) * wide + column + reach + 1
    nearest = np.full(wide * wide, np.inf)
    np.minimum.at(nearest, np.clip(cells, 0, wide * wide - 1).ravel(), squared.ravel())
    distance = np.sqrt(nearest.reshape(wide, wide)[reach + 1 : -reach - 1, reach + 1 : -reach - 1])
    white = np.clip(distance - pen + 0.5, 0.0, 1.0)  # 0 inside the pen, 1 a pixel outside
    picture: npt.NDArray[np.uint8] = (white * 255 + 0.5).astype(np.uint8)
    return picture
