"""The server's face finder: crops the faces out of photos, and measures how long each stage takes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from oneglance_core.faces.crops import CropOutcome, CropRequest, crop_faces
from oneglance_core.faces.finder import FaceFinder, FaceSearch
from oneglance_core.pictures import PictureLimits
from oneglance_server.engines.faces import Detector, Landmarks


class StageObserver(Protocol):
    """Hears how long a stage took: ``decode``, ``detect`` or ``align``."""

    def __call__(self, stage: str, seconds: float, /) -> None: ...


class FaceCropper:
    """Finds, chooses and aligns faces with the loaded models. Thread-safe."""

    def __init__(
        self,
        detector: Detector,
        landmarks: Landmarks,
        limits: PictureLimits,
        search: FaceSearch,
        on_stage: StageObserver,
    ) -> None:
        self.detector = detector
        self.landmarks = landmarks
        self._limits = limits
        self._finder = FaceFinder(detector.score, detector.manifest, landmarks.points, search)
        self._on_stage = on_stage

    def crop(self, requests: Sequence[CropRequest]) -> list[CropOutcome]:
        """The i-th outcome is of the i-th photo: see core's crop_faces."""
        return crop_faces(self._finder, requests, self._limits, self._stage)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._on_stage(name, time.perf_counter() - started)
