"""Every measure against its definition: brute force over plain lists, with ties, infinities and single distances."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneglance_core.distance import pairwise_squared_l2, squared_l2
from oneglance_core.measures import (
    DetPoint,
    Scores,
    det_curve,
    det_point,
    equal_error_rate,
    expected_fpir,
    fmr_curve,
    fmr_for_fpir,
    largest_tau_for_rate,
    match_rate,
    matches,
    miss_rate,
    tau_for_rate,
    to_mate,
)
from oneglance_core.trials import OneShotTrials, OpenSet, one_shot_error, pair_distances, search

# Few values, so that ties are common.
FINITE = st.integers(0, 50).map(lambda i: i / 8)
DISTANCES = st.lists(FINITE, min_size=1, max_size=60)
OR_NONE = st.lists(FINITE | st.just(math.inf), min_size=1, max_size=60)
RATES = st.floats(0, 1) | st.sampled_from([0.0, 0.07, 0.1, 0.5, 1.0])
TAUS = FINITE | st.floats(0, 10) | st.just(math.inf)


def d(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def match(distance: float, tau: float) -> bool:
    return distance <= tau and distance != math.inf


def encodings(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).integers(-2, 3, (count, 3)).astype(np.float32)  # ties, too


# Rates at a tau.


@given(OR_NONE, TAUS)
def test_rates_are_their_definitions(distances: list[float], tau: float) -> None:
    assert matches(distances, tau).tolist() == [match(x, tau) for x in distances]
    assert match_rate(distances, tau) == share([match(x, tau) for x in distances])
    assert miss_rate(distances, tau) == share([not match(x, tau) for x in distances])


def test_a_tie_with_tau_matches_and_what_is_not_there_never_does() -> None:
    assert match_rate([0.3, 0.5, math.nextafter(0.5, 1)], 0.5) == 2 / 3
    assert match_rate([math.inf, 0.0], math.inf) == 0.5
    assert miss_rate([math.inf, 0.0], math.inf) == 0.5


def test_nothing_and_nan_are_refused() -> None:
    for measure in (match_rate, miss_rate, tau_for_rate, largest_tau_for_rate):
        with pytest.raises(ValueError, match="nothing to measure"):
            measure([], 0.5)
        with pytest.raises(ValueError, match="NaN"):
            measure([0.1, math.nan], 0.5)
    for rate in (match_rate, miss_rate):
        with pytest.raises(ValueError, match="NaN"):
            rate([0.1], math.nan)
    assert matches([], 0.5).tolist() == []
    for bad in (-0.01, 1.01, math.nan):
        with pytest.raises(ValueError, match="a rate lies in 0 to 1"):
            tau_for_rate([0.1], bad)
    with pytest.raises(ValueError, match="NaN"):
        fmr_curve([math.nan])
    for mated, non_mated in (([], [0.1]), ([0.1], []), ([math.nan], [0.1]), ([0.1], [math.nan]), ([math.inf],) * 2):
        with pytest.raises(ValueError, match=r"nothing|NaN|finite"):
            equal_error_rate(mated, non_mated)
    with pytest.raises(ValueError, match="nothing to measure"):
        det_curve(Scores(np.array([0.1]), np.empty(0)))
    nobody = Scores(np.empty(0), np.empty(0))
    with pytest.raises(ValueError, match="nothing to measure"):
        _ = nobody.rank1
    with pytest.raises(ValueError, match="nothing to measure"):
        one_shot_error(
            encodings(1), OneShotTrials(np.empty(0, np.int64), np.empty((0, 2), np.int64), np.empty(0, np.int64))
        )


def test_a_mate_counts_where_it_is_the_nearest_and_the_first_of_equals_is() -> None:
    distances = np.array([[0.1, 0.2], [0.3, 0.2], [0.4, 0.4], [0.4, 0.4], [math.inf, math.inf]])
    assert to_mate(distances, np.array([0, 0, 0, 1, 0])).tolist() == [0.1, math.inf, 0.4, math.inf, math.inf]


# Tau for a rate.


@given(DISTANCES, RATES)
def test_tau_admits_at_most_the_rate_and_no_larger_gap_would(distances: list[float], rate: float) -> None:
    values = np.array(distances)
    tau = tau_for_rate(values, rate)
    share = (values <= tau).mean()
    above = values[values > tau]
    assert share <= rate + 1e-9 or (tau == 0 and (values == 0).any())
    if len(above):
        assert (values <= above.min()).mean() > rate - 1e-9


@given(OR_NONE, RATES)
def test_the_largest_tau_is_the_largest(distances: list[float], rate: float) -> None:
    tau = largest_tau_for_rate(distances, rate)
    assert match_rate(distances, tau) <= rate + 1e-9
    if tau < max(distances):
        assert share([x <= math.nextafter(tau, math.inf) for x in distances]) > rate
    assert tau_for_rate(distances, rate) <= max(tau, 0)
    kept = [x for x in distances if match(x, tau)]
    assert kept == [x for x in distances if match(x, tau_for_rate(distances, rate))] or 0 in distances


def test_tau_between_neighbouring_floats_lets_nobody_more_in() -> None:
    for start in (1.0, 1.1, 0.3):
        close = np.array([start, math.nextafter(start, 2)])
        assert (close <= tau_for_rate(close, 0.5)).mean() == 0.5


def test_a_tau_to_be_set_is_finite() -> None:
    assert tau_for_rate([0.2, math.inf, math.inf], 0.4) == 0.2
    assert tau_for_rate([math.inf], 0.4) == 0
    assert tau_for_rate([0.2, 0.4], 1.0) == 0.4
    assert tau_for_rate([0.2, 0.4], 0.0) == 0.1
    assert tau_for_rate([0.0, 0.4], 0.0) == 0


# The DET curve.


@given(OR_NONE, OR_NONE)
def test_the_det_curve_has_every_distance_and_its_rates(mated: list[float], non_mated: list[float]) -> None:
    curve = det_curve(Scores(np.array(mated), np.array(non_mated)))
    assert [point.tau for point in curve] == sorted({0.0, *mated, *non_mated} - {math.inf})
    for point in curve:
        assert point.fpir == share([match(x, point.tau) for x in non_mated])
        assert point.fnir == share([not match(x, point.tau) for x in mated])
        assert point == det_point(Scores(np.array(mated), np.array(non_mated)), point.tau)


@given(OR_NONE, OR_NONE, st.integers(1, 10))
def test_a_thinned_det_curve_is_part_of_it_and_reaches_its_end(
    mated: list[float], non_mated: list[float], at_most: int
) -> None:
    scores = Scores(np.array(mated), np.array(non_mated))
    whole, thinned = det_curve(scores), det_curve(scores, at_most)
    assert len(thinned) <= at_most + 1
    assert [point for point in whole if point in thinned] == thinned
    assert (thinned[0], thinned[-1]) == (whole[0], whole[-1])


@given(OR_NONE, OR_NONE)
def test_the_eer_is_where_the_rates_are_closest(mated: list[float], non_mated: list[float]) -> None:
    taus = sorted({*mated, *non_mated} - {math.inf})
    if not taus:
        return
    points = [DetPoint(t, match_rate(non_mated, t), miss_rate(mated, t)) for t in taus]
    best = min(points, key=lambda point: round(abs(point.fpir - point.fnir), 12))  # the first of equal ones
    assert equal_error_rate(mated, non_mated) == ((best.fpir + best.fnir) / 2, best.tau)


def test_equal_error_rate_on_distances_whose_answer_is_known() -> None:
    rng = np.random.default_rng(0)
    mated, non_mated = rng.uniform(0, 1, 20_000), rng.uniform(0.8, 1.8, 30_000)
    eer, tau = equal_error_rate(mated, non_mated)
    assert eer == pytest.approx(0.1, abs=0.005)
    assert tau == pytest.approx(0.9, abs=0.01)
    assert equal_error_rate(mated, non_mated + 1)[0] == pytest.approx(0.0, abs=1e-4)
    # Between two mated distances, the non-mated ones decide.
    assert equal_error_rate([0.1, 1.0], [0.2, 0.3, 0.4, 0.5]) == (0.5, 0.3)
    # |1/3 - 1| and |2/3 - 0| tie, but are 0.6666666666666667 and 0.6666666666666666 in floats
    eer, tau = equal_error_rate([1.5], [1.0, 1.5, 2.0])
    assert (eer, tau) == ((1 / 3 + 1) / 2, 1.0)


# From encodings to distances.


def test_squared_l2_is_the_definition_for_deciding_and_for_measuring() -> None:
    f = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    expected = np.array([[d(a, b) for b in f] for a in f])
    np.testing.assert_allclose(pairwise_squared_l2(f, f), expected, atol=1e-12)
    np.testing.assert_array_equal(squared_l2(f[:, None], f[None]), expected.astype(np.float32))


@given(st.integers(0, 1000), st.integers(1, 5))
def test_one_shot_error_is_the_definition(seed: int, ways: int) -> None:
    f, rng = encodings(20, seed), np.random.default_rng(seed)
    trials = OneShotTrials(rng.integers(0, 20, 30), rng.integers(0, 20, (30, ways)), rng.integers(0, ways, 30))
    wrong = 0
    for probe, support, answer in zip(trials.probe, trials.support, trials.answer, strict=True):
        wrong += min(range(ways), key=lambda i: d(f[probe], f[support[i]])) != answer
    assert one_shot_error(f, trials) == wrong / 30


def test_one_shot_error_of_more_trials_than_a_block() -> None:
    f = np.arange(4, dtype=np.float32)[:, None]
    probe = np.zeros(3000, np.int64)
    support = np.tile([1, 2, 3], (3000, 1))
    answer = np.arange(3000) % 3  # the first is the nearest
    assert one_shot_error(f, OneShotTrials(probe, support, answer)) == 2 / 3
    with pytest.raises(ValueError, match="NaN"):
        one_shot_error(np.full_like(f, np.nan), OneShotTrials(probe, support, answer))


@given(st.integers(0, 1000), FINITE)
def test_a_search_is_the_definition(seed: int, tau: float) -> None:
    f, rng = encodings(30, seed), np.random.default_rng(seed)
    split = OpenSet(np.arange(5), rng.integers(5, 30, 12), rng.integers(0, 5, 12), rng.integers(5, 30, 9))
    found = search(f, split)
    identified = ranked = let_in = 0
    for probe, mate in zip(split.mated, split.mate, strict=True):
        distances = [d(f[probe], f[e]) for e in split.enrolled]
        nearest = distances.index(min(distances))
        ranked += nearest == mate
        identified += nearest == mate and distances[nearest] <= tau
    let_in = sum(min(d(f[s], f[e]) for e in split.enrolled) <= tau for s in split.strangers)
    assert found.rank1 == ranked / 12
    assert found.fnir(tau) == (12 - identified) / 12
    assert found.fpir(tau) == let_in / 9
    both = Scores.pooled([found, found])
    assert (len(both.mated), len(both.non_mated), both.fnir(tau)) == (24, 18, found.fnir(tau))


def test_pair_distances_split_all_pairs() -> None:
    subject_of = np.repeat(np.arange(9), 80)  # more than one block
    f = np.random.default_rng(0).normal(size=(720, 8)).astype(np.float32)
    mated, non_mated = pair_distances(f, subject_of)
    i, j = np.triu_indices(len(f), 1)
    same = subject_of[i] == subject_of[j]
    every = ((f[i].astype(np.float64) - f[j].astype(np.float64)) ** 2).sum(axis=1)
    np.testing.assert_allclose(np.sort(mated), np.sort(every[same]), atol=1e-12)
    np.testing.assert_allclose(np.sort(non_mated), np.sort(every[~same]), atol=1e-12)
    assert [len(part) for part in pair_distances(f[:0], subject_of[:0])] == [0, 0]


# From pairs to galleries.


@given(st.floats(0, 1), st.integers(1, 1_000_000))
def test_the_formula_and_its_inverse_undo_each_other(fpir: float, size: int) -> None:
    assert expected_fpir(fmr_for_fpir(fpir, size), size) == pytest.approx(fpir, rel=1e-9, abs=1e-12)


@given(st.floats(0, 1), st.integers(0, 30))
def test_the_formula_is_its_definition(fmr: float, size: int) -> None:
    assert expected_fpir(fmr, size) == pytest.approx(1 - (1 - fmr) ** size, abs=1e-12)


def test_a_small_fmr_survives_and_nobody_enrolled_lets_nobody_in() -> None:
    assert expected_fpir(1e-20, 1000) == pytest.approx(1e-17)
    assert expected_fpir(1.0, 0) == expected_fpir(0.5, 0) == 0
    assert (fmr_for_fpir(1.0, 5), fmr_for_fpir(0.0, 5)) == (1, 0)


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


def test_the_curve_bears_few_and_equal_distances_and_those_that_are_not_there() -> None:
    assert fmr_curve(np.array([0.5])) == ((0.5, 1.0),)
    assert fmr_curve(np.zeros(9)) == ((0.0, 1.0),)
    assert fmr_curve([0.5, math.inf]) == ((0.5, 0.5),)
    assert fmr_curve([math.inf]) == ()
