"""LocalGalleries: a data directory opened, with its store and one index per gallery. The package's way in.

Writes go to the store (store/); once committed, and before their futures resolve, the writer tells the gallery's
index (opened.py). Searches ask the index only (search/). A second thread looks after snapshots and compaction.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from oneglance_core.distance import usable_encodings
from oneglance_core.error_words import in_words
from oneglance_core.fusion import MARGIN_OTHERS, DecidedBy
from oneglance_core.mapping import EncodingMap
from oneglance_core.names import composed
from oneglance_core.pair_head import PairHead
from oneglance_index import negatives, verifying
from oneglance_index.approximation import EXACT_KIND, Approximation, ApproximationState, kind_of
from oneglance_index.audit import Event
from oneglance_index.errors import (
    EngineUnsupported,
    GalleryError,
    GalleryNotFound,
    GenerationUnsupported,
    IndexOutOfStep,
    OutOfMemory,
    RulesConflict,
    StoreClosed,
)
from oneglance_index.moved import ExportStep, KnownSubjects, MovedSubject
from oneglance_index.number_set import NumberSet
from oneglance_index.opened import OnGalleries, Opened, OpenedGalleries, nobody_decides
from oneglance_index.records import (
    EVERYBODY,
    MAX_CROP_BYTES,
    AddedNegative,
    Backup,
    Candidate,
    Deleted,
    DeletedGallery,
    Doubting,
    Enrolled,
    Expired,
    Filling,
    Found,
    Gallery,
    GalleryPage,
    Generation,
    LabelCounts,
    LeftCropsPage,
    LeftPage,
    LikenessPage,
    MapLoss,
    Mapped,
    MappedStep,
    Moved,
    MoveState,
    NewEncodings,
    Note,
    OnExisting,
    OpenProgress,
    PairedPage,
    Retention,
    Search,
    Subject,
    SubjectFilter,
    SubjectPage,
    ThresholdPage,
    ThresholdVersion,
    Vectors,
)
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.device import Device, open_device
from oneglance_index.search.kinds import GalleryIndex, IndexInfo
from oneglance_index.search.labelled import ChangedMeanwhile
from oneglance_index.search.loading import Progress
from oneglance_index.search.milvus.access import Access
from oneglance_index.search.questions import check_searches
from oneglance_index.search.registry import Machine, check_supported
from oneglance_index.search.upkeep import Upkeep
from oneglance_index.settings import IndexSettings
from oneglance_index.start_check import StartCheck
from oneglance_index.store import exporting, importing, managing, mapping, mutations, pages, queries, succession
from oneglance_index.store.auditing import Record
from oneglance_index.store.crops import SetKeepCrops
from oneglance_index.store.database import Store
from oneglance_index.store.enrolling import Enroll
from oneglance_index.store.following import Follow, Following, TauRule, followable
from oneglance_index.store.mutations import Mutation
from oneglance_index.store.requests import RequestMemory
from oneglance_index.store.slots import KeyDestroyed
from oneglance_index.store.subjects import told_subjects
from oneglance_index.store.writer import MUTATION_BYTES, OnChange, unheard
from oneglance_index.sweeping import Sweeper
from oneglance_index.waiting import then

T = TypeVar("T")
log = logging.getLogger(__name__)


class LocalGalleries:
    """The GalleryStore (protocol.py) of a local data directory. Use LocalGalleries.open()."""

    def __init__(
        self,
        data_dir: Path,
        device: Device,
        settings: IndexSettings,
        progress: Progress,
        tau_rule: TauRule | None = None,
        on_change: OnChange = unheard,
        on_galleries: OnGalleries = nobody_decides,
    ) -> None:
        self.data_dir = data_dir
        self._tau_rule = tau_rule
        self.device = device.name
        self._device = device
        self.settings = settings
        self._request_memory = RequestMemory(
            settings.request_ttl_seconds, settings.min_requests_kept, settings.max_requests_kept
        )
        threads = settings.search_threads or engine.cores()
        self._pool = engine.scan_pools(threads)
        try:
            machine = Machine(self._pool.usual, threads, device, settings.row_codes != "off", self._pool.patient)
            self._opened = OpenedGalleries(machine, data_dir, settings.approximate_checked_share, on_galleries)
            self._store = Store(data_dir, self._opened, settings, on_change)
            self._check = StartCheck(self._store, [])  # until it is known what there is
            self._sweeper = Sweeper(self._store, settings.audit_days, self._delete_expired)
            try:
                self._upkeep = Upkeep(
                    *(data_dir, self._store, settings.snapshot_every_encodings),
                    *(self._sweeper.sweep, settings.sweep_every_seconds),
                )
            except BaseException:
                self._store.close(until=0)
                raise
            later = settings.start_check == "behind" and device.gpu is None and device.remote is None
            try:
                self._check = self._opened.load(self._store, self._upkeep, progress, later)
                if not later:
                    self._check.run()
                self._end_broken_moves()
                self._move_taus()
                if later:
                    self._check.begin(self.await_loaded)
            except BaseException:
                self._upkeep.close(until=0)
                self._store.close(until=0)
                raise
        except BaseException:
            self._pool.shutdown()
            device.close()
            raise

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        device: str = "cpu",
        settings: IndexSettings | None = None,
        progress: Progress | None = None,
        tau_rule: TauRule | None = None,
        on_change: OnChange = unheard,
        on_galleries: OnGalleries = nobody_decides,
    ) -> LocalGalleries:
        """Opens a data directory, creating it if need be, and loads every index.

        `progress` is called for every gallery and every few thousand encodings; what it raises ends the opening, and
        leaves the directory as it was. `tau_rule` says what τ follows a gallery that has a target and no τ of its own;
        without it none does. `on_change` hears in the writer's thread, after each commit, what it changed, as the audit
        trail would tell it; it must not fail. `on_galleries` hears there of the galleries that are new or changed, but
        for their sizes, or (None) gone, before the write is done. Raises DeviceUnavailable, DeviceLost, StoreLocked,
        StoreBusy, StoreMissing, StoreDamaged, StoreTooNew, StoreFull, StoreIOError (also where the store can't be
        written), OutOfMemory, and GenerationUnsupported where a gallery needs a kind of index or a rule of fusion that
        isn't there.
        """
        settings = settings or IndexSettings()
        with _memory("to open the galleries"):
            lost, half = settings.gpu_lost == "cpu", settings.gpu_rows == "float16"
            access = Access(
                *(settings.engine_token, settings.engine_authority, settings.engine_certificate, settings.engine_key)
            )
            opened = open_device(
                device, settings.gpu_temp_memory_bytes, lost, half, access, settings.engine_copy_seconds
            )
            if opened.remote is None:  # there are no copies elsewhere
                settings = settings.model_copy(update={"engine_copy_seconds": 0.0})
            return cls(Path(data_dir), opened, settings, progress or _silent, tau_rule, on_change, on_galleries)

    # Writing.

    def create_gallery(
        self,
        gallery_id: str,
        *,
        encoder_digest: str,
        dimension: int,
        description: str = "",
        kind: str = "flat",
        fusion: str = "nearest",
        target_fpir: float | None = None,
        quality: str | None = None,
        least_gap: float = 0.0,
        doubt: str | None = None,
        decided_by: DecidedBy = "distance",
        keep_crops: bool = False,
    ) -> Future[Gallery]:
        if not gallery_id or gallery_id.startswith("\0") or not 1 <= dimension <= MAX_DIMENSION:
            return _failed(ValueError(f"a gallery needs an id, and a dimension from 1 to {MAX_DIMENSION}"))
        if not _is_target(target_fpir):
            return _failed(ValueError(f"a target lies between 0 and 1, got {target_fpir}"))
        if not _is_gap(least_gap):
            return _failed(ValueError(f"a gap is finite and >= 0, got {least_gap}"))
        try:
            check_supported(gallery_id, kind, fusion)
            mutations.check_decidable(gallery_id, fusion, decided_by)
            self._check_decided(decided_by)
        except (GenerationUnsupported, RulesConflict, EngineUnsupported, ValueError) as error:
            return _failed(error)
        return self._write(
            mutations.CreateGallery(
                *(gallery_id, encoder_digest, dimension, description, kind, fusion, target_fpir),
                *(quality, least_gap + 0.0, doubt, decided_by, keep_crops),  # no -0.0: SQLite doesn't keep it
            )
        )

    def delete_gallery(self, gallery_id: str) -> Future[DeletedGallery]:
        def signed(gone: Gallery) -> DeletedGallery:
            sizes = {"subjects": gone.subjects, "encodings": gone.encodings, "negatives": gone.negatives}
            return DeletedGallery(gone, self._store.receipts.sign("gallery", gallery_id, gone.revision + 1, **sizes))

        return then(self._submit(mutations.DeleteGallery(gallery_id)), signed)

    def set_threshold(
        self, gallery_id: str, threshold: float | None, calibration: str | None = None, of: Gallery | None = None
    ) -> Future[Gallery]:
        if threshold is not None and not math.isfinite(threshold):
            return _failed(ValueError(f"a threshold is a finite number, got {threshold}"))
        return self._write(mutations.SetThreshold(gallery_id, threshold, calibration, of))

    def set_target_fpir(self, gallery_id: str, target_fpir: float | None) -> Future[Gallery]:
        if not _is_target(target_fpir):
            return _failed(ValueError(f"a target lies between 0 and 1, got {target_fpir}"))
        return self._write(mutations.SetTargetFpir(gallery_id, target_fpir), anew=True)

    def set_fusion(self, gallery_id: str, fusion: str) -> Future[Gallery]:
        try:
            check_supported(gallery_id, "flat", fusion)
        except GenerationUnsupported as error:
            return _failed(error)
        return self._opened.once_in_step(gallery_id, self._write(mutations.SetFusion(gallery_id, fusion)))

    def _check_decided(self, decided_by: DecidedBy) -> None:
        """Raises EngineUnsupported: every vector would have to be fetched for each probe."""
        if decided_by == "probability" and self._device.remote is not None:
            raise EngineUnsupported(self.device, "deciding by probability")

    def set_decided_by(self, gallery_id: str, decided_by: DecidedBy) -> Future[Gallery]:
        try:
            self._check_decided(decided_by)
        except EngineUnsupported as error:
            return _failed(error)
        return self._write(mutations.SetDecidedBy(gallery_id, decided_by))

    def set_quality(self, gallery_id: str, quality: str | None) -> Future[Gallery]:
        return self._submit(mutations.SetQuality(gallery_id, quality))

    def set_least_gap(self, gallery_id: str, least_gap: float) -> Future[Gallery]:
        if not _is_gap(least_gap):
            return _failed(ValueError(f"a gap is finite and >= 0, got {least_gap}"))
        return self._submit(mutations.SetLeastGap(gallery_id, least_gap + 0.0))  # no -0.0: SQLite doesn't keep it

    def set_approximation(self, gallery_id: str, approximation: Approximation | None) -> Future[Gallery]:
        if approximation is not None and self._device.remote is not None:
            return _failed(EngineUnsupported(self.device, "approximate answers"))
        return self._submit(mutations.SetKind(gallery_id, kind_of(approximation)))

    def set_doubt(self, gallery_id: str, doubt: str | None) -> Future[Gallery]:
        return self._submit(mutations.SetDoubt(gallery_id, doubt))

    def set_keep_crops(self, gallery_id: str, keep: bool) -> Future[Gallery]:
        return self._submit(SetKeepCrops(gallery_id, keep))

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
        caller: Hashable = None,
        patient: bool = False,
        doubting: Doubting | None = None,
        retention: Retention | None = None,
        notes: Sequence[Note] | None = None,
        others: Mapping[str, Vectors] | None = None,
        crops: Sequence[bytes] | None = None,
        filling: Filling | None = None,
    ) -> Future[Enrolled]:
        if retention is not None and not _is_time(retention.expires):
            return _failed(ValueError(f"a time of expiry is finite and >= 0, got {retention.expires}"))
        given = NewEncodings(subject_id, encodings, labels, on_existing, request_id, request_digest)
        try:
            mutation = self._enroll(gallery_id, given, encoder_digest, _copied(encodings), checked=False)
            copies = {digest: _copied(vectors) for digest, vectors in (others or {}).items()}
            if any(len(one) != len(mutation.encodings) for one in copies.values()):
                raise ValueError("as many encodings by each encoder")
            if notes is not None and len(notes) != len(mutation.encodings):
                raise ValueError(f"{len(notes)} notes for {len(mutation.encodings)} encodings")
            if crops is not None and len(crops) != len(mutation.encodings):
                raise ValueError(f"{len(crops)} crops for {len(mutation.encodings)} encodings")
            if any(len(one) > MAX_CROP_BYTES for one in crops or ()):
                raise ValueError(f"a crop has at most {MAX_CROP_BYTES} bytes")
        except (TypeError, ValueError, OutOfMemory) as error:
            return _failed(error)
        mutation = replace(mutation, doubting=doubting, retention=retention, notes=tuple(notes or ()), others=copies)
        mutation = replace(mutation, crops=tuple(map(bytes, crops or ())), filling=filling)
        return self._write(mutation, caller=caller, size=_size_of(mutation), patient=patient)

    def enroll_many(
        self,
        gallery_id: str,
        subjects: Sequence[NewEncodings],
        *,
        encoder_digest: str | None = None,
        caller: Hashable = None,
        patient: bool = False,
    ) -> Future[list[Enrolled | Exception]]:
        try:
            copies, checked = _copied_together([one.encodings for one in subjects])
            enrolls: list[Enroll] = [
                self._spelled(self._enroll(gallery_id, one, encoder_digest, copy, checked))
                for one, copy in zip(subjects, copies, strict=True)
            ]
        except (TypeError, ValueError, OutOfMemory) as error:
            return _failed(error)
        if self._check.fault is not None:
            return _failed(self._check.fault)
        made: list[Mutation[Any]] = [*enrolls]
        if self._tau_rule is not None and enrolls:  # once for all, in the same transaction
            made.append(Follow(enrolls[0].gallery_id, self._tau_rule))
        done = self._store.write_many(made, caller, sum(map(_size_of, enrolls)), patient)
        return then(done, lambda outcomes: outcomes[: len(enrolls)])

    def _enroll(
        self, gallery_id: str, one: NewEncodings, encoder_digest: str | None, array: Vectors, checked: bool
    ) -> Enroll:
        """`array`: a copy of its encodings. Raises ValueError."""
        if not one.subject_id or one.on_existing not in ("add", "replace", "fail"):
            raise ValueError("enroll needs a subject id, and add, replace or fail")
        if array.shape[0] == 0:
            raise ValueError("enroll needs at least one encoding")
        return Enroll(
            *(gallery_id, one.subject_id, array, encoder_digest),
            None if one.labels is None else dict(one.labels),
            *(one.on_existing, one.request_id, one.request_digest),
            *(self.settings.max_encodings_per_subject, self._request_memory),
            self._opened.recent,
            checked=checked,
        )

    def delete_encoding(
        self, gallery_id: str, subject_id: str, encoding_id: str | None = None, *, key: str | None = None
    ) -> Future[Deleted]:
        if (encoding_id is None) == (key is None):
            return _failed(ValueError("either an id of an encoding or a key"))

        def signed(gone: Deleted) -> Deleted:
            whole = "subject" if gone.subject_deleted else "encoding"
            named = {"encoding": encoding_id} if key is None else {"encoding_key": key}
            return self._with_receipt(gone, whole, gallery_id, subject=subject_id, **named)

        mutation = mutations.DeleteEncodings(gallery_id, subject_id, encoding_id, encoding_key=key)
        return then(self._write(mutation), signed)

    def delete_subject(self, gallery_id: str, subject_id: str, *, among: SubjectFilter = EVERYBODY) -> Future[Deleted]:
        def signed(gone: Deleted) -> Deleted:
            return self._with_receipt(gone, "subject", gallery_id, subject=subject_id, encodings=gone.encodings)

        return then(self._write(mutations.DeleteEncodings(gallery_id, subject_id, None, among=among)), signed)

    def rename_subject(self, gallery_id: str, subject_id: str, new_id: str) -> Future[Gallery]:
        if not new_id:
            return _failed(ValueError("a subject needs an id"))
        return self._write(managing.RenameSubject(gallery_id, subject_id, new_id))

    def update_labels(
        self,
        gallery_id: str,
        subject_id: str,
        labels: Mapping[str, str],
        *,
        removed: Collection[str] = (),
        clear: bool = False,
    ) -> Future[Gallery]:
        mutation = managing.UpdateLabels(gallery_id, subject_id, dict(labels), frozenset(removed), clear)
        size = MUTATION_BYTES + sum(map(len, labels.values()))
        return self._submit(mutation, size=size)

    def merge_subjects(self, gallery_id: str, subject_id: str, into_id: str) -> Future[Moved]:
        limits = self.settings.max_encodings_per_subject, self.settings.max_negatives_per_subject
        return self._write(managing.MergeSubjects(gallery_id, subject_id, into_id, *limits))

    def move_encodings(
        self, gallery_id: str, subject_id: str, to_id: str, *, encoding_id: str | None = None, key: str | None = None
    ) -> Future[Moved]:
        if (encoding_id is None) == (key is None):
            return _failed(ValueError("either an id of an encoding or a key"))
        most = self.settings.max_encodings_per_subject
        return self._write(managing.MoveEncodings(gallery_id, subject_id, encoding_id, key, to_id, most))

    def set_retention(self, gallery_id: str, subject_id: str, retention: Retention) -> Future[Gallery]:
        if not _is_time(retention.expires):
            return _failed(ValueError(f"a time of expiry is finite and >= 0, got {retention.expires}"))
        return self._submit(mutations.SetRetention(gallery_id, subject_id, retention))

    def expired(self, now: float, most: int = 1000, after: tuple[float, int] | None = None) -> list[Expired]:
        return self._sweeper.expired(now, most, after)

    def record(self, events: Sequence[Event]) -> Future[None]:
        return self._store.write(Record(tuple(events)), self, patient=True)

    def _delete_expired(self, one: Expired, now: float) -> Future[Deleted]:
        return self._write(mutations.DeleteEncodings(one.gallery_id, one.subject_id, None, now), patient=True)

    def _with_receipt(self, gone: Deleted, what: str, gallery_id: str, **more: object) -> Deleted:
        return replace(gone, receipt=self._store.receipts.sign(what, gallery_id, gone.revision, **more))

    def _write(
        self,
        mutation: Mutation[T],
        *,
        anew: bool = False,
        caller: Hashable = None,
        size: int = MUTATION_BYTES,
        patient: bool = False,
    ) -> Future[T]:
        """With what it makes of the τ that follows: see Following."""
        if self._check.fault is not None:
            return _failed(self._check.fault)
        mutation = self._spelled(mutation)
        if self._tau_rule is not None:
            mutation = Following(mutation, self._tau_rule, anew)
        return self._store.write(mutation, caller, size, patient)

    def _submit(self, mutation: Mutation[T], size: int = MUTATION_BYTES) -> Future[T]:
        """Of one that no τ that follows depends on, neither of its gallery nor of one that waits to take its place."""
        if self._check.fault is not None:
            return _failed(self._check.fault)
        return self._store.write(self._spelled(mutation), size=size)

    def _spelled(self, mutation: Any) -> Any:
        """With the gallery's id as it is spelled here."""
        given = mutation.gallery_id
        if given.isascii() or self._opened.get(given) is None:
            spelled = composed(given)
            return mutation if spelled == given else replace(mutation, gallery_id=spelled)
        return mutation

    def _end_broken_moves(self) -> None:
        moves = {gallery.id: gallery.move for gallery in self._opened.galleries()}
        broken = [name for name, move in moves.items() if move and not move.fits(name, moves.get(move.other))]
        ended = [self._store.write(succession.EndBrokenMove(name), self, patient=True) for name in broken]
        _tell_failed("its move could not be ended", broken, ended)

    def _move_taus(self) -> None:
        """Of galleries that changed, or never had one, while their encoder wasn't there."""
        rule = self._tau_rule
        if rule is None:
            return
        found = [(gallery.id, followable(gallery)) for gallery in self._opened.galleries()]
        due = [gallery_id for gallery_id, one in found if one is not None and rule(one) is not None]
        moved = [self._store.write(Follow(gallery_id, rule), self, patient=True) for gallery_id in due]
        _tell_failed("its threshold could not follow its size", due, moved)

    def add_negative(
        self,
        gallery_id: str,
        subject_id: str,
        encoding: Vectors,
        *,
        encoder_digest: str | None = None,
        others: Mapping[str, Vectors] | None = None,
    ) -> Future[AddedNegative]:
        try:
            array = _copied(encoding)
            copies = {digest: _copied(vector) for digest, vector in (others or {}).items()}
        except (TypeError, ValueError, OutOfMemory) as error:
            return _failed(error)
        most = self.settings.max_negatives_per_subject
        return self._write(mutations.AddNegative(gallery_id, subject_id, array, encoder_digest, most, copies))

    def delete_negative(self, gallery_id: str, subject_id: str, negative_id: str) -> Future[Gallery]:
        return self._write(mutations.DeleteNegative(gallery_id, subject_id, negative_id))

    # To another encoder.

    def start_move(
        self,
        gallery_id: str,
        successor_id: str,
        *,
        encoder_digest: str,
        dimension: int,
        decided_by: DecidedBy = "distance",
        compare_share: float = 0.0,
    ) -> Future[Gallery]:
        if not successor_id or successor_id.startswith("\0") or not 1 <= dimension <= MAX_DIMENSION:
            return _failed(ValueError(f"a gallery needs an id, and a dimension from 1 to {MAX_DIMENSION}"))
        if not 0 <= compare_share <= 1:
            return _failed(ValueError(f"a share is between 0 and 1, got {compare_share}"))
        try:
            self._check_decided(decided_by)
        except EngineUnsupported as error:
            return _failed(error)
        return self._write(
            succession.StartMove(
                *(gallery_id, composed(successor_id), encoder_digest, dimension, decided_by, compare_share)
            )
        )

    def move_state(self, gallery_id: str) -> MoveState:
        return self._read(lambda db: succession.state(db, gallery_id))

    def list_left(self, gallery_id: str, *, page_size: int = 100, after: str | None = None) -> LeftPage:
        _check_page_size(page_size)
        return self._read(
            lambda db: succession.list_left(db, gallery_id, page_size, self.settings.max_page_bytes, after)
        )

    def list_left_crops(self, gallery_id: str, *, page_size: int = 100, after: str | None = None) -> LeftCropsPage:
        _check_page_size(page_size)
        return self._read(
            lambda db: succession.list_left_crops(db, gallery_id, page_size, self.settings.max_page_bytes, after)
        )

    def cut_over(self, gallery_id: str, *, leave: bool = False) -> Future[Gallery]:
        return self._submit(succession.CutOver(gallery_id, leave))

    def roll_back(self, gallery_id: str, *, leave: bool = False) -> Future[Gallery]:
        return self._submit(succession.RollBack(gallery_id, leave))

    def end_move(self, gallery_id: str, *, keep: bool = False) -> Future[Gallery]:
        return self._submit(succession.EndMove(gallery_id, keep))

    def list_pairs(self, gallery_id: str, *, page_size: int = 100, after: str | None = None) -> PairedPage:
        _check_page_size(page_size)
        return self._read(lambda db: mapping.list_pairs(db, gallery_id, page_size, self.settings.max_page_bytes, after))

    def fill_by_map(
        self, gallery_id: str, made: EncodingMap, loss: MapLoss, *, most: int = 64, after: str | None = None
    ) -> Future[MappedStep]:
        if most < 1:
            return _failed(ValueError(f"at least 1 subject, got {most}"))
        limits = self.settings.max_encodings_per_subject, self._request_memory, self._opened.recent
        mutation = mapping.FillByMap(gallery_id, made, loss, after, most, *limits)
        return self._write(mutation, size=MUTATION_BYTES + made.weights.nbytes, patient=True)

    def queued_writes(self) -> int:
        return self._store.queued()

    def trouble(self) -> str | None:
        if self._store.closed:
            return "the store is closed"
        return self._device.trouble() or self._store.trouble() or self._upkeep.trouble() or self._check.trouble()

    def await_loaded(self) -> None:
        """Returns once every gallery has been loaded since the start, or the store is closed."""
        self._opened.await_loaded()

    @property
    def sound(self) -> bool:
        """Whether all rows of the store were found to be sound since the start: see IndexSettings.start_check."""
        return self._check.done

    # Reading.

    def _read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """As Store.read(), of subjects. Raises StoreDamaged where the check found that, too."""
        if self._check.fault is not None:
            raise self._check.fault
        return self._store.read(ask)

    def get_gallery(self, gallery_id: str) -> Gallery:
        return self._store.read(lambda db: queries.gallery(db, gallery_id).gallery)

    def known(self, gallery_id: str) -> Gallery:
        return self._find(gallery_id).gallery

    def list_galleries(self, *, page_size: int = 100, after: str | None = None) -> GalleryPage:
        _check_page_size(page_size)
        return self._store.read(lambda db: pages.list_galleries(db, page_size, self.settings.max_page_bytes, after))

    def list_thresholds(self, gallery_id: str, *, page_size: int = 100, after: int | None = None) -> ThresholdPage:
        _check_page_size(page_size)
        return self._store.read(
            lambda db: pages.list_thresholds(db, gallery_id, page_size, self.settings.max_page_bytes, after)
        )

    def get_subject(self, gallery_id: str, subject_id: str) -> Subject:
        return self._read(lambda db: pages.subject(db, gallery_id, subject_id))

    def list_subjects(
        self, gallery_id: str, *, page_size: int = 100, after: str | None = None, among: SubjectFilter = EVERYBODY
    ) -> SubjectPage:
        _check_page_size(page_size)
        return self._read(
            lambda db: pages.list_subjects(db, gallery_id, page_size, self.settings.max_page_bytes, after, among)
        )

    def subject_ids(self, gallery_id: str, among: SubjectFilter = EVERYBODY) -> list[str]:
        with _memory("to list who is meant"):
            return sorted(subject_id for subject_id, _ in self._those(gallery_id, among)[1])

    def count_label(self, gallery_id: str, label: str, among: SubjectFilter = EVERYBODY) -> LabelCounts:
        with _memory("to count labels"):
            revision, those = self._those(gallery_id, among)
            values = Counter(labels[label] for _, labels in those if label in labels)
            return LabelCounts(len(those), values, len(those) - values.total(), revision)

    def _those(self, gallery_id: str, among: SubjectFilter) -> tuple[int, list[tuple[str, Mapping[str, str]]]]:
        """A revision, and the ids and labels of the subjects that a filter lets through at that."""
        told = self._read(lambda db: told_subjects(db, queries.place(db, gallery_id).number, None))
        if told is None:
            raise GalleryNotFound(gallery_id)
        labels = {number: queries.read_labels(text.decode()) for number, text in told.labels.items()}
        those = [(subject_id, labels.get(number, {})) for number, subject_id in told.ids.items()]
        return told.revision, [one for one in those if one[0].startswith(among.id_prefix) and among.labels_pass(one[1])]

    def list_likenesses(self, gallery_id: str, *, page_size: int = 100, after: str | None = None) -> LikenessPage:
        _check_page_size(page_size)
        return self._read(
            lambda db: pages.list_likenesses(db, gallery_id, page_size, self.settings.max_page_bytes, after)
        )

    def replay(self, gallery_id: str, subject_id: str, request_id: str, request_digest: bytes) -> Enrolled | None:
        def find(db: sqlite3.Connection) -> Enrolled | None:
            at = queries.place(db, gallery_id)
            return self._request_memory.find(db, at, subject_id, request_id, request_digest, time.time())

        return self._read(find)

    # Moving.

    def export_step(self, gallery_id: str, known: KnownSubjects, max_bytes: int) -> ExportStep:
        with _memory("to export"):
            return self._read(lambda db: exporting.step(db, gallery_id, known, max_bytes))

    def export_subjects(
        self, gallery_id: str, uid: str, numbers: Sequence[int], max_bytes: int
    ) -> tuple[list[MovedSubject], int]:
        return self._read(lambda db: exporting.subjects(db, gallery_id, uid, numbers, max_bytes))

    def begin_import(self, gallery_id: str, gallery: Gallery, digest: str) -> Future[Gallery]:
        active = gallery.active
        try:
            check_supported(gallery_id, active.kind, active.fusion)
            mutations.check_decidable(gallery_id, active.fusion, active.decided_by)
        except (GenerationUnsupported, RulesConflict, ValueError) as error:
            return _failed(error)
        return self._submit(importing.BeginImport(gallery_id, gallery, digest))

    def import_subjects(self, gallery_id: str, digest: str, done: int, subjects: Sequence[MovedSubject]) -> Future[int]:
        limits = self.settings.max_encodings_per_subject, self.settings.max_negatives_per_subject
        mutation = importing.ImportSubjects(gallery_id, digest, done, tuple(subjects), *limits)
        return self._submit(mutation, size=sum(one.nbytes for one in subjects))

    def import_thresholds(self, gallery_id: str, digest: str, versions: Sequence[ThresholdVersion]) -> Future[None]:
        return self._submit(importing.ImportThresholds(gallery_id, digest, tuple(versions)))

    def finish_import(self, gallery_id: str, digest: str) -> Future[Gallery]:
        return self._opened.once_in_step(gallery_id, self._submit(importing.FinishImport(gallery_id, digest)))

    # Searching.

    def search_many(self, gallery_id: str, searches: Sequence[Search]) -> list[Found | GalleryError]:
        while True:
            with contextlib.suppress(negatives.SubjectGone, ChangedMeanwhile):
                return self._search(self._find(gallery_id), searches)

    def _search(self, opened: Opened, searches: Sequence[Search]) -> list[Found | GalleryError]:
        """Raises SubjectGone."""
        index = opened.in_step()
        with _memory("for these searches"):
            checked = check_searches(opened.gallery, self.settings.max_candidates, searches)
            sound = [search for search in checked if isinstance(search, Search)]
            try:
                found = iter(self._answers(opened, index, sound) if sound else ())
            except RuntimeError:
                if self._store.closed:  # meanwhile, and with it the pool
                    raise StoreClosed(self.data_dir) from None
                raise
            return [next(found) if isinstance(search, Search) else search for search in checked]

    def _answers(
        self, opened: Opened, index: GalleryIndex, searches: Sequence[Search]
    ) -> Sequence[Found | GalleryError]:
        """Raises SubjectGone."""
        having, gallery_id = opened.having_negatives, opened.gallery.id
        found = (
            negatives.search(index.search, searches, gallery_id, having, self._read)
            if having
            else index.search(searches)
        )
        if opened.gallery.active.kind != EXACT_KIND:
            self._opened.tending.saw(opened.generation, index, searches, found)
        # The index tells a revision whose negatives are known by now, but weren't when the search began.
        now = self._opened.get(gallery_id)
        known = opened.gallery.mapped or (now.gallery.mapped if now is not None else None)
        if known is not None:
            mapped = (opened.mapped,) if now is None else (opened.mapped, now.mapped)
            found = [_told_mapped(one, known, mapped) if isinstance(one, Found) else one for one in found]
        if now is not None and (
            now.generation != opened.generation  # another gallery has the name by now
            or (now.having_negatives is not having and not now.having_negatives <= having)
        ):
            raise negatives.SubjectGone
        if self._check.done:
            return found
        return [replace(one, unchecked=True) if isinstance(one, Found) else one for one in found]

    def verify(
        self,
        gallery_id: str,
        subject_id: str,
        probes: Vectors,
        *,
        encoder_digest: str | None = None,
        fusion: str | None = None,
        head: PairHead | None = None,
        by_probability: bool = False,
    ) -> Found:
        if by_probability and head is None:
            raise ValueError("what decides by probability needs a head")
        found = self._read(
            lambda db: verifying.verify(
                db, gallery_id, subject_id, probes, encoder_digest, fusion, self._others, head, by_probability
            )
        )
        return replace(found, unchecked=not self._check.done)

    def _others(self, gallery_id: str, probes: Vectors, generation: Generation) -> Found:
        while True:
            opened = self._find(gallery_id)
            active = opened.gallery.active
            if (active.fusion, active.encoder_digest) != (generation.fusion, generation.encoder_digest):
                raise IndexOutOfStep(gallery_id)  # its index has yet to follow
            with contextlib.suppress(ChangedMeanwhile):
                (found,) = opened.in_step().search([Search(probes, "", MARGIN_OTHERS + 1, exact=True)])
                if isinstance(found, GalleryError):
                    raise found
                return found

    def approximation_state(self, gallery_id: str) -> ApproximationState | None:
        opened = self._find(gallery_id)
        if opened.gallery.active.kind == EXACT_KIND:
            return None
        state = None if opened.index is None else opened.index.approximation()
        return self._opened.tending.told(opened.generation, state or ApproximationState("exact", "being built"))

    def index_info(self, gallery_id: str) -> IndexInfo:
        """The index that answers searches, as it stands. Raises GalleryNotFound, IndexOutOfStep, OutOfMemory."""
        with _memory("to look at the index"):
            return self._find(gallery_id).in_step().info()

    def _find(self, gallery_id: str) -> Opened:
        """Raises GalleryNotFound, StoreClosed, StoreDamaged."""
        if self._check.fault is not None:
            raise self._check.fault
        opened = self._opened.get(gallery_id) or self._opened.get(composed(gallery_id))
        if opened is None:
            if self._store.closed:
                raise StoreClosed(self.data_dir)
            raise GalleryNotFound(gallery_id)
        return opened

    # Upkeep.

    def snapshot(self, gallery_id: str | None = None) -> None:
        """Writes a snapshot of one gallery, or of each that changed. Raises GalleryNotFound, StoreError,
        OutOfMemory."""
        with _memory("for a snapshot"):
            self._upkeep.snapshot(self._generation(gallery_id))

    def compact(self, gallery_id: str | None = None) -> None:
        """Makes deletions physical, in memory and on disk.

        A deleted encoding is out of every answer at once, and nobody can decrypt what is left of it on the disk;
        dead rows may remain in memory, and its subject's id in the write-ahead log. After this call none does; the
        remembered answer about another subject, encrypted, may still name it as the nearest one.
        Raises GalleryNotFound, StoreError, OutOfMemory.
        """
        with _memory("to compact the index"):
            self._upkeep.compact(self._generation(gallery_id))

    def rotate_keys(self, gallery_id: str | None = None) -> None:
        """Gives a gallery another key, or (None) all of them another master key; what is stored stays as it is.

        Copies of keys that were destroyed before, in old cells of a disk, are worth nothing from then on. The master
        key is a new one, where it is a file of the data directory, else what its source gives now. Raises
        GalleryNotFound, StoreError.
        """
        if gallery_id is None:
            self._store.rotate_master_key()
        else:
            number = self._store.read(lambda db: queries.place(db, gallery_id)).number
            try:
                self._store.rotate_key(number)
            except KeyDestroyed:  # with the gallery, meanwhile
                raise GalleryNotFound(gallery_id) from None

    def back_up(self, target: Path, ended: Callable[[], bool] = lambda: False) -> Backup:
        with _memory("for a backup"):
            return self._store.back_up(target, ended)

    def _generation(self, gallery_id: str | None) -> int | None:
        return None if gallery_id is None else self._find(gallery_id).generation

    def close(self, deadline_seconds: float | None = None) -> None:
        """While there is time, finishes queued writes, takes snapshots of what changed and checkpoints; closes."""
        if self._store.closed:
            return
        until = None if deadline_seconds is None else time.monotonic() + deadline_seconds
        self._check.stop(self._opened.end_loading)
        self._device.hurry()
        self._store.finish(until)
        self._upkeep.close(until)
        self._store.close(until)
        self._opened.clear()
        self._pool.shutdown()
        self._device.close()

    def __enter__(self) -> LocalGalleries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _told_mapped(found: Found, known: Mapped, mapped: Collection[NumberSet]) -> Found:
    """With what of the answer rests on mapped encodings: those of the subjects of these numbers. No union is made of
    the sets: of a million subjects that takes longer than the search."""

    def told(listed: tuple[tuple[Candidate, ...], ...]) -> tuple[tuple[Candidate, ...], ...]:
        return tuple(
            tuple(
                replace(one, mapped=True) if any(one.number in those for those in mapped) else one for one in candidates
            )
            for candidates in listed
        )

    return replace(found, candidates=told(found.candidates), matches=told(found.matches), mapped=known)


