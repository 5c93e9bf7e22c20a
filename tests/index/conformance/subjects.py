"""Promises about enrolling and deleting."""

from __future__ import annotations

import numpy as np

from oneglance_index import (
    Candidate,
    Enrolled,
    GalleryNotFound,
    NewEncodings,
    SubjectExists,
    SubjectNotFound,
)
from tests.index.conformance.trial import (
    DIMENSION,
    PROBE,
    Trial,
    along,
    promise,
    refused,
)

# Subjects.


@promise
def one_subject_has_one_place(t: Trial) -> None:
    t.create()
    t.enroll("crowd", *(along(x) for x in (2, 3, 4, 5)))
    t.enroll("other", along(9))
    t.settle()
    found = t.ask(PROBE, 10, 1000.0, 10)
    for listed in (found.candidates[0], found.matches[0]):
        assert sorted(one.subject_id for one in listed) == ["crowd", "other"]


@promise
def a_subject_is_as_near_as_its_nearest_encoding(t: Trial) -> None:
    t.create()
    ids = t.enroll("s", along(7), along(3), along(6)).encoding_ids
    t.settle()
    assert t.nearest(PROBE) == Candidate("s", ids[1], 4.0, 4.0)


@promise
def of_many_each_is_enrolled_or_refused_by_itself(t: Trial) -> None:
    t.create()
    wide, narrow = np.ones((1, DIMENSION), np.float32), np.ones((1, DIMENSION - 1), np.float32)
    given = [NewEncodings(name, narrow if name == "b" else wide) for name in "abc"]
    outcomes = t.store.enroll_many("g", given).result()
    assert [isinstance(one, Enrolled) for one in outcomes] == [True, False, True]
    t.settle()
    assert t.subjects() == ["a", "c"]


@promise
def verify_measures_the_nearest_encoding_of_one_subject(t: Trial) -> None:
    t.create()
    ids = t.enroll("s", along(7), along(3), along(6)).encoding_ids
    t.enroll("nearer", along(2))
    t.settle()
    found = t.store.verify("g", "s", np.array([PROBE, along(6)], np.float32))
    assert found.candidates == ((Candidate("s", ids[1], 4.0, 4.0),), (Candidate("s", ids[2], 0.0, 0.0),))


@promise
def add_keeps_the_encodings_there_are(t: Trial) -> None:
    t.create()
    first = t.enroll("s", along(2))
    second = t.enroll("s", along(5), on_existing="add")
    assert (first.created, second.created) == (True, False)
    t.settle()
    ids = [one.id for one in t.store.get_subject("g", "s").encodings]
    assert ids == [*first.encoding_ids, *second.encoding_ids]


@promise
def replace_leaves_only_the_new_encodings(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2))
    second = t.enroll("s", along(5), on_existing="replace")
    assert t.distance_of("s", PROBE) == 16.0
    t.settle()
    assert t.distance_of("s", PROBE) == 16.0
    assert tuple(one.id for one in t.store.get_subject("g", "s").encodings) == second.encoding_ids


@promise
def fail_refuses_an_enrolled_subject(t: Trial) -> None:
    t.create()
    first = t.enroll("s", along(2), on_existing="fail")
    with refused(SubjectExists):
        t.enroll("s", along(5), on_existing="fail")
    t.settle()
    assert tuple(one.id for one in t.store.get_subject("g", "s").encodings) == first.encoding_ids


@promise
def labels_are_kept_unless_others_are_given(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2), labels={"name": "Zoë", "room": "1"})
    t.enroll("s", along(3))
    t.settle()
    assert t.store.get_subject("g", "s").labels == {"name": "Zoë", "room": "1"}
    t.enroll("s", along(4), labels={"name": "Max"})
    assert t.store.get_subject("g", "s").labels == {"name": "Max"}
    t.enroll("s", along(5), labels={})
    assert t.store.get_subject("g", "s").labels == {}


@promise
def the_array_of_an_enrollment_is_copied(t: Trial) -> None:
    t.create()
    array = np.array([along(2)], np.float32)
    future = t.store.enroll("g", "s", array)
    array[:] = 77
    future.result()
    t.settle()
    assert t.nearest(PROBE).distance == 1.0


# Deletion.


