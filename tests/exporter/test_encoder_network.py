"""The encoder family in one, two and three dimensions, and networks of others inside it."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from oneglance_core.manifests import InputSpec
from oneglance_exporter.api import export, train
from oneglance_exporter.encoder.backbones import backbone, backbone_digest
from oneglance_exporter.encoder.network import INPUT, Block, ConvNet, Encoder, encode, shrink_of
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.errors import ExporterError, SettingsError
from oneglance_server.settings import BUNDLED_MODEL

OWN = """
import torch

def make(shape, dimension):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(shape[0] * shape[1], dimension))

def short(shape, dimension):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(shape[0] * shape[1], dimension - 1))

def fails(shape, dimension):
    raise RuntimeError("no such luck")

def nothing(shape, dimension):
    return 3
"""


def signal(length: int, channels: int = 1) -> InputSpec:
    return InputSpec(kind="signal", shape=(length, channels), dtype="float32")


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_16_filters_of_5_make_10_of_14_in_every_dimension(dims: int) -> None:
    """The sources: 14 x 1 gives 10 x 16, 14 x 14 x 14 x 1 gives 10 x 10 x 10 x 16."""
    block = Block(dims, 1, 16, 5, padding=0)
    assert block(torch.randn(2, 1, *[14] * dims)).shape == (2, 16, *[10] * dims)
    assert block[0].weight.shape == (16, 1, *[5] * dims)


@pytest.mark.parametrize(
    "spec",
    [
        signal(14),
        signal(2000, 3),
        signal(3),
        InputSpec(kind="plane", shape=(40, 100, 2), dtype="float32"),
        InputSpec(kind="plane", shape=(1, 9, 1), dtype="float32"),
        InputSpec(kind="volume", shape=(14, 14, 14, 1), dtype="float32"),
        InputSpec(kind="volume", shape=(3, 20, 9, 2), dtype="uint8"),
        InputSpec(kind="image", shape=(64, 48, 3), dtype="uint8", color="rgb"),
    ],
)
def test_one_family_encodes_every_shape(spec: InputSpec) -> None:
    *sizes, channels = spec.shape
    model = Encoder(spec, ConvNet(channels, sizes, 12, shrink=shrink_of(spec))).eval()
    noise = 100 * np.random.default_rng(0).random((3, *spec.shape))
    axis = int(np.argmax(sizes))
    rising = np.linspace(0, 1, sizes[axis]).reshape([-1 if i == axis else 1 for i in range(len(spec.shape))])
    inputs = (noise * np.stack([rising, 1 - rising, np.ones_like(rising)])).astype(spec.dtype)
    encodings = encode(model, inputs)
    assert encodings.shape == (3, 12)
    np.testing.assert_allclose(np.linalg.norm(encodings, axis=1), 1, atol=1e-5)
    assert np.abs(encodings[0] - encodings[1]).max() > 1e-4


@pytest.mark.parametrize("name", ["glyphs", "characters"])
def test_the_settings_of_the_bundled_encoders_make_their_networks(name: str) -> None:
    told = json.loads((BUNDLED_MODEL.parent / name / "manifest.json").read_text())["training"]
    settings = TrainSettings(**told["settings"])
    model = Encoder(INPUT, backbone(settings, INPUT), views=settings.views)
    assert sum(parameter.numel() for parameter in model.parameters()) == told["parameters"]


def test_arrays_are_scaled_channel_by_channel_and_constant_channels_keep_their_size() -> None:
    rng = np.random.default_rng(0)
    inputs = np.stack([5 + 3 * rng.standard_normal((50, 40)), np.full((50, 40), 7.0)], axis=2).astype(np.float32)
    model = Encoder(signal(40, 2), ConvNet(2, [40], 4))
    model.scale_to(inputs)
    prepared = model.prepared(torch.from_numpy(inputs))
    assert prepared.shape == (50, 2, 40)
    assert prepared[:, 0].mean().item() == pytest.approx(0, abs=1e-4)
    assert prepared[:, 0].std().item() == pytest.approx(1, abs=1e-2)
    assert torch.equal(prepared[:, 1], torch.zeros(50, 40))


def test_positive_encodings_have_no_number_below_0() -> None:
    encodings = encode(Encoder(signal(20), ConvNet(1, [20], 8), positive=True).eval(), np.ones((2, 20, 1), np.float32))
    assert encodings.min() > 0


def test_any_module_that_a_python_file_returns(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)

    def made(function: str) -> nn.Module:
        return backbone(TrainSettings(steps=1, network=f"{file}:{function}", dimension=6), signal(9, 2))

    assert made("make")(torch.zeros(3, 2, 9)).shape == (3, 6)
    for function, message in {
        "short": r"returns \[2, 5\], must return \[2, 6\]",
        "fails": "RuntimeError: no such luck",
        "nothing": "returns int, no torch module",
        "gone": "AttributeError",
    }.items():
        with pytest.raises(SettingsError, match=message):
            made(function)
    before = backbone_digest(TrainSettings(steps=1, network=f"{file}:make"))
    file.write_text(OWN + "\n")
    assert backbone_digest(TrainSettings(steps=1, network=f"{file}:make")) != before


@pytest.mark.parametrize("network", ["resnet", "nowhere.py:make", "mine.py"])
def test_a_network_that_is_not_there_is_named(network: str) -> None:
    with pytest.raises(SettingsError, match=f"--network.*{network.partition(':')[0]}"):
        backbone(TrainSettings(steps=1, network=network), signal(9))


FIXED = """
import torch
from torch import nn

