"""Verify (1:1), identify (1:K, open set), encode."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from oneglance_core.defaults import CANDIDATES, MAX_CANDIDATES
from oneglance_core.distance import squared_l2
from oneglance_core.faces.finder import Face, Photo, SmallFaces
from oneglance_index import Candidate, Found, Gallery, Search
from oneglance_server.engines.batcher import Batcher, BatchObserver
from oneglance_server.engines.photos import Look, Looker, Selector
from oneglance_server.errors import InvalidRequest
from oneglance_server.service.content import (
    MAX_LISTED,
    MAX_MATCHES,
    MAX_PHOTOS,
    MAX_PROBES,
    ClientEncoding,
    Content,
    Identification,
    Provenance,
    Tau,
    check_count,
    check_id,
    check_size,
)
from oneglance_server.service.encoding import Encoded, Encoders, chip_of
from oneglance_server.service.galleries import GalleryService


@dataclass(frozen=True, slots=True)
class Verification:
    same: bool
    distance: float
    encoding_id: str
    tau: Tau
    provenance: Provenance
    faces: Sequence[Face | None]


@dataclass(frozen=True, slots=True)
class Identified:
    """``answers`` in the order of the probes; ``photos``: what was seen of each photo, by its probe's position."""

    answers: Sequence[Identification]
    tau: Tau
    provenance: Provenance
    photos: Mapping[int, Photo]


