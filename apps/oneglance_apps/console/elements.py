"""Pieces of the page, and figures as people read them."""

from google.protobuf.timestamp_pb2 import Timestamp
from nicegui import ui

from oneglance.v1.common_pb2 import (
    THRESHOLD_SOURCE_AUTHOR,
    THRESHOLD_SOURCE_CALIBRATION,
    THRESHOLD_SOURCE_GALLERY,
    THRESHOLD_SOURCE_MODEL,
    Calibration,
    Candidate,
    Threshold,
)
from oneglance.v1.face_pb2 import Face, Photo
from oneglance.v1.gallery_pb2 import CalibrateResponse

SOURCES = {
    THRESHOLD_SOURCE_MODEL: "calibrated with the model",
    THRESHOLD_SOURCE_GALLERY: "set by hand on this gallery",
    THRESHOLD_SOURCE_CALIBRATION: "calibrated on this gallery",
    THRESHOLD_SOURCE_AUTHOR: "recommended by the model's author, without evidence",
}


def draw_box(face: Face, photo: Photo, caption: str, state: str) -> ui.element:
    """A face's frame over the photo, with its name, and dots for its landmarks."""
    box = face.box
    place = (100 * box.x / photo.width, 100 * box.y / photo.height)
    size = (100 * box.width / photo.width, 100 * box.height / photo.height)
    frame = ui.element("button").classes(f"box {state}").props('type="button"')
    frame.style("left:{:.3f}%;top:{:.3f}%;width:{:.3f}%;height:{:.3f}%".format(*place, *size))
    with frame:
        for point in face.landmarks:
            x, y = 100 * (point.x - box.x) / box.width, 100 * (point.y - box.y) / box.height
            ui.element("i").style(f"left:{x:.2f}%;top:{y:.2f}%")
        ui.label(caption)
    return frame


def draw_thumb(face: Face, photo: Photo) -> None:
    """The face out of the photo, which the browser has in the CSS variable --photo."""
    box = face.box
    side = max(box.width, box.height, 1) * 1.3
    left, top = box.x + (box.width - side) / 2, box.y + (box.height - side) / 2
    # In percent, a background is placed by the room that it leaves.
    x, y = (100 * at / (room or 1) for at, room in ((left, photo.width - side), (top, photo.height - side)))
    ui.element("div").classes("thumb").style(
        f"background-size:{100 * photo.width / side:.2f}% {100 * photo.height / side:.2f}%;"
        f"background-position:{x:.2f}% {y:.2f}%"
    )


def draw_candidate(candidate: Candidate, tau: float | None, scale: float) -> None:
    """A subject and its distance, as a bar up to ``scale`` with a mark at tau."""
    under = tau is not None and candidate.distance <= tau
    with ui.element("div").classes("candidate under" if under else "candidate"):
        with ui.element("p"):
            ui.label(candidate.subject_id)
            ui.label(f"{candidate.distance:.4f}").classes("distance")
        with ui.element("div").classes("bar"):
            ui.element("i").style(f"width:{min(100, 100 * candidate.distance / scale):.1f}%")
            if tau is not None:
                ui.element("s").style(f"left:{min(100, 100 * tau / scale):.1f}%")


def draw_row(tag: str, *cells: str) -> list[ui.element]:
    """A row of a table, of ``th`` or ``td``; returns its cells."""
    made = []
    with ui.element("tr"):
        for text in cells:
            with ui.element(tag) as cell:
                if text:
                    ui.label(text)
            made.append(cell)
    return made


def draw_entry(term: str, text: str) -> None:
    """A term of a list and what it is."""
    with ui.element("dt"):
        ui.label(term)
    with ui.element("dd"):
        ui.label(text)


def quality_words(face: Face) -> str:
    words = f"{face.box.width:.0f} × {face.box.height:.0f} pixels, score {face.score:.2f}"
    return f"{words}, sharpness {face.quality.sharpness:.0f}" if face.HasField("quality") else words


def source_words(threshold: Threshold) -> str:
    words = SOURCES.get(threshold.source, "")
    return f"{words} ({threshold.id})" if threshold.id else words


def expected_words(threshold: Threshold, size: int) -> str:
    if not threshold.HasField("expected_fpir"):
        return "not known; nothing was calibrated"
    return f"about {percent(threshold.expected_fpir)} with {counted(size, 'subject')}"


def fpir_words(calibration: Calibration) -> str:
    return f"{percent(calibration.fpir)} ({percent(calibration.fpir_low)} to {percent(calibration.fpir_high)})"


def calibrated_words(answer: CalibrateResponse, *, dry_run: bool) -> str:
    fitted = answer.calibration
    fnir = f", FNIR {percent(fitted.fnir)}" if fitted.HasField("fnir") else ""
    left_out = max(answer.skipped_count, len(answer.skipped))
    skipped = f" Left out: {counted(left_out, 'photo')}." if left_out else ""
    return (
        f"τ {fitted.tau:.4f} {'would do' if dry_run else 'is in force'}: FPIR {fpir_words(fitted)}{fnir}, on "
        f"{counted(fitted.non_mated_probes, 'photo')} of strangers. Asked for: {percent(fitted.target_fpir)}.{skipped}"
    )


def parse_labels(text: str) -> dict[str, str]:
    """Of ``key=value, key=value``."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {key.strip(): value.strip() for key, _, value in pairs}


def percent(value: float) -> str:
    """Three digits: ``12.3 %``, ``0.0456 %``."""
    return f"{100 * value:.3g} %"


def counted(number: int, noun: str) -> str:
    """``1 face``, ``1,200 faces``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def utc(time: Timestamp) -> str:
    return f"{time.ToDatetime():%Y-%m-%d %H:%M} UTC"
