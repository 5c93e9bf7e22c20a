"""Which files of a folder or a zip are taken for pictures. What they really are, their bytes decide."""

from collections.abc import Sequence
from pathlib import PurePath

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".heic", ".heif", ".avif"),
    *(".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"),
)


def is_picture(file: PurePath) -> bool:
    """By its suffix, in capitals or not. Hidden files are none: macOS puts a ``._name.png`` beside each name.png."""
    return ends_in(file, PICTURE_SUFFIXES)


def ends_in(file: PurePath, suffixes: Sequence[str]) -> bool:
    """Whether ``file`` has one of ``suffixes``, in capitals or not, and isn't hidden."""
    return file.suffix.lower() in suffixes and not file.name.startswith(".")
