"""One graph of two: an encoder's, and that of a head which takes its encodings."""

import numpy as np
import onnx
import onnx.compose
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper

from oneglance_exporter.errors import ExportError
from oneglance_exporter.tracing import opset_of

_BASE, _HEAD = "base/", "head/"


def merged(base: bytes, base_output: str, head: bytes, input_name: str, output_name: str) -> bytes:
    """ONNX bytes of head(base(x)). base: returns float32 [N, D] as ``base_output``; head: takes [N, D, 1].

    The result takes ``input_name`` and returns ``output_name``, as base and head call them. Raises ExportError where
    the two can't be brought to one version of ONNX.
    """
    first, second = onnx.load_model_from_string(base), onnx.load_model_from_string(head)
    try:
        version = opset_of(second)
        if opset_of(first) != version:
            first = onnx.version_converter.convert_version(first, version)
        # Outputs that nobody asks for would be outputs of the whole.
        kept = [value for value in first.graph.output if value.name == base_output]
        del first.graph.output[:]
        first.graph.output.extend(kept)
        first, second = (onnx.compose.add_prefix(model, prefix) for model, prefix in ((first, _BASE), (second, _HEAD)))
        _with_channel(first, _BASE + base_output)
        first.ir_version = second.ir_version = max(first.ir_version, second.ir_version)
        whole = onnx.compose.merge_models(
            first, second, io_map=[(first.graph.output[0].name, second.graph.input[0].name)]
        )
    except Exception as error:  # onnx's converter and composer raise what they like
        raise ExportError(f"the base's graph and the head's can't be made one: {str(error).splitlines()[0]}") from error
    for node in whole.graph.node:
        node.input[:] = [input_name if name == whole.graph.input[0].name else name for name in node.input]
        node.output[:] = [output_name if name == whole.graph.output[0].name else name for name in node.output]
    whole.graph.input[0].name, whole.graph.output[0].name = input_name, output_name
    del whole.graph.value_info[:]
    return whole.SerializeToString(deterministic=True)


def _with_channel(model: onnx.ModelProto, output: str) -> None:
    """Let ``model`` return its output with one more axis, of size 1."""
    axes = numpy_helper.from_array(np.array([2], np.int64), f"{output}/axes")
    model.graph.initializer.append(axes)
    model.graph.node.append(helper.make_node("Unsqueeze", [output, axes.name], [f"{output}/channel"]))
    shape = model.graph.output[0].type.tensor_type.shape
    dimension = shape.dim[1].dim_value if len(shape.dim) == 2 else 0
    del model.graph.output[:]
    sizes = ["N", dimension or "D", 1]
    model.graph.output.append(helper.make_tensor_value_info(f"{output}/channel", TensorProto.FLOAT, sizes))
