"""Promises about pair heads: how likely a probe is of a subject, and what that decides."""

from __future__ import annotations

import numpy as np
import pytest

from oneglance_core.fusion import template
from oneglance_core.pair_head import PairHead
from oneglance_index import DecidedByChanged, RulesConflict
from tests.index.conformance.trial import PROBE, Trial, Vectors, along, promise, random_vectors, refused

# Likes what is far along the third axis: so the nearest is seldom the likeliest.
HEAD = PairHead("difference", np.array([-0.5, -1.0, 1.5, -0.25]), 0.5)


def how_likely(one: Vectors, probe: tuple[float, ...] = PROBE) -> float:
    terms = np.abs(one.astype(np.float64) - np.array(probe))
    return float(1 / (1 + np.exp(-(terms @ HEAD.weights + HEAD.bias))))


@promise
def a_head_tells_how_likely_candidates_are(t: Trial) -> None:
    t.create()
    vectors = random_vectors(12, 15).reshape(4, 3, 4)
    for i, own in enumerate(vectors):
        t.enroll(f"s{i}", *own)
    t.settle()
    for fusion in ("nearest", "mean"):
        t.store.set_fusion("g", fusion).result()
        without = t.ask(PROBE, 4, 100.0, 10)
        told = t.ask(PROBE, 4, 100.0, 10, head=HEAD)
        assert [one.subject_id for one in told.candidates[0]] == [one.subject_id for one in without.candidates[0]]
        for one in (*told.candidates[0], *told.matches[0]):
            own = vectors[int(one.subject_id[1:])]
            nearest = own[((own - np.array(PROBE)) ** 2).sum(axis=1).argmin()]
            compared = nearest if fusion == "nearest" else template(own)
            assert one.probability == pytest.approx(how_likely(compared), abs=1e-6)
            assert one.score == one.distance
        assert all(one.probability is None for one in without.candidates[0])


@promise
def where_probability_decides_the_likeliest_come_first(t: Trial) -> None:
    t.create()
    vectors = random_vectors(40, 16).reshape(20, 2, 4)
    for i, own in enumerate(vectors):
        t.enroll(f"s{i:02}", *own)
    t.enroll("same as s03", *vectors[3])
    t.settle()
    for fusion in ("nearest", "mean"):
        t.store.set_fusion("g", fusion).result()
        likely = {
            f"s{i:02}": max(map(how_likely, own)) if fusion == "nearest" else how_likely(template(own))
            for i, own in enumerate(vectors)
        }
        likely["same as s03"] = likely["s03"]
        expected = sorted(likely, key=lambda name: (-likely[name], name != "s03"))
        ranked = t.ask(PROBE, 21, head=HEAD, by_probability=True).candidates[0]
        assert [one.subject_id for one in ranked] == expected
        for one in ranked:
            assert one.probability == pytest.approx(likely[one.subject_id], abs=1e-6)
            assert one.score == pytest.approx(1 - likely[one.subject_id], abs=1e-6)
        within = (ranked[6].score + ranked[7].score) / 2
        for limit, truncated in ((7, False), (6, True)):
            found = t.ask(PROBE, 2, within, limit, head=HEAD, by_probability=True)
            assert [one.subject_id for one in found.matches[0]] == expected[:limit]
            assert [one.subject_id for one in found.candidates[0]] == expected[:2]
            assert found.truncated == (truncated,)


@promise
def verify_tells_how_likely_it_is(t: Trial) -> None:
    t.create()
    near, likely = np.array([1.0, 0, 0.25, 0], np.float32), np.array([1.0, 0, 3, 0], np.float32)
    t.enroll("s", near, likely)
    t.settle()
    probe = np.array([PROBE], np.float32)
    assert t.store.verify("g", "s", probe).candidates[0][0].probability is None
    for fusion, by_probability, compared in (
        ("nearest", False, near),
        ("nearest", True, likely),
        ("mean", False, template(np.stack([near, likely]))),
        ("mean", True, template(np.stack([near, likely]))),
    ):
        t.store.set_fusion("g", fusion).result()
        found = t.store.verify("g", "s", probe, head=HEAD, by_probability=by_probability).candidates[0][0]
        assert found.probability == pytest.approx(how_likely(compared), abs=1e-6)
        assert found.distance == pytest.approx(float(((compared - np.array(PROBE)) ** 2).sum()), rel=1e-6)
        assert found.score == pytest.approx(1 - how_likely(compared) if by_probability else found.distance, abs=1e-6)


@promise
def what_decides_can_be_changed(t: Trial) -> None:
    t.store.create_gallery("g", encoder_digest="e", dimension=4, decided_by="probability").result()
    t.enroll("s", along(2))
    before = t.store.set_threshold("g", 0.5).result()
    assert before.active.decided_by == "probability"
    t.settle()
    assert t.store.known("g").active.decided_by == t.store.get_gallery("g").active.decided_by == "probability"
    again = t.store.set_decided_by("g", "probability").result()
    assert (again.active.threshold, again.revision) == (0.5, before.revision)
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
