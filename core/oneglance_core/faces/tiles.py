"""Cut a large photo into overlapping tiles, so that a search of it takes no more memory than that of a small one."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a photo, in pixels. What has its centre in the core of a tile has it in no other core, and is
    surrounded by half the overlap of the tiles, unless the photo ends there."""

    top: int
    left: int
    height: int
    width: int
    core: tuple[float, float, float, float]  # top, left, bottom, right, in pixels of the photo

    def owns(self, x: float, y: float) -> bool:
        """Whether a point of the photo is in the core."""
        top, left, bottom, right = self.core
        return top <= y < bottom and left <= x < right


GRID = 8  # tiles begin at multiples of it, so that a detector with a stride looks at the same places in each


def tiles(height: int, width: int, overlap: int, fits: Callable[[int, int], bool]) -> list[Tile]:
    """As few tiles of one size as ``fits(height, width)`` allows; those of up to twice the overlap are taken in any
    case."""
    rows = columns = 1
    while True:
        tall, wide = _side(height, rows, overlap), _side(width, columns, overlap)
        if fits(tall, wide) or max(tall, wide) <= 2 * overlap:
            break
        if wide >= tall:
            columns += 1
        else:
            rows += 1
    return [
        Tile(top, left, tall, wide, (above, before, below, behind))
        for top, above, below in _places(height, rows, tall, overlap)
        for left, before, behind in _places(width, columns, wide, overlap)
    ]


def _side(length: int, count: int, overlap: int) -> int:
    if count == 1:
        return length
    side = -(-length // count) + overlap + GRID
    return min(length, side + (length - side) % GRID)


def _places(length: int, count: int, side: int, overlap: int) -> list[tuple[int, float, float]]:
    """Of each tile along one axis: its begin, and begin and end of its core."""
    edges = [length * i / count for i in range(count + 1)]
    edges[0], edges[-1] = float("-inf"), float("inf")  # boxes may reach beyond the photo
    wanted = [min(max(0, round(length * i / count) - overlap // 2), length - side) for i in range(count)]
    begins = [begin - begin % GRID for begin in wanted]
    return list(zip(begins, edges, edges[1:], strict=False))
