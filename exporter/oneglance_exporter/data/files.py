"""Labelled files, listed without being read: in folders, zips, tar shards, CSV lists and .npz arrays.

A file's subject is its folder's path inside the source, less the folders that all files of the source share. A
subject's group is the folder around it: an alphabet in Omniglot, where ``Greek/character01/0394_07.png`` is subject
``Greek/character01`` of group ``Greek``.

    folder, .zip    .../subject/file
    .csv            columns "path" (from the CSV's folder on) and "label"
    .tar            WebDataset shards: key.png beside key.cls, key.txt or key.json ({"label": ...}), which name the
                    subject; where there are none of these, folders do
    .npz            arrays "inputs" [N, ...] and "subjects" [N]
    .parquet        columns "label" and "path", "bytes", "image" or "input": ``data.parquet``

Equal subjects of several sources are one subject. A file that is there again under its name, with the same content, is
read once.
"""

import csv
import json
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from oneglance_core.archives import ArchiveError, check_inflation, check_size
from oneglance_core.array_files import ArrayFileError, array_in, arrays_in
from oneglance_core.picture_files import PICTURE_SUFFIXES, ends_in
from oneglance_exporter.data.parquet import read_rows
from oneglance_exporter.errors import DataError

ARRAY_SUFFIXES = (".npy", ".npz")
Content = bytes | npt.NDArray[Any]
_LABELS = (".cls", ".txt", ".json")
_MOST_LABEL_BYTES = 1 << 20
_MOST_LINE = 1 << 20  # characters of a CSV list


@dataclass(frozen=True, slots=True)
class File:
    """A labelled file. ``place``: for messages, "source: file". ``name``: unique among its subject's files.

    read: its content: the bytes of a picture or an array file, or an array. Raises DataError.
    """

    place: str
    subject: str
    name: str
    read: Callable[[], Content]


def labelled_files(paths: Sequence[str | os.PathLike[str]], suffixes: Sequence[str] = PICTURE_SUFFIXES) -> list[File]:
    """The files of all ``paths`` that end in one of ``suffixes``, sorted by subject and name.

    Hidden files are none: macOS puts a ``._name.png`` beside each name.png. Raises DataError for a path that isn't
    there, a damaged one, one without such files, and a file without a label.
    """
    found: dict[tuple[str, str], list[File]] = {}
    for path in map(Path, paths):
        files = list(_of_source(path, suffixes))
        if not files:
            what = "arrays" if set(suffixes) <= set(ARRAY_SUFFIXES) else "pictures"
            raise DataError(f"{path}: no {what} in it ({', '.join(suffixes)})")
        for file in files:
            namesakes = found.setdefault((file.subject, file.name), [])
            if not any(_same(file, other) for other in namesakes):
                namesakes.append(file)
    return [file for key in sorted(found) for file in found[key]]


def _same(one: File, other: File) -> bool:
    """Whether both hold the same, and can be read."""
    try:
        first, second = one.read(), other.read()
    except DataError:
        return False
    if isinstance(first, bytes) or isinstance(second, bytes):
        return isinstance(first, bytes) and first == second
    return first.dtype == second.dtype and np.array_equal(first, second)


def unlabelled_files(path: Path) -> list[tuple[PurePosixPath, Callable[[], bytes]]]:
    """The pictures of a folder or zip, by name, whoever they show. Raises DataError."""
    files = list(_zipped(path, PICTURE_SUFFIXES) if _is_zip(path) else _in_folder(path, PICTURE_SUFFIXES))
    if not files:
        raise DataError(f"{path}: no pictures in it ({', '.join(PICTURE_SUFFIXES)})")
    return files


