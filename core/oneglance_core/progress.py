"""Show how a training goes: a live bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


class Step(Protocol):
    """What can be shown: how far, in [0, 1], and ``str``."""

    @property
    def done(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Report:
    """One step of an encoder's training. ``done`` is in [0, 1]; ``validation_error`` is the latest, if any."""

    step: int
    done: float
    elapsed_seconds: float
    loss: float
    active_triplets: int
    validation_error: float | None

    def __str__(self) -> str:
        error = "" if self.validation_error is None else f"  one-shot error {self.validation_error:.1%}"
        rate = self.step / max(self.elapsed_seconds, 1e-9)
        return (
            f"step {self.step}  loss {self.loss:.4f}  active triplets {self.active_triplets}  {rate:.1f} steps/s{error}"
        )


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
