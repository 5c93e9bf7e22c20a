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

    def run(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The named ``outputs``, in that order, as arrays of the caller's own. Raises what the engine raises."""
