"""Show how a training goes: a live bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Step(Protocol):
    """What can be shown: how far, in [0, 1], and ``str``."""

    @property
    def done(self) -> float: ...


@contextmanager
def shown(every_seconds: float = 10.0) -> Iterator[Callable[[Step], None]]:
    """A function that shows each report it is given, on standard error."""
    if not sys.stderr.isatty():
        last = 0.0

        def line(report: Step) -> None:
            nonlocal last
            if report.done >= 1 or time.monotonic() - last > every_seconds:
                last = time.monotonic()
                print(f"{report.done:6.1%}  {report}", file=sys.stderr, flush=True)

        yield line
        return

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>4.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("reading pictures", total=1.0)
        yield lambda report: progress.update(task, completed=report.done, description=str(report))
