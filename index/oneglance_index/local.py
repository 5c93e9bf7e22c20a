"""Galleries: a data directory opened, with its store and one index per gallery. The package's front door.

Writes go to the store; once committed, and before their futures resolve, the writer tells the gallery's
index. Searches ask the index only. A second thread looks after snapshots and compaction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from oneglance_core.distance import squared_l2
from oneglance_index.encodings import check_encodings
from oneglance_index.errors import EncoderMismatch, GalleryError, GalleryNotFound, LimitExceeded, StoreClosed
from oneglance_index.records import (
    Candidate,
    Deleted,
    Enrolled,
    Found,
    Gallery,
    GalleryPage,
    OnExisting,
    OpenProgress,
    Search,
    Subject,
    SubjectPage,
    ThresholdVersion,
    Vectors,
)
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search import snapshot
from oneglance_index.search.device import Device, open_device
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.kinds import GalleryIndex, IndexInfo
from oneglance_index.search.loading import Progress, load_index
from oneglance_index.search.scan import CpuScan, GpuScan
from oneglance_index.search.upkeep import Upkeep
from oneglance_index.settings import IndexSettings
from oneglance_index.store import mutations, queries
from oneglance_index.store.database import Store
from oneglance_index.store.mutations import Effect, Mutation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Opened:
    number: int
    gallery: Gallery
    index: GalleryIndex


class Galleries:
    """Use Galleries.open(). Every method may be called from any thread.

    Writing methods return a Future. Done means: fsynced, and visible to every search that starts afterwards.
    Whatever is wrong comes through the future, typed (errors.py); ValueError is for arguments that make no
    sense.
    """

    def __init__(self, data_dir: Path, device: Device, settings: IndexSettings, progress: Progress) -> None:
        self.data_dir = data_dir
        self.device = device.name
        self.settings = settings
        self._device = device
        threads = settings.search_threads or engine.cores()
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "oneglance-scan", initializer=engine.use_one_thread)
        self._opened: dict[str, _Opened] = {}
        self._store = Store(data_dir, self._on_commit)
        self.store_id = self._store.id
        self._upkeep = Upkeep(data_dir, self._store, settings.snapshot_every_encodings)
        try:
            self._load(progress)
        except BaseException:
            self._upkeep.close(take_snapshots=False)
            self._store.close()
            self._pool.shutdown()
            raise

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        device: str = "cpu",
        settings: IndexSettings | None = None,
        progress: Progress | None = None,
    ) -> Galleries:
        """Opens a data directory, creating it if need be, and loads every index; `progress` is called on the
        way.

        Raises DeviceUnavailable, StoreLocked, StoreDamaged, StoreTooNew, StoreFull, StoreIOError.
        """
        settings = settings or IndexSettings()
        opened = open_device(device, settings.gpu_temp_memory_bytes)
        return cls(Path(data_dir), opened, settings, progress or _silent)

    def _load(self, progress: Progress) -> None:
        kept: set[Path] = set()
        with self._store.reading() as db:
            for number, gallery in queries.all_galleries(db):
                index, revision = load_index(db, self.data_dir, number, gallery, self._make_index, progress)
                self._opened[gallery.id] = _Opened(number, gallery, index)
                self._upkeep.add(number, index, revision)
                if revision >= 0:
                    kept.add(snapshot.path_of(self.data_dir, number, revision))
        snapshot.remove_others(self.data_dir, kept)

    def _make_index(self, dimension: int) -> GalleryIndex:
        host = CpuScan(self._pool, self._threads)
        if self._device.gpu is None:
            return ExactIndex(dimension, self.device, host, host)
        return ExactIndex(dimension, self.device, GpuScan(self._device.gpu.flat(dimension), self._device.lock), host)

    def _on_commit(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if effect.created is not None:
                index = self._make_index(effect.created.dimension)
                self._opened[effect.gallery_id] = _Opened(effect.gallery, effect.created, index)
                self._upkeep.add(effect.gallery, index, -1)
            elif effect.dropped:
                del self._opened[effect.gallery_id]
                self._upkeep.drop(effect.gallery)
            elif effect.change is not None:
                opened = self._opened[effect.gallery_id]
                if effect.updated is not None:
                    self._opened[effect.gallery_id] = replace(opened, gallery=effect.updated)
                opened.index.apply(effect.change)
                self._upkeep.changed(effect.gallery, len(effect.change.added) + len(effect.change.removed))

    # Writing.

    def create_gallery(
        self, gallery_id: str, *, encoder_digest: str, dimension: int, description: str = ""
    ) -> Future[Gallery]:
        """Makes an empty gallery for encodings float32 [*, dimension] of one encoder. GalleryExists."""
        if not gallery_id or not 1 <= dimension <= MAX_DIMENSION:
            return _failed(ValueError(f"a gallery needs an id, and a dimension from 1 to {MAX_DIMENSION}"))
        return self._write(mutations.CreateGallery(gallery_id, encoder_digest, dimension, description))

    def delete_gallery(self, gallery_id: str) -> Future[Gallery]:
        """Deletes a gallery with all its subjects; the result is the gallery as it was. GalleryNotFound."""
        return self._write(mutations.DeleteGallery(gallery_id))

    def set_threshold(
        self, gallery_id: str, threshold: float | None, calibration: str | None = None
    ) -> Future[Gallery]:
        """Sets the gallery's own τ, a squared L2 distance >= 0, or None to have none. GalleryNotFound.

        `calibration` is the evidence for it, kept as it is and never looked into. Earlier thresholds are kept, too:
        see list_thresholds.
        """
        if threshold is not None and not (math.isfinite(threshold) and threshold >= 0):
            return _failed(ValueError(f"a threshold is a finite number >= 0, got {threshold}"))
        return self._write(mutations.SetThreshold(gallery_id, threshold, calibration))

    def enroll(
        self,
        gallery_id: str,
        subject_id: str,
        encodings: Vectors,
        *,
        encoder_digest: str | None = None,
        labels: Mapping[str, str] | None = None,
        on_existing: OnExisting = "add",
        request_id: str | None = None,
        request_digest: bytes = b"",
    ) -> Future[Enrolled]:
        """Enrolls a subject by encodings float32 [n, D], n >= 1, made by encoder `encoder_digest` (None: not
        checked).

        Where the subject exists: "add" adds the encodings to its own, "replace" puts them in their place,
        "fail" raises SubjectExists. Labels None keep those there are; others replace them all. A request id
        that was answered before gets the same answer, marked `replayed`, and nothing is written;
        RequestConflict if the digest (whatever identifies the request's content) is another. Raises
        GalleryNotFound, EncoderMismatch, DimensionMismatch, EncodingInvalid,
        LimitExceeded("max_encodings_per_subject").
        """
        if not subject_id or on_existing not in ("add", "replace", "fail"):
            return _failed(ValueError("enroll needs a subject id, and add, replace or fail"))
        try:
            with np.errstate(over="ignore"):  # becomes infinite, and is refused as such
                array = np.array(encodings, np.float32, ndmin=1)  # a copy: the caller may reuse its buffer
        except (TypeError, ValueError) as error:
            return _failed(error)
        if array.shape[0] == 0:
            return _failed(ValueError("enroll needs at least one encoding"))
        return self._write(
            mutations.Enroll(
                gallery_id,
                subject_id,
                array,
                encoder_digest,
                None if labels is None else dict(labels),
                on_existing,
                request_id,
                request_digest,
                self.settings.max_encodings_per_subject,
                self.settings.request_ttl_seconds,
            )
        )

    def delete_encoding(self, gallery_id: str, subject_id: str, encoding_id: str) -> Future[Deleted]:
        """Deletes one encoding; the last one takes the subject with it. Gallery-, Subject-, EncodingNotFound."""
        return self._write(mutations.DeleteEncodings(gallery_id, subject_id, encoding_id))

    def delete_subject(self, gallery_id: str, subject_id: str) -> Future[Deleted]:
        """Deletes a subject with all its encodings. GalleryNotFound, SubjectNotFound."""
        return self._write(mutations.DeleteEncodings(gallery_id, subject_id, None))

    def _write(self, mutation: Mutation[T]) -> Future[T]:
        return self._store.write(mutation)

    def queued_writes(self) -> int:
        """How many writes wait for the writer."""
        return self._store.queued()

    # Reading.

    def get_gallery(self, gallery_id: str) -> Gallery:
        """Raises GalleryNotFound."""
        with self._store.reading() as db:
            return queries.gallery(db, gallery_id)[1]

    def list_galleries(self, *, page_size: int = 100, after: str | None = None) -> GalleryPage:
        """Up to `page_size` galleries whose ids come after `after`."""
        _check_page_size(page_size)
        with self._store.reading() as db:
            return queries.list_galleries(db, page_size, after)

    def list_thresholds(self, gallery_id: str) -> tuple[ThresholdVersion, ...]:
        """Every threshold the gallery has had, the newest first. Raises GalleryNotFound."""
        with self._store.reading() as db:
            return queries.list_thresholds(db, gallery_id)

    def get_subject(self, gallery_id: str, subject_id: str) -> Subject:
        """Raises GalleryNotFound, SubjectNotFound."""
        with self._store.reading() as db:
            return queries.subject(db, gallery_id, subject_id)

    def list_subjects(self, gallery_id: str, *, page_size: int = 100, after: str | None = None) -> SubjectPage:
        """Up to `page_size` subjects whose ids come after `after`. Raises GalleryNotFound."""
        _check_page_size(page_size)
        with self._store.reading() as db:
            return queries.list_subjects(db, gallery_id, page_size, after)

    def subject_encodings(self, gallery_id: str, subject_id: str) -> Vectors:
        """A subject's encodings, oldest first, float32 [n, D]. Raises GalleryNotFound, SubjectNotFound."""
        with self._store.reading() as db:
            return queries.subject_vectors(db, gallery_id, subject_id)[1]

    def replay(self, gallery_id: str, request_id: str, request_digest: bytes) -> Enrolled | None:
        """The answer that a request was given before, so that its image needn't be encoded again; else None.

        Raises GalleryNotFound, RequestConflict.
        """
        oldest = mutations.oldest_request(self.settings.request_ttl_seconds)
        with self._store.reading() as db:
            number = queries.gallery(db, gallery_id)[0]
            return queries.find_request(db, number, gallery_id, request_id, request_digest, oldest)

    # Searching.

    def search_many(self, gallery_id: str, searches: Sequence[Search]) -> list[Found | GalleryError]:
        """Answers several callers' questions with one scan, all from one revision; the i-th answers the i-th.

        A question that cannot be answered gets its own error in place of an answer: EncoderMismatch,
        DimensionMismatch, EncodingInvalid, LimitExceeded("max_candidates"). Raises GalleryNotFound, StoreClosed,
        DeviceUnavailable, which concern all.
        """
        opened = self._find(gallery_id)
        checked = [self._checked(opened, search) for search in searches]
        sound = [search for search in checked if isinstance(search, Search)]
        found = iter(opened.index.search(sound) if sound else ())
        return [next(found) if isinstance(search, Search) else search for search in checked]

    def _checked(self, opened: _Opened, search: Search) -> Search | GalleryError:
        """The question with its probes as the index takes them, or what is wrong with it."""
        gallery = opened.gallery
        if search.encoder_digest != gallery.encoder_digest:
            return EncoderMismatch(gallery.id, gallery.encoder_digest, search.encoder_digest)
        most = max(search.candidates, search.limit)
        if most > self.settings.max_candidates:
            return LimitExceeded("max_candidates", self.settings.max_candidates, most)
        try:
            return replace(search, probes=check_encodings(search.probes, gallery.dimension))
        except GalleryError as error:
            return error

    def verify(self, gallery_id: str, subject_id: str, probes: Vectors, *, encoder_digest: str | None = None) -> Found:
        """How far each probe float32 [q, D] is from one subject: one candidate per probe, its nearest
        encoding.

        Raises GalleryNotFound, SubjectNotFound, EncoderMismatch, DimensionMismatch, EncodingInvalid.
        """
        with self._store.reading() as db:
            gallery = queries.gallery(db, gallery_id)[1]
            if encoder_digest not in (None, gallery.encoder_digest):
                raise EncoderMismatch(gallery_id, gallery.encoder_digest, encoder_digest or "")
            numbers, vectors = queries.subject_vectors(db, gallery_id, subject_id)
        checked = check_encodings(probes, gallery.dimension)
        nearest = []
        for probe in checked:
            distances = squared_l2(vectors, probe)
            best = int(distances.argmin())  # the first, that is the oldest, of equals
            nearest.append((Candidate(subject_id, str(numbers[best]), float(distances[best])),))
        return Found(
            tuple(nearest),
            ((),) * len(nearest),
            (False,) * len(nearest),
            gallery.revision,
            gallery.subjects,
            gallery.encodings,
            True,
            "store",
            "cpu",
        )

    def index_info(self, gallery_id: str) -> IndexInfo:
        """Raises GalleryNotFound."""
        return self._find(gallery_id).index.info()

    def known(self, gallery_id: str) -> Gallery:
        """A gallery's encoder, dimension and threshold, from memory and as of the last commit; its sizes and its
        revision are older. Raises GalleryNotFound, StoreClosed.
        """
        return self._find(gallery_id).gallery

    def _find(self, gallery_id: str) -> _Opened:
        opened = self._opened.get(gallery_id)
        if opened is None:
            if self._store.closed:
                raise StoreClosed(self.data_dir)
            raise GalleryNotFound(gallery_id)
        return opened

    # Upkeep.

    def snapshot(self, gallery_id: str | None = None) -> None:
        """Writes a snapshot of one gallery, or of each that changed. Raises GalleryNotFound, StoreError."""
        self._upkeep.snapshot(self._number(gallery_id))

    def compact(self, gallery_id: str | None = None) -> None:
        """Makes deletions physical, in memory and on disk.

        A deleted encoding is out of every answer at once, and SQLite overwrites it in the database file
        (secure_delete); copies may remain as dead rows in memory, in a snapshot, and in the write-ahead log.
        After this call none of them does. (What the file system or the disk keep of old blocks is beyond us.)
        Raises GalleryNotFound, StoreError.
        """
        self._upkeep.compact(self._number(gallery_id))

    def _number(self, gallery_id: str | None) -> int | None:
        if gallery_id is None:
            return None
        return self._find(gallery_id).number

    def close(self) -> None:
        """Finishes queued writes, takes snapshots of what changed, checkpoints, closes. Idempotent."""
        if self._store.closed:
            return
        self._upkeep.close(take_snapshots=True)
        self._store.close()
        self._opened.clear()
        self._pool.shutdown()

    def __enter__(self) -> Galleries:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# FAISS and the error bound have no trouble with it, and no encoder comes near.
MAX_DIMENSION = 65_536


def _silent(progress: OpenProgress) -> None:
    pass


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _check_page_size(page_size: int) -> None:
    if page_size < 1:
        raise ValueError(f"a page holds at least 1 entry, got {page_size}")
