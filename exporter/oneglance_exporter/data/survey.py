"""What data are like before they are trained on: how many, of what size and colour, and what is lost on the way in."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import InputSpec
from oneglance_core.pictures import encoder_input, read_header
from oneglance_core.sound_header import is_sound, read_sound_header
from oneglance_core.tensors import TensorError, with_channels
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.files import ARRAY_SUFFIXES, Content, array_of, labelled_files
from oneglance_exporter.data.photos import LIMITS
from oneglance_exporter.data.reading import Bring
from oneglance_exporter.errors import DataError, SettingsError

_GRAY_SPREAD = 8  # levels: r, g and b of a gray picture are no further apart, even in a JPEG
_ASPECT = 1.02  # sides may be a pixel off
_SHOWN = 3


@dataclass
class Survey:
    """Counts over the files that are brought by ``watching``. sizes: of pictures (H, W), of arrays their shape."""

    spec: InputSpec
    sizes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    coloured: int = 0

    def watching(self, bring: Bring) -> Bring:
        """As ``bring``; what is brought is counted."""

        def bring_and_count(content: Content) -> npt.NDArray[Any] | None:
            made = bring(content)
            if made is not None:
                self._count(content)
            return made

        return bring_and_count

    def _count(self, content: Content) -> None:
        if self.spec.sound is not None and isinstance(content, bytes) and is_sound(content):
            seconds = read_sound_header(content).seconds
            self.sizes[round(seconds * self.spec.sound.sample_rate), self.spec.shape[-1]] += 1
        elif self.spec.kind != "image":
            self.sizes[with_channels(array_of(content), self.spec.axes).shape] += 1
        elif isinstance(content, bytes):
            header = read_header(content, LIMITS)
            self.sizes[header.height, header.width] += 1
            if self.spec.color == "gray" and header.color:
                rgb = self.spec.model_copy(update={"color": "rgb", "shape": (*self.spec.shape[:2], 3)})
                self.coloured += _has_colour(encoder_input(content, rgb, LIMITS))
        else:
            self.sizes[content.shape[:-1]] += 1

    def lost(self) -> list[str]:
        """A line for each thing that is lost on the way into the encoder."""
        lines = []
        total = self.sizes.total()
        if self.coloured:
            lines.append(f"colour: {self.coloured} of {total} pictures become gray; --color rgb keeps it")
        if self.spec.kind != "image":
            return lines + self._cut()
        height, width = self.spec.shape[:2]
        fine = sum(count for (h, w), count in self.sizes.items() if h > height or w > width)
        if fine:
            lines.append(f"detail: {fine} of {total} pictures are larger than {height} x {width}; see --size")
        other = sum(count for size, count in self.sizes.items() if _aspects_differ(size, (height, width)))
        if other and self.spec.fit is None:
            lines.append(f"aspect: {other} of {total} pictures are stretched; --fit pad or --fit crop keeps it")
        if other and self.spec.fit == "crop":
            lines.append(f"edges: of {other} of {total} pictures two are cut off; --fit pad keeps them")
        return lines

    def _cut(self) -> list[str]:
        longer = sum(
            count
            for shape, count in self.sizes.items()
            if any(has > wanted for has, wanted in zip(shape, self.spec.shape, strict=True))
        )
        if not longer:
            return []
        wanted = _size(self.spec.shape[:-1])
        return [f"ends: {longer} of {self.sizes.total()} arrays are cut off at {wanted}; see --size"]

    def told(self) -> str:
        """The commonest sizes, in words."""
        common = [f"{_size(size)} ({count})" for size, count in self.sizes.most_common(_SHOWN)]
        more = len(self.sizes) - len(common)
        return ", ".join(common) + (f" and {more} other sizes" if more else "")


@dataclass(frozen=True, slots=True)
class Statistics:
    """Numbers about examples. fewest, median, most: examples of a subject."""

    examples: int
    subjects: int
    groups: int
    fewest: int
    median: float
    most: int

    @classmethod
    def of(cls, examples: Examples) -> "Statistics":
        counts = np.bincount(examples.subject_of)
        return cls(
            examples=len(examples.inputs),
            subjects=len(examples.subjects),
            groups=len(examples.groups),
            fewest=int(counts.min()),
            median=float(np.median(counts)),
            most=int(counts.max()),
        )

    def __str__(self) -> str:
        return (
            f"{self.examples} examples of {self.subjects} subjects in {self.groups} group(s); "
            f"{self.fewest} to {self.most} of each, half of them {self.median:g} or more"
        )


def array_spec(
    paths: Sequence[str | os.PathLike[str]],
    kind: Literal["signal", "plane", "volume"],
    size: tuple[int, ...],
    fit: Literal["pad"] | None,
) -> InputSpec:
    """What an encoder of the arrays in ``paths`` takes: their shape, or ``size``; uint8 if all are, else float32.

    Without ``size``, all must have one shape; with ``fit``, it is the largest along each axis. Unusable arrays are left
    for the reading to find. Raises DataError, SettingsError.
    """
    axes = {"signal": 1, "plane": 2, "volume": 3}[kind]
    if size and len(size) != axes:
        raise SettingsError(f"--size takes {axes} number(s) for a {kind}, got {' '.join(map(str, size))}")
    shapes: Counter[tuple[int, ...]] = Counter()
    dtypes = set()
    for file in labelled_files(paths, ARRAY_SUFFIXES):
        try:
            array = with_channels(array_of(file.read()), axes)
        except (TensorError, ValueError, DataError):
            continue
        shapes[array.shape] += 1
        dtypes.add(array.dtype.name)
    if not shapes:
        raise DataError(f"{', '.join(map(str, paths))}: no array of {axes} axes, or {axes + 1} with channels")
    sizes = {shape[:-1] for shape in shapes}
    if not size and len(sizes) > 1 and fit is None:
        told = ", ".join(f"{_size(one)} ({count})" for one, count in shapes.most_common(_SHOWN))
        raise DataError(f"the arrays have {len(sizes)} sizes: {told}; say which: --fit pad, or --size too")
    wanted = size or tuple(max(one[axis] for one in sizes) for axis in range(axes))
    channels = Counter(shape[-1] for shape in shapes.elements()).most_common(1)[0][0]
    dtype: Literal["uint8", "float32"] = "uint8" if dtypes == {"uint8"} else "float32"
    return InputSpec(kind=kind, shape=(*wanted, channels), dtype=dtype, fit=fit)


def _has_colour(pixels: npt.NDArray[np.uint8]) -> bool:
    return bool((pixels.max(axis=2) - pixels.min(axis=2)).max() > _GRAY_SPREAD)


def _aspects_differ(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    ratio = one[0] * other[1] / (one[1] * other[0])
    return max(ratio, 1 / ratio) > _ASPECT


def _size(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
