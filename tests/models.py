"""Tiny encoders whose answers can be computed by hand, as real model folders."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from oneglance_core.folder import write_model_folder
from oneglance_core.manifests import (
    Array,
    Calibration,
    EncoderManifest,
    InputSpec,
    OutputSpec,
    PairHeadPart,
    Parity,
    SoundSpec,
    Windows,
)
from oneglance_core.pair_head import PairHead, probabilities_of

SIDE = 8


def pixels(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What the pixels model computes: ink as a vector. uint8 [N, 8, 8, 1] -> float32 [N, 64], unit norm or zero."""
    ink = (255.0 - pictures.reshape(len(pictures), -1).astype(np.float32)) / 255.0
    norm = np.sqrt((ink * ink).sum(axis=1, keepdims=True))
    encodings: npt.NDArray[np.float32] = (ink / np.maximum(norm, 1e-12)).astype(np.float32)
    return encodings


def pixels_model(
    folder: Path,
    *,
    name: str = "pixels",
    tau: float | None = 0.5,
    flaw: float = 0.0,
    resize: Literal["box", "bilinear"] = "box",
    head: PairHead | None = None,
    head_part: dict[str, Any] | None = None,
    unit_norm: bool = False,
) -> Path:
    """An image encoder: uint8 [N, 8, 8, 1]. ``flaw`` shifts the parity outputs, as a broken export would. ``head``: its
    pair head, with what is measured of it in ``head_part``. ``unit_norm``: whether the manifest says that its encodings
    have unit length; where it doesn't, tests may enroll points anywhere."""
    nodes = [
        helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["white", "x"], ["inverted"]),
        helper.make_node("Div", ["inverted", "white"], ["ink"]),
        helper.make_node("Flatten", ["ink"], ["flat"], axis=1),
        helper.make_node("ReduceL2", ["flat", "axes"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "tiny"], ["safe"]),
        helper.make_node("Div", ["flat", "safe"], ["encoding"]),
    ]
    constants = {
        "white": np.array(255, np.float32),
        "axes": np.array([1], np.int64),
        "tiny": np.array(1e-12, np.float32),
    }
    shape = (SIDE, SIDE, 1)
    model = _model(nodes, constants, TensorProto.UINT8, shape, SIDE * SIDE)
    inputs = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    manifest = _manifest(
        name,
        InputSpec(kind="image", shape=shape, dtype="uint8", color="gray", resize=resize),
        inputs,
        pixels(inputs) + flaw,
        tau,
    )
    manifest = manifest.model_copy(update={"output": OutputSpec(dimension=SIDE * SIDE, unit_norm=unit_norm)})
    if head is not None:
        found = probabilities_of(head.logits(pixels(inputs)[:1], pixels(inputs))).tolist()
        given = {"weights": Array.pack(head.weights), "bias": head.bias, "probabilities": found, **(head_part or {})}
        manifest = manifest.model_copy(update={"pair_head": PairHeadPart(form=head.form, **given)})
    return write_model_folder(folder, manifest, model)


def values_model(folder: Path, spec: InputSpec, *, name: str = "values") -> Path:
    """An image encoder that shows what it was given: the values of its input plus 1, float32 [N, H * W * C]."""
    nodes = [
        helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("Add", ["flat", "one"], ["encoding"]),  # nothing is all zero: that is no encoding
    ]
    dimension = int(np.prod(spec.shape))
    model = _model(nodes, {"one": np.array(1, np.float32)}, TensorProto.UINT8, spec.shape, dimension)
    inputs = np.random.default_rng(0).integers(0, 256, (2, *spec.shape), dtype=np.uint8)
    outputs = inputs.reshape(2, -1).astype(np.float32) + 1
    manifest = _manifest(name, spec, inputs, outputs, None)
    return write_model_folder(folder, manifest, model)


def signal_model(folder: Path, *, name: str = "signal", fit: Literal["pad"] | None = None) -> Path:
    """A signal encoder: float32 [N, 6, 2] -> itself, flattened to 12; not normalised, not calibrated."""
    shape = (6, 2)
    model = _model([helper.make_node("Flatten", ["input"], ["encoding"], axis=1)], {}, TensorProto.FLOAT, shape, 12)
    inputs = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    spec = InputSpec(kind="signal", shape=shape, dtype="float32", fit=fit)
    return write_model_folder(folder, _manifest(name, spec, inputs, inputs.reshape(2, 12), None), model)


