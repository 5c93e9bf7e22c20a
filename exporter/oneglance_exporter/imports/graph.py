"""Write an ONNX graph as expressions: every node's name is what the next one takes, arrays become constants."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from oneglance_exporter.errors import ExportError

OPSET, IR_VERSION = 18, 9

Operand = str | npt.NDArray[Any]


class Graph:
    """Nodes and constants, in the order in which they were added; the same calls make the same bytes.

    prefix: of all names, so that a graph inside another one (a loop's body) doesn't hide the outer one's.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, values: npt.NDArray[Any]) -> str:
        name = f"{self._prefix}constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, kind: str, *inputs: Operand, **attributes: Any) -> str:
        """A node of one output; returns the output's name."""
        return self.add_several(1, kind, *inputs, **attributes)[0]

    def add_several(self, outputs: int, kind: str, *inputs: Operand, **attributes: Any) -> list[str]:
        """A node of several outputs; returns their names."""
        names = [given if isinstance(given, str) else self.constant(given) for given in inputs]
        results = [f"{self._prefix}{kind.lower()}_{len(self._nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, names, results, **attributes))
        return results

    def name(self, value: str, as_output: str) -> None:
        """Give ``value`` the name of an output."""
        self._nodes.append(helper.make_node("Identity", [value], [as_output]))

    def proto(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        return helper.make_graph(self._nodes, name, inputs, outputs, self._constants)

    def model(self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> bytes:
        """The whole as ONNX bytes. Raises ExportError when the sizes inside don't fit together."""
        model = helper.make_model(
            self.proto(name, inputs, outputs),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="oneglance-exporter",
        )
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(f"{name}: no valid graph: {error}") from error
        return model.SerializeToString()


def value(name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """An input or output; names in ``shape`` are free sizes."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
