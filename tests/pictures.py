"""Pictures for tests."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.models import SIDE


def png(array: npt.NDArray[Any], **options: Any) -> bytes:
    """A PNG of uint8 [H, W], [H, W, 1] or [H, W, C]."""
    picture = Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def picture(seed: int) -> npt.NDArray[np.uint8]:
    """A random picture for the pixels model, uint8 [8, 8, 1]; the same for the same seed."""
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 1), dtype=np.uint8)