def _of_source(path: Path, suffixes: Sequence[str]) -> Iterator[File]:
    if path.suffix.lower() == ".npz" and path.is_file():
        return _stacked(path)
    if path.suffix.lower() == ".csv" and path.is_file():
        return _listed(path, suffixes)
    if path.suffix.lower() == ".tar" and path.is_file():
        return _in_shard(path, suffixes)
    if path.suffix.lower() == ".parquet" and path.is_file():
        return _in_parquet(path, suffixes)
    files = _zipped(path, suffixes) if _is_zip(path) else _in_folder(path, suffixes)
    return _by_folder(path, list(files))


def _is_zip(path: Path) -> bool:
    """No pipe is: the look at it would wait for a writer."""
    return path.is_file() and zipfile.is_zipfile(path)


def _by_folder(path: Path, files: Sequence[tuple[PurePosixPath, Callable[[], bytes]]]) -> Iterator[File]:
    for file, _ in files:
        if len(file.parts) < 2:
            raise DataError(f"{path}: {file} lies in no subject's folder")
    shared = _shared_depth([file.parts for file, _ in files]) if files else 0
    for file, read in files:
        yield File(f"{path}: {file}", "/".join(file.parts[shared:-1]), file.name, read)


def _shared_depth(files: list[tuple[str, ...]]) -> int:
    """How many leading folders all of ``files`` share; the subject's own folder doesn't count."""
    folders = [file[:-1] for file in files]
    depth = 0
    while depth < min(map(len, folders)) - 1 and len({folder[depth] for folder in folders}) == 1:
        depth += 1
    return depth


def _in_folder(root: Path, suffixes: Sequence[str]) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    if not root.is_dir():
        raise DataError(f"{root}: neither a folder nor a zip, tar, csv, npz or parquet")
    try:
        for file in sorted(root.rglob("*")):
            if ends_in(PurePosixPath(file), suffixes) and file.is_file():
                yield PurePosixPath(file.relative_to(root).as_posix()), partial(_read_file, root, file)
    except OSError as error:
        raise DataError(f"{root}: can't be read: {error}") from error


