"""What a running server makes of labelled pictures, to be judged."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance.client.errors import InvalidArgumentError, OneglanceError
from oneglance.client.requests import photo
from oneglance.client.sync_client import Client
from oneglance_apps.error_words import why
from oneglance_apps.subject_folders import subject_folders
from oneglance_core.judging.errors import BadEncodings
from oneglance_core.judging.judge import Far
from oneglance_core.judging.labelled import LabelledEncodings, label
from oneglance_core.pictures import PictureLimits, decode_layers

NO_FACE = ("FACE_NOT_FOUND", "FACE_NOT_UPRIGHT")
_TOGETHER = 16  # pictures of a call
_MOST_SIDE = 200  # pixels of a picture that is shown
_LIMITS = PictureLimits(max_image_bytes=1 << 30, max_image_pixels=1 << 27)


def served_encodings(
    client: Client, folder: Path, encoder: str, tell: Callable[[str], None], far: Far
) -> tuple[LabelledEncodings, str]:
    """Encodings of ``folder``'s pictures, SUBJECT/1.png or GROUP/SUBJECT/1.png, by the server's Encode, and the digest
    of the encoder.

    encoder: name or digest of a loaded model; empty: the only one. Of a photo, the largest face counts; photos without
    any are left out, and ``tell`` hears of how many. Raises BadEncodings, which names the picture that the server
    refuses, and OneglanceError.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: no such folder")
    named = [("/".join(parts), file) for parts, files in subject_folders(folder) for file in files]
    if not named:
        raise BadEncodings(
            f"{folder}: no pictures; they belong in {folder}/SUBJECT/1.png or {folder}/GROUP/SUBJECT/1.png"
        )
    rows: list[npt.NDArray[np.float32]] = []
    kept: list[tuple[str, Path]] = []
    digest = ""
    for start in range(0, len(named), _TOGETHER):
        far(start / len(named), f"{start} of {len(named)} encoded")
        part = named[start : start + _TOGETHER]
        for one, encoding in zip(part, _encodings(client, [file for _, file in part], encoder), strict=True):
            if encoding is not None:
                rows.append(np.array(encoding.values, np.float32))
                kept.append(one)
                digest = encoding.encoder_digest
    if len(kept) < len(named):
        tell(f"no face found in {len(named) - len(kept)} pictures; they are left out")
    if not kept:
        raise BadEncodings(f"{folder}: no picture could be used")
    files = [file for _, file in kept]
    people = label(
        np.stack(rows),
        [subject for subject, _ in kept],
        [file.relative_to(folder).as_posix() for file in files],
        picture=lambda row: decode_layers(files[row].read_bytes(), _LIMITS, max_side=_MOST_SIDE).pixels,
    )
    return people, digest


def _encodings(client: Client, files: Sequence[Path], encoder: str) -> list[Any]:
    """Of each file; None of a photo without a face. Together, and one by one where the server refuses that."""
    try:
        return list(client.encode(*(photo(file, "largest") for file in files), encoder=encoder).encodings)
    except OneglanceError as error:
        if error.reason not in NO_FACE and not isinstance(error, InvalidArgumentError):
            raise
        if len(files) > 1:
            return [encoding for file in files for encoding in _encodings(client, [file], encoder)]
        if error.reason in NO_FACE:
            return [None]
        name = str(files[0])
        raise BadEncodings(f"{name}: {why(error, [name]).removeprefix(f'{name}: ')}") from error
