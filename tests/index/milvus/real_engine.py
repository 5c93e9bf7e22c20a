"""Runs a real Milvus from its PyPI wheel where nobody else can reach it. Run as a program; engine.py starts it.

    python -m tests.index.milvus.real_engine INSTALLATION DATA

Milvus listens on all addresses and can't be told not to. So this process first opens a port on 127.0.0.1, then leaves
for a network of its own, starts Milvus there, and passes on what comes through the port. It reads lines from its
input, an act and a role: "kill standalone" (kill -9), "stop" (SIGTERM: it hands over what it has, and ends), "start",
"pause" (SIGSTOP), "go" (SIGCONT), "stay" (starts it unless it runs: it ends by itself where the machine gives it no
time for some seconds); and answers each with a line once it is so. It ends, and Milvus with it, when its input does.
real_cluster.py has more roles than one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_START_SECONDS = 600  # on a busy machine


def leave_the_network() -> None:
    """This process, and all that it starts, has a network of its own. Raises OSError where that isn't allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _NEW_NETWORK if os.geteuid() == 0 else _NEW_USER | _NEW_NETWORK
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "no network of its own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Milvus:
    """One process of it. `arguments`: what it is, for its command line; `settings`: of its environment; it tells at
    `metrics_port` whether it is well."""

    def __init__(
        self,
        installation: Path,
        data: Path,
        arguments: Sequence[str] = ("standalone",),
        metrics_port: int = 9091,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._installation, self._data = installation, data
        self._arguments, self._metrics_port, self._settings = arguments, metrics_port, settings or {}
        self._log = data / f"{arguments[0]}-{metrics_port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        environment = {
            **os.environ,
            "DEPLOY_MODE": "STANDALONE",
            "MILVUS_RUN_DIR": str(self._data / "run"),
            "METRICS_PORT": str(self._metrics_port),
            "MILVUSCONF": str(self._data / "configs"),
            "LD_LIBRARY_PATH": str(self._installation),
            **self._settings,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._installation / "milvus", "run", *self._arguments],
                cwd=self._data,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def await_healthy(self) -> None:
        assert self._process is not None
        until = time.monotonic() + _START_SECONDS
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"Milvus doesn't start: see {self._log}")
            time.sleep(0.1)

    def start(self) -> None:
        self.begin()
        self.await_healthy()

    def stay(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self.start()

    def _healthy(self) -> bool:
        url = f"http://127.0.0.1:{self._metrics_port}/healthz"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._process.wait()

    def act(self, act: str) -> None:
        {
            "start": self.start,
            "kill": lambda: self.signal(signal.SIGKILL),
            "stop": lambda: self.signal(signal.SIGTERM),
            "pause": lambda: self.signal(signal.SIGSTOP),
            "go": lambda: self.signal(signal.SIGCONT),
            "stay": self.stay,
        }[act]()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


async def _connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        inner = await asyncio.open_connection("127.0.0.1", 19530)
    except OSError:
        writer.transport.abort()
        return
    with contextlib.suppress(asyncio.CancelledError):  # the program ends
        await asyncio.gather(_pass_on(reader, inner[1]), _pass_on(inner[0], writer))


async def serve(listening: socket.socket, roles: Mapping[str, Milvus]) -> None:
    server = await asyncio.start_server(_connect, sock=listening)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print(listening.getsockname()[1], flush=True)
    while line := (await lines.readline()).decode().split():
        act, role = line
        await asyncio.to_thread(roles[role].act, act)
        print("done", flush=True)
    server.close()


def main() -> None:
    installation, data = map(Path, sys.argv[1:])
    listening = socket.create_server(("127.0.0.1", 0))
    leave_the_network()
    milvus = Milvus(installation, data)
    milvus.start()
    try:
        asyncio.run(serve(listening, {"standalone": milvus}))
    finally:
        milvus.signal(signal.SIGKILL)
        shutil.rmtree(data / "milvus", ignore_errors=True)


if __name__ == "__main__":
    main()
