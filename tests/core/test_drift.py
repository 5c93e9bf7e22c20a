"""The test of drift: right when nothing drifts, quick when something does."""

import itertools
import math

import numpy as np
import pytest

from oneglance_core.drift import (
    FALSE_ALARM,
    FAR,
    NEAR,
    TOLERANCE,
    WINDOW,
    Region,
    log_evidence,
    nearer,
    region_of_mates,
    region_of_strangers,
)

ALARM = math.log(1 / FALSE_ALARM)
TAUS = np.linspace(0, 2, 201)
RATES = TAUS / 2  # strangers' scores are uniform in [0, 2]


def strangers(people: int = 1000) -> Region:
    region = region_of_strangers(TAUS, RATES, people)
    assert region is not None
    return region


def bins(region: Region, scores: np.ndarray) -> list[int]:
    inside = scores[(scores > region.edges[0]) & (scores <= region.edges[-1])]
    return [int(((inside > low) & (inside <= high)).sum()) for low, high in itertools.pairwise(region.edges)]


def alarm_after(region: Region, shares: list[float], seed: int, most: int) -> int | None:
    """After how many probes of the region it is suspected; None: not within ``most``."""
    drawn = np.random.default_rng(seed).choice(len(shares), most, p=shares)
    for seen in range(10, most + 1, 10):
        if log_evidence(np.bincount(drawn[:seen], minlength=len(shares)).tolist(), region) >= ALARM:
            return seen
    return None


def test_the_region_of_strangers_begins_where_mates_are_rare() -> None:
    region = strangers()
    assert region.edges == pytest.approx([2 * FAR, *(2 * (FAR + i * (1 - FAR) / 5) for i in range(1, 5)), math.inf])
    assert region.shares == pytest.approx([0.2] * 5)
    for low, share, high in zip(region.lows, region.shares, region.highs, strict=True):
        assert low < share / TOLERANCE < share < share * TOLERANCE < high
    fewer = strangers(100)
    assert fewer.lows[0] < region.lows[0]
    assert fewer.highs[0] > region.highs[0]


def test_the_region_of_mates_ends_where_strangers_begin() -> None:
    shares = [0.1, 0.3, 0.5, 0.7, 0.9]
    region = region_of_mates([share / 50 for share in shares], shares, 100, TAUS, RATES)
    assert region is not None
    assert region.edges[0] == -math.inf
    assert region.edges[-1] == pytest.approx(2 * NEAR)
    assert region.edges[1:] == pytest.approx([0.002 * i for i in range(1, 6)])  # half of the mates are that near
    assert region_of_mates([share / 5 for share in shares], shares, 100, TAUS, RATES) is None  # hardly any is


def test_what_does_not_tell_of_far_strangers_gives_no_region() -> None:
    assert region_of_strangers(TAUS, RATES / 2, 100) is None
    assert region_of_strangers(TAUS, 0.5 + RATES / 2, 100) is None


def test_the_null_is_the_likeliest_within_the_bounds() -> None:
    """Against brute force over a grid of distributions."""
    region = Region("strangers", (0, 1, 2, math.inf), (0.1, 0.2, 0.1), (0.3, 0.4, 0.3), (0.5, 0.5, 0.6))
    grid = [
        (a, b, 1 - a - b)
        for a in np.linspace(0.1, 0.5, 81)
        for b in np.linspace(0.2, 0.5, 61)
        if 0.1 <= 1 - a - b <= 0.6
    ]
    for counts in ([10, 10, 10], [30, 0, 0], [0, 0, 30], [0, 40, 1], [5, 25, 70], [1, 0, 0]):
        best = max(sum(n * math.log(p) for n, p in zip(counts, point, strict=True) if n) for point in grid)
        mixture = math.lgamma(1.5) - math.lgamma(sum(counts) + 1.5)
        mixture += sum(math.lgamma(n + 0.5) - math.lgamma(0.5) for n in counts)
        assert log_evidence(counts, region) == pytest.approx(mixture - best, abs=0.05)
    assert log_evidence([0, 0, 0], region) == 0.0


def test_it_is_an_e_value_wherever_in_the_bounds_the_truth_is() -> None:
    """Its mean over all outcomes is at most 1."""
    region = Region("mates", (0, 1, 2, 3), (0.1, 0.2, 0.1), (0.3, 0.4, 0.3), (0.5, 0.5, 0.6))
    n = 12
    for truth in ((0.3, 0.4, 0.3), (0.5, 0.4, 0.1), (0.2, 0.2, 0.6)):
        mean = 0.0
        for a in range(n + 1):
            for b in range(n + 1 - a):
                counts = [a, b, n - a - b]
                ways = math.factorial(n) / math.prod(map(math.factorial, counts))
                chance = ways * math.prod(p**k for p, k in zip(truth, counts, strict=True))
                mean += chance * math.exp(log_evidence(counts, region))
        assert mean <= 1.0


@pytest.mark.parametrize("shares", [[0.2] * 5, [0.28, 0.2, 0.2, 0.2, 0.12], [0.12, 0.28, 0.12, 0.28, 0.2]])
def test_within_the_bounds_it_does_not_alarm(shares: list[float]) -> None:
    assert [alarm_after(strangers(), shares, seed, WINDOW) for seed in range(60)] == [None] * 60


@pytest.mark.parametrize(
    ("shares", "most", "down"),
    [
        ([0.5, 0.3, 0.15, 0.04, 0.01], 250, True),  # three times as many are let in
        ([0.9, 0.1, 0.0, 0.0, 0.0], 50, True),
        ([0.0, 0.0, 0.0, 0.1, 0.9], 50, False),
        ([0.02, 0.08, 0.2, 0.3, 0.4], 300, False),
    ],
)
def test_beyond_them_it_soon_does(shares: list[float], most: int, down: bool) -> None:
    found = [alarm_after(strangers(), shares, seed, 1000) for seed in range(20)]
    assert all(one is not None for one in found)
    assert sorted(one or 0 for one in found)[10] <= most
    assert nearer([int(1000 * share) for share in shares], strangers()) is down


def test_scores_are_put_into_bins_that_hold_what_was_calibrated() -> None:
    scores = np.random.default_rng(0).uniform(0, 2, 20_000)
    counts = bins(strangers(), scores)
    assert sum(counts) / len(scores) == pytest.approx(1 - FAR, abs=0.01)
    assert [count / sum(counts) for count in counts] == pytest.approx([0.2] * 5, abs=0.01)
