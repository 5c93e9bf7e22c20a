"""Characters that nobody has seen: a procedural alphabet, drawn by many hands.

A :class:`Glyph` is a few strokes (lines, corners, arcs, S-curves, hooks, rings, dots). :func:`draw`
puts it on paper as one hand would: its own slant, size, place, pen and tremble. Two drawings of one
glyph differ about as two people's drawings of one character do in Omniglot (Lake et al. 2015).
The glyphs of one :func:`alphabet` share a small stock of strokes, so they resemble each other.

    for subject in alphabet(seed=1, characters=20, drawings=2):
        subject.name, subject.drawings          # "glyph-0001-007", uint8 [2, 105, 105]

The same seed gives the same pixels on every machine: only uniform random numbers are drawn, and
coordinates are made with + - * / and square roots, which IEEE 754 rounds alike everywhere (a sine
is not among them).

Seeds in :data:`TRAINING_SEEDS` belong to the exporter's training. Whatever is shown or measured
takes a seed below them, so it was never trained on.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

TRAINING_SEEDS = range(2**31, 2**32)
SIZE = 105  # pixels; Omniglot's own

_SPACING = 0.011  # of a stroke's sampled points, in picture widths: closer than a pen's radius
_TWINS = 0.075  # glyphs of one alphabet are at least so far apart, in picture widths
_OUTLINE = 32  # points that stand for a glyph when twins are looked for
_MARGIN = 0.06  # of paper that stays white, in picture widths


@dataclass(frozen=True, slots=True)
class Stroke:
    """One pull of the pen: it passes through ``points``, float64 [P, 2] (x, y), in [0, 1].

    smooth: a Catmull-Rom curve through the points; else straight lines that meet in corners.
    """

    points: Points
    smooth: bool


@dataclass(frozen=True, slots=True)
class Glyph:
    """A character: what all its drawings have in common."""

    strokes: tuple[Stroke, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """A named glyph with its drawings, uint8 [drawings, size, size], ink 0 on white 255."""

    name: str
    glyph: Glyph
    drawings: npt.NDArray[np.uint8]


def alphabet(seed: int, characters: int, drawings: int, size: int = SIZE) -> Iterator[Subject]:
    """Yield ``characters`` subjects of one invented alphabet, each drawn by ``drawings`` hands.

    Raises ValueError for a negative seed, or one above 2**32 - 1, and for sizes below 8 pixels.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {seed}")
    for i, glyph in enumerate(glyphs(np.random.default_rng([seed, 0]), characters)):
        hands = (np.random.default_rng([seed, 1, i, j]) for j in range(drawings))
        pictures = [draw(glyph, hand, size) for hand in hands]
        stack = np.stack(pictures) if pictures else np.empty((0, size, size), np.uint8)
        yield Subject(f"glyph-{seed:04d}-{i:03d}", glyph, stack)


def glyphs(rng: np.random.Generator, characters: int) -> list[Glyph]:
    """``characters`` glyphs of one alphabet: they share a stock of strokes, and none are twins."""
    stock = [_stroke(rng) for _ in range(6 + _below(rng, 7))]
    busy = rng.random()  # how many strokes a character takes is the alphabet's own habit
    found: list[Glyph] = []
    outlines = np.empty((characters, _OUTLINE, 2))
    for i in range(characters):
        for _ in range(50):
            glyph = _glyph(rng, stock, busy)
            outlines[i] = _outline(glyph)
            if i == 0 or _apart(outlines[i], outlines[:i]).min() > _TWINS:
                break
        found.append(glyph)
    return found


def draw(glyph: Glyph, hand: np.random.Generator, size: int = SIZE) -> npt.NDArray[np.uint8]:
    """Draw ``glyph`` once: uint8 [size, size], ink 0 on white 255, with soft edges.

    ``hand`` decides slant, rotation (up to about 20 degrees, mostly below 6), proportions, place, pen
    width and tremble; the same state of ``hand`` gives the same picture. Raises ValueError for sizes below 8.
    """
    if size < 8:
        raise ValueError(f"size must be at least 8 pixels, got {size}")
    # The hand: a small rotation as (1 - t^2, 2t) / (1 + t^2), a slant, two scales, a shift.
    t = 0.05 * _bell(hand)
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    slant = 0.12 * _bell(hand)
    wide, tall = (0.72 + 0.09 * _bell(hand) for _ in range(2))
    right, down = (0.5 + 0.035 * _bell(hand) for _ in range(2))
    pen = 0.012 + 0.005 * hand.random()  # half the stroke's width, in picture widths

    paths = []
    for stroke in glyph.strokes:
        wobble = 0.028 * _bells(hand, stroke.points.shape) + 0.028 * _bells(hand, (1, 2))
        grown = 1 + 0.09 * _bell(hand)
        middle = (stroke.points.min(axis=0) + stroke.points.max(axis=0)) / 2
        points = middle + grown * (stroke.points - middle) + wobble
        path = _path(points, stroke.smooth)  # [M, 2]
        x, y = wide * (path[:, 0] - 0.5), tall * (path[:, 1] - 0.5)
        x = x - slant * y
        paths.append(np.stack([right + cos * x - sin * y, down + sin * x + cos * y], axis=1))
    points = np.concatenate(paths)

    # A big character is shrunk, and one that left the paper is moved back, as a person would.
    low, high = points.min(axis=0), points.max(axis=0)
    room = 1 - 2 * _MARGIN
    points = (points - low) * np.minimum(1.0, room / np.maximum(high - low, 1e-9)).min() + low
    low, high = points.min(axis=0), points.max(axis=0)
    points = points + np.maximum(_MARGIN - low, 0) - np.maximum(high - (1 - _MARGIN), 0)
    return _ink(points * size, pen * size, size)


