"""A paired test tells a difference from chance."""

import numpy as np
import pytest

from oneglance_core.judging.compare import compare
from oneglance_core.judging.errors import NotPaired
from oneglance_core.judging.judge import judge
from tests.core.judging.worlds import world

MANY = (4,) * 20


def test_one_encoder_is_no_better_than_itself() -> None:
    one = judge(world(), splits=2, replicates=50)
    found = compare(one, judge(world(), splits=2, replicates=50))
    assert found.differences
    for difference in found.differences:
        assert difference.difference.value == difference.difference.low == difference.difference.high == 0
        assert not difference.certain
        assert difference.p in (None, 1.0)
    assert "may be equal" in str(found)


def test_a_worse_encoder_is_worse_for_certain() -> None:
    good, bad = (judge(world(MANY, noise), splits=3, replicates=200) for noise in (0.3, 0.9))
    found = {one.name: one for one in compare(good, bad).differences}
    assert found["EER"].certain
    assert found["EER"].difference.value == bad.pairs.eer.value - good.pairs.eer.value > 0
    rank1 = found["rank-1, 20 enrolled once"]
    assert rank1.certain
    assert rank1.p is not None
    assert rank1.p < 0.001
    # Taken alone the two intervals are wider than that of the difference: the same subjects are hard for both.
    again = {one.name: one for one in compare(bad, good).differences}
    assert again["EER"].difference.value == -found["EER"].difference.value


def test_chance_alone_is_rarely_called_a_difference() -> None:
    """Encoders that err as often, by other noise: about 1 of 20 is called different."""
    called = ps = 0
    for seed in range(10):
        first, second = (judge(world((3,) * 16, 0.7, seed=s), splits=1, replicates=60) for s in (seed, seed + 100))
        rank1 = next(one for one in compare(first, second).differences if one.name.startswith("rank-1"))
        called += rank1.certain
        ps += rank1.p is not None and rank1.p < 0.05
    assert called <= 3
    assert ps <= 3


def test_other_examples_are_refused() -> None:
    with pytest.raises(NotPaired):
        compare(judge(world(), splits=1, replicates=5), judge(world(MANY), splits=1, replicates=5))
    people = world()
    with pytest.raises(NotPaired):
        compare(
            judge(people, splits=1, replicates=5),
            judge(people.rows(np.arange(len(people.files))[::-1]), splits=1, replicates=5),
        )
