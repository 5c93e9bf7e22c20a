"""Promises about subjects that are there: renamed, relabelled, merged, moved; and about filters."""

from __future__ import annotations

import numpy as np

from oneglance_index import (
    EncodingKeyExists,
    LimitExceeded,
    NegativeOfTheOther,
    Note,
    SameSubject,
    SubjectExists,
    SubjectFilter,
    SubjectNotFound,
)
from tests.index.conformance.trial import MAX_ENCODINGS, PROBE, Trial, along, promise, refused

BERLIN = SubjectFilter((("site", "berlin"),))


def labels_of(t: Trial, subject: str) -> dict[str, str]:
    return dict(t.store.get_subject("g", subject).labels)


@promise
def a_renamed_subject_is_the_same_under_another_id(t: Trial) -> None:
    t.create()
    ids = t.enroll("former", along(3), labels={"a": "b"}).encoding_ids
    t.settle()
    revision = t.store.rename_subject("g", "former", "new").result().revision
    assert revision == 2
    t.settle()
    found = t.nearest(PROBE)
    assert (found.subject_id, found.encoding_id) == ("new", ids[0])
    subject = t.store.get_subject("g", "new")
    assert (subject.labels, [one.id for one in subject.encodings]) == ({"a": "b"}, list(ids))
    assert t.subjects() == ["new"]
    with refused(SubjectNotFound):
        t.store.get_subject("g", "former")


@promise
def an_id_that_another_has_is_not_given(t: Trial) -> None:
    t.create()
    t.enroll("a", along(3))
    t.enroll("b", along(4))
    with refused(SubjectExists):
        t.store.rename_subject("g", "a", "b").result()
    t.settle()
    assert t.subjects() == ["a", "b"]


@promise
def labels_are_set_and_taken_away(t: Trial) -> None:
    t.create()
    t.enroll("s", along(3), labels={"a": "1", "b": "2"})
    t.store.update_labels("g", "s", {"b": "3", "c": "4"}, removed=["a", "none"]).result()
    t.settle()
    assert labels_of(t, "s") == {"b": "3", "c": "4"}
    t.store.update_labels("g", "s", {"d": "5"}, clear=True).result()
    assert labels_of(t, "s") == {"d": "5"}


@promise
def a_merged_subject_has_what_both_had(t: Trial) -> None:
    t.create()
    t.enroll("a", along(3), along(5), labels={"a": "1", "b": "2"}, notes=[Note("x", "y"), Note()])
    t.enroll("b", along(9), labels={"b": "3"})
    t.store.add_negative("g", "a", np.array(along(-4), np.float32)).result()
    t.settle()
    moved = t.store.merge_subjects("g", "a", "b").result()
    assert moved.subject_deleted
    t.settle()
    subject = t.store.get_subject("g", "b")
    assert [one.id for one in subject.encodings][1:] == list(moved.encoding_ids.values())
    assert (subject.labels, subject.encodings[1].note) == ({"a": "1", "b": "3"}, Note("x", "y"))
    assert len(subject.negatives) == 1
    assert {one.subject_id for one in t.ask(along(3), 9).candidates[0]} == {"b"}