class IdentificationService:
    """Compares probes with galleries. Concurrent requests to one gallery share a scan.

    ``on_decision(gallery_id, decision)`` hears every decision: "identified", "unknown", "same", "different".
    """

    def __init__(
        self,
        galleries: GalleryService,
        executor: Executor,
        *,
        workers: int,
        max_batch: int,
        max_queue: int,
        observer: BatchObserver,
        on_decision: Callable[[str, str, int], None],
    ) -> None:
        self._galleries = galleries
        self._encoders: Encoders = galleries.encoders
        self._on_decision = on_decision
        self._batchers: dict[str, Batcher[Search, Found]] = {}
        self._new_batcher: Callable[[str], Batcher[Search, Found]] = lambda gallery_id: Batcher[Search, Found](
            "search",
            lambda searches: galleries.store.search_many(gallery_id, searches),
            executor,
            workers=workers,
            max_batch_rows=max_batch,
            max_queue_rows=max_queue,
            observer=observer,
        )

    def forget(self, gallery_id: str) -> None:
        """The gallery was deleted."""
        self._batchers.pop(gallery_id, None)

    async def identify(
        self,
        gallery_id: str,
        probes: Sequence[Content],
        *,
        max_candidates: int,
        tau: float | None,
        all_matches: bool,
        deadline: float | None,
        patient: bool = False,
    ) -> Identified:
        """Who each probe is: one answer per probe, or one per face of a photo, none when it shows none."""
        check_count("probes", probes, MAX_PROBES)
        k = check_size("max_candidates", max_candidates, CANDIDATES, MAX_CANDIDATES)
        _check_listed(k, len(probes))
        gallery = self._galleries.resolve(gallery_id)
        threshold = self._galleries.tau(gallery, 0, tau)  # its size is known only after the search
        applied = threshold.value
        paths = [f"probes[{i}]" for i in range(len(probes))]
        encoded = await self._encode(probes, paths, gallery, deadline, patient, every_face=True)
        if not encoded.owners:
            now = await self._galleries.get(gallery_id)
            nothing = Provenance(
                gallery.encoder_digest, encoded.provider, gallery_revision=now.revision, gallery_size=now.subjects
            )
            return Identified((), replace(threshold, size=now.subjects), nothing, encoded.photos)
        _check_listed(k, len(encoded.owners))
        found = await self._batcher(gallery_id).submit(
            Search(
                encoded.vectors,
                gallery.encoder_digest,
                k,
                applied if all_matches else None,
                min(MAX_MATCHES, MAX_LISTED // len(encoded.vectors)),
            ),
            rows=len(encoded.owners),
            deadline=deadline,
            patient=patient or bool(encoded.photos),
        )
        answers = []
        for owner, face, candidates, matches, truncated in zip(
            encoded.owners, encoded.faces, found.candidates, found.matches, found.truncated, strict=True
        ):
            nearest = candidates[0] if candidates else None
            identified = nearest.subject_id if nearest and nearest.distance <= applied else None
            answers.append(Identification(owner, face, identified, candidates, matches, truncated))
        known = sum(answer.identified is not None for answer in answers)
        self._on_decision(gallery_id, "identified", known)
        self._on_decision(gallery_id, "unknown", len(answers) - known)
        threshold = replace(threshold, size=found.subjects)
        return Identified(answers, threshold, _provenance(gallery, encoded, found), encoded.photos)

    async def verify(
        self, gallery_id: str, subject_id: str, probe: Content, *, tau: float | None, deadline: float | None
    ) -> Verification:
        """Is the probe this enrolled subject?"""
        check_id("subject_id", subject_id)
        gallery = self._galleries.resolve(gallery_id)
        threshold = self._galleries.tau(gallery, 1, tau)  # one claimed identity: K = 1
        encoded = await self._encode([probe], ["probe"], gallery, deadline)
        result = await self._galleries.blocking(
            self._galleries.store.verify,
            gallery_id,
            subject_id,
            encoded.vectors,
            encoder_digest=gallery.encoder_digest,
        )
        nearest = result.candidates[0][0]
        same = nearest.distance <= threshold.value
        self._on_decision(gallery_id, "same" if same else "different", 1)
        return Verification(
            same, nearest.distance, nearest.encoding_id, threshold, _provenance(gallery, encoded, result), encoded.faces
        )

    async def compare(
        self,
        gallery_id: str,
        encoder: str,
        probe: Content,
        other: Content,
        *,
        tau: float | None,
        deadline: float | None,
    ) -> Verification:
        """Do two examples show the same subject? tau is the request's, the gallery's or the encoder's."""
        if gallery_id:
            gallery = self._galleries.resolve(gallery_id)
            threshold = self._galleries.tau(gallery, 1, tau)
            digest, dimension = gallery.encoder_digest, gallery.dimension
        else:
            chosen = self._encoders.find("encoder", encoder)
            digest, dimension = chosen.digest, chosen.dimension
            threshold = self._galleries.model_tau(digest, 1, tau)
        encoded = await self._encoders.encode(
            [probe, other], ["probe", "other"], digest=digest, dimension=dimension, deadline=deadline
        )
        distance = float(squared_l2(encoded.vectors[0], encoded.vectors[1]))
        same = distance <= threshold.value
        self._on_decision(gallery_id, "same" if same else "different", 1)
        return Verification(same, distance, "", threshold, Provenance(digest, encoded.provider), encoded.faces)

    async def encode(
        self, encoder: str, examples: Sequence[Content], *, deadline: float | None
    ) -> tuple[Encoded, Provenance]:
        """f(x) of each example. Nothing is stored."""
        check_count("examples", examples, MAX_PROBES)
        chosen = self._encoders.find("encoder", encoder)
        for i, content in enumerate(examples):
            if isinstance(content, ClientEncoding):
                raise InvalidRequest.field(f"examples[{i}].encoding", "is an encoding already")
        paths = [f"examples[{i}]" for i in range(len(examples))]
        encoded = await self._encoders.encode(
            examples, paths, digest=chosen.digest, dimension=chosen.dimension, deadline=deadline
        )
        return encoded, Provenance(chosen.digest, encoded.provider)

    async def nearest(
        self, gallery_id: str, probe: Content, path: str, *, deadline: float | None
    ) -> tuple[Candidate | None, int]:
        """The nearest subject to one probe, and how many it was compared with. No decision, and none is counted."""
        gallery = self._galleries.resolve(gallery_id)
        encoded = await self._encode([probe], [path], gallery, deadline, patient=True)
        found = await self._batcher(gallery_id).submit(
            Search(encoded.vectors, gallery.encoder_digest, 1), rows=1, deadline=deadline, patient=True
        )
        return (found.candidates[0][0] if found.candidates[0] else None), found.subjects

    async def detect(
        self, images: Sequence[bytes], small_faces: SmallFaces, *, deadline: float | None
    ) -> tuple[Sequence[Photo], Looker]:
        """The faces of each photo, and what found them. Nothing is stored."""
        check_count("images", images, MAX_PHOTOS)
        photos = self._encoders.photos
        # Quality is judged on the aligned face, as the first encoder of faces wants it.
        chip = next((chip for encoder in self._encoders.all() if (chip := chip_of(encoder))), None)
        selector = Selector("all", small_faces=small_faces)
        looked = await photos.look(
            [Look(image, selector, chip, quality_only=True) for image in images],
            [f"images[{i}]" for i in range(len(images))],
            deadline=deadline,
        )
        return [one.photo for one in looked], photos.finder

    async def _encode(
        self,
        contents: Sequence[Content],
        paths: Sequence[str],
        gallery: Gallery,
        deadline: float | None,
        patient: bool = False,
        every_face: bool = False,
    ) -> Encoded:
        return await self._encoders.encode(
            contents,
            paths,
            digest=gallery.encoder_digest,
            dimension=gallery.dimension,
            deadline=deadline,
            patient=patient,
            every_face=every_face,
        )

    def _batcher(self, gallery_id: str) -> Batcher[Search, Found]:
        batcher = self._batchers.get(gallery_id)
        if batcher is None:
            batcher = self._batchers[gallery_id] = self._new_batcher(gallery_id)
        return batcher


def _check_listed(k: int, probes: int) -> None:
    if k * probes > MAX_LISTED:
        raise InvalidRequest.field(
            "max_candidates",
            f"{k} candidates for each of {probes} probes are more than {MAX_LISTED} in one answer",
            reason="TOO_MANY",
            limit=MAX_LISTED,
        )


def _provenance(gallery: Gallery, encoded: Encoded, result: Found) -> Provenance:
    return Provenance(
        encoder_digest=gallery.encoder_digest,
        execution_provider=encoded.provider,
        index_kind=result.kind,
        index_device=result.device,
        exact=result.exact,
        gallery_revision=result.revision,
        gallery_size=result.subjects,
    )
