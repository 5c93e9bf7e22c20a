"""A judgement's figures are those that plain loops count, and its replicates those of subjects drawn again."""

from collections.abc import Callable

import numpy as np
import pytest

from oneglance_core.judging.galleries import EXAMPLES, Draw, draw
from oneglance_core.judging.judge import Judgement, judge
from oneglance_core.judging.labelled import LabelledEncodings
from oneglance_core.judging.pairs import GROUP_FMR
from oneglance_core.judging.resample import Found, draw_weights, fnir_at, share
from oneglance_core.measures import largest_tau_for_rate, miss_rate
from tests.core.judging.worlds import distance, pairs, world

SPLITS, SEED = 3, 5


@pytest.fixture(scope="module")
def people() -> LabelledEncodings:
    return world()


@pytest.fixture(scope="module")
def judged(people: LabelledEncodings) -> Judgement:
    return judge(people, splits=SPLITS, seed=SEED, replicates=50)


def test_pairs_are_counted(people: LabelledEncodings, judged: Judgement) -> None:
    own = sorted(d for a, b, d in pairs(people) if a == b)
    others = sorted(d for a, b, d in pairs(people) if a != b)
    assert (len(judged.pairs.mated), len(judged.pairs.non_mated)) == (len(own), len(others))

    def fmr(tau: float) -> float:
        return sum(d <= tau for d in others) / len(others)

    def fnmr(tau: float) -> float:
        return sum(d > tau for d in own) / len(own)

    taus = sorted([*own, *others])
    nearest = min(abs(fmr(tau) - fnmr(tau)) for tau in taus)
    assert any(
        judged.pairs.eer.value == pytest.approx((fmr(tau) + fnmr(tau)) / 2)
        for tau in taus
        if abs(fmr(tau) - fnmr(tau)) <= nearest + 1e-12
    )
    for far, tar in judged.pairs.tar.items():
        best = max((1 - fnmr(tau) for tau in taus if fmr(tau) <= far), default=0.0)
        assert tar.value == pytest.approx(best)
    for point in judged.pairs.curve:
        if point.tau != judged.pairs.group_tau:  # that lies just below a distance
            near = point.tau + 1e-9  # another way to sum ends in other bits
            assert (point.fmr.value, point.fnmr.value) == pytest.approx((fmr(near), fnmr(near)))
    for one in judged.groups:
        inside = {s for s, g in enumerate(people.group_of) if people.groups[g] == one.group}
        both = [(a, b, d <= judged.pairs.group_tau) for a, b, d in pairs(people) if {a, b} <= inside]
        assert one.fmr is not None
        assert one.fnmr is not None
        assert one.fmr.value == pytest.approx(np.mean([hit for a, b, hit in both if a != b]))
        assert one.fnmr.value == pytest.approx(1 - np.mean([hit for a, b, hit in both if a == b]))
    assert fmr(judged.pairs.group_tau) <= GROUP_FMR


def gallery(drawn: Draw, size: int) -> list[list[int]]:
    return [rows.tolist() for rows in drawn.enrolled[:size]]


def nearest(people: LabelledEncodings, row: int, enrolled: list[list[int]]) -> list[float]:
    return [min(distance(people, row, one) for one in own) for own in enrolled]


def mean(people: LabelledEncodings, row: int, enrolled: list[list[int]]) -> list[float]:
    found = []
    for own in enrolled:
        vectors = people.encodings[own].astype(np.float64)
        template = vectors.mean(axis=0)
        if len(own) > 1:
            template *= np.linalg.norm(vectors, axis=1).mean() / np.linalg.norm(template)
        found.append(float(((people.encodings[row] - template.astype(np.float32).astype(np.float64)) ** 2).sum()))
    return found


def margin(people: LabelledEncodings, row: int, enrolled: list[list[int]]) -> list[float]:
    distances = mean(people, row, enrolled)
    scores = []
    for i, own in enumerate(distances):
        others = sorted(d for j, d in enumerate(distances) if j != i)[:5]
        scores.append(own - 0.3 * float(np.mean(others)) if others else own)
    return scores


def searched(
    people: LabelledEncodings, rule: Callable[..., list[float]], examples: int, size: int
) -> tuple[list[float], list[float]]:
    """Scores of mates (infinite where another is nearer) and of strangers, in all galleries of a judgement."""
    mated, strangers = [], []
    outside = len(people.subjects) // 2
    for seed in range(SEED, SEED + SPLITS):
        drawn = draw(people, examples, seed)
        enrolled = gallery(drawn, size)
        for row in range(len(people.files)):
            place = drawn.order.tolist().index(people.subject_of[row])
            scores = rule(people, row, enrolled)
            if place >= outside:
                strangers.append(min(scores))
            elif place < size and row not in enrolled[place]:
                mated.append(min(scores) if int(np.argmin(scores)) == place else np.inf)
    return mated, strangers


