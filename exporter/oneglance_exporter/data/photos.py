"""Photos, whoever they show: of folders and zips, at their own size."""

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from oneglance_core.pictures import PictureError, PictureLimits, decode_photo
from oneglance_exporter.data.files import unlabelled_files
from oneglance_exporter.errors import DataError

LIMITS = PictureLimits(max_image_bytes=sys.maxsize, max_image_pixels=64_000_000)


def read_photos(paths: Sequence[str | os.PathLike[str]], most: int, pixels: int) -> list[npt.NDArray[np.uint8]]:
    """Photos uint8 [H, W, 3] rgb of ``paths``, folders or zips of pictures, whoever they show.

    Of more than ``most`` an even choice is taken; those of more than ``pixels`` pixels are shrunk to that.
    Raises DataError for a path that isn't there, one without pictures, and a picture that can't be decoded.
    """
    files = [(f"{path}: {file}", read) for path in map(Path, paths) for file, read in unlabelled_files(path)]
    photos = []
    for name, read in files[:: -(-len(files) // most)]:
        photo = Image.fromarray(read_photo(read(), name))
        scale = math.sqrt(pixels / (photo.width * photo.height))
        if scale < 1:
            size = max(1, int(photo.width * scale)), max(1, int(photo.height * scale))
            photo = photo.resize(size, Image.Resampling.BILINEAR)
        photos.append(np.asarray(photo, dtype=np.uint8))
    return photos


def read_photo(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """One photo, upright, uint8 [H, W, 3] rgb. Raises DataError, which says ``name``."""
    with decoding(name):
        return decode_photo(content, LIMITS)


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """A picture that can't be used is a DataError, which says ``name``."""
    try:
        yield
    except PictureError as error:
        raise DataError(f"{name}: can't be decoded: {error}") from error
