"""A kind of model that only the tests know: all that a new kind needs. It counts the ones in each row."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from oneglance_core.folder import write_model_folder
from oneglance_core.manifests import ModelManifest, NamedParity, TensorSpec, Vectors
from oneglance_server.engines.loaded_model import LoadedModel


class CounterManifest(ModelManifest):
    """The graph takes ``bits`` uint8 [N, 8] and returns ``count`` int64 [N] and ``share`` float32 [N]."""

    kind: Literal["counter"] = "counter"
    parity: NamedParity

    @property
    def graph_inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("bits", "uint8", (None, 8)),)

    @property
    def graph_outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("count", "int64", (None,)), TensorSpec("share", "float32", (None,)))

    def vectors(self) -> Vectors:
        return self.parity.vectors()

    def _contract(self) -> dict[str, Any]:
        return {"kind": self.kind}


class Counter(LoadedModel[CounterManifest]):
    title = "counter"


def counter_model(folder: Path) -> Path:
    nodes = [
        helper.make_node("Cast", ["bits"], ["whole"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["whole", "axes"], ["count"], keepdims=0),
        helper.make_node("Cast", ["whole"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["share"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "counter",
        [helper.make_tensor_value_info("bits", TensorProto.UINT8, ["N", 8])],
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("share", TensorProto.FLOAT, ["N"]),
        ],
        [onnx.numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    bits = np.random.default_rng(0).integers(0, 2, (5, 8), dtype=np.uint8)
    manifest = CounterManifest(
        name="counter",
        created="2026-01-01T00:00:00Z",
        parity=NamedParity.pack(
            {"bits": bits}, {"count": bits.sum(axis=1, dtype=np.int64), "share": bits.mean(axis=1)}, 1e-5
        ),
        model_sha256="0" * 64,  # write_model_folder sets both
        model_bytes=1,
    )
    return write_model_folder(folder, manifest, model.SerializeToString())
