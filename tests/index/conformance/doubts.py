"""Promises about doubtful enrollments, and about searches that compare with single encodings."""

from __future__ import annotations

import numpy as np

from oneglance_index import Doubt, Doubting, GalleryError, LikeAnother, Neighbour, Search, UnlikeOwn
from tests.index.brute_force import distance
from tests.index.conformance.trial import PROBE, Trial, Vectors, along, promise, random_vectors, refused

RULES = ("nearest", "mean", "margin")


def doubting(
    t: Trial,
    subject: str,
    vectors: Vectors,
    like_another: float | None = None,
    unlike_own: float | None = None,
    refuse: bool = False,
) -> Doubting:
    """As a service would make it: of the other subjects that a search finds now."""
    (found,) = t.store.search_many("g", [Search(vectors, "e", 2, singly=True)])
    if isinstance(found, GalleryError):
        raise found
    neighbours = tuple(
        next((Neighbour(i, one.subject_id, one.distance) for one in near if one.subject_id != subject), None)
        for i, near in enumerate(found.candidates)
    )
    return Doubting(neighbours, found.revision, like_another, unlike_own, refuse)


@promise
def singly_a_subject_is_as_near_as_its_nearest_encoding(t: Trial) -> None:
    t.create()
    vectors = random_vectors(12, 21)
    for i in range(6):
        t.enroll(f"s{i}", *vectors[: 1 + i % 3] + np.float32(i))
    t.settle()
    probe = np.array(PROBE, np.float32)
    expected = sorted(
        (min(distance(one + np.float32(i), probe) for one in vectors[: 1 + i % 3]), f"s{i}") for i in range(6)
    )
    for fusion in RULES:
        t.store.set_fusion("g", fusion).result()
        for asked in (1, 2, 6):
            (found,) = t.store.search_many("g", [Search(probe[None], "e", asked, singly=True)])
            assert not isinstance(found, GalleryError)
            assert sorted((one.distance, one.subject_id) for one in found.candidates[0]) == expected[:asked]


@promise
def enrolling_names_the_nearest_other_subject(t: Trial) -> None:
    t.create()
    two = np.array([along(2), along(9)], np.float32)
    assert t.enroll("a", *two, doubting=doubting(t, "a", two)).nearest_other is None
    t.enroll("b", along(20), along(21))
    t.settle()
    examples = np.array([along(13), along(11)], np.float32)
    for fusion in RULES:
        t.store.set_fusion("g", fusion).result()
        enrolled = t.enroll("new", *examples, doubting=doubting(t, "new", examples))
        assert (enrolled.nearest_other, enrolled.doubts) == (Neighbour(1, "a", 4.0), ())
        t.store.delete_subject("g", "new").result()
    own = t.enroll("a", *examples, doubting=doubting(t, "a", examples))
    assert own.nearest_other == Neighbour(0, "b", 49.0)


@promise
def what_is_enrolled_since_the_search_counts(t: Trial) -> None:
    t.create(fusion="mean")
    t.enroll("far", along(30))
    examples = np.array([along(3)], np.float32)
    before = doubting(t, "new", examples, like_another=5.0, refuse=True)
    t.enroll("near", along(12), along(5))
    with refused(LikeAnother):
        t.enroll("new", *examples, doubting=before)
    assert t.subjects() == ["far", "near"]


@promise
def an_example_like_another_subject_is_doubtful(t: Trial) -> None:
    t.create(fusion="mean")
    t.enroll("a", along(2), along(9))
    t.settle()
    examples = np.array([along(30), along(4)], np.float32)
    for limit, doubtful in ((3.9, False), (4.0, True)):
        told = t.enroll("new", *examples, doubting=doubting(t, "new", examples, like_another=limit))
        assert told.doubts == ((Doubt("like_another", 1, "a", 4.0, limit),) if doubtful else ())
        t.store.delete_subject("g", "new").result()
    before = t.store.get_gallery("g").encodings
    one = examples[1:]
    with refused(LikeAnother) as told_of:
        t.enroll("new", *one, doubting=doubting(t, "new", one, like_another=4.0, refuse=True))
    (error,) = told_of
    assert (error.other_subject_id, error.distance, error.distance_limit) == ("a", 4.0, 4.0)
    assert error.doubts == (Doubt("like_another", 0, "a", 4.0, 4.0),)
    assert t.store.get_gallery("g").encodings == before
    # Its own encodings make nobody a look-alike.
    assert t.enroll("a", along(2), doubting=doubting(t, "a", examples[:1], like_another=4.0)).doubts == ()


@promise
def an_example_unlike_its_own_subject_is_doubtful(t: Trial) -> None:
    t.create(fusion="mean")
    alone = np.array([along(2)], np.float32)
    assert t.enroll("a", *alone, doubting=doubting(t, "a", alone, unlike_own=0.0)).doubts == ()
    for name, x, expected in (("c", 4, ()), ("d", 12, (Doubt("unlike_own", 0, "d", 64.0, 8.0),))):
        t.enroll(name, along(2), along(20))
        t.settle()
        examples = np.array([along(x)], np.float32)
        assert t.enroll(name, *examples, doubting=doubting(t, name, examples, unlike_own=8.0)).doubts == expected
    # Those of one request are held against each other; what is replaced is not.
    two = np.array([along(1), along(3), along(9)], np.float32)
    told = t.enroll("b", *two, doubting=doubting(t, "b", two, unlike_own=8.0))
    assert told.doubts == (Doubt("unlike_own", 2, "b", 36.0, 8.0),)
    replaced = t.enroll("a", *two[:1], on_existing="replace", doubting=doubting(t, "a", two[:1], unlike_own=0.0))
    assert replaced.doubts == ()
    before = t.store.get_gallery("g").encodings
    far = np.array([along(90)], np.float32)
    with refused(UnlikeOwn):
        t.enroll("b", *far, doubting=doubting(t, "b", far, unlike_own=8.0, refuse=True))
    assert t.store.get_gallery("g").encodings == before


@promise
def a_replayed_enrollment_tells_the_same_doubts(t: Trial) -> None:
    t.create()
    t.enroll("a", along(2))
    examples = np.array([along(4)], np.float32)
    asked = doubting(t, "b", examples, like_another=5.0)
    first = t.enroll("b", *examples, request_id="r", doubting=asked)
    assert first.doubts
    assert first.nearest_other == Neighbour(0, "a", 4.0)
    for _ in range(2):
        again = t.store.replay("g", "s", "r", b"")
        if again is not None:  # that it is, is another promise
            assert (again.nearest_other, again.doubts) == (first.nearest_other, first.doubts)
        t.settle()


@promise
def the_doubt_policy_is_known(t: Trial) -> None:
    t.create()
    t.store.create_gallery("h", encoder_digest="e", dimension=2, doubt="refuse").result()
    t.settle()
    for store_says in (t.store.get_gallery, t.store.known):
        assert (store_says("g").active.doubt, store_says("h").active.doubt) == (None, "refuse")
    for doubt in ("off", "a word of no meaning", None):
        before = t.store.get_gallery("g").revision
        after = t.store.set_doubt("g", doubt).result()
        for gallery in (after, t.store.get_gallery("g"), t.store.known("g")):
            assert (gallery.active.doubt, gallery.revision) == (doubt, before + 1)
