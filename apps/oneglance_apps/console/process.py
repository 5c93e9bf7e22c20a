"""The console as a child process of a server: drawing pages uses neither the server's event loop nor its GIL."""

import importlib.util
import os
import socket
import subprocess
import sys
import threading
from typing import IO

from oneglance.addresses import host_of

START_SECONDS = 60.0
STOP_SECONDS = 5.0


class ConsoleError(Exception):
    """The console can't start: NiceGUI is missing, or the address can't be used. The message says what to change."""


class ConsoleProcess:
    """A running console. It ends with this process, however this process ends.

    If it ends earlier, that is logged and has no other effect.
    """

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.url = url
        self.pid = process.pid
        self._process = process
        self._stopping = threading.Event()
        self._waiter = threading.Thread(target=self._wait, name="oneglance-console", daemon=True)
        self._waiter.start()

    def stop(self) -> None:
        """End it; returns once it has ended."""
        self._stopping.set()
        self._process.terminate()
        self._waiter.join(STOP_SECONDS)
        if self._waiter.is_alive():
            self._process.kill()
            self._waiter.join()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _wait(self) -> None:
        import structlog

        status = self._process.wait()
        if not self._stopping.is_set():
            structlog.get_logger().error("the console ended; the server goes on without it", status=status)


def start_console(
    listen: str, server_address: str, *, insecure: bool = False, watch_events: str = ""
) -> ConsoleProcess:
    """Start a console on ``listen`` (host:port; port 0 picks a free one) for the server at ``server_address``.

    Returns once the page is served, at ``ConsoleProcess.url``. Raises ConsoleError.
    """
    with listening_socket(listen) as listening:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "oneglance_apps.cli", "console", "--child-socket", str(listening.fileno())),
                *("--listen", listen, "--server", _reachable(server_address), *(["--insecure"] if insecure else [])),
                *(["--watch-events", watch_events] if watch_events else []),
            ],
            pass_fds=(listening.fileno(),),
            stdin=subprocess.PIPE,  # its end tells the child that this process is gone
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,  # Ctrl-C at the terminal goes to the server only, which then stops the console
        )
    telling = threading.Thread(target=_tell, args=(process.stderr,), name="oneglance-console-log", daemon=True)
    telling.start()
    # readline has no timeout: killing a child that hangs ends it.
    too_late = threading.Timer(START_SECONDS, process.kill)
    too_late.start()
    assert process.stdout is not None
    try:
        with process.stdout as out:
            line = out.readline()
    finally:
        too_late.cancel()
    if not line:
        process.kill()
        assert process.stdin is not None
        process.stdin.close()
        telling.join()
        raise ConsoleError(f"the console did not start (status {process.wait()}); its own messages are above")
    return ConsoleProcess(process, line.split()[-1])


def _tell(said: IO[str]) -> None:
    """What the child says on stderr, on this process's, which may be a log of JSON."""
    with said:
        for line in said:
            print(line, end="", file=sys.stderr, flush=True)


def listening_socket(listen: str) -> socket.socket:
    """A socket that listens on host:port. Raises ConsoleError, also when NiceGUI is not installed."""
    if importlib.util.find_spec("nicegui") is None:
        raise ConsoleError("the console needs NiceGUI: pip install 'oneglance[console]'")
    host, port = host_of(listen), listen.rpartition(":")[2]
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConsoleError(f"console: expected host:port, not {listen!r}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family)
    except OSError as error:
        raise ConsoleError(f"can't serve the console on {listen}: {error.strerror or error}") from error


def end_with_parent() -> None:
    """In the child: exit when the parent process is gone. Blocks until then."""
    os.read(0, 1)  # the parent writes nothing: this returns at the end of stdin
    os._exit(0)


def _reachable(server_address: str) -> str:
    """Where a client on this machine reaches a server that listens on ``server_address``."""
    host, _, port = server_address.rpartition(":")
    return {"0.0.0.0": f"127.0.0.1:{port}", "[::]": f"[::1]:{port}"}.get(host, server_address)
