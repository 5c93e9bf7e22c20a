"""Galleries and their thresholds."""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

from oneglance.model_folder import Calibration
from oneglance_index import Galleries, Gallery, GalleryPage
from oneglance_server.errors import ThresholdMissing
from oneglance_server.service.content import Tau, check_id, check_tau
from oneglance_server.service.encoding import Encoders

P = ParamSpec("P")
T = TypeVar("T")


class GalleryService:
    """Create, look up and delete galleries; say which tau applies."""

    def __init__(self, galleries: Galleries, encoders: Encoders, executor: Executor) -> None:
        self.store = galleries
        self.encoders = encoders
        self._executor = executor
        self._calibrated = {
            encoder.digest: _Calibrated(encoder.manifest.threshold)
            for encoder in encoders.all()
            if encoder.manifest.threshold
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

    async def set_tau(self, gallery_id: str, tau: float | None) -> Gallery:
        check_id("gallery_id", gallery_id)
        if tau is not None:
            check_tau("tau", tau)
        return await asyncio.wrap_future(self.store.set_threshold(gallery_id, tau))

    def tau(self, gallery: Gallery, size: int, requested: float | None = None) -> Tau:
        """The tau that applies: the request's, else the gallery's, else the model's.

        ``size``: subjects enrolled, for the expected FPIR. Raises ThresholdMissing.
        """
        if requested is None and gallery.threshold is not None:
            version = str(gallery.threshold_revision)
            return self._tau(gallery.threshold, "gallery", version, gallery.encoder_digest, size)
        return self.model_tau(gallery.encoder_digest, size, requested)

    def model_tau(self, digest: str, size: int, requested: float | None = None) -> Tau:
        """The request's tau, else the calibrated one of encoder ``digest``. Raises ThresholdMissing."""
        if requested is not None:
            return self._tau(check_tau("tau", requested), "request", "", digest, size)
        calibrated = self._calibrated.get(digest)
        if calibrated is None:
            raise ThresholdMissing(
                "no tau: the request gives none, the gallery has none, and its model is not calibrated or not loaded",
                metadata={"encoder_digest": digest},
            )
        return self._tau(calibrated.tau, "model", calibrated.id, digest, size)

    def _tau(self, value: float, source: str, version: str, digest: str, size: int) -> Tau:
        calibrated = self._calibrated.get(digest)
        return Tau(value, source, version, calibrated.fmr(value) if calibrated else None, size)


class _Calibrated:
    """A model's calibration, made ready once: every answer asks for it."""

    def __init__(self, calibration: Calibration) -> None:
        self.tau = calibration.tau
        self.id = calibration.id
        self.fmr = functools.lru_cache(maxsize=1024)(calibration.fmr)
