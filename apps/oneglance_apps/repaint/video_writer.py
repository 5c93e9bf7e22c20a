"""Encode pictures as H.264, and copy the sound of the source video next to them. Needs PyAV and Pillow."""

import io
from collections.abc import Iterator
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

CODEC = "libx264"
CRF = "18"  # quality of H.264: visually lossless
BT709 = 1  # code of ITU-T H.273 for primaries, transfer and matrix
MPEG_RANGE = 1


class VideoWriter:
    """Writes one video file. The first picture decides its size."""

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
        """Write the next picture, shown at ``seconds``. ``read_at``: its time in the source; ``base``: time unit."""
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
        """Width and height in pixels; known after the first picture."""
        return self._stream.width, self._stream.height

    def end(self) -> bool | None:
        """Finish the file. Returns whether it has the sound; None when the source has none."""
        if self._container is not None:
            if self._sound is not None:
                self._container.mux(list(self._sound.until(None)))
            self._container.mux(self._stream.encode(None))
            container, self._container = self._container, None
            container.close()
        return self._has_sound

    def _open(self, pixels: npt.NDArray[np.uint8], start: float, base: Fraction) -> None:
        """``start``: the time in the source that becomes 0 in the output."""
        self._base = base
        sound = _Sound(self._source, start)
        # Only writing the header shows whether the container can hold this sound: try with it, then without.
        for copied in (sound, None) if sound.exists else (None,):
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
                    copied.copy_to(container)
                container.start_encoding()
            except (av.FFmpegError, ValueError):
                container.close()
                if copied is None:
                    raise
                continue
            self._container, self._stream = container, stream
            break
        if sound.exists:
            self._has_sound = copied is not None
        if copied is None:
            sound.close()
        self._sound = copied


class _Sound:
    """The sound of a file, copied packet by packet, with times reduced by ``start`` seconds."""

    def __init__(self, path: Path, start: float) -> None:
        self._container = av.open(f"file:{path}")
        pictures: Any = self._container.streams.best("video")
        self.frame_rate = pictures.average_rate or 25
        self._stream: Any = self._container.streams.best("audio")
        self._output_stream: Any = None
        self._start = start
        self._packets: Iterator[Any] = iter(())
        self._next_packet: Any = None

    @property
    def exists(self) -> bool:
        return self._stream is not None

    def copy_to(self, container: OutputContainer) -> None:
        self._output_stream = container.add_stream_from_template(self._stream, opaque=True)
        self._packets = self._container.demux(self._stream)

    def until(self, seconds: float | None) -> Iterator[Any]:
        """The next packets, up to a time in the output; None: all that are left."""
        while True:
            try:
                packet = self._next_packet or next(self._packets)
            except (StopIteration, av.FFmpegError):  # the end, or the file breaks off
                return
            self._next_packet = None
            if packet.dts is None or packet.time_base is None:
                continue
            at = float(packet.dts * packet.time_base) - self._start
            if seconds is not None and at > seconds:
                self._next_packet = packet
                return
            shift = round(self._start / packet.time_base)
            packet.dts -= shift
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.stream = self._output_stream
            yield packet

    def close(self) -> None:
        self._container.close()


def _fitted(pixels: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """``pixels`` uint8 [h, w, 3] at the size of the video: one row or column repeated, or resized if the source changed
    its size."""
    more = height - pixels.shape[0], width - pixels.shape[1]
    if not all(0 <= side <= 1 for side in more):
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    return np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge") if any(more) else pixels
