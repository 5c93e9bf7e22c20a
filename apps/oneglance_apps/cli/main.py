"""The parser of ``oneglance`` and its dispatch. Loads only what the bare client needs; a command may load more."""

import argparse
import io
import os
import sys
from collections.abc import Sequence

from oneglance_apps.cli import (
    bulk_enroll,
    calibrate,  # noqa: F401  (registers its commands)
    commands,
    completion,
    console,
    demo,
    enroll_encodings,
    evaluate,
    keeping,
    moving,
    plan,
    rpc_commands,  # noqa: F401  (registers its commands)
    serve,
    stylize,
    succession,  # noqa: F401
    watch,
)
from oneglance_core.command_line import COMPLETING, exit_status, finish_parser

DESCRIPTION = """\
oneglance: seen once, known after.

Enroll a subject from one example; afterwards ask whether a new example is that
subject (verify), or which of the enrolled subjects it is (identify); a stranger
is reported as unknown. Distances are squared L2; a subject within tau is a match.
"""
EPILOG = """\
start here:
  oneglance demo                                   the main job, end to end, with a page of pictures
  oneglance serve --data-dir galleries             a server on 127.0.0.1:50051
  oneglance create-gallery letters
  oneglance enroll letters alef alef.png
  oneglance identify letters unknown.png
  oneglance list-styles
  oneglance stylize cat.jpg painted.jpg --style NAME
"""


def parser(*, with_settings: bool = True) -> argparse.ArgumentParser:
    """The whole command line. ``with_settings``: with the flags of ``serve``, which need more than the bare install."""
    top = argparse.ArgumentParser(
        prog="oneglance",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parsers = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve.add_command(parsers, with_settings=with_settings)
    demo.add_command(parsers, with_settings=with_settings)
    console.add_command(parsers)
    watch.add_command(parsers)
    stylize.add_command(parsers)
    bulk_enroll.add_command(parsers)
    enroll_encodings.add_command(parsers)
    keeping.add_commands(parsers)
    moving.add_commands(parsers)
    evaluate.add_command(parsers)
    plan.add_command(parsers)
    completion.add_command(parsers)
    commands.add_registered_commands(parsers)
    finish_parser(top, "oneglance")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 refused or failed, 2 wrong arguments, 141 nobody reads."""
    given = sys.argv[1:] if arguments is None else arguments
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files and of subjects may be anything
    return exit_status(lambda: _run(given))


def _run(given: Sequence[str]) -> int:
    options = argparse.Namespace(needs="this command needs: pip install 'oneglance[cpu]'")
    try:
        named = given[:1] if COMPLETING not in os.environ else os.environ.get("COMP_LINE", "").split()[1:2]
        options = parser(with_settings=named in (["serve"], ["demo"])).parse_args(given, options)
        status: int = options.run(options)
    except ModuleNotFoundError as error:
        # The bare install is the client; some commands need an extra.
        if error.name and error.name.split(".")[0].startswith("oneglance"):
            raise
        print(f"oneglance: {error}; {options.needs}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _open_standard_streams() -> None:
    """Those that are closed (``2>&-``): else the next file or connection would get the number, and what is printed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest free number: this one
