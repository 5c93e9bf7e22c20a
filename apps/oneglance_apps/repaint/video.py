"""Repaint a video file, frame by frame, into an H.264 file with the same times and sound. Needs PyAV and Pillow."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
from oneglance_apps.repaint.parts_writer import PartsWriter
from oneglance_apps.repaint.style_choice import StyleChoice
from oneglance_apps.repaint.video_writer import PictureWriter, VideoWriter
from oneglance_core.defaults import STEADINESS
from oneglance_core.files import replacing

NO_MAX_SIDE = 65_535  # the largest side of a JPEG
# The share of a frame in what the server keeps of it that shows in no later frame any more: far below what a float32
# holds, so that what is kept comes out the same, but where a number lies between two roundings.
FORGOTTEN = 1e-12


@dataclass
class VideoResult:
    """What was written.

    resumed: how many of the frames were painted by earlier runs.
    seconds: time of the last frame. last_answer: the server's answer to it, without the picture.
    sound: whether all its sound was copied; None when the source has none.
    left: other tracks that are not in the output, in words.
    damaged: packets of the source that could not be decoded; missing: frames that are not there.
    broken: why the source ended early, a message; the frames before that are written.
    """

    frames: int = 0
    resumed: int = 0
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
    resume: bool = False,
    show: Callable[[VideoResult, float | None], None] = lambda result, length: None,
) -> VideoResult:
    """Repaint every frame of ``source`` into ``out``, whose suffix is one of VIDEO_CONTAINERS.

    resume: what is painted is kept until ``out`` is complete, and a later call with the same arguments goes on there;
    see PartsWriter.
    show: called after each frame with the result so far, and the length of the source in seconds (None: unknown).

    The output stands upright, with square pixels and even sides: an odd side gets a copy of its last row or column.
    Raises SourceError when no frame can be read, OneglanceError for the first frame that the server refuses, OSError,
    and ValueError when what was kept can't be gone on with.
    """
    video = VideoSource(str(source), live=False)
    video.open()
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            writer: PictureWriter
            if resume:
                told = {
                    **_identity(source),
                    **choice.told(),
                    "steadiness": steadiness,
                    "ffmpeg": av.ffmpeg_version_info,
                }
                writer = parts = stack.enter_context(
                    PartsWriter(out, VIDEO_CONTAINERS[out.suffix.lower()], source, told)
                )
                check, done = parts.check_painter, parts.done
            else:
                fresh = stack.enter_context(replacing(out))
                writer = stack.enter_context(VideoWriter(fresh, VIDEO_CONTAINERS[out.suffix.lower()], source))
                check, done = _any_painter, 0
            return _painted(client, choice, video, writer, done, check, steadiness, show)
    except av.FFmpegError as error:
        failed = OSError(f"{out}: can't be written: {error.strerror}")
        failed.errno = error.errno
        raise failed from error


def _painted(
    client: Client,
    choice: StyleChoice,
    video: VideoSource,
    writer: PictureWriter,
    done: int,
    check: Callable[[str], None],
    steadiness: float | None,
    show: Callable[[VideoResult, float | None], None],
) -> VideoResult:
    """Paint the frames from ``done`` on. ``check``: called with the digest of the stylizer, before its first picture is
    written."""
    result = VideoResult(frames=done, resumed=done)
    first = max(0, done - _remembered(STEADINESS if steadiness is None else steadiness))
    times: deque[tuple[float, float, Fraction]] = deque()

    def frames() -> Iterator[bytes]:
        for number, frame in enumerate(video.frames()):
            if number < first:
                continue
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
        for number, answer in enumerate(answers, first):
            if answer.HasField("error"):
                raise from_error(answer.error)
            if number == first:
                check(answer.picture.stylizer_digest)
            seconds, read_at, base = times.popleft()
            if number >= done:
                writer.add(answer.picture.image, seconds, read_at, base)
                result.frames += 1
            answer.picture.ClearField("image")
            result.seconds, result.last_answer = seconds, answer.picture
            result.width, result.height = writer.size
            show(result, video.length)
    except SourceError as error:
        if not result.frames:
            raise
        result.broken = str(error)
    finally:
        answers.close()  # ends the call, which stops reading the source
    if others := writer.end():
        result.sound, result.left = others.has_sound, tuple(others.left)
    result.damaged, result.missing = video.damaged, video.missing
    return result


def _remembered(steadiness: float) -> int:
    """How many frames before one have a share in it, as the server keeps so much of each in the next; 1 at least."""
    return math.ceil(math.log(FORGOTTEN) / math.log(steadiness)) if 0 < steadiness < 1 else 1


def _identity(source: Path) -> dict[str, Any]:
    """What tells the file from others, and from itself after a change."""
    status = source.stat()
    return {"source": str(source.resolve()), "bytes": status.st_size, "changed_ns": status.st_mtime_ns}


def _any_painter(digest: str) -> None:
    pass
