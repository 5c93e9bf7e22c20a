"""Texts of the page about thresholds, rates, faces, doubts and times."""

from google.protobuf.timestamp_pb2 import Timestamp

from oneglance.v1.common_pb2 import (
    DOUBT_KIND_LIKE_ANOTHER,
    THRESHOLD_SOURCE_AUTHOR,
    THRESHOLD_SOURCE_CALIBRATION,
    THRESHOLD_SOURCE_GALLERY,
    THRESHOLD_SOURCE_MODEL,
    Breach,
    Calibration,
    Doubt,
    Threshold,
    ThresholdSource,
)
from oneglance.v1.face_pb2 import Face
from oneglance.v1.gallery_pb2 import CalibrateResponse
from oneglance_apps.console.words import Words
from oneglance_apps.text import distance

_SOURCES = {
    THRESHOLD_SOURCE_MODEL: "tau.from_model",
    THRESHOLD_SOURCE_GALLERY: "tau.from_hand",
    THRESHOLD_SOURCE_CALIBRATION: "tau.from_calibration",
    THRESHOLD_SOURCE_AUTHOR: "tau.from_author",
}


def quality_text(say: Words, face: Face) -> str:
    size = {"width": f"{face.box.width:.0f}", "height": f"{face.box.height:.0f}", "score": f"{face.score:.2f}"}
    if face.HasField("quality"):
        return say("look.face_sharpness", **size, sharpness=f"{face.quality.sharpness:.0f}")
    return say("look.face_size", **size)


def breach_text(say: Words, found: Breach) -> str:
    """``Doubtful: sharpness 1.2, at least 3``; the figure is called as the server calls it."""
    below = found.HasField("least") and not found.value >= found.least
    bound = say("quality.least", least=f"{found.least:g}") if below else say("quality.most", most=f"{found.most:g}")
    return say("look.doubtful", what=f"{found.figure} {found.value:.3g}, {bound}")


def doubt_text(say: Words, found: Doubt) -> str:
    """What is doubtful about an enrollment, and what to do about it."""
    kind = "doubt.like_another" if found.kind == DOUBT_KIND_LIKE_ANOTHER else "doubt.unlike_own"
    return say(kind, subject=found.subject_id, distance=distance(found.distance), limit=distance(found.limit))


def source_name(say: Words, source: ThresholdSource.ValueType) -> str:
    return say(_SOURCES[source]) if source in _SOURCES else ""


def source_text(say: Words, threshold: Threshold) -> str:
    text = source_name(say, threshold.source)
    return f"{text} ({threshold.id})" if threshold.id else text


def expected_fpir_text(say: Words, threshold: Threshold, size: int) -> str:
    if not threshold.HasField("expected_fpir"):
        return say("fpir.unknown")
    text = say("fpir.about", fpir=percent(threshold.expected_fpir), subjects=say("count.subjects", n=size))
    interval = fpir_interval(say, threshold)
    return f"{text} ({interval})" if interval else text


def fpir_interval(say: Words, threshold: Threshold) -> str:
    """The 95 % interval of the FPIR to expect; empty where the server can't tell one."""
    if not threshold.HasField("expected_fpir_high"):
        return ""
    low, high = percent(threshold.expected_fpir_low), percent(threshold.expected_fpir_high)
    return say("fpir.interval", low=low, high=high)


def fpir_text(say: Words, calibration: Calibration) -> str:
    low, high = percent(calibration.fpir_low), percent(calibration.fpir_high)
    return f"{percent(calibration.fpir)} ({say('fpir.range', low=low, high=high)})"


def calibration_text(say: Words, answer: CalibrateResponse, *, dry_run: bool) -> str:
    fitted = answer.calibration
    fnir = f", FNIR {percent(fitted.fnir)}" if fitted.HasField("fnir") else ""
    left_out = max(answer.skipped_count, len(answer.skipped))
    text = say(
        "calibrate.would_do" if dry_run else "calibrate.in_force",
        tau=distance(fitted.tau),
        rates=f"FPIR {fpir_text(say, fitted)}{fnir}",
        photos=say("count.photos", n=fitted.non_mated_probes),
        target=percent(fitted.target_fpir),
    )
    return f"{text} {say('calibrate.left_out', photos=say('count.photos', n=left_out))}" if left_out else text


def parse_labels(say: Words, text: str) -> dict[str, str]:
    """The labels in ``key=value, key=value``. Raises ValueError in words that say which part is none."""
    labels: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(say("labels.no_equals", part=part))
        if not key:
            raise ValueError(say("labels.no_key", part=part))
        if labels.setdefault(key, value) != value:
            raise ValueError(say("labels.twice", key=key))
    return labels


def labels_fault(say: Words, text: str | None) -> str | None:
    """Why ``text`` can't be read as labels; None when it can."""
    try:
        parse_labels(say, text or "")
    except ValueError as error:
        return str(error)
    return None


def percent(value: float) -> str:
    """Three significant digits: ``12.3 %``, ``0.0456 %``."""
    return f"{100 * value:.3g} %"


def utc(time: Timestamp) -> str:
    return f"{time.ToDatetime():%Y-%m-%d %H:%M} UTC"
