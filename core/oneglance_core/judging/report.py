"""A judgement as one HTML page: pictures, CSS, charts and figures are embedded, and nothing is fetched.

The element ``figures`` of the page holds ``Judgement.as_dict`` of each encoder as JSON.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from oneglance_core.files import replacing
from oneglance_core.judging.charts import Axis, Line, chart
from oneglance_core.judging.compare import Comparison, points
from oneglance_core.judging.galleries import FMRS, FPIRS, FUSION
from oneglance_core.judging.hardest import Pair, project
from oneglance_core.judging.judge import Judgement, told
from oneglance_core.judging.labelled import shown
from oneglance_core.judging.pairs import GROUP_FMR, Pairs
from oneglance_core.judging.resample import TAIL, Measured
from oneglance_core.judging.thumbnails import thumbnail

_SHOWN_SUBJECTS, _SHOWN_EXAMPLES = 40, 10
_SIDE, _SMALL_SIDE = 105, 48  # pixels of pictures: of a pair, of a point
_PREDICTED = 5  # the colour of what was computed, not measured
_LEAST_RATE = 1e-5
_PLANE = 620  # pixels a side

Judged = Sequence[tuple[str, Judgement]]
"""One encoder or two, by name."""


def write_report(
    path: str | os.PathLike[str],
    judged: Judged,
    comparison: Comparison | None = None,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write the page to ``path``, complete or not at all. facts: told at its end. Raises OSError."""
    with replacing(path) as fresh:
        fresh.write_text(render(judged, comparison, facts), encoding="utf-8")


