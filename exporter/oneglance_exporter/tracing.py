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
) -> bytes:
    """ONNX bytes of ``model`` with its weights inside; ``free``: the axes of each input whose size is left open.

    Raises ExportError.
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
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    if program is None:
        raise ExportError("torch.onnx.export returned no program")
    # The tracer writes paths of this machine's source files into every node.
    proto = program.model_proto
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
