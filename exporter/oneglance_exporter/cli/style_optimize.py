"""``style optimize``: parse, call ``gatys.optimize``, write the files, print."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from oneglance_core.flags import add_flags, given_values
from oneglance_exporter.gatys.settings import GatysSettings

if TYPE_CHECKING:
    from oneglance_exporter.gatys.optimize import Result

_DESCRIPTION = """\
Neural style transfer as the textbook has it: J(G) = alpha * J_content(C, G) + beta * J_style(S, G), descended on the
pixels of G. Minutes for one picture; to stylize many, or in real time, train a stylizer.
"""

_EPILOG = """\
examples:

  oneglance-exporter style optimize --content photo.jpg --style wave.jpg --out painted.png
  oneglance-exporter style optimize --content photo.jpg --style wave.jpg --out painted.png \\
      --start photo --iterations 50 --animation painted.gif --log curve.csv
  oneglance-exporter style optimize --content photo.jpg --style wave.jpg --out large.png \\
      --size 1536 --coarse-to-fine --keep-colors --precision bf16
  oneglance-exporter style optimize --content photo.jpg --style wave.jpg --out coarse.png \\
      --content-layer relu3_1 --style-layers relu3_1=0.5 relu4_1=0.5 --beta 0.01

More of the style: a larger --beta, or --start noise. Larger strokes: a larger --style-size, or deeper --style-layers.
Copied too closely: a deeper --content-layer. From noise it looks right after about 100 evaluations, from the photo
after 50. One takes 1 to 3 seconds of a core at 256 x 256 pixels; memory is about 3 GB at 1024 x 1024; both are in
proportion to the number of pixels.

G is clipped to what a picture can hold after every step, and the J that is told of OUT is that of the file: measured on
its 8 bits. With --keep-colors J is that of luma alone. J isn't comparable between loss networks or sizes.

Ctrl-C writes the best so far.
"""


def add_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``optimize``, into the group ``style``."""
    parser = kinds.add_parser(
        "optimize",
        help="one picture in the style of another, by gradient descent on its pixels",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--content", required=True, type=Path, metavar="PATH", help="the photo C: png, jpg, webp, ppm")
    parser.add_argument("--style", required=True, type=Path, metavar="PATH", help="the picture S to learn the style of")
    parser.add_argument("--out", required=True, type=Path, metavar="PNG", help="G goes here; replaced if it is there")
    parser.add_argument("--log", type=Path, metavar="FILE", help="the curve of J, as .csv or .jsonl")
    parser.add_argument("--animation", type=Path, metavar="FILE", help="how G came to be, as .gif or .webp, 480 pixels")
    add_flags(parser, GatysSettings)
    parser.set_defaults(run_command=_optimize)


def _optimize(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_core.progress import Progress
    from oneglance_exporter.cli.outputs import check_outputs
    from oneglance_exporter.gatys.curve import logged
    from oneglance_exporter.gatys.optimize import DescentDivergedError, DescentReport, optimize
    from oneglance_exporter.perceptual.pictures import read_picture
    from oneglance_exporter.training.signals import stop_signals

    settings = GatysSettings(**given_values(options, GatysSettings))
    outputs: dict[str, tuple[Path, tuple[str, ...]]] = {"--out": (options.out, (".png",))}
    if options.log:
        outputs["--log"] = options.log, (".csv", ".jsonl")
    if options.animation:
        outputs["--animation"] = options.animation, (".gif", ".webp")
    content, style = read_picture(options.content), read_picture(options.style)
    check_outputs(outputs, [options.content, options.style])
    try:
        with stop_signals() as stopped, logged(options.log) as log, Progress(lasting=True) as progress:

            def report(step: DescentReport) -> None:
                log(step.point)
                progress.step(step)

            result = optimize(content, style, settings, report, stopped=stopped)
    except DescentDivergedError as error:
        if error.best is not None:
            _write(error.best, options, settings)
        raise
    _write(result, options, settings)
    if result.stopped:
        raise KeyboardInterrupt


def _write(result: "Result", options: argparse.Namespace, settings: GatysSettings) -> None:
    from oneglance_exporter.cli.outputs import png, write
    from oneglance_exporter.gatys.animation import animation

    write(options.out, png(result.picture))
    if options.animation:
        write(options.animation, animation([*result.frames, result.picture], options.animation.suffix[1:].upper()))
    height, width = result.picture.shape[:2]
    j = result.measured
    done, last = len(result.curve), "" if not result.stopped else ", stopped early"
    print(
        f"{options.out}: {width} x {height}, J {j.total:.6g} = {settings.alpha:g} * {j.content:.6g} (content) + "
        f"{result.beta:g} * {j.style:.6g} (style); the best of {done} evaluations, the {result.best.evaluation}th{last}"
    )
    print(f"loss network: {result.network.description}, SHA-256 {result.network.sha256}")
    if result.stopped and max(height, width) < settings.size:
        print(f"it is smaller than --size {settings.size}: --coarse-to-fine had not come that far", file=sys.stderr)
