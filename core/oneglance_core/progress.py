"""Show on standard error how far slow work is: a bar where rich is installed, else one line that is renewed; and where
standard error is no terminal, a line now and then."""

import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self

from oneglance_core.printable import printable

NOW_AND_THEN_SECONDS = 10.0
LIVE_SECONDS = 0.2
WIPE = "\r\x1b[K"


class Step(Protocol):
    """One step of a training: how far it is, in [0, 1], and in words by ``str``."""

    @property
    def done(self) -> float: ...


class Progress:
    """``with Progress() as progress: progress.show(1, 4, "1 of 4 pictures")``. Nothing appears before the first show,
    but ``first`` on a terminal.

    live: whether standard error is a terminal. lasting: the first and the last state are shown in any case, and the
    last one stays on a terminal; otherwise it is wiped away when the block ends.
    """

    def __init__(self, first: str = "", *, lasting: bool = False) -> None:
        self._first, self._lasting = first, lasting
        self.live = sys.stderr.isatty()
        self._shown_at = -float("inf") if lasting else time.monotonic()
        self._on_line = False
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self.live:
            self._bar = _rich_bar(transient=not self._lasting)
            if self._first:
                self.show(0, None, self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._on_line and self._lasting:
            print(file=sys.stderr)
            self._on_line = False
        self._wipe()

    def show(self, done: float, total: float | None, words: str) -> None:
        """Where it stands, of ``total`` if that is known. Call it often; it is shown as often as helps."""
        if self._bar is not None:
            self._bar.start()
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, description=words)
            return
        since = time.monotonic() - self._shown_at
        last = self._lasting and total is not None and done >= total
        if since < (LIVE_SECONDS if self.live else NOW_AND_THEN_SECONDS) and not last:
            return
        self._shown_at = time.monotonic()
        percent = f"{done / total:.0%}, " if total else ""
        print(f"{WIPE if self.live else ''}{percent}{words}", end="" if self.live else "\n", file=sys.stderr)
        sys.stderr.flush()
        self._on_line = self.live

    def step(self, step: Step) -> None:
        """Where a training stands."""
        self.show(step.done, 1, str(step))

    def say(self, text: str, *, error: bool = False) -> None:
        """A line that stays, on stdout or stderr."""
        self._wipe()
        print(printable(text, lines=True), file=sys.stderr if error else sys.stdout, flush=True)

    def _wipe(self) -> None:
        if self._on_line:
            print(WIPE, end="", file=sys.stderr, flush=True)
            self._on_line = False


def _rich_bar(*, transient: bool) -> Any:
    """None where rich isn't installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ModuleNotFoundError:
        return None
    bar = Bar(
        BarColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=transient,
        redirect_stdout=sys.stdout.isatty(),  # or what is piped elsewhere would come out on stderr
    )
    bar.add_task("", total=None)
    return bar
