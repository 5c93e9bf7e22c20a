"""Crops of photos: what a stylizer is trained on."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from oneglance_exporter.data.photos import read_photos
from oneglance_exporter.perceptual.pictures import Rgb, fitted

MOST_PHOTOS = 4000
_PHOTO_PIXELS = 640 * 640  # kept of each, in memory
_FLAT = 0.25  # of the faded crops
_POWERS = (1.5, 3.0)  # least of exposure, and how far above it may be: x ** power
_LARGEST_SCALE = 2.5  # a crop shows at least 1/2.5 of the photo's shorter side


class PhotoCrops:
    """Photos of folders and zips, and crops of them. Raises DataError as ``read_photos`` does."""

    def __init__(self, paths: Sequence[str], seed: int) -> None:
        self._photos = [Image.fromarray(photo) for photo in read_photos(paths, MOST_PHOTOS, _PHOTO_PIXELS)]
        self._seed = seed

    def __len__(self) -> int:
        return len(self._photos)

    def crops(self, step: int, count: int, side: int) -> Rgb:
        """uint8 [count, side, side, 3], a function of (seed, step).

        The photo, the scale and the place are random; about half of the crops are mirrored.
        """
        random = np.random.default_rng((self._seed, step))
        out = np.empty((count, side, side, 3), np.uint8)
        for crop in out:
            photo = self._photos[random.integers(len(self._photos))]
            window = min(photo.size) / random.uniform(1, _LARGEST_SCALE)  # of the photo's pixels
            left, top = (random.uniform(0, length - window) for length in photo.size)
            box = (left, top, left + window, top + window)
            seen = np.asarray(photo.resize((side, side), Image.Resampling.BICUBIC, box))
            crop[:] = seen[:, ::-1] if random.random() < 0.5 else seen
        return out

    def first(self, count: int, side: int) -> list[Rgb]:
        """An even choice of whole photos, longer side ``side`` and sides multiples of 4, for contact sheets."""
        chosen = self._photos[:: max(1, math.ceil(len(self._photos) / count))][:count]
        return [fitted(photo, side) for photo in chosen]


def exposed(crops: Tensor, share: float, random: torch.Generator) -> Tensor:
    """The crops [B, 3, H, W] in [0, 1], a share of them very dark or very light: contrast is left at that end alone."""
    exposing, power, light = torch.rand(3, len(crops), generator=random).view(3, -1, 1, 1, 1)
    dark = crops.where(light < 0.5, 1 - crops) ** (_POWERS[0] + power * _POWERS[1])
    return torch.where(exposing < share, dark.where(light < 0.5, 1 - dark), crops)


def faded(crops: Tensor, share: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """The crops [B, 3, H, W], a share of them closer to a grey at random, and of these _FLAT that grey alone; and the
    contrast left of each, [B], of 1."""
    fading, left, level = torch.rand(3, len(crops), generator=random)
    contrast = ((left - _FLAT) / (1 - _FLAT)).clamp(min=0).where(fading < share, 1.0)
    shown = contrast.view(-1, 1, 1, 1)
    return crops * shown + level.view(-1, 1, 1, 1) * (1 - shown), contrast
