"""Promises about pair heads: how likely a probe is of a subject, and what that decides.

By the rule "nearest"; tests/server/test_pair_head.py has the others.
"""

from __future__ import annotations

import numpy as np
import pytest

from oneglance_core.pair_head import PairHead
from oneglance_index import DecidedByChanged, RulesConflict
from tests.index.conformance.trial import PROBE, Trial, Vectors, along, promise, random_vectors, refused

# Likes what is far along the third axis: so the nearest is seldom the likeliest.
HEAD = PairHead("difference", np.array([-0.5, -1.0, 1.5, -0.25]), 0.5)


def how_likely(one: Vectors) -> float:
    terms = np.abs(one.astype(np.float64) - np.array(PROBE))
    return float(1 / (1 + np.exp(-(terms @ HEAD.weights + HEAD.bias))))


@promise
def a_head_tells_how_likely_candidates_are(t: Trial) -> None:
    t.create()
    vectors = random_vectors(12, 15).reshape(4, 3, 4)
    for i, own in enumerate(vectors):
        t.enroll(f"s{i}", *own)
    t.settle()
    without, told = t.ask(PROBE, 4, 100.0, 10), t.ask(PROBE, 4, 100.0, 10, head=HEAD)
    assert [one.subject_id for one in told.candidates[0]] == [one.subject_id for one in without.candidates[0]]
    for one in (*told.candidates[0], *told.matches[0]):
        own = vectors[int(one.subject_id[1:])]
        compared = own[np.abs(((own - np.array(PROBE)) ** 2).sum(axis=1) - one.distance).argmin()]
        assert one.probability == pytest.approx(how_likely(compared), abs=1e-6)
        assert one.score == one.distance
    assert all(one.probability is None for one in without.candidates[0])


@promise
def where_probability_decides_the_likeliest_are_found(t: Trial) -> None:
    t.create()
    if not t.ask(PROBE, 1).exact:
        return
    vectors = random_vectors(40, 16).reshape(20, 2, 4)
    for i, own in enumerate(vectors):
        t.enroll(f"s{i:02}", *own)
    t.enroll("same as s03", *vectors[3])
    t.settle()
    likely = {f"s{i:02}": max(map(how_likely, own)) for i, own in enumerate(vectors)}
    likely["same as s03"] = likely["s03"]
    expected = sorted(likely, key=lambda name: (-likely[name], name != "s03"))
    for asked in range(1, 22):  # one of them lies between the two that are equally likely
        found = t.ask(PROBE, asked, head=HEAD, by_probability=True).candidates[0]
        names = {one.subject_id for one in found}
        assert names == set(expected[: len(names)])
    for one in found:
        assert one.probability == pytest.approx(likely[one.subject_id], abs=1e-6)
        assert one.score == pytest.approx(1 - likely[one.subject_id], abs=1e-6)
    within = 1 - (likely[expected[6]] + likely[expected[7]]) / 2
    matches = t.ask(PROBE, 2, within, 60, head=HEAD, by_probability=True).matches[0]
    assert {one.subject_id for one in matches} == {name for name in expected if 1 - likely[name] <= within}


@promise
def verify_tells_how_likely_it_is(t: Trial) -> None:
    t.create()
    near, likely = np.array([1.0, 0, 0.25, 0], np.float32), np.array([1.0, 0, 3, 0], np.float32)
    t.enroll("one", near)
    t.enroll("two", near, likely)
    t.settle()
    probe = np.array([PROBE], np.float32)
    assert t.store.verify("g", "one", probe).candidates[0][0].probability is None
    told = t.store.verify("g", "one", probe, head=HEAD).candidates[0][0]
    assert told.probability == pytest.approx(how_likely(near), abs=1e-6)
    assert told.score == told.distance
    decided = t.store.verify("g", "two", probe, head=HEAD, by_probability=True).candidates[0][0]
    assert decided.probability == pytest.approx(how_likely(likely), abs=1e-6)
    assert decided.score == pytest.approx(1 - how_likely(likely), abs=1e-6)


@promise
def what_decides_can_be_changed(t: Trial) -> None:
    t.store.create_gallery("g", encoder_digest="e", dimension=4, decided_by="probability").result()
    t.enroll("s", along(2))
    before = t.store.set_threshold("g", 0.5).result()
    assert before.active.decided_by == "probability"
    t.settle()
    assert t.store.known("g").active.decided_by == t.store.get_gallery("g").active.decided_by == "probability"
    assert t.store.set_decided_by("g", "probability").result().active.threshold == 0.5
    changed = t.store.set_decided_by("g", "distance").result()
    assert (changed.active.decided_by, changed.active.threshold) == ("distance", None)
    with refused(DecidedByChanged):
        t.store.set_threshold("g", 0.5, of=before).result()
    t.settle()
    assert t.store.known("g").active.decided_by == "distance"
    t.store.set_fusion("g", "margin").result()
    with refused(RulesConflict):
        t.store.set_decided_by("g", "probability").result()
    t.store.set_fusion("g", "mean").result()
    t.store.set_decided_by("g", "probability").result()
    with refused(RulesConflict):
        t.store.set_fusion("g", "margin").result()
    with refused(RulesConflict):
        t.store.create_gallery("h", encoder_digest="e", dimension=4, fusion="margin", decided_by="probability").result()
