"""What a graph takes or returns, as a manifest declares it and as a session finds it."""

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph.

    dtype: numpy's name, as ``float32``. shape: None is a free size, one that may differ from run to run.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = ", ".join("free" if size is None else str(size) for size in self.shape)
        return f"{self.dtype} [{sizes}]"

    def fits(self, array: npt.NDArray[Any]) -> bool:
        """Whether ``array`` has this dtype, this rank, and every size that isn't free."""
        return (
            array.dtype.name == self.dtype
            and array.ndim == len(self.shape)
            and all(size in (None, got) for size, got in zip(self.shape, array.shape, strict=True))
        )
