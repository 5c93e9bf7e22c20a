"""Promises about rules of fusion: how a subject's encodings become a distance and a score."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from oneglance_index import Found, FusionChanged, GenerationUnsupported, Search
from tests.index.brute_force import distance
from tests.index.conformance.trial import PROBE, Trial, along, promise, random_vectors, refused


@promise
def by_mean_a_subject_is_as_near_as_its_template(t: Trial) -> None:
    t.create(fusion="mean")
    t.enroll("two", (2.0, 0.0, 0.0, 0.0), (0.0, 4.0, 0.0, 0.0))
    t.enroll("one", along(7))
    t.enroll("opposite", along(3), along(-3))
    t.settle()
    stretched = np.array([1.0, 2.0, 0.0, 0.0]) * 3 / np.sqrt(5)
    assert t.distance_of("two", PROBE) == pytest.approx(((stretched - PROBE) ** 2).sum(), rel=1e-6)
    assert t.distance_of("one", PROBE) == 36.0
    assert t.distance_of("opposite", PROBE) == 1.0
    for one in t.ask(PROBE, 3).candidates[0]:
        assert (one.encoding_id, one.score) == ("", one.distance)


@promise
def a_template_follows_from_the_present_encodings(t: Trial) -> None:
    t.create(fusion="mean")
    u, v, w, x = random_vectors(4, 11)
    t.enroll("at once", u, v, w)
    ids = t.enroll("deleted", u, x, v, w, x).encoding_ids
    assert t.distance_of("deleted", PROBE) != t.distance_of("at once", PROBE)
    for encoding in (ids[1], ids[4]):
        t.store.delete_encoding("g", "deleted", encoding).result()
    t.settle()
    assert t.distance_of("deleted", PROBE) == t.distance_of("at once", PROBE)
    for encoding in ids[2:4]:
        t.store.delete_encoding("g", "deleted", encoding).result()
    assert t.distance_of("deleted", PROBE) == distance(u, np.array(PROBE, np.float32))


@promise
def by_margin_other_subjects_count_against_one(t: Trial) -> None:
    t.create(fusion="margin")
    vectors = random_vectors(9, 12)
    for enrolled in range(1, 10):
        t.enroll(f"s{enrolled - 1}", vectors[enrolled - 1])
        distances = np.array([distance(vector, np.array(PROBE, np.float32)) for vector in vectors[:enrolled]])
        for asked in (1, 3, 9):
            for one in t.ask(PROBE, asked).candidates[0]:
                own = int(one.subject_id[1:])
                others = np.sort(np.delete(distances, own))[:5]
                expected = distances[own] - (0.3 * others.mean() if len(others) else 0.0)
                assert one.score == pytest.approx(expected, rel=1e-9, abs=1e-9)
                assert one.distance == distances[own]


@promise
def by_margin_a_match_has_a_score_of_at_most_within(t: Trial) -> None:
    t.create(fusion="margin")
    t.enroll("s", PROBE)
    for i, vector in enumerate(random_vectors(11, 13)):
        t.enroll(f"s{i}", vector)
    t.settle()
    ranked = t.ask(PROBE, 12).candidates[0]
    assert min(one.score for one in ranked) < 0  # so that thresholds below 0 are among these
    for one, following in itertools.pairwise(sorted(ranked, key=lambda one: one.score)):
        within = (one.score + following.score) / 2
        matches = {c.subject_id for c in t.ask(PROBE, 0, within, 12).matches[0]}
        assert matches == {c.subject_id for c in ranked if c.score <= within}


@promise
def an_exact_store_orders_tied_templates_by_the_age_of_the_subject(t: Trial) -> None:
    t.create(fusion="mean")
    if not t.ask(PROBE, 1).exact:
        return
    order = [f"s{(7 * i) % 20}" for i in range(20)]
    for subject in order:
        t.enroll(subject, along(2))
    for subject in order[:10]:
        t.enroll(subject, along(2))
    t.settle()
    assert {one.subject_id for one in t.ask(PROBE, 5).candidates[0]} == set(order[:5])
    assert [one.subject_id for one in sorted(t.ask(PROBE, 20).candidates[0], key=lambda one: one.distance)] == order


@promise
def a_rule_of_fusion_can_be_changed(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2), along(4))
    t.store.set_threshold("g", 1.0).result()
    assert t.nearest(PROBE).distance == 1.0
    for fusion, expected in (("mean", 4.0), ("margin", 4.0), ("nearest", 1.0)):
        changed = t.store.set_fusion("g", fusion).result()
        assert (changed.active.fusion, changed.active.threshold) == (fusion, None)
        assert t.nearest(PROBE).distance == expected
        t.settle()
        assert t.nearest(PROBE).distance == expected
        t.store.set_threshold("g", 1.0).result()
        again = t.store.set_fusion("g", fusion).result()
        assert again.active.threshold == 1.0
    with refused(GenerationUnsupported):
        t.store.set_fusion("g", "median").result()
    with refused(GenerationUnsupported):
        t.store.create_gallery("h", encoder_digest="e", dimension=4, fusion="median").result()


@promise
def a_target_takes_the_place_of_a_threshold(t: Trial) -> None:
    t.store.create_gallery("g", encoder_digest="e", dimension=4, target_fpir=0.1).result()
    assert t.store.known("g").target_fpir == 0.1
    for target in (0.02, None):
        t.store.set_threshold("g", 1.0).result()
        changed = t.store.set_target_fpir("g", target).result()
        assert (changed.target_fpir, changed.active.threshold) == (target, None)
        t.settle()
        assert t.store.get_gallery("g").target_fpir == t.store.known("g").target_fpir == target
    for nonsense in (0.0, 1.0, float("nan")):
        with refused(ValueError):
            t.store.set_target_fpir("g", nonsense).result()


@promise
def verify_goes_by_the_rule_of_fusion(t: Trial) -> None:
    t.create(fusion="mean")
    for i, vector in enumerate(random_vectors(9, 14)):
        t.enroll(f"s{i}", vector, vector + np.float32(0.5))
    t.settle()
    for fusion in ("mean", "margin"):
        t.store.set_fusion("g", fusion).result()
        probe = np.array([PROBE], np.float32)
        for one in t.ask(PROBE, 9).candidates[0]:
            verified = t.store.verify("g", one.subject_id, probe).candidates[0][0]
            assert (verified.distance, verified.encoding_id) == (one.distance, "")
            assert verified.score == pytest.approx(one.score, rel=1e-9)


@promise
def nobody_is_compared_by_another_rule_than_is_asked_for(t: Trial) -> None:
    t.create(fusion="nearest")
    t.enroll("s", along(2), along(4))
    probe = np.array([PROBE], np.float32)
    for made, rule in itertools.pairwise(("nearest", "mean", "margin", "nearest")):
        t.store.set_fusion("g", rule).result()
        t.settle()
        for search in (Search(probe, "e", 1, fusion=made), Search(probe, "e", 0, 1.0, 1, fusion=made)):
            assert [type(one) for one in t.store.search_many("g", [search])] == [FusionChanged]
        with refused(FusionChanged) as told:
            t.store.verify("g", "s", probe, fusion=made)
        assert (told[0].expected, told[0].got) == (made, rule)
        (found,) = t.store.search_many("g", [Search(probe, "e", 1, fusion=rule)])
        assert isinstance(found, Found)
        assert t.store.verify("g", "s", probe, fusion=rule).candidates
