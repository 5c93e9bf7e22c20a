"""A folder of pictures, repainted into another that mirrors it, several calls at a time."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
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
from oneglance_apps.repaint.files import FORMATS, SUFFIXES, picture_format, whole_file
from oneglance_apps.repaint.look import Look, repaint
from oneglance_core.picture_files import PICTURE_SUFFIXES, is_picture


@dataclass(frozen=True)
class Task:
    """A picture, and the file it shall become."""

    source: Path
    out: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a task: a picture that is written, an error, or neither, as its output was there already."""

    task: Task
    picture: StylizedPicture | None = None
    error: OneglanceError | OSError | None = None

    @property
    def skipped(self) -> bool:
        return self.picture is None and self.error is None


@dataclass(frozen=True)
class Plan:
    """Every picture below a folder, by name. ``left_out``: how many files are no pictures by their names."""

    tasks: tuple[Task, ...]
    left_out: int


def plan(folder: Path, out: Path, format: PictureFormatName = "") -> Plan:
    """What there is to do. Hidden files and folders are passed by, and so is ``out`` if it lies in ``folder``.

    An output has the format of its picture, or PNG where that can't be written; or ``format``, for all. Raises
    ValueError when two pictures would become one file, when one would take the place of another that is to be
    stylized, too, when ``out`` is ``folder`` or a file, or when there are no pictures.
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
        becomes = out.joinpath(*parts[:-1], _name(source, format))
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
    client: Client, look: Look, tasks: Sequence[Task], *, in_flight: int, overwrite: bool, patience_seconds: float
) -> Iterator[Outcome]:
    """Every task's outcome, as they come.

    A picture that can't be read, here or by the server, is an outcome, and the rest goes on. Raises OneglanceError for
    what no picture would survive (no server, no such style), and OSError when an output can't be written.
    """
    stopped = threading.Event()

    def one(task: Task) -> Outcome:
        if stopped.is_set() or (task.out.exists() and not overwrite):
            return Outcome(task)
        try:
            data = task.source.read_bytes()
        except OSError as error:
            return Outcome(task, error=error)
        try:
            picture = repaint(client, look, data, picture_format(task.out), patience_seconds=patience_seconds)
        except OneglanceError as error:
            if _concerns_all(error):
                raise
            return Outcome(task, error=error)
        with whole_file(task.out) as half:
            half.write_bytes(picture.image)
        return Outcome(task, picture)

    waiting = iter(tasks)
    running: set[Future[Outcome]] = set()
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="oneglance-stylize")
    try:
        while True:
            running |= {pool.submit(one, task) for task in islice(waiting, in_flight - len(running))}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        # Calls under way end with the client's connection, which its owner closes.
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _name(source: Path, format: PictureFormatName) -> str:
    told = FORMATS.get(source.suffix.lower())
    if told is not None and format in ("", told):
        return source.name
    return source.with_suffix(SUFFIXES[format or "png"]).name


def _concerns_all(error: OneglanceError) -> bool:
    if isinstance(error, InvalidArgumentError):
        return bool(error.field_violations) and all(field != "image" for field, _ in error.field_violations)
    return isinstance(error, (NotFoundError, FailedPreconditionError, UnavailableError))
