"""``oneglance audit tail``, ``export`` and ``verify``: the audit trail of a data directory, with no server."""

import argparse
from collections.abc import Callable
from pathlib import Path

from oneglance_apps.cli.keeping import Options, run_checked
from oneglance_core.ranges import within

DESCRIPTION = """\
Read the audit trail of a data directory, whether or not a server has it open: who did
what to which gallery and subject, what was decided, from where, with which tau and
model. docs/security.md explains it.
"""
TAIL = "Print the newest entries, one JSON object a line, the oldest of them first."
EXPORT = """\
Print all entries, one JSON object a line, and at the end the signed head. Keep that
line elsewhere: verify --head tells later whether the trail still is what it was.
"""
VERIFY = """\
Check that no entry was edited, dropped or moved, and that the head was signed by the
store. Without --public-key, receipts.pub of the directory says by whom: keep a copy of
that elsewhere, too. Prints the first entry that is wrong. Exit status: 0 all is as it
was written, 1 it isn't.
"""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    audit = commands.add_parser("audit", help="read and check the audit trail", description=DESCRIPTION)
    parsers = audit.add_subparsers(title="commands", metavar="COMMAND", required=True, help="what to do with it")
    directory = ("data_dir", "DIR", "the data directory")
    tail = _add(parsers, "tail", TAIL, _tail, directory)
    tail.add_argument("-n", type=within(int, least=1), default=20, metavar="N", help="how many entries [20]")
    _add(parsers, "export", EXPORT, _export, directory)
    verify = _add(parsers, "verify", VERIFY, _verify, ("data", "DIR", "the data directory, or a file of audit export"))
    verify.add_argument("--public-key", type=Path, metavar="FILE", help="receipts.pub of the data directory")
    verify.add_argument("--head", type=Path, metavar="FILE", help="an earlier export, or its last line")


def _add(
    parsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    description: str,
    work: Callable[[Options], int],
    *arguments: tuple[str, str, str],
) -> argparse.ArgumentParser:
    command = parsers.add_parser(
        name,
        help=description.split(". ")[0].split(":")[0].replace("\n", " "),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for destination, metavar, text in arguments:
        command.add_argument(destination, metavar=metavar, type=Path, help=text)
    command.set_defaults(run=lambda options: run_checked(f"audit {name}", work, options))
    return command


def _tail(options: Options) -> int:
    from oneglance_server.keeping import audit_trail

    for line in audit_trail(options.data_dir, options.n):
        print(line)
    return 0


def _export(options: Options) -> int:
    from oneglance_server.keeping import exported_trail

    for line in exported_trail(options.data_dir):
        print(line)
    return 0


def _verify(options: Options) -> int:
    from oneglance_server.keeping import trail_faults

    faults = trail_faults(options.data, options.public_key, options.head)
    for line in faults:
        print(line)
    if not faults:
        print(f"{options.data}: the audit trail is as it was written")
    return 1 if faults else 0
