"""Texts of the page: thresholds, rates, quality, times."""

from google.protobuf.timestamp_pb2 import Timestamp

from oneglance.v1.common_pb2 import (
    THRESHOLD_SOURCE_AUTHOR,
    THRESHOLD_SOURCE_CALIBRATION,
    THRESHOLD_SOURCE_GALLERY,
    THRESHOLD_SOURCE_MODEL,
    Calibration,
    Threshold,
)
from oneglance.v1.face_pb2 import Face
from oneglance.v1.gallery_pb2 import CalibrateResponse
from oneglance_apps.text import counted, distance

SOURCES = {
    THRESHOLD_SOURCE_MODEL: "from what was measured of the model",
    THRESHOLD_SOURCE_GALLERY: "set by hand on this gallery",
    THRESHOLD_SOURCE_CALIBRATION: "calibrated on this gallery",
    THRESHOLD_SOURCE_AUTHOR: "recommended by the model's author, without evidence",
}


def quality_text(face: Face) -> str:
    text = f"{face.box.width:.0f} × {face.box.height:.0f} pixels, score {face.score:.2f}"
    return f"{text}, sharpness {face.quality.sharpness:.0f}" if face.HasField("quality") else text


def source_text(threshold: Threshold) -> str:
    text = SOURCES.get(threshold.source, "")
    return f"{text} ({threshold.id})" if threshold.id else text


def expected_fpir_text(threshold: Threshold, size: int) -> str:
    if not threshold.HasField("expected_fpir"):
        return "not known; nothing was calibrated"
    text = f"about {percent(threshold.expected_fpir)} with {counted(size, 'subject')}"
    if not threshold.HasField("expected_fpir_high"):
        return text
    return f"{text} (95 %: {percent(threshold.expected_fpir_low)} to {percent(threshold.expected_fpir_high)})"


def fpir_text(calibration: Calibration) -> str:
    return f"{percent(calibration.fpir)} ({percent(calibration.fpir_low)} to {percent(calibration.fpir_high)})"


def calibration_text(answer: CalibrateResponse, *, dry_run: bool) -> str:
    fitted = answer.calibration
    fnir = f", FNIR {percent(fitted.fnir)}" if fitted.HasField("fnir") else ""
    left_out = max(answer.skipped_count, len(answer.skipped))
    skipped = f" Left out: {counted(left_out, 'photo')}." if left_out else ""
    return (
        f"τ {distance(fitted.tau)} {'would do' if dry_run else 'is in force'}: FPIR {fpir_text(fitted)}{fnir}, on "
        f"{counted(fitted.non_mated_probes, 'photo')} of strangers. Asked for: {percent(fitted.target_fpir)}.{skipped}"
    )


def parse_labels(text: str) -> dict[str, str]:
    """The labels in ``key=value, key=value``."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {key.strip(): value.strip() for key, _, value in pairs}


def percent(value: float) -> str:
    """Three significant digits: ``12.3 %``, ``0.0456 %``."""
    return f"{100 * value:.3g} %"


def utc(time: Timestamp) -> str:
    return f"{time.ToDatetime():%Y-%m-%d %H:%M} UTC"
