"""Identify (1:K, open set), verify (1:1), compare, encode: what each asks of the pass (encoding.py), and what it does
with the encodings."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from oneglance_core.defaults import CANDIDATES, MAX_CANDIDATES
from oneglance_core.distance import Vectors, squared_l2
from oneglance_core.faces.finder import Face, Photo
from oneglance_core.faces.quality import DEFAULT_POLICY
from oneglance_core.pair_head import PairHead, probabilities_of, scores_of
from oneglance_index import (
    EVERYBODY,
    Candidate,
    Decision,
    Found,
    Gallery,
    GalleryNotFound,
    GalleryStore,
    NearerNegative,
    Outcome,
    Search,
    StoreClosed,
    SubjectFilter,
    approximation_of,
)
from oneglance_server.calls import Call
from oneglance_server.engines.batcher import Batcher, BatchObserver
from oneglance_server.errors import InvalidRequest
from oneglance_server.limiter import Limiter
from oneglance_server.offload import Threads, off_loop
from oneglance_server.service.auditing import Audit
from oneglance_server.service.breaches import breaches_of, policy_of
from oneglance_server.service.comparing import LiveComparisons
from oneglance_server.service.content import (
    MAX_ANSWERED_LABELS,
    MAX_LISTED,
    MAX_MATCHES,
    MAX_PROBES,
    Breached,
    ClientEncoding,
    Content,
    Identification,
    Provenance,
    Tau,
    check_count,
    check_gap,
    check_id,
    check_rate,
    check_size,
)
from oneglance_server.service.drift import DriftWatches
from oneglance_server.service.encoders import Encoders
from oneglance_server.service.encoding import CLIENT, Encoded, Encoding
from oneglance_server.service.group_photos import each_in_one_face
from oneglance_server.service.plan import Space, encoder_unknown
from oneglance_server.service.retrying import though_cut_over
from oneglance_server.service.thresholds import Deciding, Thresholds

_CANDIDATES_PER_PROBE = 64  # take about as long to rank as another probe to compare
_JUDGED_ON_THE_LOOP = 128  # probes: a millisecond
_BY_PROBABILITY = 4  # times as long as by distance, of small galleries; of larger ones the batcher's steps get shorter


@dataclass(frozen=True, slots=True)
class Verification:
    """``score`` is what was compared with ``tau``. ``negative``: one of the subject that is nearer, so that it isn't
    the same. ``probability``: of the encoder's pair head, if it has one. ``mapped``: the subject's encodings are."""

    same: bool
    distance: float
    score: float
    encoding_id: str
    tau: Tau
    provenance: Provenance
    faces: Sequence[Face | None]
    breaches: Sequence[Breached]
    negative: NearerNegative | None
    probability: float | None
    mapped: bool = False


@dataclass(frozen=True, slots=True)
class Identified:
    """``answers`` in the order of the probes; ``photos``: what was seen of each photo, by its probe's position."""

    answers: Sequence[Identification]
    tau: Tau
    provenance: Provenance
    photos: Mapping[int, Photo]