def test_galleries_are_counted_by_size(people: LabelledEncodings, judged: Judgement) -> None:
    every = pairs(people)
    others = [d for a, b, d in every if a != b]
    farther = [np.mean([d < own for d in others]) for a, b, own in every if a == b]
    for one in judged.galleries.by_size:
        hits = []
        for seed in range(SEED, SEED + SPLITS):
            drawn = draw(people, 1, seed)
            enrolled = gallery(drawn, one.gallery_size)
            for row in range(len(people.files)):
                place = drawn.order.tolist().index(people.subject_of[row])
                if place < one.gallery_size and row not in enrolled[place]:
                    hits.append(int(np.argmin(nearest(people, row, enrolled))) == place)
        assert one.rank1 is not None
        assert one.rank1.value == pytest.approx(np.mean(hits))
        independent = np.mean([(1 - fmr) ** (one.gallery_size - 1) for fmr in farther])
        assert one.independent_rank1 == pytest.approx(independent, abs=1e-3)
        assert one.simple_rank1 == pytest.approx((1 - judged.pairs.eer.value) ** one.gallery_size)
        if one.gallery_size > len(people.subjects) // 2:
            assert one.fnir is None
            assert one.fpir is None
            continue
        mated, strangers = searched(people, nearest, 1, one.gallery_size)
        assert one.fnir is not None
        assert one.fpir is not None
        for fpir, fnir in one.fnir.items():
            assert fnir.value == pytest.approx(miss_rate(mated, largest_tau_for_rate(strangers, fpir)))
        for fmr, (rate, predicted) in one.fpir.items():
            tau = largest_tau_for_rate(others, fmr)
            assert rate.value == pytest.approx(np.mean([d <= tau for d in strangers]))
            assert predicted == pytest.approx(1 - (1 - np.mean([d <= tau for d in others])) ** one.gallery_size)


def test_galleries_are_counted_by_examples_and_fusion(people: LabelledEncodings, judged: Judgement) -> None:
    rules = {"nearest": nearest, "mean": mean, "margin": margin}
    found = judged.galleries.by_fusion
    assert {(one.fusion, one.examples) for one in found} == {
        (fusion, n) for fusion in rules for n in EXAMPLES[:3] if (fusion, n) != ("nearest", 1)
    }
    for one in found:
        mated, strangers = searched(people, rules[one.fusion], one.examples, one.gallery_size)
        for fpir, fnir in one.fnir.items():
            assert one.tau[fpir] == pytest.approx(largest_tau_for_rate(strangers, fpir))
            assert fnir.value == pytest.approx(miss_rate(mated, largest_tau_for_rate(strangers, fpir)))
        rates = [(p.fpir, p.fnir) for p in one.curve]
        assert rates == sorted(rates, key=lambda rate: (rate[0], -rate[1]))


def test_a_replicate_counts_a_subject_as_often_as_it_was_drawn(people: LabelledEncodings, judged: Judgement) -> None:
    weights = draw_weights(len(people.subjects), 50, SEED)
    assert (weights.sum(axis=1) == len(people.subjects)).all()
    others = [(a, b, d) for a, b, d in pairs(people) if a != b]
    own = [(a, d) for a, b, d in pairs(people) if a == b]
    for number in (0, 7):
        weight = weights[number]
        for point in judged.pairs.curve[::9]:
            if point.tau == judged.pairs.group_tau:
                continue
            tau = point.tau + 1e-9
            total = sum(weight[a] * weight[b] for a, b, _ in others)
            matching = sum(weight[a] * weight[b] * (d <= tau) for a, b, d in others)
            assert point.fmr.replicates[number] == pytest.approx(matching / total)
            missing = sum(weight[a] * (d > tau) for a, d in own) / sum(weight[a] for a, _ in own)
            assert point.fnmr.replicates[number] == pytest.approx(missing)


def test_a_replicate_chooses_tau_anew() -> None:
    rng = np.random.default_rng(0)
    found = Found(
        np.where(rng.random(60) < 0.2, np.inf, rng.random(60)),
        rng.integers(0, 8, 60),
        rng.random(90).round(2) + 0.2,  # with ties
        rng.integers(0, 8, 90),
    )
    weights = draw_weights(8, 40, 1)
    fnir, tau = fnir_at(0.1, found, weights)
    assert tau == largest_tau_for_rate(found.non_mated, 0.1)
    for number, weight in enumerate(weights.astype(int)):
        strangers = np.repeat(found.non_mated, weight[found.non_mated_owner])
        mated = np.repeat(found.mated, weight[found.mated_owner])
        assert fnir.replicates[number] == pytest.approx(miss_rate(mated, largest_tau_for_rate(strangers, 0.1)))


def test_no_error_is_no_certainty() -> None:
    none = share(np.zeros(10), np.full(10, 3), draw_weights(10, 30, 0))
    assert none.value == none.low == 0
    assert none.high == pytest.approx(0.3085, abs=1e-3)  # Clopper and Pearson's of 0 in 10


def test_the_interval_covers_what_it_says() -> None:
    """Of subjects whose probes go the same way, the true share lies within the interval about 19 times of 20."""
    rng = np.random.default_rng(3)
    weights = draw_weights(60, 200, 0)
    inside = 0
    for _ in range(200):
        measured = share(4.0 * (rng.random(60) < 0.3), np.full(60, 4), weights)
        inside += measured.low <= 0.3 <= measured.high
    assert 178 <= inside <= 199


def test_it_tells_how_far_it_is_and_everything_as_json(people: LabelledEncodings) -> None:
    told: list[float] = []
    made = judge(people, splits=2, replicates=20, far=lambda done, words: told.append(done))
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(told) > 5
    figures = made.as_dict()
    assert figures["eer"]["value"] == made.pairs.eer.value
    assert f"EER: {100 * made.pairs.eer.value:.2f} %" in str(made)
    assert "g1: FMR" in str(made)
