"""A video file, repainted frame by frame into an H.264 file with the same times and sound. Needs PyAV and Pillow."""

import io
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.video.reformatter import Colorspace
from PIL import Image

from oneglance.client.errors import from_error
from oneglance.client.sync_client import Client
from oneglance.v1.stylization_pb2 import StylizedPicture
from oneglance_apps.repaint.files import FILMS
from oneglance_apps.repaint.look import Look
from oneglance_apps.watch.frames import SourceError, Video
from oneglance_core.files import replacing

CODEC = "libx264"
CRF = "18"  # of H.264: visually lossless
WIRE_QUALITY = 95  # of the JPEGs that frames travel as, unless said otherwise
ANY_SIDE = 65_535  # no JPEG is larger
EVERY_FRAME = 1e6  # frames a second, at most
BT709 = 1  # primaries, transfer and matrix alike, in ITU-T H.273
MPEG_RANGE = 1


@dataclass
class Film:
    """What was written.

    seconds: time of the last frame. frame: the last answer, without its picture. sound: whether it was copied; None
    when there is none. damaged: packets of the source that could not be decoded. broken: words about a source that
    ended early; what came before is written.
    """

    frames: int = 0
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    frame: StylizedPicture | None = None
    sound: bool | None = None
    damaged: int = 0
    broken: str = ""


