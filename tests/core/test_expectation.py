"""The FPIR to expect, and the tau for an FPIR, against what is measured in galleries that were not used for them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from oneglance_core.expectation import Expectation
from oneglance_core.manifests import FalsePositives, Galleries

LEVELS = (0.001, 0.01, 0.1, 0.5)


def measured(**galleries: tuple[float, ...]) -> FalsePositives:
    """``n1_k10``: taus of galleries of 10 with one example each."""
    sizes = {name: tuple(int(part[1:]) for part in name.split("_")) for name in galleries}
    return FalsePositives(
        data="made up",
        method="",
        people=100,
        levels=LEVELS,
        lows=(0.0, 0.001, 0.05, 0.4),
        highs=(0.03, 0.05, 0.18, 0.6),
        galleries=tuple(
            Galleries(fusion="mean", examples=sizes[name][0], gallery_size=sizes[name][1], taus=taus)
            for name, taus in galleries.items()
        ),
    )


MADE = Expectation(measured(n1_k1=(0.3, 0.4, 0.5, 0.6), n1_k10=(0.2, 0.3, 0.4, 0.5), n3_k10=(0.1, 0.2, 0.3, 0.4)))


def test_what_was_measured_is_what_is_expected() -> None:
    taus, lows, highs = (0.2, 0.3, 0.4, 0.5), (0.0, 0.001, 0.05, 0.4), (0.03, 0.05, 0.18, 0.6)
    for tau, level, low, high in zip(taus, LEVELS, lows, highs, strict=True):
        found = MADE.fpir(tau, "mean", 1, 10)
        assert (found.value, found.low, found.high) == pytest.approx((level, low, high))
        assert MADE.tau(level, "mean", 1, 10) == pytest.approx(tau)
    assert MADE.fpir(0.2, "mean", 3, 10).value == pytest.approx(0.01)


def test_between_sizes_and_examples_it_lies_between() -> None:
    at = [MADE.fpir(0.3, "mean", 1, size).value for size in (1, 2, 3, 5, 10)]
    assert at == sorted(at)
    assert (at[0], at[-1]) == pytest.approx((0.001, 0.01))
    more = [MADE.fpir(0.3, "mean", examples, 10).value for examples in (1, 1.5, 2, 3)]
    assert more == sorted(more)
    assert (more[0], more[-1]) == pytest.approx((0.01, 0.1))
    assert MADE.fpir(0.3, "mean", 50, 10) == MADE.fpir(0.3, "mean", 3, 10)


def test_beyond_the_largest_size_it_grows_as_if_comparisons_were_independent() -> None:
    assert MADE.fpir(0.3, "mean", 1, 40).value == pytest.approx(1 - (1 - 0.01) ** 4)
    assert MADE.fpir(0.5, "mean", 1, 10**9).value == pytest.approx(1)


def test_below_what_was_measured_it_is_the_least_level_and_above_one() -> None:
    assert MADE.fpir(0.0, "mean", 1, 10).value == pytest.approx(0.001)
    assert MADE.fpir(9.0, "mean", 1, 10).value == pytest.approx(1)
    assert MADE.tau(1e-6, "mean", 1, 10) == pytest.approx(0.1)  # the least tau of the rule
    assert MADE.tau(0.9, "mean", 1, 1) == pytest.approx(0.6)


def test_a_rule_that_was_not_measured_is_not_known() -> None:
    assert MADE.knows("mean")
    assert not MADE.knows("margin")


@given(st.floats(0.002, 0.45), st.floats(1, 4), st.integers(1, 500))
def test_tau_keeps_the_rate_it_is_for(target: float, examples: float, size: int) -> None:
    tau = MADE.tau(target, "mean", examples, size)
    least = MADE.fpir(0.0, "mean", examples, size).value
    assert MADE.fpir(tau, "mean", examples, size).value <= max(target, least) + 1e-9


def test_strangers_of_other_galleries_are_let_in_as_expected() -> None:
    """Comparisons that are independent, and such that some strangers resemble everybody."""
    rng = np.random.default_rng(0)

    def nearest(strangers: int, size: int) -> np.ndarray:
        likeness = rng.uniform(0.5, 1.5, (strangers, 1))
        return np.sort((rng.uniform(size=(strangers, size)) * likeness).min(axis=1))

    levels = tuple(np.geomspace(1e-3, 0.9, 30).tolist())

    def taus(size: int) -> tuple[float, ...]:
        found = nearest(50_000, size)
        return tuple(float(found[math.floor(level * len(found))]) for level in levels)

    galleries = tuple(Galleries(fusion="mean", examples=1, gallery_size=size, taus=taus(size)) for size in (1, 10, 100))
    made = Expectation(
        FalsePositives(
            data="", method="", people=2, levels=levels, lows=(0.0,) * 30, highs=(1.0,) * 30, galleries=galleries
        )
    )
    for size in (3, 30, 60):
        tau = made.tau(0.05, "mean", 1, size)
        assert (nearest(50_000, size) <= tau).mean() == pytest.approx(0.05, rel=0.15)


@pytest.mark.parametrize(
    "change",
    [
        {"levels": (0.01, 0.001, 0.1, 0.5)},
        {"levels": (0.01, 0.1)},
        {"highs": (0.0005, 0.05, 0.18, 0.6)},
        {"galleries": ()},
        {"people": 1},
    ],
)
def test_what_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FalsePositives.model_validate(measured(n1_k1=(0.1, 0.2, 0.3, 0.4)).model_dump() | change)


def test_taus_must_rise() -> None:
    with pytest.raises(ValidationError, match="rise"):
        Galleries(fusion="mean", examples=1, gallery_size=1, taus=(0.2, 0.1))
