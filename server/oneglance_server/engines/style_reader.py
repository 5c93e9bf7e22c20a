"""What reads the style of a picture: a vector, in which a stylizer for any style repaints others."""

from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import InputSpec, StyleReaderManifest
from oneglance_core.pictures import PictureLimits, encoder_input
from oneglance_server.engines.loaded_model import LoadedModel

Floats = npt.NDArray[np.float32]


class StyleReader(LoadedModel[StyleReaderManifest]):
    """A loaded and checked reader of styles; see StyleReaderManifest for its graph. Thread-safe."""

    title = "style reader"
    low_priority = True

    def read(self, data: bytes, limits: PictureLimits) -> Generator[None, None, Floats]:
        """The style of a picture's middle, float32 [S], in one step. Raises PictureError, MemoryError."""
        yield from ()
        side = self.manifest.side
        spec = InputSpec(kind="image", shape=(side, side, 3), dtype="uint8", color="rgb", resize="bilinear", fit="crop")
        style: Floats = self._run(["style"], {"picture": encoder_input(data, spec, limits)[np.newaxis]})[0][0]
        if not np.isfinite(style).all():
            raise ArithmeticError(f"{self.manifest.name}: the graph gave values that are not finite")
        return style
