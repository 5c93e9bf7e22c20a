"""From the bytes of a picture to arrays: the one way, of the exporter and of the server alike.

What an exporter measures is what a server serves only if both decode and prepare a picture alike, so nobody else opens
one. Limits hold before decoding. Errors::

    PictureError        a picture that can't be used; ``reason`` says why
    MemoryError         not enough memory for it now
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from oneglance_core.color_profile import changes_colors, to_srgb
from oneglance_core.deep_samples import STRIP_PIXELS, deep_color, is_deep, to_8_bit, white_of
from oneglance_core.manifests import InputSpec
from oneglance_core.picture_error import PictureError as PictureError
from oneglance_core.picture_opening import FORMATS as FORMATS
from oneglance_core.picture_opening import PictureLimits as PictureLimits
from oneglance_core.picture_opening import Size, check_bytes, kind_of, on_its_side, opened

_FILTERS = {"box": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR}
# What turns a picture of that EXIF orientation upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
_BACKGROUND = (255, 255, 255, 255)


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a picture says of itself. ``format``: PNG, JPEG, ...; ``width`` and ``height`` before EXIF turns it.

    ``color``: whether it has room for colour; its pixels may be gray even so.
    """

    format: str
    width: int
    height: int
    color: bool = True


@dataclass(frozen=True, slots=True)
class Layers:
    """A decoded picture: ``pixels`` uint8 [H, W, 3], rgb; ``alpha`` uint8 [H, W], or None when nothing shines through.

    With ``alpha`` the colours are not laid on anything.
    """

    pixels: npt.NDArray[np.uint8]
    alpha: npt.NDArray[np.uint8] | None = None


def encoder_input(data: bytes, spec: InputSpec, limits: PictureLimits) -> npt.NDArray[np.uint8]:
    """What an encoder that takes ``spec``, of kind ``image``, is given for a picture: uint8 [H, W, C], 0 black.

    EXIF orientation is honoured, transparency is laid on white, 16-bit samples are scaled to 8, CMYK becomes rgb,
    colours that an ICC profile explains become sRGB, of animations the first frame counts. The picture is brought to
    (H, W) by Pillow's ``spec.resize`` filter, as ``spec.fit`` says. Raises PictureError: IMAGE_EMPTY,
    IMAGE_TOO_LARGE, IMAGE_UNDECODABLE.
    """
    height, width, _ = spec.shape
    mode, size = "L" if spec.color == "gray" else "RGB", (width, height)

    def to_array(picture: Image.Image, _: Size) -> npt.NDArray[np.uint8]:
        if spec.fit is None:
            return _array(_flat(_upright(picture), mode), size, _FILTERS[spec.resize])
        flat = _flat(_upright(picture), mode)
        if spec.fit == "crop":
            return _array(flat.resize(size, _FILTERS[spec.resize], box=_covering(flat.size, size)))
        inside = _inside(flat.size, size)
        paper = Image.new(mode, size, _BACKGROUND[0] if mode == "L" else _BACKGROUND[:3])
        corner = ((width - inside[0]) // 2, (height - inside[1]) // 2)
        paper.paste(flat.resize(inside, _FILTERS[spec.resize]), corner)
        return _array(paper)

    def wanted(picture: Image.Image) -> tuple[str, Size]:
        return "RGB" if changes_colors(picture) else mode, size

    return opened(data, limits, to_array, None if spec.fit else wanted)


def decode_photo(data: bytes, limits: PictureLimits) -> npt.NDArray[np.uint8]:
    """Decode to ``uint8 [H, W, 3]``, rgb, upright, at its own size or at half of it. Otherwise as encoder_input.

    A JPEG of more pixels than the limit, but not four times as many, is decoded at half its sides, if its header lets
    it be decoded in one pass: else all of it is in memory before the first row comes out.
    """
    return decode_sized(data, limits)[0]


def decode_sized(data: bytes, limits: PictureLimits) -> tuple[npt.NDArray[np.uint8], Size]:
    """As decode_photo, and the (width, height) that the upright picture has in its file."""

    def photo(picture: Image.Image, stored: Size) -> tuple[npt.NDArray[np.uint8], Size]:
        return _array(_flat(_upright(picture), "RGB")), stored[::-1] if on_its_side(picture) else stored

    return opened(data, limits, photo)


def read_header(data: bytes, limits: PictureLimits) -> PictureHeader:
    """Format and size, without decoding. Raises PictureError as encoder_input does."""

    def header(picture: Image.Image, stored: Size) -> PictureHeader:
        return PictureHeader(kind_of(picture), *stored, picture.mode not in _GRAY_MODES)

    heif = check_bytes(data, limits)
    return opened(data, limits, header) if heif is None else PictureHeader(heif.format, heif.width, heif.height)


def decode_layers(
    data: bytes, limits: PictureLimits, *, max_side: int = 0, keep_alpha: bool = False, halve: bool = False
) -> Layers:
    """As decode_photo, but shrunk to at most ``max_side`` pixels on the longer side (0: not at all), and with the alpha
    channel apart if ``keep_alpha``; else it is laid on white. Never decoded at half its sides, unless ``halve``."""

    def layers(picture: Image.Image, _: Size) -> Layers:
        upright = _upright(picture)
        size = shrunk(upright.width, upright.height, max_side)
        if not (keep_alpha and _see_through(upright)):
            return Layers(_array(_flat(upright, "RGB"), size, Image.Resampling.LANCZOS))
        array = _array(upright.convert("RGBA"), size, Image.Resampling.LANCZOS)
        return Layers(np.ascontiguousarray(array[..., :3]), np.ascontiguousarray(array[..., 3]))

    def wanted(picture: Image.Image) -> tuple[str, Size]:
        size = shrunk(picture.width, picture.height, max_side)
        return "RGB", size[::-1] if on_its_side(picture) else size

    # Most who ask know the size from the header: it must not become another.
    return opened(data, limits, layers, wanted if max_side else None, halve=halve)


def shrunk(width: int, height: int, max_side: int) -> tuple[int, int]:
    """(width, height) with the longer side at most ``max_side``; 0 leaves them. Never enlarged, no side below 1."""
    longer = max(width, height)
    if not 0 < max_side < longer:
        return width, height
    return max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer))


