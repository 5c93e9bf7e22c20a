"""How far it is, on stderr: a bar where rich is installed, else a line that is renewed, or a line now and then."""

import sys
import time
from types import TracebackType
from typing import Any, Self

NOW_AND_THEN_SECONDS = 10.0
LIVE_SECONDS = 0.2
WIPE = "\r\x1b[K"


class Progress:
    """``with Progress() as progress``."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown_at = time.monotonic()
        self._on_line = False
        self._bar: Any = _rich_bar() if self._live else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._wipe()

    def show(self, done: float, total: float | None, words: str) -> None:
        """Where it stands, of ``total`` if that is known; told as often as is good."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, description=words)
            return
        if time.monotonic() - self._shown_at < (LIVE_SECONDS if self._live else NOW_AND_THEN_SECONDS):
            return
        self._shown_at = time.monotonic()
        percent = f"{done / total:.0%}, " if total else ""
        print(f"{WIPE if self._live else ''}{percent}{words}", end="" if self._live else "\n", file=sys.stderr)
        sys.stderr.flush()
        self._on_line = self._live

    def say(self, text: str, *, error: bool = False) -> None:
        """A line that stays, on stdout or stderr."""
        self._wipe()
        print(text, file=sys.stderr if error else sys.stdout, flush=True)

    def _wipe(self) -> None:
        if self._on_line:
            print(WIPE, end="", file=sys.stderr, flush=True)
            self._on_line = False


def _rich_bar() -> Any:
    """None where rich isn't installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ModuleNotFoundError:
        return None
    bar = Bar(
        BarColumn(),
        TextColumn("{task.description}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # or what is piped elsewhere would come out on stderr
    )
    bar.add_task("", total=None)
    return bar
