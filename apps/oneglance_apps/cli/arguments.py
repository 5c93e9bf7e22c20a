"""Arguments that several commands share, and the examples that they name."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from oneglance.client.requests import (
    DOUBT_POLICIES,
    QUALITY_POLICIES,
    SMALL_FACES,
    SOUND_SUFFIXES,
    ExampleLike,
    FaceChoice,
    encoding,
    is_sound_file,
    photo,
    sound,
)
from oneglance.v1.common_pb2 import Example
from oneglance_apps.cli.commands import Options, argument
from oneglance_core.array_files import load_array
from oneglance_core.defaults import CANDIDATES
from oneglance_core.names import NameInvalid, as_name, as_value
from oneglance_core.picture_files import PICTURE_SUFFIXES, ends_in
from oneglance_core.printable import printable
from oneglance_core.ranges import within

MOST_COUNT = 2**31 - 1  # what a field of a message holds


def _face_choice(text: str) -> FaceChoice:
    if text == "largest":
        return "largest"
    if text == "aligned":
        return "aligned"
    try:
        x, y, width, height = map(float, text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither largest, aligned nor a box X,Y,WIDTH,HEIGHT") from error
    return x, y, width, height


def a_name(text: str) -> str:
    """The name that an argument is, as the server takes it."""
    try:
        as_name(text)
    except NameInvalid as error:
        raise argparse.ArgumentTypeError(f"'{printable(text)}' is no name: {error}") from error
    return text


def a_label(text: str) -> tuple[str, str]:
    """KEY=VALUE."""
    key, _, value = text.partition("=")
    try:
        return as_name(key), as_value(value)
    except NameInvalid as error:
        raise argparse.ArgumentTypeError(f"'{printable(text)}' is no label: {error}") from error


GALLERY = argument("gallery", "gallery id", type=a_name, metavar="GALLERY")
SUBJECT = argument("subject", "subject id", type=a_name, metavar="SUBJECT")
_EXAMPLE = (
    "a picture, or a sound (.wav, .flac); or FILE.npy with the encoder's input or, given --encoder-digest, an encoding"
)
PROBE = argument("probe", _EXAMPLE, metavar="FILE")
OTHER_PROBE = argument("other", _EXAMPLE, metavar="OTHER")
EXAMPLES = argument("examples", _EXAMPLE, metavar="FILE", nargs="+")
ENCODER_DIGEST = argument(
    "--encoder-digest", "FILE.npy is an encoding that the encoder with this digest made", metavar="DIGEST"
)
ENCODER = argument("--encoder", "name or digest of a loaded model [the only one]", metavar="MODEL", default="")
TAU = argument("--tau", "threshold, squared L2 [the gallery's, else the model's]", type=within(float))
MAX_CANDIDATES = argument(
    "--max-candidates",
    f"length of the candidate list [{CANDIDATES}]",
    type=within(int, least=0, most=MOST_COUNT),
    default=0,
    metavar="N",
)
FACE = argument(
    "--face",
    "which face of a photo: largest, aligned (the picture is an aligned face already), or a box X,Y,WIDTH,HEIGHT "
    "[the only one; in identify, every one]",
    metavar="WHICH",
    type=_face_choice,
)
SMALL_FACES_OPTION = argument(
    "--small-faces",
    "search the enlarged photo, too: when-none (the first search found no face), when-wide (it found none as "
    "wide as 0.3 of the photo's shorter side), always, never [when-wide for every face and for a box, else when-none]",
    choices=list(filter(None, SMALL_FACES)),
    default="",
)
QUALITY_POLICY = argument(
    "--quality-policy",
    "what the gallery demands of faces: one that falls short is refused at enrollment, and told of at a probe "
    "[standard]",
    choices=list(filter(None, QUALITY_POLICIES)),
    default="",
)
ACCEPT_BREACHES = argument(
    "--accept-breaches",
    "enroll what the gallery's quality policy, or the encoder's kind of input, would refuse",
    action="store_true",
)
ON_DOUBT = argument(
    "--on-doubt",
    "when an example is like another subject, or unlike the subject's own: off (don't look), flag (tell) or refuse "
    "[in create-gallery flag, else the gallery's]",
    choices=list(filter(None, DOUBT_POLICIES)),
    default="",
)
UPRIGHT_ONLY = argument(
    "--upright-only",
    "don't search a photo turned when it shows no upright face as it is",
    action="store_true",
)
ALL_MATCHES = argument("--all-matches", "also list every subject under tau", action="store_true")


def read_examples(files: Iterable[str], o: Options) -> Iterator[ExampleLike]:
    """Sounds; pictures with the face options of ``o``; FILE.npy as the encoder's input or, by row, as encodings.

    Each gets its name in ``o.names``.
    """
    encoder_digest = getattr(o, "encoder_digest", None)
    for file in files:
        if file.endswith(".npy") and encoder_digest is not None:
            for number, row in enumerate(np.atleast_2d(load_array(file)), 1):
                o.names.append(f"{file}, row {number}")
                yield encoding(row, encoder_digest)
        else:
            o.names.append(file)
            yield load_array(file) if file.endswith(".npy") else read_file(Path(file), o)


def read_file(file: Path, o: Options) -> Example:
    """A sound, or a picture with the face options of ``o``."""
    return file_example(file, file.read_bytes(), o)


def file_example(file: Path, content: bytes, o: Options) -> Example:
    """``read_file`` of a file that was read."""
    return sound(content) if is_sound_file(file) else photo(content, o.face, o.small_faces, upright_only=o.upright_only)


def is_example(file: Path) -> bool:
    """Whether a file in a folder of examples is one, by its suffix. Hidden files are none."""
    return ends_in(file, (*PICTURE_SUFFIXES, *SOUND_SUFFIXES))
