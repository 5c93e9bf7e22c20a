"""The encoder f: a small convolutional network from a drawing to 128 numbers of unit norm.

One network encodes both pictures of a pair (a Siamese network: Taigman et al. 2014). The input is
the served picture, uint8 [N, 105, 105, 1]; turning it into ink and shrinking it are layers of the
network, so the exported graph needs no preprocessing outside.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from oneglance_core.manifests import InputSpec

INPUT_SIZE = 105  # pixels, height and width: Omniglot's own
INPUT = InputSpec(kind="image", shape=(INPUT_SIZE, INPUT_SIZE, 1), dtype="uint8", color="gray")
_POOL = 3  # 105 -> 35: the mean of 3 x 3 pixels keeps thin strokes, as gray
_EPSILON = 1e-6


class Block(nn.Sequential):
    """Convolution, batch norm, relu: [N, inputs, H, W] -> [N, outputs, H, W] if padding = size // 2."""

    def __init__(self, inputs: int, outputs: int, size: int, padding: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, size, padding=padding, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Encoder(nn.Module):
    """f: uint8 [N, 105, 105, 1] (0 black ink, 255 white paper) -> float32 [N, dimension], unit norm."""

    def __init__(self, dimension: int = 128) -> None:
        super().__init__()
        self.dimension = dimension
        self.features = nn.Sequential(
            Block(1, 32, 5, padding=1),  # [N, 32, 33, 33]
            nn.MaxPool2d(2),  # 16
            Block(32, 64, 3, padding=1),
            Block(64, 64, 3, padding=1),
            nn.MaxPool2d(2),  # 8
            Block(64, 96, 3, padding=1),
            Block(96, 96, 3, padding=1),
            nn.MaxPool2d(2),  # 4
            Block(96, 128, 3, padding=1),
        )
        self.head = nn.Linear(128 * 4 * 4, dimension)

    def forward(self, pictures: Tensor) -> Tensor:
        ink = (255.0 - pictures.permute(0, 3, 1, 2).to(torch.float32)) / 255.0
        return self.encode_ink(ink)

    def encode_ink(self, ink: Tensor) -> Tensor:
        """float [N, 1, 105, 105], 0 paper to 1 ink -> float32 [N, dimension], unit norm."""
        small = functional.avg_pool2d(ink, _POOL)  # [N, 1, 35, 35]
        flat = torch.flatten(self.features(small), 1)
        encoding = self.head(flat).float()
        # The epsilon is added under the root, so that no input can give a division by zero.
        unit: Tensor = encoding * torch.rsqrt((encoding * encoding).sum(dim=1, keepdim=True) + _EPSILON**2)
        return unit


@torch.no_grad()
def encode(model: Encoder, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Encode uint8 [N, 105, 105, 1] -> float32 [N, D] in blocks. Put the model in eval mode before."""
    blocks = [model(torch.from_numpy(images[i : i + 256])).numpy() for i in range(0, len(images), 256)]
    return np.concatenate(blocks)
