"""A fitted calibration says what was measured, keeps its target, and refuses what it can't."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneglance_core.calibration import (
    NonMated,
    Prior,
    TargetUnreachable,
    TooFewStrangers,
    fit_gallery,
    strangers_needed,
)
from oneglance_core.manifests import Calibration
from oneglance_core.measures import Distances

NOBODY = np.empty(0)
# Few values, so that ties are common.
DISTANCES = st.lists(st.integers(0, 50).map(lambda i: i / 8), min_size=1, max_size=60)


def fit(
    nearest: Distances, stranger: npt.NDArray[np.int64] | None = None, target: float = 0.1, size: int = 7
) -> Calibration:
    whose = np.arange(len(nearest)) if stranger is None else stranger
    return fit_gallery(
        NonMated(nearest, whose), NOBODY, gallery_size=size, fusion="nearest", target_fpir=target, data="made up"
    )


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


def test_few_strangers_are_evidence_beside_a_prior() -> None:
    prior = Prior(lambda tau: min(1.0, max(0.0, tau)), people=60, least=0.0, most=1.0)  # distances uniform in [0, 1]

    def with_prior(nearest: Distances, stranger: npt.NDArray[np.int64]) -> Calibration:
        return fit_gallery(
            NonMated(nearest, stranger),
            NOBODY,
            gallery_size=7,
            fusion="mean",
            target_fpir=0.05,
            data="made up",
            prior=prior,
        )

    far, near = np.full(15, 0.9), np.full(15, 0.01)
    alone = np.arange(15)
    assert with_prior(far, alone).tau == pytest.approx(0.05 * 75 / 60)  # they let tau rise,
    assert with_prior(near, alone).tau == pytest.approx(0.01, abs=1e-6)  # or fall: all of them are too many
    some = np.where(alone < 1, 0.01, 0.9)
    made = with_prior(some, alone)
    assert made.tau == pytest.approx((0.05 * 75 - 1) / 60)
    assert made.fpir == pytest.approx(0.05)
    assert made.non_mated_probes == 15
    assert made.fpir_low < 0.05 < made.fpir_high
    assert "15 strangers" in made.method
    rate = made.fmr(made.tau)
    assert rate is not None
    assert 1 - (1 - rate) ** 7 == pytest.approx(0.05)
    # Many pictures of one stranger count as one.
    assert with_prior(np.repeat(some, 9), np.repeat(alone, 9)).tau == pytest.approx(made.tau)
    with pytest.raises(TooFewStrangers, match="got 0"):
        with_prior(np.empty(0), np.empty(0, np.int64))
    enough = np.linspace(0, 1, 20)
    assert with_prior(enough, np.arange(20)).tau == fit(enough, target=0.05).tau


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


def test_what_was_measured_is_said() -> None:
    rng = np.random.default_rng(3)
    non_mated = NonMated(rng.uniform(0.5, 1, 60), np.arange(60) % 30)
    mated = np.array([0.1, math.inf, 0.3, 0.9])
    made = fit_gallery(
        non_mated, mated, gallery_size=12, fusion="mean", target_fpir=0.05, data="made up", note=" (note)"
    )
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
