"""Foreign encoders by ``oneglance-exporter import onnx``: graphs as several exporters write them, and bad ones."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from oneglance_core.folder import read_model_folder
from oneglance_core.manifests import EncoderManifest
from oneglance_exporter.cli.import_onnx import add_parser
from oneglance_exporter.errors import DataError, ExporterError, ExportError, SettingsError
from oneglance_exporter.imports.alignments import arcface_alignment, dlib_alignment
from oneglance_exporter.imports.onnx_file import import_onnx
from oneglance_exporter.imports.onnx_settings import Contract
from oneglance_exporter.runtime import encoder_of
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.session import Runtime

SIDE, CHANNELS, DIMENSION = 12, 4, 6
Node = onnx.NodeProto
HEAD = (
    helper.make_node("Conv", ["x", "kernel"], ["maps"], strides=[2, 2]),
    helper.make_node("LeakyRelu", ["maps"], ["bent"], alpha=0.25),
    helper.make_node("GlobalAveragePool", ["bent"], ["pooled"]),
)
FLATTEN = helper.make_node("Flatten", ["pooled"], ["flat"])
GEMM = helper.make_node("MatMul", ["flat", "last"], ["y"])


def graph_file(
    path: Path,
    nodes: tuple[Node, ...] = (*HEAD, FLATTEN, GEMM),
    *,
    batch: int | str = "batch",
    size: tuple[int | str, int | str] = (SIDE, SIDE),
    channels: int = 3,
    kind: int = TensorProto.FLOAT,
    output: tuple[int | str, ...] = ("batch", DIMENSION),
    outputs: tuple[str, ...] = ("y",),
    opset: int = 17,
    weights_as_inputs: bool = False,
    extra: dict[str, npt.NDArray[Any]] | None = None,
) -> Path:
    rng = np.random.default_rng(1)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = {
        "kernel": (rng.standard_normal((CHANNELS, channels, 3, 3)) / 4).astype(dtype),
        "last": rng.standard_normal((CHANNELS, DIMENSION)).astype(dtype),
        **(extra or {}),
    }
    inputs = [helper.make_tensor_value_info("x", kind, [batch, channels, *size])]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    if weights_as_inputs:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(
        list(nodes), "g", inputs, [helper.make_tensor_value_info(name, kind, output) for name in outputs], tensors
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if weights_as_inputs else 8
    )
    path.write_bytes(model.SerializeToString())
    return path


def by_hand(file: Path, images: npt.NDArray[np.uint8], flip: bool, mean: float, scale: float) -> npt.NDArray[Any]:
    """What the file itself says, one picture at a time."""
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    spec = session.get_inputs()[0]
    rows = []
    for image in images:
        x = (image[..., ::-1] if flip else image).astype(np.float32)
        x = ((x - np.float32(mean)) * np.float32(scale)).transpose(2, 0, 1)[None]
        x = x.astype(np.float16 if "float16" in spec.type else np.float32)
        rows.append(session.run(None, {spec.name: x})[0].reshape(1, -1))
    return np.concatenate(rows).astype(np.float32)


@pytest.fixture
def images() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (7, SIDE, SIDE, 3), dtype=np.uint8)


def bring(file: Path, contract: Contract | None = None, **options: Any) -> tuple[EncoderManifest, Callable[..., Any]]:
    """Import into a folder beside, read it as the server does, and return the manifest and a runner."""
    out = file.parent / "model"
    import_onnx(file, out, "foreign", "CC0-1.0", contract or Contract(), **options)
    folder = read_model_folder(out)
    Encoder(
        folder, Runtime(device="cpu", threads=1, gpu_memory_bytes=1)
    )  # contract and parity, as at the server's start
    return folder.manifest, encoder_of(folder.model, threads=1)


def test_a_free_batch_with_bgr_and_scaling(tmp_path: Path, images: npt.NDArray[np.uint8]) -> None:
    file = graph_file(tmp_path / "net.onnx")
    manifest, run = bring(file, Contract(color="bgr", mean=(127.5,), scale=(1 / 127.5,)))
    expected = by_hand(file, images, flip=True, mean=127.5, scale=1 / 127.5)
    assert np.abs(run(images) - expected).max() < 1e-5
    assert np.abs(run(images[..., ::-1]) - expected).max() > 1e-3  # the order matters to this network
    assert manifest.input.shape == (SIDE, SIDE, 3)
    assert manifest.output.dimension == DIMENSION
    assert not manifest.output.unit_norm
    assert manifest.threshold is None
    assert manifest.training["preprocessing"]["color"] == "bgr"


@pytest.mark.parametrize("target", [(1, -1), (1, CHANNELS)])
def test_a_batch_of_one_written_into_a_reshape_is_freed(
    tmp_path: Path, images: npt.NDArray[np.uint8], target: tuple[int, int]
) -> None:
    nodes = (*HEAD, helper.make_node("Reshape", ["pooled", "target"], ["flat"]), GEMM)
    file = graph_file(
        tmp_path / "net.onnx", nodes, batch=1, output=(1, DIMENSION), extra={"target": np.array(target, np.int64)}
    )
    _, run = bring(file)
    assert np.abs(run(images) - by_hand(file, images, False, 0, 1)).max() < 1e-3


def test_a_constant_node_as_target_is_freed_too(tmp_path: Path, images: npt.NDArray[np.uint8]) -> None:
    target = helper.make_node(
        "Constant", [], ["target"], value=numpy_helper.from_array(np.array([1, -1], np.int64), "target")
    )
    nodes = (*HEAD, target, helper.make_node("Reshape", ["pooled", "target"], ["flat"]), GEMM)
    file = graph_file(tmp_path / "net.onnx", nodes, batch=1, output=(1, DIMENSION))
    _, run = bring(file)
    assert np.abs(run(images) - by_hand(file, images, False, 0, 1)).max() < 1e-3


def test_rows_that_mix_are_refused(tmp_path: Path) -> None:
    """A network that subtracts the batch's mean encodes a picture differently in company."""
    nodes = (
        *HEAD, FLATTEN, helper.make_node("MatMul", ["flat", "last"], ["z"]),
        helper.make_node("ReduceMean", ["z"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Mul", ["m", "half"], ["h"]), helper.make_node("Sub", ["z", "h"], ["y"]),
    )  # fmt: skip
    file = graph_file(tmp_path / "net.onnx", nodes, extra={"half": np.array(0.5, np.float32)})
    with pytest.raises(ExportError, match=r"depends on the others.*batch size 2"):
        bring(file)


def test_a_fixed_batch_that_cannot_be_freed_is_refused(tmp_path: Path) -> None:
    tiled = (*HEAD, FLATTEN, helper.make_node("MatMul", ["flat", "last"], ["z"]),
             helper.make_node("Expand", ["z", "shape"], ["e"]),
             helper.make_node("Slice", ["e", "a", "b"], ["y"]))  # fmt: skip
    extra = {"shape": np.array([1, DIMENSION]), "a": np.array([0]), "b": np.array([1])}
    file = graph_file(tmp_path / "net.onnx", tiled, batch=1, output=(1, DIMENSION), extra=extra)
    with pytest.raises(ExportError, match=r"float32 \[1, 6\] for 2"):
        bring(file)


def test_gray_nhwc(tmp_path: Path) -> None:
    inner = helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])
    head = (inner, helper.make_node("Conv", ["t", "kernel"], ["maps"], strides=[2, 2]), *HEAD[1:], FLATTEN, GEMM)
    graph = onnx.load_model_from_string(graph_file(tmp_path / "a.onnx", head, channels=1).read_bytes())
    shape = graph.graph.input[0].type.tensor_type.shape.dim
    shape[1].dim_value, shape[2].dim_value, shape[3].dim_value = SIDE, SIDE, 1
    file = tmp_path / "net.onnx"
    file.write_bytes(graph.SerializeToString())
    manifest, run = bring(file, Contract(color="gray", layout="nhwc", mean=(10.0,), scale=(0.5,)))
    assert (manifest.input.color, manifest.input.shape) == ("gray", (SIDE, SIDE, 1))
    gray = np.random.default_rng(3).integers(0, 256, (2, SIDE, SIDE, 1), dtype=np.uint8)
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": (gray.astype(np.float32) - 10) * np.float32(0.5)})[0]
    assert np.abs(run(gray) - expected).max() < 1e-4


