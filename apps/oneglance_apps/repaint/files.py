"""Output files: their formats by name, and whether one may be written."""

from pathlib import Path

from oneglance.client.requests import PictureFormatName
from oneglance_apps.picture_formats import FORMAT_OF_SUFFIX

VIDEO_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Suffixes of videos that can be written, and FFmpeg's name of the container format of each."""


def picture_format(out: Path, wanted: PictureFormatName = "") -> PictureFormatName:
    """The format of an output picture by its suffix. Raises ValueError if it has none, or another than ``wanted``."""
    named = FORMAT_OF_SUFFIX.get(out.suffix.lower())
    if named is None and (out.suffix or not wanted):
        raise ValueError(f"{out}: a picture that is written ends in {', '.join(FORMAT_OF_SUFFIX)}")
    if wanted and named and named != wanted:
        raise ValueError(f"{out}: its name says {named}, --format says {wanted}")
    return named or wanted


def check_out(out: Path, source: Path | None, *, overwrite: bool) -> None:
    """Raises FileExistsError if ``out`` exists, unless ``overwrite``; ValueError if it is ``source``, or no file."""
    if not out.exists():
        return
    if not out.is_file():
        raise ValueError(f"{out}: not a file")
    if source is not None and out.samefile(source):
        raise ValueError(f"{out}: would replace what it is made of")
    if not overwrite:
        raise FileExistsError(f"{out}: exists; --overwrite replaces it")
