"""How a command of the CLI calls the server: registered with its arguments, run with a client, errors printed."""

import argparse
import errno
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from oneglance.client.errors import OneglanceError
from oneglance.client.sync_client import Client
from oneglance_apps.cli import show
from oneglance_apps.connection import add_connection_options, connection_of
from oneglance_apps.error_words import why, with_names
from oneglance_core.printable import printable
from oneglance_core.ranges import seconds

Options = argparse.Namespace
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS)
"""The machine's fault, not that of who gave the arguments."""
Call = Callable[[Client, Options], Iterable[Message]]


@dataclass(frozen=True)
class Argument:
    """The arguments of one ``add_argument`` call, to be shared by commands."""

    flag: str
    options: dict[str, Any]


def argument(flag: str, help: str, **options: Any) -> Argument:
    return Argument(flag, {"help": help, **options})


_COMMANDS: dict[str, tuple[Call, str, tuple[Argument, ...]]] = {}


def command(summary: str, *arguments: Argument) -> Callable[[Call], Call]:
    """Register ``def some_name`` as ``oneglance some-name``. The function yields the messages to print."""

    def register(call: Call) -> Call:
        _COMMANDS[call.__name__.replace("_", "-")] = (call, summary, arguments)
        return call

    return register


def add_registered_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add a parser for each registered command."""
    for name, (call, summary, arguments) in _COMMANDS.items():
        parser = commands.add_parser(name, help=summary, description=summary, parents=[call_options()])
        for item in arguments:
            parser.add_argument(item.flag, **item.options)
        parser.set_defaults(run=_print_messages, call=call)


def call_options(
    timeout_seconds: float = 30.0, no_timeout: str = "streams, calibrate and create-backup have none"
) -> argparse.ArgumentParser:
    """The options of every command that ``run_with_client`` runs, as a parent parser. no_timeout: end of the help of
    ``--timeout``."""
    options = argparse.ArgumentParser(add_help=False)
    add_connection_options(options)
    options.add_argument(
        "--timeout",
        type=seconds(above=0),
        default=timeout_seconds,
        metavar="SECONDS",
        help=f"deadline of a call [{timeout_seconds:g}]; {no_timeout}",
    )
    options.add_argument("--json", action="store_true", help="print messages as JSON, one per line")
    return options


def run_with_client(o: Options, work: Callable[[Client], None]) -> int:
    """Call ``work`` with a client, and print the error that it raises.

    ``o.names``, which ``work`` may fill, has the files of what is sent, in its order: errors name them.

    Returns the exit status: 1 if the server refused or failed, or a disk is full or broken; 2 if a file or an argument
    is wrong; else ``o.status``, which ``work`` may set (0 if it does not).
    """
    o.status = 0
    o.names = []
    try:
        with Client(**connection_of(o), timeout_seconds=o.timeout) as client:
            work(client)
    except OneglanceError as error:
        if o.json:
            print(show.as_json(show.error_message(error)))
        reason = f" [{error.reason}]" if error.reason else ""
        text = f"{error.code.name}{reason}: {why(error, o.names)}"
        print(f"oneglance: {printable(text, lines=True)}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except (OSError, TypeError, ValueError) as error:
        print(f"oneglance: {printable(str(error), lines=True)}", file=sys.stderr)
        return 1 if getattr(error, "errno", None) in DISK_ERRORS else 2
    return int(o.status)


def _print_messages(o: Options) -> int:
    def work(client: Client) -> None:
        for message in o.call(client, o):
            text = show.as_json(message) if o.json else with_names(show.as_text(message), o.names)
            print(printable(text, lines=True), flush=True)

    return run_with_client(o, work)