def test_float16_in_and_float32_out(tmp_path: Path, images: npt.NDArray[np.uint8]) -> None:
    file = graph_file(tmp_path / "net.onnx", kind=TensorProto.FLOAT16)
    _, run = bring(file, Contract(scale=(1 / 255,)))
    found = run(images)
    assert found.dtype == np.float32
    expected = by_hand(file, images, False, 0, 1 / 255)
    assert np.abs(found - expected).max() < 5e-3 * np.abs(expected).max()


def test_unit_norm_is_appended_or_recognised(tmp_path: Path, images: npt.NDArray[np.uint8]) -> None:
    manifest, run = bring(graph_file(tmp_path / "net.onnx"), unit_norm=True)
    assert manifest.output.unit_norm
    assert np.abs(np.linalg.norm(run(images), axis=1) - 1).max() < 1e-5
    norm = helper.make_node("LpNormalization", ["z"], ["y"], axis=1, p=2)
    nodes = (*HEAD, FLATTEN, helper.make_node("MatMul", ["flat", "last"], ["z"]), norm)
    assert bring(graph_file(tmp_path / "own.onnx", nodes))[0].output.unit_norm


def test_one_of_several_outputs_and_extra_ones_of_size_1(tmp_path: Path, images: npt.NDArray[np.uint8]) -> None:
    file = graph_file(tmp_path / "net.onnx", (*HEAD, FLATTEN, GEMM), outputs=("y", "pooled"), output=())
    with pytest.raises(SettingsError, match=r"2 outputs.*--output, one of y, pooled"):
        bring(file)
    with pytest.raises(SettingsError, match="no output 'z', only y, pooled"):
        bring(file, output="z")
    manifest, run = bring(file, output="pooled")  # [N, 4, 1, 1]
    assert manifest.output.dimension == CHANNELS
    assert run(images).shape == (7, CHANNELS)


