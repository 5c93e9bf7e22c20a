"""The limitations of a run, in sentences computed from its figures."""

from dataclasses import dataclass
from typing import Any

from oneglance_apps.demo.measure import Share
from oneglance_apps.demo.rate_text import interval, of, percent, rate
from oneglance_apps.demo.results import DemoResults
from oneglance_apps.text import distance

_FIT_TITLES = {
    "in keeping with": "The threshold was {}",
    "above": "The threshold is too lenient here",
    "below": "The threshold is too strict here",
}
_HARD_FNIR = 0.2  # above it the page says "hard"


@dataclass(frozen=True)
class Limitation:
    title: str
    text: str


def limitations(results: DemoResults) -> list[Limitation]:
    """What a reader must know before trusting the figures; the most important first."""
    figures = results.identification.figures
    noun, picture = results.collection.noun, results.collection.picture_noun
    found = [_open_set(results), _threshold(results)]
    misses = figures.rank_one.total - figures.rank_one.count
    if misses:
        found.append(
            Limitation(
                "The nearest is not always the right one",
                f"For {misses:,} of {figures.rank_one.total:,} new {picture}s another {noun} was nearer than the right "
                f"one. No threshold can correct that; enrolling more {picture}s per {noun} or a better encoder can.",
            )
        )
    if figures.mistaken.count:
        found.append(
            Limitation(
                f"Some were identified as another {noun}",
                f"{rate(figures.mistaken)} of the new {picture}s were identified as the wrong {noun} at the τ used.",
            )
        )
    found.append(
        Limitation(
            "The intervals are a little too narrow",
            f"They assume independent probes, but the {figures.decided.fpir.total:,} non-mated probes come from "
            f"{len({o.owner for o in figures.non_mated}):,} strangers, and the {picture}s of one resemble each other.",
        )
    )
    if results.collection.drawn:
        found.append(
            Limitation(
                "A program drew these characters",
                "They are random strokes, and their writers are simulated. Drawings made by people can give other "
                "figures: oneglance demo --images DIR makes the same report from your pictures.",
            )
        )
    else:
        found.append(
            Limitation(
                "The encoder may not fit your pictures",
                f"It is the model {results.model.name!r}. {results.model.description} The figures above show how well "
                "it works on your pictures; an encoder trained on pictures like yours can be better.",
            )
        )
    found.append(
        Limitation(
            "A small test on one machine",
            f"{results.enrolled:,} enrolled, one client, and server and client on the same machine "
            f"({results.machine}), which may have been busy. Times on other machines differ.",
        )
    )
    found.append(
        Limitation(
            "kill -9 is not a power cut",
            "The server process was killed, not the operating system. The server acknowledges after fsync, so "
            "acknowledged data survives a power cut if the disk obeys fsync; this run did not test that.",
        )
    )
    return found


def _open_set(results: DemoResults) -> Limitation:
    noun, picture = results.collection.noun, results.collection.picture_noun
    points = list(results.identification.figures.at_fpirs.items())
    told = "; ".join(
        f"at FPIR {100 * target:g} % ({of(point.fpir)} let in, τ {distance(point.tau)}) the FNIR is {rate(point.fnir)}"
        for target, point in points
    )
    hard = points[0][1].fnir.value > _HARD_FNIR
    return Limitation(
        f"One {picture} per {noun} is hard in open set" if hard else "Refusing strangers costs correct identifications",
        f"To name the nearest is the easy half; to refuse strangers is the hard one. With thresholds fitted on the "
        f"probes of this run itself, {told}. Enrolling several {picture}s of each {noun}, or a better encoder, "
        "lowers the FNIR.",
    )


def _threshold(results: DemoResults) -> Limitation:
    point = results.identification.figures.decided
    threshold = results.threshold
    text = (
        f"At τ {distance(point.tau)} this run let in {rate(point.fpir)} of the strangers' probes (95 % interval "
        f"{interval(point.fpir)}) and did not identify {rate(point.fnir)} of the known ones. "
    )
    fit = results.threshold_fit
    calibration: dict[str, Any] = results.manifest.get("threshold") or {}
    if fit:
        fits = _fit(point.fpir, fit.target_fpir)
        text += (
            f"The FPIR is {fits} the target of {100 * fit.target_fpir:g} %, for which τ was set by "
            f"{fit.fpir.total:,} probes of {fit.strangers:,} other strangers of the same kind: the "
            "easiest case. "
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
    return Limitation(title, text + "A gallery can have a τ of its own, set from its own probes.")


def _fit(fpir: Share, target: float) -> str:
    low, high = fpir.interval
    return "in keeping with" if low <= target <= high else "above" if low > target else "below"
