# Generated from async_client.py by scripts/unasync.py. Do not edit.
"""The synchronous client: one method per RPC."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterable, Iterator, Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from oneglance.addresses import is_loopback
from oneglance.client.errors import UnavailableError, from_error, raise_from, retry_after
from oneglance.client.link import Link, calling, checked_seconds
from oneglance.client.requests import (
    DECIDED_BY,
    DOUBT_POLICIES,
    ENCODED_BYTES,
    FUSIONS,
    ON_EXISTING,
    QUALITY_POLICIES,
    SMALL_FACES,
    DecidedByName,
    DoubtPolicy,
    ExampleLike,
    FaceChoice,
    FusionName,
    OnExisting,
    PictureFormatName,
    QualityPolicy,
    SmallFaces,
    StylesLike,
    enroll_request,
    example,
    identify_request,
    stream_settings,
    stylize_settings,
)
from oneglance.client.requests import picture as picture_bytes
from oneglance.client.retrying import check_size, checked_retries, pause_before_retry
from oneglance.client.texts import names_bad_texts
from oneglance.defaults import FILLED_AT_ONCE, MAX_MESSAGE_BYTES, MAX_PAGE_SIZE, SERVER_ADDRESS
from oneglance.v1.access_pb2 import (
    ApiKey,
    CreateApiKeyRequest,
    CreateApiKeyResponse,
    GetIdentityRequest,
    GetIdentityResponse,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
)
from oneglance.v1.access_pb2_grpc import AccessServiceStub
from oneglance.v1.approximation_pb2 import Approximation
from oneglance.v1.common_pb2 import SubjectFilter, Threshold
from oneglance.v1.detection_pb2 import DetectFacesRequest, DetectFacesResponse
from oneglance.v1.detection_pb2_grpc import DetectionServiceStub
from oneglance.v1.gallery_pb2 import (
    CalibrateRequest,
    CalibrateResponse,
    CalibrationProbe,
    CalibrationSettings,
    CreateBackupRequest,
    CreateBackupResponse,
    CreateGalleryRequest,
    CutOverRequest,
    DeleteGalleryRequest,
    DeleteGalleryResponse,
    EndMoveRequest,
    FillFromCropsRequest,
    FillFromCropsResponse,
    Gallery,
    GetGalleryRequest,
    GetMoveRequest,
    GetMoveResponse,
    GetThresholdRequest,
    ListGalleriesRequest,
    ListLeftRequest,
    ListThresholdsRequest,
    RollBackRequest,
    RotateKeyRequest,
    SetApproximationRequest,
    SetDecidedByRequest,
    SetDoubtPolicyRequest,
    SetFusionRequest,
    SetKeepCropsRequest,
    SetLeastGapRequest,
    SetQualityPolicyRequest,
    SetThresholdRequest,
    StartMoveRequest,
    ThresholdVersion,
)
from oneglance.v1.gallery_pb2_grpc import GalleryServiceStub
from oneglance.v1.identification_pb2 import (
    EncodeRequest,
    EncodeResponse,
    IdentifyRequest,
    IdentifyResponse,
    IdentifyStreamRequest,
    IdentifyStreamResponse,
    ListLookAlikesRequest,
    ListLookAlikesResponse,
    VerifyRequest,
    VerifyResponse,
)
from oneglance.v1.identification_pb2_grpc import IdentificationServiceStub
from oneglance.v1.mapping_pb2 import FillByMapRequest, FillByMapResponse
from oneglance.v1.model_pb2 import DescribeModelRequest, DescribeModelResponse, ListModelsRequest, Model
from oneglance.v1.model_pb2_grpc import ModelServiceStub
from oneglance.v1.moving_pb2 import (
    ExportGalleryRequest,
    ExportGalleryResponse,
    ImportGalleryRequest,
    ImportGalleryResponse,
)
from oneglance.v1.server_pb2 import GetServerRequest, GetServerResponse
from oneglance.v1.server_pb2_grpc import ServerServiceStub
from oneglance.v1.stylization_pb2 import (
    CreateStyleRequest,
    DeleteStyleRequest,
    ListStylesRequest,
    StreamSettings,
    Style,
    StylizedPicture,
    StylizeRequest,
    StylizeStreamRequest,
    StylizeStreamResponse,
)
from oneglance.v1.stylization_pb2_grpc import StylizationServiceStub
from oneglance.v1.subject_pb2 import (
    AddNegativeRequest,
    AddNegativeResponse,
    BulkEnrollRequest,
    BulkEnrollResponse,
    CountSubjectsRequest,
    CountSubjectsResponse,
    DeleteEncodingRequest,
    DeleteEncodingResponse,
    DeleteNegativeRequest,
    DeleteNegativeResponse,
    DeleteSubjectRequest,
    DeleteSubjectResponse,
    DeleteSubjectsRequest,
    DeleteSubjectsResponse,
    EncodedOutcome,
    EncodedSubject,
    EncodedSubjects,
    EnrollRequest,
    EnrollResponse,
    ExpiredSubject,
    GetSubjectRequest,
    ListExpiredRequest,
    ListSubjectsRequest,
    MergeSubjectsRequest,
    MergeSubjectsResponse,
    MoveEncodingRequest,
    MoveEncodingResponse,
    RenameSubjectRequest,
    RenameSubjectResponse,
    Retention,
    SetRetentionRequest,
    SetRetentionResponse,
    Subject,
    UpdateLabelsRequest,
    UpdateLabelsResponse,
)
from oneglance.v1.subject_pb2_grpc import SubjectServiceStub
from oneglance.v1.succession_pb2 import LeftSubject

Req = TypeVar("Req")
Res = TypeVar("Res")
Stub = TypeVar("Stub")
HEALTH_CHECK = "/grpc.health.v1.Health/Check"


@names_bad_texts
class Client:
    """A connection to an oneglance server.

    Args:
        target: ``host:port``, or ``unix:/path`` of a socket on this machine.
        timeout_seconds: deadline of each unary call, above 0 and at most 1,000,000; streams, ``calibrate`` and
            ``create_backup`` have none, but by ``with_options``.
        retry: send a unary call again when the server refused it for a full queue, as soon as the server says, as long
            as the deadline allows. Nothing was done for a call that was refused.
        retries: how often a call that may safely be made twice is sent again when the server can't be reached or can't
            answer now (UNAVAILABLE): calls that only read, and ``enroll`` with a ``request_id``. With growing pauses,
            as long as the deadline allows.
        credentials: for TLS, see ``tls_credentials``; None: the connection is not encrypted.
        token: an API key or a token, sent with each call; or what returns one, asked for each. Without ``credentials``
            only this machine may be the target, lest others read it: loopback, or a socket whose file is the user's own
            or root's.

    Every method raises :class:`oneglance.client.errors.OneglanceError`; ValueError or TypeError for a wrong argument,
    OSError for a path that can't be read, and what an iterator or a ``token`` of the caller's raises. Distances are
    squared L2.
    """

    def __init__(
        self,
        target: str = SERVER_ADDRESS,
        *,
        timeout_seconds: float = 30.0,
        retry: bool = True,
        retries: int = 0,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | Callable[[], str] | None = None,
    ) -> None:
        local = is_loopback(target)
        if token is not None and credentials is None and not local:
            raise ValueError(f"a token would be readable on its way to {target}: give credentials for TLS, too")
        options: list[tuple[str, int]] = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", 20_000),  # during a call: detects a host that vanished
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.max_reconnect_backoff_ms", 5_000),
        ]
        if local:
            options.append(("grpc.enable_http_proxy", 0))  # else gRPC sends even loopback through $http_proxy
        self.target = target
        self._timeout = checked_seconds("timeout_seconds", timeout_seconds)
        self._long_timeout: float | None = None  # of calls that last as long as what they are given
        self._retry = retry
        self._retries = checked_retries(retries)
        self._token = token
        self._link = Link(target, credentials, options)
        self._stubs: dict[object, Any] = {}

    @property
    def _channel(self) -> grpc.Channel:
        return self._link.channel()

    def _stub(self, kind: Callable[[grpc.Channel], Stub]) -> Stub:
        channel = self._channel
        if kind not in self._stubs:
            self._stubs[kind] = kind(channel)
        stub: Stub = self._stubs[kind]
        return stub

    @property
    def _access(self) -> AccessServiceStub:
        return self._stub(AccessServiceStub)

    @property
    def _galleries(self) -> GalleryServiceStub:
        return self._stub(GalleryServiceStub)

    @property
    def _subjects(self) -> SubjectServiceStub:
        return self._stub(SubjectServiceStub)

    @property
    def _identification(self) -> IdentificationServiceStub:
        return self._stub(IdentificationServiceStub)

    @property
    def _detection(self) -> DetectionServiceStub:
        return self._stub(DetectionServiceStub)

    @property
    def _models(self) -> ModelServiceStub:
        return self._stub(ModelServiceStub)

    @property
    def _server(self) -> ServerServiceStub:
        return self._stub(ServerServiceStub)

    @property
    def _stylization(self) -> StylizationServiceStub:
        return self._stub(StylizationServiceStub)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls that are running fail."""
        self._link.close()

    def with_options(self, *, timeout_seconds: float | None = None, retries: int | None = None) -> Self:
        """The same client, over the same connection, with another deadline or other retries for the calls made by it:
        ``client.with_options(timeout_seconds=2, retries=3).identify(...)``. None: as before.

        timeout_seconds: of every call, also of streams, from the first request to the last answer.
        retries: of the calls that may be made twice; never of a stream.
        """
        other = copy.copy(self)
        if timeout_seconds is not None:
            other._timeout = other._long_timeout = checked_seconds("timeout_seconds", timeout_seconds)
        if retries is not None:
            other._retries = checked_retries(retries)
        return other

    def wait_until_serving(
        self, timeout_seconds: float = 60.0, service: str = "", *, any_answer: bool = False
    ) -> None:
        """Return once the server serves. Raises UnavailableError after ``timeout_seconds``.

        service: one of the server's, as ``oneglance.v1.IdentificationService``; "" is the server as a whole.
        any_answer: return as soon as the health check is answered, whatever it says: the server lives.
        """
        until = time.monotonic() + checked_seconds("timeout_seconds", timeout_seconds, above_zero=False)
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(HEALTH_CHECK)
        # HealthCheckRequest(service=...), and HealthCheckResponse(status=SERVING).
        name = service.encode()[:127]
        asked, serving = (b"\x0a" + bytes([len(name)]) + name if name else b""), b"\x08\x01"
        while (left := until - time.monotonic()) > 0:
            try:
                with calling(self._link):
                    if check(asked, timeout=min(1.0, left)) == serving or any_answer:
                        return
            except grpc.RpcError:
                pass
            time.sleep(0.1)
        raise UnavailableError(f"no server is serving at {self.target} after {timeout_seconds:g} s")

    # Galleries

    def create_gallery(
        self,
        gallery_id: str,
        *,
        encoder: str = "",
        description: str = "",
        fusion: FusionName = "",
        target_fpir: float | None = None,
        quality_policy: QualityPolicy = "",
        least_gap: float = 0.0,
        doubt_policy: DoubtPolicy = "",
        decided_by: DecidedByName = "",
        keep_crops: bool = False,
    ) -> Gallery:
        """Create an empty gallery for ``encoder`` (name or digest; may be empty when only one is loaded).

        fusion: how a subject's encodings become one distance; empty: the server's default.
        target_fpir: share of strangers that may be let in, which tau follows; None: the server's default.
        quality_policy: what it demands of faces; empty: the server's default.
        least_gap: how much nearer than the next subject one must be to be identified.
        doubt_policy: what is done about doubtful enrollments; empty: the server's default.
        decided_by: the distance, or the probability of the encoder's pair head; empty: the distance.
        keep_crops: keep a crop of each picture that is enrolled, to move to another encoder by.
        """
        request = CreateGalleryRequest(
            gallery_id=gallery_id,
            encoder=encoder,
            description=description,
            fusion=FUSIONS[fusion],
            target_fpir=target_fpir,
            quality_policy=QUALITY_POLICIES[quality_policy],
            least_gap=least_gap,
            doubt_policy=DOUBT_POLICIES[doubt_policy],
            decided_by=DECIDED_BY[decided_by],
            keep_crops=keep_crops,
        )
        return (self._call(self._galleries.CreateGallery, request)).gallery

    def get_gallery(self, gallery_id: str) -> Gallery:
        """A gallery: its encoder, size, revision and threshold."""
        request = GetGalleryRequest(gallery_id=gallery_id)
        return (self._call(self._galleries.GetGallery, request)).gallery

    def list_galleries(self) -> Iterator[Gallery]:
        """All galleries, sorted by id."""
        token = ""
        for _ in itertools.count():
            request = ListGalleriesRequest(page_size=MAX_PAGE_SIZE, page_token=token)
            page = self._call(self._galleries.ListGalleries, request)
            for gallery in page.galleries:
                yield gallery
            token = page.next_page_token
            if not token:
                return

    def delete_gallery(self, gallery_id: str) -> DeleteGalleryResponse:
        """Delete a gallery with all subjects. Done, and on disk, when the call returns."""
        request = DeleteGalleryRequest(gallery_id=gallery_id)
        return self._call(self._galleries.DeleteGallery, request)

    def rotate_key(self, gallery_id: str = "") -> None:
        """Give a gallery another key, or (no id) all of them another master key. What is stored stays as it is; backups
        that were made before need the former master key."""
        self._call(self._galleries.RotateKey, RotateKeyRequest(gallery_id=gallery_id))

    def create_backup(self, name: str) -> CreateBackupResponse:
        """Make a backup of all galleries, checked, a new file in the server's folder for them."""
        try:
            with calling(self._link):
                request = CreateBackupRequest(name=name)
                return self._galleries.CreateBackup(
                    request, timeout=self._long_timeout, metadata=self._metadata()
                )
        except grpc.RpcError as error:
            raise_from(error)

    def get_threshold(self, gallery_id: str) -> Threshold:
        """The tau that decisions in this gallery use, and where it comes from."""
        request = GetThresholdRequest(gallery_id=gallery_id)
        return (self._call(self._galleries.GetThreshold, request)).threshold

    def set_threshold(self, gallery_id: str, tau: float | None, *, target_fpir: float | None = None) -> Threshold:
        """Give the gallery a tau of its own (squared L2, or 1 - probability). None: go back to the target's or model's.

        target_fpir: with tau None, a share of strangers that may be let in, which tau follows.
        """
        request = SetThresholdRequest(gallery_id=gallery_id, tau=tau, target_fpir=target_fpir)
        return (self._call(self._galleries.SetThreshold, request)).threshold

    def set_fusion(self, gallery_id: str, fusion: FusionName) -> Gallery:
        """Change how a subject's encodings become one distance. Clears the gallery's own tau."""
        request = SetFusionRequest(gallery_id=gallery_id, fusion=FUSIONS[fusion])
        return (self._call(self._galleries.SetFusion, request)).gallery

    def set_decided_by(self, gallery_id: str, decided_by: DecidedByName) -> Gallery:
        """Change whether distances decide or the pair head's probability. Clears the gallery's own tau."""
        request = SetDecidedByRequest(gallery_id=gallery_id, decided_by=DECIDED_BY[decided_by])
        return (self._call(self._galleries.SetDecidedBy, request)).gallery

    def set_quality_policy(self, gallery_id: str, policy: QualityPolicy) -> Gallery:
        """Set what the gallery demands of faces from now on. What is enrolled stays."""
        request = SetQualityPolicyRequest(gallery_id=gallery_id, quality_policy=QUALITY_POLICIES[policy])
        return (self._call(self._galleries.SetQualityPolicy, request)).gallery

    def set_least_gap(self, gallery_id: str, least_gap: float) -> Gallery:
        """Set how much nearer than the next subject one must be to be identified; 0: it need not be."""
        request = SetLeastGapRequest(gallery_id=gallery_id, least_gap=least_gap)
        return (self._call(self._galleries.SetLeastGap, request)).gallery

    def set_approximation(
        self, gallery_id: str, mates_found: float | None = 0.999, *, exact_on_alarm: bool = False
    ) -> Gallery:
        """Let the gallery's answers lose something, so that searches read a part of it only.

        mates_found: of the probes that exact search gives a subject, the share that gets the same answer at least;
            None: answers are exact again.
        exact_on_alarm: they are, too, once live probes show that the share isn't held; else searches read more then.
        """
        approximation = None
        if mates_found is not None:
            approximation = Approximation(mates_found=mates_found, exact_on_alarm=exact_on_alarm)
        request = SetApproximationRequest(gallery_id=gallery_id, approximation=approximation)
        return (self._call(self._galleries.SetApproximation, request)).gallery

    def set_doubt_policy(self, gallery_id: str, policy: DoubtPolicy) -> Gallery:
        """Set what is done about doubtful enrollments from now on. What is enrolled stays."""
        request = SetDoubtPolicyRequest(gallery_id=gallery_id, doubt_policy=DOUBT_POLICIES[policy])
        return (self._call(self._galleries.SetDoubtPolicy, request)).gallery

    def set_keep_crops(self, gallery_id: str, keep_crops: bool) -> Gallery:
        """Set whether crops of pictures are kept from now on. If not, those that there are are deleted."""
        request = SetKeepCropsRequest(gallery_id=gallery_id, keep_crops=keep_crops)
        return (self._call(self._galleries.SetKeepCrops, request)).gallery

    def calibrate(
        self,
        gallery_id: str,
        probes: Iterable[CalibrationProbe],
        *,
        target_fpir: float | None = None,
        dry_run: bool = False,
        data: str = "",
    ) -> CalibrateResponse:
        """Fit the gallery's tau to ``target_fpir`` on probes of strangers.

        probes: made with ``stranger``; and with ``mate`` to measure the FNIR, too.
        target_fpir: None: the server's default.
        dry_run: measure only; else the tau is in force when the call returns.
        data: what the probes are; kept with the calibration.
        """
        settings = CalibrationSettings(gallery_id=gallery_id, target_fpir=target_fpir, dry_run=dry_run, data=data)
        failures: list[Exception] = []

        def messages() -> Iterator[CalibrateRequest]:
            yield CalibrateRequest(settings=settings)
            try:
                for probe in probes:
                    yield CalibrateRequest(probe=probe)
            except Exception as error:
                failures.append(error)
                raise

        try:
            with calling(self._link):
                return self._galleries.Calibrate(
                    messages(), timeout=self._long_timeout, metadata=self._metadata()
                )
        except grpc.RpcError as error:
            if failures:
                raise failures[0] from None
            raise_from(error)

    def list_thresholds(self, gallery_id: str) -> Iterator[ThresholdVersion]:
        """Every threshold that the gallery has had, the newest first."""
        token = ""
        for _ in itertools.count():
            request = ListThresholdsRequest(gallery_id=gallery_id, page_size=MAX_PAGE_SIZE, page_token=token)
            page = self._call(self._galleries.ListThresholds, request)
            for version in page.versions:
                yield version
            token = page.next_page_token
            if not token:
                return

    def start_move(
        self, gallery_id: str, successor_id: str, encoder: str, *, compare_share: float | None = None
    ) -> Gallery:
        """Make the empty gallery of another encoder that is to take a gallery's place. The two are in step from
        here on. Fill it with ``enroll`` and the like; then ``cut_over``.

        encoder: name or digest of a loaded model. compare_share: of the calls of ``identify`` with pictures, the share
            that both galleries are asked; None: the server's default.
        """
        request = StartMoveRequest(
            gallery_id=gallery_id, successor_id=successor_id, encoder=encoder, compare_share=compare_share
        )
        return (self._call(self._galleries.StartMove, request)).successor

    def get_move(self, gallery_id: str) -> GetMoveResponse:
        """How far the move of a gallery has come, by either of its two galleries."""
        return self._call(self._galleries.GetMove, GetMoveRequest(gallery_id=gallery_id))

    def list_left(self, gallery_id: str) -> Iterator[LeftSubject]:
        """Every subject that is left to be moved, by id."""
        token = ""
        for _ in itertools.count():
            request = ListLeftRequest(gallery_id=gallery_id, page_size=MAX_PAGE_SIZE, page_token=token)
            page = self._call(self._galleries.ListLeft, request)
            for subject in page.subjects:
                yield subject
            token = page.next_page_token
            if not token:
                return

    def fill_by_map(self, gallery_id: str, *, dry_run: bool = False) -> Iterator[FillByMapResponse]:
        """A stop-gap: enroll whoever is left into the successor, with encodings that a map makes of the origin's.

        The first answer tells what the map costs, in FNIR; the others how far it has come. dry_run: the first one only,
        and nothing is written. Ended, it goes on when it is called again.
        """

        def messages() -> Iterator[FillByMapRequest]:
            yield FillByMapRequest(gallery_id=gallery_id, dry_run=dry_run)

        for response in self._stream(self._galleries.FillByMap, messages()):
            yield response

    def fill_from_crops(self, gallery_id: str, *, fewer: bool = False) -> Iterator[FillFromCropsResponse]:
        """Fill the gallery that waits from the crops that the one that answers keeps: what came of some subjects after
        the other. Ended, it goes on when it is called again.

        fewer: move a subject also where the encoder refuses some of its crops, or where some of its encodings have
            none; else it is left.
        """
        token = ""
        for _ in itertools.count():
            request = FillFromCropsRequest(
                gallery_id=gallery_id, fewer=fewer, page_size=FILLED_AT_ONCE, page_token=token
            )
            page = self._call(self._galleries.FillFromCrops, request)
            yield page
            token = page.next_page_token
            if not token:
                return

    def cut_over(self, gallery_id: str, *, leave: bool = False) -> Gallery:
        """Let the successor answer under the gallery's id from now on, and the origin wait.

        leave: subjects that are left to be moved are in no answer then, until ``roll_back``; else that is refused.
        """
        return (self._call(self._galleries.CutOver, CutOverRequest(gallery_id=gallery_id, leave=leave))).gallery

    def roll_back(self, gallery_id: str, *, leave: bool = False) -> Gallery:
        """Let the origin answer again, and the successor wait. leave: as of ``cut_over``."""
        return (self._call(self._galleries.RollBack, RollBackRequest(gallery_id=gallery_id, leave=leave))).gallery

    def end_move(self, gallery_id: str, *, keep_waiting: bool = False) -> Gallery:
        """End the move, and delete the gallery that waits, unless ``keep_waiting``."""
        request = EndMoveRequest(gallery_id=gallery_id, keep_waiting=keep_waiting)
        return (self._call(self._galleries.EndMove, request)).gallery

    def export_gallery(
        self, requests: Iterable[ExportGalleryRequest]
    ) -> Iterator[ExportGalleryResponse]:
        """Everything that a gallery has, its encodings included. ``oneglance export-gallery`` makes files of it."""
        for response in self._stream(self._galleries.ExportGallery, requests):
            yield response

    def import_gallery(
        self, requests: Iterable[ImportGalleryRequest]
    ) -> Iterator[ImportGalleryResponse]:
        """Makes a gallery of what an export brought; an answer to each request, and one once the gallery answers."""
        for response in self._stream(self._galleries.ImportGallery, requests):
            yield response

    # Subjects

    def enroll(
        self,
        gallery_id: str,
        subject_id: str,
        *examples: ExampleLike,
        face: FaceChoice = None,
        labels: Mapping[str, str] | None = None,
        on_existing: OnExisting = "add",
        request_id: str = "",
        accept_breaches: bool = False,
        doubt_policy: DoubtPolicy = "",
        retention: Retention | None = None,
    ) -> EnrollResponse:
        """Enroll a subject from one or several examples. It is on disk when the call returns.

        face: which face of each photo to take, as ``oneglance.photo`` explains; None: the only one.
        accept_breaches: also examples outside the limits of the gallery's quality policy or of the encoder's input.
        doubt_policy: what is done if it is doubtful: like another subject, or unlike the subject's own; empty: the
            gallery's.
        retention: how long the subject may be kept, and why; ``oneglance.retention`` makes it. None: as it was.
        """
        request = enroll_request(
            gallery_id,
            subject_id,
            *examples,
            face=face,
            labels=labels,
            on_existing=on_existing,
            request_id=request_id,
            accept_breaches=accept_breaches,
            doubt_policy=doubt_policy,
            retention=retention,
        )
        return self._call(self._subjects.Enroll, request)

    def bulk_enroll(self, items: Iterable[EnrollRequest]) -> Iterator[BulkEnrollResponse]:
        """Enroll many over one stream; ``enroll_request`` makes the items. Answers come in the order of the items."""

        def messages() -> Iterator[BulkEnrollRequest]:
            for item in items:
                yield BulkEnrollRequest(item=item)

        for response in self._stream(self._subjects.BulkEnroll, messages()):
            yield response

    def bulk_enroll_encodings(
        self,
        gallery_id: str,
        subjects: Iterable[EncodedSubject],
        *,
        encoder_digest: str,
        on_existing: OnExisting = "add",
        doubt_policy: DoubtPolicy = "",
        at_once: int = 512,
    ) -> Iterator[EncodedOutcome]:
        """Enroll many subjects whose encodings there are already; ``encoded_subject`` makes them.

        Gives an outcome for each, in order: once it comes, the subject is durable, or has an ``error``.

        encoder_digest: of the encoder that made them.
        doubt_policy: "off" where the gallery's isn't: nobody is compared with anybody.
        at_once: subjects in one message, at most 1,024; they are written together.
        """
        settings = EncodedSubjects(
            gallery_id=gallery_id,
            encoder_digest=encoder_digest,
            on_existing=ON_EXISTING[on_existing],
            doubt_policy=DOUBT_POLICIES[doubt_policy],
        )

        def messages() -> Iterator[BulkEnrollRequest]:
            message, size = BulkEnrollRequest(encoded=settings), 0
            for one in subjects:
                its_size = one.ByteSize()
                listed = message.encoded.subjects
                if listed and (len(listed) >= at_once or size + its_size > ENCODED_BYTES):
                    yield message
                    message, size = BulkEnrollRequest(encoded=settings), 0
                message.encoded.subjects.append(one)
                size += its_size
            if message.encoded.subjects:
                yield message

        for answer in self._stream(self._subjects.BulkEnroll, messages()):
            if answer.HasField("error"):
                raise from_error(answer.error)
            for outcome in answer.encoded.outcomes:
                yield outcome

    def get_subject(self, gallery_id: str, subject_id: str) -> Subject:
        """A subject: its labels, times and encoding ids."""
        request = GetSubjectRequest(gallery_id=gallery_id, subject_id=subject_id)
        return (self._call(self._subjects.GetSubject, request)).subject

    def list_subjects(self, gallery_id: str, filter: SubjectFilter | None = None) -> Iterator[Subject]:
        """All subjects of a gallery, or those that a filter of ``subject_filter`` lets through, sorted by id."""
        token = ""
        for _ in itertools.count():
            request = ListSubjectsRequest(
                gallery_id=gallery_id, page_size=MAX_PAGE_SIZE, page_token=token, filter=filter
            )
            page = self._call(self._subjects.ListSubjects, request)
            for subject in page.subjects:
                yield subject
            token = page.next_page_token
            if not token:
                return

    def set_retention(self, gallery_id: str, subject_id: str, retention: Retention) -> SetRetentionResponse:
        """How long a subject may be kept, and why, in place of what was set before."""
        request = SetRetentionRequest(gallery_id=gallery_id, subject_id=subject_id, retention=retention)
        return self._call(self._subjects.SetRetention, request)

    def list_expired(self, at: datetime | None = None) -> Iterator[ExpiredSubject]:
        """Subjects of all galleries whose time is over, now or at a time to come; who has waited longest first."""
        request = ListExpiredRequest(page_size=MAX_PAGE_SIZE)
        if at is not None:
            request.at.FromDatetime(at)
        for _ in itertools.count():
            page = self._call(self._subjects.ListExpired, request)
            for subject in page.subjects:
                yield subject
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    def count_subjects(
        self, gallery_id: str, label: str = "", filter: SubjectFilter | None = None
    ) -> CountSubjectsResponse:
        """How many subjects there are, and with which values of a label."""
        request = CountSubjectsRequest(gallery_id=gallery_id, label=label, filter=filter)
        return self._call(self._subjects.CountSubjects, request)

    def rename_subject(self, gallery_id: str, subject_id: str, new_subject_id: str) -> RenameSubjectResponse:
        """Give a subject another id, and nothing else."""
        request = RenameSubjectRequest(gallery_id=gallery_id, subject_id=subject_id, new_subject_id=new_subject_id)
        return self._call(self._subjects.RenameSubject, request)

    def update_labels(
        self,
        gallery_id: str,
        subject_id: str,
        labels: Mapping[str, str] | None = None,
        *,
        remove: Iterable[str] = (),
        clear: bool = False,
    ) -> UpdateLabelsResponse:
        """Change labels of a subject.

        labels: to be set.
        remove: keys of labels to take away.
        clear: take away all labels that aren't set.
        """
        request = UpdateLabelsRequest(
            gallery_id=gallery_id, subject_id=subject_id, labels=labels, remove=remove, clear=clear
        )
        return self._call(self._subjects.UpdateLabels, request)

    def merge_subjects(self, gallery_id: str, subject_id: str, into_subject_id: str) -> MergeSubjectsResponse:
        """Make two subjects one: all that the first has goes to the second, and the first is gone."""
        request = MergeSubjectsRequest(gallery_id=gallery_id, subject_id=subject_id, into_subject_id=into_subject_id)
        return self._call(self._subjects.MergeSubjects, request)

    def move_encoding(
        self, gallery_id: str, subject_id: str, encoding_id: str, to_subject_id: str, *, encoding_key: str = ""
    ) -> MoveEncodingResponse:
        """Give an encoding to another subject. Moving the last one deletes the subject.

        encoding_key: instead of ``encoding_id``, which is empty then.
        """
        request = MoveEncodingRequest(
            gallery_id=gallery_id,
            subject_id=subject_id,
            encoding_id=encoding_id,
            to_subject_id=to_subject_id,
            encoding_key=encoding_key,
        )
        return self._call(self._subjects.MoveEncoding, request)

    def delete_subjects(
        self, gallery_id: str, filter: SubjectFilter, *, max_subjects: int = 0, dry_run: bool = False
    ) -> DeleteSubjectsResponse:
        """Delete the subjects that a filter lets through, up to 1,000 in one call. ``remaining``: how many are left.

        max_subjects: delete up to so many; 0: 1,000.
        dry_run: delete nobody.
        """
        request = DeleteSubjectsRequest(
            gallery_id=gallery_id, filter=filter, max_subjects=max_subjects, dry_run=dry_run
        )
        return self._call(self._subjects.DeleteSubjects, request)

    def delete_encoding(
        self, gallery_id: str, subject_id: str, encoding_id: str = "", *, encoding_key: str = ""
    ) -> DeleteEncodingResponse:
        """Delete one encoding, by its id or by its key. Deleting the last one deletes the subject."""
        request = DeleteEncodingRequest(
            gallery_id=gallery_id, subject_id=subject_id, encoding_id=encoding_id, encoding_key=encoding_key
        )
        return self._call(self._subjects.DeleteEncoding, request)

    def delete_subject(self, gallery_id: str, subject_id: str) -> DeleteSubjectResponse:
        """Delete a subject and all its encodings. Done, and on disk, when the call returns."""
        request = DeleteSubjectRequest(gallery_id=gallery_id, subject_id=subject_id)
        return self._call(self._subjects.DeleteSubject, request)

    def add_negative(
        self, gallery_id: str, subject_id: str, example_of_another: ExampleLike
    ) -> AddNegativeResponse:
        """ "Not this person": whatever is nearer to this example than to the subject is not given the subject."""
        request = AddNegativeRequest(gallery_id=gallery_id, subject_id=subject_id, example=example(example_of_another))
        return self._call(self._subjects.AddNegative, request)

    def delete_negative(self, gallery_id: str, subject_id: str, negative_id: str) -> DeleteNegativeResponse:
        """Delete one negative of a subject; ``get_subject`` lists them."""
        request = DeleteNegativeRequest(gallery_id=gallery_id, subject_id=subject_id, negative_id=negative_id)
        return self._call(self._subjects.DeleteNegative, request)

    # Comparison

    def verify(
        self,
        gallery_id: str,
        subject_id: str,
        probe: ExampleLike,
        *,
        tau: float | None = None,
        target_fmr: float | None = None,
    ) -> VerifyResponse:
        """1:1: does the probe show this enrolled subject?

        target_fmr: share of wrong claims that may be accepted, where neither ``tau`` nor the gallery's own applies;
            None: the server's default.
        """
        request = VerifyRequest(
            gallery_id=gallery_id, subject_id=subject_id, probe=example(probe), tau=tau, target_fmr=target_fmr
        )
        return self._call(self._identification.Verify, request)

    def compare(
        self,
        probe: ExampleLike,
        other: ExampleLike,
        *,
        gallery_id: str = "",
        encoder: str = "",
        tau: float | None = None,
        target_fmr: float | None = None,
    ) -> VerifyResponse:
        """1:1: do two examples show the same subject? Without ``tau``, the gallery's or else the encoder's applies.

        target_fmr: as in ``verify``.
        """
        request = VerifyRequest(
            gallery_id=gallery_id,
            probe=example(probe),
            other=example(other),
            tau=tau,
            encoder=encoder,
            target_fmr=target_fmr,
        )
        return self._call(self._identification.Verify, request)

    def identify(
        self,
        gallery_id: str,
        *probes: ExampleLike,
        max_candidates: int = 0,
        tau: float | None = None,
        all_matches: bool = False,
        least_gap: float | None = None,
        one_face_each: bool = False,
        filter: SubjectFilter | None = None,
        with_labels: bool = False,
        exact: bool = False,
    ) -> IdentifyResponse:
        """1:K: which enrolled subject does each probe show, or a stranger?

        ``probe_index`` of a result is the number of its probe. Each probe has one result; a photo for an encoder of
        faces has one per face, or none. ``max_candidates`` 0: the server's default.
        ``identify_request`` tells of the others.
        """
        request = identify_request(
            gallery_id,
            *probes,
            max_candidates=max_candidates,
            tau=tau,
            all_matches=all_matches,
            least_gap=least_gap,
            one_face_each=one_face_each,
            filter=filter,
            with_labels=with_labels,
            exact=exact,
        )
        return self._call(self._identification.Identify, request)

    def identify_stream(self, requests: Iterable[IdentifyRequest]) -> Iterator[IdentifyStreamResponse]:
        """1:K over one stream; ``identify_request`` makes the requests. Answers come in the order of the requests."""

        def messages() -> Iterator[IdentifyStreamRequest]:
            for request in requests:
                yield IdentifyStreamRequest(request=request)

        for response in self._stream(self._identification.IdentifyStream, messages()):
            yield response

    def list_look_alikes(self, gallery_id: str, within: float | None = None) -> ListLookAlikesResponse:
        """All pairs of subjects that look like each other, the nearest first, as one page.

        within: squared L2; None: the gallery's tau, as it is at the first of the calls that this takes.
        """
        request = ListLookAlikesRequest(gallery_id=gallery_id, within=within, page_size=MAX_PAGE_SIZE)
        found = self._call(self._identification.ListLookAlikes, request)
        while found.next_page_token:
            request = ListLookAlikesRequest(
                gallery_id=gallery_id,
                within=found.within,
                page_size=MAX_PAGE_SIZE,
                page_token=found.next_page_token,
            )
            page = self._call(self._identification.ListLookAlikes, request)
            found.pairs.extend(page.pairs)
            found.truncated_subject_ids.extend(page.truncated_subject_ids)
            found.next_page_token = page.next_page_token
        found.pairs.sort(key=lambda pair: (pair.distance, pair.subject_id, pair.other_subject_id))
        return found

    def encode(self, *examples: ExampleLike, encoder: str = "") -> EncodeResponse:
        """The encoding f(x) of each example: ``encodings`` with ``values`` float32 [D]. Nothing is stored."""
        request = EncodeRequest(examples=map(example, examples), encoder=encoder)
        return self._call(self._identification.Encode, request)

    # Faces

    def detect_faces(
        self, *photos: ExampleLike, small_faces: SmallFaces = "", upright_only: bool = False
    ) -> DetectFacesResponse:
        """The faces of each photo (path or bytes), with landmarks, quality, and whether they are upright."""
        images = [picture_bytes(photo) for photo in photos]
        request = DetectFacesRequest(images=images, small_faces=SMALL_FACES[small_faces], upright_only=upright_only)
        return self._call(self._detection.DetectFaces, request)

    # Stylization

    def list_styles(self) -> list[Style]:
        """The styles of all loaded stylizers."""
        return list((self._call(self._stylization.ListStyles, ListStylesRequest())).styles)

    def create_style(
        self,
        name: str,
        picture: ExampleLike,
        *,
        title: str = "",
        source: str = "",
        license: str = "",
        stylizer: str = "",
    ) -> Style:
        """Keep the style of a picture (path or bytes) under a name, for a stylizer for any style."""
        request = CreateStyleRequest(
            name=name,
            picture=picture_bytes(picture),
            title=title,
            source=source,
            license=license,
            stylizer=stylizer,
        )
        return (self._call(self._stylization.CreateStyle, request)).style

    def delete_style(self, name: str, *, stylizer: str = "") -> None:
        """Forget a style that ``create_style`` made."""
        self._call(self._stylization.DeleteStyle, DeleteStyleRequest(name=name, stylizer=stylizer))

    def stylize(
        self,
        picture: ExampleLike,
        styles: StylesLike,
        *,
        stylizer: str = "",
        strength: float | None = None,
        keep_colors: bool = False,
        format: PictureFormatName = "",
        quality: int = 0,
        max_side: int = 0,
        stroke_size: float | None = None,
        keep_faces: float = 0.0,
    ) -> StylizedPicture:
        """Repaint a picture (path or bytes) in a style, or a blend: ``{"oil": 0.7, "pencil": 0.3}``. A style is its
        name, or a picture of it (a Path or bytes).

        ``stylize_settings`` explains the arguments. A large picture takes long: it may need a longer
        ``timeout_seconds`` of the client.
        """
        settings = stylize_settings(
            styles,
            stylizer=stylizer,
            strength=strength,
            keep_colors=keep_colors,
            format=format,
            quality=quality,
            max_side=max_side,
            stroke_size=stroke_size,
            keep_faces=keep_faces,
        )
        request = StylizeRequest(image=picture_bytes(picture), settings=settings)
        return (self._call(self._stylization.Stylize, request)).picture

    def stylize_stream(
        self,
        frames: Iterable[ExampleLike | StreamSettings],
        styles: StylesLike,
        *,
        stylizer: str = "",
        strength: float | None = None,
        keep_colors: bool = False,
        format: PictureFormatName = "",
        quality: int = 0,
        max_side: int = 0,
        stroke_size: float | None = None,
        keep_faces: float = 0.0,
        steadiness: float | None = None,
        every_frame: bool = False,
    ) -> Iterator[StylizeStreamResponse]:
        """Repaint the frames of a video as they come.

        Without ``every_frame`` a newer frame replaces one that waits; ``index`` and ``dropped`` of an answer tell which
        were dropped. ``stylize_settings`` and ``stream_settings`` explain the arguments. A StreamSettings among the
        frames changes them from the next frame on.
        """
        settings = stylize_settings(
            styles,
            stylizer=stylizer,
            strength=strength,
            keep_colors=keep_colors,
            format=format,
            quality=quality,
            max_side=max_side,
            stroke_size=stroke_size,
            keep_faces=keep_faces,
        )

        def messages() -> Iterator[StylizeStreamRequest]:
            first = stream_settings(settings, steadiness=steadiness, every_frame=every_frame)
            yield StylizeStreamRequest(settings=first)
            for frame in frames:
                if isinstance(frame, StreamSettings):
                    yield StylizeStreamRequest(settings=frame)
                else:
                    yield StylizeStreamRequest(frame=picture_bytes(frame))

        for response in self._stream(self._stylization.StylizeStream, messages()):
            yield response

    # Access

    def get_identity(self) -> GetIdentityResponse:
        """Who this client is to the server, and what is granted to it."""
        return self._call(self._access.GetIdentity, GetIdentityRequest())

    def create_api_key(self, name: str, *, expires: datetime | None = None) -> CreateApiKeyResponse:
        """A new key for the identity ``key:name``; its ``secret`` is shown this once. ``expires`` None: never."""
        request = CreateApiKeyRequest(name=name)
        if expires is not None:
            request.expire_time.FromDatetime(expires)
        return self._call(self._access.CreateApiKey, request)

    def list_api_keys(self) -> list[ApiKey]:
        """Without their secrets, the oldest first."""
        return list((self._call(self._access.ListApiKeys, ListApiKeysRequest())).keys)

    def revoke_api_key(self, key_id: str) -> None:
        """From now on the key is refused, and what streams with it is ended."""
        self._call(self._access.RevokeApiKey, RevokeApiKeyRequest(id=key_id))

    # Models, and the server

    def get_server(self) -> GetServerResponse:
        """Its version, what it can do, and its limits."""
        return self._call(self._server.GetServer, GetServerRequest())

    def list_models(self) -> list[Model]:
        """The models that the server has loaded."""
        response = self._call(self._models.ListModels, ListModelsRequest())
        return list(response.models)

    def describe_model(self, model: str) -> DescribeModelResponse:
        """A model by name or digest, with its manifest."""
        request = DescribeModelRequest(model=model)
        return self._call(self._models.DescribeModel, request)

    def _call(self, method: grpc.UnaryUnaryMultiCallable[Req, Res], request: Req) -> Res:
        check_size(request)
        until = time.monotonic() + self._timeout
        attempt = 0
        while True:
            try:
                with calling(self._link):
                    return method(request, timeout=until - time.monotonic(), metadata=self._metadata())
            except grpc.RpcError as error:
                wait = retry_after(error, attempt) if self._retry else None
                if wait is None and attempt < self._retries:
                    wait = pause_before_retry(error, request, attempt)
                if wait is None or time.monotonic() + wait >= until:
                    raise_from(error)
            time.sleep(wait)
            attempt += 1

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        token = self._token() if callable(self._token) else self._token
        return () if token is None else (("authorization", f"Bearer {token}"),)

    def _stream(
        self, method: grpc.StreamStreamMultiCallable[Req, Res], requests: Iterable[Req]
    ) -> Iterator[Res]:
        # If the caller's iterator fails, the answers to what was sent still come; then its error is raised.
        failures: list[Exception] = []

        def guarded() -> Iterator[Req]:
            try:
                for request in requests:
                    yield request
            except Exception as error:
                failures.append(error)

        with calling(self._link):
            call = method(guarded(), timeout=self._long_timeout, metadata=self._metadata())
        try:
            answers = call.__iter__()
            while True:
                with calling(self._link):
                    try:
                        response = answers.__next__()
                    except StopIteration:
                        break
                yield response
        except grpc.RpcError as error:
            raise_from(error)
        finally:
            call.cancel()  # if the caller stops reading early, stop sending, too
        if failures:
            raise failures[0]
