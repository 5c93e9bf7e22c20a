"""From the bytes of a picture to the bytes of the stylized one, in steps between which others take their turns.

A picture larger than a tile can't be normalised by its own moments tile by tile: each would come out in colours of its
own. The moments of a small copy serve for all (Thumbnail Instance Normalization, Chen et al. 2022, section 3.2), which
we run through the same network beforehand instead of alongside.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from oneglance_core.defaults import PICTURE_QUALITY
from oneglance_core.faces.finder import Photo
from oneglance_core.pictures import Layers, PictureLimits, decode_layers
from oneglance_server.engines.face_mask import FaceMask
from oneglance_server.engines.picture_output import HAS_ALPHA, OutputFormat, encode_picture
from oneglance_server.engines.steadying import FrameMemory
from oneglance_server.engines.strokes import LUMA, BroughtBack, copied, copy_size, strips
from oneglance_server.engines.style_reader import StyleReader
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.engines.tiles import Grid, cut

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_STEPS_BESIDE_TILES = 3  # decode, the small copy, encode


@dataclass(frozen=True, slots=True)
class PaintOptions:
    """How a picture shall be repainted.

    weights: float32 [S], how much of each style, summing to 1; of a stylizer for any style, the sum of the
        vectors of styles, each times its share.
    strength: how much of the stylized picture, [0, 1]. keep_colors: only its luma. quality: of JPEG and WebP.
    max_side: shrink to at most so many pixels on the longer side first; 0: don't.
    stroke_size: of strokes, times what the stylizer paints.
    keep_faces: how much less strength there is in faces, [0, 1].
    """

    weights: Floats = field(repr=False)
    strength: float = 1.0
    keep_colors: bool = False
    quality: int = PICTURE_QUALITY
    max_side: int = 0
    stroke_size: float = 1.0
    keep_faces: float = 0.0


@dataclass(frozen=True, slots=True)
class Work:
    """What it takes to paint a picture: of the copy that is painted its sides and how many tiles it is cut into, the
    steps of ``Painter.paint``, and the pixels of both together; they are one for strokes as the stylizer paints them.
    """

    height: int
    width: int
    tiles: int
    steps: int
    pixels: int


@dataclass(frozen=True, slots=True)
class Painted:
    """The encoded picture; ``tiles``: how many it was cut into."""

    image: bytes = field(repr=False)
    format: OutputFormat
    width: int
    height: int
    tiles: int


Steps = Generator[None, None, Painted]


class Painter:
    """Paints with one stylizer. Thread-safe; each generator that it gives is for one thread at a time.

    reader: of pictures' styles; None of a stylizer that has its own styles only.
    """

    def __init__(
        self, stylizer: Stylizer, grid: Grid, limits: PictureLimits, reader: StyleReader | None = None
    ) -> None:
        self.stylizer = stylizer
        self.reader = reader
        self.grid = grid
        self._limits = limits

    def work(self, height: int, width: int, stroke_size: float) -> Work:
        """For a picture of that size."""
        size = copy_size(height, width, stroke_size)
        tiles = len(self.grid.plan(*size))
        steps = tiles if tiles == 1 else tiles + _STEPS_BESIDE_TILES
        if size == (height, width):
            return Work(*size, tiles, steps, height * width)
        return Work(*size, tiles, steps + len(strips(height, width)), height * width + math.prod(size))

    def paint(
        self,
        data: bytes,
        options: PaintOptions,
        format: OutputFormat,
        memory: FrameMemory | None = None,
        steadiness: float = 0.0,
        seen: Photo | None = None,
    ) -> Steps:
        """The stylized picture; every step of the generator runs the network once at most, on a tile at most.

        ``memory``, with ``steadiness``: of the stream whose next frame this is; it changes when the frame is done.
        ``seen``: the faces of the picture, at any size of it, of which ``keep_faces`` is kept.
        Raises PictureError, MemoryError, and as Stylizer.run does.
        """
        layers = decode_layers(data, self._limits, max_side=options.max_side, keep_alpha=HAS_ALPHA[format])
        height, width = layers.pixels.shape[:2]
        mix = _Mix(options, FaceMask([face.box for face in seen.at_size(width, height).comparable]) if seen else None)
        size = copy_size(height, width, options.stroke_size)
        copy = layers if size == (height, width) else copied(layers, size, Image.Resampling.LANCZOS)
        plan = self.grid.plan(*size)
        frame = None
        moments, own = None, 1.0
        if memory is not None:
            style = (self.stylizer.digest, options.weights.tobytes())
            frame = memory.begin(copy.pixels, style, steadiness)
            moments, own = frame.moments, frame.own
        used: Floats | None = None
        if len(plan) > 1:
            yield
            _, moments = self.stylizer.run(self._small_copy(copy), options.weights, moments, own)
            own, used = 0.0, moments
        painted = np.empty_like(copy.pixels)
        for row, column in plan:
            if len(plan) > 1:
                yield
            tile = Layers(
                cut(copy.pixels, row, column),
                copy.alpha if copy.alpha is None else cut(copy.alpha, row, column),
            )
            stylized, now = self.stylizer.run(_on_white(tile), options.weights, moments, own)
            used = now if used is None else used
            part = stylized[row.inner, column.inner]
            if frame is not None:
                part = frame.steady(part, row.kept, column.kept)
            place = (row.kept, column.kept)
            painted[place] = mix(layers.pixels, part, *place) if copy is layers else _rounded(part)
        if frame is not None and used is not None:
            frame.finish(used)
        if copy is not layers:
            back = BroughtBack(_on_white(copy), painted, height, width)
            painted = np.empty_like(layers.pixels)
            for rows in strips(height, width):
                yield
                strip = Layers(layers.pixels[rows], layers.alpha if layers.alpha is None else layers.alpha[rows])
                painted[rows] = mix(layers.pixels, back.rows(rows, _on_white(strip)), rows, slice(0, width))
        if len(plan) > 1:
            yield
        image = encode_picture(Layers(painted, layers.alpha), format, options.quality)
        return Painted(image, format, width, height, len(plan))

    def _small_copy(self, layers: Layers) -> Pixels:
        size = self.grid.small_copy(*layers.pixels.shape[:2])
        ((row, column),) = self.grid.plan(*size)
        tile: Pixels = cut(_on_white(copied(layers, size, Image.Resampling.BOX)), row, column)
        return tile


class _Mix:
    """From what was painted to what is shown: luma alone if colours are kept, then the share ``strength`` of it, less
    where faces are. Strength 0 gives the picture."""

    def __init__(self, options: PaintOptions, faces: FaceMask | None) -> None:
        self._options = options
        self._faces = faces if faces and faces.faces and options.keep_faces else None

    def __call__(self, picture: Pixels, stylized: Floats, rows: slice, columns: slice) -> Pixels:
        """``stylized`` float32 [h, w, 3] is of these rows and columns of ``picture``; uint8 [h, w, 3]."""
        original = picture[rows, columns]
        result = stylized
        if self._options.keep_colors:
            # Chroma is what a colour differs from its luma by: exchanging the luma moves all three channels alike.
            luma = (stylized - original) @ LUMA
            result = np.clip(original + luma[..., np.newaxis], 0, 255)
        if self._options.strength < 1:
            result = original + np.float32(self._options.strength) * (result - original)
        if self._faces is not None:
            kept = np.float32(self._options.keep_faces) * self._faces.over(rows, columns)[..., np.newaxis]
            result = result + kept * (original - result)
        return _rounded(result)


def _rounded(values: Floats) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _on_white(layers: Layers) -> Pixels:
    """uint8 [H, W, 3]: what the network sees of a picture that shines through."""
    if layers.alpha is None:
        return layers.pixels
    alpha = layers.alpha[..., np.newaxis].astype(np.uint32)
    laid: Pixels = ((layers.pixels * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return laid
