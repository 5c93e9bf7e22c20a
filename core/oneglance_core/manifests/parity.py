"""Parity vectors: inputs, and the outputs that the exporter's own framework computed for them.

Whoever runs a model gives it the inputs first, and refuses it when it doesn't return the outputs. A manifest holds them
in one of two JSON forms, Parity and NamedParity; the code sees both as Vectors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy.typing as npt
from pydantic import Field

from oneglance_core.manifests.arrays import Array
from oneglance_core.manifests.part import Part

MAX_TOLERANCE = 0.1

Arrays = Mapping[str, npt.NDArray[Any]]
Tolerance = Annotated[float, Field(gt=0, le=MAX_TOLERANCE)]


@dataclass(frozen=True, slots=True)
class Vectors:
    """The inputs of one run and the outputs expected of it, by name.

    tolerance: greatest absolute difference of a float output. Integer outputs must be equal.
    """

    inputs: Arrays
    outputs: Arrays
    tolerance: float


class Parity(Part):
    """The vectors of a graph with one input and one output, whose names the manifest holds elsewhere."""

    inputs: Array
    outputs: Array
    tolerance: Tolerance

    @classmethod
    def pack(cls, inputs: npt.NDArray[Any], outputs: npt.NDArray[Any], tolerance: float) -> Self:
        return cls(inputs=Array.pack(inputs), outputs=Array.pack(outputs), tolerance=tolerance)

    def vectors(self, input_name: str, output_name: str) -> Vectors:
        """Raises ModelFolderError when an array can't be unpacked."""
        return Vectors({input_name: self.inputs.unpack()}, {output_name: self.outputs.unpack()}, self.tolerance)


class NamedParity(Part):
    """The vectors of a graph with several inputs or outputs, by name."""

    inputs: dict[str, Array] = Field(max_length=4)
    outputs: dict[str, Array] = Field(max_length=4)
    tolerance: Tolerance

    @classmethod
    def pack(cls, inputs: Arrays, outputs: Arrays, tolerance: float) -> Self:
        return cls(
            inputs={name: Array.pack(values) for name, values in inputs.items()},
            outputs={name: Array.pack(values) for name, values in outputs.items()},
            tolerance=tolerance,
        )

    def vectors(self) -> Vectors:
        """Raises ModelFolderError when an array can't be unpacked."""
        return Vectors(
            {name: array.unpack() for name, array in self.inputs.items()},
            {name: array.unpack() for name, array in self.outputs.items()},
            self.tolerance,
        )