def _read_file(source: Path, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{source}: can't be read: {error}") from error


def _zipped(path: Path, suffixes: Sequence[str]) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    try:
        archive = zipfile.ZipFile(path)
        names = sorted(set(archive.namelist()))
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: damaged zip: {error}") from error
    for name in names:
        if ends_in(PurePosixPath(name), suffixes):
            yield PurePosixPath(name), partial(_read_zipped, path, archive, name)


def _read_zipped(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        member = archive.getinfo(name)
        check_size(name, member.file_size)
        check_inflation(member)
        return archive.read(member)
    except ArchiveError as error:
        raise DataError(f"{path}: {error}") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError, MemoryError) as error:
        raise DataError(f"{path}: damaged zip: {error}") from error


def _listed(path: Path, suffixes: Sequence[str]) -> Iterator[File]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(_lines(path, file))
            if not {"path", "label"} <= set(rows.fieldnames or ()):
                raise DataError(f"{path}: needs the columns path and label, has {', '.join(rows.fieldnames or ())}")
            lines = [(rows.line_num, row["path"], row["label"]) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: can't be read: {error}") from error
    label_of: dict[str, str] = {}
    for number, name, label in lines:
        if not name or not label or not label.strip():
            raise DataError(f"{path}: line {number} has no {'label' if name else 'path'}")
        yield _named(path, f"line {number}", name, label.strip(), suffixes, label_of)


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Raises DataError for one that is longer than any list has."""
    number = 0
    while line := file.readline(_MOST_LINE + 1):
        number += 1
        if len(line) > _MOST_LINE:
            raise DataError(f"{path}: line {number} is longer than {_MOST_LINE:,} characters")
        yield line


def _named(path: Path, where: str, name: str, label: str, suffixes: Sequence[str], label_of: dict[str, str]) -> File:
    """The file that a list names, from the list's folder on. label_of: of those before."""
    place = path.parent / name
    if place.suffix.lower() not in suffixes:
        raise DataError(f"{path}: {where}: {name} ends in none of {', '.join(suffixes)}")
    if not place.is_file():
        raise DataError(f"{path}: {where}: {name}: no such file")
    if label_of.setdefault(name, label) != label:
        raise DataError(f"{path}: {where}: {name} has the label {label!r}, and {label_of[name]!r} before")
    return File(f"{path}: {name}", label, name, partial(_read_file, path, place))


def _in_parquet(path: Path, suffixes: Sequence[str]) -> Iterator[File]:
    label_of: dict[str, str] = {}
    for row in read_rows(path):
        where = f"row {row.number}"
        if row.path is not None:
            yield _named(path, where, row.path, row.label, suffixes, label_of)
        elif row.read is not None:
            yield File(f"{path}: {where}", row.label, f"{path.name}/{row.number:09d}", row.read)


def _in_shard(path: Path, suffixes: Sequence[str]) -> Iterator[File]:
    """Only the headers are read; contents are read later, where they stand in the file."""
    try:
        with tarfile.open(path, "r:") as shard:
            members = [member for member in shard if member.isfile()]
    except (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise DataError(f"{path}: no tar, or damaged: {error}") from error
    examples = [member for member in members if ends_in(PurePosixPath(member.name), suffixes)]
    labels = {
        _key(member.name): member
        for member in members
        if ends_in(PurePosixPath(member.name), _LABELS) and member.size <= _MOST_LABEL_BYTES
    }
    if not any(_key(member.name) in labels for member in examples):
        yield from _by_folder(path, [(PurePosixPath(m.name), partial(_read_member, path, m)) for m in examples])
        return
    for member in examples:
        if (label := labels.get(_key(member.name))) is None:
            raise DataError(f"{path}: {member.name} has no label: no {_key(member.name)} with {', '.join(_LABELS)}")
        subject = _label(path, label.name, _read_member(path, label))
        yield File(f"{path}: {member.name}", subject, f"{path.name}/{member.name}", partial(_read_member, path, member))


def _key(name: str) -> str:
    """WebDataset's: up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.split('.', 1)[0]}"


def _label(path: Path, name: str, content: bytes) -> str:
    try:
        text = content.decode()
        if name.lower().endswith(".json"):
            value = json.loads(text)
            text = str(value["label"] if isinstance(value, dict) else value)
    except (UnicodeDecodeError, ValueError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: {name}: holds no label: {error}") from error
    if not text.strip():
        raise DataError(f"{path}: {name}: holds no label")
    return text.strip()


def _read_member(path: Path, member: tarfile.TarInfo) -> bytes:
    try:
        check_size(member.name, member.size)
        with open(path, "rb") as file:
            file.seek(member.offset_data)
            content = file.read(member.size)
    except (ArchiveError, OSError) as error:
        raise DataError(f"{path}: can't be read: {error}") from error
    if len(content) < member.size:
        raise DataError(f"{path}: {member.name}: cut off")
    return content


def _stacked(path: Path) -> Iterator[File]:
    try:
        arrays = arrays_in(path)
    except (ArrayFileError, OSError) as error:
        raise DataError(f"{path}: can't be read: {error}") from error
    if not {"inputs", "subjects"} <= arrays.keys():
        raise DataError(f"{path}: needs the arrays inputs and subjects, has {', '.join(arrays) or 'none'}")
    inputs, subjects = arrays["inputs"], arrays["subjects"]
    if inputs.ndim < 2 or subjects.shape != inputs.shape[:1]:
        raise DataError(f"{path}: inputs {list(inputs.shape)} and subjects {list(subjects.shape)} don't go together")
    for row, subject in enumerate(subjects.tolist()):
        name = f"{path.name}/{row:09d}"
        yield File(f"{path}: row {row}", str(subject), name, partial(inputs.__getitem__, row))


def array_of(content: Content) -> npt.NDArray[Any]:
    """The array in the bytes of a .npy file, or of a .npz that holds one. Raises ValueError."""
    return content if isinstance(content, np.ndarray) else array_in(content)