def repaint_video(
    client: Client,
    look: Look,
    source: Path,
    out: Path,
    *,
    steadiness: float | None = None,
    show: Callable[[Film, float | None], None] = lambda film, length: None,
) -> Film:
    """Repaint every frame of ``source`` into ``out``, whose suffix is one of FILMS. ``show`` is told after each frame,
    with the length of the source in seconds where it is known.

    Sides of the output are even: an odd one gets a copy of its last row or column. Pixels are square and the picture
    stands upright. Raises SourceError when the source can't be read at all, OneglanceError for the first frame that the
    server refuses, and OSError.
    """
    video = Video(str(source), EVERY_FRAME, live=False)
    video.open()
    film = Film()
    times: deque[tuple[float, float, Fraction]] = deque()

    def frames() -> Iterator[bytes]:
        for frame in video.frames():
            content: Any = frame.content
            base = content.time_base or Fraction(1, 90_000)
            times.append((frame.moment.seconds, content.time or 0.0, base))
            yield frame.encoded(look.max_side or ANY_SIDE).data

    answers: Any = client.stylize_stream(
        frames(),
        look.styles,
        format="jpeg",
        quality=look.quality or WIRE_QUALITY,
        steadiness=steadiness,
        every_frame=True,
        **look.arguments,
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as fresh, _Writer(fresh, FILMS[out.suffix.lower()], source) as writer:
            try:
                for answer in answers:
                    if answer.HasField("error"):
                        raise from_error(answer.error)
                    seconds, read_at, base = times.popleft()
                    writer.add(answer.picture.image, seconds, read_at, base)
                    answer.picture.ClearField("image")
                    film.frames, film.seconds, film.frame = film.frames + 1, seconds, answer.picture
                    film.width, film.height = writer.size
                    show(film, video.length)
            except SourceError as error:
                if not film.frames:
                    raise
                film.broken = str(error)
            film.sound = writer.end()
    except av.FFmpegError as error:
        raise OSError(f"{out}: can't be written: {error.strerror}") from error
    finally:
        answers.close()  # ends the call, and with it the reading
    film.damaged = video.damaged
    return film


class _Writer:
    """Encodes pictures as they come; the first one says the size."""

    def __init__(self, path: Path, container_format: str, source: Path) -> None:
        self._path = path
        self._format = container_format
        self._source = source
        self._container: OutputContainer | None = None
        self._stream: Any = None
        self._sound: _Sound | None = None
        self._has_sound: bool | None = None
        self._base = Fraction(1, 90_000)
        self._last = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sound is not None:
            self._sound.close()
        if self._container is not None:
            self._container.close()

    def add(self, jpeg: bytes, seconds: float, read_at: float, base: Fraction) -> None:
        """The next picture. ``read_at``: its time in the source; ``base``: the unit of times there."""
        with Image.open(io.BytesIO(jpeg)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        if self._container is None:
            self._open(pixels, read_at - seconds, base)
        assert self._container is not None
        frame = av.VideoFrame.from_ndarray(_fitted(pixels, self._stream.width, self._stream.height), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        frame.pts = self._last = max(round(seconds / self._base), self._last + 1)
        frame.time_base = self._base
        if self._sound is not None:
            self._container.mux(list(self._sound.until(seconds)))
        self._container.mux(self._stream.encode(frame))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, once there was a picture."""
        return self._stream.width, self._stream.height

    def end(self) -> bool | None:
        """Write what is left; returns whether the sound is in it, None when there was none."""
        if self._container is not None:
            if self._sound is not None:
                self._container.mux(list(self._sound.until(None)))
            self._container.mux(self._stream.encode(None))
            container, self._container = self._container, None
            container.close()
        return self._has_sound

    def _open(self, pixels: npt.NDArray[np.uint8], start: float, base: Fraction) -> None:
        """``start``: the time in the source that is 0 in the output."""
        self._base = base
        sound = _Sound(self._source, start)
        # Which sound a container takes is known once its header is written.
        for copied in (sound, None) if sound.there else (None,):
            container = av.open(
                str(self._path),
                "w",
                format=self._format,
                options={} if self._format == "matroska" else {"movflags": "+faststart"},
            )
            stream: Any = container.add_stream(CODEC, rate=sound.frame_rate, options={"crf": CRF})
            stream.height, stream.width = (side + side % 2 for side in pixels.shape[:2])
            stream.pix_fmt = "yuv420p"
            context = stream.codec_context
            context.time_base = base
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.color_range = MPEG_RANGE
            try:
                if copied is not None:
                    copied.goes_to(container)
                container.start_encoding()
            except (av.FFmpegError, ValueError):
                container.close()
                if copied is None:
                    raise
                continue
            self._container, self._stream = container, stream
            break
        if sound.there:
            self._has_sound = copied is not None
        if copied is None:
            sound.close()
        self._sound = copied


class _Sound:
    """The sound of a file, copied packet by packet, ``start`` seconds earlier."""

    def __init__(self, path: Path, start: float) -> None:
        self._container = av.open(f"file:{path}")
        pictures: Any = self._container.streams.best("video")
        self.frame_rate = pictures.average_rate or 25
        self._stream: Any = self._container.streams.best("audio")
        self._out: Any = None
        self._start = start
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None

    @property
    def there(self) -> bool:
        return self._stream is not None

    def goes_to(self, container: OutputContainer) -> None:
        self._out = container.add_stream_from_template(self._stream, opaque=True)
        self._packets = self._container.demux(self._stream)

    def until(self, seconds: float | None) -> Iterator[Any]:
        """The packets up to a time in the output; None for all that are left."""
        while True:
            try:
                packet = self._next or next(self._packets)
            except (StopIteration, av.FFmpegError):  # the end, or where it breaks off
                return
            self._next = None
            if packet.dts is None or packet.time_base is None:
                continue
            at = float(packet.dts * packet.time_base) - self._start
            if seconds is not None and at > seconds:
                self._next = packet
                return
            shift = round(self._start / packet.time_base)
            packet.dts -= shift
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.stream = self._out
            yield packet

    def close(self) -> None:
        self._container.close()


def _fitted(pixels: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """``pixels`` [h, w, 3] at the size of the film: one row or column more, or resized if the source changed its size
    on its way."""
    more = height - pixels.shape[0], width - pixels.shape[1]
    if not all(0 <= side <= 1 for side in more):
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    return np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge") if any(more) else pixels
