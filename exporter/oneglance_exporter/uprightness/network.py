"""The network of the check: how much a chip looks like an upright, aligned face."""

import torch
from torch import Tensor, nn

from oneglance_core.manifests import Alignment
from oneglance_exporter.imports.alignments import dlib_alignment

SIDE = 48  # pixels of the chip
ALIGNMENT: Alignment = dlib_alignment(SIDE, padding=0.25)
_DARK = 8.0  # gray levels: keeps the noise of a flat chip from being blown up


class Uprightness(nn.Module):
    """uint8 [N, 48, 48, 3] rgb -> float32 [N], in (0, 1); 1: surely an upright, aligned face.

    Only gray levels count, and only their differences within the chip: how dark or flat a photo is says nothing.
    Positions count up to the last layer, since an aligned face has its eyes where the template has them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _block(1, 16, stride=2),  # [N, 16, 24, 24]
            _block(16, 32, stride=2),  # 12
            _block(32, 32, stride=1),
            _block(32, 48, stride=2),  # 6
            _block(48, 48, stride=1),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 6 * 6, 1))

    def forward(self, chips: Tensor) -> Tensor:
        gray = chips.to(torch.float32).mean(dim=3).unsqueeze(1)
        return torch.sigmoid(self.logits(gray))

    def logits(self, gray: Tensor) -> Tensor:
        """float [N, 1, 48, 48], levels of 0 to 255 -> float [N]."""
        centred = gray - gray.mean(dim=(2, 3), keepdim=True)
        spread = centred.square().mean(dim=(2, 3), keepdim=True).sqrt()
        result: Tensor = self.head(self.features(centred / (spread + _DARK))).squeeze(1)
        return result


def _block(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
