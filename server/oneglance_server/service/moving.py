"""Galleries that move: taken out of this server, or brought into it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np

from oneglance_core.names import composed
from oneglance_index import (
    ExportStep,
    Gallery,
    GalleryNotFound,
    GalleryStore,
    KnownSubjects,
    MovedEncoding,
    MovedSubject,
    ThresholdVersion,
)
from oneglance_server import tracing
from oneglance_server.calls import Call
from oneglance_server.errors import InvalidRequest
from oneglance_server.offload import Threads
from oneglance_server.service.auditing import Audit
from oneglance_server.service.content import (
    MAX_DESCRIPTION_CHARACTERS,
    MAX_LABEL_CHARACTERS,
    check_id,
    check_labels,
    check_note,
    check_text,
    check_unit,
)
from oneglance_server.service.encoders import Encoders

_PAGE_BYTES = 1 << 20
_PAGE_SUBJECTS = 500
# What may change while the last changes are taken, at one revision: more, the more often others came first.
_LAST_BYTES = 4 << 20
_READ_COST = 8


class MovingService:
    def __init__(self, store: GalleryStore, reads: Threads, encoders: Encoders, audit: Audit) -> None:
        self._store = store
        self._reads = reads
        self._encoders = encoders
        self._audit = audit

    def unit_norm(self, encoder_digest: str) -> bool | None:
        """Of the encodings of this encoder; None where it isn't loaded."""
        encoder = self._encoders.by_digest(encoder_digest)
        return None if encoder is None else encoder.manifest.output.unit_norm

    async def export_begun(self, call: Call, gallery_id: str, uid: str, known: KnownSubjects) -> Gallery:
        """The gallery that is to be exported, as it is now. Raises GalleryNotFound for another one than ``uid``."""
        call.need("move", check_id("gallery_id", gallery_id))
        gallery = await self._reads.run(call, self._store.get_gallery, gallery_id)
        if uid and gallery.uid != uid:
            raise GalleryNotFound(gallery_id)
        await self._audit.did(call, "export-gallery", gallery.id, revision=gallery.revision, known=len(known.numbers))
        return gallery

    async def export(
        self, call: Call, gallery: Gallery, known: KnownSubjects
    ) -> AsyncIterator[list[MovedSubject] | ExportStep]:
        """Pages of subjects; then, as the last, what changed at one revision. A step on the way tells who is gone."""
        digest, sent = hashlib.sha256(), 0
        for rounds in count():
            step = await self._reads.run_long(
                call,
                _READ_COST,
                partial(self._store.export_step, gallery.id, known, _LAST_BYTES << rounds),
            )
            if step.gallery.uid != gallery.uid:
                raise GalleryNotFound(gallery.id)
            known = known.without(step.gone)
            if step.subjects is not None:
                for one in step.subjects:
                    digest.update(one.id.encode())
                sent += len(step.subjects)
                await self._audit.did(
                    *(call, "exported-gallery", gallery.id, None),
                    revision=step.gallery.revision,
                    sent=sent,
                    digest=digest.hexdigest(),
                    subjects=step.gallery.subjects,
                    encodings=step.gallery.encodings,
                )
                yield step
                return
            if len(step.gone):
                yield step
            left = step.changed.tolist()
            while left:
                page, done = await self._reads.run_long(
                    call,
                    _READ_COST,
                    partial(self._store.export_subjects, gallery.id, gallery.uid, left[:_PAGE_SUBJECTS], _PAGE_BYTES),
                )
                left = left[done:]
                for one in page:
                    digest.update(one.id.encode())
                sent += len(page)
                numbers = np.array([one.number for one in page], np.int64)
                known = known.with_newer(numbers, np.array([one.version for one in page], np.uint64))
                yield page

    def allow_import(self, call: Call, gallery_id: str) -> None:
        name = check_id("settings.gallery_id", gallery_id)
        call.need("move", name)
        call.need("administer", name)

    async def begin_import(self, call: Call, gallery_id: str, gallery: Gallery, digest: str) -> int:
        """How many subjects came already, of an import that was cut off. After ``allow_import``."""
        name = check_id("settings.gallery_id", gallery_id)
        check_id("settings.digest", digest)
        check_text("settings.gallery.description", gallery.description, MAX_DESCRIPTION_CHARACTERS)
        encoder = self._encoders.by_digest(gallery.active.encoder_digest)
        if encoder is not None and encoder.dimension != gallery.active.dimension:
            given = gallery.active.dimension
            raise InvalidRequest.field(
                "settings.gallery.dimension", f"{given}, but its encoder makes {encoder.dimension}", "IMPORT_INVALID"
            )
        call.spend("galleries", 1)
        begun = await asyncio.wrap_future(self._store.begin_import(name, gallery, digest))
        return begun.subjects

    async def import_subjects(
        self, call: Call, gallery_id: str, digest: str, done: int, subjects: Sequence[MovedSubject], encoder_digest: str
    ) -> int:
        """How many are durable then."""
        unit = self.unit_norm(encoder_digest)
        checked = [_checked(f"subjects[{place}]", one, unit is True) for place, one in enumerate(subjects)]
        call.spend("encodings", sum(len(one.encodings) for one in checked))
        with tracing.span("write"):
            return await asyncio.wrap_future(self._store.import_subjects(composed(gallery_id), digest, done, checked))

    async def import_thresholds(self, gallery_id: str, digest: str, versions: Sequence[ThresholdVersion]) -> None:
        await asyncio.wrap_future(self._store.import_thresholds(composed(gallery_id), digest, versions))

    async def finish_import(self, gallery_id: str, digest: str) -> Gallery:
        return await asyncio.wrap_future(self._store.finish_import(composed(gallery_id), digest))


def _checked(path: str, one: MovedSubject, unit: bool) -> MovedSubject:
    """Raises InvalidRequest."""
    kept = one.retention
    check_text(f"{path}.purpose", kept.purpose or "", MAX_LABEL_CHARACTERS)
    check_text(f"{path}.consent", kept.consent or "", MAX_LABEL_CHARACTERS)
    labels = check_labels(one.labels, f"{path}.labels")
    encodings = _encodings_checked(f"{path}.encodings", one.encodings, unit)
    negatives = _encodings_checked(f"{path}.negatives", one.negatives, unit)
    return replace(one, id=check_id(f"{path}.id", one.id), labels=labels, encodings=encodings, negatives=negatives)


def _encodings_checked(path: str, encodings: Sequence[MovedEncoding], unit: bool) -> tuple[MovedEncoding, ...]:
    """Raises InvalidRequest."""
    paths = [f"{path}[{place}]" for place in range(len(encodings))]
    if unit:
        for where, one in zip(paths, encodings, strict=True):
            check_unit([f"{where}.values"], one.vector[None])
    return tuple(replace(one, note=check_note(where, one.note)) for where, one in zip(paths, encodings, strict=True))
