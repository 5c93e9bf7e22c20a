"""The log of a run: ``log.jsonl`` in the run folder, one JSON object per line, in order of steps; ``log.csv``, the same
as a table; and ``tensorboard/``, the same for TensorBoard, where that is asked for."""

import csv
import errno
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from oneglance_exporter.errors import SettingsError
from oneglance_exporter.training.checkpoint import writing

LOG_FILE = "log.jsonl"
TABLE_FILE = "log.csv"
TENSORBOARD_FOLDER = "tensorboard"


class RunLog:
    """Appends lines to the log of ``run``, from ``step`` on.

    Lines of later steps are removed at the start: they were written after the last checkpoint, and the resumed run
    writes them again. So is a last line that was cut off by a kill. The table is made anew from the lines. Creates the
    folder. Raises RunError; SettingsError for ``tensorboard`` where that isn't installed.
    """

    def __init__(self, run: Path, step: int, *, tensorboard: bool = False) -> None:
        self._run = run
        self._columns: list[str] = []
        self._events = _events(run, step) if tensorboard else None
        with writing(run):
            run.mkdir(parents=True, exist_ok=True)
            # Unbuffered, so that a killed process loses no line.
            self._file = open(run / LOG_FILE, "ab+", buffering=0)  # noqa: SIM115  # closed by __exit__
            self._file.seek(0)
            content = self._file.readall()
            length = _length_up_to(content, step)
            self._file.truncate(length)
            self._table = open(run / TABLE_FILE, "wb", buffering=0)  # noqa: SIM115
            for line in content[:length].splitlines():
                _append(self._table, self._row(json.loads(line)))

    def write(self, line: Mapping[str, object]) -> None:
        """Append one line; ``line`` has the key "step". A number that isn't finite is null. Raises RunError."""
        plain = _finite(line)
        with writing(self._run):
            _append(self._file, json.dumps(plain, allow_nan=False).encode() + b"\n")
            _append(self._table, self._row(plain))
            if self._events is not None:
                for name, value in _flat(plain).items():
                    if name != "step" and value is not None:
                        self._events.add_scalar(name, value, plain["step"])
                self._events.flush()

    def sync(self) -> None:
        """Return when all lines are on the disk: to be called before a checkpoint of their steps. Raises RunError."""
        with writing(self._run):
            os.fsync(self._file.fileno())

    def _row(self, line: dict[str, Any]) -> bytes:
        """A line of the table; before the first, its header."""
        flat = _flat(line)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self._columns:
            self._columns = list(flat)
            writer.writerow(self._columns)
        writer.writerow([flat.get(column, "") for column in self._columns])
        return text.getvalue().encode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._table.close()
        if self._events is not None:
            with writing(self._run):
                self._events.close()


def _events(run: Path, step: int) -> Any:
    """TensorBoard's writer. What was written of steps after ``step``, which are done again, it will not show."""
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise SettingsError("--tensorboard: pip install 'oneglance[tensorboard]'") from error
    with writing(run):
        return SummaryWriter(str(run / TENSORBOARD_FOLDER), purge_step=step + 1)


def _append(file: BinaryIO, content: bytes) -> None:
    """Write all of it: on a disk that is nearly full, a first part fits. Raises OSError."""
    if file.write(content) < len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _flat(line: Mapping[str, Any]) -> dict[str, Any]:
    """Values inside a value are "outer.inner"."""
    flat: dict[str, Any] = {}
    for name, value in line.items():
        flat |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _finite(value: Any) -> Any:
    """``value`` with None for every number that isn't finite: JSON has no other."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
