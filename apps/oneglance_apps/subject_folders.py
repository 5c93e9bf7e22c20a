"""Pictures in one folder per subject: ``SUBJECT/1.png``, or one level deeper, ``GROUP/SUBJECT/1.png``."""

from collections.abc import Iterator
from pathlib import Path

from oneglance_core.picture_files import is_picture


def subject_folders(folder: Path) -> Iterator[tuple[tuple[str, ...], list[Path]]]:
    """The folders below ``folder`` that lead to each subject's pictures, and these, sorted; no hidden ones."""
    for place in sorted({*folder.glob("*/"), *folder.glob("*/*/")}):
        parts = place.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or not place.is_dir():
            continue
        files = sorted(file for file in place.iterdir() if is_picture(file) and file.is_file())
        if files:
            yield parts, files
