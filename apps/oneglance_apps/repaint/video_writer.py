"""Encode pictures as H.264, next to the other tracks of the source video. Needs PyAV and Pillow."""

import io
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

from oneglance_apps.repaint.other_tracks import OtherTracks

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
        self._others: OtherTracks | None = None
        self._base = Fraction(1, 90_000)
        self._last = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._others is not None:
            self._others.close()
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
        assert self._others is not None
        self._container.mux(list(self._others.until(seconds)))
        self._container.mux(self._stream.encode(frame))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels; known after the first picture."""
        return self._stream.width, self._stream.height

    def end(self) -> OtherTracks | None:
        """Finish the file. Returns what was copied beside the pictures; None when there were none."""
        if self._container is not None:
            assert self._others is not None
            self._container.mux(list(self._others.until(None)))
            self._container.mux(self._stream.encode(None))
            container, self._container = self._container, None
            container.close()
        return self._others

    def _open(self, pixels: npt.NDArray[np.uint8], start: float, base: Fraction) -> None:
        """``start``: the time in the source that becomes 0 in the output."""
        self._base = base
        self._others = others = OtherTracks(self._source, self._format, start)
        container = self._container = av.open(
            str(self._path),
            "w",
            format=self._format,
            options={} if self._format == "matroska" else {"movflags": "+faststart"},
        )
        stream: Any = container.add_stream(CODEC, rate=others.frame_rate, options={"crf": CRF})
        self._stream = stream
        stream.height, stream.width = (side + side % 2 for side in pixels.shape[:2])
        stream.pix_fmt = "yuv420p"
        context: Any = stream.codec_context
        context.time_base = base
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = MPEG_RANGE
        others.copy_to(container)
        container.start_encoding()


def _fitted(pixels: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """``pixels`` uint8 [h, w, 3] at the size of the video: one row or column repeated, or resized if the source changed
    its size."""
    more = height - pixels.shape[0], width - pixels.shape[1]
    if not all(0 <= side <= 1 for side in more):
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    return np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge") if any(more) else pixels
