"""The two models that find a face and its landmarks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import DetectorManifest, LandmarksManifest
from oneglance_server.engines.loaded_model import LoadedModel


class Detector(LoadedModel[DetectorManifest]):
    """A face detector; see DetectorManifest for its graph."""

    title = "face detector"
    single = True
    # What a run needs is in proportion to the photo: hundreds of megabytes for a large one, once in a while.
    keep_memory = False

    def score(self, canvases: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 [N, H, W, 4] -> float32 [N, h, w]."""
        return self._session.run(["scores"], {"image": canvases})[0]


class Landmarks(LoadedModel[LandmarksManifest]):
    """A landmark finder; see LandmarksManifest for its graph."""

    title = "landmark finder"
    single = True
    keep_memory = False  # as a Detector's

    def points(self, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """float32 [F, L, 2]."""
        return self._session.run(["points"], inputs)[0]