def _glyph(rng: np.random.Generator, stock: list[Stroke], busy: float) -> Glyph:
    count = 2 + (rng.random() < 0.3 + 0.5 * busy) + (rng.random() < 0.5 * busy)
    strokes: list[Stroke] = []
    for _ in range(count):
        # Half of the strokes come from the alphabet's stock, turned or mirrored: near twins arise.
        stroke = stock[_below(rng, len(stock))] if rng.random() < 0.5 else _stroke(rng)
        points = stroke.points
        if rng.random() < 0.3:
            points = points[:, ::-1] if rng.random() < 0.5 else 1 - points
        extent = points.max(axis=0) - points.min(axis=0)
        points = points - points.min(axis=0) + rng.random(2) * (1 - extent)
        if strokes and rng.random() < 0.6:
            # Most strokes of real characters touch: start on a point of an earlier one.
            other = strokes[_below(rng, len(strokes))].points
            points = points + other[_below(rng, len(other))] - points[_below(rng, len(points))]
        strokes.append(Stroke(points, stroke.smooth))
    # The whole character fills its box, whatever its strokes did.
    everything = np.concatenate([stroke.points for stroke in strokes])
    low, extent = everything.min(axis=0), everything.max(axis=0) - everything.min(axis=0)
    scale = np.minimum(1 / max(float(extent.max()), 0.3), 2.0)
    shift = 0.5 - scale * (low + extent / 2)
    return Glyph(tuple(Stroke(scale * stroke.points + shift, stroke.smooth) for stroke in strokes))


def _outline(glyph: Glyph) -> Points:
    """``_OUTLINE`` points spread over the glyph's strokes, float64 [_OUTLINE, 2]."""
    path = np.concatenate([_path(stroke.points, stroke.smooth) for stroke in glyph.strokes])
    return path[np.arange(_OUTLINE) * len(path) // _OUTLINE]


def _apart(outline: Points, others: Points) -> npt.NDArray[np.float64]:
    """Modified Hausdorff distance (Dubuisson and Jain 1994) to each of ``others`` [G, P, 2]."""
    step = outline[None, :, None, :] - others[:, None, :, :]  # [G, P, P, 2]
    distance = np.sqrt(step[..., 0] * step[..., 0] + step[..., 1] * step[..., 1])
    there, back = distance.min(axis=2), distance.min(axis=1)  # [G, P]
    # Added one by one: a library's sum may add in another order on another machine.
    total = [np.zeros(len(others)), np.zeros(len(others))]
    for i in range(outline.shape[0]):
        total[0] = total[0] + there[:, i]
        total[1] = total[1] + back[:, i]
    apart: npt.NDArray[np.float64] = np.maximum(total[0], total[1]) / outline.shape[0]
    return apart


def _stroke(rng: np.random.Generator) -> Stroke:
    """A random stroke whose box lies within the unit square, at least 0.05 wide or tall."""
    kind = rng.random()
    start, end = rng.random(2), rng.random(2)
    along = end - start
    length = np.sqrt(along[0] * along[0] + along[1] * along[1])
    if length < 0.35:
        along = along * (0.35 / max(float(length), 1e-6))
    across = np.array([-along[1], along[0]])
    side = 1.0 if rng.random() < 0.5 else -1.0
    if kind < 0.22:  # line
        if rng.random() < 0.5:  # most straight strokes stand or lie
            axis = _below(rng, 2)
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
    """Stamp a round pen of radius ``pen`` pixels at each of ``points`` [M, 2] (x, y in pixels)."""
    reach = int(pen + 1.5)
    near = np.arange(-reach, reach + 1)
    dy, dx = np.repeat(near, len(near)), np.tile(near, len(near))
    corner = np.floor(points).astype(np.int64)  # [M, 2]
    column, row = corner[:, :1] + dx, corner[:, 1:] + dy  # [M, (2 reach + 1)^2]
    x, y = column + 0.5 - points[:, :1], row + 0.5 - points[:, 1:]
    squared = x * x + y * y
    # The paper is padded by the pen's reach, so no stamp can fall off it.
    wide = size + 2 * reach + 2
    cells = (row + reach + 1) * wide + column + reach + 1
    nearest = np.full(wide * wide, np.inf)
    np.minimum.at(nearest, np.clip(cells, 0, wide * wide - 1).ravel(), squared.ravel())
    distance = np.sqrt(nearest.reshape(wide, wide)[reach + 1 : -reach - 1, reach + 1 : -reach - 1])
    white = np.clip(distance - pen + 0.5, 0.0, 1.0)  # 0 inside the pen, 1 a pixel outside
    picture: npt.NDArray[np.uint8] = (white * 255 + 0.5).astype(np.uint8)
    return picture


def _below(rng: np.random.Generator, bound: int) -> int:
    return int(rng.random() * bound)


def _bell(rng: np.random.Generator) -> float:
    """About normal, mean 0, deviation 1, never beyond 3.5: four uniforms added (Irwin and Hall)."""
    return float((rng.random() + rng.random() + rng.random() + rng.random() - 2.0) * 1.7320508075688772)


def _bells(rng: np.random.Generator, shape: tuple[int, ...]) -> Points:
    four = rng.random((4, *shape))
    bells: Points = (four[0] + four[1] + four[2] + four[3] - 2.0) * 1.7320508075688772
    return bells
