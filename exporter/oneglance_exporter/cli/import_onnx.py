"""``import onnx``: parse, call one function, print."""

import argparse
import shlex
from pathlib import Path

from oneglance_exporter.cli.options import model_name
from oneglance_exporter.errors import SettingsError

_EPILOG = """\
presets, from the authors' own code (options given beside one win):

  arcface   rgb, (x - 127.5) / 127.5, --unit-norm, --align arcface     InsightFace's ArcFace and MobileFaceNet
  adaface   bgr, (x - 127.5) / 127.5, --unit-norm, --align arcface     AdaFace
  sface     rgb, x,                   --unit-norm, --align arcface     SFace of OpenCV's zoo; graphs that normalise
  imagenet  rgb, mean 123.675 116.28 103.53, scale 1/58.395 1/57.12 1/57.375

  oneglance-exporter import onnx w600k_r50.onnx --preset arcface --out models/arcface --name arcface \\
      --license 'non-commercial research only'

The wrapped graph must answer as FILE does on pictures prepared in numpy, one at a time, or it is refused. That says
nothing of the contract itself: a network given bgr for rgb still answers. Measure it with `evaluate`.
"""


def add_parser(sources: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``onnx``, a kind of ``import``."""
    parser = sources.add_parser(
        "onnx",
        help="any other encoder, from its ONNX file",
        description="Write an encoder that others trained as a model folder, given what it wants of its input.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the ONNX file; weights beside it are taken in")
    parser.add_argument("--out", required=True, type=Path, metavar="MODEL_DIR", help="replaced if it is there")
    parser.add_argument("--name", required=True, type=model_name, help="as clients will know it: a-z 0-9 . _ -")
    parser.add_argument("--license", required=True, help="of the weights; many face encoders are for research only")
    parser.add_argument("--description", default="", help="one sentence for people")
    parser.add_argument("--preset", choices=("arcface", "adaface", "sface", "imagenet"), help="see below")
    parser.add_argument("--color", choices=("rgb", "bgr", "gray"), help="the network's channel order (rgb)")
    parser.add_argument("--layout", choices=("nchw", "nhwc"), help="(nchw)")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="where the graph leaves it open")
    parser.add_argument(
        "--mean", type=float, nargs="+", metavar="X",
        help="x' = (x - mean) * scale, x from 0 to 255; one number (0), or one per channel in the network's order",
    )  # fmt: skip
    parser.add_argument("--scale", type=float, nargs="+", metavar="X", help="likewise (1)")
    parser.add_argument(
        "--unit-norm", action=argparse.BooleanOptionalAction, default=None,
        help="divide encodings by their length; for networks compared by cosine: squared L2 is then 2 - 2 cosine",
    )  # fmt: skip
    parser.add_argument("--output", metavar="NAME", help="the graph's output that is the encoding, if it has several")
    parser.add_argument(
        "--align", choices=("none", "dlib-5", "arcface"),
        help="how a face in a photo becomes the network's chip. dlib-5: dlib's mean face with --face-padding. arcface: "
        "dlib's mean face laid into ArcFace's chip so that the eyes meet; derived, not the author's five points, of "
        "which dlib's finder has only the eyes. none: no photos, only chips (none)",
    )  # fmt: skip
    parser.add_argument(
        "--face-padding", type=float, metavar="P", help="border of --align dlib-5, as a share of the face (0.25)"
    )
    parser.add_argument("--author-tau", type=float, metavar="TAU", help="the author's threshold, as squared L2")
    parser.set_defaults(run_command=_import_onnx)


def _import_onnx(options: argparse.Namespace, arguments: list[str]) -> None:
    """Import, and say what was written. Raises ExporterError."""
    from oneglance_exporter.imports.alignments import arcface_alignment, dlib_alignment
    from oneglance_exporter.imports.onnx_file import PRESETS, Contract, import_onnx

    preset = PRESETS.get(options.preset)
    base = preset.contract if preset else Contract()
    contract = Contract(
        color=options.color or base.color,
        layout=options.layout or base.layout,
        mean=tuple(options.mean or base.mean),
        scale=tuple(options.scale or base.scale),
        size=tuple(options.size) if options.size else None,
    )
    align = options.align or (preset.align if preset else "none")
    if options.face_padding is not None and (align != "dlib-5" or not 0 <= options.face_padding <= 10):
        raise SettingsError("--face-padding goes with --align dlib-5, and is 0 to 10")
    padding = 0.25 if options.face_padding is None else options.face_padding
    alignments = {"dlib-5": lambda size: dlib_alignment(size, padding), "arcface": arcface_alignment}
    unit_norm = options.unit_norm if options.unit_norm is not None else bool(preset and preset.unit_norm)
    manifest = import_onnx(
        options.file,
        options.out,
        options.name,
        options.license,
        contract,
        unit_norm=unit_norm,
        output=options.output,
        alignment=alignments.get(align),
        author_tau=options.author_tau,
        description=options.description,
        command=shlex.join(["oneglance-exporter", *arguments]),
    )
    height, width, channels = manifest.input.shape
    print(
        f"{options.out}: {manifest.name}, {height} x {width} x {channels} in, {manifest.output.dimension} numbers out"
        f"{' of length 1' if manifest.output.unit_norm else ''}, checked against {options.file}; no threshold yet"
    )
