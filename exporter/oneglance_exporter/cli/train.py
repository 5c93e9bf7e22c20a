"""``train encoder``, ``train stylizer`` and ``train uprightness``: parse, train or resume, print."""

import argparse
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneglance_core.flags import add_flags, given_values
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.stylizer.settings import StylizerSettings
from oneglance_exporter.uprightness.settings import UprightnessSettings

if TYPE_CHECKING:
    from oneglance_core.progress import Progress
    from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
    from oneglance_exporter.training.checkpoint import C

_UPRIGHTNESS_TOLD = 100  # steps
_ENCODER_EPILOG = """\
colour photos that keep their aspect, and the checkpoint that is best on others:

  oneglance-exporter train encoder --data photos/ --validation others/ --color rgb --size 96 96 --fit pad \\
      --seconds 3600 --patience 10 --out runs/photos

.npy signals of varying length, two losses to compare:

  oneglance-exporter train encoder --data ekg/ --input signal --fit pad --steps 2000 --out runs/ekg
  oneglance-exporter train encoder --data ekg/ --input signal --fit pad --steps 2000 --out runs/ekg-pairs \\
      --loss difference

a network of your own, encoder.py: def make(shape, dimension): return torch.nn.Sequential(...)

  oneglance-exporter train encoder --data ct/ --input volume --network encoder.py:make --steps 2000 --out runs/ct

two cards, and batches of 1024 photos of which each card holds 128 at a time; the loss sees all 1024:

  oneglance-exporter train encoder --data photos/ --color rgb --network timm:resnet18 --steps 20000 --out runs/large \
      --device cuda --processes 2 --classes-per-batch 256 --accumulate 4 --precision bf16 --tensorboard
"""
_STYLIZER_EPILOG = """\
from paintings to a served stylizer:

  pip install 'oneglance[exporter,style]'
  oneglance-exporter train stylizer --styles wave.jpg night.jpg --photos photos/ --out runs/style --seconds 7200
  oneglance-exporter export stylizer --run runs/style --out models/style --name mine
  oneglance serve --models models/style

A style more, later; the others stay as they are, to the bit:

  oneglance-exporter train stylizer --base runs/style --styles third.jpg --photos photos/ --out runs/more --seconds 900

Where a picture is from and its terms, which the manifest hands on, can be told in a .toml given with --styles:

  [[style]]
  picture = "wave.jpg"
  name = "wave"
  title = "Katsushika Hokusai: The Great Wave off Kanagawa, 1831"
  source = "where the picture is from"
  license = "public domain"
"""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``train`` and its kinds."""
    trainer = commands.add_parser("train", help="train a network from labelled pictures")
    kinds = trainer.add_subparsers(required=True, metavar="KIND")
    encoder = kinds.add_parser(
        "encoder",
        help="a Siamese encoder of pictures, signals, planes or volumes",
        description="Train an encoder: by default one of gray drawings, with semi-hard triplets. What the data are\n"
        "like and what is lost on the way in is told first. Ctrl-C or a kill loses at most the time since the last\n"
        "checkpoint; --resume goes on, with the same data.",
        epilog=_ENCODER_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_run(encoder, TrainSettings, "where checkpoints and the log go")
    encoder.set_defaults(run_command=_train_encoder)
    stylizer = kinds.add_parser(
        "stylizer",
        help="one feed-forward network for several styles",
        description="Train a stylizer: one network for all the styles, each of them a scale and a shift per channel.\n"
        "Ctrl-C or a kill loses at most the time since the last checkpoint, which comes with a contact sheet in\n"
        "RUN_DIR/sheets; --resume goes on.",
        epilog=_STYLIZER_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_run(stylizer, StylizerSettings, "where checkpoints, sheets and the log go")
    stylizer.set_defaults(run_command=_train_stylizer)
    _add_uprightness(kinds)


def _add_uprightness(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = kinds.add_parser(
        "uprightness",
        help="the check that a found face is upright and aligned",
        description="Train the check on upright photos of faces and write it as a model folder, beside those of the\n"
        "detector and the landmarks. The largest face of each photo is an example; what isn't upright or aligned is\n"
        "made from it. Some hundred photos of a dozen people do; takes minutes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, type=Path, metavar="MODEL_DIR", help="replaced if it is there")
    add_flags(parser, UprightnessSettings)
    parser.set_defaults(run_command=_train_uprightness)


def _train_uprightness(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter.uprightness.train import train

    def report(step: int, loss: float) -> None:
        if step % _UPRIGHTNESS_TOLD == 0:
            print(f"step {step}  loss {loss:.4f}", file=sys.stderr, flush=True)

    settings = UprightnessSettings(**given_values(options, UprightnessSettings))
    manifest = train(settings, options.out, _shown(arguments), report)
    print(f"{options.out}: {manifest.name}, threshold {manifest.threshold:g}")
    if told := manifest.evidence:
        print(
            f"{told.data}: {told.faces_refused} of {told.faces} faces refused, "
            f"{told.junk_accepted} of {told.junk} finds in turned photos accepted"
        )


def _add_run(parser: argparse.ArgumentParser, settings: type[Any], out: str) -> None:
    parser.add_argument("--out", required=True, metavar="RUN_DIR", help=out)
    parser.add_argument("--resume", action="store_true", help="go on with the training in RUN_DIR")
    add_flags(parser, settings)


def _train_encoder(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter.encoder import train

    given, run = given_values(options, TrainSettings), Path(options.out)

    def begin(progress: "Progress") -> "EncoderCheckpoint":
        tell = partial(progress.say, error=True)
        return train.train(TrainSettings(**given), run, _shown(arguments), progress.step, tell)

    def resume(progress: "Progress") -> "EncoderCheckpoint":
        return train.resume(run, given, progress.step, partial(progress.say, error=True))

    done = _drive("encoder", options, begin, resume)
    best = "" if done.best_error is None else f"; best one-shot error {done.best_error:.1%}, at step {done.best_step}"
    print(f"{run}: {done.step} steps in {done.elapsed_seconds:.0f} s{best}")


def _train_stylizer(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter.stylizer import train

    given, run = given_values(options, StylizerSettings), Path(options.out)
    done = _drive(
        "stylizer",
        options,
        lambda progress: train.train(StylizerSettings(**given), run, _shown(arguments), progress.step),
        lambda progress: train.resume(run, given, progress.step),
    )
    print(f"{run}: {done.step} steps in {done.elapsed_seconds:.0f} s; look at {run}/sheets")


def _drive(
    kind: str,
    options: argparse.Namespace,
    begin: "Callable[[Progress], C]",
    resume: "Callable[[Progress], C]",
) -> "C":
    """Begin or resume, whichever the user wants, under a progress bar; when stopped, tell how to go on."""
    from oneglance_core.progress import Progress
    from oneglance_exporter.training.checkpoint import CHECKPOINT_FILE

    try:
        with Progress("reading the data", lasting=True) as progress:
            return (resume if options.resume else begin)(progress)
    except KeyboardInterrupt:
        if (Path(options.out) / CHECKPOINT_FILE).is_file():  # not if it was stopped before the first step
            again = _shown(["train", kind, "--out", options.out, "--resume"])
            print(f"stopped; go on with: {again}", file=sys.stderr)
        raise


def _shown(arguments: list[str]) -> str:
    """The command line, as a shell takes it."""
    return shlex.join(["oneglance-exporter", *arguments])
