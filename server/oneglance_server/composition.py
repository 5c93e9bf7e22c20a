"""The composition root: from settings, models and a gallery store to the services. Nothing else wires them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from oneglance_core.faces.finder import FaceSearch
from oneglance_core.pictures import PictureLimits
from oneglance_index import GalleryStore
from oneglance_server.engines.faces import FaceCropper
from oneglance_server.loading import Models, picture_limits
from oneglance_server.metrics import Metrics
from oneglance_server.offload import Threads
from oneglance_server.service.calibrating import CalibrationService
from oneglance_server.service.detection import DetectionService
from oneglance_server.service.encoders import Encoders
from oneglance_server.service.encoding import CropBatcher, Encoding
from oneglance_server.service.enrollment import EnrollmentService
from oneglance_server.service.galleries import GalleryService
from oneglance_server.service.identification import IdentificationService
from oneglance_server.service.models import ModelService
from oneglance_server.service.services import Services
from oneglance_server.service.styles import Stylizers
from oneglance_server.service.stylizing import StylizationService, StylizeLimits
from oneglance_server.service.thresholds import Thresholds
from oneglance_server.settings import Settings

_SCANS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Pools:
    """read: for reads of the store. stylize: of low priority. new: makes one more, of a name and so many threads."""

    read: ThreadPoolExecutor
    stylize: ThreadPoolExecutor
    new: Callable[[str, int], ThreadPoolExecutor]


def make_services(settings: Settings, models: Models, store: GalleryStore, metrics: Metrics, pools: Pools) -> Services:
    """Belongs to the event loop it is called on."""
    limits = picture_limits(settings)
    cropper = _cropper(settings, models, limits, metrics)
    encoding = Encoding(
        models.encoders,
        _crops(settings, cropper, metrics, pools) if cropper else None,
        limits,
        pools.new("encode", settings.encoder_workers),
        workers=settings.encoder_workers,
        max_batch=settings.max_batch,
        max_queue=settings.encode_queue,
        observer=metrics.stage("encode"),
    )
    reads, encoders, thresholds = Threads(pools.read), Encoders(models.encoders), Thresholds(models.encoders)
    identification = IdentificationService(
        store,
        reads,
        encoders,
        encoding,
        thresholds,
        # One thread per GPU: FAISS's GPU resources are not safe for two.
        pools.new("search", _SCANS_AT_ONCE if settings.device == "cpu" else 1),
        workers=1,
        max_batch=settings.max_search_batch,
        max_queue=settings.search_queue,
        observer=metrics.stage("search"),
        on_decision=metrics.decision,
    )
    galleries = GalleryService(store, reads, encoders, thresholds, on_deleted=identification.forget)
    return Services(
        models=ModelService(models.loaded, encoders, thresholds),
        galleries=galleries,
        enrollment=EnrollmentService(store, reads, encoding),
        identification=identification,
        detection=DetectionService(cropper, encoding, encoders),
        calibration=CalibrationService(store, reads, galleries, identification),
        stylization=_stylization(settings, models, limits, metrics, pools),
    )


def _stylization(
    settings: Settings, models: Models, limits: PictureLimits, metrics: Metrics, pools: Pools
) -> StylizationService:
    return StylizationService(
        Stylizers(models.painters),
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
    search = FaceSearch(min_face=settings.min_face, search_pixels=settings.search_pixels, max_faces=settings.max_faces)
    return FaceCropper(models.detector, models.landmarks, limits, search, metrics.stage_took)


def _crops(settings: Settings, cropper: FaceCropper, metrics: Metrics, pools: Pools) -> CropBatcher:
    return CropBatcher(
        "photo",
        cropper.crop,
        pools.new("photo", settings.photo_workers),
        workers=settings.photo_workers,
        max_batch_rows=settings.max_photo_batch,
        max_queue_rows=settings.photo_queue,
        observer=metrics.stage("photo"),
    )
