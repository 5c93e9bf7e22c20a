"""Which data a run was begun with: a digest in its checkpoint, and beside it the list of files that it covers.

data.csv    part (data or validation), subject, file, SHA-256 of the encoder's input; in the order of the rows
"""

import csv
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from oneglance_core.files import replacing
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.errors import RunError

DATA_FILE = "data.csv"
_COLUMNS = ("part", "subject", "file", "sha256")
Line = tuple[str, str, str, str]


class Identity:
    """Of the parts of a run's data, by name. Covers what is trained on: subjects, inputs, and their order.

    It doesn't cover where the files lie, or what they are called.
    """

    def __init__(self, parts: Mapping[str, Examples]) -> None:
        self.lines: list[Line] = [
            (part, examples.subjects[subject], file, hashlib.sha256(np.ascontiguousarray(row).data).hexdigest())
            for part, examples in parts.items()
            for subject, file, row in zip(examples.subject_of, examples.files, examples.inputs, strict=True)
        ]
        covered = "".join(f"{part}\0{subject}\0{sha}\n" for part, subject, _, sha in self.lines)
        self.digest = hashlib.sha256(covered.encode()).hexdigest()

    def write(self, run: Path) -> None:
        """Raises OSError."""
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(_COLUMNS)
        rows.writerows(self.lines)
        with replacing(run / DATA_FILE) as fresh:
            fresh.write_text(text.getvalue(), encoding="utf-8")

    def check(self, run: Path, digest: str) -> None:
        """Raise RunError, which says what is new, gone or changed, unless the run in ``run`` was begun with these."""
        if digest == self.digest:
            return
        raise RunError(
            f"{run}: these are not the data that the run was begun with: {_differences(_read(run), self.lines)}; "
            "bring them back, or begin another run (--init goes on from this one's weights)"
        )


def _read(run: Path) -> list[Line]:
    """Empty where the list is gone or damaged: the digest alone decides."""
    try:
        with open(run / DATA_FILE, encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
    except (OSError, ValueError, csv.Error):
        return []
    if tuple(header) != _COLUMNS or any(len(line) != len(_COLUMNS) for line in lines):
        return []
    return [(part, subject, name, sha) for part, subject, name, sha in lines]


def _differences(before: list[Line], now: list[Line]) -> str:
    old = {(part, subject, sha): file for part, subject, file, sha in before}
    new = {(part, subject, sha): file for part, subject, file, sha in now}
    gone = [file for key, file in old.items() if key not in new]
    added = [file for key, file in new.items() if key not in old]
    told = [
        f"{len(files)} {what} ({files[0]}{', ...' if len(files) > 1 else ''})"
        for what, files in (("gone or changed", gone), ("new or changed", added))
        if files and before
    ]
    return ", ".join(told) or "the files, their subjects or their order differ"
