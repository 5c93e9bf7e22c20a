"""``oneglance serve`` as a process of its own, on a free loopback port."""

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

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class ServerProcessError(Exception):
    """The server did not start, or did not stop in order. The message has the end of its log."""


class ServerProcess:
    """A server that can be stopped, killed and started again. It ends with the ``with`` block.

    data_dir: its data directory. log: the file that its log is appended to. models: model folders; without any the
    server loads the bundled models.

    The process does not get Ctrl-C from the terminal (it has a session of its own), nor the ONEGLANCE_* variables of
    the environment.
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
        """None while the server does not run."""
        return self._process.pid if self._process else None

    def start(self) -> float:
        """Start the server and wait until it serves; returns how many seconds that took. Raises ServerProcessError."""
        begun = monotonic()
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "oneglance_apps.cli", "serve"),
                    *("--listen", "127.0.0.1:0", "--data-dir", str(self.data_dir)),
                    *self.models,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(),
                start_new_session=True,
            )
        # readline has no timeout: killing a server that hangs ends it.
        too_late = threading.Timer(START_SECONDS, self._process.kill)
        too_late.start()
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        finally:
            too_late.cancel()
        if not line:
            self.kill()
            raise ServerProcessError(f"the server did not start:\n{self._end_of_log()}")
        self.address = line.split()[-1]
        with self.client() as client:
            client.wait_until_serving(START_SECONDS)
        return monotonic() - begun

    def client(self) -> Client:
        """A new connection to the server."""
        return Client(self.address)

    def stop(self) -> None:
        """SIGTERM: the server finishes its work and ends. Raises ServerProcessError if it fails or takes too long."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerProcessError(
                f"the server did not stop within {STOP_SECONDS:g} s:\n{self._end_of_log()}"
            ) from None
        self._forget()
        if status != 0:
            raise ServerProcessError(f"the server ended with status {status}:\n{self._end_of_log()}")

    def kill(self) -> None:
        """SIGKILL: the server ends at once and writes nothing more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()

    def _forget(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def _end_of_log(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]) or "(it logged nothing)"


def _environment() -> dict[str, str]:
    """The environment of this process, without settings of servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ONEGLANCE_")}
