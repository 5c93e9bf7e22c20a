"""The demo's figures, compared with brute force, and how they are shown."""

import math
import random
import re

import numpy as np
import pytest

from oneglance_apps.demo import probe_cards
from oneglance_apps.demo.durability import Durability
from oneglance_apps.demo.histogram import histogram
from oneglance_apps.demo.measure import Candidate, Figures, Outcome, Share, at_fpir, at_threshold, percentile
from oneglance_apps.demo.pictures import drawing


def outcomes(seed: int, mated: int, non_mated: int, tau: float, subjects: int = 12) -> Figures:
    """Random answers of a server that decides at ``tau``; distances with two decimals, so that ties occur."""
    rng = random.Random(seed)
    pictures = [drawing(np.full((9, 9), i, np.uint8), str(i)) for i in range(3)]

    def outcome(i: int, mate: str | None) -> Outcome:
        near = {f"s{j}": round(rng.uniform(0.2, 1.5), 2) for j in range(subjects)}
        if mate is not None:
            near[mate] = round(rng.uniform(0, 1.2), 2)
        ranked = sorted(near.items(), key=lambda item: item[1])[: subjects - 2]
        identified = ranked[0][0] if ranked[0][1] <= tau else None
        return Outcome(pictures[i % 3], mate or f"x{i}", mate, identified, tuple(Candidate(*item) for item in ranked))

    return Figures(
        tuple(outcome(i, f"s{i % subjects}") for i in range(mated)),
        tuple(outcome(i, None) for i in range(non_mated)),
        tau,
    )


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_brute_force(seed: int) -> None:
    figures = outcomes(seed, mated=60, non_mated=40, tau=0.4)
    rank_one = identified = mistaken = let_in = 0
    for outcome in figures.mated:
        nearest = outcome.candidates[0]
        rank_one += nearest.subject_id == outcome.mate
        identified += nearest.subject_id == outcome.mate and nearest.distance <= 0.4
        mistaken += nearest.subject_id != outcome.mate and nearest.distance <= 0.4
    for outcome in figures.non_mated:
        let_in += outcome.candidates[0].distance <= 0.4
    assert figures.rank_one == Share(rank_one, 60)
    assert figures.decided.fnir == Share(60 - identified, 60)
    assert figures.decided.fpir == Share(let_in, 40)
    assert figures.mistaken == Share(mistaken, 60)
    assert at_threshold(figures.mated, figures.non_mated, 0.4) == figures.decided


@pytest.mark.parametrize("fpir", [0.0, 0.01, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_tau_for_an_fpir_is_the_largest_that_keeps_it(seed: int, fpir: float) -> None:
    figures = outcomes(seed, mated=80, non_mated=50, tau=0.4)
    point = at_fpir(figures.mated, figures.non_mated, fpir)
    assert point.fpir.value <= fpir
    every = sorted({o.nearest for o in (*figures.mated, *figures.non_mated)} | {0.0})
    best = min(
        candidate.fnir.value
        for candidate in (at_threshold(figures.mated, figures.non_mated, tau) for tau in every)
        if candidate.fpir.value <= fpir
    )
    assert point.fnir.value == best
    if point.tau < math.inf:
        above = at_threshold(figures.mated, figures.non_mated, math.nextafter(point.tau, math.inf))
        assert above.fpir.value > fpir


@pytest.mark.parametrize(("count", "total"), [(0, 100), (1, 100), (50, 100), (99, 100), (100, 100), (7, 1840), (3, 4)])
def test_intervals_are_clopper_and_pearsons(count: int, total: int) -> None:
    def at_most(k: int, p: float) -> float:
        return sum(math.comb(total, i) * p**i * (1 - p) ** (total - i) for i in range(k + 1))

    low, high = Share(count, total).interval
    assert low <= count / total <= high
    assert low == 0 if count == 0 else 1 - at_most(count - 1, low) == pytest.approx(0.025, abs=1e-6)
    assert high == 1 if count == total else at_most(count, high) == pytest.approx(0.025, abs=1e-6)


def test_an_interval_of_the_literature() -> None:
    assert Share(1, 10).interval == pytest.approx((0.002529, 0.445016), abs=1e-5)


def test_percentiles_and_nothing() -> None:
    assert percentile([3, 1, 2], 50) == 2
    assert math.isnan(Share(0, 0).value)


def test_mates_beyond_the_candidates_are_missed() -> None:
    picture = drawing(np.zeros((9, 9), np.uint8), "p")
    outcome = Outcome(picture, "a", "a", None, (Candidate("b", 0.5),))
    assert (outcome.mate_rank, outcome.mate_distance, outcome.correct) == (None, math.inf, False)
    assert at_threshold([outcome], [outcome], 1.0).fnir == Share(1, 1)


def test_histogram_has_all_of_both_sets_and_tau() -> None:
    svg = histogram([0.1, 0.2, math.inf], [0.5, 0.9], 0.3, ("known <1>", "strangers"))
    assert svg.startswith("<svg")
    assert svg.endswith("</svg>")
    for words in ("τ = 0.3000", "squared L2", "known &lt;1&gt;"):
        assert words in svg
    assert not re.search("nan|inf", svg)
    assert "<svg" in histogram([], [], 0.0, ("", ""))  # nothing to show is no reason to fail


def test_cards_are_chosen_by_rule_and_show_the_mate() -> None:
    figures = outcomes(1, mated=60, non_mated=40, tau=0.3)
    enrolled = {f"s{j}": drawing(np.full((9, 9), j, np.uint8), f"s{j}") for j in range(12)}
    shown = {group.title: group for group in probe_cards.groups(figures, enrolled, 0, "drawing")}
    assert shown == {group.title: group for group in probe_cards.groups(figures, enrolled, 0, "drawing")}
    wrong = shown["Worst: identified as another subject"].cards
    expected = sorted((o for o in figures.mated if o.identified not in (None, o.mate)), key=lambda o: o.nearest)
    assert [card.subject_id for card in wrong] == [o.identified for o in expected[: probe_cards.GROUP_SIZE]]
    let_in = [o for o in figures.non_mated if o.identified]
    assert shown["Worst: strangers let in"].rule.startswith(f"{probe_cards.GROUP_SIZE} of {len(let_in)}")
    for outcome in figures.mated:
        card = probe_cards.card(outcome, enrolled, figures.tau)
        assert outcome.mate_rank is None or any(row.mark.startswith("mate") for row in card.rows)
        assert card.right == (outcome.identified == outcome.mate)
        assert card.decision == ("UNKNOWN" if outcome.identified is None else "IDENTIFIED")


def test_what_is_lost_is_counted() -> None:
    fine = Durability(4, 10, 10, 10, 4, 1, 5, 5, True, 15, 0.1)
    assert fine.kept_all
    assert fine.lost == 0
    assert Durability(4, 10, 10, 9, 4, 1, 5, 4, True, 15, 0.1).lost == 2
    assert not Durability(4, 10, 10, 10, 4, 1, 5, 5, False, 15, 0.1).kept_all
