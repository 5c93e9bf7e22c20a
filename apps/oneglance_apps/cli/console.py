"""``oneglance console``: serve a web page for any server; ``oneglance serve --console`` starts it, too."""

import argparse
import os
import socket
import sys
import threading
from pathlib import Path

from oneglance.addresses import is_loopback
from oneglance_apps.connection import add_connection_options, connection_of
from oneglance_apps.console.process import ConsoleError, end_with_parent, listening_socket
from oneglance_core.defaults import CONSOLE_ADDRESS
from oneglance_core.ranges import within

DESCRIPTION = """\
Serve a web page that works with a oneglance server: see who is on a photo, enroll
from it, browse a gallery, set and calibrate tau. It is a client of the server like
any other. Needs: pip install 'oneglance[console]'.

Whoever reaches the page may do what the console's own credential may: keep it on
loopback, or give --insecure where something in front keeps strangers out. One line
on stdout says where the page is.
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "console",
        help="a web page to look at and work with",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    add_connection_options(command)
    command.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default=CONSOLE_ADDRESS,
        help=f"where to serve the page; port 0 picks a free one [{CONSOLE_ADDRESS}]",
    )
    command.add_argument(
        "--insecure", action="store_true", help="serve the page beyond loopback, to whoever reaches it"
    )
    command.add_argument(
        "--watch-events",
        metavar="FILE",
        type=Path,
        help="show the events that `oneglance watch ... --json >> FILE` writes there, as they come",
    )
    command.add_argument(
        "--child-socket", type=within(int, least=0, most=1 << 20), metavar="FD", help=argparse.SUPPRESS
    )


def run(options: argparse.Namespace) -> int:
    is_child = options.child_socket is not None  # of ``oneglance serve --console``
    if not is_loopback(options.listen) and not options.insecure:
        print(
            f"oneglance console: --listen {options.listen}: beyond loopback the page needs --insecure: whoever reaches "
            "it sees who is enrolled, and can enroll, delete and set tau",
            file=sys.stderr,
        )
        return 2
    try:
        connection = connection_of(options)
    except (OSError, ValueError) as error:
        print(f"oneglance console: {error}", file=sys.stderr)
        return 2
    try:
        listening = socket.socket(fileno=options.child_socket) if is_child else listening_socket(options.listen)
    except ConsoleError as error:
        print(f"oneglance console: {error}", file=sys.stderr)
        return 1
    if is_child:
        threading.Thread(target=end_with_parent, daemon=True).start()
    from oneglance_apps.console import app

    def announce(url: str) -> None:
        print(f"oneglance console is at {url}", flush=True)
        if is_child:
            os.dup2(2, 1)  # the parent reads only the first line of stdout

    app.serve(connection, listening, on_serving=announce, watch_events=options.watch_events)
    return 0