class IdentificationService:
    """Compares probes with galleries. Concurrent requests to one gallery share a scan, and a request of many probes is
    answered in steps; ``scans`` lets scans of all galleries through, in turns by caller.

    ``on_decision(gallery_id, decision)`` hears every decision: "identified", "unknown", "same", "different",
    "not_compared". ``on_every_row(gallery_id, probes)``: of those for which every row was looked at.
    ``on_compared``: see LiveComparisons.
    """

    def __init__(
        self,
        store: GalleryStore,
        reads: Threads,
        encoders: Encoders,
        encoding: Encoding,
        thresholds: Thresholds,
        drift: DriftWatches,
        executor: Executor,
        *,
        scans: Limiter,
        max_batch: int,
        max_wait: float,
        observer: BatchObserver,
        crowded: Callable[[], bool],
        on_decision: Callable[[str, str, int], None],
        on_every_row: Callable[[str, int], None],
        on_compared: Callable[[str, int, int], None],
        audit: Audit,
    ) -> None:
        self._store = store
        self._reads = reads
        self._encoders = encoders
        self._encoding = encoding
        self._thresholds = thresholds
        self._drift = drift
        self._on_decision = on_decision
        self._on_every_row = on_every_row
        self._audit = audit
        self.comparisons = LiveComparisons(self._decided_by, on_compared)
        self._batchers: dict[str, Batcher[Search, Found]] = {}
        self._new_batcher = functools.partial(
            Batcher[Search, Found],
            "search",
            executor=executor,
            workers=1,
            max_cost=max_batch,
            max_wait=max_wait,
            observer=observer,
            slots=scans,
            crowded=crowded,
        )

    def forget(self, gallery_id: str) -> None:
        """The gallery was deleted."""
        self._batchers.pop(gallery_id, None)
        self.comparisons.forget(gallery_id)

    async def identify(
        self,
        call: Call,
        gallery_id: str,
        probes: Sequence[Content],
        *,
        max_candidates: int,
        tau: float | None,
        all_matches: bool,
        least_gap: float | None,
        one_face_each: bool,
        among: SubjectFilter = EVERYBODY,
        with_labels: bool = False,
        exact: bool = False,
    ) -> Identified:
        """Who each probe is: one answer per probe, or one per face of a photo, none when it shows none. A face that
        isn't comparable has an answer without candidates.

        ``least_gap`` None: the gallery's. ``one_face_each``: see group_photos. ``among``: with whom the probes are
        compared. ``with_labels``: of candidates and matches. ``exact``: whatever the gallery may lose.
        """
        call.need("identify", check_id("gallery_id", gallery_id))
        everybody = call.may("candidates", gallery_id)
        if tau is not None or least_gap is not None:
            call.need("candidates", gallery_id)  # by trying many, one would learn of everybody
        if among.labels or with_labels:
            call.need("export", gallery_id)  # by trying many, one would learn everybody's
        if least_gap is not None:
            check_gap("least_gap", least_gap)
        check_count("probes", probes, MAX_PROBES)
        call.spend("probes", len(probes))
        candidates = check_size("max_candidates", max_candidates, CANDIDATES, MAX_CANDIDATES)
        _check_listed(candidates, len(probes))
        identified = functools.partial(
            self._identified,
            *(call, gallery_id, probes, candidates, tau, all_matches, least_gap, one_face_each, everybody),
            *(among, with_labels, exact),
        )
        return await though_cut_over(identified)

    async def _identified(
        self,
        call: Call,
        gallery_id: str,
        probes: Sequence[Content],
        candidates: int,
        tau: float | None,
        all_matches: bool,
        least_gap: float | None,
        one_face_each: bool,
        everybody: bool,
        among: SubjectFilter,
        with_labels: bool,
        exact: bool,
    ) -> Identified:
        gallery = self._gallery(gallery_id)
        self._encoding.check_loaded(probes, _space(gallery))
        head = self._head(gallery)
        deciding = self._thresholds.of_gallery(gallery, tau)
        least_gap = gallery.active.least_gap if least_gap is None else least_gap
        encoded = await self._encoding.encode(call, probes, _space(gallery), faces="all")
        if not encoded.owners:
            gallery = await self._reads.run(call, self._store.get_gallery, gallery.id)
            nothing = Provenance(
                gallery.active.encoder_digest,
                encoded.provider,
                gallery_revision=gallery.revision,
                gallery_size=gallery.subjects,
                gallery_uid=gallery.uid,
                mapped=gallery.mapped,
            )
            refused = _with_refused([], encoded.photos)
            self._decided(gallery, not_compared=len(refused))
            threshold = deciding.at(gallery.subjects, gallery.encodings)
            await self._tell(call, gallery, refused, threshold, nothing)
            return Identified(refused, threshold, nothing, encoded.photos)
        _check_listed(candidates, len(encoded.owners))
        # Where answers may lose something the index has to know tau in any case: it tunes itself for it.
        told = all_matches or approximation_of(gallery.active.kind) is not None
        within = await self._within(call, deciding, gallery.id) if told else None
        limit = min(MAX_MATCHES, MAX_LISTED // len(encoded.owners)) if all_matches else 1
        listed = max(candidates, 2)  # the next subject is looked at, too
        search = _search_in(gallery, head, encoded.vectors, listed, within, limit)
        search = replace(search, among=among, labels=with_labels, exact=exact)
        found = await self.search(call, gallery.id, search, encoded)
        if with_labels:
            _check_labels_fit(found)
        # Approximate ones would make strangers look farther away than they are.
        if among == EVERYBODY and found.exact and self._is_there(gallery):
            self._drift.saw(call, gallery, found, len(probes))
        threshold = deciding.at(found.subjects, found.encodings)
        if within is not None and within != threshold.value:  # the gallery changed meanwhile, and tau with it
            threshold = replace(threshold, value=within)
        if not all_matches:
            found = replace(found, matches=((),) * len(found.matches), truncated=(False,) * len(found.truncated))
        judging = functools.partial(
            _judged, probes, encoded, found, gallery, threshold, candidates, least_gap, everybody, one_face_each
        )
        answers = await off_loop(judging, when=len(found.candidates) > _JUDGED_ON_THE_LOOP)
        compared = len(found.candidates)
        known = sum(answer.identified is not None for answer in answers)
        self._decided(gallery, identified=known, unknown=compared - known, not_compared=len(answers) - compared)
        provenance = _provenance(gallery, encoded, found)
        if not call.may("export", gallery_id):  # by trying many beginnings, one would learn everybody's id
            provenance = replace(provenance, filtered_size=None)
        await self._tell(call, gallery, answers, threshold, provenance)
        if tau is None and among == EVERYBODY and self._is_there(gallery):
            self.comparisons.saw(gallery, probes)
        return Identified(answers, threshold, provenance, encoded.photos)

    async def _decided_by(
        self, call: Call, gallery_id: str, probes: Sequence[Content]
    ) -> list[tuple[str | None, str | None]]:
        """Of each comparable probe, or face of one, whom the gallery decides it to be, and who is nearest. No decision
        is counted, and none told."""
        gallery = self._gallery(gallery_id)
        deciding = self._thresholds.of_gallery(gallery)
        encoded = await self._encoding.encode(call, probes, _space(gallery), faces="all")
        if not encoded.owners:
            return []
        search = _search_in(gallery, self._head(gallery), encoded.vectors, 2)
        found = await self.search(call, gallery.id, search, encoded)
        threshold = deciding.at(found.subjects, found.encodings)
        answers = _judged(
            *(probes, encoded, found, gallery, threshold, 2, gallery.active.least_gap),
            everybody=True,
            one_face_each=False,
        )
        return [(one.identified, one.nearest[0].subject_id if one.nearest else None) for one in answers if one.compared]

    async def _tell(
        self,
        call: Call,
        gallery: Gallery,
        answers: Sequence[Identification],
        tau: Tau,
        provenance: Provenance,
    ) -> None:
        """The audit trail of an identification."""
        model, revision = provenance.encoder_digest, provenance.gallery_revision
        await self._audit.decided(call, "identify", gallery.id, list(map(_decision, answers)), tau, model, revision)

    async def verify(
        self, call: Call, gallery_id: str, subject_id: str, probe: Content, *, tau: float | None, target_fmr: float
    ) -> Verification:
        """Is the probe this enrolled subject?"""
        call.need("verify", check_id("gallery_id", gallery_id))
        check_id("subject_id", subject_id)
        call.spend("probes", 1)
        check_rate("target_fmr", target_fmr)
        verify = functools.partial(self._verify, call, gallery_id, subject_id, probe, tau, target_fmr)
        return await though_cut_over(verify)

    async def _verify(
        self, call: Call, gallery_id: str, subject_id: str, probe: Content, tau: float | None, target_fmr: float
    ) -> Verification:
        gallery = self._gallery(gallery_id)
        self._encoding.check_loaded([probe], _space(gallery))
        head = self._head(gallery)
        deciding = self._thresholds.one_to_one(gallery, tau, target_fmr)
        encoded = await self._encoding.encode(call, [probe], _space(gallery))
        found = await self._reads.run(
            _afterwards(call, encoded),
            self._store.verify,
            gallery.id,
            subject_id,
            encoded.vectors,
            encoder_digest=gallery.active.encoder_digest,
            fusion=gallery.active.fusion,
            head=head,
            by_probability=_by_probability(gallery),
        )
        nearest = found.candidates[0][0]
        threshold = deciding.at(found.subjects, found.encodings)
        provenance = _provenance(gallery, encoded, found)
        (breached,) = breaches_of([probe], encoded, policy_of(gallery))
        verified = self._verified(gallery, nearest, threshold, provenance, encoded, breached)
        await self._tell_verified(call, "verify", gallery, verified, subject_id)
        return verified

    async def compare(
        self,
        call: Call,
        gallery_id: str,
        encoder: str,
        probe: Content,
        other: Content,
        *,
        tau: float | None,
        target_fmr: float,
    ) -> Verification:
        """Do two examples show the same subject? tau is the request's, the gallery's or the encoder's.

        A gallery's that is for scores by margin is none for a distance: then the encoder's applies.
        """
        call.need("encode")
        if gallery_id:
            call.need_sight(check_id("gallery_id", gallery_id))
        check_rate("target_fmr", target_fmr)
        call.spend("probes", 2)
        gallery = self._gallery(gallery_id) if gallery_id else None
        if gallery is not None:
            space, policy = _space(gallery), policy_of(gallery)
            self._encoding.check_loaded([probe, other], space)
            head, by_probability = self._head(gallery), _by_probability(gallery)
            if gallery.active.fusion == "margin":
                deciding = self._thresholds.of_pair(space.digest, tau, target_fmr)
            else:
                deciding = self._thresholds.one_to_one(gallery, tau, target_fmr)
        else:
            chosen = self._encoders.find("encoder", encoder)
            deciding = self._thresholds.of_pair(chosen.digest, tau, target_fmr)
            space, policy = Space(chosen.digest, chosen.dimension), DEFAULT_POLICY
            head, by_probability = chosen.pair_head, False
        encoded = await self._encoding.encode(call, [probe, other], space)
        distance = float(squared_l2(encoded.vectors[0], encoded.vectors[1]))
        breached = tuple(itertools.chain(*breaches_of([probe, other], encoded, policy)))
        other_example = Candidate("", "", distance, distance)
        if head is not None:
            logit = head.logits(encoded.vectors[0], encoded.vectors[1])
            score = float(scores_of(logit)) if by_probability else distance
            other_example = replace(other_example, score=score, probability=float(probabilities_of(logit)))
        provenance = Provenance(space.digest, encoded.provider)
        verified = self._verified(gallery, other_example, deciding.at(1, 1), provenance, encoded, breached)
        await self._tell_verified(call, "compare", gallery, verified, None)
        return verified

    async def _tell_verified(
        self, call: Call, did: str, gallery: Gallery | None, verified: Verification, subject_id: str | None
    ) -> None:
        await self._audit.decided(
            call,
            did,
            gallery.id if gallery else None,
            [Decision("same" if verified.same else "different", score=verified.score)],
            verified.tau,
            verified.provenance.encoder_digest,
            verified.provenance.gallery_revision,
            subject_id,
        )

    async def encode(
        self, call: Call, encoder: str, examples: Sequence[Content]
    ) -> tuple[Encoded, Provenance, Sequence[Breached]]:
        """f(x) of each example, and what of the encoder's inputs is outside the limits. Nothing is stored."""
        call.need("encode")
        check_count("examples", examples, MAX_PROBES)
        call.spend("probes", len(examples))
        chosen = self._encoders.find("encoder", encoder)
        for content in examples:
            if isinstance(content, ClientEncoding):
                raise InvalidRequest.field(content.path, "is an encoding already")
        encoded = await self._encoding.encode(call, examples, Space(chosen.digest, chosen.dimension))
        await self._audit.did(call, "encode", examples=len(examples), model=chosen.digest)
        breached = itertools.chain(*breaches_of(examples, encoded, "off"))
        return encoded, Provenance(chosen.digest, encoded.provider), tuple(breached)

    async def nearest(self, call: Call, gallery: Gallery, probe: Content) -> tuple[Candidate | None, int]:
        """The nearest subject that one probe can be given, by this rule of fusion, and how many it was compared with.
        Exact. No decision, and none is counted."""
        encoded = await self._encoding.encode(call, [probe], _space(gallery))
        search = replace(_search_in(gallery, self._head(gallery), encoded.vectors, 1), exact=True)
        found = await self.search(call, gallery.id, search, encoded)
        return next(_without_negatives(found.candidates[0]), None), found.subjects

    async def nearest_to(self, call: Call, gallery: Gallery, vectors: Vectors, candidates: int) -> Found:
        """The subjects nearest by distance to each of the vectors, float32 [n, D] by the gallery's encoder, by its rule
        of fusion. Exact. No decision, and none is counted."""
        search = Search(vectors, gallery.active.encoder_digest, candidates, fusion=gallery.active.fusion, exact=True)
        return await self._search(call, gallery.id, search)

    async def _within(self, call: Call, deciding: Deciding, gallery_id: str) -> float:
        """Up to which score subjects match: tau, before the search."""
        if deciding.value is not None:
            return deciding.value
        gallery = await self._reads.run(call, self._store.get_gallery, gallery_id)
        return deciding.at(gallery.subjects, gallery.encodings).value

    def _gallery(self, gallery_id: str) -> Gallery:
        """Its encoder, dimension and own tau, from memory; sizes and revision may be old. Raises GalleryNotFound."""
        check_id("gallery_id", gallery_id)
        return self._store.known(gallery_id)

    def _head(self, gallery: Gallery) -> PairHead | None:
        """Of the gallery's encoder, if it is loaded and has one. Raises EncoderNotLoaded where it has to decide."""
        encoder = self._encoders.by_digest(gallery.active.encoder_digest)
        if encoder is None and _by_probability(gallery):
            raise encoder_unknown(gallery.active.encoder_digest, "its pair head decides")
        return encoder.pair_head if encoder is not None else None

    async def search(self, call: Call, gallery_id: str, search: Search, encoded: Encoded) -> Found:
        """The answer to a search for what was ``encoded`` for this call; concurrent ones share a scan."""
        return await self._search(_afterwards(call, encoded), gallery_id, search)

    async def _search(self, call: Call, gallery_id: str, search: Search) -> Found:
        batcher = self._batchers.get(gallery_id)
        if batcher is None:
            self._gallery(gallery_id)  # it may have been deleted meanwhile: nobody would forget it again
            batcher = self._batchers[gallery_id] = self._new_batcher(
                functools.partial(self._store.search_many, gallery_id)
            )
        each = 1 + search.candidates // _CANDIDATES_PER_PROBE
        if search.by_probability:
            each *= _BY_PROBABILITY
        size = max(1, batcher.step // each)
        steps = [
            replace(search, probes=search.probes[start : start + size]) for start in range(0, len(search.probes), size)
        ]
        rows = [len(step.probes) for step in steps]
        found = _together(await batcher.submit_all(steps, call, rows=rows, costs=[count * each for count in rows]))
        if found.every_row and gallery_id in self._batchers:
            self._on_every_row(gallery_id, found.every_row)
        return found

    def _verified(
        self,
        gallery: Gallery | None,
        other: Candidate,
        tau: Tau,
        provenance: Provenance,
        encoded: Encoded,
        breaches: tuple[Breached, ...],
    ) -> Verification:
        same = other.score <= tau.value and other.negative is None
        self._decided(gallery, same=int(same), different=int(not same))
        return Verification(
            same,
            other.distance,
            other.score,
            other.encoding_id,
            tau,
            provenance,
            encoded.faces,
            breaches,
            other.negative,
            other.probability,
            other.mapped,
        )

    def _decided(self, gallery: Gallery | None, **counts: int) -> None:
        """Counts decisions by their names. None: of no gallery."""
        if gallery is None or self._is_there(gallery):
            for decision, count in counts.items():
                self._on_decision(gallery.id if gallery else "", decision, count)

    def _is_there(self, gallery: Gallery) -> bool:
        """Whether it still is: of one that was deleted nothing is counted, since nobody would forget it again."""
        try:
            return self._store.known(gallery.id).created == gallery.created
        except (GalleryNotFound, StoreClosed):
            return False


def _judged(
    probes: Sequence[Content],
    encoded: Encoded,
    found: Found,
    gallery: Gallery,
    threshold: Tau,
    candidates: int,
    least_gap: float,
    everybody: bool,
    one_face_each: bool,
) -> list[Identification]:
    """Who each probe is. ``everybody``: the caller may see who is beyond tau, too."""
    answers = []
    breached = breaches_of(probes, encoded, policy_of(gallery))
    for owner, face, broken, nearest, matches, truncated in zip(
        encoded.owners, encoded.faces, breached, found.candidates, found.matches, found.truncated, strict=True
    ):
        given = tuple(itertools.islice(_without_negatives(nearest), 2))
        under = bool(given) and given[0].score <= threshold.value
        ambiguous = under and len(given) > 1 and given[1].score - given[0].score < least_gap
        withheld = not under and any(one.score <= threshold.value for one in nearest)
        mate = given[0].subject_id if under and not ambiguous else None
        # To the first who can be given at least.
        shown = nearest[: max(candidates, nearest.index(given[0]) + 1)] if given else nearest[:candidates]
        answers.append(
            Identification(*(owner, face, mate, shown, matches, truncated, given, ambiguous, broken), withheld=withheld)
        )
    if not everybody:
        answers = [_within_tau(answer, threshold.value) for answer in answers]
    answers = _with_refused(answers, encoded.photos)
    return each_in_one_face(answers) if one_face_each else answers


def _decision(answer: Identification) -> Decision:
    if answer.identified is not None:
        return Decision("identified", answer.identified, answer.nearest[0].score if answer.nearest else None)
    if not answer.compared:
        return Decision("not_compared")
    outcome: Outcome = "ambiguous" if answer.ambiguous else "withheld" if answer.withheld else "unknown"
    return Decision(outcome, score=answer.nearest[0].score if answer.nearest else None)


def _without_negatives(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
    """The subjects that the probe can be given."""
    return (one for one in candidates if one.negative is None)


def _within_tau(answer: Identification, tau: float) -> Identification:
    """For a caller who may not see who is beyond it."""
    return replace(
        answer,
        candidates=tuple(one for one in answer.candidates if one.score <= tau),
        nearest=tuple(itertools.takewhile(lambda one: one.score <= tau, answer.nearest)),
    )


def _with_refused(answers: Sequence[Identification], photos: Mapping[int, Photo]) -> list[Identification]:
    """``answers``, and those for the faces that were not compared, each in its face's place."""
    if all(len(photo.comparable) == len(photo.faces) for photo in photos.values()):
        return list(answers)
    by_probe = {probe: list(group) for probe, group in itertools.groupby(answers, key=lambda one: one.probe)}
    result: list[Identification] = []
    for probe in sorted(by_probe.keys() | photos.keys()):
        given = iter(by_probe.get(probe, ()))
        if probe not in photos:
            result.extend(given)
            continue
        for face in photos[probe].faces:
            result.append(
                next(given) if face.comparable else Identification(probe, face, None, (), (), False, (), False)
            )
    return result


def _afterwards(call: Call, encoded: Encoded) -> Call:
    """The call, once its probes are encoded: what was done for it isn't thrown away."""
    return call if encoded.provider == CLIENT else call.let_in


def _together(steps: Sequence[Found]) -> Found:
    """One answer from those of several steps; the revision is the oldest of them, and it is exact if all are."""
    if len(steps) == 1:
        return steps[0]
    approximate = next((found for found in steps if not found.exact), steps[0])
    return replace(
        min(steps, key=lambda found: found.revision),
        exact=approximate.exact,
        kind=approximate.kind,
        candidates=tuple(itertools.chain.from_iterable(found.candidates for found in steps)),
        matches=tuple(itertools.chain.from_iterable(found.matches for found in steps)),
        truncated=tuple(itertools.chain.from_iterable(found.truncated for found in steps)),
        every_row=sum(found.every_row for found in steps),
    )


def _space(gallery: Gallery) -> Space:
    return Space(gallery.active.encoder_digest, gallery.active.dimension)


def _by_probability(gallery: Gallery) -> bool:
    return gallery.active.decided_by == "probability"


def _search_in(
    gallery: Gallery,
    head: PairHead | None,
    vectors: Vectors,
    candidates: int,
    within: float | None = None,
    limit: int = 0,
) -> Search:
    """By what decides in the gallery."""
    return Search(
        *(vectors, gallery.active.encoder_digest, candidates, within, limit),
        fusion=gallery.active.fusion,
        head=head,
        by_probability=_by_probability(gallery),
    )


def _check_labels_fit(found: Found) -> None:
    """Raises InvalidRequest for more labels than an answer can have."""
    size = 0
    for one in itertools.chain(*found.candidates, *found.matches):
        size += sum(len(key) + len(value) for key, value in (one.labels or {}).items())
        if size > MAX_ANSWERED_LABELS:
            raise InvalidRequest.field(
                "with_labels",
                f"the labels have more than {MAX_ANSWERED_LABELS} characters: ask for fewer candidates or matches",
                reason="ANSWER_TOO_LARGE",
                limit=MAX_ANSWERED_LABELS,
            )


def _check_listed(candidates: int, probes: int) -> None:
    if candidates * probes > MAX_LISTED:
        raise InvalidRequest.field(
            "max_candidates",
            f"{candidates} candidates for each of {probes} probes are more than {MAX_LISTED} in one answer",
            reason="TOO_MANY",
            limit=MAX_LISTED,
        )


def _provenance(gallery: Gallery, encoded: Encoded, found: Found) -> Provenance:
    return Provenance(
        encoder_digest=gallery.active.encoder_digest,
        execution_provider=encoded.provider,
        index_kind=found.kind,
        index_device=found.device,
        exact=found.exact,
        gallery_revision=found.revision,
        gallery_size=found.subjects,
        filtered_size=found.among,
        gallery_uid=gallery.uid,
        unchecked=found.unchecked,
        mapped=found.mapped,
    )
