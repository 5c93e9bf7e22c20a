"""The models that find faces, their landmarks, and whether they are upright; the server's cropper, which runs them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from oneglance_core.faces.crops import CropOutcome, CropRequest, crop_faces
from oneglance_core.faces.finder import FaceFinder, FaceSearch, canvas_sizes
from oneglance_core.faces.uprightness import UprightnessCheck
from oneglance_core.folder import ModelFolder
from oneglance_core.manifests import DetectorManifest, LandmarksManifest, UprightnessManifest
from oneglance_core.pictures import PictureLimits
from oneglance_server.engines.loaded_model import LoadedModel
from oneglance_server.settings import Settings


class Detector(LoadedModel[DetectorManifest]):
    """A face detector; see DetectorManifest for its graph."""

    title = "face detector"
    single = True
    # What a run needs is in proportion to the photo: hundreds of megabytes for a large one, once in a while.
    keep_memory = False

    @classmethod
    def load(cls, folder: ModelFolder[DetectorManifest], settings: Settings) -> Self:
        detector = super().load(folder, settings)
        if detector._session.compiles_per_shape:
            for height, width in settings.sizes_to_prepare:
                detector.prepare(height, width, face_search(settings), settings.max_photo_batch)
                detector.prepare(width, height, face_search(settings), settings.max_photo_batch)  # turned
        return detector

    def prepare(self, height: int, width: int, limits: FaceSearch, max_batch: int) -> None:
        """Makes the search of photos of this size quick, as Session.prepare: where a first run costs more.

        Canvases keep their size: scores near an edge depend on where it is, so that no canvas can stand for a smaller
        one.
        """
        for canvas in canvas_sizes(height, width, self.manifest, limits):
            if min(canvas) >= self.manifest.smallest_side:
                for batch in sorted({1, max_batch}):
                    one = np.random.default_rng(0).integers(0, 256, (1, *canvas, 4), dtype=np.uint8)
                    self._prepare(["scores"], {"image": np.repeat(one, batch, axis=0)})

    def score(self, canvases: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 [N, H, W, 4] -> float32 [N, h, w]."""
        return self._run(["scores"], {"image": canvases})[0]


class Landmarks(LoadedModel[LandmarksManifest]):
    """A landmark finder; see LandmarksManifest for its graph."""

    title = "landmark finder"
    single = True
    keep_memory = False  # as a Detector's

    def points(self, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """float32 [F, L, 2]."""
        return self._run(["points"], inputs)[0]


class Uprightness(LoadedModel[UprightnessManifest]):
    """A check that a face is upright and aligned; see UprightnessManifest for its graph."""

    title = "uprightness check"
    single = True

    @classmethod
    def load(cls, folder: ModelFolder[UprightnessManifest], settings: Settings) -> Self:
        check = super().load(folder, settings)
        check._prepare_batches(check._session.batch_sizes)
        return check

    def score(self, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 [N, H, W, 3] -> float32 [N]."""
        return self._run(["scores"], {"chips": chips})[0]


def face_search(settings: Settings) -> FaceSearch:
    return FaceSearch(min_face=settings.min_face, search_pixels=settings.search_pixels, max_faces=settings.max_faces)


class StageObserver(Protocol):
    """Hears how long a stage took: ``decode``, ``detect``, ``align`` or ``turn``."""

    def __call__(self, stage: str, seconds: float, /) -> None: ...


class FaceCropper:
    """Finds, checks, chooses and aligns faces with the loaded models. Thread-safe.

    uprightness: None where no check is loaded; every face counts as upright then.
    """

    def __init__(
        self,
        detector: Detector,
        landmarks: Landmarks,
        uprightness: Uprightness | None,
        limits: PictureLimits,
        search: FaceSearch,
        on_stage: StageObserver,
    ) -> None:
        self.detector = detector
        self.landmarks = landmarks
        self._limits = limits
        self._finder = FaceFinder(detector.score, detector.manifest, landmarks.points, search)
        self.check = UprightnessCheck(uprightness.score, uprightness.manifest) if uprightness else None
        self._on_stage = on_stage

    def crop(self, requests: Sequence[CropRequest]) -> list[CropOutcome]:
        """The i-th outcome is of the i-th photo: see core's crop_faces."""
        return crop_faces(self._finder, self.check, requests, self._limits, self._stage)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._on_stage(name, time.perf_counter() - started)
