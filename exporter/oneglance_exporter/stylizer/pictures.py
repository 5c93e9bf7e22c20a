"""Style pictures with what is known of them, and the photos that a stylizer is trained on."""

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from oneglance_core.manifests import Style
from oneglance_exporter.data import read_photo, read_photos
from oneglance_exporter.errors import DataError, SettingsError

Rgb = npt.NDArray[np.uint8]
_Found = tuple[Style, Path, float | None]  # what is told of it, its picture, its own beta
MOST_PHOTOS = 4000
_PHOTO_PIXELS = 640 * 640  # kept of each, in memory
_LONGEST_STYLE = 16  # its longer side by its shorter: J of a thin strip, enlarged, would take all memory
_LARGEST_SCALE = 2.5  # a crop shows at least 1/2.5 of the photo's shorter side
_TOML = """\
[[style]]
picture = "wave.jpg"                       # beside this file
name = "wave"
title = "Katsushika Hokusai: The Great Wave off Kanagawa, 1831"
source = "where the picture is from"
license = "public domain"
beta = 0.002                               # instead of --beta, for this one
"""


@dataclass(frozen=True, slots=True)
class StylePicture:
    """A style: what the manifest tells of it, its picture, uint8 [H, W, 3] rgb, and beta if it has one of its own."""

    style: Style
    picture: Rgb
    beta: float | None = None


def read_styles(paths: Sequence[str], size: int) -> list[StylePicture]:
    """The styles of pictures, named by their files, and of ``.toml`` lists; shorter side brought to ``size`` pixels.

    Raises DataError for a file that isn't there or can't be read, SettingsError for a name that is used twice.
    """
    found = [
        style for path in map(Path, paths) for style in (_listed(path) if path.suffix == ".toml" else [_named(path)])
    ]
    names = [style.name for style, _, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"two styles are named {name!r}; name them in a .toml:\n\n{_TOML}")
    return [StylePicture(style, _style_picture(path, size), beta) for style, path, beta in found]


def read_picture(path: Path, size: int | None = None) -> Rgb:
    """One picture, upright, uint8 [H, W, 3] rgb; with ``size``, its shorter side brought to that. Raises DataError."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise DataError(f"{path}: can't be read: {error}") from error
    picture = read_photo(content, str(path))
    if size is None:
        return picture
    return np.asarray(_resized(Image.fromarray(picture), size / min(picture.shape[:2])), dtype=np.uint8)


def _style_picture(path: Path, size: int) -> Rgb:
    picture = Image.fromarray(read_picture(path))
    if max(picture.size) > _LONGEST_STYLE * min(picture.size):
        raise DataError(
            f"{path}: {picture.width} x {picture.height} is too thin for a style, {_LONGEST_STYLE} to 1 at most"
        )
    return np.asarray(_resized(picture, size / min(picture.size)), dtype=np.uint8)


def to_tensor(picture: Rgb) -> Tensor:
    """uint8 [H, W, 3] or [B, H, W, 3] -> float32 [1 or B, 3, H, W] in [0, 1]."""
    batch = picture[np.newaxis] if picture.ndim == 3 else picture
    return torch.tensor(batch).permute(0, 3, 1, 2).float().div(255)


def to_pictures(values: Tensor) -> npt.NDArray[np.uint8]:
    """float [B, 3, H, W] in [0, 1] -> uint8 [B, H, W, 3], rounded."""
    array: npt.NDArray[np.uint8] = (
        values.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    )
    return array


class Photos:
    """Crops of photos, each a function of (seed, step)."""

    def __init__(self, paths: Sequence[str], seed: int) -> None:
        self._photos = [Image.fromarray(photo) for photo in read_photos(paths, MOST_PHOTOS, _PHOTO_PIXELS)]
        self._seed = seed

    def __len__(self) -> int:
        return len(self._photos)

    def crops(self, step: int, count: int, side: int) -> Rgb:
        """uint8 [count, side, side, 3]: random photos at a random scale and place, every second one mirrored."""
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


def fitted(photo: Image.Image, side: int, multiple: int = 4) -> Rgb:
    """The photo with its longer side at ``side``, both rounded to multiples."""
    scale = side / max(photo.size)
    width, height = (max(4 * multiple, round(length * scale / multiple) * multiple) for length in photo.size)
    return np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS))


def _entry(entry: dict[str, Any], folder: Path) -> _Found:
    picture, beta = folder / entry.pop("picture"), entry.pop("beta", None)
    if beta is not None and (isinstance(beta, bool) or not isinstance(beta, float | int) or not 0 < beta < 1e30):
        raise ValueError("beta must be a number above 0 and below 1e30")
    return Style(**entry), picture, beta


def _resized(picture: Image.Image, scale: float) -> Image.Image:
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _named(path: Path) -> _Found:
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:63]
    if not name:
        raise SettingsError(f"{path}: its name makes no name of a style; name it in a .toml:\n\n{_TOML}")
    title = path.stem.encode(errors="replace").decode()  # a file's name may hold what no text does
    return Style(name=name, title=title), path, None


def _listed(path: Path) -> list[_Found]:
    try:
        entries = tomllib.loads(path.read_text("utf-8"))["style"]
        return [_entry(dict(entry), path.parent) for entry in entries]
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: not a list of styles ({error}); expected\n\n{_TOML}") from error
