"""Runs a real Milvus from its PyPI wheel where nobody else can reach it. Run as a program; engine.py starts it.

    python -m tests.index.milvus.real_engine INSTALLATION DATA

Milvus listens on all addresses and can't be told not to. So this process first opens a port on 127.0.0.1, then leaves
for a network of its own, starts Milvus there, and passes on what comes through the port. It reads lines from its input:
"kill" (kill -9), "start", "pause" (SIGSTOP), "go" (SIGCONT), "stay" (starts it unless it runs: it ends by itself where
the machine gives it no time for some seconds); and answers each with a line once it is so. It ends, and Milvus with it,
when its input does.
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
from pathlib import Path

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_START_SECONDS = 120


def leave_the_network() -> None:
    """This process, and all that it starts, has a network of its own. Raises OSError where that isn't allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _NEW_NETWORK if os.geteuid() == 0 else _NEW_USER | _NEW_NETWORK
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "no network of its own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Milvus:
    def __init__(self, installation: Path, data: Path) -> None:
        self._installation, self._data = installation, data
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "DEPLOY_MODE": "STANDALONE",
            "MILVUS_RUN_DIR": str(self._data / "run"),
            "METRICS_PORT": "9091",
            "MILVUSCONF": str(self._data / "configs"),
            "LD_LIBRARY_PATH": str(self._installation),
        }
        with (self._data / "milvus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._installation / "milvus", "run", "standalone"],
                cwd=self._data,
                env=environment,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + _START_SECONDS
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"Milvus doesn't start: see {self._data / 'milvus.log'}")
            time.sleep(0.1)

    def stay(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self.start()

    def _healthy(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen("http://127.0.0.1:9091/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()


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


async def serve(listening: socket.socket, milvus: Milvus) -> None:
    server = await asyncio.start_server(_connect, sock=listening)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    acts = {
        "start": milvus.start,
        "kill": lambda: milvus.signal(signal.SIGKILL),
        "pause": lambda: milvus.signal(signal.SIGSTOP),
        "go": lambda: milvus.signal(signal.SIGCONT),
        "stay": milvus.stay,
    }
    while line := (await lines.readline()).decode().strip():
        await asyncio.to_thread(acts[line])
        print("done", flush=True)
    server.close()


def main() -> None:
    installation, data = map(Path, sys.argv[1:])
    listening = socket.create_server(("127.0.0.1", 0))
    leave_the_network()
    milvus = Milvus(installation, data)
    milvus.start()
    print(listening.getsockname()[1], flush=True)
    try:
        asyncio.run(serve(listening, milvus))
    finally:
        milvus.signal(signal.SIGKILL)
        shutil.rmtree(data / "milvus", ignore_errors=True)


if __name__ == "__main__":
    main()
