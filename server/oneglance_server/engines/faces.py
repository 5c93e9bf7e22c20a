"""The two models that find a face and its landmarks, run by ONNX Runtime."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.folder import ModelFolder
from oneglance_core.manifests import DetectorManifest, LandmarksManifest
from oneglance_server.engines.session import Runtime, check_parity, open_session
from oneglance_server.errors import StartupError


class _Graph:
    """A loaded graph that has the inputs and outputs of its kind and reproduces its parity vectors. Thread-safe."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __init__(self, folder: ModelFolder[Any], runtime: Runtime) -> None:
        self.manifest = folder.manifest
        self.digest: str = folder.digest
        # What a run needs is in proportion to the photo: hundreds of megabytes for a large one, once in a while.
        self._session = open_session(folder, runtime, keep_memory=False)
        self.execution_provider: str = self._session.get_providers()[0]
        for what, declared, nodes in (
            ("takes", self.inputs, self._session.get_inputs()),
            ("returns", self.outputs, self._session.get_outputs()),
        ):
            names = [node.name for node in nodes]
            if sorted(names) != sorted(declared):
                raise StartupError(f"{folder.path}: the graph {what} {names}, a {self.manifest.kind} {list(declared)}")
        parity = self.manifest.parity
        inputs = {name: array.unpack() for name, array in parity.inputs.items()}
        expected = {name: array.unpack() for name, array in parity.outputs.items()}
        if set(inputs) != set(self.inputs) or set(expected) != set(self.outputs):
            raise StartupError(f"{folder.path}: the parity vectors don't fit a {self.manifest.kind}")
        check_parity(folder.path, self.execution_provider, lambda: self._run(inputs), expected, parity.tolerance)

    def _run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return dict(zip(self.outputs, self._session.run(list(self.outputs), dict(inputs)), strict=True))


class Detector(_Graph):
    """A face detector; see DetectorManifest for its graph."""

    inputs = ("image",)
    outputs = ("scores",)
    manifest: DetectorManifest

    def score(self, canvases: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 [N, H, W, 4] -> float32 [N, h, w]."""
        return self._run({"image": canvases})["scores"]


class Landmarks(_Graph):
    """A landmark finder; see LandmarksManifest for its graph."""

    inputs = ("pixels", "pictures", "boxes")
    outputs = ("points",)
    manifest: LandmarksManifest

    def points(self, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """float32 [F, L, 2]."""
        return self._run(inputs)["points"]
