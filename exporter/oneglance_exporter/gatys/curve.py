"""J by evaluation: a point of the curve, and the file it is logged to."""

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
    """A function that appends each point to a new file, at once: ``.csv``, or JSON lines. None logs nowhere.

    Raises DataError if the file can't be written.
    """
    if path is None:
        yield lambda point: None
        return
    as_csv = path.suffix.lower() == ".csv"
    try:
        file = open(path, "wb", buffering=0)  # noqa: SIM115  # closed below
    except OSError as error:
        raise DataError(f"{path}: can't be written: {error}") from error

    def line(text: str) -> None:
        try:
            file.write(text.encode() + b"\n")
        except OSError as error:
            raise DataError(f"{path}: can't be written: {error}") from error

    def write(point: Point) -> None:
        row = dataclasses.asdict(point)
        line(",".join(map(str, row.values())) if as_csv else json.dumps(row))

    with file:
        if as_csv:
            line(",".join(field.name for field in dataclasses.fields(Point)))
        yield write
