"""Print the steps of the demo and their progress."""

import sys
from time import monotonic
from typing import TextIO

_LIVE_SECONDS = 0.1
_PLAIN_SECONDS = 5.0


class StepPrinter:
    """Prints numbered steps, and the results under each, as plain text.

    On a terminal progress is one line that is overwritten; elsewhere a new line every few seconds.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._live = self._out.isatty()
        self._steps = 0
        self._told_at = monotonic()
        self._shown = 0

    def title(self, text: str) -> None:
        self._print(text)

    def step(self, text: str) -> None:
        """Begin the next step."""
        self._steps += 1
        self._print(f"\n{self._steps}. {text}")

    def say(self, text: str) -> None:
        """Print a result of the step; each line is indented."""
        self._print("\n".join(f"   {line}" for line in text.splitlines()))

    def progress(self, verb: str, done: int, total: int) -> None:
        """Show the progress of a slow step; calls that come too soon are ignored."""
        if monotonic() - self._told_at < (_LIVE_SECONDS if self._live else _PLAIN_SECONDS):
            return
        line = f"   {verb} {done:,} of {total:,}"
        if self._live:
            self._wipe()
            self._out.write(line)
            self._out.flush()
            self._told_at, self._shown = monotonic(), len(line)
        else:
            self._print(line)

    def _print(self, text: str) -> None:
        self._wipe()
        self._out.write(f"{text}\n")
        self._out.flush()
        self._told_at = monotonic()

    def _wipe(self) -> None:
        if self._shown:
            self._out.write("\r" + " " * self._shown + "\r")
            self._shown = 0
