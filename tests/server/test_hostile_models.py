"""A model that was made to do harm: it reads no other file, and nobody waits for it for ever."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from oneglance_core.folder import MANIFEST_FILE, MODEL_FILE, read_model_folder, write_model_folder
from oneglance_core.manifests import ModelFolderError
from oneglance_core.sessions import onnx_runtime
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.session import Runtime
from oneglance_server.errors import StartupError
from oneglance_server.settings import Engine
from tests.models import SIDE, pixels_model

SECRET = b"what nobody may read" * (SIDE * SIDE)


def rewritten(folder: Path, change: Any) -> Path:
    """The model of the folder, changed, with a manifest that fits."""
    read = read_model_folder(folder)
    model = ModelProto.FromString(read.model)
    change(model.graph)
    return write_model_folder(folder, read.manifest, model.SerializeToString())


def outside(name: str, location: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("where", ["initializer", "constant"])
@pytest.mark.parametrize("location", ["store", "../here/store", "absolute"])
def test_a_graph_reads_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, where: str, engine: Engine
) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("store").write_bytes(SECRET)
    told = str(Path("store").absolute()) if location == "absolute" else location

    def steal(graph: Any) -> None:
        if where == "initializer":
            graph.initializer.append(outside("stolen", told))
        else:
            node = helper.make_node("Constant", [], ["stolen"])
            node.attribute.add(name="value", type=4, t=outside("value", told))
            graph.node.insert(0, node)
        (last,) = [node for node in graph.node if "encoding" in node.output]
        last.output[0] = "honest"
        graph.node.append(helper.make_node("Add", ["honest", "stolen"], ["encoding"]))

    folder = read_model_folder(rewritten(pixels_model(tmp_path / "model"), steal))
    with pytest.raises(StartupError) as caught:
        Encoder(folder, Runtime("cpu", 1, 1, engine))
    if where == "initializer":
        assert str(caught.value).endswith("the graph's data must all be in its file: it has external data")


def test_a_graph_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtime, "_MOST_SECONDS", 0.1)

    def endless(graph: Any) -> None:
        value = helper.make_tensor_value_info("v", TensorProto.FLOAT, None)
        body = helper.make_graph(
            [helper.make_node("Identity", ["on"], ["go"]), helper.make_node("Identity", ["v"], ["w"])],
            "body",
            [
                helper.make_tensor_value_info("i", TensorProto.INT64, []),
                helper.make_tensor_value_info("on", TensorProto.BOOL, []),
                value,
            ],
            [
                helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
            ],
        )
        graph.initializer.append(numpy_helper.from_array(np.array(2**62, np.int64), "turns"))
        graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        (last,) = [node for node in graph.node if "encoding" in node.output]
        last.output[0] = "honest"
        graph.node.append(helper.make_node("Loop", ["turns", "yes", "honest"], ["encoding"], body=body))

    folder = read_model_folder(rewritten(pixels_model(tmp_path / "model"), endless))
    with pytest.raises(StartupError, match=r"does not run on this host: .*terminate"):
        Encoder(folder, Runtime("cpu", 1, 1))


@pytest.mark.parametrize("name", [MODEL_FILE, MANIFEST_FILE])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_no_part_of_a_model(tmp_path: Path, name: str, kind: str) -> None:
    folder = pixels_model(tmp_path / "model")
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    else:
        (folder / name).mkdir()
    with pytest.raises(ModelFolderError, match=rf"{name}: not a file|Is a directory"):
        read_model_folder(folder)
