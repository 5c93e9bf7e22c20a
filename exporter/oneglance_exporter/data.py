"""Read labelled pictures: folders and zips of ``.../subject/*.png`` and of the other formats that the server reads.

A picture's subject is its parent folder's path inside the source, less the folders that all
pictures of the source share. A subject's group is the folder around it: an alphabet in Omniglot,
where ``Greek/character01/0394_07.png`` is subject ``Greek/character01`` of group ``Greek``.
Equal subjects of several sources are one subject; a file name that repeats there is read once.
"""

import lzma
import math
import os
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from oneglance_core.manifests import InputSpec
from oneglance_core.picture_files import PICTURE_SUFFIXES, is_picture
from oneglance_core.pictures import PictureError, PictureLimits, decode_photo, encoder_input
from oneglance_exporter.errors import DataError

LIMITS = PictureLimits(max_image_bytes=sys.maxsize, max_image_pixels=64_000_000)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Labelled pictures, sorted by subject and file name.

    images: uint8 [N, H, W, C], C = 1 gray or 3 rgb, 0 black; N over all subjects.
    files: where each of the N was read, "source: file".
    """

    images: npt.NDArray[np.uint8]
    subject_of: npt.NDArray[np.int64]  # [N], index into subjects, never falling
    subjects: tuple[str, ...]
    group_of: npt.NDArray[np.int64]  # [len(subjects)], index into groups
    groups: tuple[str, ...]
    files: tuple[str, ...] = ()

    def members(self) -> list[npt.NDArray[np.int64]]:
        """Indices of each subject's pictures: ``members()[s]`` is int64 [pictures of s]."""
        starts = np.searchsorted(self.subject_of, np.arange(len(self.subjects) + 1))
        return [np.arange(start, end) for start, end in pairwise(starts)]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What ``read_brought`` left out.

    pictures: how many of which nothing could be brought. subjects: those which then had too few, in order.
    """

    pictures: int
    subjects: tuple[str, ...]


Bring = Callable[[bytes], npt.NDArray[np.uint8] | None]
"""From the bytes of a file to an encoder's input uint8 [H, W, C]; None leaves the picture out. Raises PictureError."""


def read_pictures(paths: Sequence[str | os.PathLike[str]], spec: InputSpec, least: int = 2) -> Pictures:
    """Read every picture of ``paths`` as the server would give it to an encoder that takes ``spec``, an image.

    Raises as read_brought.
    """
    return read_brought(paths, lambda content: encoder_input(content, spec, LIMITS), least)[0]


def read_brought(paths: Sequence[str | os.PathLike[str]], bring: Bring, least: int = 2) -> tuple[Pictures, LeftOut]:
    """Read every picture of ``paths`` and let ``bring`` make an encoder's input of it.

    A subject of which fewer than ``least`` pictures could be brought is left out with all of them.
    Raises DataError for a path that isn't there, a source without pictures, a picture that can't
    be decoded, a subject with fewer than ``least`` pictures, and when nobody is left.
    """
    found: dict[tuple[str, str], npt.NDArray[np.uint8] | None] = {}
    places: dict[tuple[str, str], str] = {}
    for path in map(Path, paths):
        files = _files(path)
        for file, _ in files:
            if len(file.parts) < 2:
                raise DataError(f"{path}: {file} lies in no subject's folder")
        shared = _shared_depth([file.parts for file, _ in files])
        for file, content in files:
            subject = "/".join(file.parts[shared:-1])
            if (subject, file.name) not in found:
                place = places[subject, file.name] = f"{path}: {file}"
                with decoding(place):
                    found[subject, file.name] = bring(content)
    given = Counter(subject for subject, _ in sorted(found))
    scarce = min(given, key=lambda subject: given[subject])
    if given[scarce] < least:
        raise DataError(f"subject {scarce!r} has {given[scarce]} picture(s); at least {least} are needed for each")
    brought = {key: picture for key, picture in found.items() if picture is not None}
    enough = Counter(subject for subject, _ in brought)
    subjects = tuple(subject for subject in given if enough[subject] >= least)
    if not subjects:
        raise DataError(f"there is nobody of whom {least} pictures or more could be used")
    keys = sorted(key for key in brought if enough[key[0]] >= least)
    groups = tuple(sorted({_group(subject) for subject in subjects}))
    number = {subject: i for i, subject in enumerate(subjects)}
    subject_of = np.array([number[subject] for subject, _ in keys])
    pictures = Pictures(
        images=np.stack([brought[key] for key in keys]),
        subject_of=subject_of,
        subjects=subjects,
        group_of=np.array([groups.index(_group(subject)) for subject in subjects]),
        groups=groups,
        files=tuple(places[key] for key in keys),
    )
    without = tuple(subject for subject in given if enough[subject] < least)
    return pictures, LeftOut(len(found) - len(brought), without)


def read_photos(paths: Sequence[str | os.PathLike[str]], most: int, pixels: int) -> list[npt.NDArray[np.uint8]]:
    """Photos uint8 [H, W, 3] rgb of ``paths``, folders or zips of pictures, whoever they show.

    Of more than ``most`` an even choice is taken; those of more than ``pixels`` pixels are shrunk to that.
    Raises DataError for a path that isn't there, one without pictures, and a picture that can't be decoded.
    """
    files = [(f"{path}: {file}", content) for path in map(Path, paths) for file, content in _files(path)]
    photos = []
    for name, content in files[:: -(-len(files) // most)]:
        photo = Image.fromarray(read_photo(content, name))
        scale = math.sqrt(pixels / (photo.width * photo.height))
        if scale < 1:
            size = max(1, int(photo.width * scale)), max(1, int(photo.height * scale))
            photo = photo.resize(size, Image.Resampling.BILINEAR)
        photos.append(np.asarray(photo, dtype=np.uint8))
    return photos


def read_photo(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """One photo, upright, uint8 [H, W, 3] rgb. Raises DataError, which says ``name``."""
    with decoding(name):
        return decode_photo(content, LIMITS)


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """A picture that can't be used is a DataError, which says ``name``."""
    try:
        yield
    except PictureError as error:
        raise DataError(f"{name}: can't be decoded: {error}") from error


def _files(path: Path) -> list[tuple[PurePosixPath, bytes]]:
    """Name and content of each picture, by name."""
    files = list(_zip_files(path) if zipfile.is_zipfile(path) else _folder_files(path))
    if not files:
        raise DataError(f"{path}: no pictures in it ({', '.join(PICTURE_SUFFIXES)})")
    return files


def _folder_files(root: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    if not root.is_dir():
        raise DataError(f"{root}: neither a folder nor a zip")
    try:
        for file in sorted(root.rglob("*")):
            if is_picture(file) and file.is_file():
                yield PurePosixPath(file.relative_to(root).as_posix()), file.read_bytes()
    except OSError as error:
        raise DataError(f"{root}: can't be read: {error}") from error


def _zip_files(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                file = PurePosixPath(name)
                if is_picture(file):
                    yield file, archive.read(name)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError) as error:
        raise DataError(f"{path}: damaged zip: {error}") from error


def _shared_depth(files: list[tuple[str, ...]]) -> int:
    """How many leading folders all of ``files`` share; the subject's own folder doesn't count."""
    folders = [file[:-1] for file in files]
    depth = 0
    while depth < min(map(len, folders)) - 1 and len({folder[depth] for folder in folders}) == 1:
        depth += 1
    return depth


def _group(subject: str) -> str:
    return subject.rpartition("/")[0]
