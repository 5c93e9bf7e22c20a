"""Which files of a folder or a zip are taken for pictures. What they really are, their bytes decide."""

from pathlib import PurePath

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")


def is_picture(file: PurePath) -> bool:
    """By its suffix, in capitals or not. Hidden files are none: macOS puts a ``._name.png`` beside each name.png."""
    return file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")
