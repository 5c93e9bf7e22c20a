"""From a server to files, and from files to a server. Either may be ended, however, and goes on when called again."""

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from oneglance.client.sync_client import Client
from oneglance.v1 import moving_pb2 as pb
from oneglance_apps.moving.folder import GalleryFolder, Layout, write_folder
from oneglance_apps.moving.log import MessageLog
from oneglance_core.files import sync_folder

OnProgress = Callable[[int, int], None]
_KNOWN_AT_ONCE = 3_000
_MESSAGE_BYTES = 1 << 20
_MESSAGE_FIELDS = 16_000
_MESSAGE_SUBJECTS = 1024
_THRESHOLDS_AT_ONCE = 100


class _Come:
    """What came of a gallery so far: where in the log each subject stands, and its version."""

    def __init__(self, log: MessageLog) -> None:
        self._log = log
        self.uid = ""
        self.versions: dict[int, int] = {}
        for _, message in log.messages():
            self._note(message)

    def add(self, message: pb.ExportGalleryResponse) -> None:
        self._log.add(message)
        self._note(message)

    def _note(self, message: pb.ExportGalleryResponse) -> None:
        self.uid = message.begun.gallery_uid or self.uid
        self.versions.update((one.number, one.version) for one in message.subjects.subjects)
        for number in message.gone.numbers:
            self.versions.pop(number, None)

    def subjects(self) -> dict[int, pb.MovedSubject]:
        """The last version of each, in the order of their numbers."""
        found: dict[int, pb.MovedSubject] = {}
        for _, message in self._log.messages():
            found.update((one.number, one) for one in message.subjects.subjects)
        return {number: found[number] for number in sorted(self.versions)}

    def thresholds(self) -> list[pb.MovedThreshold]:
        found = {one.version: one for _, message in self._log.messages() for one in message.thresholds.thresholds}
        return [found[version] for version in sorted(found)]


def partial_of(folder: Path) -> Path:
    """Where an export is until it is whole."""
    return folder.with_name(folder.name + ".partial")


def export_gallery(
    client: Client, gallery_id: str, folder: Path, layout: Layout, on_progress: OnProgress
) -> pb.MovedGallery:
    """Into a new folder, which is there once it is whole. Raises OneglanceError, OSError, FileExistsError."""
    if folder.exists():
        raise FileExistsError(f"{folder}: is there already")
    partial = partial_of(folder)
    partial.mkdir(mode=0o700, exist_ok=True)
    log = MessageLog(partial / "log")
    try:
        come = _Come(log)
        done: pb.MovedGallery | None = None
        total = 0
        for message in client.export_gallery(_wanted(gallery_id, come)):
            if message.HasField("begun"):
                total = message.begun.gallery.subject_count
            come.add(message)
            on_progress(len(come.versions), max(total, len(come.versions)))
            if message.HasField("done"):
                done = message.done
        if done is None:
            raise ConnectionError(f"the export of {gallery_id!r} ended early: give the command again to go on")
        _write(folder, partial, layout, gallery_id, done, come)
        return done
    finally:
        log.close()


def _wanted(gallery_id: str, come: _Come) -> Iterator[pb.ExportGalleryRequest]:
    yield pb.ExportGalleryRequest(settings=pb.ExportSettings(gallery_id=gallery_id, gallery_uid=come.uid))
    known = sorted(come.versions)
    versions = dict(come.versions)
    for start in range(0, len(known), _KNOWN_AT_ONCE):
        some = known[start : start + _KNOWN_AT_ONCE]
        told = pb.ExportKnown(numbers=some, versions=[versions[number] for number in some])
        yield pb.ExportGalleryRequest(known=told)


def _write(folder: Path, partial: Path, layout: Layout, gallery_id: str, gallery: pb.MovedGallery, come: _Come) -> None:
    subjects = come.subjects()
    numbers = np.sort(np.array([each.number for one in subjects.values() for each in one.encodings], np.int64))
    for one in subjects.values():
        for each in one.encodings:
            each.number = int(np.searchsorted(numbers, each.number))
    negatives = 0
    for one in subjects.values():
        for each in one.negatives:
            each.number, negatives = negatives, negatives + 1
    ready = partial / "whole"
    shutil.rmtree(ready, ignore_errors=True)
    write_folder(ready, layout, gallery_id, gallery, subjects.values(), come.thresholds(), negatives)
    sync_folder(ready)
    os.rename(ready, folder)
    sync_folder(folder.parent)
    shutil.rmtree(partial)


def import_gallery(client: Client, folder: GalleryFolder, gallery_id: str, on_progress: OnProgress) -> int:
    """How many subjects the gallery has. Raises OneglanceError, FolderInvalid, OSError."""
    begun, done = threading.Event(), 0
    finished = False

    def requests() -> Iterator[pb.ImportGalleryRequest]:
        settings = pb.ImportSettings(gallery_id=gallery_id, gallery=folder.gallery, digest=folder.digest)
        yield pb.ImportGalleryRequest(settings=settings)
        begun.wait()
        for some in _messages(folder.subjects(), done):
            yield pb.ImportGalleryRequest(subjects=pb.MovedSubjects(subjects=some))
        versions: list[pb.MovedThreshold] = []
        for one in folder.thresholds():
            versions.append(one)
            if sum(each.ByteSize() for each in versions) > _MESSAGE_BYTES or len(versions) == _THRESHOLDS_AT_ONCE:
                yield pb.ImportGalleryRequest(thresholds=pb.MovedThresholds(thresholds=versions))
                versions = []
        if versions:
            yield pb.ImportGalleryRequest(thresholds=pb.MovedThresholds(thresholds=versions))

    try:
        for answer in client.import_gallery(requests()):
            done, finished = answer.subject_count, answer.finished
            begun.set()
            on_progress(done, folder.gallery.subject_count)
    finally:
        begun.set()
    if not finished:
        raise ConnectionError(f"the import of {gallery_id!r} ended early: give the command again to go on")
    return done


def _messages(subjects: Iterable[pb.MovedSubject], skipped: int) -> Iterator[list[pb.MovedSubject]]:
    some: list[pb.MovedSubject] = []
    size = fields = 0
    for place, one in enumerate(subjects):
        if place < skipped:
            continue
        its_size, its_fields = one.ByteSize(), 16 + 3 * len(one.labels) + 6 * (len(one.encodings) + len(one.negatives))
        full = size + its_size > _MESSAGE_BYTES or fields + its_fields > _MESSAGE_FIELDS
        if some and (full or len(some) == _MESSAGE_SUBJECTS):
            yield some
            some, size, fields = [], 0, 0
        some.append(one)
        size, fields = size + its_size, fields + its_fields
    if some:
        yield some
