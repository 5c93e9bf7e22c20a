"""From a torch module to an ONNX graph, by torch's tracer."""

import io
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import onnx
import torch

from oneglance_exporter.errors import ExportError


def traced(
    model: torch.nn.Module,
    examples: tuple[torch.Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    free: tuple[dict[int, Any], ...],
    opset: int | None = None,
) -> bytes:
    """ONNX bytes of ``model`` with its weights inside; ``free``: the axes of each input whose size is left open.

    opset: the version of ONNX's operators; None: the tracer's own choice. Raises ExportError, also where the network
    can't be told in that version.
    """
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer about its own internals
            program = torch.onnx.export(
                model,
                examples,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=free,
                dynamo=True,
                external_data=False,
                opset_version=opset,
                verbose=False,
            )
    except Exception as error:  # torch's own classes, and whatever the network's code raises
        raise ExportError(f"the network can't be written as ONNX: {_reason(error)}") from error
    finally:
        quiet.setLevel(level)
    if program is None:
        raise ExportError("torch.onnx.export returned no program")
    # The tracer writes paths of this machine's source files into every node.
    proto = program.model_proto
    if opset is not None and (found := opset_of(proto)) != opset:  # the tracer only warns of it
        raise ExportError(f"the network can't be written in opset {opset}; in opset {found} it can")
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del value.metadata_props[:]
    for weight in proto.graph.initializer:
        del weight.metadata_props[:]
    buffer = io.BytesIO()
    onnx.save_model(proto, buffer)
    onnx.checker.check_model(buffer.getvalue())
    return buffer.getvalue()


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that ``model`` has."""
    return next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))


def _reason(error: BaseException) -> str:
    """The tracer's words about what it can't do: the innermost cause's first line that says something."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no words'}"
