"""A model that was made to do harm: it reads no other file, and nobody waits for it for ever."""

import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from oneglance_core.folder import MANIFEST_FILE, MODEL_FILE, read_model_folder, write_model_folder
from oneglance_core.manifests import ModelFolderError
from oneglance_core.sessions import onnx_runtime
from oneglance_core.sessions.operators import check_operators
from oneglance_core.sessions.session import GraphError
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.session import Runtime
from oneglance_server.errors import StartupError
from oneglance_server.loading import load_models
from oneglance_server.settings import Engine, Settings
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


def with_node(graph: Any, node: Any) -> None:
    """The encoding is what the node makes of it."""
    (last,) = [one for one in graph.node if "encoding" in one.output]
    last.output[0] = "honest"
    graph.node.append(node)


@pytest.mark.parametrize(
    ("domain", "name"), [("com.example", "Steal"), ("com.microsoft", "EPContext"), ("com.microsoft", "PythonOp")]
)
@pytest.mark.parametrize("inside", [False, True])
def test_an_operator_that_does_more_than_compute_is_named(tmp_path: Path, domain: str, name: str, inside: bool) -> None:
    node = helper.make_node(name, ["honest"], ["encoding"], domain=domain)
    if inside:
        body = helper.make_graph(
            [node], "body", [], [helper.make_tensor_value_info("encoding", TensorProto.FLOAT, None)]
        )
        node = helper.make_node("If", ["honest"], ["encoding"], then_branch=body, else_branch=body)
    folder = read_model_folder(rewritten(pixels_model(tmp_path / "model"), lambda graph: with_node(graph, node)))
    with pytest.raises(StartupError, match=rf"not allowed: {domain}\.{name}$"):
        Encoder(folder, Runtime("cpu", 1, 1))


def test_a_function_of_its_own_is_looked_into(tmp_path: Path) -> None:
    read = read_model_folder(pixels_model(tmp_path / "model"))
    model = ModelProto.FromString(read.model)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    for inner, allowed in (("Identity", True), ("Steal", False)):
        domain = "" if allowed else "com.other"
        node = helper.make_node(inner, ["x"], ["y"], domain=domain)
        del model.functions[:]
        model.functions.append(helper.make_function("com.example", "Own", ["x"], ["y"], [node], opsets))
        changed = ModelProto.FromString(model.SerializeToString())
        with_node(changed.graph, helper.make_node("Own", ["honest"], ["encoding"], domain="com.example"))
        if allowed:
            check_operators(changed.SerializeToString())
        else:
            with pytest.raises(GraphError, match=r"not allowed: com\.other\.Steal$"):
                check_operators(changed.SerializeToString())


def test_a_graph_that_can_not_be_read_is_none() -> None:
    graph = ModelProto(ir_version=8).SerializeToString()
    deep = b""
    for _ in range(60):  # a node with an attribute with a graph with a node ...
        attribute = b"\x32" + _sized(deep)
        deep = b"\x0a" + _sized(b"\x2a" + _sized(attribute))
    for wrong in (b"\x3a\xff\xff\xff\xff\x0f", b"\x3b", graph + b"\x3a\x7f", b"\xff" * 20, b"\x3a" + _sized(deep)):
        with pytest.raises(GraphError):
            check_operators(wrong)


def _sized(content: bytes) -> bytes:
    length, size = len(content), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return size + bytes([length]) + content


def test_what_takes_too_much_memory_is_a_start_up_error(tmp_path: Path) -> None:
    def hungry(graph: Any) -> None:
        graph.initializer.append(numpy_helper.from_array(np.array([1 << 30], np.int64), "many"))
        graph.node.insert(0, helper.make_node("ConstantOfShape", ["many"], ["zeros"]))
        graph.node.insert(1, helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0))
        with_node(graph, helper.make_node("Add", ["honest", "zero"], ["encoding"]))

    folder = rewritten(pixels_model(tmp_path / "model"), hungry)
    settings = Settings(models=(folder,), data_dir=tmp_path / "data", max_model_memory=512 << 20)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with ThreadPoolExecutor(1) as pool, pytest.raises(StartupError, match="alloc"):
        load_models(settings, pool)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize("data", [b"", b"\0" * 16])
def test_an_initializer_that_claims_more_than_there_is_is_refused(tmp_path: Path, data: bytes) -> None:
    def claim(graph: Any) -> None:
        graph.initializer.append(TensorProto(name="huge", data_type=TensorProto.FLOAT, dims=[1 << 40], raw_data=data))
        with_node(graph, helper.make_node("Add", ["honest", "huge"], ["encoding"]))

    folder = read_model_folder(rewritten(pixels_model(tmp_path / "model"), claim))
    with pytest.raises(StartupError):
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
