"""Tiny face models as real model folders: a *face* is a square whose blue is full, alone in its
surroundings; red and green say whose it is.

What they find and encode can be told by hand, so the photo pipeline is tested without anybody's weights.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from PIL import Image

from oneglance_core.folder import write_model_folder
from oneglance_core.manifests import (
    Alignment,
    Array,
    DetectorManifest,
    EncoderManifest,
    InputSpec,
    LandmarksManifest,
    NamedParity,
    OutputSpec,
    Parity,
    UprightnessManifest,
)
from tests.models import calibration

WINDOW = 16  # pixels of the detector's window
CHIP = 8
TEMPLATE = ((6.5, 2.0), (5.0, 2.0), (0.5, 2.0), (2.0, 2.0), (3.5, 5.5))
CREATED = "2026-01-01T00:00:00Z"


def colours(person: int) -> npt.NDArray[np.uint8]:
    """A person's looks: uint8 [2, 2, 3], red and green per quarter of the face."""
    looks = np.random.default_rng(person).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    looks[..., 2] = 255
    return looks


def photo(
    people: dict[tuple[int, int], int],
    *,
    size: tuple[int, int] = (96, 128),
    side: int = WINDOW,
    looks: Callable[[int], npt.NDArray[np.uint8]] = colours,
) -> npt.NDArray[np.uint8]:
    """A photo uint8 [H, W, 3] of ``size`` (H, W): each person's square of ``side`` pixels with its top left at (x, y).

    The detector's grid is 4 pixels wide: x and y should be multiples of it, times ``side`` / WINDOW.
    """
    pixels = np.full((*size, 3), (90, 90, 0), np.uint8)
    for (x, y), person in people.items():
        pixels[y : y + side, x : x + side] = looks(person).repeat(side // 2, axis=0).repeat(side // 2, axis=1)
    return pixels


def encoded(pixels: npt.NDArray[np.uint8], format: str = "PNG", **options: object) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def upright_look(person: int) -> npt.NDArray[np.uint8]:
    """Looks that tell a turned face from an upright one: uint8 [2, 2, 3], green above and none below."""
    looks = colours(person)
    looks[..., 1] = [[255, 255], [0, 0]]
    return looks


def face_models(folder: Path, *, tau: float | None = 0.05, check: bool = False) -> Path:
    """A folder of model folders: ``tiny-detector``, ``tiny-landmarks``, ``tiny-faces``, with ``check``
    ``tiny-uprightness``."""
    _detector(folder / "detector")
    _landmarks(folder / "landmarks")
    if check:
        _uprightness(folder / "uprightness")
    face_encoder(folder / "encoder", tau=tau)
    return folder


def _detector(folder: Path) -> None:
    constants: dict[str, Any] = {
        "blue": np.array([2], np.int64),
        "full": np.array(255, np.float32),
        "threshold": np.array(0.6, np.float32),
        "channel": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["x"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Gather", ["nchw", "blue"], ["b"], axis=1),
        helper.make_node("Div", ["b", "full"], ["share"]),
        helper.make_node("AveragePool", ["share"], ["mean"], kernel_shape=[WINDOW, WINDOW], strides=[4, 4]),
        helper.make_node(
            "AveragePool",
            ["share"],
            ["around"],
            kernel_shape=[2 * WINDOW, 2 * WINDOW],
            strides=[4, 4],
            pads=[WINDOW // 2] * 4,
            count_include_pad=1,
        ),
        helper.make_node("Sub", ["mean", "around"], ["alone"]),
        helper.make_node("Sub", ["alone", "threshold"], ["over"]),
        helper.make_node("Squeeze", ["over", "channel"], ["scores"]),
    ]
    model = _model(
        nodes,
        constants,
        {"image": (TensorProto.UINT8, ["N", "H", "W", 4])},
        {"scores": (TensorProto.FLOAT, ["N", "h", "w"])},
    )
    image = np.full((1, 32, 32, 4), 255, np.uint8)
    image[0, ..., :3] = photo({(4, 8): 1}, size=(32, 32))
    blue = image[0, :, :, 2].astype(np.float32) / 255
    grid = range(0, 32 - WINDOW + 1, 4)
    wide = np.pad(blue, WINDOW // 2)
    scores = np.array(
        [
            [
                [blue[y : y + WINDOW, x : x + WINDOW].mean() - wide[y : y + 32, x : x + 32].mean() - 0.6 for x in grid]
                for y in grid
            ]
        ]
    )
    manifest = DetectorManifest(
        name="tiny-detector",
        created=CREATED,
        license="CC0-1.0",
        window=WINDOW,
        stride=4,
        offset=(WINDOW - 1) / 2,
        shrink=0.5,
        margin=4,
        gap=4,
        smallest_side=WINDOW,
        threshold=0.0,
        nms_iou=0.3,
        nms_covered=0.6,
        parity=NamedParity(
            inputs={"image": Array.pack(image)},
            outputs={"scores": Array.pack(scores)},
            tolerance=1e-5,
        ),
        model_sha256="0" * 64,
        model_bytes=1,
    )
    write_model_folder(folder, manifest, model)


def _landmarks(folder: Path) -> None:
    """The template's places within the box; the pixels don't matter."""
    shares = (np.array(TEMPLATE, np.float32) + 0.5) / CHIP
    constants: dict[str, Any] = {
        "first": np.array([0, 1], np.int64),
        "last": np.array([2, 3], np.int64),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
        "shares": shares[np.newaxis],
        "middle": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["boxes", "first"], ["near"], axis=1),
        helper.make_node("Gather", ["boxes", "last"], ["far"], axis=1),
        helper.make_node("Sub", ["far", "near"], ["difference"]),
        helper.make_node("Add", ["difference", "one"], ["size"]),
        helper.make_node("Unsqueeze", ["size", "middle"], ["sizes"]),
        helper.make_node("Mul", ["sizes", "shares"], ["offsets"]),
        helper.make_node("Sub", ["near", "half"], ["corner"]),
        helper.make_node("Unsqueeze", ["corner", "middle"], ["corners"]),
        helper.make_node("Add", ["corners", "offsets"], ["points"]),
    ]
    model = _model(
        nodes,
        constants,
        {
            "pixels": (TensorProto.UINT8, ["P"]),
            "pictures": (TensorProto.INT64, ["F", 3]),
            "boxes": (TensorProto.FLOAT, ["F", 4]),
        },
        {"points": (TensorProto.FLOAT, ["F", 5, 2])},
    )
    boxes = np.array([[4, 8, 19, 23]], np.float32)
    points = boxes[:, :2][:, np.newaxis] - 0.5 + 16 * shares
    manifest = LandmarksManifest(
        name="tiny-landmarks",
        created=CREATED,
        license="CC0-1.0",
        landmarks="dlib-5",
        parity=NamedParity(
            inputs={
                "pixels": Array.pack(np.zeros(1024, np.uint8)),
                "pictures": Array.pack(np.array([[0, 32, 32]], np.int64)),
                "boxes": Array.pack(boxes),
            },
            outputs={"points": Array.pack(points)},
            tolerance=1e-4,
        ),
        model_sha256="0" * 64,
        model_bytes=1,
    )
    write_model_folder(folder, manifest, model)


def _uprightness(folder: Path) -> None:
    """0.5 plus half of how much more green there is above than below, 0.6 being enough."""
    constants: dict[str, Any] = {
        "green": np.array([1], np.int64),
        "axes": np.array([1, 2, 3], np.int64),
        "scale": np.array(CHIP / 2 * CHIP * 2 * 255, np.float32),
        "half": np.array(0.5, np.float32),
        "sign": np.repeat(np.array([1, -1], np.float32), CHIP // 2)[:, None, None],
    }
    nodes = [
        helper.make_node("Cast", ["chips"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["x", "green"], ["g"], axis=3),
        helper.make_node("Mul", ["g", "sign"], ["signed"]),
        helper.make_node("ReduceSum", ["signed", "axes"], ["sum"], keepdims=0),
        helper.make_node("Div", ["sum", "scale"], ["more"]),
        helper.make_node("Add", ["more", "half"], ["scores"]),
    ]
    model = _model(
        nodes,
        constants,
        {"chips": (TensorProto.UINT8, ["N", CHIP, CHIP, 3])},
        {"scores": (TensorProto.FLOAT, ["N"])},
    )
    chips = np.zeros((2, CHIP, CHIP, 3), np.uint8)
    chips[0, : CHIP // 2, :, 1] = 255
    manifest = UprightnessManifest(
        name="tiny-uprightness",
        created=CREATED,
        license="CC0-1.0",
        height=CHIP,
        width=CHIP,
        alignment=Alignment(landmarks="dlib-5", template=TEMPLATE),
        threshold=0.6,
        parity=NamedParity(
            inputs={"chips": Array.pack(chips)},
            outputs={"scores": Array.pack(np.array([1.0, 0.5]))},
            tolerance=1e-5,
        ),
        model_sha256="0" * 64,
        model_bytes=1,
    )
    write_model_folder(folder, manifest, model)


def face_encoder(folder: Path, *, tau: float | None, name: str = "tiny-faces", middle: float = 127.5) -> None:
    """Red and green of the chip, less their middle, to unit norm."""
    constants: dict[str, Any] = {
        "which": np.array([0, 1], np.int64),
        "middle": np.array(middle, np.float32),
        "axes": np.array([1], np.int64),
        "tiny": np.array(1e-12, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["x", "which"], ["rg"], axis=3),
        helper.make_node("Sub", ["rg", "middle"], ["centred"]),
        helper.make_node("Flatten", ["centred"], ["flat"], axis=1),
        helper.make_node("ReduceL2", ["flat", "axes"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "tiny"], ["safe"]),
        helper.make_node("Div", ["flat", "safe"], ["encoding"]),
    ]
    dimension = CHIP * CHIP * 2
    model = _model(
        nodes,
        constants,
        {"input": (TensorProto.UINT8, ["N", CHIP, CHIP, 3])},
        {"encoding": (TensorProto.FLOAT, ["N", dimension])},
    )
    inputs = np.random.default_rng(0).integers(0, 256, (2, CHIP, CHIP, 3), dtype=np.uint8)
    flat = inputs[..., :2].reshape(2, -1).astype(np.float64) - middle
    manifest = EncoderManifest(
        name=name,
        created=CREATED,
        license="CC0-1.0",
        input=InputSpec(kind="image", shape=(CHIP, CHIP, 3), dtype="uint8", color="rgb"),
        output=OutputSpec(dimension=dimension, unit_norm=True),
        alignment=Alignment(landmarks="dlib-5", template=TEMPLATE),
        threshold=calibration(tau) if tau is not None else None,
        parity=Parity(
            inputs=Array.pack(inputs),
            outputs=Array.pack(flat / np.linalg.norm(flat, axis=1, keepdims=True)),
            tolerance=1e-5,
        ),
        model_sha256="0" * 64,
        model_bytes=1,
    )
    write_model_folder(folder, manifest, model)


def _model(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, Any],
    inputs: dict[str, tuple[int, list[str | int]]],
    outputs: dict[str, tuple[int, list[str | int]]],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
