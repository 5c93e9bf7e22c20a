"""Subjects that are enrolled: rename, relabel, merge, move encodings, count, and delete many."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oneglance_index import (
    EVERYBODY,
    Deleted,
    Gallery,
    GalleryNotFound,
    GalleryStore,
    LabelCounts,
    LimitExceeded,
    Moved,
    SubjectFilter,
    SubjectNotFound,
)
from oneglance_server import tracing
from oneglance_server.calls import Call
from oneglance_server.errors import InvalidRequest
from oneglance_server.offload import Threads
from oneglance_server.service.auditing import Audit
from oneglance_server.service.content import MAX_LABELS, check_id, check_labels, check_size, check_which

MOST_DELETED = 1000  # in one call


@dataclass(frozen=True, slots=True)
class DeletedSubjects:
    """``deleted`` by id; ``remaining``: how many the filter lets through afterwards. ``revision``: the gallery's
    then, or later."""

    deleted: Mapping[str, Deleted]
    remaining: int
    revision: int


class SubjectService:
    def __init__(self, store: GalleryStore, reads: Threads, audit: Audit) -> None:
        self._store = store
        self._reads = reads
        self._audit = audit

    async def rename(self, call: Call, gallery_id: str, subject_id: str, new_id: str) -> Gallery:
        """The gallery as it is then."""
        call.need("enroll", check_id("gallery_id", gallery_id))
        check_id("subject_id", subject_id)
        new_name = check_id("new_subject_id", new_id)
        with tracing.span("write"):
            return await asyncio.wrap_future(self._store.rename_subject(gallery_id, subject_id, new_name))

    async def update_labels(
        self,
        call: Call,
        gallery_id: str,
        subject_id: str,
        labels: Mapping[str, str],
        removed: Sequence[str],
        clear: bool,
    ) -> Gallery:
        """The gallery as it is then."""
        call.need("enroll", check_id("gallery_id", gallery_id))
        check_id("subject_id", subject_id)
        named = check_labels(labels)
        if len(removed) > MAX_LABELS:
            raise InvalidRequest.field("remove", f"{len(removed)} keys, at most {MAX_LABELS}", reason="TOO_MANY")
        # As they are spelled, too: stores of earlier versions may have them so.
        gone = {*removed, *(check_id(f"remove[{place}]", key) for place, key in enumerate(removed))}
        if gone & named.keys():
            raise InvalidRequest.field("remove", f"{min(gone & named.keys())!r} is set, too")
        try:
            with tracing.span("write"):
                return await asyncio.wrap_future(
                    self._store.update_labels(gallery_id, subject_id, named, removed=gone, clear=clear)
                )
        except LimitExceeded as error:
            if call.may("export", gallery_id):
                raise
            raise LimitExceeded(error.limit, error.maximum, error.maximum + 1) from None  # not how many there are

    async def merge(self, call: Call, gallery_id: str, subject_id: str, into_id: str) -> Moved:
        call.need("enroll", check_id("gallery_id", gallery_id))
        call.need("erase", gallery_id)
        check_id("subject_id", subject_id)
        check_id("into_subject_id", into_id)
        with tracing.span("write"):
            return await asyncio.wrap_future(self._store.merge_subjects(gallery_id, subject_id, into_id))

    async def move(
        self, call: Call, gallery_id: str, subject_id: str, encoding_id: str, encoding_key: str, to_id: str
    ) -> Moved:
        """By its id, or by its key."""
        call.need("enroll", check_id("gallery_id", gallery_id))
        call.need("erase", gallery_id)
        check_id("subject_id", subject_id)
        check_id("to_subject_id", to_id)
        which, key = check_which(encoding_id, encoding_key)
        with tracing.span("write"):
            moved = self._store.move_encodings(gallery_id, subject_id, to_id, encoding_id=which, key=key)
            return await asyncio.wrap_future(moved)

    async def count(self, call: Call, gallery_id: str, label: str, among: SubjectFilter) -> LabelCounts:
        call.need("export", check_id("gallery_id", gallery_id))
        name = check_id("label", label) if label else ""
        counts = await self._reads.run(call, self._store.count_label, gallery_id, name, among)
        await self._audit.did(call, "count-subjects", gallery_id, count=counts.subjects)
        return counts

    async def delete_many(
        self, call: Call, gallery_id: str, among: SubjectFilter, most: int, dry_run: bool
    ) -> DeletedSubjects:
        """The first of them by id. Each is deleted only if the filter lets it through at that moment."""
        call.need("erase", check_id("gallery_id", gallery_id))
        call.need("export", gallery_id)
        if among == EVERYBODY:
            raise InvalidRequest.field("filter", "give labels or the beginning of an id", reason="EMPTY")
        size = check_size("max_subjects", most, MOST_DELETED, MOST_DELETED)
        ids = await self._reads.run(call, self._let_through, gallery_id, among)
        chosen = [] if dry_run else ids[:size]
        with tracing.span("write"):
            done = await asyncio.gather(
                *(asyncio.wrap_future(self._store.delete_subject(gallery_id, one, among=among)) for one in chosen),
                return_exceptions=True,
            )
        deleted: dict[str, Deleted] = {}
        for subject_id, outcome in zip(chosen, done, strict=True):
            if isinstance(outcome, Deleted):
                deleted[subject_id] = outcome
        troubles = [one for one in done if isinstance(one, BaseException) and not isinstance(one, SubjectNotFound)]
        if troubles and not deleted:
            raise troubles[0]  # else who was deleted, and their receipts, are told; the others remain
        remaining = await self._reads.run(call.let_in, self._let_through, gallery_id, among)
        if dry_run:
            await self._audit.did(call, "count-subjects", gallery_id, count=len(remaining))
        return DeletedSubjects(deleted, len(remaining), self._store.known(gallery_id).revision)

    def _let_through(self, gallery_id: str, among: SubjectFilter) -> list[str]:
        """In order. Where the gallery moves to another encoder, those too whom only the one that waits has: they were
        left at a cut-over, and would be back after a roll-back."""
        ids = self._store.subject_ids(gallery_id, among)
        move = self._store.known(gallery_id).move
        if move is None or not move.answers:
            return ids
        with contextlib.suppress(GalleryNotFound):  # it ended meanwhile
            return sorted({*ids, *self._store.subject_ids(move.other, among)})
        return ids
