"""Promises about negatives: examples of what a subject is not."""

from __future__ import annotations

import numpy as np

from oneglance_index import (
    Candidate,
    EncoderMismatch,
    GalleryNotFound,
    LimitExceeded,
    NearerNegative,
    NegativeEnrolled,
    NegativeNotFound,
    SubjectNotFound,
)
from tests.index.conformance.trial import MAX_NEGATIVES, PROBE, Trial, along, promise, refused

RULES = ("nearest", "mean", "margin")


def negate(t: Trial, subject: str, x: float) -> str:
    return t.store.add_negative("g", subject, np.array(along(x), np.float32)).result().id


def verified(t: Trial, subject: str) -> Candidate:
    return t.store.verify("g", subject, np.array([PROBE], np.float32)).candidates[0][0]


@promise
def a_probe_nearer_to_a_negative_is_not_given_the_subject(t: Trial) -> None:
    t.create()
    t.enroll("s", along(4), along(10))
    t.enroll("other", along(9))
    negate(t, "s", 5)
    near = negate(t, "s", -1)
    t.settle()
    for fusion in RULES:
        t.store.set_fusion("g", fusion).result()
        by_search = {one.subject_id: one.negative for one in t.ask(PROBE, 2).candidates[0]}
        assert by_search == {"s": NearerNegative(near, 4.0), "other": None}
        t.store.delete_negative("g", "s", near).result()
        assert {one.negative for one in t.ask(PROBE, 2).candidates[0]} == {None}  # 16 is not nearer than 9
        near = negate(t, "s", -1)


@promise
def as_near_to_a_negative_is_not_nearer(t: Trial) -> None:
    for fusion in RULES:
        t.create(fusion, fusion)
        t.store.enroll(fusion, "s", np.array([along(4)], np.float32)).result()
        t.store.add_negative(fusion, "s", np.array(along(-2), np.float32)).result()
    t.settle()
    for fusion in RULES:
        (found,) = t.store.verify(fusion, "s", np.array([PROBE], np.float32)).candidates[0]
        assert (found.distance, found.negative) == (9.0, None)


@promise
def verify_tells_of_a_nearer_negative(t: Trial) -> None:
    t.create(fusion="mean")
    t.enroll("s", along(4), along(6))
    t.settle()
    for fusion in RULES:
        t.store.set_fusion("g", fusion).result()
        before = verified(t, "s")
        number = negate(t, "s", 2)
        after = verified(t, "s")
        assert (before.negative, after.negative) == (None, NearerNegative(number, 1.0))
        assert (after.distance, after.score) == (before.distance, before.score)
        t.store.delete_negative("g", "s", number).result()
        assert verified(t, "s") == before


@promise
def as_many_subjects_are_found_as_without_negatives(t: Trial) -> None:
    t.create()
    for i in range(30):
        t.enroll(f"s{i:02}", along(3 + i))
    for i in range(25):
        negate(t, f"s{i:02}", 1)
    t.settle()
    for fusion in ("nearest", "mean"):
        t.store.set_fusion("g", fusion).result()
        for asked in (1, 3, 5):
            found = t.ask(PROBE, asked).candidates[0]
            given = {one.subject_id: one.negative is None for one in found}
            assert given == {f"s{i:02}": i >= 25 for i in range(25 + asked)}
        assert len(t.ask(PROBE, 9).candidates[0]) == 30


@promise
def a_match_has_no_nearer_negative(t: Trial) -> None:
    t.create()
    for i in range(8):
        t.enroll(f"s{i}", along(2 + i))
    for i in (0, 2, 3):
        negate(t, f"s{i}", 1)
    t.settle()
    matches = {one.subject_id for one in t.ask(PROBE, 1, 50.0, 8).matches[0]}
    assert matches == {"s1", "s4", "s5", "s6"}


@promise
def negatives_are_listed_and_counted(t: Trial) -> None:
    t.create()
    t.enroll("s", along(4))
    t.enroll("u", along(5))
    numbers = [negate(t, "s", 7), negate(t, "s", 8), negate(t, "u", 7)]
    assert len(set(numbers)) == 3
    t.settle()
    assert [one.id for one in t.store.get_subject("g", "s").negatives] == numbers[:2]
    listed = {one.id: one for one in t.store.list_subjects("g").subjects}
    assert [one.id for one in listed["u"].negatives] == numbers[2:]
    assert t.store.get_gallery("g").negatives == 3


@promise
def negatives_stay_until_their_subject_goes(t: Trial) -> None:
    t.create()
    t.enroll("s", along(4))
    negate(t, "s", 2)
    t.enroll("s", along(5), on_existing="replace")
    t.settle()
    assert t.nearest(PROBE).negative is not None
    t.store.delete_subject("g", "s").result()
    assert t.store.get_gallery("g").negatives == 0
    t.enroll("s", along(5))
    t.settle()
    assert (t.nearest(PROBE).negative, t.store.get_subject("g", "s").negatives) == (None, ())


@promise
def the_same_negative_is_added_once(t: Trial) -> None:
    t.create()
    t.enroll("s", along(4))
    vector = np.array(along(2), np.float32)
    first = t.store.add_negative("g", "s", vector).result()
    t.settle()
    again = t.store.add_negative("g", "s", vector).result()
    assert (first.created, again.created, again.id, again.revision) == (True, False, first.id, first.revision)


@promise
def a_negative_that_cannot_be_is_refused(t: Trial) -> None:
    t.create()
    t.enroll("s", along(4), along(6))
    vector = np.array(along(2), np.float32)
    number = negate(t, "s", 2)
    before = t.store.get_gallery("g")
    with refused(GalleryNotFound):
        t.store.add_negative("nowhere", "s", vector).result()
    with refused(SubjectNotFound):
        t.store.add_negative("g", "nobody", vector).result()
    with refused(EncoderMismatch):
        t.store.add_negative("g", "s", vector, encoder_digest="f").result()
    with refused(NegativeEnrolled):
        t.store.add_negative("g", "s", np.array(along(6), np.float32)).result()
    with refused(SubjectNotFound):
        t.store.delete_negative("g", "nobody", number).result()
    for unknown in ("999", f" {number}", f"0{number}"):
        with refused(NegativeNotFound):
            t.store.delete_negative("g", "s", unknown).result()
    assert t.store.get_gallery("g") == before
    for i in range(1, MAX_NEGATIVES):
        negate(t, "s", 10 + i)
    with refused(LimitExceeded):
        negate(t, "s", 30)
