"""Tau, its interval and its curve against their definitions, brute force and simulation."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneglance_core.calibration import (
    Distances,
    Mated,
    NonMated,
    TargetUnreachable,
    TooFewStrangers,
    fit_gallery,
    fmr_curve,
    fnir,
    interval,
    per_comparison,
    strangers_needed,
    tau_for_rate,
)
from oneglance_core.manifests import Calibration

NOBODY = Mated(np.empty(0), np.empty(0, np.bool_))
# Few values, so that ties are common.
DISTANCES = st.lists(st.integers(0, 50).map(lambda i: i / 8), min_size=1, max_size=60)


def fit(
    nearest: Distances, stranger: npt.NDArray[np.int64] | None = None, target: float = 0.1, size: int = 7
) -> Calibration:
    whose = np.arange(len(nearest)) if stranger is None else stranger
    return fit_gallery(NonMated(nearest, whose), NOBODY, gallery_size=size, target_fpir=target, data="made up")


@given(DISTANCES, st.floats(0.001, 0.999))
def test_tau_admits_at_most_the_rate_and_no_larger_gap_would(distances: list[float], rate: float) -> None:
    values = np.array(distances)
    tau = tau_for_rate(values, rate)
    share = (values <= tau).mean()
    above = values[values > tau]
    assert share <= rate + 1e-9 or (tau == 0 and (values == 0).any())
    if len(above):
        assert (values <= above.min()).mean() > rate - 1e-9


def test_tau_between_neighbouring_floats_lets_nobody_more_in() -> None:
    for start in (1.0, 1.1, 0.3):
        close = np.array([start, math.nextafter(start, 2)])
        assert (close <= tau_for_rate(close, 0.5)).mean() == 0.5


def test_fnir_is_the_definition() -> None:
    right, nearest = np.array([True, True, False, True]), np.array([0.1, 0.5, 0.2, 0.3])
    assert fnir(right, nearest, 0.3) == 0.5
    assert fnir(right, nearest, 0.0) == 1.0


def test_the_curve_is_the_share_of_pairs() -> None:
    pairs = np.random.default_rng(0).beta(6, 2, 50_000) * 4
    curve = np.array(fmr_curve(pairs))
    assert 100 < len(curve) <= 200
    assert (np.diff(curve[:, 0]) > 0).all()
    assert (np.diff(curve[:, 1]) >= 0).all()
    for distance, rate in curve:
        assert rate == (pairs <= distance).mean()
    assert curve[0, 1] == 1 / len(pairs)
    assert curve[-1, 1] == 1


def test_the_curve_bears_few_and_equal_distances() -> None:
    assert fmr_curve(np.array([0.5])) == ((0.5, 1.0),)
    assert fmr_curve(np.zeros(9)) == ((0.0, 1.0),)


# The interval.


def binomial_tail(n: int, p: float, at_least: int) -> float:
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(at_least, n + 1))


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (1, 100), (3, 40), (20, 40), (39, 40), (40, 40)])
def test_with_one_probe_each_it_is_clopper_and_pearsons(hits: int, n: int) -> None:
    """The rates at which as many hits, or as few, would have happened with probability 2.5 %."""
    low, high = interval(np.arange(n) < hits, np.arange(n))
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


# A gallery's calibration.


def test_at_least_one_stranger_in_reach_of_the_target_is_needed() -> None:
    for target, needed in ((0.01, 100), (0.1, 10), (0.03, 34), (0.5, 2), (0.001, 1000), (0.07, 15)):
        assert strangers_needed(target) == needed
    rng = np.random.default_rng(0)
    fit(rng.uniform(size=100), target=0.01)
    with pytest.raises(TooFewStrangers, match=r"at least 100 strangers to measure, got 99; .* is 0.0101") as caught:
        fit(rng.uniform(size=99), target=0.01)
    assert (caught.value.strangers, caught.value.needed) == (99, 100)
    with pytest.raises(TooFewStrangers):  # many pictures don't make many strangers
        fit(rng.uniform(size=1000), np.arange(1000) % 99, target=0.01)
    with pytest.raises(TooFewStrangers, match="got 0"):
        fit(np.empty(0))


def test_strangers_that_are_enrolled_after_all_are_noticed() -> None:
    nearest = np.linspace(0, 1, 20)
    nearest[:3] = 0
    with pytest.raises(TargetUnreachable, match=r"15\.00%"):
        fit(nearest, target=0.1)
    assert fit(nearest, target=0.15).tau == 3.0 / 19 / 2


@given(DISTANCES.filter(lambda d: len(d) >= 10), st.integers(1, 5), st.integers(1, 10_000), st.floats(0.1, 0.9))
def test_the_fit_keeps_its_promises(distances: list[float], pictures: int, size: int, target: float) -> None:
    nearest = np.repeat(np.array(distances), pictures)
    try:
        made = fit(nearest, np.repeat(np.arange(len(distances)), pictures), target, size)
    except TargetUnreachable:
        assert (nearest == 0).mean() > target
        return
    assert made.fpir == (nearest <= made.tau).mean() <= target + 1e-9
    assert made.fpir_low <= made.fpir <= made.fpir_high
    assert made.fnir is None
    assert Calibration.model_validate_json(made.model_dump_json()) == made
    rate = made.fmr(made.tau)
    assert rate is not None
    assert 1 - (1 - rate) ** size == pytest.approx(made.fpir, abs=1e-9)
    for distance, expected in made.fmr_curve:  # the measured share comes back at every point
        assert 1 - (1 - expected) ** size == pytest.approx((nearest <= distance).mean(), abs=1e-9)


@given(st.floats(0, 1), st.integers(1, 1_000_000))
def test_per_comparison_undoes_the_formula(fpir: float, size: int) -> None:
    rate = per_comparison(fpir, size)
    again = 1.0 if rate >= 1 else -math.expm1(size * math.log1p(-rate))
    assert again == pytest.approx(fpir, rel=1e-9, abs=1e-12)


def test_what_was_measured_is_said() -> None:
    rng = np.random.default_rng(3)
    non_mated = NonMated(rng.uniform(0.5, 1, 60), np.arange(60) % 30)
    mated = Mated(np.array([0.1, 0.2, 0.3, 0.9]), np.array([True, False, True, True]))
    made = fit_gallery(non_mated, mated, gallery_size=12, target_fpir=0.05, data="made up", note=" (note)")
    assert (made.gallery_size, made.non_mated_probes, made.mated_probes, made.data) == (12, 60, 4, "made up")
    assert made.fpir == 0.05
    assert made.fnir == 0.5
    assert "12 subjects enrolled (note)" in made.method
    assert "60 probes of 30 strangers" in made.method


def test_strangers_not_used_to_fit_it_are_kept_out_as_well_and_at_other_sizes_as_expected() -> None:
    """Independent comparisons, the case the formula is for: K nearest of K draws."""
    rng = np.random.default_rng(1)

    def nearest(strangers: int, size: int) -> Distances:
        distances: Distances = rng.uniform(size=(strangers, size)).min(axis=1)
        return distances

    made = fit(nearest(5000, 20), target=0.05, size=20)
    assert (nearest(20_000, 20) <= made.tau).mean() == pytest.approx(0.05, abs=0.01)
    rate = made.fmr(made.tau)
    assert rate is not None
    assert (nearest(20_000, 100) <= made.tau).mean() == pytest.approx(1 - (1 - rate) ** 100, abs=0.03)