def test_weights_listed_as_inputs_and_an_old_opset(tmp_path: Path, images: npt.NDArray[np.uint8]) -> None:
    file = graph_file(tmp_path / "net.onnx", opset=6, weights_as_inputs=True)
    _, run = bring(file)
    assert np.abs(run(images) - by_hand(file, images, False, 0, 1)).max() < 1e-3


def test_a_free_picture_size_must_be_said(tmp_path: Path) -> None:
    file = graph_file(tmp_path / "net.onnx", size=("h", "w"))
    with pytest.raises(SettingsError, match="any size; say which one: --size H W"):
        bring(file)
    assert bring(file, Contract(size=(20, 16)))[0].input.shape == (20, 16, 3)
    with pytest.raises(SettingsError, match="a side is 1 to 1024"):
        bring(file, Contract(size=(0, 16)))


def test_weights_in_a_side_file_come_inside(tmp_path: Path, images: npt.NDArray[np.uint8]) -> None:
    plain = graph_file(tmp_path / "plain.onnx")
    side = tmp_path / "net.onnx"
    model = onnx.load_model_from_string(plain.read_bytes())
    onnx.save_model(model, side, save_as_external_data=True, location="weights.bin", size_threshold=0)
    _, run = bring(side)
    assert np.abs(run(images) - by_hand(plain, images, False, 0, 1)).max() < 1e-3
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(DataError, match=r"weights lie in another file"):
        bring(side)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _huge(path: Path) -> Path:
    model = onnx.load_model_from_string(graph_file(path).read_bytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.dims[:] = [1 << 20, 1 << 12]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    path.write_bytes(model.SerializeToString())
    return path


CUSTOM = helper.make_node("Mystery", ["pooled"], ["flat"], domain="acme")
CONSTANT = (
    helper.make_node("Sub", ["pooled", "pooled"], ["zero"]),
    helper.make_node("Flatten", ["zero"], ["flat"]),
    helper.make_node("MatMul", ["flat", "last"], ["y"]),
)
NAN = (*HEAD, helper.make_node("Sub", ["pooled", "pooled"], ["zero"]), helper.make_node("Div", ["zero", "zero"], ["n"]),
        helper.make_node("Flatten", ["n"], ["flat"]), GEMM)  # fmt: skip
MEAN = helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[0], keepdims=1)
LESS_THE_MEAN = (*HEAD, FLATTEN, MEAN, helper.make_node("Sub", ["flat", "mean"], ["off"]),
                 helper.make_node("MatMul", ["off", "last"], ["y"]))  # fmt: skip
