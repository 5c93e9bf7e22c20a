"""Real servers on real ports: in a thread of this process, or as a process of their own."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oneglance_server.app import Server
from oneglance_server.settings import Settings
from tests.waiting import PATIENCE_SECONDS


@contextmanager
def server_thread(**settings: Any) -> Iterator[Server]:
    """A server in a thread with an event loop of its own; drained at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(_make(settings), loop).result()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(PATIENCE_SECONDS)
        yield server
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(PATIENCE_SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_SECONDS)
        loop.close()


async def _make(settings: dict[str, Any]) -> Server:
    return Server(Settings(**{"listen": "127.0.0.1:0", "drain_seconds": 2.0, **settings}))


def measured(server: Server, name: str, **labels: str) -> float:
    """The value of a metric of ``server``; 0 while it has none."""
    return server._metrics.registry.get_sample_value(name, labels) or 0.0


class ServerProcess:
    """``oneglance serve`` as a process that can be killed hard. ``settings`` become flags."""

    def __init__(self, data_dir: Path, *, stderr: int = subprocess.PIPE, first: str = "", **settings: Any) -> None:
        """``stderr``: a file descriptor that the log goes to instead of a pipe that is read at the end.
        ``first``: Python code that the process runs before anything else."""
        flags = {"listen": "127.0.0.1:0", "data-dir": data_dir, **settings}
        code = f"{first}\nimport sys\nfrom oneglance_apps.cli.main import main\nsys.exit(main())"
        command = [sys.executable, "-c", code, "serve"]
        for name, value in flags.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server did not start: {self.process.communicate()[1]}")
        self.address = line.split()[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Signalled to end; (exit status, what it logged)."""
        self.process.send_signal(number)
        log = self.process.communicate(timeout=PATIENCE_SECONDS)[1]
        return self.process.returncode, log

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
