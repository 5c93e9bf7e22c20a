"""oneglance.v1.GalleryService."""

import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from oneglance.v1 import gallery_pb2 as pb
from oneglance.v1 import moving_pb2 as moving_pb
from oneglance.v1.error_pb2 import Error
from oneglance.v1.gallery_pb2_grpc import GalleryServiceServicer
from oneglance.v1.mapping_pb2 import FillByMapRequest, FillByMapResponse
from oneglance.v1.succession_pb2 import LeftSubject, RefusedCrop
from oneglance_core.defaults import COMPARE_SHARE, FUSION, TARGET_FPIR
from oneglance_core.faces.quality import DEFAULT_POLICY
from oneglance_index import FusionChanged, KnownSubjects, MovedSubject
from oneglance_server.errors import (
    CannotCalibrate,
    DetectorNotLoaded,
    EncoderNotLoaded,
    InvalidRequest,
)
from oneglance_server.offload import off_loop
from oneglance_server.service.calibrating import MAX_CALIBRATION_PROBES, CalibrationProbe
from oneglance_server.service.content import MAX_DESCRIPTION_CHARACTERS, MAX_KNOWN, check_id, check_text
from oneglance_server.service.doubts import DEFAULT_DOUBT_POLICY
from oneglance_server.service.galleries import Version
from oneglance_server.service.services import ReadinessGate
from oneglance_server.servicers.answers import (
    to_backup,
    to_calibration,
    to_comparison,
    to_gallery,
    to_loss,
    to_page_token,
    to_threshold,
    to_timestamp,
)
from oneglance_server.servicers.approximations import approximation_from
from oneglance_server.servicers.moved import (
    chunks,
    moved_gallery_from,
    moved_subject_from,
    moved_threshold_from,
    to_moved_gallery,
    to_moved_subject,
    to_moved_threshold,
)
from oneglance_server.servicers.receiving import Incoming, Received
from oneglance_server.servicers.requests import (
    call_of,
    content_from,
    decided_by_from,
    doubt_policy_from,
    fusion_from,
    page_from,
    policy_from,
    version_from,
)
from oneglance_server.servicers.status import status_of, to_error
from oneglance_server.servicers.streams import in_order

Context = grpc.aio.ServicerContext[Any, Any]
# What one probe can have wrong with it; anything else ends the calibration.
_FLAWS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
# Not a flaw of one probe: all others would fail likewise.
_CONCERN_ALL = (CannotCalibrate, FusionChanged, EncoderNotLoaded, DetectorNotLoaded)
_MAX_SKIPPED_LISTED = 1000
_LISTED_ON_THE_LOOP = 100  # galleries or thresholds: a few milliseconds
_PROBES_AT_ONCE = 16  # more would only wait, with their pictures in memory


