"""J by evaluation: a point of the curve, and the file it is logged to."""

import contextlib
import dataclasses
import io
import json
from collections.abc import Iterator
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


@contextlib.contextmanager
def logged(path: Path | None) -> Iterator[Log]:
    """A function that appends each point to a new file, at once: ``.csv``, or JSON lines. None logs nowhere.

    An old file is replaced when the first point comes. The function raises DataError if the file can't be written.
    """
    if path is None:
        yield lambda point: None
        return
    as_csv = path.suffix.lower() == ".csv"
    with contextlib.ExitStack() as closed_at_the_end:
        file: io.FileIO | None = None

        def write(point: Point) -> None:
            nonlocal file
            row = dataclasses.asdict(point)
            lines = [",".join(map(str, row.values())) if as_csv else json.dumps(row)]
            try:
                if file is None:
                    file = closed_at_the_end.enter_context(open(path, "wb", buffering=0))
                    lines = [",".join(row), *lines] if as_csv else lines
                file.write("".join(f"{line}\n" for line in lines).encode())
            except OSError as error:
                raise DataError(f"{path}: can't be written: {error}") from error

        yield write
