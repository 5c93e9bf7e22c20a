"""A gallery moves to another encoder while it answers: start, look, cut over, roll back, end."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from oneglance_index import Gallery, GalleryStore, LeftPage, MoveState
from oneglance_server.access.rights import Right
from oneglance_server.calls import Call
from oneglance_server.errors import InvalidRequest, ThresholdMissing
from oneglance_server.offload import Threads
from oneglance_server.service.auditing import Audit
from oneglance_server.service.comparing import Comparison, LiveComparisons
from oneglance_server.service.content import check_id
from oneglance_server.service.encoders import Encoders
from oneglance_server.service.galleries import GalleryService, GalleryState
from oneglance_server.service.thresholds import Thresholds


@dataclass(frozen=True, slots=True)
class MoveReport:
    """The gallery that answers, the one that waits, how far the move has come, and what live probes told."""

    gallery: GalleryState
    waiting: GalleryState
    state: MoveState
    comparison: Comparison


class SuccessionService:
    """``on_deleted`` hears a deleted gallery's id."""

    def __init__(
        self,
        store: GalleryStore,
        reads: Threads,
        encoders: Encoders,
        thresholds: Thresholds,
        galleries: GalleryService,
        comparisons: LiveComparisons,
        on_deleted: Callable[[str], None],
        audit: Audit,
    ) -> None:
        self._store = store
        self._reads = reads
        self._encoders = encoders
        self._thresholds = thresholds
        self._galleries = galleries
        self._comparisons = comparisons
        self._on_deleted = on_deleted
        self._audit = audit

    async def start(
        self, call: Call, gallery_id: str, successor_id: str, encoder: str, compare_share: float
    ) -> GalleryState:
        """The successor. Where its encoder has no pair head, distances decide in it."""
        call.need("administer", check_id("gallery_id", gallery_id))
        call.need("administer", check_id("successor_id", successor_id))
        if not 0 <= compare_share <= 1:
            raise InvalidRequest.field("compare_share", f"must be 0 to 1, got {compare_share}")
        active = self._store.known(gallery_id).active
        chosen = self._encoders.find("encoder", encoder)
        if chosen.digest == active.encoder_digest:
            raise InvalidRequest.field("encoder", f"{chosen.manifest.name} is the gallery's encoder already")
        call.spend("galleries", 1)
        started = self._store.start_move(
            gallery_id,
            successor_id,
            encoder_digest=chosen.digest,
            dimension=chosen.dimension,
            decided_by="probability" if active.decided_by == "probability" and chosen.pair_head else "distance",
            compare_share=compare_share,
        )
        return self._galleries.state(await asyncio.wrap_future(started))

    async def get(self, call: Call, gallery_id: str) -> MoveReport:
        call.need_sight(check_id("gallery_id", gallery_id))
        found = await self._reads.run(call, self._store.move_state, gallery_id)
        for one in (found.gallery, found.waiting):
            call.need_sight(one.id)
        galleries = self._galleries.state(found.gallery), self._galleries.state(found.waiting)
        return MoveReport(*galleries, found, self._comparisons.of(found.gallery))

    async def left(self, call: Call, gallery_id: str, size: int, after: str | None) -> LeftPage:
        may_move(call, self._store, gallery_id, "export")
        page = await self._reads.run(call, self._store.list_left, gallery_id, page_size=size, after=after)
        await self._audit.did(call, "list-left", gallery_id, count=len(page.subjects))
        return page

    async def cut_over(self, call: Call, gallery_id: str, leave: bool) -> GalleryState:
        other_id = may_move(call, self._store, gallery_id)
        if other_id is not None:
            await self._check_tau(call, gallery_id, other_id)
        return await self._swapped(self._store.cut_over(gallery_id, leave=leave))

    async def roll_back(self, call: Call, gallery_id: str, leave: bool) -> GalleryState:
        may_move(call, self._store, gallery_id)
        return await self._swapped(self._store.roll_back(gallery_id, leave=leave))

    async def end(self, call: Call, gallery_id: str, keep: bool) -> GalleryState:
        other_id = may_move(call, self._store, gallery_id)
        ended = self._store.end_move(gallery_id, keep=keep)
        if other_id is not None and not keep:
            _afterwards(ended, lambda _: self._on_deleted(other_id))
        return self._galleries.state(await asyncio.wrap_future(ended))

    async def _check_tau(self, call: Call, gallery_id: str, other_id: str) -> None:
        """Raises ThresholdMissing where only the gallery that answers has a tau."""
        galleries = [
            await self._reads.run(call, self._store.get_gallery, gallery_id),
            await self._reads.run(call.let_in, self._store.get_gallery, other_id),
        ]
        own, others = map(self._thresholds.in_force, galleries)
        if own is not None and others is None:
            raise ThresholdMissing(
                f"gallery {other_id!r} has no tau, {gallery_id!r} has one: set or calibrate it first",
                metadata={"gallery_id": other_id},
            )

    async def _swapped(self, swapped: "Future[Gallery]") -> GalleryState:
        _afterwards(swapped, lambda gallery: self._comparisons.forget(gallery.id))
        return self._galleries.state(await asyncio.wrap_future(swapped))


def may_move(call: Call, store: GalleryStore, gallery_id: str, right: Right = "administer") -> str | None:
    """Raises PermissionDenied unless the caller has the right in both galleries of a move. The other one; None where
    there is none, which the store tells."""
    call.need(right, check_id("gallery_id", gallery_id))
    move = store.known(gallery_id).move
    if move is None:
        return None
    call.need(right, move.other)
    return move.other


def _afterwards(written: "Future[Gallery]", act: Callable[[Gallery], None]) -> None:
    """Once it is done, whether or not its caller still waits."""
    loop = asyncio.get_running_loop()

    def done(future: "Future[Gallery]") -> None:
        if not future.cancelled() and future.exception() is None:
            loop.call_soon_threadsafe(act, future.result())

    written.add_done_callback(done)
