"""Which probes the page shows, and the content of each one's card: picture, decision, candidates, τ."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from oneglance_apps.demo.measure import Figures, Outcome
from oneglance_apps.demo.pictures import Picture

NEAREST = 3  # candidates of a card
GROUP_SIZE = 4  # cards of a group, side by side


@dataclass(frozen=True)
class CandidateRow:
    """A candidate: its enrolled picture (``data:`` URI) and distance. ``mark``: its rank, and if it is the mate."""

    subject_id: str
    picture: str
    distance: float
    mark: str
    under: bool


@dataclass(frozen=True)
class ProbeCard:
    """A probe, the server's decision and the truth. ``verdict``: correct, wrong or missed."""

    probe: str
    caption: str
    decision: str
    subject_id: str
    right: bool
    verdict: str
    truth: str
    rows: tuple[CandidateRow, ...]


@dataclass(frozen=True)
class CardGroup:
    """Cards chosen by one rule. ``rule``: that rule, for the page. ``folded``: only shown once it is asked for."""

    title: str
    rule: str
    cards: tuple[ProbeCard, ...]
    folded: bool = False


def groups(figures: Figures, enrolled: dict[str, Picture], seed: int, picture_noun: str) -> list[CardGroup]:
    """The probes to show: random ones, and the worst mistakes; folded, more of each kind of these."""
    rng = np.random.default_rng([seed, 4])

    def sample(outcomes: Sequence[Outcome], size: int) -> list[Outcome]:
        return [outcomes[i] for i in sorted(rng.permutation(len(outcomes))[:size].tolist())]

    def cards(outcomes: Sequence[Outcome]) -> tuple[ProbeCard, ...]:
        return tuple(card(outcome, enrolled, figures.tau) for outcome in outcomes)

    strangers = sorted(figures.non_mated, key=lambda o: o.nearest)
    let_in, kept_out = ([o for o in strangers if o.correct is right] for right in (False, True))
    mistaken = sorted((o for o in figures.mated if o.identified not in (None, o.mate)), key=lambda o: o.nearest)
    missed = sorted(
        (o for o in figures.mated if o.identified is None), key=lambda o: (o.mate_rank or inf, o.mate_distance)
    )
    missed.reverse()
    mated, non_mated = len(figures.mated), len(figures.non_mated)
    shown = [
        CardGroup(
            f"New {picture_noun}s of those enrolled",
            f"{_some(GROUP_SIZE, mated, ' at random')}, whatever came out.",
            cards(sample(figures.mated, GROUP_SIZE)),
        ),
        CardGroup(
            "Strangers",
            f"{_some(GROUP_SIZE, non_mated, ' at random')}, whatever came out.",
            cards(sample(figures.non_mated, GROUP_SIZE)),
        ),
        CardGroup(
            "The worst",
            f"{len(let_in):,} probes of strangers let in, {len(mistaken):,} identified as another subject, "
            f"{len(missed):,} not recognised; the worst of these.",
            cards([*let_in[:2], *mistaken[:1], *missed[:2]][:GROUP_SIZE]),
        ),
        CardGroup(
            "Worst: strangers let in",
            f"{_some(GROUP_SIZE, len(let_in), ', the nearest first')}.",
            cards(let_in[:GROUP_SIZE]),
            folded=True,
        ),
        CardGroup(
            "Closest calls: strangers nearest to an enrolled subject",
            "No stranger was let in; these came closest.",
            cards(kept_out[:GROUP_SIZE] if not let_in else []),
            folded=True,
        ),
        CardGroup(
            "Worst: identified as another subject",
            f"{_some(GROUP_SIZE, len(mistaken), ', the nearest first')}.",
            cards(mistaken[:GROUP_SIZE]),
            folded=True,
        ),
        CardGroup(
            "Worst: not recognised",
            f"{_some(GROUP_SIZE, len(missed), ', those whose mate came last')}.",
            cards(missed[:GROUP_SIZE]),
            folded=True,
        ),
    ]
    return [group for group in shown if group.cards]


def card(outcome: Outcome, enrolled: dict[str, Picture], tau: float) -> ProbeCard:
    """One probe as a card. The mate is shown even if it is not among the nearest."""
    verdict, truth = _truth(outcome)
    ranked = list(enumerate(outcome.candidates, 1))
    shown = ranked[:NEAREST]
    if outcome.mate_rank is not None and outcome.mate_rank > NEAREST:
        shown.append(ranked[outcome.mate_rank - 1])
    rows = (
        CandidateRow(
            candidate.subject_id,
            enrolled[candidate.subject_id].data_uri(),
            candidate.distance,
            f"mate, no. {rank}" if candidate.subject_id == outcome.mate else f"no. {rank}",
            candidate.distance <= tau,
        )
        for rank, candidate in shown
    )
    return ProbeCard(
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
    """The distance that fills a bar: the 95th percentile of the nearest candidates, and at least 1.5 τ."""
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
