"""Enroll, look up and delete subjects."""

import asyncio
import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from oneglance_core.faces.finder import Face
from oneglance_index import (
    AddedNegative,
    Deleted,
    Doubt,
    Doubting,
    Enrolled,
    Expired,
    Gallery,
    GalleryNotFound,
    GalleryStore,
    LikeAnother,
    NeighbourGone,
    Note,
    OnExisting,
    Retention,
    Search,
    Subject,
    SubjectFilter,
    SubjectPage,
)
from oneglance_server import tracing
from oneglance_server.calls import Call
from oneglance_server.errors import (
    DeadlinePassed,
    DetectorNotLoaded,
    EncoderNotLoaded,
    ForeignEncoding,
    InvalidRequest,
)
from oneglance_server.offload import Threads
from oneglance_server.service.auditing import Audit
from oneglance_server.service.breaches import breaches_of, policy_of, refuse
from oneglance_server.service.content import (
    MAX_EXAMPLES_PER_ENROLL,
    MAX_LABEL_CHARACTERS,
    MAX_PAGE_BYTES,
    Breached,
    Content,
    Picture,
    Provenance,
    check_count,
    check_id,
    check_labels,
    check_notes,
    check_text,
    check_which,
)
from oneglance_server.service.doubts import DOUBT_POLICIES, DoubtPolicy, doubt_policy_of, doubting
from oneglance_server.service.encoding import Encoded, Encoding
from oneglance_server.service.identification import IdentificationService
from oneglance_server.service.plan import Space, Vectors
from oneglance_server.service.retrying import though_cut_over
from oneglance_server.service.thresholds import Thresholds

_EXPIRED_BYTES = 64  # of a message, besides its texts


@dataclass(frozen=True, slots=True)
class Enrollment:
    """A request to enroll one subject. ``request_digest`` identifies its content, for safe retries.

    accept_breaches: enroll examples outside the limits, too, and tell of them.
    doubt_policy: None: the gallery's.
    retention: None: as it was.
    notes: one for each of the contents, or none.
    """

    gallery_id: str
    subject_id: str
    contents: Sequence[Content]
    labels: Mapping[str, str]
    on_existing: OnExisting
    request_id: str
    request_digest: bytes
    accept_breaches: bool = False
    doubt_policy: DoubtPolicy | None = None
    retention: Retention | None = None
    notes: Sequence[Note] = ()


@dataclass(frozen=True, slots=True)
class EnrollmentAnswer:
    """What was stored; which face of each photo was taken; and what is outside the limits, but was accepted."""

    enrolled: Enrolled
    provenance: Provenance
    faces: Sequence[Face | None] = ()
    breaches: Sequence[Breached] = ()


@dataclass(frozen=True, slots=True)
class NegativeAnswer:
    """The negative, and the face that was taken of a photo."""

    negative: AddedNegative
    provenance: Provenance
    face: Face | None


def _kept(content: Content) -> Content:
    """With a crop of it, where it is a picture."""
    return replace(content, keep=True) if isinstance(content, Picture) else content


def check_retention(retention: Retention | None) -> None:
    if retention is not None:
        check_text("retention.purpose", retention.purpose or "", MAX_LABEL_CHARACTERS)
        check_text("retention.consent", retention.consent or "", MAX_LABEL_CHARACTERS)


def _bytes_of(one: Expired) -> int:
    """What it takes in a message, at most."""
    kept = one.retention
    texts = (one.gallery_id, one.subject_id, kept.purpose or "", kept.consent or "")
    return _EXPIRED_BYTES + sum(len(text.encode()) for text in texts)


def _unnamed(doubts: Sequence[Doubt]) -> tuple[Doubt, ...]:
    """Without the ids of other subjects."""
    return tuple(replace(one, subject_id="") if one.kind == "like_another" else one for one in doubts)


def _provenance(gallery: Gallery, provider: str, revision: int) -> Provenance:
    return Provenance(
        *(gallery.active.encoder_digest, provider),
        gallery_revision=revision,
        gallery_uid=gallery.uid,
        mapped=gallery.mapped,
    )


