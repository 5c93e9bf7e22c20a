"""The encoder f: from an input as it is served to numbers of unit norm.

One network encodes both examples of a pair (a Siamese network: Taigman et al. 2014). What is done to the input before
it (the ink of a picture, the scale of a signal) and after it (unit norm) is part of the exported graph.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from oneglance_core.manifests import InputSpec
from oneglance_exporter.encoder.augment import symmetry

INPUT_SIZE = 105  # pixels, height and width: Omniglot's own
INPUT = InputSpec(kind="image", shape=(INPUT_SIZE, INPUT_SIZE, 1), dtype="uint8", color="gray")
WIDTHS = (32, 64, 96, 128)
_SHRUNK = 35  # pixels: the mean of 3 x 3 pixels of a drawing of 105 keeps thin strokes, as gray
_POOLED = 8  # an axis of so many is halved
_EPSILON = 1e-6
_BLOCK = 256
_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAX_POOLS: dict[int, type[nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_MEAN_POOLS: dict[int, type[nn.Module]] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


class Block(nn.Sequential):
    """Convolution over ``dims`` axes, batch norm, relu: [N, inputs, *sizes] -> [N, outputs, *others].

    size, padding: of the filters, along each axis. An axis of n becomes n + 2 * padding - size + 1: 16 filters of 5
    without padding make 10 x 16 of 14 x 1, and 10 x 10 x 10 x 16 of 14 x 14 x 14 x 1.
    """

    def __init__(
        self, dims: int, inputs: int, outputs: int, size: int | Sequence[int], padding: int | Sequence[int]
    ) -> None:
        super().__init__(
            _CONVOLUTIONS[dims](inputs, outputs, size, padding=padding, bias=False),
            _NORMS[dims](outputs),
            nn.ReLU(inplace=True),
        )


class ConvNet(nn.Module):
    """float [N, C, *sizes] -> [N, dimension], for 1, 2 or 3 sizes: signals, pictures and planes, volumes.

    A block of 5 wide filters, then as often as an axis has 8 or more: maximum of 2, two blocks of 3 wide filters (one
    after the last maximum); at last a linear layer over all that is left.

    widths: channels of the blocks, stage by stage; the last holds for all further ones. shrink: the mean of so many
    pixels along each axis is taken first.
    """

    def __init__(
        self, channels: int, sizes: Sequence[int], dimension: int, widths: Sequence[int] = WIDTHS, shrink: int = 1
    ) -> None:
        super().__init__()
        dims = len(sizes)
        self.shrink: nn.Module = _MEAN_POOLS[dims](shrink) if shrink > 1 else nn.Identity()
        left = [size // shrink for size in sizes]
        first = [5 if size >= 5 else 3 if size >= 3 else 1 for size in left]
        padding = [size // 2 if size < 5 else 1 for size in first]
        left = [size + 2 * pad - wide + 1 for size, pad, wide in zip(left, padding, first, strict=True)]
        width = widths[0]
        layers: list[nn.Module] = [Block(dims, channels, width, first, padding)]
        stage = 0
        while max(left) >= _POOLED:
            stage += 1
            layers.append(_MAX_POOLS[dims]([2 if size >= _POOLED else 1 for size in left]))
            left = [size // 2 if size >= _POOLED else size for size in left]
            wider = widths[min(stage, len(widths) - 1)]
            layers.append(Block(dims, width, wider, 3, padding=1))
            if max(left) >= _POOLED:
                layers.append(Block(dims, wider, wider, 3, padding=1))
            width = wider
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width * math.prod(left), dimension)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(torch.flatten(self.features(self.shrink(inputs)), 1))
        return found


def shrink_of(spec: InputSpec) -> int:
    """Of a ConvNet: so that the shorter side of a picture is about 35 pixels; arrays are taken as they are."""
    return max(1, min(spec.shape[:2]) // _SHRUNK) if spec.kind == "image" else 1


class Encoder(nn.Module):
    """f: [N, *shape] as ``spec`` declares -> float32 [N, dimension], unit norm.

    backbone: float [N, C, *sizes] -> [N, dimension / views]. It is given pictures as ink, 0 white to 1 black; arrays
    less their mean over the training data, divided by their standard deviation, channel by channel: ``scale_to``.
    positive: no number of an encoding is below 0. views: in eval mode so many symmetries of a picture are encoded, and
    their encodings joined: d is the mean of the d of each. In training mode, a picture is seen as it is.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, spec: InputSpec, backbone: nn.Module, positive: bool = False, views: int = 1) -> None:
        super().__init__()
        self.spec, self.backbone, self.positive, self.views = spec, backbone, positive, views
        if spec.kind != "image":
            self.register_buffer("centre", torch.zeros(spec.shape[-1]))
            self.register_buffer("spread", torch.ones(spec.shape[-1]))

    def scale_to(self, inputs: npt.NDArray[Any]) -> None:
        """Take mean and standard deviation from inputs [N, *shape]. A channel that is constant keeps its size."""
        channels = self.spec.shape[-1]
        total, squares, count = np.zeros(channels), np.zeros(channels), 0
        for start in range(0, len(inputs), _BLOCK):
            rows = inputs[start : start + _BLOCK].reshape(-1, channels).astype(np.float64)
            total, squares, count = total + rows.sum(0), squares + (rows * rows).sum(0), count + len(rows)
        mean = total / count
        spread = np.sqrt(np.maximum(squares / count - mean * mean, 0))
        self.centre.copy_(torch.from_numpy(mean))
        self.spread.copy_(torch.from_numpy(np.where(spread > _EPSILON * np.abs(mean), spread, 1.0)))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.encode(self.prepared(inputs))

    def prepared(self, inputs: Tensor) -> Tensor:
        """[N, *sizes, C] as served -> float32 [N, C, *sizes], as the backbone takes it."""
        values = inputs.permute(0, inputs.ndim - 1, *range(1, inputs.ndim - 1)).to(torch.float32)
        if self.spec.kind == "image":
            return (255.0 - values) / 255.0
        channels = (1, -1, *(1 for _ in range(inputs.ndim - 2)))
        return (values - self.centre.reshape(channels)) / self.spread.reshape(channels)

    def encode(self, prepared: Tensor) -> Tensor:
        """float [N, C, *sizes] -> float32 [N, dimension], unit norm; in training mode [N, dimension / views]."""
        if self.training or self.views == 1:
            return self._unit(prepared)
        seen = torch.cat([symmetry(prepared, which) for which in range(self.views)])
        parts = self._unit(seen)  # [views * N, dimension / views]
        joined: Tensor = parts.reshape(self.views, -1, parts.shape[1]).transpose(0, 1).flatten(1)
        return joined / math.sqrt(self.views)

    def _unit(self, prepared: Tensor) -> Tensor:
        encoding = self.backbone(prepared).float()
        if self.positive:
            encoding = functional.softplus(encoding)
        # The epsilon is added under the root, so that no input can give a division by zero.
        unit: Tensor = encoding * torch.rsqrt((encoding * encoding).sum(dim=1, keepdim=True) + _EPSILON**2)
        return unit


@torch.no_grad()
def encode(model: Encoder, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Encode inputs [N, *shape] -> float32 [N, D] in blocks, where the model is. Put it in eval mode before."""
    device = next(model.backbone.parameters()).device
    blocks = [
        model(torch.from_numpy(np.ascontiguousarray(inputs[i : i + _BLOCK])).to(device)).cpu().numpy()
        for i in range(0, len(inputs), _BLOCK)
    ]
    return np.concatenate(blocks)