class GalleryServicer(GalleryServiceServicer):
    def __init__(self, gate: ReadinessGate, stream_window: int) -> None:
        self._gate = gate
        self._window = stream_window

    async def CreateGallery(self, request: pb.CreateGalleryRequest, context: Context) -> pb.CreateGalleryResponse:
        description = check_text("description", request.description, MAX_DESCRIPTION_CHARACTERS)
        fusion = fusion_from(request.fusion, "fusion", FUSION)
        galleries = self._gate.services.galleries
        target = request.target_fpir if request.HasField("target_fpir") else TARGET_FPIR
        given = request.quality_policy
        policy = policy_from(given, "quality_policy") if given else DEFAULT_POLICY
        doubt = doubt_policy_from(request.doubt_policy, "doubt_policy") if request.doubt_policy else None
        state = await galleries.create(
            call_of(context),
            request.gallery_id,
            request.encoder,
            description,
            fusion,
            target,
            policy,
            request.least_gap,
            doubt or DEFAULT_DOUBT_POLICY,
            decided_by_from(request.decided_by, "decided_by", "distance"),
            request.keep_crops,
        )
        return pb.CreateGalleryResponse(gallery=to_gallery(state))

    async def GetGallery(self, request: pb.GetGalleryRequest, context: Context) -> pb.GetGalleryResponse:
        state = await self._gate.services.galleries.get(call_of(context), request.gallery_id)
        return pb.GetGalleryResponse(gallery=to_gallery(state))

    async def ListGalleries(self, request: pb.ListGalleriesRequest, context: Context) -> pb.ListGalleriesResponse:
        galleries = self._gate.services.galleries
        states, after = await galleries.page(call_of(context), *page_from(request.page_size, request.page_token))
        listed = await off_loop(lambda: list(map(to_gallery, states)), when=len(states) > _LISTED_ON_THE_LOOP)
        return pb.ListGalleriesResponse(galleries=listed, next_page_token=to_page_token(after))

    async def DeleteGallery(self, request: pb.DeleteGalleryRequest, context: Context) -> pb.DeleteGalleryResponse:
        gone = await self._gate.services.galleries.delete(call_of(context), request.gallery_id)
        return pb.DeleteGalleryResponse(deleted_subjects=gone.gallery.subjects, receipt=gone.receipt)

    async def RotateKey(self, request: pb.RotateKeyRequest, context: Context) -> pb.RotateKeyResponse:
        await self._gate.services.galleries.rotate_key(call_of(context), request.gallery_id)
        return pb.RotateKeyResponse()

    async def CreateBackup(self, request: pb.CreateBackupRequest, context: Context) -> pb.CreateBackupResponse:
        made = await self._gate.services.backups.create(call_of(context), request.name)
        return await off_loop(lambda: to_backup(made), when=len(made.galleries) > _LISTED_ON_THE_LOOP)

    async def GetThreshold(self, request: pb.GetThresholdRequest, context: Context) -> pb.GetThresholdResponse:
        tau, evidence = await self._gate.services.galleries.threshold(call_of(context), request.gallery_id)
        return pb.GetThresholdResponse(
            threshold=to_threshold(tau), calibration=to_calibration(evidence) if evidence else None
        )

    async def SetThreshold(self, request: pb.SetThresholdRequest, context: Context) -> pb.SetThresholdResponse:
        tau = request.tau if request.HasField("tau") else None
        galleries = self._gate.services.galleries
        if request.HasField("target_fpir"):
            if tau is not None:
                raise InvalidRequest.field("target_fpir", "tau is either given or follows a target")
            state = await galleries.set_target_fpir(call_of(context), request.gallery_id, request.target_fpir)
        else:
            state = await galleries.set_threshold(call_of(context), request.gallery_id, tau)
        return pb.SetThresholdResponse(threshold=to_threshold(state.tau) if state.tau else None)

    async def SetFusion(self, request: pb.SetFusionRequest, context: Context) -> pb.SetFusionResponse:
        fusion = fusion_from(request.fusion, "fusion")
        state = await self._gate.services.galleries.set_fusion(call_of(context), request.gallery_id, fusion)
        return pb.SetFusionResponse(gallery=to_gallery(state))

    async def SetDecidedBy(self, request: pb.SetDecidedByRequest, context: Context) -> pb.SetDecidedByResponse:
        decided_by = decided_by_from(request.decided_by, "decided_by")
        galleries = self._gate.services.galleries
        state = await galleries.set_decided_by(call_of(context), request.gallery_id, decided_by)
        return pb.SetDecidedByResponse(gallery=to_gallery(state))

    async def SetQualityPolicy(
        self, request: pb.SetQualityPolicyRequest, context: Context
    ) -> pb.SetQualityPolicyResponse:
        policy = policy_from(request.quality_policy, "quality_policy")
        galleries = self._gate.services.galleries
        state = await galleries.set_quality_policy(call_of(context), request.gallery_id, policy)
        return pb.SetQualityPolicyResponse(gallery=to_gallery(state))

    async def SetLeastGap(self, request: pb.SetLeastGapRequest, context: Context) -> pb.SetLeastGapResponse:
        if not request.HasField("least_gap"):
            raise InvalidRequest.field("least_gap", "is required", reason="EMPTY")
        galleries = self._gate.services.galleries
        state = await galleries.set_least_gap(call_of(context), request.gallery_id, request.least_gap)
        return pb.SetLeastGapResponse(gallery=to_gallery(state))

    async def SetApproximation(
        self, request: pb.SetApproximationRequest, context: Context
    ) -> pb.SetApproximationResponse:
        given = request.HasField("approximation")
        approximation = approximation_from(request.approximation, "approximation") if given else None
        galleries = self._gate.services.galleries
        state = await galleries.set_approximation(call_of(context), request.gallery_id, approximation)
        return pb.SetApproximationResponse(gallery=to_gallery(state))

    async def SetDoubtPolicy(self, request: pb.SetDoubtPolicyRequest, context: Context) -> pb.SetDoubtPolicyResponse:
        policy = doubt_policy_from(request.doubt_policy, "doubt_policy")
        galleries = self._gate.services.galleries
        state = await galleries.set_doubt_policy(call_of(context), request.gallery_id, policy)
        return pb.SetDoubtPolicyResponse(gallery=to_gallery(state))

    async def SetKeepCrops(self, request: pb.SetKeepCropsRequest, context: Context) -> pb.SetKeepCropsResponse:
        if not request.HasField("keep_crops"):
            raise InvalidRequest.field("keep_crops", "is required", reason="EMPTY")
        galleries = self._gate.services.galleries
        state = await galleries.set_keep_crops(call_of(context), request.gallery_id, request.keep_crops)
        return pb.SetKeepCropsResponse(gallery=to_gallery(state))

    async def Calibrate(  # type: ignore[override]  # the interceptor makes it an Incoming
        self, request_iterator: Incoming[pb.CalibrateRequest], context: Context
    ) -> pb.CalibrateResponse:
        calibrating = self._gate.services.calibration
        call = call_of(context, patient=True)
        requests = aiter(request_iterator)
        received = await anext(requests, None)
        first = await received.message() if received is not None else None
        if received is not None:
            received.release()
        if first is None or first.WhichOneof("item") != "settings":
            raise InvalidRequest.field("settings", "come first", reason="SETTINGS_MISPLACED")
        settings = first.settings
        target = settings.target_fpir if settings.HasField("target_fpir") else None
        run = await calibrating.begin(call, settings.gallery_id, target, settings.data)

        async def measure(request: pb.CalibrateRequest) -> Error | Exception | None:
            if request.WhichOneof("item") != "probe":
                return InvalidRequest.field("settings", "come once, before the probes", reason="SETTINGS_MISPLACED")
            probe = request.probe
            try:
                content = content_from(probe.example, "probe.example")
                await run.measure(CalibrationProbe(content, probe.subject, probe.mated))
            except Exception as error:
                if isinstance(error, _CONCERN_ALL):
                    return error
                foreseen = status_of(error)
                return to_error(error) if foreseen and foreseen[0] in _FLAWS else error
            return None

        skipped: list[pb.SkippedProbe] = []
        count = 0
        window = min(self._window, _PROBES_AT_ONCE)
        async with aclosing(in_order(call, _at_most_all(requests), measure, window)) as outcomes:
            async for index, outcome in outcomes:
                if isinstance(outcome, Exception):  # concerns more than this probe
                    raise outcome
                if isinstance(outcome, Error):
                    count += 1
                    if len(skipped) < _MAX_SKIPPED_LISTED:
                        skipped.append(pb.SkippedProbe(index=index, error=outcome))
        state, calibration = await run.finish(
            dry_run=settings.dry_run, skipped=[probe.error.message for probe in skipped]
        )
        return pb.CalibrateResponse(
            threshold=to_threshold(state.tau) if state.tau else None,
            calibration=to_calibration(calibration),
            skipped=skipped,
            skipped_count=count,
        )

    async def ListThresholds(self, request: pb.ListThresholdsRequest, context: Context) -> pb.ListThresholdsResponse:
        size, token = page_from(request.page_size, request.page_token)
        galleries = self._gate.services.galleries
        versions, after = await galleries.versions(call_of(context), request.gallery_id, size, version_from(token))
        listed = await off_loop(lambda: list(map(_to_version, versions)), when=len(versions) > _LISTED_ON_THE_LOOP)
        return pb.ListThresholdsResponse(
            versions=listed, next_page_token=to_page_token(None if after is None else str(after))
        )

    async def StartMove(self, request: pb.StartMoveRequest, context: Context) -> pb.StartMoveResponse:
        share = request.compare_share if request.HasField("compare_share") else COMPARE_SHARE
        state = await self._gate.services.succession.start(
            call_of(context), request.gallery_id, request.successor_id, request.encoder, share
        )
        return pb.StartMoveResponse(successor=to_gallery(state))

    async def GetMove(self, request: pb.GetMoveRequest, context: Context) -> pb.GetMoveResponse:
        report = await self._gate.services.succession.get(call_of(context), request.gallery_id)
        return pb.GetMoveResponse(
            gallery=to_gallery(report.gallery),
            waiting=to_gallery(report.waiting),
            left_count=report.state.left,
            lacking_negatives_count=report.state.without_negatives,
            fewer_encodings_count=report.state.fewer_encodings,
            comparison=to_comparison(report.comparison),
            mapped_count=report.state.mapped,
            with_crops_count=report.state.with_crops,
        )

    async def ListLeft(self, request: pb.ListLeftRequest, context: Context) -> pb.ListLeftResponse:
        size, after = page_from(request.page_size, request.page_token)
        page = await self._gate.services.succession.left(call_of(context), request.gallery_id, size, after)
        return pb.ListLeftResponse(
            subjects=[
                LeftSubject(subject_id=one.subject_id, lacks_negatives=one.lacks_negatives, mapped=one.mapped)
                for one in page.subjects
            ],
            next_page_token=to_page_token(page.next_after),
        )

    async def FillFromCrops(self, request: pb.FillFromCropsRequest, context: Context) -> pb.FillFromCropsResponse:
        size, after = page_from(request.page_size, request.page_token)
        call = call_of(context, patient=True)
        filled = await self._gate.services.filling.fill(call, request.gallery_id, request.fewer, size, after)
        return pb.FillFromCropsResponse(
            moved_count=filled.moved,
            changed_count=filled.changed,
            refused=[
                RefusedCrop(subject_id=one.subject_id, encoding_id=one.encoding_id, error=to_error(one.error))
                for one in filled.refused
            ],
            next_page_token=to_page_token(filled.next_after),
        )

    async def FillByMap(  # type: ignore[override]  # the interceptor makes it an Incoming
        self, request_iterator: Incoming[FillByMapRequest], context: Context
    ) -> AsyncIterator[FillByMapResponse]:
        mapping = self._gate.services.mapping
        call = call_of(context, patient=True)
        request: FillByMapRequest | None = None
        async for received in request_iterator:
            if request is not None:
                raise InvalidRequest("one request, and no more", reason="SETTINGS_MISPLACED")
            request = await received.message()
            received.release()
        if request is None:
            raise InvalidRequest.field("gallery_id", "is required", reason="EMPTY")
        fitted = await mapping.fit(call, request.gallery_id)
        yield FillByMapResponse(loss=to_loss(fitted.loss), subject_count=fitted.subjects)
        if request.dry_run:
            return
        async for step in mapping.fill(call, fitted):
            yield FillByMapResponse(
                mapped_count=step.mapped,
                subject_count=fitted.subjects,
                refused_count=step.refused,
                finished=step.finished,
            )

    async def CutOver(self, request: pb.CutOverRequest, context: Context) -> pb.CutOverResponse:
        succession = self._gate.services.succession
        state = await succession.cut_over(call_of(context), request.gallery_id, request.leave)
        return pb.CutOverResponse(gallery=to_gallery(state))

    async def RollBack(self, request: pb.RollBackRequest, context: Context) -> pb.RollBackResponse:
        succession = self._gate.services.succession
        state = await succession.roll_back(call_of(context), request.gallery_id, request.leave)
        return pb.RollBackResponse(gallery=to_gallery(state))

    async def EndMove(self, request: pb.EndMoveRequest, context: Context) -> pb.EndMoveResponse:
        state = await self._gate.services.succession.end(call_of(context), request.gallery_id, request.keep_waiting)
        return pb.EndMoveResponse(gallery=to_gallery(state))

    async def ExportGallery(  # type: ignore[override]  # the interceptor makes it an Incoming
        self, request_iterator: Incoming[moving_pb.ExportGalleryRequest], context: Context
    ) -> AsyncIterator[moving_pb.ExportGalleryResponse]:
        moving = self._gate.services.moving
        call = call_of(context, patient=True)
        settings: moving_pb.ExportSettings | None = None
        numbers: list[NDArray[np.int64]] = []
        versions: list[NDArray[np.uint64]] = []
        async for received in request_iterator:
            message = await received.message()
            received.release()
            if (message.WhichOneof("item") == "settings") != (settings is None):
                raise InvalidRequest.field("settings", "come first, and once", reason="SETTINGS_MISPLACED")
            if settings is None:
                settings = message.settings
                call.need("move", check_id("settings.gallery_id", settings.gallery_id))
            elif len(message.known.numbers) != len(message.known.versions):
                raise InvalidRequest.field("known.versions", "as many as numbers are required")
            else:
                numbers.append(np.array(message.known.numbers, np.int64))
                versions.append(np.array(message.known.versions, np.uint64))
        if settings is None:
            raise InvalidRequest.field("settings", "come first", reason="SETTINGS_MISPLACED")
        known = KnownSubjects.none()
        if numbers:
            known = KnownSubjects(np.concatenate(numbers), np.concatenate(versions))
            if (known.numbers[1:] <= known.numbers[:-1]).any():
                raise InvalidRequest.field("known.numbers", "must ascend")
        gallery = await moving.export_begun(call, settings.gallery_id, settings.gallery_uid, known)
        unit = moving.unit_norm(gallery.active.encoder_digest)
        begun = moving_pb.ExportBegun(gallery_uid=gallery.uid, gallery=to_moved_gallery(gallery, unit))
        yield moving_pb.ExportGalleryResponse(begun=begun)
        async for part in moving.export(call, gallery, known):
            subjects = part if isinstance(part, list) else part.subjects or ()
            if not isinstance(part, list):
                for start in range(0, len(part.gone), MAX_KNOWN):
                    gone = moving_pb.ExportGone(numbers=part.gone[start : start + MAX_KNOWN].tolist())
                    yield moving_pb.ExportGalleryResponse(gone=gone)
            for some in chunks(subjects, lambda one: one.nbytes):
                made = await off_loop(functools.partial(_moved, some))
                yield moving_pb.ExportGalleryResponse(subjects=moving_pb.MovedSubjects(subjects=made))
            if not isinstance(part, list) and part.thresholds is not None:
                for listed in chunks(part.thresholds, lambda one: 128 + 4 * len(one.calibration or "")):
                    moved = moving_pb.MovedThresholds(thresholds=map(to_moved_threshold, listed))
                    yield moving_pb.ExportGalleryResponse(thresholds=moved)
                yield moving_pb.ExportGalleryResponse(done=to_moved_gallery(part.gallery, unit))

    async def ImportGallery(  # type: ignore[override]  # the interceptor makes it an Incoming
        self, request_iterator: Incoming[moving_pb.ImportGalleryRequest], context: Context
    ) -> AsyncIterator[moving_pb.ImportGalleryResponse]:
        moving = self._gate.services.moving
        call = call_of(context, patient=True)
        settings: moving_pb.ImportSettings | None = None
        done = 0
        async for received in request_iterator:
            message = await received.message()
            try:
                kind = message.WhichOneof("item")
                if (kind == "settings") != (settings is None):
                    raise InvalidRequest.field("settings", "come first, and once", reason="SETTINGS_MISPLACED")
                if settings is None:
                    settings = message.settings
                    moving.allow_import(call, settings.gallery_id)
                    gallery = moved_gallery_from(settings.gallery, "settings.gallery")
                    done = await moving.begin_import(call, settings.gallery_id, gallery, settings.digest)
                elif kind == "subjects":
                    given = [
                        moved_subject_from(one, f"subjects[{i}]") for i, one in enumerate(message.subjects.subjects)
                    ]
                    done = await moving.import_subjects(
                        *(call, settings.gallery_id, settings.digest, done, given, settings.gallery.encoder_digest)
                    )
                else:
                    listed = message.thresholds.thresholds
                    versions = [moved_threshold_from(one, f"thresholds[{i}]") for i, one in enumerate(listed)]
                    await moving.import_thresholds(settings.gallery_id, settings.digest, versions)
            finally:
                received.release()
            yield moving_pb.ImportGalleryResponse(subject_count=done)
        if settings is None:
            raise InvalidRequest.field("settings", "come first", reason="SETTINGS_MISPLACED")
        await moving.finish_import(settings.gallery_id, settings.digest)
        yield moving_pb.ImportGalleryResponse(subject_count=done, finished=True)


def _moved(subjects: Sequence[MovedSubject]) -> list[moving_pb.MovedSubject]:
    return list(map(to_moved_subject, subjects))


def _to_version(kept: Version) -> pb.ThresholdVersion:
    version, tau, calibration = kept
    return pb.ThresholdVersion(
        version=version.version,
        threshold=to_threshold(tau) if tau else None,
        calibration=to_calibration(calibration) if calibration else None,
        set_time=None if version.since is None else to_timestamp(version.since),
        subject_count=version.subjects,
        encoding_count=version.encodings,
    )


async def _at_most_all(
    requests: AsyncIterator[Received[pb.CalibrateRequest]],
) -> AsyncIterator[Received[pb.CalibrateRequest]]:
    index = 0
    async for request in requests:
        if index == MAX_CALIBRATION_PROBES:
            raise InvalidRequest.field(
                "probe", f"more than {MAX_CALIBRATION_PROBES}", reason="TOO_MANY", limit=MAX_CALIBRATION_PROBES
            )
        yield request
        index += 1