PLUS_THE_MEAN = (*HEAD, FLATTEN, MEAN, helper.make_node("Add", ["flat", "mean"], ["off"]),
                 helper.make_node("MatMul", ["off", "last"], ["y"]))  # fmt: skip
BAD: dict[str, tuple[Callable[[Path], Path], type[ExporterError], str]] = {
    "custom operator": (lambda p: graph_file(p, (*HEAD, CUSTOM, GEMM)), DataError, r"doesn't have: acme\.Mystery"),
    "unknown operator": (
        lambda p: graph_file(p, (*HEAD, helper.make_node("Nonsense", ["pooled"], ["flat"]), GEMM)),
        DataError,
        "not valid ONNX.*Nonsense",
    ),
    "the mean of the batch": (
        lambda p: graph_file(p, LESS_THE_MEAN),
        DataError,
        "depends on the others of its batch: alone, each is useless",
    ),
    "the mean of a fixed batch": (
        lambda p: graph_file(p, LESS_THE_MEAN, batch=4, output=(4, DIMENSION)),
        DataError,
        "depends on the others of its batch: alone, each is useless",
    ),
    "part of the mean": (
        lambda p: graph_file(p, PLUS_THE_MEAN),
        ExportError,
        "^an encoding depends on the others of its batch: at batch size 2",
    ),
    "channels": (lambda p: graph_file(p, channels=4), SettingsError, "takes 4 channels as nchw, and rgb has 3"),
    "integers": (lambda p: graph_file(p, kind=TensorProto.INT32), DataError, "'x' is int32; only float"),
    "constant": (lambda p: graph_file(p, (*HEAD, *CONSTANT)), DataError, "same encoding for every picture"),
    "not finite": (lambda p: graph_file(p, NAN), DataError, "NaN or infinite"),
    "maps": (lambda p: graph_file(p, HEAD[:2], outputs=("bent",), output=()), ExportError, r"float \[N, D\]"),
    "too many numbers": (
        lambda p: graph_file(p, extra={"last": np.ones((CHANNELS, 65_537), np.float32)}, output=()),
        ExportError,
        "returns 65,537 numbers; an encoding has 1 to 65,536",
    ),
    "no numbers": (
        lambda p: graph_file(p, extra={"last": np.ones((CHANNELS, 0), np.float32)}, output=()),
        ExportError,
        "returns 0 numbers",
    ),
    "too large": (_huge, DataError, "larger than 2 GB with its weights"),
    "nothing": (lambda p: _written(p, b""), DataError, "no network in it"),
    "text": (lambda p: _written(p, b"\x89PNG hello"), DataError, "not an ONNX file, or cut off"),
    "absent": (lambda p: p, DataError, "No such file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_words(tmp_path: Path, case: str) -> None:
    make, error, words = BAD[case]
    file = make(tmp_path / "net.onnx")
    with pytest.raises(error, match=words):
        bring(file)
    assert not (tmp_path / "model").exists()


def test_chips_too_small_to_align_are_refused(tmp_path: Path) -> None:
    file = graph_file(tmp_path / "net.onnx")
    with pytest.raises(SettingsError, match="chips of 12 x 12 are too small"):
        bring(file, alignment=lambda side: dlib_alignment(side, 10))
    with pytest.raises(SettingsError, match="at least 8 x 8"):
        bring(graph_file(tmp_path / "small.onnx", size=(7, 7)), alignment=lambda side: dlib_alignment(side, 0))


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(graph_file(tmp_path / "a.onnx").read_bytes())
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    file = tmp_path / "net.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="takes 2: x, mask"):
        bring(file)


def test_a_network_that_subtracts_a_mean_itself_is_not_given_another(tmp_path: Path) -> None:
    nodes = (helper.make_node("Sub", ["x", "m"], ["s"]), helper.make_node("Conv", ["s", "kernel"], ["maps"]),
             *HEAD[1:], FLATTEN, GEMM)  # fmt: skip
    file = graph_file(tmp_path / "net.onnx", nodes, extra={"m": np.array(127.5, np.float32)})
    with pytest.raises(SettingsError, match="--mean 0"):
        bring(file, Contract(mean=(127.5,), scale=(1 / 128,)))
    bring(file, Contract())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_a_cut_or_damaged_file_never_gets_past_the_checks(tmp_path: Path, data: st.DataObject) -> None:
    """Cut anywhere, a typed error; with a byte changed, a typed error or a model that the server's checks accept."""
    good = graph_file(tmp_path / "good.onnx").read_bytes()
    file = tmp_path / "net.onnx"
    at = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        file.write_bytes(good[:at])
    else:
        file.write_bytes(good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :])
    try:
        bring(file)
    except ExporterError as error:
        refusal: str | None = str(error)
    else:
        refusal = None
    assert refusal is None or "\n" not in refusal.strip()
    assert refusal is not None or file.stat().st_size == len(good)


def test_the_command_line_knows_presets_and_their_exceptions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    file, out = graph_file(tmp_path / "net.onnx"), tmp_path / "model"
    arguments = ["onnx", str(file), "--out", str(out), "--name", "n", "--license", "research only"]

    def run(*more: str) -> EncoderManifest:
        options = parser.parse_args([*arguments, *more])
        options.run_command(options, arguments)
        return read_model_folder(out).manifest

    manifest = run("--preset", "adaface", "--author-tau", "1.2")
    assert manifest.training["preprocessing"]["color"] == "bgr"
    assert manifest.output.unit_norm
    assert manifest.alignment == arcface_alignment(SIDE)
    assert manifest.author_threshold is not None
    assert manifest.author_threshold.tau == 1.2
    assert manifest.license == "research only"
    assert "no threshold yet" in capsys.readouterr().out
    manifest = run(
        "--preset", "adaface", "--no-unit-norm", "--align", "dlib-5", "--face-padding", "0.3", "--color", "rgb"
    )
    assert not manifest.output.unit_norm
    assert manifest.training["preprocessing"]["color"] == "rgb"
    assert manifest.alignment == dlib_alignment(SIDE, 0.3)
    for wrong, words in (
        (("--face-padding", "0.3"), "goes with --align dlib-5"),
        (("--license", " "), "say the licence"),
        (("--mean", "1", "2"), "1 or 3 numbers"),
        (("--author-tau", "-1"), "--author-tau must be at least 0, got -1"),
        (("--preset", "imagenet", "--color", "gray"), "3 channels as nchw, and gray has 1"),
    ):
        with pytest.raises(SettingsError, match=words):
            run(*wrong)


def test_the_templates_lie_where_their_sources_say() -> None:
    dlib = np.array(dlib_alignment(150, 0.25).template)
    nose = np.array([0.4901123135679, 0.6277975316475])
    assert np.allclose(dlib[4], 150 * (nose + 0.25) / 1.5 - 0.5, atol=1e-5)
    arcface = np.array(arcface_alignment(112).template)
    assert np.allclose(arcface[2:4].mean(axis=0), (38.2946, 51.6963), atol=1e-5)
    assert np.allclose(arcface[:2].mean(axis=0), (73.5318, 51.5014), atol=1e-5)
    # The nose's bottom lies between the eyes, below ArcFace's tip of the nose and above its mouth.
    assert 50 < arcface[4, 0] < 62
    assert 71.7 < arcface[4, 1] < 92.2
    # A similarity: shapes keep their angles, so all distances grow alike.
    ratio = np.linalg.norm(np.diff(arcface, axis=0), axis=1) / np.linalg.norm(np.diff(dlib, axis=0), axis=1)
    assert np.allclose(ratio, ratio[0], rtol=1e-4)