@promise
def a_merge_keeps_within_the_limits(t: Trial) -> None:
    t.create()
    for name in "ab":
        t.enroll(name, *(along(x + 2) for x in range(MAX_ENCODINGS // 2 + 1)))
    with refused(LimitExceeded):
        t.store.merge_subjects("g", "a", "b").result()
    t.settle()
    assert t.subjects() == ["a", "b"]


@promise
def a_subject_is_not_merged_into_itself(t: Trial) -> None:
    t.create()
    t.enroll("a", along(3))
    with refused(SameSubject):
        t.store.merge_subjects("g", "a", "a").result()
    assert t.subjects() == ["a"]


@promise
def a_retry_brings_back_nobody_who_was_merged(t: Trial) -> None:
    t.create()
    t.enroll("a", along(3), request_id="r", request_digest=b"1")
    t.enroll("b", along(9))
    moved = t.store.merge_subjects("g", "a", "b").result()
    again = t.store.replay("g", "a", "r", b"1")
    # That it is remembered at all is a promise of its own.
    told = ("b", tuple(moved.encoding_ids.values()))
    assert again is None or (again.subject_id, again.encoding_ids) == told


@promise
def an_encoding_moves_with_its_note(t: Trial) -> None:
    t.create()
    ids = t.enroll("a", along(3), along(5), notes=[Note("x", "y"), Note()]).encoding_ids
    t.enroll("b", along(9))
    t.settle()
    moved = t.store.move_encodings("g", "a", "b", key="x").result()
    t.settle()
    assert (list(moved.encoding_ids), moved.subject_deleted) == ([ids[0]], False)
    assert t.store.get_subject("g", "b").encodings[1].note == Note("x", "y")
    assert t.distance_of("a", PROBE) == 16.0
    assert t.store.move_encodings("g", "a", "b", encoding_id=ids[1]).result().subject_deleted
    assert t.subjects() == ["b"]


@promise
def what_a_subject_is_not_does_not_come_to_it(t: Trial) -> None:
    t.create()
    (moved,) = t.enroll("a", along(3)).encoding_ids
    t.enroll("b", along(9))
    t.store.add_negative("g", "b", np.array(along(3), np.float32)).result()
    with refused(NegativeOfTheOther):
        t.store.merge_subjects("g", "a", "b").result()
    with refused(NegativeOfTheOther):
        t.store.merge_subjects("g", "b", "a").result()
    with refused(NegativeOfTheOther):
        t.store.move_encodings("g", "a", "b", encoding_id=moved).result()
    assert t.subjects() == ["a", "b"]


@promise
def no_two_encodings_of_a_subject_are_enrolled_with_one_key(t: Trial) -> None:
    t.create()
    t.enroll("s", along(3), notes=[Note("x")])
    with refused(EncodingKeyExists):
        t.enroll("s", along(4), notes=[Note("x")])
    t.enroll("other", along(9), notes=[Note("x")])
    t.settle()
    assert len(t.store.get_subject("g", "s").encodings) == 1


@promise
def an_answer_among_some_is_as_if_nobody_else_was_there(t: Trial) -> None:
    for fusion in ("nearest", "mean", "margin"):
        for gallery, those in ((fusion, range(2, 14)), (f"{fusion} alone", (x for x in range(2, 14) if x % 3))):
            t.create(gallery, fusion)
            for x in those:
                labels = {"site": "berlin" if x % 3 else "paris"}
                t.store.enroll(gallery, f"{x:02}", np.array([along(x)], np.float32), labels=labels).result()
    t.settle()
    for fusion in ("nearest", "mean", "margin"):
        among = t.ask_in(fusion, PROBE, 20, 50.0, 20, among=BERLIN)
        alone = t.ask_in(f"{fusion} alone", PROBE, 20, 50.0, 20)
        assert among.among == 8
        for found, expected in ((among.candidates, alone.candidates), (among.matches, alone.matches)):
            told = [[(one.subject_id, one.distance, one.score) for one in each[0]] for each in (found, expected)]
            assert told[0] == told[1]
        t.store.update_labels(fusion, "02", {"site": "paris"}).result()
        later = t.ask_in(fusion, PROBE, 20, among=BERLIN, labels=True).candidates[0]
        assert "02" not in {one.subject_id for one in later}
        assert {one.labels["site"] for one in later if one.labels} == {"berlin"}


@promise
def lists_and_counts_are_of_those_who_pass(t: Trial) -> None:
    t.create()
    for name, site in (("a1", "berlin"), ("a2", "paris"), ("b1", "berlin"), ("b2", "")):
        t.enroll(name, along(3), labels={"site": site} if site else {})
    t.settle()
    both = SubjectFilter((("site", "berlin"),), "b")
    for among, names in ((BERLIN, ["a1", "b1"]), (SubjectFilter((), "a"), ["a1", "a2"]), (both, ["b1"])):
        assert t.store.subject_ids("g", among) == names
        assert [one.id for one in t.store.list_subjects("g", among=among).subjects] == names
    counts = t.store.count_label("g", "site")
    assert (counts.subjects, dict(counts.values), counts.without) == (4, {"berlin": 2, "paris": 1}, 1)


@promise
def who_does_not_pass_is_not_deleted(t: Trial) -> None:
    t.create()
    t.enroll("a", along(3), labels={"site": "paris"})
    with refused(SubjectNotFound):
        t.store.delete_subject("g", "a", among=BERLIN).result()
    assert t.subjects() == ["a"]
