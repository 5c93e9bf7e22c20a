"""Repaint a folder of pictures into another folder with the same structure, several calls at a time."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from oneglance.client.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OneglanceError,
    UnavailableError,
)
from oneglance.client.requests import PictureFormatName
from oneglance.client.sync_client import Client
from oneglance.v1.stylization_pb2 import StylizedPicture
from oneglance_apps.picture_formats import FORMAT_OF_SUFFIX, SUFFIX_OF_FORMAT
from oneglance_apps.repaint.files import picture_format
from oneglance_apps.repaint.picture import repaint_picture
from oneglance_apps.repaint.style_choice import StyleChoice
from oneglance_apps.side_by_side import side_by_side
from oneglance_core.files import replacing
from oneglance_core.picture_files import PICTURE_SUFFIXES, is_picture


@dataclass(frozen=True)
class Task:
    """A picture, and the file to write."""

    source: Path
    out: Path


@dataclass(frozen=True)
class TaskResult:
    """Result of a task: the picture that was written, or an error, or neither if the output existed already."""

    task: Task
    picture: StylizedPicture | None = None
    error: OneglanceError | OSError | None = None

    @property
    def skipped(self) -> bool:
        return self.picture is None and self.error is None


@dataclass(frozen=True)
class Plan:
    """Every picture below a folder, by name. ``left_out``: number of files that have no picture's suffix."""

    tasks: tuple[Task, ...]
    left_out: int


def plan(folder: Path, out: Path, format: PictureFormatName = "") -> Plan:
    """The tasks of a folder. Ignores hidden files and folders, and ``out`` if it lies in ``folder``.

    An output has the format of its picture, or PNG if that format can't be written; with ``format`` all outputs have
    that one. Raises ValueError when two pictures would become one file, when an output would replace another picture of
    the folder, when ``out`` is ``folder`` or a file, or when there are no pictures.
    """
    inside, target = folder.resolve(), out.resolve()
    if inside == target:
        raise ValueError(f"{out}: the outputs would replace what they are made of; name another folder")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: a file, and a folder of pictures becomes a folder")
    tasks: dict[Path, Task] = {}
    left_out = 0
    for source in sorted(folder.rglob("*")):
        parts = source.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or not source.is_file():
            continue
        if target.is_relative_to(inside) and source.resolve().is_relative_to(target):
            continue
        if not is_picture(source):
            left_out += 1
            continue
        becomes = out.joinpath(*parts[:-1], _output_name(source, format))
        if becomes in tasks:
            raise ValueError(f"{tasks[becomes].source} and {source} would both become {becomes}; rename one of them")
        tasks[becomes] = Task(source, becomes)
    sources = {task.source.resolve() for task in tasks.values()}
    for task in tasks.values():
        if task.out.resolve() in sources:
            raise ValueError(f"{task.source} would become {task.out}, to be stylized, too; name another folder")
    if not tasks:
        raise ValueError(f"{folder}: no pictures in it ({', '.join(PICTURE_SUFFIXES)})")
    return Plan(tuple(tasks.values()), left_out)


def repaint_folder(
    client: Client,
    choice: StyleChoice,
    tasks: Sequence[Task],
    *,
    in_flight: int,
    overwrite: bool,
    patience_seconds: float,
) -> Iterator[TaskResult]:
    """Yield the result of every task, in the order in which they finish.

    in_flight: calls at the same time. patience_seconds: how long each waits while the server's queue is full.

    A picture that can't be read, here or by the server, gives an error in its result, and the others go on. Raises
    OneglanceError for errors that concern all pictures (no server, no such style), and OSError when an output can't be
    written.
    """
    stopped = threading.Event()

    def one(task: Task) -> TaskResult:
        if stopped.is_set() or (task.out.exists() and not overwrite):
            return TaskResult(task)
        try:
            data = task.source.read_bytes()
        except OSError as error:
            return TaskResult(task, error=error)
        try:
            picture = repaint_picture(client, choice, data, picture_format(task.out), patience_seconds=patience_seconds)
        except OneglanceError as error:
            if _concerns_all_pictures(error):
                raise
            return TaskResult(task, error=error)
        task.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(task.out) as fresh:
            fresh.write_bytes(picture.image)
        return TaskResult(task, picture)

    try:
        yield from side_by_side(one, tasks, in_flight)
    finally:
        stopped.set()  # calls still running end when the owner of the client closes it


def _output_name(source: Path, format: PictureFormatName) -> str:
    known = FORMAT_OF_SUFFIX.get(source.suffix.lower())
    if known is not None and format in ("", known):
        return source.name
    return source.with_suffix(SUFFIX_OF_FORMAT[format or "png"]).name


def _concerns_all_pictures(error: OneglanceError) -> bool:
    if isinstance(error, InvalidArgumentError):
        return bool(error.field_violations) and all(field != "image" for field, _ in error.field_violations)
    return isinstance(error, (NotFoundError, FailedPreconditionError, UnavailableError))
