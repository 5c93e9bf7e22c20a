"""Each result as text, for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from oneglance.v1.common_pb2 import Threshold
from oneglance_apps.demo.collection import MIN_CALIBRATION_PROBES, Collection
from oneglance_apps.demo.durability import Durability
from oneglance_apps.demo.measure import Outcome, percentile
from oneglance_apps.demo.rate_text import interval, of, percent, rate
from oneglance_apps.demo.results import Deletion
from oneglance_apps.demo.styles import Stylization
from oneglance_apps.demo.timed_calls import Enrollment, Identification, ThresholdFit, Verification
from oneglance_apps.text import counted, distance, source_name

_SHOWN_REFUSALS = 3


def collection(c: Collection, seed: int) -> str:
    mated, non_mated = (len(list(probes)) for probes in (c.mated(), c.non_mated()))
    return (
        f"{counted(len(c.subjects), c.noun)} to enroll from one {c.picture_noun} each, "
        f"{counted(mated, f'new {c.picture_noun}')} of them\n"
        f"{counted(len(c.strangers), 'stranger')} who will not be enrolled, {counted(non_mated, c.picture_noun)}\n"
        f"{c.origin}; seed {seed}"
    )


def enrollment(e: Enrollment, picture_noun: str) -> str:
    return (
        f"{len(e.subjects):,} enrolled in {e.seconds:.1f} s, {e.ms_each:.1f} ms per {picture_noun}, "
        f"each acknowledged when on disk{_refusals(e.refused)}"
    )


def threshold_fit(fit: ThresholdFit, manifest: Mapping[str, Any]) -> str:
    text = (
        f"tau {distance(fit.tau)} would have let in {rate(fit.fpir)} of the probes of "
        f"{counted(fit.strangers, 'other stranger')}; asked for: {percent(fit.target_fpir)}"
    )
    own = manifest.get("threshold")
    return text + (f"\n(the model's own is {distance(own['tau'])}, calibrated on other data)" if own else "")


def threshold_not_fitted(in_force: Threshold) -> str:
    return (
        f"NOT FITTED: there are fewer than {MIN_CALIBRATION_PROBES} pictures of strangers to fit it on. "
        f"{threshold(in_force).capitalize()} is used,\n"
        "which was set on other data: here it may let in far more strangers than asked for, or far fewer"
    )


def identification(i: Identification, enrolled: int, asked_fpir: float) -> str:
    """``asked_fpir``: the share of strangers to let in that was asked for."""
    figures = i.figures
    decided = figures.decided
    too_many = decided.fpir.interval[0] > asked_fpir
    more = f"; MORE than the {percent(asked_fpir)} asked for" if too_many else ""
    lines = [
        f"{counted(len(i.outcomes), 'probe')} against {enrolled:,} enrolled in {i.seconds:.1f} s{_refusals(i.refused)}",
        f"rank-1: the mate is nearest for {rate(figures.rank_one)}",
        f"at {threshold(i.threshold)}:",
        f"  strangers let in (FPIR)      {rate(decided.fpir)}, 95 % interval {interval(decided.fpir)}{more}",
        f"  known not identified (FNIR)  {rate(decided.fnir)}, {figures.mistaken.count} as another subject",
    ]
    for target, point in figures.at_fpirs.items():
        lines.append(
            f"tau {distance(point.tau)} keeps FPIR at {100 * target:g} % ({of(point.fpir)}): FNIR {rate(point.fnir)}"
        )
    return "\n".join(lines)


def latency(milliseconds: Sequence[float], enrolled: int) -> str:
    p50, p99 = percentile(milliseconds, 50), percentile(milliseconds, 99)
    return (
        f"one probe at a time: p50 {p50:.1f} ms, p99 {p99:.1f} ms "
        f"({counted(len(milliseconds), 'call')}, {enrolled:,} enrolled)"
    )


def verification(v: Verification) -> str:
    return (
        f"same {percent(v.mated.value)} of mated pairs ({of(v.mated)}), "
        f"{percent(v.non_mated.value)} of non-mated pairs ({of(v.non_mated)})\n"
        f"tau {distance(v.tau)} "
        + ("is the model's for 1:1" if v.of_pairs else "was calibrated for 1:K; for 1:1 alone it is strict")
    )


def deletion(d: Deletion) -> str:
    return f"before: {answer(d.before)}\ndeleted {d.subject_id}\nafter:  {answer(d.after)}\n" + (
        f"{d.subject_id} is among none of the {counted(len(d.after.candidates), 'candidate')}"
        if d.gone
        else f"FAILED: the answer still names {d.subject_id}"
    )


def durability(d: Durability) -> str:
    return (
        f"killed after {d.acknowledged:,} acknowledged enrollments by {d.writers} writers; "
        f"serving again after {d.restart_seconds:.1f} s\n"
        f"acknowledged and there: {d.found:,} of {d.acknowledged:,}; found by their own picture: {d.searchable:,}; "
        f"earlier ones there: {d.earlier_found:,} of {d.earlier:,}\n"
        f"cut off without an answer: {d.unanswered}, of which {d.unanswered_kept} had reached the disk\n"
        + ("the deleted subject stayed deleted" if d.deleted_gone else "FAILED: the deleted subject came back")
        + ("" if d.lost == 0 else f"\nFAILED: {d.lost} lost")
    )


def stylization(s: Stylization | None) -> str:
    if s is None:
        return "left out: the server has no stylizer, or could read none of the pictures"
    names = ", ".join(painting.style.name for painting in s.paintings)
    return f"{names}\n{stylization_line(s)}"


def stylization_line(s: Stylization) -> str:
    """Number of styles, size and times."""
    took = [painting.milliseconds for painting in s.paintings]
    return (
        f"{counted(len(took), 'style')} of {s.width} x {s.height} pixels in {sum(took) / 1000:.1f} s over gRPC, "
        f"{percentile(took, 50):.0f} ms each (p50), on {s.execution_provider}"
    )


def answer(outcome: Outcome) -> str:
    """``UNKNOWN, nearest A01-03 at 0.2345``."""
    nearest = outcome.candidates[0] if outcome.candidates else None
    decision = f"IDENTIFIED as {outcome.identified}" if outcome.identified else "UNKNOWN"
    return f"{decision}, " + (
        f"nearest {nearest.subject_id} at {distance(nearest.distance)}" if nearest else "nobody is enrolled"
    )


def threshold(t: Threshold) -> str:
    """``tau 0.0761 of the model``."""
    return f"tau {distance(t.tau)} of the {source_name(t)}"


def _refusals(refused: Sequence[str]) -> str:
    if not refused:
        return ""
    shown = [f"  {text}" for text in refused[:_SHOWN_REFUSALS]]
    more = [f"  and {len(refused) - _SHOWN_REFUSALS:,} more"] if len(refused) > _SHOWN_REFUSALS else []
    return "\n" + "\n".join([f"the server refused {len(refused):,}:", *shown, *more])
