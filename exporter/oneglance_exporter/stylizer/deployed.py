"""A stylizer as a server runs it: by ONNX Runtime, from 8-bit pictures to 8-bit pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oneglance_core.folder import read_any_model_folder
from oneglance_core.manifests import Arrays, StylizerManifest
from oneglance_exporter.perceptual.pictures import Rgb
from oneglance_exporter.runtime import session_of

Moments = npt.NDArray[np.float32]


class Deployed:
    """A stylizer's model folder on ONNX Runtime. Raises ModelFolderError, ExportError."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        folder = read_any_model_folder(path).of(StylizerManifest)
        self.manifest = folder.manifest
        self._session = session_of(folder.model, threads)

    def __call__(self, pictures: Rgb, weights: Sequence[float], moments: Moments | None = None) -> Rgb:
        """uint8 [N, H, W, 3], sides multiples of the manifest's, in one mixture of styles: uint8 [N, H, W, 3].

        moments: float32 [N, M, 2], instead of the pictures' own.
        """
        stylized: Rgb = np.rint(self._run("stylized", pictures, weights, moments)).astype(np.uint8)
        return stylized

    def moments(self, pictures: Rgb, weights: Sequence[float]) -> Moments:
        """The pictures' own, [N, M, 2]."""
        return self._run("used", pictures, weights, None)

    def _run(self, output: str, pictures: Rgb, weights: Sequence[float], moments: Moments | None) -> Moments:
        count = len(pictures)
        inputs: Arrays = {
            "image": pictures,
            "weights": np.tile(np.asarray(weights, np.float32), (count, 1)),
            "moments": np.zeros((count, self.manifest.moments, 2), np.float32) if moments is None else moments,
            "own": np.full(count, moments is None, np.float32),
        }
        found: Moments = self._session.run([output], inputs)[0]
        return found

    def style(self, name: str) -> list[float]:
        """The weights of one style."""
        return [float(style.name == name) for style in self.manifest.styles]
