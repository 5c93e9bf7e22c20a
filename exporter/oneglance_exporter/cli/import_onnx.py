"""``import onnx``: parse, call one function, print."""

import argparse
import shlex
from pathlib import Path

from oneglance_core.flags import add_flags, given_values
from oneglance_exporter.cli.options import model_name
from oneglance_exporter.imports.onnx_settings import PRESETS, OnnxSettings

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
    parser.add_argument("--preset", choices=tuple(PRESETS), help="see below")
    add_flags(parser, OnnxSettings)
    parser.set_defaults(run_command=_import_onnx)


def _import_onnx(options: argparse.Namespace, arguments: list[str]) -> None:
    """Import, and say what was written. Raises ExporterError."""
    from oneglance_exporter.imports.alignments import arcface_alignment, dlib_alignment
    from oneglance_exporter.imports.onnx_file import import_onnx

    settings = OnnxSettings(**{**PRESETS.get(options.preset, {}), **given_values(options, OnnxSettings)})
    alignments = {"dlib-5": lambda size: dlib_alignment(size, settings.face_padding), "arcface": arcface_alignment}
    manifest = import_onnx(
        options.file,
        options.out,
        options.name,
        options.license,
        settings,
        unit_norm=settings.unit_norm,
        output=settings.output,
        alignment=alignments.get(settings.align),
        author_tau=settings.author_tau,
        description=options.description,
        command=shlex.join(["oneglance-exporter", *arguments]),
    )
    height, width, channels = manifest.input.shape
    print(
        f"{options.out}: {manifest.name}, {height} x {width} x {channels} in, {manifest.output.dimension} numbers out"
        f"{' of length 1' if manifest.output.unit_norm else ''}, checked against {options.file}; no threshold yet"
    )
