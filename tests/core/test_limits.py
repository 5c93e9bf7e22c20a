"""Limits on figures: what breaks them, and how it is told."""

import math

import pytest

from oneglance_core.limits import Breach, Limit, breaches

LOW, HIGH, BOTH = Limit("a", least=2.0), Limit("a", most=3.0), Limit("b", least=-1.0, most=1.0)


@pytest.mark.parametrize(
    ("value", "limit", "broken"),
    [(2.0, LOW, False), (1.999, LOW, True), (3.0, HIGH, False), (3.001, HIGH, True), (math.nan, LOW, True),
     (math.nan, HIGH, True), (math.inf, HIGH, True), (math.inf, LOW, False)],
)  # fmt: skip
def test_a_limit_is_broken_outside_and_not_at_it(value: float, limit: Limit, broken: bool) -> None:
    found = breaches({"a": value}, [limit])
    assert [one.limit for one in found] == ([limit] if broken else [])


def test_breaches_are_in_the_order_of_the_limits() -> None:
    assert breaches({"a": 5.0, "b": -2.0}, [BOTH, LOW, HIGH]) == (Breach(BOTH, -2.0), Breach(HIGH, 5.0))


def test_a_limit_on_a_figure_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        breaches({"a": 1.0}, [BOTH])


def test_a_breach_names_the_limit_that_was_broken() -> None:
    assert str(Breach(LOW, 1.25)) == "a 1.25, at least 2"
    assert str(Breach(BOTH, -2.0)) == "b -2, at least -1"
    assert str(Breach(BOTH, 2.0)) == "b 2, at most 1"