class EnrollmentService:
    """``refuse_unfit``: examples outside the limits of the encoder's input are refused, not only told of.
    ``identification``: searches for the other subjects that a new one is like."""

    def __init__(
        self,
        store: GalleryStore,
        reads: Threads,
        encoding: Encoding,
        thresholds: Thresholds,
        identification: IdentificationService,
        refuse_unfit: bool,
        audit: Audit,
    ) -> None:
        self._store = store
        self._reads = reads
        self._encoding = encoding
        self._thresholds = thresholds
        self._identification = identification
        self._refuse_unfit = refuse_unfit
        self._audit = audit

    async def enroll(self, call: Call, request: Enrollment) -> EnrollmentAnswer:
        """Store all of a subject's new encodings, or none. Durable and in effect when it returns.

        Who may not see candidates learns of a doubt how far another subject is, not which one it is. Raises
        InvalidRequest for an example outside the limits, unless it is to be accepted; LikeAnother and UnlikeOwn for
        doubts that are to be refused.
        """
        call.need("enroll", check_id("gallery_id", request.gallery_id))
        expires = request.retention is not None and request.retention.expires is not None
        if request.on_existing == "replace" or (expires and request.on_existing != "fail"):
            call.need("erase", request.gallery_id)  # what the subject had, at once or then
        if call.may("candidates", request.gallery_id):
            return await self._enroll(call, request)
        try:
            answer = await self._enroll(call, request)
        except LikeAnother as error:
            raise LikeAnother(error.gallery_id, error.subject_id, _unnamed(error.doubts)) from None
        doubts = _unnamed(answer.enrolled.doubts)
        return replace(answer, enrolled=replace(answer.enrolled, nearest_other=None, doubts=doubts))

    async def _enroll(self, call: Call, request: Enrollment) -> EnrollmentAnswer:
        return await though_cut_over(functools.partial(self._enrolled, call, request))

    async def _enrolled(self, call: Call, request: Enrollment) -> EnrollmentAnswer:
        check_id("subject_id", request.subject_id)
        check_count("examples", request.contents, MAX_EXAMPLES_PER_ENROLL)
        check_retention(request.retention)
        notes = check_notes(request.notes)
        # Labels left out are kept, unless everything is to be replaced.
        labels = check_labels(request.labels) if request.labels or request.on_existing == "replace" else None
        gallery = self._store.known(request.gallery_id)
        active = gallery.active
        request_id = ""
        if request.request_id:
            request_id = check_id("request_id", request.request_id)
            asked = request.gallery_id, request.subject_id, request_id, request.request_digest
            earlier = await self._reads.run(call, self._store.replay, *asked)
            if earlier is not None:
                rests_on = _provenance(gallery, "", earlier.revision)
                return EnrollmentAnswer(earlier, rests_on)
        call.spend("encodings", len(request.contents))
        contents = [_kept(one) for one in request.contents] if gallery.keep_crops else request.contents
        encoded = await self._encoding.encode(call, contents, Space(active.encoder_digest, active.dimension))
        breached = breaches_of(request.contents, encoded, policy_of(gallery))
        if not request.accept_breaches:
            refuse(breached, unfit=self._refuse_unfit)
        others = await self._by_the_other(call, gallery, request.contents)
        while True:
            doubts = await self._doubting(call, gallery, request, encoded)
            if call.deadline is not None and call.deadline <= asyncio.get_running_loop().time():
                raise DeadlinePassed("the deadline passed before anything was stored")
            try:
                with tracing.span("write"):
                    enrolled = await asyncio.wrap_future(
                        self._store.enroll(
                            request.gallery_id,
                            request.subject_id,
                            encoded.vectors,
                            encoder_digest=active.encoder_digest,
                            labels=labels,
                            on_existing=request.on_existing,
                            request_id=request_id or None,
                            request_digest=request.request_digest,
                            caller=(call.caller, call.patient),
                            patient=call.patient,
                            doubting=doubts,
                            retention=request.retention,
                            notes=notes or None,
                            others=others,
                            crops=encoded.crops if gallery.keep_crops else None,
                        )
                    )
                break
            except NeighbourGone:  # deleted at this very moment
                continue
        provenance = _provenance(gallery, encoded.provider, enrolled.revision)
        return EnrollmentAnswer(enrolled, provenance, encoded.faces, tuple(chain.from_iterable(breached)))

    async def _by_the_other(self, call: Call, gallery: Gallery, contents: Sequence[Content]) -> Mapping[str, Vectors]:
        """Where the gallery moves to another encoder: the same examples by that of the one that waits, by digest. Empty
        where they can't be had: they are encodings, that encoder isn't loaded, or can't encode them."""
        if gallery.move is None or not gallery.move.answers:
            return {}
        try:
            other = self._store.known(gallery.move.other).active
            space = Space(other.encoder_digest, other.dimension)
            encoded = await self._encoding.encode(call.let_in, contents, space)
        except (GalleryNotFound, InvalidRequest, EncoderNotLoaded, DetectorNotLoaded, ForeignEncoding):
            return {}
        return {other.encoder_digest: encoded.vectors}

    async def _doubting(self, call: Call, gallery: Gallery, request: Enrollment, encoded: Encoded) -> Doubting | None:
        policy = request.doubt_policy or doubt_policy_of(gallery)
        if DOUBT_POLICIES.index(policy) < DOUBT_POLICIES.index(doubt_policy_of(gallery)):
            call.need("calibrate", gallery.id)  # it is less than the gallery demands
        if policy == "off":
            return None
        # Two of each example: one may be the subject itself.
        search = Search(encoded.vectors, gallery.active.encoder_digest, 2, singly=True, exact=True)
        found = await self._identification.search(call, gallery.id, search, encoded)
        limits = self._thresholds.doubt_limits(gallery, found.subjects, found.encodings)
        return doubting(found, request.subject_id, *limits, refuse=policy == "refuse")

    async def get(self, call: Call, gallery_id: str, subject_id: str) -> Subject:
        call.need("export", check_id("gallery_id", gallery_id))
        check_id("subject_id", subject_id)
        subject = await self._reads.run(call, self._store.get_subject, gallery_id, subject_id)
        await self._audit.did(call, "read-subject", gallery_id, subject_id)
        return subject

    async def page(
        self, call: Call, gallery_id: str, size: int, after: str | None, among: SubjectFilter
    ) -> SubjectPage:
        call.need("export", check_id("gallery_id", gallery_id))
        page = await self._reads.run(
            call, self._store.list_subjects, gallery_id, page_size=size, after=after, among=among
        )
        await self._audit.did(call, "list-subjects", gallery_id, count=len(page.subjects))
        return page

    async def set_retention(self, call: Call, gallery_id: str, subject_id: str, retention: Retention) -> Gallery:
        """The gallery as it is then."""
        call.need("enroll", check_id("gallery_id", gallery_id))
        if retention.expires is not None:
            call.need("erase", gallery_id)
        check_id("subject_id", subject_id)
        check_retention(retention)
        return await asyncio.wrap_future(self._store.set_retention(gallery_id, subject_id, retention))

    async def expired(
        self, call: Call, at: float | None, size: int, after: tuple[float, int] | None
    ) -> tuple[list[Expired], Expired | None]:
        """Subjects whose time is over, None: now, of the galleries whose subjects the caller may read; and after whom
        to continue. A page looks at ``size`` subjects. ``after``: the one with this time of expiry and number."""
        call.need_any()
        found = await self._reads.run(call, self._store.expired, time.time() if at is None else at, size + 1, after)
        may: list[Expired] = []
        page_bytes, last = 0, None
        for one in found[:size]:
            if call.may("export", one.gallery_id):
                page_bytes += _bytes_of(one)
                if may and page_bytes > MAX_PAGE_BYTES:
                    break
                may.append(one)
            last = one
        await self._audit.did(call, "list-expired", count=len(may))
        return may, None if not found or last is found[-1] else last

    async def delete_encoding(
        self, call: Call, gallery_id: str, subject_id: str, encoding_id: str, encoding_key: str = ""
    ) -> Deleted:
        """By its id, or by its key."""
        call.need("erase", check_id("gallery_id", gallery_id))
        check_id("subject_id", subject_id)
        which, key = check_which(encoding_id, encoding_key)
        with tracing.span("write"):
            return await asyncio.wrap_future(self._store.delete_encoding(gallery_id, subject_id, which, key=key))

    async def delete_subject(self, call: Call, gallery_id: str, subject_id: str) -> Deleted:
        call.need("erase", check_id("gallery_id", gallery_id))
        check_id("subject_id", subject_id)
        with tracing.span("write"):
            return await asyncio.wrap_future(self._store.delete_subject(gallery_id, subject_id))

    async def add_negative(self, call: Call, gallery_id: str, subject_id: str, content: Content) -> NegativeAnswer:
        """Keep an example of somebody else with a subject. Durable and in effect when it returns."""
        call.need("enroll", check_id("gallery_id", gallery_id))
        check_id("subject_id", subject_id)
        self._store.known(gallery_id)  # nothing is charged for one that isn't there
        call.spend("encodings", 1)
        return await though_cut_over(functools.partial(self._negated, call, gallery_id, subject_id, content))

    async def _negated(self, call: Call, gallery_id: str, subject_id: str, content: Content) -> NegativeAnswer:
        gallery = self._store.known(gallery_id)
        active = gallery.active
        encoded = await self._encoding.encode(call, [content], Space(active.encoder_digest, active.dimension))
        others = await self._by_the_other(call, gallery, [content])
        with tracing.span("write"):
            added = await asyncio.wrap_future(
                self._store.add_negative(
                    *(gallery_id, subject_id, encoded.vectors[0]),
                    encoder_digest=active.encoder_digest,
                    others={digest: vectors[0] for digest, vectors in others.items()},
                )
            )
        provenance = _provenance(gallery, encoded.provider, added.revision)
        return NegativeAnswer(added, provenance, encoded.faces[0])

    async def delete_negative(self, call: Call, gallery_id: str, subject_id: str, negative_id: str) -> Gallery:
        """The gallery as it is then."""
        call.need("erase", check_id("gallery_id", gallery_id))
        check_id("subject_id", subject_id)
        check_id("negative_id", negative_id)
        with tracing.span("write"):
            return await asyncio.wrap_future(self._store.delete_negative(gallery_id, subject_id, negative_id))
