"""Real servers on real ports: in a thread of this process, or as a process of their own."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
    registry = server._metrics.registry
    known = {family.name for family in registry.collect()}
    assert any(name.removesuffix(end) in known for end in ("", "_total", "_count", "_sum", "_bucket")), name
    return registry.get_sample_value(name, labels) or 0.0


_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port that nothing listens on yet, and that nobody else gets while this process runs.

    It is below those that the kernel gives to outgoing connections. Another process that asks for it finds it bound,
    at an address at which nobody listens.
    """
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, first_given)
        reservation = socket.socket()
        try:
            reservation.bind(("127.255.255.254", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server may listen at 0.0.0.0
        _reserved.append(reservation)
        return port


class ServerDidNotStart(Exception):
    """With what it logged."""


# `first` of a process that shares galleries: machines may be slow.
PATIENT = "from oneglance_server import app; app._GRANTED_SECONDS = 60.0"
PACKAGES = ("proto", "core", "index", "exporter", "server", "apps")


class ServerProcess:
    """``oneglance serve`` as a process that can be killed hard. ``settings`` become flags.

    log: the file its log goes to; None: a pipe, which ``terminate`` reads.
    checkout: the root of another checkout of this project whose server is run; None: this one's.
    first: Python code that the process runs before anything else.
    """

    def __init__(
        self, data_dir: Path, *, log: Path | None = None, checkout: Path | None = None, first: str = "", **settings: Any
    ) -> None:
        flags = {"listen": "127.0.0.1:0", "data-dir": data_dir, **settings}
        code = f"{first}\nimport sys\nfrom oneglance_apps.cli.main import main\nsys.exit(main())"
        command = [sys.executable, "-c", code, "serve"]
        for name, value in flags.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if checkout is not None:
            environment["PYTHONPATH"] = ":".join(str(checkout.resolve() / package) for package in PACKAGES)
        with log.open("ab") if log is not None else nullcontext(subprocess.PIPE) as stderr:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise ServerDidNotStart(str(self.process.communicate()[1]))
        self.address = line.split()[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Signalled to end; (exit status, what it logged to the pipe)."""
        self.process.send_signal(number)
        log = self.process.communicate(timeout=PATIENCE_SECONDS)[1]
        return self.process.returncode, log or ""

    def resident_bytes(self) -> int:
        """Memory it holds now; 0 once it ended."""
        return self._kilobytes("VmRSS") * 1024

    def peak_bytes(self) -> int:
        """The most it ever held; 0 once it ended."""
        return self._kilobytes("VmHWM") * 1024

    def _kilobytes(self, name: str) -> int:
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