class Fixed(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs.reshape(2, -1))

class Own(nn.Linear):
    def forward(self, inputs):
        return super().forward(torch.digamma(inputs.flatten(1).abs() + 2))

class Mean(nn.Linear):
    def forward(self, inputs):
        found = super().forward(inputs.flatten(1))
        return found - 0.5 * found.mean(0)

def fixed(shape, dimension):
    return Fixed(18, dimension)

def digamma(shape, dimension):
    return Own(18, dimension)

def mean(shape, dimension):
    return Mean(18, dimension)
"""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fixed", r"can't take \[3, 2, 9\]: RuntimeError: "),
        ("digamma", "can't be written as ONNX: .*digamma"),
        ("mean", "the network's encoding of an input depends on the others of its batch"),
    ],
)
def test_a_network_that_can_not_be_served_is_named_for_its_reason(tmp_path: Path, function: str, message: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FIXED)
    inputs = np.random.default_rng(0).standard_normal((8, 9, 2)).astype(np.float32)
    np.savez(tmp_path / "all.npz", inputs=inputs, subjects=np.arange(8) // 2)
    small: dict[str, Any] = {"classes_per_batch": 4, "examples_per_class": 2, "dimension": 6}
    network = f"{file}:{function}"

    def trained_and_exported() -> None:
        train(tmp_path / "all.npz", tmp_path / "run", input="signal", network=network, steps=2, **small)
        export(tmp_path / "run", tmp_path / "model", "mine")

    with pytest.raises(ExporterError, match=message):
        trained_and_exported()
    assert not (tmp_path / "model").exists()


@pytest.fixture
def timm() -> None:
    """PyPI's torchvision, which timm imports, is made for torch with CUDA. Beside one without, it misses
    operators, which no network of timm's needs."""
    try:
        pytest.importorskip("timm", reason="pip install 'oneglance[timm]'")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
        for name in [name for name in sys.modules if name.partition(".")[0] in ("timm", "torchvision")]:
            del sys.modules[name]
        try:
            importlib.import_module("timm")
        except RuntimeError as another:
            pytest.skip(f"the torchvision that is there was made for another torch: {another}")


@pytest.mark.usefixtures("timm")
def test_an_encoder_of_timm_is_trained_and_exported(tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "all.npz", inputs=inputs, subjects=np.arange(8) // 2)
    small: dict[str, Any] = {"classes_per_batch": 4, "examples_per_class": 2, "dimension": 6, "augment": "none"}
    network = "timm:resnet10t"
    train(tmp_path / "all.npz", tmp_path / "run", size=(32, 32), color="rgb", network=network, steps=2, **small)
    assert export(tmp_path / "run", tmp_path / "model", "mine").output.dimension == 6


def test_timm_is_for_pictures() -> None:
    with pytest.raises(SettingsError, match="takes pictures and planes, not a signal"):
        backbone(TrainSettings(steps=1, network="timm:resnet10t"), signal(9))


@pytest.mark.usefixtures("timm")
def test_networks_of_timm_take_pictures() -> None:
    made = backbone(TrainSettings(steps=1, network="timm:resnet10t", dimension=5), INPUT)
    assert made.eval()(torch.zeros(2, 1, 105, 105)).shape == (2, 5)
    with pytest.raises(SettingsError, match="timm:nonesuch"):
        backbone(TrainSettings(steps=1, network="timm:nonesuch"), INPUT)


def test_networks_of_timm_need_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SettingsError, match=r"there is no module timm: pip install 'oneglance\[timm\]'"):
        backbone(TrainSettings(steps=1, network="timm:resnet10t"), INPUT)


def test_a_timm_that_can_not_be_imported_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SettingsError, match=r"nms does not exist; it needs the torchvision that was made for torch 2"):
        backbone(TrainSettings(steps=1, network="timm:resnet10t"), INPUT)
