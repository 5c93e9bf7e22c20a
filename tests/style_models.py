"""A tiny stylizer whose answers numpy can compute, as a real model folder that honours the whole of StylizerManifest.

Features are a 3 x 3 blur of the picture and the mean of each 4 x 4 block of it, half and half: so a pixel depends on
what is up to 4 pixels away, and on where the blocks lie. They are normalised per channel, and each style is a scale and
a shift per channel.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from oneglance_core.folder import write_model_folder
from oneglance_core.manifests import Array, NamedParity, Style, StyleReaderManifest, StyleSpace, StylizerManifest

Floats = npt.NDArray[np.float32]
BLOCK = 4
MARGIN = 4
STYLES = ("ember", "moss", "slate", "inverse")
SCALES = np.array([[60, 30, 20], [25, 55, 30], [40, 40, 45], [-50, -50, -50]], np.float32)
SHIFTS = np.array([[150, 90, 60], [90, 140, 80], [110, 115, 125], [128, 128, 128]], np.float32)
_EPSILON = 1.0  # of the variance, on the scale of 0 to 255


def tinted(
    image: npt.NDArray[np.uint8], weights: npt.ArrayLike, moments: npt.ArrayLike | None = None, own: float = 1.0
) -> tuple[Floats, Floats]:
    """What the tiny stylizer computes: uint8 [H, W, 3], [4], [3, 2] -> float32 [H, W, 3], the moments used [3, 2]."""
    x = image.astype(np.float64)
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    shifted = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    blurred = np.mean(shifted, axis=0)
    blocks = blurred.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3).mean(axis=(1, 3))
    features = (blurred + blocks.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)) / 2
    mine = np.stack([features.mean(axis=(0, 1)), np.sqrt(features.var(axis=(0, 1)) + _EPSILON)], axis=1)
    given = np.zeros((3, 2)) if moments is None else np.asarray(moments, np.float64)
    used = own * mine + (1 - own) * given
    mix = np.asarray(weights, np.float64)
    stylized = (features - used[:, 0]) / used[:, 1] * (mix @ SCALES) + mix @ SHIFTS
    return np.clip(stylized, 0, 255).astype(np.float32), used.astype(np.float32)


SIDE = 8  # of what the tiny reader looks at
SPACE = StyleSpace(name="colors", numbers=len(STYLES))


def any_style_models(folder: Path) -> Path:
    """A folder of two: the stylizer as one for any style, ``any``, and ``reader``, to which the red of a picture is
    "ember", the green "moss" and the blue "slate"."""
    style_model(folder / "any", name="any", space=SPACE)
    pictures = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    styles = np.pad(pictures.mean(axis=(1, 2)) / 255, ((0, 0), (0, 1))).astype(np.float32)
    manifest = StyleReaderManifest(
        name="reader",
        created="2026-01-01T00:00:00Z",
        license="CC0-1.0",
        side=SIDE,
        space=SPACE,
        parity=NamedParity.pack({"picture": pictures}, {"style": styles}, 1e-4),
        model_sha256="0" * 64,  # write_model_folder sets both
        model_bytes=1,
    )
    write_model_folder(folder / "reader", manifest, _reader_graph())
    return folder


def style_model(
    folder: Path,
    *,
    name: str = "tints",
    flaw: float = 0.0,
    styles: int = len(STYLES),
    space: StyleSpace | None = None,
) -> Path:
    """Write it. ``flaw`` shifts the parity outputs; ``styles``: how many of STYLES it has; ``space``: it is for any
    style instead."""
    names = STYLES[:styles]
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)
    images[:, 4:12, 8:20] //= 3
    weights = np.eye(styles, dtype=np.float32)[[0, styles - 1, 0]]
    weights[2] = 1 / styles
    moments = np.stack([random.uniform(80, 160, (3, 3)), random.uniform(20, 60, (3, 3))], axis=2).astype(np.float32)
    own = np.array([1, 0, 0.3], np.float32)
    rows = [tinted(*row) for row in zip(images, _padded(weights), moments, map(float, own), strict=True)]
    outputs = {"stylized": np.stack([row[0] for row in rows]) + flaw, "used": np.stack([row[1] for row in rows])}
    inputs: dict[str, npt.NDArray[Any]] = {"image": images, "weights": weights, "moments": moments, "own": own}
    manifest = StylizerManifest(
        name=name,
        created="2026-01-01T00:00:00Z",
        license="CC0-1.0",
        space=space,
        styles=()
        if space
        else tuple(Style(name=style, title=style.title(), source="invented", license="CC0-1.0") for style in names),
        multiple=BLOCK,
        least_side=2 * BLOCK,
        margin=MARGIN,
        moments=3,
        parity=NamedParity(
            inputs={key: Array.pack(value) for key, value in inputs.items()},
            outputs={key: Array.pack(value) for key, value in outputs.items()},
            tolerance=0.01,
        ),
        model_sha256="0" * 64,  # write_model_folder sets both
        model_bytes=1,
    )
    return write_model_folder(folder, manifest, _graph(styles))


def _padded(weights: Floats) -> Floats:
    """[N, S] -> [N, len(STYLES)]."""
    return np.pad(weights, ((0, 0), (0, len(STYLES) - weights.shape[1])))


def _graph(styles: int) -> bytes:
    def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)

    nodes = [
        node("Cast", "image", "as_float", to=TensorProto.FLOAT),
        node("Transpose", "as_float", "x", perm=[0, 3, 1, 2]),  # [N, 3, H, W]
        node("Pad", "x pads", "padded", mode="reflect"),
        node("Conv", "padded kernel", "blurred", group=3),
        node("AveragePool", "blurred", "blocks", kernel_shape=[BLOCK, BLOCK], strides=[BLOCK, BLOCK]),
        node("Resize", "blocks none enlarge", "enlarged", mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric"),
        node("Add", "blurred enlarged", "twice"),
        node("Mul", "twice half", "features"),
        node("ReduceMean", "features plane", "mean", keepdims=1),  # [N, 3, 1, 1]
        node("Sub", "features mean", "centred"),
        node("Mul", "centred centred", "squared"),
        node("ReduceMean", "squared plane", "variance", keepdims=1),
        node("Add", "variance epsilon", "safe"),
        node("Sqrt", "safe", "deviation"),
        node("Concat", "mean deviation", "mine_4", axis=3),  # [N, 3, 1, 2]
        node("Squeeze", "mine_4 two", "mine"),
        node("Unsqueeze", "own one_two", "share"),  # [N, 1, 1]
        node("Sub", "one share", "rest"),
        node("Mul", "mine share", "from_mine"),
        node("Mul", "moments rest", "from_given"),
        node("Add", "from_mine from_given", "used"),
        node("Unsqueeze", "used three", "used_4"),  # [N, 3, 2, 1]
        node("Split", "used_4", "used_mean used_deviation", axis=2, num_outputs=2),
        node("Sub", "features used_mean", "moved"),
        node("Div", "moved used_deviation", "normal"),
        node("MatMul", "weights scales", "scale"),
        node("MatMul", "weights shifts", "shift"),
        node("Unsqueeze", "scale two_three", "scale_4"),
        node("Unsqueeze", "shift two_three", "shift_4"),
        node("Mul", "normal scale_4", "scaled"),
        node("Add", "scaled shift_4", "shifted"),
        node("Clip", "shifted least most", "clipped"),
        node("Transpose", "clipped", "stylized", perm=[0, 2, 3, 1]),
    ]  # fmt: skip
    constants: dict[str, npt.NDArray[Any]] = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "kernel": np.full((3, 1, 3, 3), 1 / 9, np.float32),
        "none": np.array([], np.float32),
        "enlarge": np.array([1, 1, BLOCK, BLOCK], np.float32),
        "half": np.array(0.5, np.float32),
        "plane": np.array([2, 3], np.int64),
        "epsilon": np.array(_EPSILON, np.float32),
        "one": np.array(1, np.float32),
        "two": np.array([2], np.int64),
        "three": np.array([3], np.int64),
        "one_two": np.array([1, 2], np.int64),
        "two_three": np.array([2, 3], np.int64),
        "scales": SCALES[:styles],
        "shifts": SHIFTS[:styles],
        "least": np.array(0, np.float32),
        "most": np.array(255, np.float32),
    }
    floating = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tints",
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3]),
            helper.make_tensor_value_info("weights", floating, ["N", styles]),
            helper.make_tensor_value_info("moments", floating, ["N", 3, 2]),
            helper.make_tensor_value_info("own", floating, ["N"]),
        ],
        [
            helper.make_tensor_value_info("stylized", floating, ["N", "H", "W", 3]),
            helper.make_tensor_value_info("used", floating, ["N", 3, 2]),
        ],
        [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _reader_graph() -> bytes:
    nodes = [
        helper.make_node("Cast", ["picture"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["as_float", "plane"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["share"]),
        helper.make_node("Pad", ["share", "pads"], ["style"]),
    ]
    graph = helper.make_graph(
        nodes,
        "reader",
        [helper.make_tensor_value_info("picture", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("style", TensorProto.FLOAT, ["N", len(STYLES)])],
        [
            onnx.numpy_helper.from_array(np.array([1, 2], np.int64), "plane"),
            onnx.numpy_helper.from_array(np.array(255, np.float32), "white"),
            onnx.numpy_helper.from_array(np.array([0, 0, 0, 1], np.int64), "pads"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
