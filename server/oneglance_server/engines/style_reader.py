"""What reads the style of a picture: a vector, in which a stylizer for any style repaints others."""

from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import InputSpec, StyleReaderManifest
from oneglance_core.pictures import PictureError, PictureLimits, encoder_input
from oneglance_server.engines.loaded_model import LoadedModel

Floats = npt.NDArray[np.float32]


class StyleReader(LoadedModel[StyleReaderManifest]):
    """A loaded and checked reader of styles; see StyleReaderManifest for its graph. Thread-safe."""

    title = "style reader"
    low_priority = True

    def read(self, data: bytes, limits: PictureLimits) -> Floats:
        """The style of a picture's middle, float32 [S]. Raises PictureError, MemoryError."""
        side = self.manifest.side
        spec = InputSpec(kind="image", shape=(side, side, 3), dtype="uint8", color="rgb", resize="bilinear", fit="crop")
        style: Floats = self._run(["style"], {"picture": encoder_input(data, spec, limits)[np.newaxis]})[0][0]
        if not np.isfinite(style).all():
            raise ArithmeticError(f"{self.manifest.name}: the graph gave values that are not finite")
        return style


class StylePictureError(PictureError):
    """A picture whose style can't be read. ``path`` names it in errors."""

    def __init__(self, path: str, error: PictureError) -> None:
        super().__init__(error.reason, str(error))
        self.path = path


@dataclass(slots=True)
class StylePicture:
    """A picture whose style is asked for: the share ``weight`` of it.

    It is read once, however many frames are painted in it, and not kept beyond.
    """

    data: bytes = field(repr=False)
    weight: float
    path: str
    style: Floats | None = None

    def read(self, reader: StyleReader, limits: PictureLimits) -> Generator[None, None, Floats]:
        """The share of its style, float32 [S], in a step if it must be read. Raises StylePictureError, MemoryError."""
        if self.style is None:
            try:
                self.style = reader.read(self.data, limits)
            except PictureError as error:
                raise StylePictureError(self.path, error) from error
            self.data = b""
            yield
        return np.float32(self.weight) * self.style
