"""Read an ONNX file of somebody else: its weights brought inside, its one input and the output that is the encoding."""

import hashlib
import math
import os
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
from onnx import TensorProto, helper
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from oneglance_exporter.errors import DataError, SettingsError

MAX_BYTES = 2**31 - 1  # what one protobuf message can hold
_KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
_LEAST_OPSET = 7  # before, arithmetic did not broadcast; ONNX Runtime starts here too
_CONVERTED_OPSET = 13
FLOATS: dict[int, type[np.floating]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
}


def load(file: Path) -> tuple[onnx.ModelProto, str]:
    """The model with its weights inside, checked, its initialisers no inputs; and the SHA-256 of ``file``."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file}: larger than 2 GB, which one ONNX message can't be")
        content = file.read_bytes()
        model = onnx.load_model_from_string(content)
    except OSError as error:
        raise DataError(f"{file}: can't be read: {error.strerror}") from error
    except Exception as error:  # protobuf's DecodeError, by whichever implementation is installed
        raise DataError(f"{file}: not an ONNX file, or cut off") from error
    if not model.graph.node or not model.opset_import:
        raise DataError(f"{file}: not an ONNX file, or cut off: no network in it")
    strange = sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in _KNOWN_DOMAINS})
    if strange and not model.functions:
        raise DataError(f"{file}: needs operators that ONNX Runtime doesn't have: {', '.join(strange[:5])}")
    _bring_weights_inside(model, file)
    try:
        onnx.checker.check_model(model)
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), _LEAST_OPSET)
        if opset < _LEAST_OPSET:
            model = onnx.version_converter.convert_version(model, _CONVERTED_OPSET)
    except Exception as error:  # the checker's and the converter's classes have no common base but this
        raise DataError(f"{file}: not valid ONNX: {str(error).strip().splitlines()[0]}") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]  # older files list weights too
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 8)
    del model.graph.value_info[:]  # shapes with the author's batch size
    return model, hashlib.sha256(content).hexdigest()


def _bring_weights_inside(model: onnx.ModelProto, file: Path) -> None:
    outside = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    if not outside:
        return
    try:
        size = sum(_bytes(tensor) for tensor in outside)
        if size + model.ByteSize() > MAX_BYTES:
            raise DataError(f"{file}: larger than 2 GB with its weights, which one ONNX message can't be")
        load_external_data_for_model(model, os.fspath(file.parent))
    except DataError:
        raise
    except Exception as error:  # a missing or short side file, or a path out of the folder
        raise DataError(f"{file}: its weights lie in another file that can't be used: {error}") from error


def _bytes(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def single_input(model: onnx.ModelProto, file: Path) -> onnx.ValueInfoProto:
    inputs = list(model.graph.input)
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise DataError(f"{file}: an encoder takes one input, and this graph takes {len(inputs)}: {names}")
    kind = inputs[0].type.tensor_type.elem_type
    if kind not in FLOATS:
        name = {number: word for word, number in TensorProto.DataType.items()}.get(kind, "of no known type").lower()
        raise DataError(f"{file}: the input {inputs[0].name!r} is {name}; only float networks can be wrapped")
    return inputs[0]


def subtracts(model: onnx.ModelProto, name: str) -> bool:
    """Whether the first thing done to the input is a subtraction, as in InsightFace's networks made by MXNet."""
    return any(node.op_type == "Sub" and node.input[0] == name for node in model.graph.node)


def keep_output(model: onnx.ModelProto, wanted: str | None, file: Path) -> None:
    outputs = {value.name: value for value in model.graph.output}
    names = ", ".join(outputs)
    if wanted is None and len(outputs) != 1:
        raise SettingsError(f"{file}: has {len(outputs)} outputs; say which is the encoding: --output, one of {names}")
    if wanted is not None and wanted not in outputs:
        raise SettingsError(f"{file}: has no output {wanted!r}, only {names}")
    kept = outputs[wanted] if wanted is not None else model.graph.output[0]
    chosen = onnx.ValueInfoProto()
    chosen.CopyFrom(kept)
    del model.graph.output[:]
    model.graph.output.append(chosen)
