"""Which files of a folder are photos of whom, and why the others are none."""

import os
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from oneglance_core.picture_files import ends_in

Nested = Literal["refuse", "top", "last"]
# Pictures by their names that PICTURE_SUFFIXES may not have: they are sent, and the server says whether it reads them.
MORE_PICTURES = (
    *(".jfif", ".jpe", ".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
)
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "@eadir")
_NOT_UTF8 = "the subject's name isn't UTF-8: rename the folder, or the file"


@dataclass(frozen=True)
class Photo:
    """A photo, or a sound. ``name``: its path below the folder."""

    path: Path
    name: str
    subject: str


@dataclass(frozen=True)
class LeftOut:
    """What isn't sent. ``photo``: it is one by its name, or there may be some in it, so somebody may be missing."""

    name: str
    why: str
    photo: bool


@dataclass
class Listing:
    """``system_files``: how many hidden files and folders there are, and those that systems make of their own."""

    photos: list[Photo] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    system_files: int = 0

    def by_subject(self) -> dict[str, list[Photo]]:
        found: dict[str, list[Photo]] = {}
        for photo in self.photos:
            found.setdefault(photo.subject, []).append(photo)
        return found


def list_folder(folder: Path, is_example: Callable[[Path], bool], nested: Nested) -> Listing:
    """Everything in ``folder``: SUBJECT/photo and SUBJECT.jpg, and as ``nested`` says what lies deeper.

    is_example: whether a file is a photo, or a sound, by its name. nested: ``top``: photos below SUBJECT/ are the
    subject's however deep they lie; ``last``: the folder that a photo lies in names the subject; ``refuse``: left out.
    Names of subjects are brought to NFC, so that one written by macOS is the same as one written elsewhere.

    Raises OSError when ``folder`` isn't one, or can't be read.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: not a folder")
    found = Listing()
    os.scandir(folder).close()  # raises now
    about = folder.stat()
    for path, parts in _walk(folder, (), found, frozenset({(about.st_dev, about.st_ino)})):
        name = "/".join(parts)
        if not (is_example(path) or ends_in(path, MORE_PICTURES)):
            found.left_out.append(LeftOut(name, "no picture and no sound by its name", False))
        elif len(parts) > 2 and nested == "refuse":
            why = f"in a folder below {parts[0]}: --nested top enrolls it as {parts[0]}, --nested last as {parts[-2]}"
            found.left_out.append(LeftOut(name, why, True))
        else:
            subject = path.stem if len(parts) == 1 else parts[0] if nested != "last" else parts[-2]
            try:
                subject.encode()
            except UnicodeEncodeError:
                found.left_out.append(LeftOut(name, _NOT_UTF8, True))
            else:
                found.photos.append(Photo(path, name, unicodedata.normalize("NFC", subject)))
    return found


def _walk(
    folder: Path, parts: tuple[str, ...], found: Listing, above: frozenset[tuple[int, int]]
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The regular files below, by name; what isn't one goes to ``found``. ``above``: the folders that lead here."""
    entered = [_entries(folder, parts, found, above)]  # however deep: no call in a call for each folder
    while entered:
        one = next(entered[-1], None)
        if one is None:
            entered.pop()
        elif isinstance(one, _Below):
            entered.append(_entries(*one))
        else:
            yield one


class _Below(NamedTuple):
    """A folder in a folder, as _walk() takes it."""

    folder: Path
    parts: tuple[str, ...]
    found: Listing
    above: frozenset[tuple[int, int]]


def _entries(
    folder: Path, parts: tuple[str, ...], found: Listing, above: frozenset[tuple[int, int]]
) -> Iterator[tuple[Path, tuple[str, ...]] | _Below]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        found.left_out.append(LeftOut("/".join(parts), f"can't be read: {error.strerror}", True))
        return
    if not entries:
        found.left_out.append(LeftOut("/".join(parts) or ".", "an empty folder", False))
    for path in entries:
        below = (*parts, path.name)
        if path.name.startswith(".") or path.name.lower() in _SYSTEM_FILES:
            found.system_files += 1
            continue
        try:
            about = path.stat()
        except OSError as error:
            found.left_out.append(LeftOut("/".join(below), f"can't be read: {error.strerror}", True))
            continue
        if stat.S_ISDIR(about.st_mode):
            here = (about.st_dev, about.st_ino)
            if here in above:
                found.left_out.append(LeftOut("/".join(below), "a link to a folder that it is in", False))
            else:
                yield _Below(path, below, found, above | {here})
        elif stat.S_ISREG(about.st_mode):
            yield path, below
        else:
            found.left_out.append(LeftOut("/".join(below), "not a regular file", False))