# FAISS and the error bound have no trouble with it, and no encoder comes near.
MAX_DIMENSION = 65_536


def _copied(encodings: Vectors) -> Vectors:
    """As float32 with one axis at least: the caller may reuse its buffer. Raises TypeError, ValueError, OutOfMemory."""
    with _memory("for these encodings"), np.errstate(over="ignore"):  # becomes infinite, and is refused as such
        return np.array(encodings, np.float32, ndmin=1)


def _copied_together(encodings: Sequence[Vectors]) -> tuple[list[Vectors], bool]:
    """Each as _copied(), by one copy where all are float32 [n, D]; and whether all are known to have usable values."""
    shapes = {(one.dtype, one.shape[1:]) for one in encodings if isinstance(one, np.ndarray) and one.ndim == 2}
    if len(shapes) != 1 or next(iter(shapes))[0] != np.float32 or any(np.ndim(one) != 2 for one in encodings):
        return [_copied(one) for one in encodings], False
    with _memory("for these encodings"):
        whole = np.concatenate(encodings)
        ends = np.cumsum([len(one) for one in encodings]).tolist()
        return [whole[start:end] for start, end in itertools.pairwise([0, *ends])], bool(usable_encodings(whole).all())


def _size_of(mutation: Enroll) -> int:
    texts = sum(map(len, mutation.labels.values())) if mutation.labels else 0
    vectors = sum(one.nbytes for one in (mutation.encodings, *mutation.others.values()))
    return vectors + MUTATION_BYTES * len(mutation.encodings) + texts + sum(map(len, mutation.crops))


def _is_time(seconds: float | None) -> bool:
    return seconds is None or (math.isfinite(seconds) and seconds >= 0)


def _is_target(target_fpir: float | None) -> bool:
    return target_fpir is None or 0 < target_fpir < 1


def _is_gap(least_gap: float) -> bool:
    return math.isfinite(least_gap) and least_gap >= 0


def _tell_failed(what: str, gallery_ids: Sequence[str], done: Sequence[Future[Any]]) -> None:
    """Of what is done at the start, and again at the next one: a full disk, say."""
    for gallery_id, one in zip(gallery_ids, done, strict=True):
        error = one.exception()
        if error is not None:
            log.warning("gallery %r: %s: %s", gallery_id, what, in_words(error))


def _silent(progress: OpenProgress) -> None:
    pass


@contextlib.contextmanager
def _memory(what: str) -> Iterator[None]:
    """Want of memory becomes OutOfMemory."""
    try:
        yield
    except MemoryError:
        raise OutOfMemory(what) from None


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _check_page_size(page_size: int) -> None:
    if page_size < 1:
        raise ValueError(f"a page holds at least 1 entry, got {page_size}")
