"""Repaint a video file, frame by frame, into an H.264 file with the same times and sound. Needs PyAV and Pillow."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from oneglance.client.errors import from_error
from oneglance.client.sync_client import Client
from oneglance.v1.stylization_pb2 import StylizedPicture
from oneglance_apps.frames.source_error import SourceError
from oneglance_apps.frames.video import VideoSource
from oneglance_apps.picture_formats import FRAME_QUALITY
from oneglance_apps.repaint.files import VIDEO_CONTAINERS
from oneglance_apps.repaint.style_choice import StyleChoice
from oneglance_apps.repaint.video_writer import VideoWriter
from oneglance_core.files import replacing

NO_MAX_SIDE = 65_535  # the largest side of a JPEG


@dataclass
class VideoResult:
    """What was written.

    seconds: time of the last frame. last_answer: the server's answer to it, without the picture.
    sound: whether all its sound was copied; None when the source has none.
    left: other tracks that are not in the output, in words.
    damaged: packets of the source that could not be decoded; missing: frames that are not there.
    broken: why the source ended early, a message; the frames before that are written.
    """

    frames: int = 0
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    last_answer: StylizedPicture | None = None
    sound: bool | None = None
    left: tuple[str, ...] = ()
    damaged: int = 0
    missing: int = 0
    broken: str = ""


def repaint_video(
    client: Client,
    choice: StyleChoice,
    source: Path,
    out: Path,
    *,
    steadiness: float | None = None,
    show: Callable[[VideoResult, float | None], None] = lambda result, length: None,
) -> VideoResult:
    """Repaint every frame of ``source`` into ``out``, whose suffix is one of VIDEO_CONTAINERS.

    show: called after each frame with the result so far, and the length of the source in seconds (None: unknown).

    The output stands upright, with square pixels and even sides: an odd side gets a copy of its last row or column.
    Raises SourceError when no frame can be read, OneglanceError for the first frame that the server refuses, and
    OSError.
    """
    video = VideoSource(str(source), live=False)
    video.open()
    result = VideoResult()
    times: deque[tuple[float, float, Fraction]] = deque()

    def frames() -> Iterator[bytes]:
        for frame in video.frames():
            content: Any = frame.content
            base = content.time_base or Fraction(1, 90_000)
            times.append((frame.moment.seconds, content.time or 0.0, base))
            yield frame.encoded(choice.max_side or NO_MAX_SIDE).data

    answers: Any = client.stylize_stream(
        frames(),
        choice.styles,
        format="jpeg",
        quality=choice.quality or FRAME_QUALITY,
        steadiness=steadiness,
        every_frame=True,
        **choice.arguments,
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as fresh, VideoWriter(fresh, VIDEO_CONTAINERS[out.suffix.lower()], source) as writer:
            try:
                for answer in answers:
                    if answer.HasField("error"):
                        raise from_error(answer.error)
                    seconds, read_at, base = times.popleft()
                    writer.add(answer.picture.image, seconds, read_at, base)
                    answer.picture.ClearField("image")
                    result.frames, result.seconds, result.last_answer = result.frames + 1, seconds, answer.picture
                    result.width, result.height = writer.size
                    show(result, video.length)
            except SourceError as error:
                if not result.frames:
                    raise
                result.broken = str(error)
            if others := writer.end():
                result.sound, result.left = others.has_sound, tuple(others.left)
    except av.FFmpegError as error:
        failed = OSError(f"{out}: can't be written: {error.strerror}")
        failed.errno = error.errno
        raise failed from error
    finally:
        answers.close()  # ends the call, which stops reading the source
    result.damaged, result.missing = video.damaged, video.missing
    return result
