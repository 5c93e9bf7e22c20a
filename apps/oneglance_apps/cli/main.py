"""The parser of ``oneglance`` and its dispatch. Needs no more than the bare client until a command does."""

import argparse
import io
import sys
from collections.abc import Sequence
from importlib.metadata import version

from oneglance_apps.cli import (
    calibrate,  # noqa: F401  (registers its commands)
    client,
    console,
    demo,
    serve,
    stylize,
    watch,
)

DESCRIPTION = """\
oneglance: seen once, known after.

Enroll a subject from one example; afterwards ask whether a new example is that
subject (verify), which of the enrolled subjects it is (identify), or learn that
it is nobody known. Distances are squared L2; a subject within tau is a match.
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
    """The whole command line, as docs and tests read it. Without settings it needs no more than the bare install."""
    top = argparse.ArgumentParser(
        prog="oneglance",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"oneglance {version('oneglance')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve.add_command(commands, with_settings=with_settings)
    demo.add_command(commands, with_settings=with_settings)
    console.add_command(commands)
    watch.add_command(commands)
    stylize.add_command(commands)
    client.add_commands(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 refused or failed, 2 misused."""
    given = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files and of subjects may be anything
    try:
        options = parser(with_settings=given[:1] in (["serve"], ["demo"])).parse_args(given)
        status: int = options.run(options)
    except ModuleNotFoundError as error:
        # The bare install is the client; serve and demo need an extra.
        if error.name and error.name.split(".")[0].startswith("oneglance"):
            raise
        print(f"oneglance: {error}; this command needs: pip install 'oneglance[cpu]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    return status
