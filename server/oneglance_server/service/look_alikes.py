"""Which subjects of a gallery look like each other: everybody is searched for among all others."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from oneglance_core.defaults import MAX_CANDIDATES
from oneglance_index import Candidate, Found, Gallery, GalleryStore, Likeness
from oneglance_server.calls import Call
from oneglance_server.errors import InvalidRequest
from oneglance_server.offload import Threads
from oneglance_server.service.auditing import Audit
from oneglance_server.service.content import MAX_MATCHES, MAX_PAGE_BYTES, Provenance, check_id
from oneglance_server.service.identification import IdentificationService
from oneglance_server.service.retrying import though_cut_over
from oneglance_server.service.thresholds import Thresholds

_FIRST = 16  # candidates: few look like so many, and they are asked for again
_VECTORS_AT_ONCE = 256
_PAIR_BYTES = 96  # of a message, besides the ids of subjects


@dataclass(frozen=True, slots=True)
class LookAlikes:
    """Two subjects, ``subject_id`` the first by id, how far they are apart, and which encodings are nearest."""

    subject_id: str
    other_subject_id: str
    distance: float
    encoding_id: str
    other_encoding_id: str


@dataclass(frozen=True, slots=True)
class LookAlikePage:
    """``next_after``: the subject to continue after. ``truncated``: those with more look-alikes than are looked at."""

    pairs: Sequence[LookAlikes]
    next_after: str | None
    within: float
    truncated: Sequence[str]
    provenance: Provenance


class LookAlikeService:
    def __init__(
        self,
        store: GalleryStore,
        reads: Threads,
        identification: IdentificationService,
        thresholds: Thresholds,
        audit: Audit,
    ) -> None:
        self._store = store
        self._reads = reads
        self._identification = identification
        self._thresholds = thresholds
        self._audit = audit

    async def page(
        self, call: Call, gallery_id: str, within: float | None, size: int, after: str | None
    ) -> LookAlikePage:
        """The pairs of up to ``size`` subjects with all whose ids come later. ``within`` None: the tau for distances.

        Step by step: between two of them other calls have their turn, and one that nobody waits for ends. Raises
        InvalidRequest, GalleryNotFound, ThresholdMissing.
        """
        call.need("candidates", check_id("gallery_id", gallery_id))
        if within is not None and not 0 <= within < float("inf"):
            raise InvalidRequest.field("within", f"must be finite and >= 0 (squared L2), got {within}")
        self._store.known(gallery_id)
        await self._audit.did(call, "list-look-alikes", gallery_id)
        return await though_cut_over(functools.partial(self._page, call, gallery_id, within, size, after))

    async def _page(
        self, call: Call, gallery_id: str, within: float | None, size: int, after: str | None
    ) -> LookAlikePage:
        gallery = await self._reads.run(call, self._store.get_gallery, gallery_id)
        limit = self._limit(gallery) if within is None else within
        read = await self._reads.run(call, self._store.list_likenesses, gallery_id, page_size=size, after=after)
        pairs: list[LookAlikes] = []
        size_bytes = 0
        last: str | None = None
        truncated: list[str] = []
        provenance = _provenance(gallery, None)
        for some in _in_steps(read.subjects):
            found, near = await self._near(call, gallery, some, limit)
            call = call.let_in
            provenance = _provenance(gallery, found)
            for own, lists in zip(some, near, strict=True):
                these = sorted(_pairs(own, lists, limit), key=lambda pair: (pair.distance, pair.other_subject_id))
                cut_off = len(these) > MAX_CANDIDATES or any(_cut_off(one, MAX_CANDIDATES, limit) for one in lists)
                size_bytes += sum(map(_bytes_of, these[:MAX_CANDIDATES])) + len(own.subject_id.encode())
                if last is not None and (size_bytes > MAX_PAGE_BYTES or len(pairs) >= MAX_MATCHES):
                    return LookAlikePage(pairs, last, limit, truncated, provenance)
                pairs += these[:MAX_CANDIDATES]
                if cut_off:
                    truncated.append(own.subject_id)
                last = own.subject_id
        return LookAlikePage(pairs, read.next_after, limit, truncated, provenance)

    def _limit(self, gallery: Gallery) -> float:
        if gallery.active.fusion == "margin" or gallery.active.decided_by != "distance":  # its tau is for scores
            return self._thresholds.of_model(gallery.active.encoder_digest, gallery.subjects).value
        return self._thresholds.of_gallery(gallery).at(gallery.subjects, gallery.encodings).value

    async def _near(
        self, call: Call, gallery: Gallery, subjects: Sequence[Likeness], limit: float
    ) -> tuple[Found, list[list[Sequence[Candidate]]]]:
        """Of each vector of each subject the candidates, all within the limit and some more; and a Found."""
        vectors = np.concatenate([one.vectors for one in subjects])
        found = await self._identification.nearest_to(call, gallery, vectors, _FIRST)
        near: list[Sequence[Candidate]] = list(found.candidates)
        many = [i for i, one in enumerate(near) if _cut_off(one, _FIRST, limit)]
        if many:
            again = await self._identification.nearest_to(call.let_in, gallery, vectors[many], MAX_CANDIDATES)
            for i, more in zip(many, again.candidates, strict=True):
                near[i] = more
        rows = iter(near)
        return found, [[next(rows) for _ in one.vectors] for one in subjects]


def _in_steps(subjects: Sequence[Likeness]) -> Iterator[list[Likeness]]:
    """So many subjects at a time that their vectors are about _VECTORS_AT_ONCE."""
    step: list[Likeness] = []
    vectors = 0
    for one in subjects:
        step.append(one)
        vectors += len(one.vectors)
        if vectors >= _VECTORS_AT_ONCE:
            yield step
            step, vectors = [], 0
    if step:
        yield step


def _bytes_of(pair: LookAlikes) -> int:
    """What it takes in a message, at most."""
    return _PAIR_BYTES + len(pair.subject_id.encode()) + len(pair.other_subject_id.encode())


def _pairs(own: Likeness, near: Sequence[Sequence[Candidate]], limit: float) -> list[LookAlikes]:
    """``own`` with each subject that comes later by id and is within the limit of any of its vectors."""
    best: dict[str, LookAlikes] = {}
    ids = own.encoding_ids or ("",)
    for encoding_id, candidates in zip(ids, near, strict=True):
        for one in candidates:
            if one.distance > limit:
                break
            known = best.get(one.subject_id)
            if one.subject_id > own.subject_id and (known is None or one.distance < known.distance):
                best[one.subject_id] = LookAlikes(
                    own.subject_id, one.subject_id, one.distance, encoding_id, one.encoding_id
                )
    return list(best.values())


def _provenance(gallery: Gallery, found: Found | None) -> Provenance:
    """``found`` None: nobody was searched for."""
    if found is None:
        return Provenance(
            *(gallery.active.encoder_digest, ""),
            gallery_revision=gallery.revision,
            gallery_size=gallery.subjects,
            gallery_uid=gallery.uid,
            mapped=gallery.mapped,
        )
    return Provenance(
        *(gallery.active.encoder_digest, "", found.kind, found.device, found.exact, found.revision, found.subjects),
        gallery_uid=gallery.uid,
        unchecked=found.unchecked,
        mapped=found.mapped,
    )


def _cut_off(near: Sequence[Candidate], asked: int, limit: float) -> bool:
    """Whether there may be more within the limit. Those with a nearer negative come beside what was asked for."""
    return sum(one.negative is None for one in near) == asked and near[-1].distance <= limit
