"""The files that a command writes: checked before the work, replaced as a whole after it."""

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from oneglance_core.files import replacing
from oneglance_exporter.errors import DataError, SettingsError

if TYPE_CHECKING:  # torch comes with it
    from oneglance_exporter.perceptual.pictures import Rgb


def check_outputs(outputs: Mapping[str, tuple[Path, Sequence[str]]], inputs: Sequence[Path]) -> None:
    """Each output, by its option, with the suffixes it may have. Raises SettingsError."""
    taken = {path.resolve(): "an input" for path in inputs}
    for option, (path, suffixes) in outputs.items():
        if path.suffix.lower() not in suffixes:
            raise SettingsError(f"{option} {path}: must end in {' or '.join(suffixes)}")
        if path.is_dir():
            raise SettingsError(f"{option} {path}: is a folder")
        if path.resolve() in taken:
            raise SettingsError(f"{option} {path}: is {taken[path.resolve()]}, too")
        taken[path.resolve()] = f"the file of {option}"
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise SettingsError(f"{option} {path}: can't be written: {error.strerror}") from error


def write(path: Path, content: bytes) -> None:
    """Replace a file as a whole: readers see the old or the new. Raises DataError."""
    try:
        with replacing(path) as fresh:
            fresh.write_bytes(content)
    except OSError as error:
        raise DataError(f"{path}: can't be written: {error}") from error


def png(picture: "Rgb") -> bytes:
    """A picture uint8 [H, W, 3] as a file, to the bit."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
