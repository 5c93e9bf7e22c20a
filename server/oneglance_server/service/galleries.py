"""GalleryStore and their thresholds."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from oneglance_core.calibration import Prior
from oneglance_core.faces.quality import QualityPolicy
from oneglance_core.fusion import DecidedBy, Fusion
from oneglance_core.manifests import Calibration
from oneglance_index import (
    Approximation,
    ApproximationState,
    DeletedGallery,
    Gallery,
    GalleryNotFound,
    GalleryStore,
    ThresholdVersion,
    approximation_of,
)
from oneglance_server.calls import Call
from oneglance_server.engines.encoder import Encoder
from oneglance_server.errors import InvalidRequest
from oneglance_server.offload import Threads
from oneglance_server.service.auditing import Audit
from oneglance_server.service.breaches import policy_of
from oneglance_server.service.content import Tau, check_gap, check_id, check_rate, check_tau
from oneglance_server.service.doubts import DoubtPolicy, doubt_policy_of
from oneglance_server.service.drift import DriftFound, DriftWatches
from oneglance_server.service.encoders import Encoders
from oneglance_server.service.plan import encoder_unknown
from oneglance_server.service.thresholds import Thresholds

# A tau as it would apply now, None where the gallery's own was cleared; and its evidence.
Version = tuple[ThresholdVersion, Tau | None, Calibration | None]


@dataclass(frozen=True, slots=True)
class GalleryState:
    """A gallery, the tau in force in it, whether its encoder is loaded, its policies, whether its probes have
    drifted, what its answers may lose, and how they come about."""

    gallery: Gallery
    tau: Tau | None
    encoder_loaded: bool
    quality_policy: QualityPolicy
    doubt_policy: DoubtPolicy
    drift: Sequence[DriftFound]
    approximation: Approximation | None
    approximation_state: ApproximationState | None


class GalleryService:
    """Create, look up and delete galleries, and set their thresholds. ``on_deleted`` hears a deleted gallery's id."""

    def __init__(
        self,
        store: GalleryStore,
        reads: Threads,
        encoders: Encoders,
        thresholds: Thresholds,
        drift: DriftWatches,
        on_deleted: Callable[[str], None],
        audit: Audit,
    ) -> None:
        self._store = store
        self._reads = reads
        self._encoders = encoders
        self._thresholds = thresholds
        self._drift = drift
        self._on_deleted = on_deleted
        self._audit = audit

    async def create(
        self,
        call: Call,
        gallery_id: str,
        encoder: str,
        description: str,
        fusion: Fusion,
        target_fpir: float,
        quality_policy: QualityPolicy,
        least_gap: float,
        doubt_policy: DoubtPolicy,
        decided_by: DecidedBy,
        keep_crops: bool,
    ) -> GalleryState:
        call.need("administer", check_id("gallery_id", gallery_id))
        call.spend("galleries", 1)
        chosen = self._encoders.find("encoder", encoder)
        if decided_by == "probability":
            _check_head(chosen)
            _check_rules("decided_by", fusion, decided_by)
        created = self._store.create_gallery(
            gallery_id,
            encoder_digest=chosen.digest,
            dimension=chosen.dimension,
            description=description,
            fusion=fusion,
            target_fpir=check_rate("target_fpir", target_fpir),
            quality=quality_policy,
            least_gap=check_gap("least_gap", least_gap),
            doubt=doubt_policy,
            decided_by=decided_by,
            keep_crops=keep_crops,
        )
        return self.state(await asyncio.wrap_future(created))

    async def get(self, call: Call, gallery_id: str) -> GalleryState:
        """As it is now, sizes and revision included."""
        call.need_sight(gallery_id)
        return self.state(await self._get(call, gallery_id))

    async def page(self, call: Call, size: int, after: str | None) -> tuple[Sequence[GalleryState], str | None]:
        """Up to ``size`` galleries, of them those that the caller may see, and the id to continue after."""

        def read() -> tuple[Sequence[GalleryState], str | None]:
            found: list[GalleryState] = []
            next_after = after
            while True:  # until a page of the store, which is bounded in bytes, has some that the caller sees
                page = self._store.list_galleries(page_size=size, after=next_after)
                seen = [gallery for gallery in page.galleries if call.sees(gallery.id)]
                if found and seen:  # the token names a gallery that the caller sees
                    return found, found[-1].gallery.id
                found += map(self.state, seen)
                next_after = page.next_after
                if next_after is None:
                    return found, None

        return await self._reads.run(call, read)

    async def delete(self, call: Call, gallery_id: str) -> DeletedGallery:
        """The gallery as it was."""
        call.need("administer", check_id("gallery_id", gallery_id))
        move = self._store.known(gallery_id).move
        if move is not None:
            call.need("administer", move.other)  # which goes with it, or moves no more
        loop = asyncio.get_running_loop()
        deleted = self._store.delete_gallery(gallery_id)
        deleted.add_done_callback(lambda done: loop.call_soon_threadsafe(self._deleted, done))
        return await asyncio.wrap_future(deleted)

    def _deleted(self, done: "Future[DeletedGallery]") -> None:
        """It is done, whether or not its caller still waits."""
        if not done.cancelled() and done.exception() is None:
            gone = done.result().gallery
            self._on_deleted(gone.id)
            if gone.move is not None and gone.move.answers:  # the one that waited went with it
                self._on_deleted(gone.move.other)

    async def rotate_key(self, call: Call, gallery_id: str) -> None:
        """Of a gallery, or (no id) the master key."""
        chosen = check_id("gallery_id", gallery_id) if gallery_id else None
        call.need("administer", chosen)
        await self._audit.did(call, "rotate-key", chosen)
        await self._reads.run(call, self._store.rotate_keys, chosen)

    async def threshold(self, call: Call, gallery_id: str) -> tuple[Tau, Calibration | None]:
        """The tau in force, and what it was fitted on. Raises ThresholdMissing."""
        call.need_sight(gallery_id)
        gallery = await self._get(call, gallery_id)
        tau = self._thresholds.of_gallery(gallery).at(gallery.subjects, gallery.encodings)
        return tau, self._thresholds.evidence(gallery, tau)

    def prior(self, gallery: Gallery) -> Prior | None:
        """What is known of a gallery's FPIR before any stranger came."""
        return self._thresholds.prior(gallery)

    async def set_threshold(self, call: Call, gallery_id: str, tau: float | None) -> GalleryState:
        """``tau`` None: clear the gallery's own."""
        call.need("calibrate", check_id("gallery_id", gallery_id))
        known = None
        if tau is not None:
            known = self._store.known(gallery_id)
            check_tau("tau", tau, known.active.fusion, known.active.decided_by)
        return self.state(await asyncio.wrap_future(self._store.set_threshold(gallery_id, tau, of=known)))

    async def set_calibrated(self, gallery: Gallery, calibration: Calibration) -> GalleryState:
        """Make it the threshold of the gallery that it was made for, with its evidence."""
        stored = self._store.set_threshold(gallery.id, calibration.tau, calibration.model_dump_json(), of=gallery)
        return self.state(await asyncio.wrap_future(stored))

    async def set_target_fpir(self, call: Call, gallery_id: str, target_fpir: float) -> GalleryState:
        """From now on tau follows the gallery's size, if its model was measured. The gallery's own tau is cleared."""
        call.need("calibrate", check_id("gallery_id", gallery_id))
        check_rate("target_fpir", target_fpir)
        return self.state(await asyncio.wrap_future(self._store.set_target_fpir(gallery_id, target_fpir)))

    async def set_fusion(self, call: Call, gallery_id: str, fusion: Fusion) -> GalleryState:
        """Searches go by the rule when it returns. The gallery's own tau is cleared."""
        call.need("calibrate", check_id("gallery_id", gallery_id))
        _check_rules("fusion", fusion, self._store.known(gallery_id).active.decided_by)
        return self.state(await asyncio.wrap_future(self._store.set_fusion(gallery_id, fusion)))

    async def set_decided_by(self, call: Call, gallery_id: str, decided_by: DecidedBy) -> GalleryState:
        """The gallery's own tau is cleared. Raises InvalidRequest, EncoderNotLoaded."""
        call.need("calibrate", check_id("gallery_id", gallery_id))
        active = self._store.known(gallery_id).active
        if decided_by == "probability":
            encoder = self._encoders.by_digest(active.encoder_digest)
            if encoder is None:
                raise encoder_unknown(active.encoder_digest, "whether it has a pair head isn't known")
            _check_head(encoder)
            _check_rules("decided_by", active.fusion, decided_by)
        return self.state(await asyncio.wrap_future(self._store.set_decided_by(gallery_id, decided_by)))

    async def set_quality_policy(self, call: Call, gallery_id: str, policy: QualityPolicy) -> GalleryState:
        call.need("calibrate", check_id("gallery_id", gallery_id))
        return self.state(await asyncio.wrap_future(self._store.set_quality(gallery_id, policy)))

    async def set_least_gap(self, call: Call, gallery_id: str, least_gap: float) -> GalleryState:
        call.need("calibrate", check_id("gallery_id", gallery_id))
        check_gap("least_gap", least_gap)
        return self.state(await asyncio.wrap_future(self._store.set_least_gap(gallery_id, least_gap)))

    async def set_approximation(self, call: Call, gallery_id: str, approximation: Approximation | None) -> GalleryState:
        """None: answers are exact. Raises EngineUnsupported."""
        call.need("calibrate", check_id("gallery_id", gallery_id))
        return self.state(await asyncio.wrap_future(self._store.set_approximation(gallery_id, approximation)))

    async def set_doubt_policy(self, call: Call, gallery_id: str, policy: DoubtPolicy) -> GalleryState:
        call.need("calibrate", check_id("gallery_id", gallery_id))
        return self.state(await asyncio.wrap_future(self._store.set_doubt(gallery_id, policy)))

    async def set_keep_crops(self, call: Call, gallery_id: str, keep: bool) -> GalleryState:
        """Whether crops of pictures are kept from now on; if not, those that there are go: of a gallery that moves, in
        both."""
        call.need("administer", check_id("gallery_id", gallery_id))
        move = self._store.known(gallery_id).move
        if move is not None and move.answers:
            call.need("administer", move.other)
        return self.state(await asyncio.wrap_future(self._store.set_keep_crops(gallery_id, keep)))

    async def versions(
        self, call: Call, gallery_id: str, size: int, after: int | None
    ) -> tuple[Sequence[Version], int | None]:
        """Up to ``size`` taus the gallery has had, the newest first, and the version to continue after."""
        call.need_sight(gallery_id)
        gallery = await self._get(call, gallery_id)

        def read() -> tuple[Sequence[Version], int | None]:
            page = self._store.list_thresholds(gallery_id, page_size=size, after=after)
            return [(one, *self._thresholds.of_version(gallery, one)) for one in page.versions], page.next_after

        return await self._reads.run(call, read)

    async def _get(self, call: Call, gallery_id: str) -> Gallery:
        check_id("gallery_id", gallery_id)
        return await self._reads.run(call, self._store.get_gallery, gallery_id)

    def state(self, gallery: Gallery) -> GalleryState:
        """As it was when it was read, with what the server knows of it now."""
        loaded = self._encoders.by_digest(gallery.active.encoder_digest) is not None
        tau, drift = self._thresholds.in_force(gallery), self._drift.of(gallery)
        approximation, state = approximation_of(gallery.active.kind), approximation_state(self._store, gallery)
        return GalleryState(
            *(gallery, tau, loaded, policy_of(gallery), doubt_policy_of(gallery), drift), approximation, state
        )


def approximation_state(store: GalleryStore, gallery: Gallery) -> ApproximationState | None:
    """How its answers come about; None where they may lose nothing, and once it was deleted."""
    if approximation_of(gallery.active.kind) is not None:
        with contextlib.suppress(GalleryNotFound):
            return store.approximation_state(gallery.id)
    return None


def _check_head(encoder: Encoder) -> None:
    if encoder.pair_head is None:
        raise InvalidRequest.field(
            "decided_by",
            f"encoder {encoder.manifest.name} has no pair head, so it tells no probabilities",
            reason="PAIR_HEAD_MISSING",
            encoder_digest=encoder.digest,
        )


def _check_rules(path: str, fusion: str, decided_by: str) -> None:
    if fusion == "margin" and decided_by == "probability":
        raise InvalidRequest.field(
            path, "the rule of fusion margin is for distances, not for probabilities", reason="RULES_CONFLICT"
        )
