"""oneglance.v1.GalleryService."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from oneglance.v1 import gallery_pb2 as pb
from oneglance.v1.common_pb2 import Threshold
from oneglance.v1.error_pb2 import Error
from oneglance.v1.gallery_pb2_grpc import GalleryServiceServicer
from oneglance_index import Gallery
from oneglance_server.errors import (
    CannotCalibrate,
    DetectorNotLoaded,
    EncoderNotLoaded,
    InvalidRequest,
    ThresholdMissing,
)
from oneglance_server.service.calibrating import MAX_CALIBRATION_PROBES, CalibrationProbe
from oneglance_server.service.content import MAX_DESCRIPTION_CHARACTERS, check_text
from oneglance_server.service.galleries import GalleryService
from oneglance_server.service.services import Door
from oneglance_server.servicers.budget import Budget
from oneglance_server.servicers.convert import (
    content_from,
    deadline_of,
    page_from,
    to_calibration,
    to_gallery,
    to_page_token,
    to_threshold,
    to_timestamp,
)
from oneglance_server.servicers.status import status_of, to_error
from oneglance_server.servicers.streams import in_order

Context = grpc.aio.ServicerContext[Any, Any]
# What one probe can have wrong with it; anything else ends the calibration.
_FLAWS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
# Not a flaw of one probe: all others would fail likewise.
_CONCERN_ALL = (CannotCalibrate, EncoderNotLoaded, DetectorNotLoaded)
_MAX_SKIPPED_LISTED = 1000
_PROBES_AT_ONCE = 16  # more would only wait, with their pictures in memory


class GalleryServicer(GalleryServiceServicer):
    def __init__(self, door: Door, stream_window: int, budget: Budget) -> None:
        self._door = door
        self._window = stream_window
        self._budget = budget

    async def CreateGallery(self, request: pb.CreateGalleryRequest, context: Context) -> pb.CreateGalleryResponse:
        galleries = self._door.services.galleries
        description = check_text("description", request.description, MAX_DESCRIPTION_CHARACTERS)
        gallery = await galleries.create(request.gallery_id, request.encoder, description)
        return pb.CreateGalleryResponse(gallery=to_gallery(gallery, galleries))

    async def GetGallery(self, request: pb.GetGalleryRequest, context: Context) -> pb.GetGalleryResponse:
        galleries = self._door.services.galleries
        return pb.GetGalleryResponse(gallery=to_gallery(await galleries.get(request.gallery_id), galleries))

    async def ListGalleries(self, request: pb.ListGalleriesRequest, context: Context) -> pb.ListGalleriesResponse:
        galleries = self._door.services.galleries
        page = await galleries.page(*page_from(request.page_size, request.page_token))
        return pb.ListGalleriesResponse(
            galleries=[to_gallery(gallery, galleries) for gallery in page.galleries],
            next_page_token=to_page_token(page.next_after),
        )

    async def DeleteGallery(self, request: pb.DeleteGalleryRequest, context: Context) -> pb.DeleteGalleryResponse:
        services = self._door.services
        gone = await services.galleries.delete(request.gallery_id)
        services.identification.forget(request.gallery_id)
        return pb.DeleteGalleryResponse(deleted_subjects=gone.subjects)

    async def GetThreshold(self, request: pb.GetThresholdRequest, context: Context) -> pb.GetThresholdResponse:
        galleries = self._door.services.galleries
        gallery = await galleries.get(request.gallery_id)
        tau = galleries.tau(gallery, gallery.subjects)
        evidence = galleries.evidence(gallery, tau)
        return pb.GetThresholdResponse(
            threshold=to_threshold(tau), calibration=to_calibration(evidence) if evidence else None
        )

    async def SetThreshold(self, request: pb.SetThresholdRequest, context: Context) -> pb.SetThresholdResponse:
        galleries = self._door.services.galleries
        tau = request.tau if request.HasField("tau") else None
        gallery = await galleries.set_tau(request.gallery_id, tau)
        return pb.SetThresholdResponse(threshold=_in_force(gallery, galleries))

    async def Calibrate(
        self, request_iterator: AsyncIterable[pb.CalibrateRequest], context: Context
    ) -> pb.CalibrateResponse:
        calibrating = self._door.services.calibration
        deadline = deadline_of(context)
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None or first.WhichOneof("item") != "settings":
            raise InvalidRequest.field("settings", "come first", reason="SETTINGS_MISPLACED")
        settings = first.settings
        target = settings.target_fpir if settings.HasField("target_fpir") else None
        run = await calibrating.begin(settings.gallery_id, target, settings.data)

        async def measure(probe: pb.CalibrationProbe) -> Error | Exception | None:
            try:
                content = content_from(probe.example, "probe.example")
                await run.measure(CalibrationProbe(content, probe.subject, probe.mated), deadline)
            except Exception as error:
                if isinstance(error, _CONCERN_ALL):
                    return error
                foreseen = status_of(error)
                return to_error(error) if foreseen and foreseen[0] in _FLAWS else error
            return None

        skipped: list[pb.SkippedProbe] = []
        count = 0
        window = min(self._window, _PROBES_AT_ONCE)
        async with aclosing(in_order(_probes(requests), measure, window, self._budget)) as outcomes:
            async for index, outcome in outcomes:
                if isinstance(outcome, Exception):  # concerns more than this probe
                    raise outcome
                if isinstance(outcome, Error):
                    count += 1
                    if len(skipped) < _MAX_SKIPPED_LISTED:
                        skipped.append(pb.SkippedProbe(index=index, error=outcome))
        gallery, calibration = await run.finish(
            dry_run=settings.dry_run, skipped=[probe.error.message for probe in skipped]
        )
        return pb.CalibrateResponse(
            threshold=_in_force(gallery, calibrating.galleries),
            calibration=to_calibration(calibration),
            skipped=skipped,
            skipped_count=count,
        )

    async def ListThresholds(self, request: pb.ListThresholdsRequest, context: Context) -> pb.ListThresholdsResponse:
        versions = await self._door.services.galleries.versions(request.gallery_id)
        return pb.ListThresholdsResponse(
            versions=[
                pb.ThresholdVersion(
                    version=version.version,
                    threshold=to_threshold(tau) if tau else None,
                    calibration=to_calibration(calibration) if calibration else None,
                    set_time=None if version.since is None else to_timestamp(version.since),
                )
                for version, tau, calibration in versions
            ]
        )


def _in_force(gallery: Gallery, galleries: GalleryService) -> Threshold | None:
    try:
        return to_threshold(galleries.tau(gallery, gallery.subjects))
    except ThresholdMissing:
        return None


async def _probes(requests: AsyncIterator[pb.CalibrateRequest]) -> AsyncIterator[pb.CalibrationProbe]:
    index = 0
    async for request in requests:
        if request.WhichOneof("item") != "probe":
            raise InvalidRequest.field("settings", "come once, before the probes", reason="SETTINGS_MISPLACED")
        if index == MAX_CALIBRATION_PROBES:
            raise InvalidRequest.field(
                "probe", f"more than {MAX_CALIBRATION_PROBES}", reason="TOO_MANY", limit=MAX_CALIBRATION_PROBES
            )
        yield request.probe
        index += 1
