"""``oneglance console``: a web page to look at and work with, for any server; ``serve --console`` starts it, too.

It is a process of its own, so that drawing pages takes neither the server's event loop nor its GIL.
"""

import argparse
import importlib.util
import os
import socket
import subprocess
import sys
import threading

from oneglance.client.async_client import LOOPBACK
from oneglance.defaults import SERVER_ADDRESS
from oneglance_core.defaults import CONSOLE_ADDRESS
from oneglance_server.errors import StartupError

DESCRIPTION = """\
Serve a web page that works with a oneglance server: look at a photo and see who
is in it, enroll from it, browse a gallery, set and calibrate tau. It is a client
of the server like any other. Needs: pip install 'oneglance[console]'.

There is no authentication: keep it on loopback. One line on stdout says where
the page is.
"""
START_SECONDS = 60.0
STOP_SECONDS = 5.0


class Console:
    """A console that runs as a child of this process, and ends with it however this process ends.

    When it ends by itself that is logged, and nothing else happens.
    """

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.url = url
        self.pid = process.pid
        self._process = process
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._wait, name="oneglance-console", daemon=True)
        self._watch.start()

    def stop(self) -> None:
        """End it; returns once it has ended."""
        self._stopping.set()
        self._process.terminate()
        self._watch.join(STOP_SECONDS)
        if self._watch.is_alive():
            self._process.kill()
            self._watch.join()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _wait(self) -> None:
        import structlog

        status = self._process.wait()
        if not self._stopping.is_set():
            structlog.get_logger().error("the console ended; the server goes on without it", status=status)


def start_console(listen: str, server_address: str) -> Console:
    """Start the console on ``listen`` (host:port; port 0 picks a free one) for the server at ``server_address``.

    Returns once the page is served, at ``Console.url``. Raises StartupError: NiceGUI is missing, the port is in use, or
    it can't start.
    """
    with _listening_socket(listen) as listening:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "oneglance_apps.cli", "console", "--child-socket", str(listening.fileno())),
                *("--listen", listen, "--server", _reachable(server_address)),
            ],
            pass_fds=(listening.fileno(),),
            stdin=subprocess.PIPE,  # its end of file tells the child that this process is gone
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C at the terminal reaches the server alone, which then stops it
        )
    # readline has no timeout; a child that hangs is killed, which ends it.
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
        raise StartupError(f"the console did not start (status {process.wait()}); its own words are above")
    return Console(process, line.split()[-1])


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "console",
        help="a web page to look at and work with",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    command.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=os.environ.get("ONEGLANCE_SERVER", SERVER_ADDRESS),
        help=f"where the server is [ONEGLANCE_SERVER, else {SERVER_ADDRESS}]",
    )
    command.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default=CONSOLE_ADDRESS,
        help=f"where to serve the page; port 0 picks a free one [{CONSOLE_ADDRESS}]",
    )
    command.add_argument("--child-socket", type=int, metavar="FD", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    is_child = options.child_socket is not None
    try:
        listening = socket.socket(fileno=options.child_socket) if is_child else _listening_socket(options.listen)
    except StartupError as error:
        print(f"oneglance console: {error}", file=sys.stderr)
        return 1
    if is_child:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    from oneglance_apps.console import app

    host = _host(options.listen)
    if host not in LOOPBACK:
        print(
            f"oneglance console: warning: {host} is not loopback, and there is no authentication: whoever reaches "
            "this port sees who is enrolled, and can enroll, delete and set tau",
            file=sys.stderr,
        )

    def say(url: str) -> None:
        print(f"oneglance console is at {url}", flush=True)
        if is_child:
            os.dup2(2, 1)  # nobody reads this pipe after its one line

    app.serve(options.server, listening, own_host_only=host in LOOPBACK, on_serving=say)
    return 0


def _listening_socket(listen: str) -> socket.socket:
    if importlib.util.find_spec("nicegui") is None:
        raise StartupError("the console needs NiceGUI: pip install 'oneglance[console]'")
    port = listen.rpartition(":")[2]
    if not _host(listen) or not port.isdigit() or int(port) > 65535:
        raise StartupError(f"console: expected host:port, not {listen!r}")
    family = socket.AF_INET6 if ":" in _host(listen) else socket.AF_INET
    try:
        return socket.create_server((_host(listen), int(port)), family=family)
    except OSError as error:
        raise StartupError(f"can't serve the console on {listen}: {error.strerror or error}") from error


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _reachable(server_address: str) -> str:
    """Where a client on this machine reaches a server that listens there."""
    host, _, port = server_address.rpartition(":")
    return {"0.0.0.0": f"127.0.0.1:{port}", "[::]": f"[::1]:{port}"}.get(host, server_address)


def _end_with_parent() -> None:
    os.read(0, 1)  # the parent writes nothing: this returns when it is gone
    os._exit(0)
