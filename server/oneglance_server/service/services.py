"""The service layer as one value, and the gate in front of it."""

from collections.abc import Callable
from dataclasses import dataclass

from oneglance_server.errors import NotServing
from oneglance_server.service.about import AboutService
from oneglance_server.service.access import AccessService
from oneglance_server.service.backups import BackupService
from oneglance_server.service.calibrating import CalibrationService
from oneglance_server.service.detection import DetectionService
from oneglance_server.service.encoded_enrollment import EncodedEnrollmentService
from oneglance_server.service.enrollment import EnrollmentService
from oneglance_server.service.filling import FillingService
from oneglance_server.service.galleries import GalleryService
from oneglance_server.service.identification import IdentificationService
from oneglance_server.service.look_alikes import LookAlikeService
from oneglance_server.service.mapping import MappingService
from oneglance_server.service.models import ModelService
from oneglance_server.service.moving import MovingService
from oneglance_server.service.stylizing import StylizationService
from oneglance_server.service.subjects import SubjectService
from oneglance_server.service.succession import SuccessionService


@dataclass(frozen=True, slots=True)
class Services:
    models: ModelService
    galleries: GalleryService
    backups: BackupService
    enrollment: EnrollmentService
    encoded_enrollment: EncodedEnrollmentService
    subjects: SubjectService
    moving: MovingService
    succession: SuccessionService
    mapping: MappingService
    filling: FillingService
    identification: IdentificationService
    detection: DetectionService
    look_alikes: LookAlikeService
    calibration: CalibrationService
    stylization: StylizationService
    access: AccessService
    about: AboutService
    forget: Callable[[str], None]
    """A gallery was deleted, by whomever: nothing is kept of it."""


class ReadinessGate:
    """Open while the server serves; closed while it loads or drains."""

    def __init__(self) -> None:
        self._services: Services | None = None
        self._why = "the server is loading"

    def open(self, services: Services) -> None:
        self._services = services

    def close(self, why: str) -> None:
        self._services, self._why = None, why

    @property
    def services(self) -> Services:
        """Raises NotServing while the gate is closed."""
        if self._services is None:
            raise NotServing(self._why)
        return self._services
