"""The report as one HTML file: pictures, styles and the plot are inside it, nothing is fetched, no script runs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from oneglance.v1.common_pb2 import ThresholdSource
from oneglance_apps.demo import cards, tell, words
from oneglance_apps.demo.histogram import histogram
from oneglance_apps.demo.measure import percentile
from oneglance_apps.demo.report import Report
from oneglance_apps.demo.styles import MAX_SIDE
from oneglance_apps.demo.weak_spots import weak_spots
from oneglance_core.files import replacing


@dataclass(frozen=True)
class Tile:
    """A headline figure; ``detail`` has its counts."""

    value: str
    unit: str
    name: str
    detail: str


def write_page(report: Report, out: Path) -> None:
    """Write the page to ``out``, whole or not at all."""
    with replacing(out) as fresh:
        fresh.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=PackageLoader("oneglance_apps.demo", "."),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = report.identification.figures
    pictures = {subject.id: subject.enrolled_from for subject in report.enrollment.subjects}
    deletion = report.deletion
    return environment.get_template("page.html.j2").render(
        report=report,
        figures=figures,
        words=words,
        noun=report.collection.noun,
        picture=report.collection.picture_noun,
        tiles=_tiles(report),
        gallery=[(name, picture.data_uri()) for name, picture in pictures.items()],
        groups=cards.groups(figures, pictures, report.seed, report.collection.picture_noun),
        before=cards.card(deletion.before, pictures, figures.tau),
        after=replace(
            cards.card(deletion.after, pictures, figures.tau),
            truth=f"{deletion.subject_id} was deleted: it is a stranger now.",
        ),
        scale=cards.bar_scale(figures),
        histogram=_histogram(report),
        points=[(f"{100 * target:g} %", point) for target, point in figures.at_fpirs.items()],
        stylized=_stylized(report),
        weak_spots=weak_spots(report),
        provenance=_provenance(report),
    )


def _tiles(report: Report) -> list[Tile]:
    figures, durability, picture = report.identification.figures, report.durability, report.collection.picture_noun
    p50, p99 = (percentile(report.latencies_ms, percent) for percent in (50, 99))
    fpir, fnir, rank_one = figures.decided.fpir, figures.decided.fnir, figures.rank_one
    known = f"new {picture}s of enrolled {report.collection.noun}s"
    return [
        Tile(_number(rank_one.value), "%", "rank-1", f"the right one is nearest for {words.of(rank_one)} {known}"),
        Tile(
            _number(fpir.value),
            "%",
            "strangers let in (FPIR)",
            f"{words.of(fpir)} at {report.whose_tau}; 95 % interval {words.interval(fpir)}",
        ),
        Tile(
            _number(fnir.value),
            "%",
            "known not identified (FNIR)",
            f"{words.of(fnir)} {known} at the same τ",
        ),
        Tile(
            f"{p50:.1f}",
            "ms",
            "to identify, one at a time",
            f"p50 of {len(report.latencies_ms)} calls, p99 {p99:.1f} ms, {report.enrolled:,} enrolled",
        ),
        Tile(
            f"{report.enrollment.ms_each:.1f}",
            "ms",
            f"to enroll a {picture}, on disk",
            f"{report.enrolled:,} in {report.enrollment.seconds:.1f} s over one stream",
        ),
        Tile(
            f"{durability.lost:,}",
            "",
            "lost by kill -9",
            f"{durability.found:,} of {durability.acknowledged:,} acknowledged enrollments were there "
            f"{durability.restart_seconds:.1f} s later",
        ),
    ]


def _histogram(report: Report) -> Markup:
    figures, picture = report.identification.figures, report.collection.picture_noun
    return histogram(
        [outcome.mate_distance for outcome in figures.mated],
        [outcome.nearest for outcome in figures.non_mated],
        figures.tau,
        (
            f"known: to its own enrolled {picture} (n = {len(figures.mated):,})",
            f"strangers: to the nearest enrolled (n = {len(figures.non_mated):,})",
        ),
    )


def _stylized(report: Report) -> dict[str, Any] | None:
    s = report.stylization
    if s is None:
        return None
    before = (s.before.large_uri(MAX_SIDE), "before", s.before.caption)
    after = [(p.data_uri(), p.title, " · ".join(filter(None, (p.style.name, p.style.license)))) for p in s.paintings]
    return {"pictures": [before, *after], "line": tell.stylization_line(s)}


def _provenance(report: Report) -> list[tuple[str, str]]:
    p, threshold, model = report.identification.provenance, report.threshold, report.model
    source = ThresholdSource.Name(threshold.source).removeprefix("THRESHOLD_SOURCE_").lower()
    return [
        ("encoder", f"{model.name}, {model.dimension} numbers, {model.metric.replace('_', ' ')}"),
        ("encoder digest", p.encoder_digest),
        ("runs on", p.execution_provider),
        ("index", f"{p.index_kind} on {p.index_device}, {'exact' if p.exact else 'approximate'}"),
        ("gallery", f"revision {p.gallery_revision:,}, {words.counted(p.gallery_size, 'subject')}"),
        ("threshold", f"τ = {threshold.tau:.6f}, from the {source} ({threshold.id})"),
        ("date", report.date.strftime("%Y-%m-%d %H:%M UTC")),
        ("seed", str(report.seed)),
        ("software", f"oneglance {report.version}"),
        ("machine", report.machine),
        ("command", report.command),
    ]


def _number(value: float) -> str:
    return words.percent(value).removesuffix(" %")