def _covering(given: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box in the middle of a picture of ``given`` (width, height) that has the aspect of ``size``."""
    scale = min(given[0] / size[0], given[1] / size[1])
    wide, tall = size[0] * scale, size[1] * scale
    left, top = (given[0] - wide) / 2, (given[1] - tall) / 2
    return left, top, min(left + wide, given[0]), min(top + tall, given[1])


def _inside(given: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The largest (width, height) with the aspect of ``given`` that ``size`` has room for."""
    scale = min(size[0] / given[0], size[1] / given[1])
    return max(1, min(size[0], round(given[0] * scale))), max(1, min(size[1], round(given[1] * scale)))


def _upright(picture: Image.Image) -> Image.Image:
    """Decoded, turned as EXIF says, with 8 bits a sample, in sRGB or CMYK.

    No copy is made that isn't needed: it may be large.
    """
    white = white_of(picture)
    deep = deep_color(picture, white)
    if deep is not None:
        picture.load()
        picture.im = deep.im
    picture.load()
    turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    if turn is not None:  # in place, and without what ImageOps.exif_transpose does: to write all of EXIF anew
        turned = picture.transpose(turn)
        picture.im, picture._size = turned.im, turned.size
    return to_srgb(to_8_bit(picture, white) if is_deep(picture) else picture, picture.info.get("icc_profile"))


def _see_through(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info


def _flat(picture: Image.Image, mode: str) -> Image.Image:
    """Without transparency: laid on white."""
    if not _see_through(picture):
        return picture if picture.mode == mode else picture.convert(mode)
    layer = picture.convert("RGBA")
    flat = Image.new(mode, layer.size)
    rows = _strip(layer)
    for top in range(0, layer.height, rows):  # Pillow lets no other thread run while it lays one picture on another
        strip = layer.crop((0, top, layer.width, min(top + rows, layer.height)))
        flat.paste(Image.alpha_composite(Image.new("RGBA", strip.size, _BACKGROUND), strip).convert(mode), (0, top))
    return flat


def _array(
    picture: Image.Image, size: tuple[int, int] | None = None, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> npt.NDArray[np.uint8]:
    if size and picture.size != size:
        picture = picture.resize(size, resample)
    array = np.asarray(picture, dtype=np.uint8)
    return array[..., np.newaxis] if array.ndim == 2 else array


def _strip(picture: Image.Image) -> int:
    """How many rows of a picture to work on at once."""
    return max(1, STRIP_PIXELS // picture.width)
