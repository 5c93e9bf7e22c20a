"""J by evaluation: a point of the curve, and the file it is logged to."""

import csv
import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from oneglance_exporter.errors import DataError


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation of J, at pixels in [0, 1].

    evaluation: the first is 1. seconds: since the first began. width, height: J of one size isn't comparable with J of
    another. total = alpha * content + beta * style, these being J_content and J_style.
    """

    evaluation: int
    seconds: float
    width: int
    height: int
    total: float
    content: float
    style: float


class Log(Protocol):
    """Where points go."""

    def __call__(self, point: Point) -> None: ...


@contextmanager
def logged(path: Path | None) -> Iterator[Log]:
    """A function that appends each point to a new file, at once: ``.jsonl`` or ``.csv``. None logs nowhere.

    Raises DataError if the file can't be written.
    """
    if path is None:
        yield lambda point: None
        return
    names = [field.name for field in dataclasses.fields(Point)]
    try:
        file = open(path, "w", newline="", buffering=1, encoding="utf-8")  # noqa: SIM115  # closed below
    except OSError as error:
        raise DataError(f"{path}: can't be written: {error}") from error
    with file:
        table = csv.DictWriter(file, names)
        as_csv = path.suffix.lower() == ".csv"

        def write(point: Point) -> None:
            row = dataclasses.asdict(point)
            try:
                if as_csv:
                    table.writerow(row)
                else:
                    file.write(json.dumps(row) + "\n")
            except OSError as error:
                raise DataError(f"{path}: can't be written: {error}") from error

        if as_csv:
            table.writeheader()
        yield write
