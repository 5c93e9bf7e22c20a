"""Within-class whitening: a last linear map, under which examples of one subject vary alike in every direction.

Hatch, Kajarekar and Stolcke 2006, "Within-class covariance normalization for SVM-based speaker recognition", eq. 7,
with the covariance drawn towards a multiple of the identity, for there may be fewer examples than numbers.
"""

import numpy as np
import torch
from torch import nn

from oneglance_exporter.data.examples import Examples
from oneglance_exporter.encoder.network import Encoder
from oneglance_exporter.errors import SettingsError

_BLOCK = 256


@torch.no_grad()
def whiten(encoder: Encoder, examples: Examples, shrinkage: float) -> None:
    """Put the map behind the backbone of ``encoder``, which is in eval mode and on the CPU.

    shrinkage: in (0, 1]; 1 leaves the directions as they are, and only takes the mean away.
    Raises SettingsError when no two examples of one subject differ.
    """
    blocks = (examples.inputs[i : i + _BLOCK] for i in range(0, len(examples.inputs), _BLOCK))
    tensors = (torch.from_numpy(np.ascontiguousarray(block)) for block in blocks)
    rows = torch.cat([encoder.backbone(encoder.prepared(block)).double() for block in tensors]).numpy()
    dimension = rows.shape[1]
    within = np.zeros((dimension, dimension))
    several = [members for members in examples.members() if len(members) > 1]
    for members in several:
        apart = rows[members] - rows[members].mean(axis=0)
        within += apart.T @ apart / len(members) / len(several)
    size = np.trace(within) / dimension
    if not size > 0:
        raise SettingsError("--whiten: in the data that were trained on, no two examples of one subject differ")
    spread = (1 - shrinkage) * within + shrinkage * size * np.eye(dimension)
    directions = np.linalg.cholesky(np.linalg.inv(spread / size)).T  # [dimension, dimension]
    last = nn.Linear(dimension, dimension)
    last.weight.copy_(torch.from_numpy(directions))
    last.bias.copy_(torch.from_numpy(-directions @ rows.mean(axis=0)))
    encoder.backbone = nn.Sequential(encoder.backbone, last).eval()
