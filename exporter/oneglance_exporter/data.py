"""Read labelled pictures: folders and zips of ``.../subject/*.png|jpg|pgm``.

A picture's subject is its parent folder's path inside the source, less the folders that all
pictures of the source share. A subject's group is the folder around it: an alphabet in Omniglot,
where ``Greek/character01/0394_07.png`` is subject ``Greek/character01`` of group ``Greek``.
Equal subjects of several sources are one subject; a file name that repeats there is read once.
"""

import io
import math
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from oneglance_exporter.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".pgm")
MAX_PIXELS = 64_000_000


@dataclass(frozen=True, slots=True)
class Pictures:
    """Labelled pictures, sorted by subject and file name.

    images: uint8 [N, H, W, C], C = 1 gray or 3 rgb, 0 black; N over all subjects.
    """

    images: npt.NDArray[np.uint8]
    subject_of: npt.NDArray[np.int64]  # [N], index into subjects, never falling
    subjects: tuple[str, ...]
    group_of: npt.NDArray[np.int64]  # [len(subjects)], index into groups
    groups: tuple[str, ...]

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


Bring = Callable[[Image.Image], npt.NDArray[np.uint8] | None]
"""From an upright gray or rgb picture to an encoder's input uint8 [H, W, C]; None leaves the picture out."""


def read_pictures(
    paths: Sequence[str | os.PathLike[str]], height: int, width: int, least: int = 2, mode: str = "L"
) -> Pictures:
    """Read every picture of ``paths``, brought to (height, width) by Pillow's box filter.

    mode: "L" for gray, or "RGB". Raises as read_brought.
    """

    def bring(picture: Image.Image) -> npt.NDArray[np.uint8]:
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BOX)
        return np.asarray(picture, dtype=np.uint8).reshape(height, width, -1)

    return read_brought(paths, bring, least, mode, (width, height))[0]


def read_brought(
    paths: Sequence[str | os.PathLike[str]],
    bring: Bring,
    least: int = 2,
    mode: str = "RGB",
    draft: tuple[int, int] | None = None,
) -> tuple[Pictures, LeftOut]:
    """Read every picture of ``paths`` in Pillow's ``mode`` and let ``bring`` make an encoder's input of it.

    draft: (width, height) that is enough: a larger JPEG is decoded at the smallest scale that covers it.
    A subject of which fewer than ``least`` pictures could be brought is left out with all of them.
    Raises DataError for a path that isn't there, a source without pictures, a picture that can't
    be decoded, a subject with fewer than ``least`` pictures, and when nobody is left.
    """
    found: dict[tuple[str, str], npt.NDArray[np.uint8] | None] = {}
    for path in map(Path, paths):
        files = _files(path)
        for file, _ in files:
            if len(file.parts) < 2:
                raise DataError(f"{path}: {file} lies in no subject's folder")
        shared = _shared_depth([file.parts for file, _ in files])
        for file, content in files:
            subject = "/".join(file.parts[shared:-1])
            if (subject, file.name) not in found:
                found[subject, file.name] = bring(decode(content, f"{path}: {file}", mode, draft))
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
        photo = decode(content, name, "RGB", None)
        scale = math.sqrt(pixels / (photo.width * photo.height))
        if scale < 1:
            size = max(1, int(photo.width * scale)), max(1, int(photo.height * scale))
            photo = photo.resize(size, Image.Resampling.BILINEAR)
        photos.append(np.asarray(photo, dtype=np.uint8))
    return photos


def _files(path: Path) -> list[tuple[PurePosixPath, bytes]]:
    """Name and content of each picture, by name."""
    files = list(_zip_files(path) if zipfile.is_zipfile(path) else _folder_files(path))
    if not files:
        raise DataError(f"{path}: no pictures; expected *.png, *.jpg or *.pgm in it")
    return files


def _folder_files(root: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    if not root.is_dir():
        raise DataError(f"{root}: neither a folder nor a zip")
    for file in sorted(root.rglob("*")):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            yield PurePosixPath(file.relative_to(root).as_posix()), file.read_bytes()


def _zip_files(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                file = PurePosixPath(name)
                # macOS packs a "._name.png" beside each name.png: not a picture.
                if file.suffix.lower() not in SUFFIXES or file.name.startswith("."):
                    continue
                yield file, archive.read(name)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError) as error:
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


def decode(content: bytes, name: str, mode: str, draft: tuple[int, int] | None) -> Image.Image:
    """One picture as the server would see it: upright, transparency on white, gray or rgb."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "PPM", "WEBP")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{name}: {image.width} x {image.height} is above {MAX_PIXELS} pixels")
            if draft:
                image.draft(mode, draft)
            picture = ImageOps.exif_transpose(image)
            if picture.mode.startswith("I"):  # 16 bits
                samples = np.asarray(picture, dtype=np.float64) * (255 / 65535)
                picture = Image.fromarray((samples + 0.5).astype(np.uint8))
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                layer = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            return picture.convert(mode)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise DataError(f"{name}: can't be decoded: {error}") from error
