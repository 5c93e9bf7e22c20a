"""Grid and shift of a stylizer's pictures at any size; large ones are painted in tiles, as a server does it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from oneglance_exporter.perceptual.pictures import Rgb
from oneglance_exporter.stylizer.deployed import Deployed
from oneglance_exporter.stylizer.faults import SHIFTS, grid_on, largest, on_greys, room_of, shift_of

_TILE = 512  # pixels: longer side of a tile


@dataclass(frozen=True, slots=True)
class AtSize:
    """One style at one size. grid: levels, of the mean over the photos, or of the worst grey if that is more: a small
    picture has too few cells to tell by itself. shift: RMSE, of 1, the worst photo."""

    style: str
    size: int
    grid: float
    shift: float


def at_size(net: Deployed, style: str, photos: Sequence[Rgb], size: int) -> AtSize:
    """Of photos uint8 [H, W, 3] that are brought to ``size`` pixels on the longer side.

    Of one of more than _TILE pixels a tile in the middle is looked at, under the moments of a small copy of the whole.
    """
    weights, multiple = net.style(style), net.manifest.multiple
    grids, shifts = [], []
    for photo in photos:
        room, moments = room_of(photo, size, multiple), None
        if size > _TILE:
            height, width = (_whole(side * _TILE / size, multiple) for side in room.shape[:2])
            small = np.asarray(Image.fromarray(room).resize((width, height), Image.Resampling.BOX))
            room, moments = _middle(room), net.moments(small[np.newaxis], weights)
        grids.append(grid_on(net, room, weights, moments))
        shifts.append(shift_of(net, room, weights, moments))
    on_photos, of_greys = largest(np.mean(grids, axis=0)), on_greys(net, weights, min(size, _TILE)).grid
    return AtSize(style, size, max(on_photos, of_greys), max(shifts))


def sizes_table(rows: Sequence[AtSize]) -> list[str]:
    """Lines of Markdown: a row per style, and grid and shift by size."""
    sizes = list(dict.fromkeys(row.size for row in rows))
    lines = [f"| grid, shift at | {' | '.join(f'{size} px' for size in sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for style in dict.fromkeys(row.style for row in rows):
        cells = [f"{row.grid:.2f}, {row.shift:.3f}" for row in rows if row.style == style]
        lines.append(f"| {style} | {' | '.join(cells)} |")
    return lines


def _middle(room: Rgb) -> Rgb:
    """A tile, with its room to move."""
    (top, height), (left, width) = (
        (max(0, side - max(SHIFTS) - _TILE) // 2, min(side, _TILE + max(SHIFTS))) for side in room.shape[:2]
    )
    return room[top : top + height, left : left + width]


def _whole(side: float, multiple: int) -> int:
    return max(4 * multiple, round(side / multiple) * multiple)
