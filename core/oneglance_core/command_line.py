"""What the commands of this package have in common: how they end, tell their version and are completed by a shell."""

import argparse
import os
import select
import sys
from collections.abc import Callable
from typing import Any

EXIT_PIPE = 141  # as of a program that SIGPIPE ended
COMPLETING = "_ARGCOMPLETE"


def exit_status(command: Callable[[], int]) -> int:
    """Run it. When nobody reads any more what it prints (``| head``), it ends with 141, and nothing is said."""
    try:
        try:
            return command()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        if not any(_nobody_reads(descriptor) for descriptor in (1, 2)):
            raise
        # What is left in the buffers would fail again when Python ends.
        with open(os.devnull, "w") as nowhere:
            for descriptor in (1, 2):
                if _nobody_reads(descriptor):
                    os.dup2(nowhere.fileno(), descriptor)
        return EXIT_PIPE


def finish_parser(parser: argparse.ArgumentParser, given: str) -> None:
    """``--version`` for it and for every command below; and where a shell asks, completion, which ends the process.

    given: the program's name, as ``--version`` prints it.
    """
    _add_version(parser, given)
    if COMPLETING in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def _add_version(parser: argparse.ArgumentParser, program: str) -> None:
    parser.add_argument("--version", action=_Version, program=program)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in {id(each): each for each in action.choices.values()}.values():
                _add_version(below, program)


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: list[str], dest: str, program: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version and exit")
        self._program = program

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(self._program, version("oneglance"))
        parser.exit()


def _nobody_reads(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
