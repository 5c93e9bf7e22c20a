"""Galleries and their thresholds."""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import ParamSpec, TypeVar

from oneglance_core.manifests import Calibration
from oneglance_index import Gallery, GalleryPage, GalleryStore, ThresholdVersion
from oneglance_server.errors import ThresholdMissing
from oneglance_server.service.content import Tau, check_id, check_tau
from oneglance_server.service.encoding import Encoders

P = ParamSpec("P")
T = TypeVar("T")


class GalleryService:
    """Create, look up and delete galleries; say which tau applies."""

    def __init__(self, galleries: GalleryStore, encoders: Encoders, executor: Executor) -> None:
        self.store = galleries
        self.encoders = encoders
        self._executor = executor
        self._calibrated = {
            encoder.digest: _Calibrated(encoder.manifest.threshold)
            for encoder in encoders.all()
            if encoder.manifest.threshold
        }
        self._recommended = {
            encoder.digest: encoder.manifest.author_threshold.tau
            for encoder in encoders.all()
            if encoder.manifest.author_threshold
        }

    async def blocking(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking read off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: call(*args, **kwargs))

    async def create(self, gallery_id: str, encoder: str, description: str) -> Gallery:
        check_id("gallery_id", gallery_id)
        chosen = self.encoders.find("encoder", encoder)
        created = self.store.create_gallery(
            gallery_id, encoder_digest=chosen.digest, dimension=chosen.dimension, description=description
        )
        return await asyncio.wrap_future(created)

    async def get(self, gallery_id: str) -> Gallery:
        """As it is now, sizes and revision included."""
        check_id("gallery_id", gallery_id)
        return await self.blocking(self.store.get_gallery, gallery_id)

    async def page(self, size: int, after: str | None) -> GalleryPage:
        return await self.blocking(self.store.list_galleries, page_size=size, after=after)

    async def delete(self, gallery_id: str) -> Gallery:
        check_id("gallery_id", gallery_id)
        return await asyncio.wrap_future(self.store.delete_gallery(gallery_id))

    def resolve(self, gallery_id: str) -> Gallery:
        """Its encoder, dimension and own tau, from memory; sizes and revision may be old. Raises GalleryNotFound."""
        return self.store.known(check_id("gallery_id", gallery_id))

    async def set_tau(self, gallery_id: str, tau: float | None, calibration: Calibration | None = None) -> Gallery:
        """``calibration``: the evidence that ``tau`` comes with."""
        check_id("gallery_id", gallery_id)
        if tau is not None:
            check_tau("tau", tau)
        evidence = None if calibration is None else calibration.model_dump_json()
        return await asyncio.wrap_future(self.store.set_threshold(gallery_id, tau, evidence))

    async def versions(self, gallery_id: str) -> list[tuple[ThresholdVersion, Tau | None, Calibration | None]]:
        """Every tau the gallery has had, the newest first, as it would apply now; None where its own was cleared."""
        gallery = await self.get(gallery_id)
        kept = await self.blocking(self.store.list_thresholds, gallery_id)
        known = self._known(gallery)
        return [
            (
                version,
                None
                if version.threshold is None
                else _gallery_tau(
                    version.threshold, version.version, version.since, version.calibration, known, gallery.subjects
                ),
                _ready(version.calibration).calibration if version.calibration else None,
            )
            for version in kept
        ]

    def tau(self, gallery: Gallery, size: int, requested: float | None = None) -> Tau:
        """The tau that applies: the request's, else the gallery's, else the model's, else its author's.

        ``size``: subjects enrolled, for the expected FPIR. Raises ThresholdMissing.
        """
        known = self._known(gallery)
        if requested is None and gallery.threshold is not None:
            version = gallery.threshold_revision
            fitted = gallery.calibration if gallery.calibration_revision == version else None
            return _gallery_tau(gallery.threshold, version, gallery.threshold_since, fitted, known, size)
        chosen = self.model_tau(gallery.encoder_digest, size, requested)
        return replace(chosen, fmr=known.fmr(chosen.value) if known else None)

    def model_tau(self, digest: str, size: int, requested: float | None = None) -> Tau:
        """The request's tau, else that of encoder ``digest``: calibrated, or its author's. Raises ThresholdMissing."""
        known = self._calibrated.get(digest)
        if requested is not None:
            tau = check_tau("tau", requested)
            return Tau(tau, "request", "", known.fmr(tau) if known else None, size)
        if known is not None:
            return Tau(known.tau, "model", known.id, known.fmr(known.tau), size, known.target_fpir)
        if digest in self._recommended:
            return Tau(self._recommended[digest], "author", "", None, size)
        raise ThresholdMissing(
            "no tau: the request gives none, the gallery has none, and its model is not calibrated or not loaded",
            metadata={"encoder_digest": digest},
        )

    def evidence(self, gallery: Gallery, tau: Tau) -> Calibration | None:
        """What ``tau`` was fitted on, if it was."""
        known = self._known(gallery) if tau.source == "calibration" else self._calibrated.get(gallery.encoder_digest)
        return known.calibration if known and tau.source in ("calibration", "model") else None

    def _known(self, gallery: Gallery) -> "_Calibrated | None":
        """What is known of error rates in this gallery: from its own newest calibration, else the model's."""
        if gallery.calibration is not None:
            return _ready(gallery.calibration)
        return self._calibrated.get(gallery.encoder_digest)


class _Calibrated:
    """A calibration made ready once: every answer asks for it."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self.tau = calibration.tau
        self.id = calibration.id
        self.target_fpir = calibration.target_fpir
        self.fmr = functools.lru_cache(maxsize=1024)(calibration.fmr)


@functools.lru_cache(maxsize=1024)
def _ready(calibration: str) -> _Calibrated:
    return _Calibrated(Calibration.model_validate_json(calibration))


def _gallery_tau(
    value: float, version: int, since: float | None, calibration: str | None, known: _Calibrated | None, size: int
) -> Tau:
    """``calibration``: what this very tau came from; ``known``: what gives its FMR."""
    return Tau(
        value,
        "gallery" if calibration is None else "calibration",
        str(version),
        known.fmr(value) if known else None,
        size,
        None if calibration is None else _ready(calibration).target_fpir,
        since,
    )
