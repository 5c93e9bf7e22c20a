"""What a run's figures say against it, in sentences computed from them."""

from dataclasses import dataclass
from typing import Any

from oneglance_apps.demo.measure import Share
from oneglance_apps.demo.report import Report
from oneglance_apps.demo.words import distance, interval, of, percent, rate

_FIT_TITLES = {
    "in keeping with": "The threshold was {}",
    "above": "The threshold is too lenient here",
    "below": "The threshold is too strict here",
}
_HARD = 0.2  # FNIR beyond which "hard" is the word


@dataclass(frozen=True)
class WeakSpot:
    title: str
    text: str


def weak_spots(report: Report) -> list[WeakSpot]:
    """The honest reading of a run, worst first."""
    figures = report.identification.figures
    noun, picture = report.collection.noun, report.collection.picture_noun
    spots = [_open_set(report), _threshold(report)]
    misses = figures.rank_one.total - figures.rank_one.count
    if misses:
        spots.append(
            WeakSpot(
                "The nearest is not always the right one",
                f"For {misses:,} of {figures.rank_one.total:,} new {picture}s somebody else's enrolled {picture} was "
                f"nearer than their own. No threshold mends that; more {picture}s per {noun} or a better encoder do.",
            )
        )
    if figures.mistaken.count:
        spots.append(
            WeakSpot(
                "Some were taken for somebody else",
                f"{rate(figures.mistaken)} of the new {picture}s were identified as another {noun} at the τ used.",
            )
        )
    spots.append(
        WeakSpot(
            "The intervals are a little too narrow",
            f"They take probes as independent, but {figures.decided.fpir.total:,} non-mated probes come from "
            f"{len({o.owner for o in figures.non_mated}):,} strangers, and the {picture}s of one resemble each other.",
        )
    )
    if report.collection.drawn:
        spots.append(
            WeakSpot(
                "A program drew this",
                "The characters are random strokes and the hands that draw them are simulated. How people's drawings "
                "fare is a matter for people's drawings: oneglance demo --images DIR runs the same on yours.",
            )
        )
    else:
        spots.append(
            WeakSpot(
                "The bundled encoder has its field",
                f"It is the model {report.model.name!r}. {report.model.description} Where your pictures show something "
                "else, the figures above say what it is worth there; training one on your own is the way on.",
            )
        )
    spots.append(
        WeakSpot(
            "Small, and on one machine",
            f"{report.enrolled:,} enrolled, one client, server and client on the same machine ({report.machine}) with "
            "whatever else it was doing. Times from elsewhere will differ.",
        )
    )
    spots.append(
        WeakSpot(
            "kill -9 is not a power cut",
            "The process was killed, the operating system was not. An acknowledgement waits for fsync, so it holds "
            "in a power cut as far as the disk keeps its word; this run did not test that.",
        )
    )
    return spots


def _open_set(report: Report) -> WeakSpot:
    noun, picture = report.collection.noun, report.collection.picture_noun
    points = list(report.identification.figures.at_fpirs.items())
    told = "; ".join(
        f"at FPIR {100 * target:g} % ({of(point.fpir)} let in, τ {distance(point.tau)}) the FNIR is {rate(point.fnir)}"
        for target, point in points
    )
    hard = points[0][1].fnir.value > _HARD
    return WeakSpot(
        f"One {picture} per {noun} is hard in open set" if hard else "Open set costs recognitions",
        f"Naming the nearest is the easy half; refusing everybody else is the hard one. With the threshold set after "
        f"the fact from this very run, {told}. Enrolling several {picture}s of each {noun} and a better encoder "
        "lower that.",
    )


def _threshold(report: Report) -> WeakSpot:
    point = report.identification.figures.decided
    threshold = report.threshold
    text = (
        f"At τ {distance(point.tau)} this run let in {rate(point.fpir)} of the strangers' probes (95 % interval "
        f"{interval(point.fpir)}) and did not identify {rate(point.fnir)} of the known ones. "
    )
    rehearsal = report.rehearsal
    calibration: dict[str, Any] = report.manifest.get("threshold") or {}
    if rehearsal:
        fits = _fit(point.fpir, rehearsal.target_fpir)
        text += (
            f"The FPIR is {fits} the target of {100 * rehearsal.target_fpir:g} %, for which τ was set by "
            f"{rehearsal.fpir.total:,} probes of {rehearsal.strangers:,} other strangers of the same making: the "
            "easiest case there is. "
        )
        title = _FIT_TITLES[fits].format("set on strangers of the same kind")
    elif calibration:
        target = float(calibration["target_fpir"])
        fits = _fit(point.fpir, target)
        text += (
            f"The FPIR is {fits} the target of {100 * target:g} %, for which τ was calibrated on other data "
            f"({calibration['data']}) with {calibration['gallery_size']:,} enrolled. "
        )
        title = _FIT_TITLES[fits].format("calibrated elsewhere")
    else:
        title = "The threshold was not calibrated"
    if threshold.HasField("expected_fpir"):
        text += f"The calibration expects at most {percent(threshold.expected_fpir)} at this size. "
    return WeakSpot(title, text + "A gallery can have a τ of its own, set from its own probes.")


def _fit(fpir: Share, target: float) -> str:
    low, high = fpir.interval
    return "in keeping with" if low <= target <= high else "above" if low > target else "below"
