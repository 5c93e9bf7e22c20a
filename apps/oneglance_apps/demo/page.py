"""The results as one HTML file. Pictures, CSS and the plot are embedded; it fetches nothing and runs no script."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from oneglance_apps import text
from oneglance_apps.demo import probe_cards, rate_text, terminal_text
from oneglance_apps.demo.histogram import histogram
from oneglance_apps.demo.limitations import limitations
from oneglance_apps.demo.measure import percentile
from oneglance_apps.demo.results import DemoResults
from oneglance_apps.demo.styles import MAX_SIDE
from oneglance_core.files import replacing

GALLERY_SHOWN = 240  # enrolled pictures, at most


@dataclass(frozen=True)
class Tile:
    """A headline figure. ``detail``: its counts."""

    value: str
    unit: str
    name: str
    detail: str


def write_page(results: DemoResults, out: Path) -> None:
    """Write the page to ``out``, complete or not at all."""
    with replacing(out) as fresh:
        fresh.write_text(render(results), encoding="utf-8")


def render(results: DemoResults) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=PackageLoader("oneglance_apps.demo", "."),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = results.identification.figures
    pictures = {subject.id: subject.enrolled_from for subject in results.enrollment.subjects}
    deletion = results.deletion
    return environment.get_template("page.html.j2").render(
        results=results,
        figures=figures,
        rates=rate_text,
        text=text,
        noun=results.collection.noun,
        picture=results.collection.picture_noun,
        tiles=_tiles(results),
        gallery=[(name, picture.data_uri()) for name, picture in list(pictures.items())[:GALLERY_SHOWN]],
        groups=probe_cards.groups(figures, pictures, results.seed, results.collection.picture_noun),
        before=probe_cards.card(deletion.before, pictures, figures.tau),
        after=replace(
            probe_cards.card(deletion.after, pictures, figures.tau),
            truth=f"{deletion.subject_id} was deleted: it is a stranger now.",
        ),
        scale=probe_cards.bar_scale(figures),
        histogram=_histogram(results),
        points=[(f"{100 * target:g} %", point) for target, point in figures.at_fpirs.items()],
        stylized=_stylized(results),
        limitations=limitations(results),
        provenance=_provenance(results),
    )


def _tiles(results: DemoResults) -> list[Tile]:
    figures, durability, picture = results.identification.figures, results.durability, results.collection.picture_noun
    p50, p99 = (percentile(results.latencies_ms, percent) for percent in (50, 99))
    fpir, fnir, rank_one = figures.decided.fpir, figures.decided.fnir, figures.rank_one
    known = f"new {picture}s of enrolled {results.collection.noun}s"
    return [
        Tile(_number(rank_one.value), "%", "rank-1", f"the right one is nearest for {rate_text.of(rank_one)} {known}"),
        Tile(
            _number(fpir.value),
            "%",
            "strangers let in (FPIR)",
            f"{rate_text.of(fpir)} at {results.whose_tau}; 95 % interval {rate_text.interval(fpir)}",
        ),
        Tile(
            _number(fnir.value),
            "%",
            "known not identified (FNIR)",
            f"{rate_text.of(fnir)} {known} at the same τ",
        ),
        Tile(
            f"{p50:.1f}",
            "ms",
            "to identify, one at a time",
            f"p50 of {len(results.latencies_ms)} calls, p99 {p99:.1f} ms, {results.enrolled:,} enrolled",
        ),
        Tile(
            f"{results.enrollment.ms_each:.1f}",
            "ms",
            f"to enroll a {picture}, on disk",
            f"{results.enrolled:,} in {results.enrollment.seconds:.1f} s over one stream",
        ),
        Tile(
            f"{durability.lost:,}",
            "",
            "lost by kill -9",
            f"{durability.found:,} of {durability.acknowledged:,} acknowledged enrollments were there "
            f"{durability.restart_seconds:.1f} s later",
        ),
    ]


def _histogram(results: DemoResults) -> Markup:
    figures, picture = results.identification.figures, results.collection.picture_noun
    return histogram(
        [outcome.mate_distance for outcome in figures.mated],
        [outcome.nearest for outcome in figures.non_mated],
        figures.tau,
        (
            f"known: to its own enrolled {picture} (n = {len(figures.mated):,})",
            f"strangers: to the nearest enrolled (n = {len(figures.non_mated):,})",
        ),
    )


def _stylized(results: DemoResults) -> dict[str, Any] | None:
    s = results.stylization
    if s is None:
        return None
    before = (s.before.large_uri(MAX_SIDE), "before", s.before.caption)
    after = [(p.data_uri(), p.title, text.joined(p.style.name, p.style.license, separator=" · ")) for p in s.paintings]
    return {"pictures": [before, *after], "line": terminal_text.stylization_line(s)}


def _provenance(results: DemoResults) -> list[tuple[str, str]]:
    p, threshold, model = results.identification.provenance, results.threshold, results.model
    return [
        ("encoder", f"{model.name}, {model.dimension} numbers, {model.metric.replace('_', ' ')}"),
        ("encoder digest", p.encoder_digest),
        ("runs on", p.execution_provider),
        ("index", text.index_name(p)),
        ("gallery", f"revision {p.gallery_revision:,}, {text.counted(p.gallery_size, 'subject')}"),
        ("threshold", f"τ = {threshold.tau:.6f}, from the {text.source_name(threshold)} ({threshold.id})"),
        ("date", results.date.strftime("%Y-%m-%d %H:%M UTC")),
        ("seed", str(results.seed)),
        ("software", f"oneglance {results.version}"),
        ("machine", results.machine),
        ("command", results.command),
    ]


def _number(value: float) -> str:
    return rate_text.percent(value).removesuffix(" %")
