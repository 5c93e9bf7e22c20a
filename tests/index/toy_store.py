"""A GalleryStore in a few dictionaries, correct and slow: what the conformance suite is tried on.

Its state is never changed, only replaced; so a read or a search sees one state throughout, and a failed write none of
its own. A Disk keeps the state between two stores.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from oneglance_core.distance import squared_l2
from oneglance_core.fusion import FUSIONS, DecidedBy, template
from oneglance_core.pair_head import PairHead
from oneglance_index import (
    EVERYBODY,
    AddedNegative,
    Approximation,
    ApproximationState,
    Backup,
    Candidate,
    DecidedByChanged,
    Deleted,
    DeletedGallery,
    Doubt,
    Doubting,
    EncoderMismatch,
    Encoding,
    EncodingKeyExists,
    EncodingNotFound,
    Enrolled,
    Event,
    Expired,
    Filling,
    Found,
    FusionChanged,
    Gallery,
    GalleryError,
    GalleryExists,
    GalleryNotFound,
    GalleryPage,
    GalleryStore,
    Generation,
    GenerationUnsupported,
    LabelCounts,
    LikeAnother,
    Likeness,
    LikenessPage,
    LimitExceeded,
    Moved,
    NearerNegative,
    Negative,
    NegativeEnrolled,
    NegativeNotFound,
    NegativeOfTheOther,
    Neighbour,
    NewEncodings,
    Note,
    OnExisting,
    RequestConflict,
    Retention,
    RulesConflict,
    SameSubject,
    Search,
    StoreClosed,
    Subject,
    SubjectExists,
    SubjectFilter,
    SubjectNotFound,
    SubjectPage,
    ThresholdPage,
    ThresholdVersion,
    UnlikeOwn,
    approximation_of,
    check_encodings,
    kind_of,
)
from oneglance_index.records import retention_of
from tests.index.conformance import MAX_CANDIDATES, MAX_ENCODINGS, MAX_NEGATIVES, MAX_PAGE_BYTES

T = TypeVar("T")
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Member:
    """A subject; `encodings` by number, oldest first, each with its vector float32 [D]."""

    labels: Mapping[str, str]
    created: float
    updated: float
    encodings: Mapping[int, tuple[Encoding, Vectors]] = field(default_factory=dict)
    negatives: Mapping[int, tuple[Negative, Vectors]] = field(default_factory=dict)
    retention: Retention = field(default_factory=Retention)

    def vectors(self) -> Vectors:
        return np.stack([vector for _, vector in self.encodings.values()])


@dataclass(frozen=True)
class Kept:
    """A gallery and all that belongs to it."""

    gallery: Gallery
    subjects: Mapping[str, Member] = field(default_factory=dict)
    requests: Mapping[str, tuple[bytes, Enrolled, float]] = field(default_factory=dict)
    thresholds: tuple[ThresholdVersion, ...] = ()


@dataclass(frozen=True)
class State:
    galleries: Mapping[str, Kept] = field(default_factory=dict)
    next_number: int = 1

    def kept(self, gallery_id: str) -> Kept:
        if gallery_id not in self.galleries:
            raise GalleryNotFound(gallery_id)
        return self.galleries[gallery_id]

    def member(self, gallery_id: str, subject_id: str) -> Member:
        kept = self.kept(gallery_id)
        if subject_id not in kept.subjects:
            raise SubjectNotFound(gallery_id, subject_id)
        return kept.subjects[subject_id]

    def put(self, kept: Kept) -> State:
        return replace(self, galleries={**self.galleries, kept.gallery.id: kept})


@dataclass
class Disk:
    state: State = field(default_factory=State)


class ToyStore(GalleryStore):
    exact = True

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._closed = False
        self.state = self.load(disk.state)

    def load(self, state: State) -> State:
        return state

    def save(self, state: State) -> None:
        self._disk.state = state

    @property
    def device(self) -> str:
        return "cpu"

    def close(self, deadline_seconds: float | None = None) -> None:
        self._closed = True

    def trouble(self) -> str | None:
        return "closed" if self._closed else None

    def await_loaded(self) -> None:
        pass

    @property
    def sound(self) -> bool:
        return True

    def queued_writes(self) -> int:
        return 0

    def now(self) -> State:
        """The state that reads and searches see."""
        if self._closed:
            raise StoreClosed(Path("toy"))
        return self.state

    def _write(self, act: Callable[[State], tuple[State, T]]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            try:
                self.state, result = act(self.now())
                self.save(self.state)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)
        return future

    # Writing.

    def record(self, events: Sequence[Event]) -> Future[None]:
        future: Future[None] = Future()
        future.set_result(None)
        return future

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
        def act(state: State) -> tuple[State, Gallery]:
            if not gallery_id or dimension < 1 or not 0 < (target_fpir or 0.5) < 1:
                raise ValueError
            self.check_gap(least_gap)
            self.check_new(state, gallery_id, kind)
            self.check_fusion(gallery_id, fusion)
            self.check_rules(gallery_id, fusion, decided_by)
            at = time.time()
            active = Generation(encoder_digest, dimension, kind, fusion, "active", None, 0, None, None, 0, quality, at)
            active = replace(active, least_gap=least_gap, doubt=doubt, decided_by=decided_by)
            kept = retention_of(keep_crops=keep_crops)
            gallery = Gallery(gallery_id, description, active, target_fpir, None, None, kept, at, 0, 0, 0)
            return state.put(Kept(gallery)), gallery

        return self._write(act)

    def check_new(self, state: State, gallery_id: str, kind: str) -> None:
        if kind != "flat":
            raise GenerationUnsupported(gallery_id, "kind of index", kind, ("flat",))
        if gallery_id in state.galleries:
            raise GalleryExists(gallery_id)

    def check_fusion(self, gallery_id: str, fusion: str) -> None:
        if fusion not in FUSIONS:
            raise GenerationUnsupported(gallery_id, "rule of fusion", fusion, FUSIONS)

    def delete_gallery(self, gallery_id: str) -> Future[DeletedGallery]:
        def act(state: State) -> tuple[State, DeletedGallery]:
            gone = DeletedGallery(state.kept(gallery_id).gallery)
            return replace(state, galleries={k: v for k, v in state.galleries.items() if k != gallery_id}), gone

        return self._write(act)

    def set_threshold(
        self, gallery_id: str, threshold: float | None, calibration: str | None = None, of: Gallery | None = None
    ) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            kept = state.kept(gallery_id)
            if of is not None and of.created != kept.gallery.created:
                raise GalleryNotFound(gallery_id)
            if of is not None and of.active.fusion != kept.gallery.active.fusion:
                raise FusionChanged(gallery_id, of.active.fusion, kept.gallery.active.fusion)
            if of is not None and of.active.decided_by != kept.gallery.active.decided_by:
                raise DecidedByChanged(gallery_id, of.active.decided_by, kept.gallery.active.decided_by)
            least = -math.inf if kept.gallery.active.fusion == "margin" else 0
            if threshold is not None and not (math.isfinite(threshold) and threshold >= least):
                raise ValueError
            kept = self.with_threshold(kept, threshold, calibration)
            gallery = replace(kept.gallery, revision=kept.gallery.revision + self.step_of_threshold)
            return state.put(replace(kept, gallery=gallery)), gallery

        return self._write(act)

    def with_threshold(self, kept: Kept, threshold: float | None, calibration: str | None) -> Kept:
        active = kept.gallery.active
        version = active.threshold_revision + 1
        new = ThresholdVersion(version, threshold, calibration, time.time())
        active = replace(active, threshold=threshold, threshold_revision=version, threshold_since=new.since)
        if calibration is not None:
            active = replace(active, calibration=calibration, calibration_revision=version)
        gallery = replace(kept.gallery, active=active)
        return replace(kept, gallery=gallery, thresholds=self.history(new, kept.thresholds))

    def set_target_fpir(self, gallery_id: str, target_fpir: float | None) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            if target_fpir is not None and not 0 < target_fpir < 1:
                raise ValueError
            kept = self.for_target(state.kept(gallery_id))
            gallery = replace(kept.gallery, target_fpir=target_fpir, revision=kept.gallery.revision + 1)
            return state.put(replace(kept, gallery=gallery)), gallery

        return self._write(act)

    def for_target(self, kept: Kept) -> Kept:
        """Its own threshold would hide the target."""
        return kept if kept.gallery.active.threshold is None else self.with_threshold(kept, None, None)

    def set_fusion(self, gallery_id: str, fusion: str) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            self.check_fusion(gallery_id, fusion)
            kept = state.kept(gallery_id)
            if kept.gallery.active.fusion == fusion:
                return state, kept.gallery
            self.check_rules(gallery_id, fusion, kept.gallery.active.decided_by)
            kept = self.without_threshold(kept)
            active = replace(kept.gallery.active, fusion=fusion)
            gallery = replace(kept.gallery, active=active, revision=kept.gallery.revision + 1)
            return state.put(replace(kept, gallery=gallery)), gallery

        return self._write(act)

    def set_decided_by(self, gallery_id: str, decided_by: DecidedBy) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            kept = state.kept(gallery_id)
            if kept.gallery.active.decided_by == decided_by:
                return state, kept.gallery
            self.check_rules(gallery_id, kept.gallery.active.fusion, decided_by)
            kept = self.without_decided_threshold(kept)
            active = replace(kept.gallery.active, decided_by=decided_by)
            gallery = replace(kept.gallery, active=active, revision=kept.gallery.revision + 1)
            return state.put(replace(kept, gallery=gallery)), gallery

        return self._write(act)

    def check_rules(self, gallery_id: str, fusion: str, decided_by: str) -> None:
        if fusion == "margin" and decided_by == "probability":
            raise RulesConflict(gallery_id, fusion, decided_by)

    def without_decided_threshold(self, kept: Kept) -> Kept:
        return kept if kept.gallery.active.threshold is None else self.with_threshold(kept, None, None)

    def without_threshold(self, kept: Kept) -> Kept:
        return kept if kept.gallery.active.threshold is None else self.with_threshold(kept, None, None)

    step_of_threshold = 1

    def set_quality(self, gallery_id: str, quality: str | None) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            kept = state.kept(gallery_id)
            gallery = self.with_quality(kept.gallery, quality)
            return state.put(replace(kept, gallery=gallery)), gallery

        return self._write(act)

    def with_quality(self, gallery: Gallery, quality: str | None) -> Gallery:
        return replace(gallery, active=replace(gallery.active, quality=quality), revision=gallery.revision + 1)

    def set_least_gap(self, gallery_id: str, least_gap: float) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            self.check_gap(least_gap)
            kept = state.kept(gallery_id)
            gallery = self.with_least_gap(kept.gallery, least_gap)
            return state.put(replace(kept, gallery=gallery)), gallery

        return self._write(act)

    def set_approximation(self, gallery_id: str, approximation: Approximation | None) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            kept = state.kept(gallery_id)
            gallery = self.with_kind(kept.gallery, kind_of(approximation))
            return state.put(replace(kept, gallery=gallery)), gallery

        return self._write(act)

    def approximation_state(self, gallery_id: str) -> ApproximationState | None:
        kind = self.known(gallery_id).active.kind
        return ApproximationState("exact", "few subjects") if approximation_of(kind) is not None else None

    def set_doubt(self, gallery_id: str, doubt: str | None) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            kept = state.kept(gallery_id)
            gallery = self.with_doubt(kept.gallery, doubt)
            return state.put(replace(kept, gallery=gallery)), gallery

        return self._write(act)

    def set_keep_crops(self, gallery_id: str, keep: bool) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            kept = state.kept(gallery_id)
            gallery = self.keeping_crops(kept.gallery, keep)
            return state.put(replace(kept, gallery=gallery)), gallery

        return self._write(act)

    def keeping_crops(self, gallery: Gallery, keep: bool) -> Gallery:
        return replace(gallery, retention=retention_of(keep_crops=keep), revision=gallery.revision + 1)

    def check_gap(self, least_gap: float) -> None:
        if not (math.isfinite(least_gap) and least_gap >= 0):
            raise ValueError

    def with_least_gap(self, gallery: Gallery, least_gap: float) -> Gallery:
        return replace(gallery, active=replace(gallery.active, least_gap=least_gap), revision=gallery.revision + 1)

    def with_kind(self, gallery: Gallery, kind: str) -> Gallery:
        return replace(gallery, active=replace(gallery.active, kind=kind), revision=gallery.revision + 1)

    def with_doubt(self, gallery: Gallery, doubt: str | None) -> Gallery:
        return replace(gallery, active=replace(gallery.active, doubt=doubt), revision=gallery.revision + 1)

    def history(self, new: ThresholdVersion, earlier: tuple[ThresholdVersion, ...]) -> tuple[ThresholdVersion, ...]:
        return (new, *earlier)

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
        vectors = self.taken(encodings)

        def act(state: State) -> tuple[State, Enrolled]:
            kept = state.kept(gallery_id)
            if not subject_id or not len(vectors):
                raise ValueError
            self.check_encoder(gallery_id, kept.gallery.active, encoder_digest)
            answered = self.answered(kept, request_id, request_digest)
            if answered is not None:
                return state, answered
            checked = self.checked(vectors, kept.gallery.active.dimension)
            old = kept.subjects.get(subject_id)
            if old is not None and on_existing == "fail":
                self.fail_existing(gallery_id, subject_id)
            neighbour: Neighbour | None = None
            doubts: tuple[Doubt, ...] = ()
            if doubting is not None:
                own = [] if old is None or on_existing == "replace" else list(old.vectors())
                neighbour, doubts = self.doubted(kept, doubting, subject_id, checked, own)
            at = time.time()
            begun = old or Member({}, at, at)
            own_notes = list(notes or [Note()] * len(checked))
            if old is not None and on_existing == "add":
                self.check_keys(gallery_id, subject_id, old, own_notes)
            new = {
                number: (Encoding(str(number), at, note), vector)
                for number, (vector, note) in enumerate(zip(checked, own_notes, strict=True), start=state.next_number)
            }
            member = Member(
                self.labels(begun.labels, labels),
                begun.created,
                at,
                self.joined(begun.encodings, new, on_existing),
                self.kept_negatives(begun.negatives),
                begun.retention if retention is None else retention,
            )
            if len(member.encodings) > MAX_ENCODINGS:
                raise LimitExceeded("max_encodings_per_subject", MAX_ENCODINGS, len(member.encodings))
            after = self.changed(kept, {**kept.subjects, subject_id: member})
            ids, now = tuple(map(str, new)), after.gallery.revision
            enrolled = Enrolled(subject_id, ids, old is None, False, now, neighbour, doubts)
            if request_id is not None:
                after = replace(after, requests={**kept.requests, request_id: (request_digest, enrolled, at)})
            return replace(state.put(after), next_number=state.next_number + len(new)), enrolled

        return self._write(act)

    def kept_negatives(self, old: Mapping[int, tuple[Negative, Vectors]]) -> Mapping[int, tuple[Negative, Vectors]]:
        """Those that stay when a subject is enrolled again."""
        return old

    def doubted(
        self, kept: Kept, doubting: Doubting, subject_id: str, vectors: Vectors, own: list[Vectors]
    ) -> tuple[Neighbour | None, tuple[Doubt, ...]]:
        """Compares all, and so needs no neighbours that were found before."""
        near, doubts = [], []
        for example, vector in enumerate(vectors):
            found = [
                Neighbour(example, name, float(distance))
                for name, member in self.others(kept, subject_id).items()
                for distance in squared_l2(self.compared_with(name, member), vector)
            ]
            near += found and [min(found, key=lambda one: one.distance)]
        if doubting.like_another is not None:
            doubts += [
                Doubt("like_another", one.example, one.subject_id, one.distance, doubting.like_another)
                for one in near
                if self.is_like(one.distance, doubting.like_another)
            ]
        for example, vector in enumerate(vectors):
            others = [*own, *self.beside(vectors, example)]
            distance = min((float(squared_l2(one, vector)) for one in others), default=-1.0)
            if doubting.unlike_own is not None and distance > doubting.unlike_own:
                doubts.append(Doubt("unlike_own", example, subject_id, distance, doubting.unlike_own))
        if doubting.refuse and doubts:
            kind = LikeAnother if doubts[0].kind == "like_another" else UnlikeOwn
            raise kind(kept.gallery.id, subject_id, doubts)
        return min(near, key=lambda one: one.distance, default=None), tuple(doubts)

    def others(self, kept: Kept, subject_id: str) -> Mapping[str, Member]:
        return {name: member for name, member in kept.subjects.items() if name != subject_id and member.encodings}

    def compared_with(self, name: str, member: Member) -> Vectors:
        return member.vectors()

    def is_like(self, distance: float, limit: float) -> bool:
        return distance <= limit

    def beside(self, vectors: Vectors, example: int) -> list[Vectors]:
        """The other examples of the same enrollment."""
        return [vector for i, vector in enumerate(vectors) if i != example]

    def taken(self, encodings: Vectors) -> Vectors:
        return encodings.copy()

    def checked(self, vectors: Vectors, dimension: int) -> Vectors:
        return check_encodings(vectors, dimension)

    def check_encoder(self, gallery_id: str, active: Generation, digest: str | None) -> None:
        if digest not in (None, active.encoder_digest):
            raise EncoderMismatch(gallery_id, active.encoder_digest, digest or "")

    def fail_existing(self, gallery_id: str, subject_id: str) -> None:
        raise SubjectExists(gallery_id, subject_id)

    def labels(self, old: Mapping[str, str], new: Mapping[str, str] | None) -> Mapping[str, str]:
        return old if new is None else dict(new)

    def joined(
        self,
        old: Mapping[int, tuple[Encoding, Vectors]],
        new: Mapping[int, tuple[Encoding, Vectors]],
        on_existing: OnExisting,
    ) -> Mapping[int, tuple[Encoding, Vectors]]:
        return new if on_existing == "replace" else {**old, **new}

    def answered(self, kept: Kept, request_id: str | None, digest: bytes) -> Enrolled | None:
        if request_id is None or request_id not in kept.requests:
            return None
        known, enrolled, at = kept.requests[request_id]
        self.check_request(kept.gallery.id, request_id, known == digest)
        self.check_not_deleted(kept, enrolled.subject_id, at)
        return replace(enrolled, replayed=True)

    def check_not_deleted(self, kept: Kept, subject_id: str, since: float) -> None:
        if subject_id not in kept.subjects or kept.subjects[subject_id].created > since:
            raise SubjectNotFound(kept.gallery.id, subject_id)

    def check_request(self, gallery_id: str, request_id: str, same: bool) -> None:
        if not same:
            raise RequestConflict(gallery_id, request_id)

    def changed(self, kept: Kept, subjects: Mapping[str, Member]) -> Kept:
        """The gallery with these subjects, one revision on."""
        encodings = sum(len(member.encodings) for member in subjects.values())
        negatives = sum(len(member.negatives) for member in subjects.values())
        gallery = replace(
            kept.gallery,
            revision=kept.gallery.revision + 1,
            subjects=len(subjects),
            encodings=encodings,
            negatives=negatives,
        )
        return replace(kept, gallery=gallery, subjects=subjects)

    def check_keys(self, gallery_id: str, subject_id: str, old: Member, notes: Sequence[Note]) -> None:
        held = {one.note.key for one, _ in old.encodings.values()}
        for note in notes:
            if note.key and note.key in held:
                raise EncodingKeyExists(gallery_id, subject_id, note.key)

    def chosen(self, member: Member, encoding_id: str | None, key: str | None) -> list[int]:
        return [n for n, (one, _) in member.encodings.items() if str(n) == encoding_id or (key and one.note.key == key)]

    def rename_subject(self, gallery_id: str, subject_id: str, new_id: str) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            kept, member = state.kept(gallery_id), state.member(gallery_id, subject_id)
            if new_id == subject_id:
                return state, kept.gallery
            self.check_free(kept, new_id)
            renamed = {
                new_id if name == subject_id else name: one for name, one in kept.subjects.items() if name != new_id
            }
            renamed[new_id] = self.renamed(member)
            after = self.called(self.changed(kept, renamed), subject_id, new_id, {})
            return state.put(after), after.gallery

        return self._write(act)

    def renamed(self, member: Member) -> Member:
        return member

    def check_free(self, kept: Kept, new_id: str) -> None:
        if new_id in kept.subjects:
            raise SubjectExists(kept.gallery.id, new_id)

    def called(self, kept: Kept, subject_id: str, new_id: str, ids: Mapping[str, str]) -> Kept:
        """Requests that enrolled a subject are answered with these names from here on."""
        requests = {
            request: (
                digest,
                replace(told, subject_id=new_id, encoding_ids=tuple(ids.get(one, one) for one in told.encoding_ids))
                if told.subject_id == subject_id
                else told,
                time.time() if told.subject_id == subject_id else at,
            )
            for request, (digest, told, at) in kept.requests.items()
        }
        return replace(kept, requests=requests)

    def update_labels(
        self,
        gallery_id: str,
        subject_id: str,
        labels: Mapping[str, str],
        *,
        removed: Collection[str] = (),
        clear: bool = False,
    ) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            kept, member = state.kept(gallery_id), state.member(gallery_id, subject_id)
            after = self.relabelled(member.labels, labels, removed, clear)
            if after == member.labels:
                return state, kept.gallery
            new = self.changed(kept, {**kept.subjects, subject_id: replace(member, labels=after)})
            return state.put(new), new.gallery

        return self._write(act)

    def relabelled(
        self, old: Mapping[str, str], new: Mapping[str, str], removed: Collection[str], clear: bool
    ) -> Mapping[str, str]:
        return {**({} if clear else {k: v for k, v in old.items() if k not in removed}), **new}

    def merge_subjects(self, gallery_id: str, subject_id: str, into_id: str) -> Future[Moved]:
        def act(state: State) -> tuple[State, Moved]:
            source, target = state.member(gallery_id, subject_id), state.member(gallery_id, into_id)
            self.check_two(gallery_id, subject_id, into_id)
            self.check_apart(gallery_id, subject_id, source, into_id, target, list(source.encodings))
            self.check_apart(gallery_id, into_id, target, subject_id, source, list(target.encodings))
            own = [vector for _, vector in target.negatives.values()]
            more = {n: one for n, one in source.negatives.items() if not any((one[1] == o).all() for o in own)}
            target = replace(
                target, labels=self.merged(source.labels, target.labels), negatives={**target.negatives, **more}
            )
            return self.given_to(state, gallery_id, subject_id, source, into_id, target, list(source.encodings))

        return self._write(act)

    def merged(self, source: Mapping[str, str], target: Mapping[str, str]) -> Mapping[str, str]:
        return {**source, **target}

    def move_encodings(
        self, gallery_id: str, subject_id: str, to_id: str, *, encoding_id: str | None = None, key: str | None = None
    ) -> Future[Moved]:
        def act(state: State) -> tuple[State, Moved]:
            source, target = state.member(gallery_id, subject_id), state.member(gallery_id, to_id)
            self.check_two(gallery_id, subject_id, to_id)
            numbers = self.chosen(source, encoding_id, key)
            if not numbers:
                raise EncodingNotFound(gallery_id, subject_id, encoding_id or key or "")
            self.check_apart(gallery_id, subject_id, source, to_id, target, numbers)
            return self.given_to(state, gallery_id, subject_id, source, to_id, target, numbers)

        return self._write(act)

    def check_two(self, gallery_id: str, subject_id: str, other_id: str) -> None:
        if subject_id == other_id:
            raise SameSubject(gallery_id, subject_id)

    def check_apart(
        self, gallery_id: str, subject_id: str, source: Member, into_id: str, target: Member, numbers: list[int]
    ) -> None:
        for number, (_, negative) in target.negatives.items():
            if any((source.encodings[n][1] == negative).all() for n in numbers):
                raise NegativeOfTheOther(gallery_id, into_id, str(number), subject_id)

    def check_room(self, encodings: int) -> None:
        if encodings > MAX_ENCODINGS:
            raise LimitExceeded("max_encodings_per_subject", MAX_ENCODINGS, encodings)

    def given_to(
        self,
        state: State,
        gallery_id: str,
        subject_id: str,
        source: Member,
        into_id: str,
        target: Member,
        numbers: list[int],
    ) -> tuple[State, Moved]:
        """Encodings of `source` become those of `target`."""
        self.check_room(len(target.encodings) + len(numbers))
        kept = state.kept(gallery_id)
        new = {number: source.encodings[n] for number, n in enumerate(numbers, start=state.next_number)}
        named = {n: (self.moved_encoding(one, n), vector) for n, (one, vector) in new.items()}
        left = {n: one for n, one in source.encodings.items() if n not in numbers}
        subjects = {**kept.subjects, into_id: replace(target, encodings={**target.encodings, **named})}
        if left:
            subjects[subject_id] = replace(source, encodings=left)
        elif subject_id != into_id:
            del subjects[subject_id]
        ids = {str(n): str(number) for n, number in zip(numbers, new, strict=True)}
        after = self.answers_after(self.changed(kept, subjects), subject_id, into_id if not left else subject_id, ids)
        moved = Moved(ids, not left, after.gallery.revision)
        return replace(state.put(after), next_number=state.next_number + len(new)), moved

    def moved_encoding(self, one: Encoding, number: int) -> Encoding:
        return replace(one, id=str(number))

    def answers_after(self, kept: Kept, subject_id: str, owner: str, ids: Mapping[str, str]) -> Kept:
        return self.called(kept, subject_id, owner, ids)

    def passes(self, subject_id: str, member: Member, among: SubjectFilter) -> bool:
        return subject_id.startswith(among.id_prefix) and among.labels_pass(member.labels)

    def those(self, kept: Kept, among: SubjectFilter) -> dict[str, Member]:
        return {name: one for name, one in kept.subjects.items() if self.passes(name, one, among)}

    def subject_ids(self, gallery_id: str, among: SubjectFilter = EVERYBODY) -> list[str]:
        return sorted(self.those(self.now().kept(gallery_id), among))

    def count_label(self, gallery_id: str, label: str, among: SubjectFilter = EVERYBODY) -> LabelCounts:
        kept = self.now().kept(gallery_id)
        those = self.those(kept, among)
        values = [one.labels[label] for one in those.values() if label in one.labels]
        return LabelCounts(
            len(those), {v: values.count(v) for v in values}, len(those) - len(values), kept.gallery.revision
        )

    def enroll_many(
        self,
        gallery_id: str,
        subjects: Sequence[NewEncodings],
        *,
        encoder_digest: str | None = None,
        caller: Hashable = None,
        patient: bool = False,
    ) -> Future[list[Enrolled | Exception]]:
        outcomes: list[Enrolled | Exception] = []
        for one in subjects:
            done = self.enroll(
                *(gallery_id, one.subject_id, one.encodings),
                encoder_digest=encoder_digest,
                labels=one.labels,
                on_existing=one.on_existing,
                request_id=one.request_id,
                request_digest=one.request_digest,
            )
            error = done.exception()
            outcomes.append(done.result() if error is None else error)  # type: ignore[arg-type]
        future: Future[list[Enrolled | Exception]] = Future()
        future.set_result(outcomes)
        return future

    def delete_encoding(
        self, gallery_id: str, subject_id: str, encoding_id: str | None = None, *, key: str | None = None
    ) -> Future[Deleted]:
        def act(state: State) -> tuple[State, Deleted]:
            member = state.member(gallery_id, subject_id)
            gone = self.chosen(member, encoding_id, key)
            left = {n: one for n, one in member.encodings.items() if n not in gone}
            if len(left) == len(member.encodings):
                raise EncodingNotFound(gallery_id, subject_id, encoding_id or key or "")
            kept = state.kept(gallery_id)
            subjects = {**kept.subjects, subject_id: replace(member, encodings=left)}
            if not left:
                subjects = self.without_last(kept.subjects, subject_id)
            after = self.changed(kept, subjects)
            return state.put(after), Deleted(1, not left, after.gallery.revision)

        return self._write(act)

    def without_last(self, subjects: Mapping[str, Member], subject_id: str) -> dict[str, Member]:
        return {name: member for name, member in subjects.items() if name != subject_id}

    def delete_subject(self, gallery_id: str, subject_id: str, *, among: SubjectFilter = EVERYBODY) -> Future[Deleted]:
        def act(state: State) -> tuple[State, Deleted]:
            gone = state.member(gallery_id, subject_id)
            self.check_passes(gallery_id, subject_id, gone, among)
            kept = state.kept(gallery_id)
            after = self.changed(kept, {name: one for name, one in kept.subjects.items() if name != subject_id})
            return state.put(after), Deleted(len(gone.encodings), True, after.gallery.revision)

        return self._write(act)

    def check_passes(self, gallery_id: str, subject_id: str, member: Member, among: SubjectFilter) -> None:
        if not self.passes(subject_id, member, among):
            raise SubjectNotFound(gallery_id, subject_id)

    def add_negative(
        self,
        gallery_id: str,
        subject_id: str,
        encoding: Vectors,
        *,
        encoder_digest: str | None = None,
        others: Mapping[str, Vectors] | None = None,
    ) -> Future[AddedNegative]:
        def act(state: State) -> tuple[State, AddedNegative]:
            kept = state.kept(gallery_id)
            self.check_encoder(gallery_id, kept.gallery.active, encoder_digest)
            member = state.member(gallery_id, subject_id)
            (vector,) = self.checked(np.array(encoding, np.float32)[None], kept.gallery.active.dimension)
            for number, (_, other) in member.negatives.items():
                if self.is_same(other, vector):
                    return state, AddedNegative(str(number), False, kept.gallery.revision)
            self.check_negative(gallery_id, subject_id, member, vector)
            number = state.next_number
            new = {number: (Negative(str(number), time.time()), vector)}
            member = replace(member, negatives={**member.negatives, **new})
            after = self.changed(kept, {**kept.subjects, subject_id: member})
            added = AddedNegative(str(number), True, after.gallery.revision)
            return replace(state.put(after), next_number=number + 1), added

        return self._write(act)

    def is_same(self, one: Vectors, other: Vectors) -> bool:
        return bool((one == other).all())

    def check_negative(self, gallery_id: str, subject_id: str, member: Member, vector: Vectors) -> None:
        for number, (_, own) in member.encodings.items():
            if squared_l2(own, vector) == 0:
                raise NegativeEnrolled(gallery_id, subject_id, str(number))
        if len(member.negatives) >= MAX_NEGATIVES:
            raise LimitExceeded("max_negatives_per_subject", MAX_NEGATIVES, len(member.negatives) + 1)

    def delete_negative(self, gallery_id: str, subject_id: str, negative_id: str) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            member = state.member(gallery_id, subject_id)
            left = {n: one for n, one in member.negatives.items() if str(n) != negative_id}
            if len(left) == len(member.negatives):
                raise NegativeNotFound(gallery_id, subject_id, negative_id)
            kept = state.kept(gallery_id)
            after = self.changed(kept, {**kept.subjects, subject_id: replace(member, negatives=left)})
            return state.put(after), after.gallery

        return self._write(act)

    # Reading.

    def get_gallery(self, gallery_id: str) -> Gallery:
        return self.now().kept(gallery_id).gallery

    def known(self, gallery_id: str) -> Gallery:
        return self.now().kept(gallery_id).gallery

    def list_galleries(self, *, page_size: int = 100, after: str | None = None) -> GalleryPage:
        galleries = self.now().galleries
        ids, next_after = self.page(galleries, page_size, after)
        return GalleryPage(tuple(galleries[one].gallery for one in ids), next_after)

    def list_thresholds(self, gallery_id: str, *, page_size: int = 100, after: int | None = None) -> ThresholdPage:
        self.check_page_size(page_size)
        left = self.earlier(self.now().kept(gallery_id).thresholds, after)
        versions = left[: self.fitting([len(one.calibration or "") for one in left[:page_size]])]
        return ThresholdPage(versions, versions[-1].version if len(versions) < len(left) else None)

    def earlier(self, thresholds: tuple[ThresholdVersion, ...], after: int | None) -> tuple[ThresholdVersion, ...]:
        return tuple(one for one in thresholds if after is None or one.version < after)

    def get_subject(self, gallery_id: str, subject_id: str) -> Subject:
        return self._subject(subject_id, self.now().member(gallery_id, subject_id))

    def _subject(self, subject_id: str, member: Member) -> Subject:
        encodings = tuple(encoding for encoding, _ in member.encodings.values())
        negatives = tuple(negative for negative, _ in member.negatives.values())
        return Subject(subject_id, member.labels, member.created, member.updated, encodings, negatives)

    def list_subjects(
        self, gallery_id: str, *, page_size: int = 100, after: str | None = None, among: SubjectFilter = EVERYBODY
    ) -> SubjectPage:
        subjects = self.those(self.now().kept(gallery_id), among)
        ids, next_after = self.page(subjects, page_size, after)
        fitting = self.fitting([len(str(subjects[one].labels)) for one in ids])
        if fitting < len(ids):
            ids, next_after = ids[:fitting], ids[fitting - 1]
        return SubjectPage(tuple(self._subject(one, subjects[one]) for one in ids), next_after)

    def list_likenesses(self, gallery_id: str, *, page_size: int = 100, after: str | None = None) -> LikenessPage:
        kept = self.now().kept(gallery_id)
        self.check_page_size(page_size)
        ids = sorted(one for one in kept.subjects if after is None or one > after)
        listed = tuple(self.likeness(kept.gallery.active, one, kept.subjects[one]) for one in ids[:page_size])
        return LikenessPage(listed, ids[page_size - 1] if len(ids) > page_size else None)

    def likeness(self, active: Generation, name: str, member: Member) -> Likeness:
        vectors = np.stack([vector for _, vector in member.encodings.values()])
        if active.fusion == "nearest":
            return Likeness(name, tuple(map(str, member.encodings)), vectors)
        return Likeness(name, (), template(vectors)[None])

    def fitting(self, sizes: Sequence[int]) -> int:
        """How many entries of these sizes fit into a page: one in any case."""
        totals = itertools.accumulate(sizes)
        return max(sum(total <= MAX_PAGE_BYTES for total in totals), min(1, len(sizes)))

    def page(self, ids: Mapping[str, object], size: int, after: str | None) -> tuple[list[str], str | None]:
        """The ids of a page, and what continues after it."""
        self.check_page_size(size)
        left = [one for one in self.ordered(ids) if after is None or self.rank(one) > self.rank(after)]
        return left[:size], left[size - 1] if len(left) > size else None

    def check_page_size(self, size: int) -> None:
        if size < 1:
            raise ValueError

    def ordered(self, ids: Mapping[str, object]) -> list[str]:
        return sorted(ids, key=self.rank)

    def rank(self, one: str) -> str:
        return one

    def set_retention(self, gallery_id: str, subject_id: str, retention: Retention) -> Future[Gallery]:
        def act(state: State) -> tuple[State, Gallery]:
            kept = state.kept(gallery_id)
            if subject_id not in kept.subjects:
                raise SubjectNotFound(gallery_id, subject_id)
            member = replace(kept.subjects[subject_id], retention=retention)
            after = self.changed(kept, {**kept.subjects, subject_id: member})
            return state.put(after), after.gallery

        return self._write(act)

    def expired(self, now: float, most: int = 1000, after: tuple[float, int] | None = None) -> list[Expired]:
        members = [
            (gallery_id, subject_id, member.retention)
            for gallery_id, kept in self.now().galleries.items()
            for subject_id, member in kept.subjects.items()
        ]
        over = [
            (retention.expires, number, Expired(gallery_id, subject_id, retention, number))
            for number, (gallery_id, subject_id, retention) in enumerate(members)
            if retention.expires is not None and retention.expires <= now
        ]
        return [one for *place, one in sorted(over, key=lambda each: each[:2]) if tuple(place) > (after or (-1.0, 0))][
            :most
        ]

    def back_up(self, target: Path, ended: Callable[[], bool]) -> Backup:
        raise NotImplementedError

    def rotate_keys(self, gallery_id: str | None = None) -> None:
        if gallery_id is not None:
            self.now().kept(gallery_id)

    def replay(self, gallery_id: str, subject_id: str, request_id: str, request_digest: bytes) -> Enrolled | None:
        return self.answered(self.now().kept(gallery_id), request_id, request_digest)

    # Searching.

    def search_many(self, gallery_id: str, searches: Sequence[Search]) -> list[Found | GalleryError]:
        kept = self.searched(gallery_id)
        found: list[Found | GalleryError] = []
        for search in searches:
            try:
                found.append(self.answer(kept, search))
            except GalleryError as error:
                found.append(error)
        return found

    def searched(self, gallery_id: str) -> Kept:
        """The gallery as searches see it."""
        return self.now().kept(gallery_id)

    def answer(self, kept: Kept, search: Search) -> Found:
        gallery = kept.gallery
        kept = self.only(kept, search.among)
        if search.encoder_digest != gallery.active.encoder_digest:
            raise EncoderMismatch(gallery.id, gallery.active.encoder_digest, search.encoder_digest)
        self.check_rule(gallery, search.fusion)
        most = max(search.candidates, search.limit)
        if most > MAX_CANDIDATES:
            raise LimitExceeded("max_candidates", MAX_CANDIDATES, most)
        probes = check_encodings(search.probes, gallery.active.dimension)
        if search.singly:
            ranked = [self.ranked_singly(kept, probe) for probe in probes]
        else:
            ranked = [self.marked(kept, self.by_head(kept, search, probe), probe) for probe in probes]
        if search.labels:
            ranked = [[replace(one, labels=kept.subjects[one.subject_id].labels) for one in near] for near in ranked]
        matches = [
            [
                one
                for one in near
                if search.within is not None and self.matches(self.score_of(one, search), search.within)
            ]
            for near in map(self.given, ranked)
        ]
        return Found(
            tuple(self.candidates(near, search.candidates) for near in ranked),
            tuple(self.listed(near, search.limit) for near in matches),
            tuple(self.truncated(len(near), search) for near in matches),
            gallery.revision,
            gallery.subjects,
            gallery.encodings,
            self.exact,
            "toy",
            "cpu",
            None if search.among == EVERYBODY else len(kept.subjects),
        )

    def only(self, kept: Kept, among: SubjectFilter) -> Kept:
        return replace(kept, subjects=self.those(kept, among))

    def check_rule(self, gallery: Gallery, fusion: str | None) -> None:
        if fusion not in (None, gallery.active.fusion):
            raise FusionChanged(gallery.id, fusion or "", gallery.active.fusion)

    def candidates(self, near: Sequence[Candidate], count: int) -> tuple[Candidate, ...]:
        """To the last of so many that have no nearer negative."""
        ends = [end for end, one in enumerate(near) if one.negative is None]
        return self.listed(near, ends[count - 1] + 1 if 0 < count <= len(ends) else len(near) if count else 0)

    def given(self, near: Sequence[Candidate]) -> list[Candidate]:
        return [one for one in near if one.negative is None]

    def marked(self, kept: Kept, ranked: Sequence[Candidate], probe: Vectors) -> list[Candidate]:
        return [self.mark(kept.subjects[one.subject_id], one, probe) for one in ranked]

    def mark(self, member: Member, one: Candidate, probe: Vectors) -> Candidate:
        """With the nearest negative, if it is nearer than every encoding."""
        own = self.reach(member, one, probe)
        found = [
            NearerNegative(str(number), float(squared_l2(vector, probe)))
            for number, (_, vector) in member.negatives.items()
        ]
        nearest = min(found, key=lambda negative: negative.distance, default=None)
        blocks = nearest is not None and self.nearer(nearest.distance, own)
        return replace(one, negative=nearest) if blocks else one

    def reach(self, member: Member, one: Candidate, probe: Vectors) -> float:
        return float(squared_l2(member.vectors(), probe).min())

    def nearer(self, negative: float, own: float) -> bool:
        return negative < own

    def ranked_singly(self, kept: Kept, probe: Vectors) -> list[Candidate]:
        distances = {
            name: float(squared_l2(member.vectors(), probe).min())
            for name, member in kept.subjects.items()
            if member.encodings
        }
        return [
            Candidate(name, "", distances[name], distances[name])
            for name in sorted(distances, key=lambda name: distances[name])
        ]

    def by_head(self, kept: Kept, search: Search, probe: Vectors) -> list[Candidate]:
        """All subjects, with what the search's head tells, in the order of what decides."""
        near = self.ranked(kept, probe)
        if search.head is None:
            return near
        if search.by_probability:
            return self.likeliest_first([self.likeliest(kept, one.subject_id, search.head, probe) for one in near])
        return [self.with_probability(kept, one, search.head, probe) for one in near]

    def likeliest_first(self, found: list[tuple[float, int, Candidate]]) -> list[Candidate]:
        return [one for _, _, one in sorted(found, key=lambda each: each[:2])]

    def likeliest(self, kept: Kept, name: str, head: PairHead, probe: Vectors) -> tuple[float, int, Candidate]:
        """(the negative of what sigma is taken of, its place among equals, the subject)."""
        ids, vectors = self.compared_by(kept, name)
        logits = head.logits(vectors, probe)
        best = int(logits.argmax())
        probability = float(1 / (1 + np.exp(-np.float64(logits[best]))))
        distance = float(squared_l2(vectors[best], probe))
        one = Candidate(name, ids[best], distance, 1 - probability, probability=probability)
        return -float(logits[best]), int(ids[best] or list(kept.subjects).index(name)), one

    def with_probability(self, kept: Kept, one: Candidate, head: PairHead, probe: Vectors) -> Candidate:
        ids, vectors = self.compared_by(kept, one.subject_id)
        row = ids.index(one.encoding_id) if len(ids) > 1 else 0
        logit = np.float64(head.logits(vectors[row], probe))
        return replace(one, probability=float(1 / (1 + np.exp(-logit))))

    def compared_by(self, kept: Kept, name: str) -> tuple[list[str], Vectors]:
        """What probes are compared with of a subject: ids, and vectors."""
        member = kept.subjects[name]
        if kept.gallery.active.fusion == "nearest":
            return [str(number) for number in member.encodings], member.vectors()
        return [""], self.template(name, member)[None]

    def ranked(self, kept: Kept, probe: Vectors) -> list[Candidate]:
        """All subjects, nearest first."""
        if kept.gallery.active.fusion != "nearest":
            return self.ranked_by_template(kept, probe)
        near = [
            one
            for name, member in kept.subjects.items()
            if member.encodings
            for one in self.places(name, member, probe)
        ]
        return sorted(near, key=self.place)

    def ranked_by_template(self, kept: Kept, probe: Vectors) -> list[Candidate]:
        distances = {
            name: float(squared_l2(self.template(name, member), probe)) for name, member in kept.subjects.items()
        }
        ranked = self.by_age(distances)
        return [
            Candidate(
                name, "", distances[name], self.score(list(distances.values()), distances[name], kept.gallery.active)
            )
            for name in ranked
        ]

    def by_age(self, distances: Mapping[str, float]) -> list[str]:
        """Nearest first; `distances` has the oldest subject first."""
        return sorted(distances, key=lambda name: distances[name])

    def template(self, name: str, member: Member) -> Vectors:
        vectors = np.stack([vector for _, vector in member.encodings.values()]).astype(np.float64)
        if len(vectors) == 1:
            only: Vectors = vectors[0].astype(np.float32)
            return only
        return self.stretched(vectors.mean(axis=0), float(np.linalg.norm(vectors, axis=1).mean())).astype(np.float32)

    def stretched(self, mean: NDArray[np.float64], length: float) -> NDArray[np.float64]:
        own = np.linalg.norm(mean)
        return mean * (length / own) if own > 1e-6 * length else mean

    def score(self, distances: list[float], own: float, active: Generation) -> float:
        if active.fusion != "margin" or len(distances) == 1:
            return own
        others = sorted(distances)
        others.remove(own)
        return own - 0.3 * float(np.mean(self.counted(others)))

    def counted(self, others: list[float]) -> list[float]:
        return others[:5]

    def score_of(self, one: Candidate, search: Search) -> float:
        return one.score if search.by_probability else self.compared(one)

    def compared(self, one: Candidate) -> float:
        return one.score

    def places(self, name: str, member: Member, probe: Vectors) -> list[Candidate]:
        """The candidates that a subject gives."""
        return [self.nearest(name, member, probe)]

    def nearest(self, name: str, member: Member, probe: Vectors) -> Candidate:
        vectors = np.stack([vector for _, vector in member.encodings.values()])
        distances = self.distances(vectors, probe)
        best = int(distances.argmin())
        return Candidate(name, str(list(member.encodings)[best]), float(distances[best]), float(distances[best]))

    def distances(self, vectors: Vectors, probe: Vectors) -> Vectors:
        return squared_l2(vectors, probe)

    def place(self, one: Candidate) -> tuple[float, int]:
        return one.distance, int(one.encoding_id)

    def matches(self, distance: float, within: float) -> bool:
        return distance <= within

    def listed(self, near: Sequence[Candidate], limit: int) -> tuple[Candidate, ...]:
        return tuple(near[:limit])

    def truncated(self, matches: int, search: Search) -> bool:
        return search.within is not None and matches > search.limit

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
        state = self.now()
        state.member(gallery_id, subject_id)
        gallery = state.kept(gallery_id).gallery
        self.check_encoder(gallery_id, gallery.active, encoder_digest)
        self.check_rule_to_verify(gallery, fusion)
        checked = check_encodings(probes, gallery.active.dimension)
        kept, member = state.kept(gallery_id), state.member(gallery_id, subject_id)
        found = tuple(
            (self.verified_mark(member, self.verified_by_head(kept, subject_id, probe, head, by_probability), probe),)
            for probe in checked
        )
        none: tuple[tuple[Candidate, ...], ...] = ((),) * len(found)
        no = (False,) * len(found)
        return Found(found, none, no, gallery.revision, gallery.subjects, gallery.encodings, True, "toy", "cpu")

    def check_rule_to_verify(self, gallery: Gallery, fusion: str | None) -> None:
        ToyStore.check_rule(self, gallery, fusion)

    def verified_by_head(
        self, kept: Kept, subject_id: str, probe: Vectors, head: PairHead | None, by_probability: bool
    ) -> Candidate:
        if head is not None and by_probability:
            return ToyStore.likeliest(self, kept, subject_id, head, probe)[2]
        one = self.verified_by_rule(kept, subject_id, probe)
        return one if head is None else ToyStore.with_probability(self, kept, one, head, probe)

    def verified_by_rule(self, kept: Kept, subject_id: str, probe: Vectors) -> Candidate:
        if kept.gallery.active.fusion == "nearest":
            return self.verified(subject_id, kept.subjects[subject_id], probe)
        return next(one for one in self.ranked_by_template(kept, probe) if one.subject_id == subject_id)

    def verified_mark(self, member: Member, one: Candidate, probe: Vectors) -> Candidate:
        return ToyStore.mark(self, member, one, probe)

    def verified(self, subject_id: str, member: Member, probe: Vectors) -> Candidate:
        return ToyStore.nearest(self, subject_id, member, probe)
