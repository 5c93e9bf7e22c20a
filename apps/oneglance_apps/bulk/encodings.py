"""Encodings of many subjects in a file: as ``oneglance-exporter encode`` writes them, .npy with a list, or Parquet."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.array_files import ArrayFileError, arrays_in, load_array

SUFFIXES = (".npz", ".npy", ".parquet")
_SUBJECTS, _ENCODINGS, _DIGEST = "subjects", "encodings", "digest"


@dataclass(frozen=True)
class EncodingFile:
    """``encodings`` float32 [N, D], and whose each is. ``digest``: of the encoder, where the file says it."""

    subjects: list[str]
    encodings: npt.NDArray[np.float32]
    digest: str = ""

    def by_subject(self) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Each subject once, in the order in which they come first, with its encodings, [n, D]."""
        places: dict[str, list[int]] = {}
        for place, subject in enumerate(self.subjects):
            places.setdefault(subject, []).append(place)
        for subject, own in places.items():
            yield subject, self.encodings[own]

    @property
    def subject_count(self) -> int:
        return len(set(self.subjects))


def read_encodings(path: Path, subjects: Path | None = None) -> EncodingFile:
    """``subjects``: with a .npy file a text file, a line for each encoding. Raises OSError, and ValueError that names
    the file and what is wrong with it."""
    if (path.suffix == ".npy") != (subjects is not None):
        raise ValueError(f"{path}: a .npy file goes with --subjects FILE.txt, and no other does")
    try:
        if path.suffix == ".npz":
            return _checked(path, **arrays_in(path, [_SUBJECTS, _ENCODINGS, _DIGEST]))
        if subjects is not None:
            lines = subjects.read_text("utf-8-sig").splitlines()
            return _checked(path, subjects=lines, encodings=load_array(path))
        if path.suffix == ".parquet":
            return _checked(path, **_parquet(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{subjects}: not UTF-8: {error.reason} at byte {error.start:,}") from None
    except ArrayFileError as error:
        raise ValueError(f"{path}: {error}") from None
    raise ValueError(f"{path}: expected one of {', '.join(SUFFIXES)}")


def _parquet(path: Path) -> dict[str, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError(f"{path}: to read Parquet takes pyarrow: pip install 'oneglance[parquet]'") from None
    try:
        table = pq.read_table(path, columns=["subject", "encoding"])
        lists = table["encoding"].combine_chunks()
        rows = np.asarray(lists.flatten()).reshape(len(lists), -1)
        return {_SUBJECTS: table["subject"].to_pylist(), _ENCODINGS: rows}
    except (pa.ArrowException, KeyError, AttributeError, ValueError) as error:
        told = str(error).partition("\n")[0]
        raise ValueError(f"{path}: expected columns subject, text, and encoding, lists of one length: {told}") from None


def _checked(path: Path, subjects: Any = None, encodings: Any = None, digest: Any = "") -> EncodingFile:
    if subjects is None or encodings is None:
        raise ValueError(f"{path}: expected the arrays {_SUBJECTS} and {_ENCODINGS}")
    if encodings.ndim != 2 or encodings.dtype.kind != "f":
        raise ValueError(f"{path}: the encodings are {encodings.dtype} {encodings.shape}, expected float [N, D]")
    if len(subjects) != len(encodings):
        raise ValueError(f"{path}: {len(subjects)} subjects for {len(encodings)} encodings")
    return EncodingFile([str(one) for one in subjects], encodings.astype(np.float32, copy=False), str(digest))
