"""What every engine offers of a graph that it has loaded.

Errors::

    GraphError      a graph that can't be loaded or run here, or does not do what its manifest says
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from oneglance_core.manifests import TensorSpec


class GraphError(Exception):
    """Raised when a graph can't be loaded or run, isn't what its manifest declares, or misses its parity vectors.

    The message doesn't name the file: the caller knows it.
    """


class Session(Protocol):
    """A graph that was loaded. Thread-safe."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """As the graph states them."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """As the graph states them; shape () where it states no rank."""

    @property
    def provider(self) -> str:
        """What really runs the graph, as every answer names it."""

    @property
    def rounding(self) -> float:
        """How far this engine's arithmetic moves an output, as a share of the output's largest number; 0: as float32.

        A model's parity tolerance allows for float32 only.
        """

    @property
    def compiles_per_shape(self) -> bool:
        """The first run of every new shape costs more than the next ones."""

    @property
    def batch_sizes(self) -> Sequence[int]:
        """The sizes of batches that should be prepared, ascending: smaller batches are lengthened to the next one. None
        where any size is as good."""

    @property
    def trouble(self) -> str | None:
        """Why every run fails until the next start; None where it doesn't."""

    def prepare(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """Makes later runs of these shapes quick, and checks what they give. Raises GraphError, and as run does."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The named ``outputs``, in that order, as arrays of the caller's own. Raises what the engine raises."""
