"""Which probes the page shows, and each of them as a card: picture, decision, candidates against τ."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from oneglance_apps.demo.measure import Figures, Outcome
from oneglance_apps.demo.pictures import Picture

NEAREST = 3  # candidates of a card
AT_RANDOM = 9
WORST = 6


@dataclass(frozen=True)
class Row:
    """A candidate: its enrolled picture and its distance; ``mark`` says what it is to the probe."""

    subject_id: str
    picture: str
    distance: float
    mark: str
    under: bool


@dataclass(frozen=True)
class Card:
    """A probe with the server's decision and what is true. ``verdict``: one word on whether both agree."""

    probe: str
    caption: str
    decision: str
    subject_id: str
    right: bool
    verdict: str
    truth: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Group:
    """Cards chosen by one rule, which ``rule`` tells."""

    title: str
    rule: str
    cards: tuple[Card, ...]


def groups(figures: Figures, enrolled: dict[str, Picture], seed: int, picture_noun: str) -> list[Group]:
    """The probes shown, chosen by rules that don't look for what is flattering."""
    rng = np.random.default_rng([seed, 4])

    def sample(outcomes: Sequence[Outcome], size: int) -> list[Outcome]:
        return [outcomes[i] for i in sorted(rng.permutation(len(outcomes))[:size].tolist())]

    def cards(outcomes: Sequence[Outcome]) -> tuple[Card, ...]:
        return tuple(card(outcome, enrolled, figures.tau) for outcome in outcomes)

    hits = [outcome for outcome in figures.mated if outcome.correct]
    strangers = sorted(figures.non_mated, key=lambda o: o.nearest)
    let_in, kept_out = ([o for o in strangers if o.correct is right] for right in (False, True))
    mistaken = sorted((o for o in figures.mated if o.identified not in (None, o.mate)), key=lambda o: o.nearest)
    missed = sorted(
        (o for o in figures.mated if o.identified is None), key=lambda o: (o.mate_rank or inf, o.mate_distance)
    )
    missed.reverse()
    mated, non_mated = len(figures.mated), len(figures.non_mated)
    shown = [
        Group(
            f"New {picture_noun}s of those enrolled",
            f"{_some(AT_RANDOM, mated, ' at random')}, whatever came out.",
            cards(sample(figures.mated, AT_RANDOM)),
        ),
        Group(
            "Strangers",
            f"{_some(WORST, non_mated, ' at random')}, whatever came out.",
            cards(sample(figures.non_mated, WORST)),
        ),
        Group(
            "Identified",
            f"{_some(WORST, len(hits), ' at random')}.",
            cards(sample(hits, WORST)),
        ),
        Group(
            "Worst: strangers let in",
            f"{_some(WORST, len(let_in), ', the nearest first')}.",
            cards(let_in[:WORST]),
        ),
        Group(
            "Closest calls: strangers nearest to somebody enrolled",
            "No stranger was let in; these came closest.",
            cards(kept_out[:NEAREST] if not let_in else []),
        ),
        Group(
            "Worst: taken for somebody else",
            f"{_some(WORST, len(mistaken), ', the nearest first')}.",
            cards(mistaken[:WORST]),
        ),
        Group(
            "Worst: not recognised",
            f"{_some(WORST, len(missed), ', those whose mate came last')}.",
            cards(missed[:WORST]),
        ),
    ]
    return [group for group in shown if group.cards]


def card(outcome: Outcome, enrolled: dict[str, Picture], tau: float) -> Card:
    """One probe as a card; the mate is shown even when it is not among the nearest."""
    verdict, truth = _truth(outcome)
    ranked = list(enumerate(outcome.candidates, 1))
    shown = ranked[:NEAREST]
    if outcome.mate_rank is not None and outcome.mate_rank > NEAREST:
        shown.append(ranked[outcome.mate_rank - 1])
    rows = (
        Row(
            candidate.subject_id,
            enrolled[candidate.subject_id].data_uri(),
            candidate.distance,
            f"mate, no. {rank}" if candidate.subject_id == outcome.mate else f"no. {rank}",
            candidate.distance <= tau,
        )
        for rank, candidate in shown
    )
    return Card(
        probe=outcome.probe.data_uri(),
        caption=outcome.probe.caption,
        decision="UNKNOWN" if outcome.identified is None else "IDENTIFIED",
        subject_id=outcome.identified or "",
        right=outcome.correct,
        verdict=verdict,
        truth=truth,
        rows=tuple(rows),
    )


def bar_scale(figures: Figures) -> float:
    """The distance that fills a bar: beyond 19 of 20 of all nearest candidates, and τ."""
    nearest = [o.nearest for o in (*figures.mated, *figures.non_mated) if isfinite(o.nearest)]
    return max([float(np.percentile(nearest, 95)), 1.5 * figures.tau, 1e-9])


def _truth(outcome: Outcome) -> tuple[str, str]:
    if outcome.mate is None:
        if outcome.correct:
            return "correct", f"{outcome.owner} is a stranger."
        return "wrong", f"{outcome.owner} is a stranger."
    if outcome.correct:
        return "correct", f"It is {outcome.mate}."
    if outcome.identified is not None:
        return "wrong", f"It is {outcome.mate}."
    if outcome.mate_rank == 1:
        return "missed", f"It is {outcome.mate}: nearest, but beyond τ."
    return "missed", f"It is {outcome.mate}, which came no.\u00a0{outcome.mate_rank or '> 1,000'}."


def _some(shown: int, total: int, which: str) -> str:
    return f"{shown} of {total:,}{which}" if shown < total else "The only one" if total == 1 else f"All {total:,}"
