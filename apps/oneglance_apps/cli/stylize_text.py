"""What ``oneglance stylize`` prints: results and summaries, as text for people or as one line of JSON."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from oneglance.client.errors import OneglanceError
from oneglance.v1.stylization_pb2 import StylizedPicture
from oneglance_apps.cli import show
from oneglance_apps.error_words import why
from oneglance_apps.repaint.folder import TaskResult
from oneglance_apps.text import joined, short_digest

if TYPE_CHECKING:
    from oneglance_apps.repaint.video import VideoResult


@dataclass
class FolderCounts:
    """Results of a folder so far. ``total``: its pictures; ``left_out``: its other files."""

    total: int
    left_out: int
    painted: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, result: TaskResult) -> None:
        self.painted += result.picture is not None
        self.failed += result.error is not None
        self.skipped += result.skipped

    @property
    def done(self) -> int:
        return self.painted + self.failed + self.skipped

    def summary(self, seconds: float) -> str:
        return joined(
            f"{self.painted} stylized in {seconds:.1f} s",
            f"{self.skipped} skipped, as their outputs exist (--overwrite replaces them)" if self.skipped else "",
            f"{self.failed} failed" if self.failed else "",
            f"{self.total - self.done} not done" if self.total > self.done else "",
            f"{self.left_out} other files left out" if self.left_out else "",
        )


def picture_line(source: str, out: str, picture: StylizedPicture, *, as_json: bool) -> str:
    """A line about a picture that was written."""
    if not as_json:
        return f"{out}: {show.as_text(picture)}"
    about = StylizedPicture()
    about.CopyFrom(picture)
    about.ClearField("image")
    return json.dumps({"in": source, "out": out, **_fields(about, "image")})


def error_text(error: OneglanceError | OSError) -> str:
    """Why a picture of a folder failed."""
    return (
        why(error, ["the picture"]).removeprefix("the picture: ") if isinstance(error, OneglanceError) else str(error)
    )


def error_json(source: str, error: OneglanceError | OSError) -> str:
    fields = _fields(show.error_message(error)) if isinstance(error, OneglanceError) else {"message": str(error)}
    return json.dumps({"in": source, "error": fields})


def skipped_json(source: str, out: str) -> str:
    return json.dumps({"in": source, "out": out, "skipped": True})


def video_line(source: str, out: str, result: "VideoResult", *, as_json: bool) -> str:
    """A line about a video that was written."""
    answer = result.last_answer
    assert answer is not None
    if not as_json:
        by = f"by stylizer {short_digest(answer.stylizer_digest)} on {answer.execution_provider}"
        return f"{out}: {result.frames} frames, {result.width} x {result.height} h264, {by}"
    about = {
        "frames": result.frames,
        "resumed": result.resumed,
        "seconds": round(result.seconds, 3),
        "width": result.width,
        "height": result.height,
    }
    rest = _fields(answer, "image", "format", "width", "height")
    return json.dumps({"in": source, "out": out, **about, "sound": result.sound, "left": result.left, **rest})


def video_summary(out: Path, result: "VideoResult", seconds: float) -> str:
    fresh = result.frames - result.resumed
    return joined(
        f"{fresh} frames in {seconds:.1f} s, {fresh / seconds:.1f} a second",
        f"{result.resumed} were painted before" if result.resumed else "",
        f"{result.damaged} damaged packets skipped" if result.damaged else "",
        f"{result.missing} frames missing" if result.missing else "",
        f"the sound is left out, {out.suffix} can't hold it" if result.sound is False else "",
        f"left out: {', '.join(result.left)}" if result.left else "",
    )


def _fields(message: Message, *left_out: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(show.as_json(message))
    return {name: value for name, value in fields.items() if name not in left_out}
