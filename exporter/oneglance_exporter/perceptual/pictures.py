"""Pictures as the loss network and the stylizer take them: read, brought to a size, turned into tensors and back."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from oneglance_exporter.data.photos import read_photo
from oneglance_exporter.errors import DataError

Rgb = npt.NDArray[np.uint8]
"""uint8 [H, W, 3] or [B, H, W, 3], red first."""


def read_picture(path: Path, size: int | None = None) -> Rgb:
    """One picture, upright, uint8 [H, W, 3]; with ``size``, brought to that on the shorter side. Raises DataError."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise DataError(f"{path}: can't be read: {error}") from error
    picture = read_photo(content, str(path))
    return picture if size is None else with_shorter_side(picture, size)


def with_shorter_side(picture: Rgb, size: int) -> Rgb:
    """The picture brought to ``size`` pixels on the shorter side: uint8 [H, W, 3]."""
    image = Image.fromarray(picture)
    width, height = (max(1, round(length * (size / min(image.size)))) for length in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def fitted(photo: Image.Image, side: int, multiple: int = 4) -> Rgb:
    """The photo brought to ``side`` pixels on the longer side: uint8 [H, W, 3], H and W multiples of ``multiple``."""
    scale = side / max(photo.size)
    width, height = (max(4 * multiple, round(length * scale / multiple) * multiple) for length in photo.size)
    return np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS))


def to_tensor(picture: Rgb) -> Tensor:
    """uint8 [H, W, 3] or [B, H, W, 3] -> float32 [1 or B, 3, H, W] in [0, 1]."""
    batch = picture[np.newaxis] if picture.ndim == 3 else picture
    return torch.tensor(batch).permute(0, 3, 1, 2).float().div(255)


def to_pictures(values: Tensor) -> npt.NDArray[np.uint8]:
    """float [B, 3, H, W] in [0, 1] -> uint8 [B, H, W, 3], rounded."""
    array: npt.NDArray[np.uint8] = (
        values.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    )
    return array
