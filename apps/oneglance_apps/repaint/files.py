"""Files that come out: what their names say, and which may not be replaced."""

from pathlib import Path

from oneglance.client.requests import PictureFormatName

FORMATS: dict[str, PictureFormatName] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
FILMS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Suffixes of videos that can be written, and FFmpeg's names of their containers."""


def picture_format(out: Path, wanted: PictureFormatName = "") -> PictureFormatName:
    """The format that a picture called ``out`` has. Raises ValueError when that is none, or not the one ``wanted``."""
    told = FORMATS.get(out.suffix.lower())
    if told is None and (out.suffix or not wanted):
        raise ValueError(f"{out}: a picture that is written ends in {', '.join(FORMATS)}")
    if wanted and told and told != wanted:
        raise ValueError(f"{out}: its name says {told}, --format says {wanted}")
    return told or wanted


def check_out(out: Path, source: Path | None, *, overwrite: bool) -> None:
    """Raises FileExistsError when ``out`` is there and may not be replaced, ValueError when it never may."""
    if not out.exists():
        return
    if not out.is_file():
        raise ValueError(f"{out}: not a file")
    if source is not None and out.samefile(source):
        raise ValueError(f"{out}: would replace what it is made of")
    if not overwrite:
        raise FileExistsError(f"{out}: exists; --overwrite replaces it")