def render(judged: Judged, comparison: Comparison | None = None, facts: Mapping[str, str] | None = None) -> str:
    """The page as HTML. The first encoder is judged; a second one is drawn beside it."""
    environment = Environment(
        loader=PackageLoader("oneglance_core.judging", "."),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    name, judgement = judged[0]
    figures: dict[str, Any] = {one: found.as_dict() for one, found in judged}
    return environment.get_template("report.html.j2").render(
        name=name,
        judged=judged,
        judgement=judgement,
        people=judgement.people,
        tiles=_tiles(judgement),
        told=told,
        points=points,
        fpirs=FPIRS,
        group_fmr=GROUP_FMR,
        charts=_charts(judged),
        independent=judgement.galleries.by_size[-1],
        pairs=[
            ("Taken for one another", "two subjects, the nearest of their examples", judgement.nearest_strangers),
            ("Not recognised", "one subject, the farthest of its examples", judgement.farthest_mates),
        ],
        picture=lambda row: _picture(judgement, row, _SIDE),
        file=lambda row: shown(judgement.people.files[row]),
        subject=lambda row: judgement.people.subjects[judgement.people.subject_of[row]],
        verdict=lambda pair: _verdict(judgement, pair),
        plane=_plane(judgement),
        comparison=comparison,
        facts={
            **(facts or {}),
            "galleries": f"{judgement.splits} random orders of the subjects, seed {judgement.seed}",
            "intervals": "95 %, bootstrap over subjects",
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        },
        figures={**figures, "comparison": comparison.as_dict()} if comparison else figures,
    )


@dataclass(frozen=True)
class Tile:
    """A headline figure, in percent. ``detail``: what it is."""

    value: str
    name: str
    detail: str


def _tiles(judgement: Judgement) -> list[Tile]:
    def tile(figure: Measured, name: str, detail: str) -> Tile:
        interval = f"95 % interval {100 * figure.low:.2f} to {100 * figure.high:.2f} %"
        return Tile(f"{100 * figure.value:.2f}", name, f"{detail}; {interval}")

    pairs, galleries = judgement.pairs, judgement.galleries
    made = [tile(pairs.eer, "EER", f"of {len(pairs.mated):,} mated and {len(pairs.non_mated):,} non-mated pairs")]
    if pairs.tar:
        far = min(pairs.tar, key=lambda far: abs(far - 0.001))
        made.append(tile(pairs.tar[far], f"TAR at FAR {far:.2%}", "of the mated pairs match"))
    last = galleries.by_size[-1]
    if last.rank1 is not None:
        made.append(tile(last.rank1, "rank-1", f"{last.gallery_size} enrolled from one example each"))
    first = next((one for one in galleries.by_fusion if one.fusion == FUSION), None)
    if first is not None:
        fpir = min(first.fnir)
        made.append(
            tile(first.fnir[fpir], f"FNIR at FPIR {fpir:.0%}", f"{first.gallery_size} enrolled from one example each")
        )
    return made


def _charts(judged: Judged) -> dict[str, Markup]:
    several = len(judged) > 1
    pairs = [found.pairs for _, found in judged]
    least = max(_LEAST_RATE, min(1 / len(one.non_mated) for one in pairs))
    least_miss = max(_LEAST_RATE, min(0.5 / len(one.mated) for one in pairs))
    fmr, share = Axis("FMR (FAR)", least, 1, log=True), Axis("TAR = 1 - FNMR", 0, 1)
    roc: list[Line] = []
    det: list[Line] = []
    missed: list[Line] = []
    ranked: list[Line] = []
    for number, (name, found) in enumerate(judged):
        curve, band = found.pairs.curve, _band(found.pairs)
        hits = [(p.fmr.value, 1 - p.fnmr.value) for p in curve]
        roc.append(Line(name, hits, number, band))
        misses = [(p.fmr.value, p.fnmr.value) for p in curve]
        det.append(Line(name, misses, number, [(at, 1 - high, 1 - low) for at, low, high in band]))
        sizes = found.galleries.by_size
        for fpir in FPIRS:
            rates = [(one.gallery_size, one.fnir[fpir]) for one in sizes if one.fnir is not None]
            missed.append(_measured(f"{name + ', ' if several else ''}FPIR {fpir:.0%}", rates, len(missed)))
        ranked.append(
            _measured(
                f"{name}, measured",
                [(o.gallery_size, o.rank1) for o in sizes if o.rank1 and o.gallery_size > 1],
                number,
            )
        )
    first = judged[0][1].galleries.by_size
    size = Axis("subjects enrolled, K", 1, max(2, first[-1].gallery_size), log=True, percent=False)
    open_size = Axis("subjects enrolled, K", 1, max(2, judged[0][1].galleries.open_size), log=True, percent=False)
    by_pairs = [(float(o.gallery_size), o.independent_rank1) for o in first]
    simple = [(float(o.gallery_size), o.simple_rank1) for o in first]
    ranked += [
        Line("by the pairs, if independent", by_pairs, _PREDICTED, dashed=True),
        Line("(1 - EER)^K", simple, 4, dashed=True),
    ]
    false = []
    for number, target in enumerate(FMRS):
        known = [(o.gallery_size, o.fpir[target]) for o in first if o.fpir is not None]
        false.append(_measured(f"τ of FMR {target:.1%}, measured", [(k, rate) for k, (rate, _) in known], number))
        predicted = [(float(k), expected) for k, (_, expected) in known]
        false.append(Line(f"1 - (1 - {target:.1%})^K", predicted, _PREDICTED, dashed=True))
    least_fpir = max(_LEAST_RATE, min(FMRS) / 2)
    rules = judged[0][1].galleries.by_fusion
    open_set = [
        Line(
            f"{one.examples} example{'s' * (one.examples > 1)}, {one.fusion}",
            [(point.fpir, point.fnir) for point in one.curve],
            number,
        )
        for number, one in enumerate([one for one in rules if one.fusion == FUSION])
    ]
    lowest = min((p.fnir for one in rules for p in one.curve if p.fnir > 0), default=0.01)
    least_false = min((p.fpir for one in rules for p in one.curve if p.fpir > 0), default=0.01)
    fpir_axis = Axis("strangers let in, FPIR", min(least_false, 0.1), 1, log=True)
    fnir_axis = Axis("missed, FNIR", max(_LEAST_RATE, min(lowest, 0.1)), 1, log=True)
    return {
        "roc": chart("ROC: TAR by FMR", fmr, share, roc),
        "det": chart("DET: FNMR by FMR", fmr, Axis("FNMR", least_miss, 1, log=True), det),
        "missed": chart("FNIR by size", open_size, Axis("missed, FNIR", 0, 1), missed),
        "ranked": chart("rank-1 by size", size, Axis("rank-1", 0, 1), ranked),
        "false": chart("FPIR by size", open_size, Axis("strangers let in, FPIR", least_fpir, 1, log=True), false),
        "open_set": chart("FNIR by FPIR", fpir_axis, fnir_axis, open_set),
    }


def _band(pairs: Pairs) -> list[tuple[float, float, float]]:
    """Of each point of the curve the FMR, and the 95 % interval of the TAR at that FMR, not at that tau."""
    fmr = np.stack([point.fmr.replicates for point in pairs.curve], axis=1)  # [B, T]
    fnmr = np.stack([point.fnmr.replicates for point in pairs.curve], axis=1)
    at = [point.fmr.value for point in pairs.curve]
    tar = np.stack([np.interp(at, one, 1 - other) for one, other in zip(fmr, fnmr, strict=True)])
    low, high = np.quantile(tar, (TAIL, 1 - TAIL), axis=0)
    return list(zip(at, low.tolist(), high.tolist(), strict=True))


def _measured(name: str, rates: Sequence[tuple[int, Measured]], number: int) -> Line:
    return Line(
        name,
        [(float(size), rate.value) for size, rate in rates],
        number,
        [(float(size), rate.low, rate.high) for size, rate in rates],
        dots=True,
    )


def _picture(judgement: Judgement, row: int, side: int) -> str | None:
    picture = judgement.people.picture
    return None if picture is None else thumbnail(picture(row), side)


def _verdict(judgement: Judgement, pair: Pair) -> tuple[str, bool]:
    """What the pair is at the tau of EER, and whether that is right."""
    people, match = judgement.people, pair.distance <= judgement.pairs.eer_tau
    mates = people.subject_of[pair.first] == people.subject_of[pair.second]
    return "match" if match else "no match", bool(match == mates)


def _plane(judgement: Judgement) -> dict[str, Any]:
    people = judgement.people
    found = project(people, _SHOWN_SUBJECTS, _SHOWN_EXAMPLES, judgement.seed)
    low, high = found.points.min(axis=0), found.points.max(axis=0)
    scale = float((high - low).max()) or 1.0
    middle = (low + high) / 2
    shown = sorted({int(people.subject_of[row]) for row in found.rows})
    hue = {subject: round(360 * i / len(shown)) for i, subject in enumerate(shown)}
    dots = [
        {
            "x": f"{_PLANE / 2 + 0.92 * _PLANE * (x - middle[0]) / scale:.1f}",
            "y": f"{_PLANE / 2 - 0.92 * _PLANE * (y - middle[1]) / scale:.1f}",
            "subject": people.subjects[people.subject_of[row]],
            "file": people.files[row].rpartition(": ")[2],
            "number": int(people.subject_of[row]),
            "hue": hue[int(people.subject_of[row])],
        }
        for row, (x, y) in zip(found.rows, found.points, strict=True)
    ]
    return {
        "side": _PLANE,
        "dots": dots,
        "share": found.share,
        "subjects": len(shown),
        "pictures": [_picture(judgement, int(row), _SMALL_SIDE) for row in found.rows],
    }
