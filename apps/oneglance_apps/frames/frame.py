"""One frame, and its JPEG for the server."""

import io
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter
from PIL import Image

from oneglance.defaults import MAX_MESSAGE_BYTES
from oneglance_apps.frames.moment import Moment
from oneglance_apps.frames.region import WHOLE, Region
from oneglance_apps.picture_formats import FRAME_QUALITY
from oneglance_core.pictures import PictureError, PictureLimits, decode_sized, read_header

MAX_UNCHANGED_BYTES = 8 << 20  # larger picture files are encoded again
MAX_FILE_BYTES = MAX_MESSAGE_BYTES - (4 << 20)  # of a picture file, in one message
HDR_CURVES = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_LIMITS = PictureLimits(max_image_bytes=MAX_FILE_BYTES, max_image_pixels=1 << 27)


@dataclass(frozen=True)
class EncodedFrame:
    """An encoded picture of a frame, or of a part of it.

    scale_x, scale_y: factors from its pixels to those of the frame. left, top: of the part, in pixels of the frame.
    pixels: width x height; 0: it is a file as it is.
    """

    data: bytes
    pixels: int = 0
    scale_x: float = 1.0
    scale_y: float = 1.0
    left: float = 0.0
    top: float = 0.0


class StandardColours:
    """Brings frames to BT.709: HDR (PQ, HLG) and wide colours. What is brighter than white on paper, 203 cd/m2, becomes
    white.

    The tables for one kind of frames take seconds to make and are kept: so one for all frames of a source. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reformatter = VideoReformatter()

    def __call__(self, image: av.VideoFrame) -> av.VideoFrame:
        if image.color_trc not in HDR_CURVES and image.color_primaries != ColorPrimaries.BT2020:
            return image
        with self._lock:
            return self._reformatter.reformat(
                image, format="rgb24", dst_color_trc=ColorTrc.BT709, dst_color_primaries=ColorPrimaries.BT709
            )


@dataclass(frozen=True)
class Frame:
    """A decoded frame of a video, or the path of a picture.

    aspect: width / height of one of its pixels. taken: when it was taken, or read from a file, by the clock's ``now``.
    colours: what brings it to BT.709; the frames of a source share one.
    """

    moment: Moment
    content: av.VideoFrame | Path
    aspect: float = 1.0
    taken: float = 0.0
    colours: StandardColours = field(default_factory=StandardColours, compare=False, repr=False)

    def encoded(self, max_side: int, region: Region = WHOLE) -> EncodedFrame:
        """The region of the frame as JPEG: upright, with square pixels, longer side at most ``max_side`` pixels.

        A picture file that is small enough is sent unchanged. So is one that can't be decoded here: the server decides
        about it. Raises OSError for a file that can't be read.
        """
        if isinstance(self.content, Path):
            return _encoded_file(self.content, max_side, region)
        image = Image.fromarray(self.colours(self.content).to_ndarray(format="rgb24"))
        if turns := round(self.content.rotation / 90) % 4:
            image = image.transpose(
                (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)[turns - 1]
            )
        stretch = (1.0, self.aspect) if turns % 2 else (self.aspect, 1.0)
        return _shrunk(image, max_side, stretch, region)


def _encoded_file(path: Path, max_side: int, region: Region) -> EncodedFrame:
    data = path.read_bytes()
    if len(data) > MAX_FILE_BYTES:
        raise OSError(f"{path}: {len(data):,} bytes, too large for a message")
    try:
        header = read_header(data, _LIMITS)
        small = max(header.width, header.height) <= max_side and len(data) <= MAX_UNCHANGED_BYTES
        if small and region == WHOLE:
            return EncodedFrame(data)
        upright, size = decode_sized(data, _LIMITS)
    except PictureError:
        return EncodedFrame(data)
    frame = _shrunk(Image.fromarray(upright), max_side, (1.0, 1.0), region)
    across, down = size[0] / upright.shape[1], size[1] / upright.shape[0]  # 1, unless it was decoded at half its sides
    return replace(
        frame,
        scale_x=frame.scale_x * across,
        scale_y=frame.scale_y * down,
        left=frame.left * across,
        top=frame.top * down,
    )


def _shrunk(image: Image.Image, max_side: int, stretch: tuple[float, float], region: Region) -> EncodedFrame:
    """``stretch``: factors of width and height that make the pixels square."""
    left, top = round(region[0] * image.width), round(region[1] * image.height)
    right, bottom = round((region[0] + region[2]) * image.width), round((region[1] + region[3]) * image.height)
    if region != WHOLE:
        image = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    width, height = image.size
    square = width * stretch[0], height * stretch[1]
    factor = min(1.0, max_side / max(square))
    size = max(1, round(square[0] * factor)), max(1, round(square[1] * factor))
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=FRAME_QUALITY, subsampling=0)
    return EncodedFrame(buffer.getvalue(), size[0] * size[1], width / size[0], height / size[1], left, top)
