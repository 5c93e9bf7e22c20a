"""The options ``--model`` and ``--data`` of several commands, and what is read for them."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from oneglance_core.folder import ModelFolder, read_model_folder
from oneglance_core.manifests import EncoderManifest
from oneglance_core.ranges import within
from oneglance_exporter.errors import SettingsError

if TYPE_CHECKING:
    from oneglance_core.trials import Encodings
    from oneglance_exporter.data import Pictures


def add_pictures(parser: argparse.ArgumentParser, which: str) -> None:
    """The options; ``which``: what the pictures must be, for --data's help."""
    parser.add_argument("--model", required=True, metavar="MODEL_DIR")
    parser.add_argument("--data", required=True, nargs="+", metavar="PATH", help=which)
    parser.add_argument(
        "--finders",
        metavar="DIR",
        help="for an encoder of faces: where the detector's and the landmarks' model folders are [beside the model]",
    )
    parser.add_argument("--aligned", action="store_true", help="the pictures are aligned faces already")
    parser.add_argument(
        "--threads", type=within(int, least=1), default=1, metavar="N", help="of ONNX Runtime [%(default)s]"
    )


def described(options: argparse.Namespace) -> str:
    """``--data`` in words: what ``--described`` says, else the names."""
    return options.described or ", ".join(Path(path).name for path in options.data)


def encoded(options: argparse.Namespace, least: int = 2) -> "tuple[ModelFolder[EncoderManifest], Pictures, Encodings]":
    """The model folder, the pictures of ``--data`` as its input, and their encodings."""
    from oneglance_exporter.runtime import encoder_of

    folder, pictures = encoder_and_pictures(options, least)
    return folder, pictures, encoder_of(folder.model, options.threads)(pictures.images)


def encoder_and_pictures(
    options: argparse.Namespace, least: int = 2
) -> "tuple[ModelFolder[EncoderManifest], Pictures]":
    """The model folder, and the pictures of ``--data`` as its input, at least ``least`` of each subject.

    Raises SettingsError for an encoder that takes no images, DataError and ModelFolderError.
    """
    from oneglance_exporter.data import read_pictures
    from oneglance_exporter.faces import read_faces

    folder = read_model_folder(options.model)
    spec = folder.manifest.input
    if spec.kind != "image":
        raise SettingsError(f"{options.model}: takes a {spec.kind}; images are read here")
    if folder.manifest.alignment is not None and not options.aligned:
        pictures, left_out = read_faces(options.data, folder, options.finders, options.threads, least)
        if left_out.pictures:
            people = len(left_out.subjects)
            print(
                f"no face found in {left_out.pictures} pictures; they are left out, and so are {people} of "
                f"{people + len(pictures.subjects)} people, of whom fewer than {least} are left",
                file=sys.stderr,
            )
    else:
        pictures = read_pictures(options.data, spec, least)
    return folder, pictures
