"""A real server: ``oneglance serve`` as a process of its own, on a free loopback port."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from oneglance import Client
from oneglance_apps.demo.errors import DemoError

LOOPBACK = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 20.0


class ServerProcess:
    """A server on ``data_dir`` that can be stopped, killed and started again; gone when the block ends.

    Its log goes to ``log``. It has a session of its own, so a Ctrl-C at the terminal reaches the demo alone, which
    then stops it. Settings of the environment (ONEGLANCE_*) are kept from it. ``models``: those that it loads; the
    bundled ones when there are none.
    """

    def __init__(self, data_dir: Path, log: Path, models: Sequence[Path] = ()) -> None:
        self.data_dir = data_dir
        self.log = log
        self.models = ("--models", ":".join(map(str, models))) if models else ()
        self.address = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return self._process.pid if self._process else None

    def start(self) -> float:
        """Start it and wait until it serves; returns the seconds that took. Raises DemoError with its last words."""
        begun = monotonic()
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "oneglance_apps.cli", "serve"),
                    *("--listen", f"{LOOPBACK}:0", "--data-dir", str(self.data_dir)),
                    *self.models,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(),
                start_new_session=True,
            )
        # readline has no timeout; a server that hangs is killed, which ends it.
        too_late = threading.Timer(START_SECONDS, self._process.kill)
        too_late.start()
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        finally:
            too_late.cancel()
        if not line:
            self.kill()
            raise DemoError(f"the server did not start:\n{self._last_words()}")
        self.address = line.split()[-1]
        with self.client() as client:
            client.wait_until_serving(START_SECONDS)
        return monotonic() - begun

    def client(self) -> Client:
        """A connection to it."""
        return Client(self.address)

    def stop(self) -> None:
        """Ask it to drain and end (SIGTERM). Raises DemoError when it doesn't end well."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DemoError(f"the server did not stop within {STOP_SECONDS:g} s:\n{self._last_words()}") from None
        self._forget()
        if status != 0:
            raise DemoError(f"the server ended with status {status}:\n{self._last_words()}")

    def kill(self) -> None:
        """End it at once (SIGKILL): it gets no chance to write anything more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()

    def _forget(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]) or "(it logged nothing)"


def _environment() -> dict[str, str]:
    """The demo's own, less the settings of other servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ONEGLANCE_")}
