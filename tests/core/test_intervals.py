"""The interval against its definition, brute force and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneglance_core.intervals import clopper_pearson, interval
from oneglance_core.measures import tau_for_rate


def binomial_tail(n: int, p: float, at_least: int) -> float:
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(at_least, n + 1))


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (1, 100), (3, 40), (20, 40), (39, 40), (40, 40)])
def test_with_one_probe_each_it_is_clopper_and_pearsons(hits: int, n: int) -> None:
    """The rates at which as many hits, or as few, would have happened with probability 2.5 %."""
    low, high = interval(np.arange(n) < hits, np.arange(n))
    assert clopper_pearson(hits, n) == pytest.approx((low, high))
    assert (low == 0) if hits == 0 else binomial_tail(n, low, hits) == pytest.approx(0.025, rel=1e-4)
    assert (high == 1) if hits == n else 1 - binomial_tail(n, high, hits + 1) == pytest.approx(0.025, rel=1e-4)


def test_nobody_let_in_does_not_mean_never() -> None:
    low, high = interval(np.zeros(300, np.bool_), np.arange(300))
    assert low == 0
    assert high == pytest.approx(-math.log(0.025) / 300, rel=0.01)  # the rule of three, at 97.5 %


def test_it_counts_subjects_not_probes() -> None:
    """The same 40 subjects seen a hundred times are still only 40 subjects."""
    hits = np.arange(40) < 4
    once = interval(hits, np.arange(40))
    often = interval(np.tile(hits, 100), np.tile(np.arange(40), 100))
    assert often == pytest.approx(once)
    assert once[0] < 0.1 < once[1]
    assert once[1] - once[0] == pytest.approx(2 * 1.96 * np.sqrt(0.1 * 0.9 / 40), rel=0.2)


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=80))
def test_it_holds_what_was_measured(probes: list[tuple[int, bool]]) -> None:
    stranger, hits = np.array([s for s, _ in probes]), np.array([hit for _, hit in probes])
    low, high = interval(hits, stranger)
    assert 0 <= low <= hits.mean() <= high <= 1
    assert low < high


@pytest.mark.parametrize(
    ("strangers", "pictures", "alike", "target"),
    [(100, 1, 0.5, 0.01), (300, 1, 0.5, 0.05), (100, 5, 0.3, 0.01), (100, 10, 0.9, 0.05), (300, 0, 0.9, 0.01)],
)
def test_it_covers_the_true_rate_of_a_tau_fitted_on_the_same_probes(
    strangers: int, pictures: int, alike: float, target: float
) -> None:
    """Scores are normal, a share ``alike`` of their variance the stranger's own; ``pictures`` 0: 1 to 30, unequal."""
    rng = np.random.default_rng(5)
    rounds, covered = 400, 0
    for _ in range(rounds):
        counts = rng.integers(1, 31, strangers) if pictures == 0 else np.full(strangers, pictures)
        who = np.repeat(np.arange(strangers), counts)
        score = np.sqrt(alike) * rng.normal(size=strangers)[who] + np.sqrt(1 - alike) * rng.normal(size=len(who))
        nearest = np.exp(score)  # any rising function
        tau = tau_for_rate(nearest, target)
        true = 0.5 * math.erfc(-math.log(tau) / math.sqrt(2))
        low, high = interval(nearest <= tau, who)
        covered += low <= true <= high
    assert covered / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)


def test_of_the_literature_and_of_nothing() -> None:
    assert clopper_pearson(1, 10) == pytest.approx((0.002529, 0.445016), abs=1e-5)
    assert clopper_pearson(0, 0) == (0, 1)