TONES = tuple(range(200, 3800, 120))  # Hz
SOUND = InputSpec(
    kind="signal",
    shape=(800, 1),
    dtype="float32",
    fit="pad",
    sound=SoundSpec(sample_rate=8000),
    windows=Windows(step=400, least=600),
)


def tones(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the sound model computes: the power at each of TONES. float32 [N, 800, 1] -> [N, 30], unit norm or zero."""
    power = np.square(windows[..., 0] @ _waves())
    norm = np.sqrt(np.square(power).sum(axis=1, keepdims=True))
    encodings: npt.NDArray[np.float32] = (power / np.maximum(norm, 1e-12)).astype(np.float32)
    return encodings


def _waves() -> npt.NDArray[np.float32]:
    phases = 2 * np.pi * np.arange(800)[:, np.newaxis] / 8000 * np.array(TONES)
    waves: npt.NDArray[np.float32] = np.sin(phases).astype(np.float32)
    return waves


def sound_model(folder: Path, *, name: str = "sound") -> Path:
    """An encoder of sounds at 8,000 samples a second, in windows of a tenth of a second, half of which overlap."""
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "waves"], ["heard"]),
        helper.make_node("Mul", ["heard", "heard"], ["power"]),
        helper.make_node("ReduceL2", ["power", "axes"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "tiny"], ["safe"]),
        helper.make_node("Div", ["power", "safe"], ["encoding"]),
    ]
    constants = {
        "waves": _waves(),
        "axes": np.array([1], np.int64),
        "tiny": np.array(1e-12, np.float32),
    }
    model = _model(nodes, constants, TensorProto.FLOAT, SOUND.shape, len(TONES))
    inputs = np.random.default_rng(0).standard_normal((2, *SOUND.shape)).astype(np.float32)
    manifest = _manifest(name, SOUND, inputs, tones(inputs), 0.5)
    output = OutputSpec(dimension=len(TONES), unit_norm=True)
    return write_model_folder(folder, manifest.model_copy(update={"output": output}), model)


def _model(
    nodes: list[onnx.NodeProto], constants: dict[str, Any], kind: int, shape: tuple[int, ...], dimension: int
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input", kind, ["N", *shape])],
        [helper.make_tensor_value_info("encoding", TensorProto.FLOAT, ["N", dimension])],
        [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _manifest(
    name: str, spec: InputSpec, inputs: npt.NDArray[Any], outputs: npt.NDArray[np.float32], tau: float | None
) -> EncoderManifest:
    return EncoderManifest(
        name=name,
        created="2026-01-01T00:00:00Z",
        license="CC0-1.0",
        input=spec,
        output=OutputSpec(dimension=outputs.shape[1], unit_norm=False),
        threshold=calibration(tau) if tau is not None else None,
        parity=Parity(inputs=Array.pack(inputs), outputs=Array.pack(outputs), tolerance=1e-5),
        model_sha256="0" * 64,  # write_model_folder sets both
        model_bytes=1,
    )


def manifest_of(inputs: npt.NDArray[Any], outputs: npt.NDArray[np.float32], **changes: Any) -> EncoderManifest:
    """Of an encoder of gray pictures with these parity vectors, and no graph."""
    spec = InputSpec(kind="image", shape=inputs.shape[1:], dtype="uint8", color="gray")
    return EncoderManifest(**{**dict(_manifest("made", spec, inputs, outputs, None)), **changes})


def calibration(tau: float) -> Calibration:
    return Calibration(
        tau=tau,
        target_fpir=0.01,
        gallery_size=100,
        fpir=0.01,
        fpir_low=0.005,
        fpir_high=0.02,
        fnir=0.5,
        non_mated_probes=1000,
        mated_probes=1000,
        data="none: a test model",
        method="chosen by hand",
        fmr_curve=((0.1, 0.0001), (1.0, 0.1), (2.0, 1.0)),
    )
