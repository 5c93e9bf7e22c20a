"""How a picture is cut so that few shapes are ever run, no run is large, and no seam shows.

A small picture is run whole, its sides lengthened by reflection to a multiple of the *bucket*. A larger one is run as
tiles of one shape that overlap by the stylizer's margin on either side; of each the inner part is kept, which under
given moments is what a run of the whole would have given. Tiles begin at multiples of the stylizer's ``multiple``,
where the whole would have been cut into blocks, too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import StylizerManifest
from oneglance_server.errors import StartupError


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis: it runs from ``begin`` for ``length`` pixels, of which ``start`` to ``stop`` are kept.

    Places in the picture; what lies beyond its end is reflected.
    """

    begin: int
    length: int
    start: int
    stop: int

    @property
    def kept(self) -> slice:
        """In the picture."""
        return slice(self.start, self.stop)

    @property
    def inner(self) -> slice:
        """The same pixels in the tile."""
        return slice(self.start - self.begin, self.stop - self.begin)

    def reflected(self, side: int) -> npt.NDArray[np.intp]:
        """The picture's pixel for each of the tile's, [length]; ``side``: the picture's.

        The edge pixel is repeated (numpy's ``symmetric``), so that a side of one pixel can be reflected, too.
        """
        places = np.arange(self.begin, self.begin + self.length) % (2 * side)
        return np.minimum(places, 2 * side - 1 - places)


@dataclass(frozen=True, slots=True)
class Plan:
    """All tiles of a picture: every row with every column."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[tuple[Span, Span]]:
        return ((row, column) for row in self.rows for column in self.columns)


class Grid:
    """Plans for one stylizer.

    Args:
        bucket: what sides of pictures that run whole are lengthened to multiples of, pixels.
        tile: a run has at most tile x tile pixels.

    Raises StartupError for a tile too small for the stylizer.
    """

    def __init__(self, manifest: StylizerManifest, *, bucket: int, tile: int) -> None:
        self._multiple = manifest.multiple
        self._bucket = _up(bucket, self._multiple)
        self._least = _up(manifest.least_side, self._bucket)
        self._margin = _up(manifest.margin, self._multiple)
        self.tile = tile // self._multiple * self._multiple
        needed = max(self._least, 2 * self._margin + self._multiple)
        if self.tile < needed:
            raise StartupError(f"--stylize-tile {tile}: {manifest.name} needs tiles of at least {needed} pixels")

    @property
    def least(self) -> int:
        """The shortest side that is ever run."""
        return self._least

    def plan(self, height: int, width: int) -> Plan:
        """Sides from 1 pixel."""
        tall, wide = self._lengthened(height), self._lengthened(width)
        if tall * wide <= self.tile**2:
            return Plan((Span(0, tall, 0, height),), (Span(0, wide, 0, width),))
        return Plan(self._spans(height), self._spans(width))

    def shapes(self, height: int, width: int) -> set[tuple[int, int]]:
        """(height, width) of everything that is run for such a picture."""
        plan = self.plan(height, width)
        shapes = {(row.length, column.length) for row, column in plan}
        return shapes if len(plan) == 1 else shapes | self.shapes(*self.small_copy(height, width))

    def small_copy(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the largest copy of such a picture that runs whole."""
        scale = min(1.0, self.tile / math.sqrt(height * width))
        while True:
            small = max(1, round(height * scale)), max(1, round(width * scale))
            if self._lengthened(small[0]) * self._lengthened(small[1]) <= self.tile**2:
                return small
            scale *= 0.98

    def _lengthened(self, side: int) -> int:
        return max(self._least, _up(side, self._bucket))

    def _spans(self, side: int) -> tuple[Span, ...]:
        end = _up(side, self._multiple)
        if end <= self.tile:
            return (Span(0, min(self.tile, self._lengthened(side)), 0, side),)
        last = end - self.tile
        begins = [*range(0, last, self.tile - 2 * self._margin), last]
        starts = [0, *(begin + self._margin for begin in begins[1:])]
        return tuple(
            Span(begin, self.tile, start, stop)
            for begin, start, stop in zip(begins, starts, [*starts[1:], side], strict=True)
        )


def cut(pixels: npt.NDArray[np.uint8], row: Span, column: Span) -> npt.NDArray[Any]:
    """A tile of ``pixels`` [H, W, ...], reflected beyond its ends; in memory of its own, C order."""
    rows, columns = row.reflected(pixels.shape[0]), column.reflected(pixels.shape[1])
    return np.take(np.take(pixels, rows, axis=0), columns, axis=1)


def _up(value: int, step: int) -> int:
    """The least multiple of ``step`` that is at least ``value``."""
    return -(-value // step) * step
