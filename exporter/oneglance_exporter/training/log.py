"""The log of a run: ``log.jsonl`` in the run folder, one JSON object per line, in order of steps."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from oneglance_exporter.training.checkpoint import writing

LOG_FILE = "log.jsonl"


class RunLog:
    """Appends lines to the log of ``run``, from ``step`` on.

    Lines of later steps are removed at the start: they were written after the last checkpoint, and the resumed run
    writes them again. So is a last line that was cut off by a kill. Creates the folder. Raises RunError.
    """

    def __init__(self, run: Path, step: int) -> None:
        self._run = run
        with writing(run):
            run.mkdir(parents=True, exist_ok=True)
            # Unbuffered, so that a killed process loses no line.
            self._file = open(run / LOG_FILE, "ab+", buffering=0)  # noqa: SIM115  # closed by __exit__
            self._file.seek(0)
            self._file.truncate(_length_up_to(self._file.readall(), step))

    def write(self, line: Mapping[str, object]) -> None:
        """Append one line; ``line`` has the key "step". Raises RunError."""
        with writing(self._run):
            self._file.write(json.dumps(line).encode() + b"\n")

    def sync(self) -> None:
        """Return when all lines are on the disk: to be called before a checkpoint of their steps. Raises RunError."""
        with writing(self._run):
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _length_up_to(content: bytes, step: int) -> int:
    """The length in bytes of the lines before the first one that is cut off or belongs to a step after ``step``."""
    length = 0
    for line in content.splitlines(keepends=True):
        try:
            late = json.loads(line)["step"] > step
        except (ValueError, KeyError, TypeError):
            late = True
        if late or not line.endswith(b"\n"):
            break
        length += len(line)
    return length