@promise
def a_deleted_subject_is_gone_at_once(t: Trial) -> None:
    t.create()
    t.enroll("kept", along(5))
    t.enroll("gone", along(2))
    t.settle()
    assert t.nearest(PROBE).subject_id == "gone"
    t.store.delete_subject("g", "gone").result()
    assert t.nearest(PROBE).subject_id == "kept"
    assert [c.subject_id for c in t.ask(PROBE, 1, 9999.0, 9).matches[0]] == ["kept"]
    with refused(SubjectNotFound):
        t.store.get_subject("g", "gone")
    with refused(SubjectNotFound):
        t.store.verify("g", "gone", np.array([PROBE], np.float32))
    assert t.subjects() == ["kept"]


@promise
def what_was_deleted_does_not_come_back(t: Trial) -> None:
    t.create()
    t.enroll("kept", along(5))
    t.enroll("gone", along(2))
    t.restart()
    t.store.delete_subject("g", "gone").result()
    t.restart()
    assert t.nearest(PROBE).subject_id == "kept"
    assert t.subjects() == ["kept"]


@promise
def the_last_encoding_takes_its_subject_with_it(t: Trial) -> None:
    t.create()
    ids = t.enroll("s", along(2), along(3)).encoding_ids
    one = t.store.delete_encoding("g", "s", ids[0]).result()
    assert (one.encodings, one.subject_deleted) == (1, False)
    assert [one.id for one in t.store.get_subject("g", "s").encodings] == [ids[1]]
    assert t.nearest(PROBE).distance == 4.0
    assert t.store.delete_encoding("g", "s", ids[1]).result().subject_deleted
    t.settle()
    with refused(SubjectNotFound):
        t.store.get_subject("g", "s")


@promise
def a_deleted_gallery_takes_everything_with_it(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2), request_id="r")
    t.store.set_threshold("g", 1.0, "evidence").result()
    assert t.store.delete_gallery("g").result().gallery.id == "g"
    with refused(GalleryNotFound):
        t.ask(PROBE, 1)
    t.settle()
    with refused(GalleryNotFound):
        t.store.get_gallery("g")
    t.create()
    gallery = t.store.get_gallery("g")
    assert (gallery.revision, gallery.subjects, gallery.encodings, gallery.active.threshold) == (0, 0, 0, None)
    assert (t.subjects(), t.thresholds(), t.ask(PROBE, 1).candidates) == ([], [], ((),))
    assert t.store.replay("g", "s", "r", b"") is None


@promise
def encoding_ids_are_never_used_twice(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2))
    last = t.enroll("t", along(3), along(4)).encoding_ids
    t.store.delete_subject("g", "t").result()
    t.restart()
    new = t.enroll("u", along(5)).encoding_ids
    assert int(last[0]) < int(last[1]) < int(new[0])
    t.store.delete_gallery("g").result()
    t.settle()
    t.create()
    assert int(new[0]) < int(t.enroll("u", along(5)).encoding_ids[0])


# What they look like.


@promise
def what_subjects_look_like_is_listed(t: Trial) -> None:
    t.create()
    ids = t.enroll("b", along(2), along(3)).encoding_ids
    others = [t.enroll(name, along(x)).encoding_ids for name, x in (("a", 4), ("Z", 5))]
    t.settle()
    page = t.store.list_likenesses("g")
    listed = [(one.subject_id, one.encoding_ids, one.vectors.tolist()) for one in page.subjects]
    expected = [("Z", others[1], (5,)), ("a", others[0], (4,)), ("b", ids, (2, 3))]
    assert listed == [(name, numbers, [list(along(x)) for x in at]) for name, numbers, at in expected]
    assert page.next_after is None
    first = t.store.list_likenesses("g", page_size=2)
    assert ([one.subject_id for one in first.subjects], first.next_after) == (["Z", "a"], "a")
    rest = t.store.list_likenesses("g", after=first.next_after)
    assert [one.subject_id for one in rest.subjects] == ["b"]
    t.store.set_fusion("g", "mean").result()
    templates = {one.subject_id: one for one in t.store.list_likenesses("g").subjects}
    assert (templates["b"].vectors.tolist(), templates["b"].encoding_ids) == ([list(along(2.5))], ())
