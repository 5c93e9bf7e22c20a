"""The composition root: from settings, models and a gallery store to the services. Nothing else wires them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from oneglance_core.manifests import MateScores
from oneglance_core.pictures import PictureLimits
from oneglance_core.sounds import SoundLimits
from oneglance_index import GalleryStore
from oneglance_server.access.access import Access
from oneglance_server.engines.faces import FaceCropper, face_search
from oneglance_server.kept_styles import KeptStyles
from oneglance_server.limiter import Limiter
from oneglance_server.loading import Models, picture_limits
from oneglance_server.metrics import Metrics
from oneglance_server.offload import Threads
from oneglance_server.service.about import AboutService
from oneglance_server.service.access import AccessService
from oneglance_server.service.auditing import Audit
from oneglance_server.service.backups import Backups, BackupService
from oneglance_server.service.calibrating import CalibrationService
from oneglance_server.service.detection import DetectionService
from oneglance_server.service.drift import DriftWatches
from oneglance_server.service.encoded_enrollment import EncodedEnrollmentService
from oneglance_server.service.encoders import Encoders
from oneglance_server.service.encoding import CropLanes, Encoding
from oneglance_server.service.enrollment import EnrollmentService
from oneglance_server.service.filling import FillingService
from oneglance_server.service.galleries import GalleryService
from oneglance_server.service.identification import IdentificationService
from oneglance_server.service.look_alikes import LookAlikeService
from oneglance_server.service.mapping import MappingService
from oneglance_server.service.models import ModelService
from oneglance_server.service.moving import MovingService
from oneglance_server.service.picture_pass import StylizeLimits
from oneglance_server.service.services import Services
from oneglance_server.service.styles import Stylizers
from oneglance_server.service.stylizing import StylizationService
from oneglance_server.service.subjects import SubjectService
from oneglance_server.service.succession import SuccessionService
from oneglance_server.service.thresholds import Thresholds
from oneglance_server.service.work import ContentLimits
from oneglance_server.settings import Settings
from oneglance_server.shared_files import Files
from oneglance_server.tracing import stage_took

_SCANS_AT_ONCE = 2
_HEADER_THREADS = 2
_PIXELS_PER_PHOTO = 1_000_000  # take about as long to decode as the search for faces does


@dataclass(frozen=True, slots=True)
class Pools:
    """read: for reads of the store, of ``read_threads``. stylize: of low priority. new: makes one more, of a name and
    so many threads."""

    read: ThreadPoolExecutor
    read_threads: int
    stylize: ThreadPoolExecutor
    new: Callable[[str, int], ThreadPoolExecutor]


def make_services(
    settings: Settings,
    models: Models,
    thresholds: Thresholds,
    store: GalleryStore,
    backups: Backups,
    files: Files,
    metrics: Metrics,
    pools: Pools,
    crowded: Callable[[], bool],
    access: Access | None,
    audit: Audit,
) -> Services:
    """Belongs to the event loop it is called on. ``crowded``: see engines.batcher.Batcher."""
    limits = picture_limits(settings)
    cropper = _cropper(settings, models, limits, metrics)
    max_wait = settings.max_wait
    headers = Threads(
        "header",
        pools.new("header", _HEADER_THREADS),
        workers=_HEADER_THREADS,
        max_wait=max_wait,
        observer=metrics.stage("header"),
    )
    encoding = Encoding(
        models.encoders,
        _crops(settings, cropper, metrics, pools) if cropper else None,
        headers,
        ContentLimits(
            limits,
            SoundLimits(settings.max_sound_bytes, settings.max_sound_seconds),
            settings.max_call_pixels,
            settings.max_call_sound_seconds,
        ),
        settings.unfit_inputs != "ignore",
        cropper.check if cropper else None,
        pools.new("encode", 2 * settings.encoder_workers),
        workers=settings.encoder_workers,
        max_batch=settings.max_batch,
        max_wait=max_wait,
        observer=metrics.stage("encode"),
        crowded=crowded,
    )
    reads = Threads("read", pools.read, workers=pools.read_threads, max_wait=max_wait, observer=metrics.stage("read"))
    encoders = Encoders(models.encoders)
    drift = DriftWatches(thresholds, _mates(models), metrics.drift)
    # One thread per GPU: FAISS's GPU resources are not safe for two.
    scans = _SCANS_AT_ONCE if settings.device == "cpu" else 1
    identification = IdentificationService(
        store,
        reads,
        encoders,
        encoding,
        thresholds,
        drift,
        pools.new("search", scans),
        scans=Limiter("search", scans, unit="scans"),
        max_batch=settings.max_search_batch,
        max_wait=max_wait,
        observer=metrics.stage("search"),
        crowded=crowded,
        on_decision=metrics.decision,
        on_every_row=metrics.every_row,
        on_compared=metrics.compared,
        audit=audit,
    )

    def on_deleted(gallery_id: str) -> None:
        identification.forget(gallery_id)
        drift.forget(gallery_id)
        metrics.forget_gallery(gallery_id)

    galleries = GalleryService(store, reads, encoders, thresholds, drift, on_deleted, audit)
    return Services(
        models=ModelService(models.loaded, encoders, thresholds),
        galleries=galleries,
        backups=BackupService(backups, audit),
        enrollment=EnrollmentService(
            store, reads, encoding, thresholds, identification, settings.unfit_inputs == "refuse", audit
        ),
        encoded_enrollment=EncodedEnrollmentService(store, encoders),
        subjects=SubjectService(store, reads, audit),
        moving=MovingService(store, reads, encoders, audit),
        succession=SuccessionService(
            *(store, reads, encoders, thresholds, galleries, identification.comparisons),
            *(on_deleted, audit),
        ),
        mapping=MappingService(store, reads, encoders, thresholds, audit),
        filling=FillingService(store, reads, encoding, audit),
        identification=identification,
        detection=DetectionService(cropper, encoding, encoders),
        look_alikes=LookAlikeService(store, reads, identification, thresholds, audit),
        calibration=CalibrationService(store, reads, galleries, identification),
        stylization=_stylization(
            *(settings, models, files, encoding if cropper else None, reads, audit, limits, metrics, pools)
        ),
        access=AccessService(access, reads, audit),
        about=AboutService(
            *(settings, [one.manifest.kind for one in models.loaded], cropper is not None),
            *(backups.backs_up, store.device),
        ),
        forget=on_deleted,
    )


def _mates(models: Models) -> dict[tuple[str, str], MateScores]:
    """By digest of an encoder, and what decides."""
    found: dict[tuple[str, str], MateScores] = {}
    for encoder in models.encoders:
        if encoder.manifest.mates is not None:
            found[encoder.digest, "distance"] = encoder.manifest.mates
        head = encoder.manifest.pair_head
        if head is not None and head.mates is not None:
            found[encoder.digest, "probability"] = head.mates
    return found


def _stylization(
    settings: Settings,
    models: Models,
    files: Files,
    faces: Encoding | None,
    reads: Threads,
    audit: Audit,
    limits: PictureLimits,
    metrics: Metrics,
    pools: Pools,
) -> StylizationService:
    return StylizationService(
        Stylizers(models.painters, KeptStyles(files)),
        reads,
        audit,
        faces,
        pools.stylize,
        StylizeLimits(
            limits,
            max_calls=settings.stylize_queue,
            max_streams=settings.stylize_streams,
            max_pixels=settings.max_stylize_pixels,
            max_frame_pixels=settings.max_frame_pixels,
            inflight_pixels=settings.stylize_inflight_pixels,
            max_answer_bytes=settings.max_message_bytes,
        ),
        workers=settings.stylize_workers,
        observer=metrics.stage("stylize"),
        on_stage=metrics.stage_took,
    )


def _cropper(settings: Settings, models: Models, limits: PictureLimits, metrics: Metrics) -> FaceCropper | None:
    if models.detector is None or models.landmarks is None:
        return None
    search = face_search(settings)

    def on_stage(stage: str, seconds: float) -> None:
        metrics.stage_took(stage, seconds)
        stage_took(stage, seconds)

    return FaceCropper(models.detector, models.landmarks, models.uprightness, limits, search, on_stage)


def _crops(settings: Settings, cropper: FaceCropper, metrics: Metrics, pools: Pools) -> CropLanes:
    return CropLanes(
        "photo",
        cropper.crop,
        pools.new("photo", 2 * settings.photo_workers),
        workers=settings.photo_workers,
        max_batch=settings.max_photo_batch,
        unit=_PIXELS_PER_PHOTO,
        max_wait=settings.max_wait,
        observer=metrics.stage("photo"),
    )
