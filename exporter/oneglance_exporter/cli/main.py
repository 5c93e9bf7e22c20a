"""``oneglance-exporter``: from labelled pictures to a model folder that the server runs.

Each module of this folder has some of the commands: it parses, calls one function, prints. torch is imported only by
the commands that need it.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from oneglance_core.command_line import exit_status, finish_parser
from oneglance_core.manifests import ModelFolderError
from oneglance_core.printable import printable
from oneglance_exporter.cli import (
    encoder,
    export,
    import_any_style,
    import_dlib,
    import_onnx,
    import_resemblyzer,
    look,
    quantize,
    sign,
    style,
    train,
)
from oneglance_exporter.errors import ExporterError

_EPILOG = """\
from drawings to a served encoder:

  oneglance-exporter train encoder --data drawings.zip --out runs/mine --seconds 1800
  oneglance-exporter export    --run runs/mine --out models/mine --name mine
  oneglance-exporter calibrate --model models/mine --data heldout.zip --fpir 0.01
  oneglance-exporter evaluate  --model models/mine --data heldout.zip --report mine.html

PATH is a folder or a zip of .../subject/*.png|jpg. Subjects that share the folder around theirs
(an alphabet, say) form a group: training takes its negatives, and evaluation its rivals, from there.
"""
# What brings the modules that the extra `exporter` doesn't.
_EXTRAS = {
    "timm": ("timm", "torchvision"),
    "parquet": ("pyarrow",),
    "tensorboard": ("tensorboard",),
    "sound": ("soundfile",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Status 0; 1 for input that can't be used, 2 for usage, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exit_status(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    try:
        with _terminable():
            options.run_command(options, arguments)
    except BrokenPipeError:
        raise
    except (ExporterError, ModelFolderError, OSError) as error:
        print(f"oneglance-exporter: error: {printable(str(error), lines=True)}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        # Some commands need more than what is installed.
        missing = (error.name or "").split(".")[0]
        if missing.startswith("oneglance"):
            raise
        print(f"oneglance-exporter: error: {error}; {_needs(missing)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("oneglance-exporter: interrupted", file=sys.stderr)
        return 130
    return 0


def _needs(module: str) -> str:
    """Which extra brings a module."""
    extra = next((extra for extra, modules in _EXTRAS.items() if module in modules), "exporter")
    return f"this command needs: pip install 'oneglance[{extra}]'"


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does, so that what is half written is cleared away."""
    if threading.current_thread() is not threading.main_thread():  # only there can signals be had
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def parser() -> argparse.ArgumentParser:
    """The whole command line, as tests read it."""
    top = argparse.ArgumentParser(
        prog="oneglance-exporter",
        description="Train, export, import, calibrate, measure and show one-shot encoders; train and export stylizers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    train.add_commands(commands)
    export.add_commands(commands)
    importer = commands.add_parser("import", help="write a network that others trained as a model folder")
    sources = importer.add_subparsers(required=True, metavar="KIND")
    import_dlib.add_parser(sources)
    import_onnx.add_parser(sources)
    import_resemblyzer.add_parser(sources)
    import_any_style.add_parser(sources)
    quantize.add_commands(commands)
    sign.add_commands(commands)
    encoder.add_commands(commands)
    look.add_commands(commands)
    style.add_commands(commands)
    finish_parser(top, "oneglance-exporter")
    return top
