"""The service layer as one value, and the door in front of it."""

from dataclasses import dataclass
from typing import Any

from oneglance_server.engines.loaded_model import LoadedModel
from oneglance_server.errors import NotServing
from oneglance_server.service.calibrating import CalibrationService
from oneglance_server.service.enrollment import EnrollmentService
from oneglance_server.service.galleries import GalleryService
from oneglance_server.service.identification import IdentificationService
from oneglance_server.service.stylizing import StylizationService


@dataclass(frozen=True, slots=True)
class Services:
    galleries: GalleryService
    enrollment: EnrollmentService
    identification: IdentificationService
    calibration: CalibrationService
    stylization: StylizationService
    models: tuple[LoadedModel[Any], ...]


class Door:
    """Open while the server serves; shut while it loads or drains."""

    def __init__(self) -> None:
        self._services: Services | None = None
        self._why = "the server is loading"

    def open(self, services: Services) -> None:
        self._services = services

    def shut(self, why: str) -> None:
        self._services, self._why = None, why

    @property
    def services(self) -> Services:
        """Raises NotServing while the door is shut."""
        if self._services is None:
            raise NotServing(self._why)
        return self._services
