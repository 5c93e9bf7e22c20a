"""What any GalleryStore promises (protocol.py), each promise with a check.

PROMISES holds the checks by name. A check gets a Trial and raises AssertionError where the store breaks its promise.
Each looks at one promise and takes as little else for granted as it can, so that a store which breaks one promise
fails one check: test_conformance.py holds that with a toy store for each.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneglance_index import (
    Candidate,
    DimensionMismatch,
    EncoderMismatch,
    EncodingInvalid,
    EncodingNotFound,
    Enrolled,
    Found,
    GalleryError,
    GalleryExists,
    GalleryNotFound,
    GalleryStore,
    GenerationUnsupported,
    LimitExceeded,
    RequestConflict,
    Search,
    StoreClosed,
    SubjectExists,
    SubjectNotFound,
)
from tests.index.brute_force import distance, nearest

Vectors = NDArray[np.float32]

DIMENSION = 4
# Stores on trial are opened with these limits.
MAX_ENCODINGS, MAX_CANDIDATES = 5, 400
PROBE = (1.0, 0.0, 0.0, 0.0)


class Trial:
    """A store that begins empty. `open` opens its data, again and again, one at a time.

    With `restarting` the store is closed and opened whenever a check settles, that is between writing and reading.
    """

    def __init__(self, open: Callable[[], GalleryStore], restarting: bool = False) -> None:
        self._open = open
        self._restarting = restarting
        self.store = open()

    def settle(self) -> None:
        if self._restarting:
            self.restart()

    def restart(self) -> None:
        self.store.close()
        self.store = self._open()

    def create(self, gallery_id: str = "g") -> None:
        self.store.create_gallery(gallery_id, encoder_digest="e", dimension=DIMENSION, description="d").result()

    def enroll(self, subject: str, *vectors: Sequence[float] | Vectors, **how: Any) -> Enrolled:
        return self.store.enroll("g", subject, np.array(vectors, np.float32), **how).result()

    def ask(
        self, probe: Sequence[float] | Vectors, k: int, within: float | None = None, limit: int = 0, digest: str = "e"
    ) -> Found:
        (found,) = self.store.search_many("g", [Search(np.array([probe], np.float32), digest, k, within, limit)])
        if isinstance(found, GalleryError):
            raise found
        return found

    def nearest(self, probe: Sequence[float] | Vectors) -> Candidate:
        """The one nearest subject."""
        return self.ask(probe, 1).candidates[0][0]

    def distance_of(self, subject: str, probe: Sequence[float] | Vectors) -> float:
        """A subject's distance to a probe, by search; inf where it isn't found."""
        found = {c.subject_id: c.distance for c in self.ask(probe, MAX_CANDIDATES).candidates[0]}
        return found.get(subject, float("inf"))

    def subjects(self, page_size: int = 100) -> list[str]:
        seen: list[str] = []
        after: str | None = None
        while True:
            page = self.store.list_subjects("g", page_size=page_size, after=after)
            seen += [subject.id for subject in page.subjects]
            after = page.next_after
            if after is None:
                return seen


Check = Callable[[Trial], None]
PROMISES: dict[str, Check] = {}


def promise(check: Check) -> Check:
    PROMISES[check.__name__] = check
    return check


@contextlib.contextmanager
def refused(error: type[Exception]) -> Iterator[None]:
    try:
        yield
    except error:
        return
    except Exception as other:
        raise AssertionError(f"expected {error.__name__}, got {other!r}") from other
    raise AssertionError(f"expected {error.__name__}, nothing was raised")


def along(x: float) -> tuple[float, float, float, float]:
    """A vector at the squared distance (x - 1)^2 from PROBE, exactly, for small integers x."""
    return (x, 0.0, 0.0, 0.0)


def random_vectors(n: int, seed: int) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, DIMENSION), dtype=np.float32)


# Decisions.


@promise
def a_match_is_at_a_distance_of_at_most_within(t: Trial) -> None:
    t.create()
    for x in range(1, 8):
        t.enroll(f"s{x}", along(x))
    others = random_vectors(20, 1)
    for i, vector in enumerate(others):
        t.enroll(f"r{i}", vector)
    t.settle()
    for boundary in (0.0, 1.0, 4.0, 25.0):
        for within in (boundary, float(np.nextafter(boundary, 99)), float(np.nextafter(boundary, 0))):
            matches = {c.subject_id for c in t.ask(PROBE, 1, within, 100).matches[0]}
            expected = {f"s{x}" for x in range(1, 8) if (x - 1) ** 2 <= within}
            assert {subject for subject in matches if subject[0] == "s"} == expected
    for probe in random_vectors(5, 2):
        for one in t.ask(probe, 100).candidates[0]:
            matches = {c.subject_id for c in t.ask(probe, 1, one.distance, 100).matches[0]}
            assert one.subject_id in matches
            below = float(np.nextafter(np.float32(one.distance), np.float32(0)))
            assert one.subject_id not in {c.subject_id for c in t.ask(probe, 1, below, 100).matches[0]}


@promise
def distances_are_those_of_float64(t: Trial) -> None:
    t.create()
    vectors = random_vectors(10, 3) * np.float32(100)
    vectors[5:] = vectors[:5] * np.float32(1 + 1e-6)  # near twins: differences of large numbers leave nothing of these
    for i, vector in enumerate(vectors):
        t.enroll(f"s{i}", vector)
    t.settle()
    for probe in vectors:
        for one in t.ask(probe, 100).candidates[0]:
            assert one.distance == distance(vectors[int(one.subject_id[1:])], probe)


@promise
def truncated_says_that_there_are_more_matches(t: Trial) -> None:
    t.create()
    for x in range(2, 8):
        t.enroll(f"s{x}", along(x))
    t.settle()
    for limit, truncated in ((1, True), (5, True), (6, False), (7, False)):
        found = t.ask(PROBE, 1, 100.0, limit)
        assert (len(found.matches[0]), found.truncated[0]) == (min(limit, 6), truncated)
    assert not t.ask(PROBE, 1).truncated[0]


@promise
def an_exact_store_keeps_the_nearest_matches(t: Trial) -> None:
    t.create()
    if not t.ask(PROBE, 1).exact:
        return
    for x in (5, 2, 7, 3, 6, 4):
        t.enroll(f"s{x}", along(x))
    t.settle()
    for limit in (1, 2, 5):
        found = t.ask(PROBE, 0, 100.0, limit)
        assert {c.subject_id for c in found.matches[0]} == {f"s{x}" for x in range(2, 2 + limit)}


# Order.


@promise
def candidates_come_nearest_first(t: Trial) -> None:
    t.create()
    for i, vector in enumerate(random_vectors(30, 4)):
        t.enroll(f"s{i}", vector)
    t.settle()
    found = t.ask(PROBE, 30, 2.0, 30)
    for listed in (found.candidates[0], found.matches[0]):
        distances = [one.distance for one in listed]
        assert distances == sorted(distances)


@promise
def an_exact_store_finds_the_nearest(t: Trial) -> None:
    t.create()
    vectors = random_vectors(120, 5)
    for i, vector in enumerate(vectors):
        t.enroll(f"s{i}", vector)
    t.settle()
    if not t.ask(PROBE, 1).exact:
        return
    rows = [(f"s{i}", i, vector) for i, vector in enumerate(vectors)]
    for probe in (np.array(PROBE, np.float32), *random_vectors(5, 6)):
        for k in (1, 7, 120):
            found = {one.subject_id for one in t.ask(probe, k).candidates[0]}
            assert found == {subject for subject, _, _ in nearest(rows, probe, k)}


@promise
def an_exact_store_orders_ties_by_age(t: Trial) -> None:
    t.create()
    if not t.ask(PROBE, 1).exact:
        return
    same = along(2)
    order = [f"s{(7 * i) % 20}" for i in range(20)]
    for subject in order:
        t.enroll(subject, same)
    t.settle()
    assert {one.subject_id for one in t.ask(PROBE, 5).candidates[0]} == set(order[:5])
    assert [one.subject_id for one in sorted(t.ask(PROBE, 20).candidates[0], key=lambda one: one.distance)] == order


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
    assert t.nearest(PROBE) == Candidate("s", ids[1], 4.0)


@promise
def verify_measures_the_nearest_encoding_of_one_subject(t: Trial) -> None:
    t.create()
    ids = t.enroll("s", along(7), along(3), along(6)).encoding_ids
    t.enroll("nearer", along(2))
    t.settle()
    found = t.store.verify("g", "s", np.array([PROBE, along(6)], np.float32))
    assert found.candidates == ((Candidate("s", ids[1], 4.0),), (Candidate("s", ids[2], 0.0),))


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
    assert t.store.delete_gallery("g").result().id == "g"
    with refused(GalleryNotFound):
        t.ask(PROBE, 1)
    t.settle()
    with refused(GalleryNotFound):
        t.store.get_gallery("g")
    t.create()
    gallery = t.store.get_gallery("g")
    assert (gallery.revision, gallery.subjects, gallery.encodings, gallery.active.threshold) == (0, 0, 0, None)
    assert (t.subjects(), t.store.list_thresholds("g"), t.ask(PROBE, 1).candidates) == ([], (), ((),))
    assert t.store.replay("g", "r", b"") is None


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


# Idempotency.


@promise
def a_request_is_done_once(t: Trial) -> None:
    t.create()
    first = t.enroll("s", along(2), request_id="r", request_digest=b"1")
    again = t.enroll("s", along(2), request_id="r", request_digest=b"1")
    assert (first.replayed, again.replayed) == (False, True)
    assert (again.encoding_ids, again.created, again.revision) == (first.encoding_ids, True, first.revision)
    assert t.store.replay("g", "r", b"1") == again
    assert t.store.replay("g", "other", b"1") is None
    one = np.array([along(3)], np.float32)
    both = [t.store.enroll("g", "u", one, request_id="at once") for _ in range(2)]
    assert [future.result().replayed for future in both] == [False, True]
    for subject in ("s", "u"):
        assert len(t.store.get_subject("g", subject).encodings) == 1


@promise
def requests_are_remembered_through_restarts(t: Trial) -> None:
    t.create()
    first = t.enroll("s", along(2), request_id="r", request_digest=b"1")
    t.restart()
    replayed = t.store.replay("g", "r", b"1")
    assert replayed is not None
    assert replayed.encoding_ids == first.encoding_ids


@promise
def a_request_id_with_other_content_is_refused(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2), request_id="r", request_digest=b"1")
    with refused(RequestConflict):
        t.enroll("s", along(2), request_id="r", request_digest=b"2")
    with refused(RequestConflict):
        t.store.replay("g", "r", b"2")


@promise
def a_failed_request_is_not_remembered(t: Trial) -> None:
    t.create()
    with refused(EncodingInvalid):
        t.enroll("s", (np.nan, 0.0, 0.0, 0.0), request_id="r", request_digest=b"1")
    assert t.store.replay("g", "r", b"1") is None
    assert not t.enroll("u", along(2), request_id="r", request_digest=b"2").replayed


# Paging.


@promise
def pages_are_in_order_of_id(t: Trial) -> None:
    names = sorted(["b", "a", "ä", "Z", "zz", "\U0001f600", "\uffff", "10", "9"])
    t.create()
    for i, name in enumerate(reversed(names)):
        t.enroll(name, along(i + 2))
        t.create(name)
    t.settle()
    assert t.subjects(page_size=2) == names
    page = t.store.list_subjects("g", page_size=3, after="Z")
    assert ([one.id for one in page.subjects], page.next_after) == (["a", "b", "zz"], "zz")
    everyone = sorted([*names, "g"])
    seen = [gallery.id for gallery in t.store.list_galleries(page_size=4).galleries]
    seen += [gallery.id for gallery in t.store.list_galleries(page_size=99, after=seen[-1]).galleries]
    assert seen == everyone


@promise
def paging_holds_while_others_write(t: Trial) -> None:
    t.create()
    always = [f"m{i:02}" for i in range(12)]
    for i, name in enumerate(("a0", "a1", "a2", *always)):
        t.enroll(name, along(i + 2))
    seen: list[str] = []
    after: str | None = None
    for turn in range(100):
        page = t.store.list_subjects("g", page_size=3, after=after)
        seen += [subject.id for subject in page.subjects]
        after = page.next_after
        if after is None:
            break
        if turn < 3:  # some go, others come, all before the place of the page or at it
            t.store.delete_subject("g", f"a{2 - turn}").result()
        else:
            t.enroll(f"b{turn}", along(30 + turn))
    assert [name for name in seen if name[0] == "m"] == always
    assert len(seen) == len(set(seen))


# Errors.


@promise
def what_is_missing_is_named(t: Trial) -> None:
    store = t.store
    for act in (
        lambda: store.get_gallery("g"),
        lambda: store.known("g"),
        lambda: store.delete_gallery("g").result(),
        lambda: store.set_threshold("g", 1.0).result(),
        lambda: store.list_thresholds("g"),
        lambda: store.list_subjects("g"),
        lambda: store.get_subject("g", "s"),
        lambda: store.replay("g", "r", b""),
        lambda: t.enroll("s", along(2)),
        lambda: store.delete_subject("g", "s").result(),
        lambda: store.delete_encoding("g", "s", "1").result(),
        lambda: t.ask(PROBE, 1),
        lambda: store.verify("g", "s", np.array([PROBE], np.float32)),
    ):
        with refused(GalleryNotFound):
            act()
    t.create()
    for act in (
        lambda: store.get_subject("g", "s"),
        lambda: store.delete_subject("g", "s").result(),
        lambda: store.delete_encoding("g", "s", "1").result(),
        lambda: store.verify("g", "s", np.array([PROBE], np.float32)),
    ):
        with refused(SubjectNotFound):
            act()
    (number,) = t.enroll("s", along(2)).encoding_ids
    for wrong in ("", "x", f"0{number}", f" {number}", "9" * 40):
        with refused(EncodingNotFound):
            store.delete_encoding("g", "s", wrong).result()


@promise
def a_gallery_id_is_taken_once(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2))
    with refused(GalleryExists):
        t.create()
    t.settle()
    assert t.subjects() == ["s"]


@promise
def a_kind_of_index_that_is_not_there_is_refused(t: Trial) -> None:
    with refused(GenerationUnsupported):
        t.store.create_gallery("g", encoder_digest="e", dimension=4, kind="no such kind").result()
    t.settle()
    assert t.store.list_galleries().galleries == ()


@promise
def encodings_of_another_encoder_are_refused(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2), encoder_digest="e")
    t.settle()
    one = np.array([PROBE], np.float32)
    with refused(EncoderMismatch):
        t.enroll("u", along(2), encoder_digest="other")
    with refused(EncoderMismatch):
        t.ask(PROBE, 1, digest="other")
    with refused(EncoderMismatch):
        t.store.verify("g", "s", one, encoder_digest="other")
    assert t.store.verify("g", "s", one, encoder_digest="e").candidates[0][0].distance == 1.0


@promise
def encodings_without_a_distance_are_refused(t: Trial) -> None:
    t.create()
    for bad, error in (
        ((0.0, 0.0, 0.0, 0.0), EncodingInvalid),
        ((np.nan, 0.0, 0.0, 1.0), EncodingInvalid),
        ((1e30, 0.0, 0.0, 0.0), EncodingInvalid),
        ((1.0, 0.0, 0.0), DimensionMismatch),
    ):
        with refused(error):
            t.enroll("s", bad)
        with refused(error):
            t.ask(bad, 1)


@promise
def a_write_that_fails_changes_nothing(t: Trial) -> None:
    t.create()
    with refused(EncodingInvalid):
        t.enroll("s", along(2), along(3), (np.inf, 0.0, 0.0, 0.0))
    t.settle()
    gallery = t.store.get_gallery("g")
    assert (gallery.revision, gallery.subjects, gallery.encodings) == (0, 0, 0)
    assert t.ask(PROBE, 5).candidates == ((),)
    t.enroll("s", along(2), labels={"name": "Zoë"})
    before = (t.store.get_gallery("g"), t.store.get_subject("g", "s"), t.ask(PROBE, 5))
    labels = {"name": "Max"}
    for how in ("add", "replace"):
        with refused(EncodingInvalid):
            t.enroll("s", along(3), (0.0, 0.0, 0.0, 0.0), labels=labels, on_existing=how)
    with refused(LimitExceeded):
        t.enroll("s", *(along(x) for x in range(2, 3 + MAX_ENCODINGS)), labels=labels)
    with refused(EncodingNotFound):
        t.store.delete_encoding("g", "s", "0").result()
    with contextlib.suppress(SubjectExists):
        t.enroll("s", along(3), labels=labels, on_existing="fail")
        return  # whether it fails is another promise
    t.settle()
    assert (t.store.get_gallery("g"), t.store.get_subject("g", "s"), t.ask(PROBE, 5)) == before


@promise
def limits_are_named(t: Trial) -> None:
    t.create()
    t.enroll("s", *(along(x) for x in range(2, 2 + MAX_ENCODINGS)))
    with refused(LimitExceeded):
        t.enroll("u", *(along(x) for x in range(2, 3 + MAX_ENCODINGS)))
    t.ask(PROBE, MAX_CANDIDATES)
    with refused(LimitExceeded):
        t.ask(PROBE, MAX_CANDIDATES + 1)
    with refused(LimitExceeded):
        t.ask(PROBE, 1, 1.0, MAX_CANDIDATES + 1)


@promise
def nonsense_is_a_value_error(t: Trial) -> None:
    t.create()
    store = t.store
    for act in (
        lambda: store.create_gallery("h", encoder_digest="e", dimension=0).result(),
        lambda: store.set_threshold("g", float("nan")).result(),
        lambda: store.set_threshold("g", -1.0).result(),
        lambda: store.list_subjects("g", page_size=0),
        lambda: store.list_galleries(page_size=0),
        lambda: store.enroll("g", "s", np.empty((0, DIMENSION), np.float32)).result(),
        lambda: store.enroll("g", "", np.ones((1, DIMENSION), np.float32)).result(),
    ):
        with refused(ValueError):
            act()


@promise
def a_closed_store_says_so(t: Trial) -> None:
    t.create()
    t.store.close()
    t.store.close()
    for act in (
        lambda: t.store.get_gallery("g"),
        lambda: t.store.known("g"),
        lambda: t.enroll("s", along(2)),
        lambda: t.ask(PROBE, 1),
    ):
        with refused(StoreClosed):
            act()


# Galleries, threads.


@promise
def galleries_do_not_touch_each_other(t: Trial) -> None:
    t.create()
    t.create("other")
    here = t.enroll("s", along(2), request_id="r", request_digest=b"1")
    one = np.array([along(3)], np.float32)
    assert t.store.replay("other", "r", b"1") is None
    there = t.store.enroll("other", "s", one, request_id="r", request_digest=b"1").result()
    assert not there.replayed
    assert set(here.encoding_ids).isdisjoint(there.encoding_ids)
    t.settle()
    with refused(EncodingNotFound):
        t.store.delete_encoding("g", "s", there.encoding_ids[0]).result()
    t.store.delete_subject("other", "s").result()
    t.store.delete_gallery("other").result()
    assert t.distance_of("s", PROBE) == 1.0
    assert t.store.get_gallery("g").revision == 1


@promise
def writes_of_one_thread_take_effect_in_order(t: Trial) -> None:
    t.create()
    t.store.enroll("g", "kept", np.array([along(5)], np.float32))
    t.store.enroll("g", "quick", np.array([along(2)], np.float32))
    with refused(SubjectNotFound):
        t.store.delete_subject("g", "unknown").result()
    assert t.store.delete_subject("g", "quick").exception() is None
    assert t.subjects() == ["kept"]


@promise
def what_is_done_is_seen_by_every_thread(t: Trial) -> None:
    t.create()
    with ThreadPoolExecutor(1) as elsewhere:
        for x in (7, 5, 2):
            t.enroll(f"s{x}", along(x))
            assert elsewhere.submit(t.nearest, PROBE).result().subject_id == f"s{x}"
            assert len(elsewhere.submit(t.subjects).result()) == t.store.get_gallery("g").subjects


# Several questions at once.


@promise
def the_answers_are_in_the_order_of_the_probes(t: Trial) -> None:
    t.create()
    for x in (2, 5, 9):
        t.enroll(f"s{x}", along(x))
    t.settle()
    probes = np.array([along(9), along(2), along(5), along(2)], np.float32)
    (found,) = t.store.search_many("g", [Search(probes, "e", 1, 0.5, 1)])
    assert isinstance(found, Found)
    for listed in (found.candidates, found.matches):
        assert [one[0].subject_id for one in listed] == ["s9", "s2", "s5", "s2"]


@promise
def each_question_is_answered_as_if_asked_alone(t: Trial) -> None:
    t.create()
    for i, vector in enumerate(random_vectors(30, 7)):
        t.enroll(f"s{i}", vector)
    t.settle()
    searches = [
        Search(random_vectors(2, 8), "e", 3),
        Search(random_vectors(1, 9), "e", 1, 1.5, 2),
        Search(random_vectors(3, 10), "e", 9, 1.5, 30),
        Search(random_vectors(1, 11), "e", 0, 4.0, 1),
        Search(random_vectors(1, 12), "e", 2, 0.01, 5),
    ]
    together = t.store.search_many("g", searches)
    assert together == [t.store.search_many("g", [search])[0] for search in searches]
    assert [len(found.candidates) for found in together if isinstance(found, Found)] == [2, 1, 3, 1, 1]
    assert t.store.search_many("g", []) == []


@promise
def a_bad_question_fails_alone(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2))
    t.settle()
    probe = np.array([PROBE], np.float32)
    found = t.store.search_many(
        "g",
        [
            Search(probe, "other", 1),
            Search(probe, "e", 1),
            Search(np.ones((1, DIMENSION + 1), np.float32), "e", 1),
            Search(probe * 0, "e", 1),
            Search(probe, "e", MAX_CANDIDATES + 1),
            Search(probe, "e", 1),
        ],
    )
    kinds = [EncoderMismatch, Found, DimensionMismatch, EncodingInvalid, LimitExceeded, Found]
    assert [type(one) for one in found] == kinds
    assert found[1] == found[5]


@promise
def all_questions_of_a_call_are_answered_from_one_revision(t: Trial) -> None:
    t.create()
    writes = 50
    questions = [Search(np.array([PROBE], np.float32), "e", MAX_CANDIDATES, 1e9, MAX_CANDIDATES)] * 3
    done: list[Future[Enrolled]] = []

    def write() -> None:
        for i in range(writes):  # each write is a revision, and a subject more
            done.append(t.store.enroll("g", f"s{i}", np.array([along(i + 2)], np.float32)))
            done[-1].result()

    t.store.search_many("g", questions)  # so that even the first answer below has something older to be mixed with
    writer = threading.Thread(target=write)
    writer.start()
    seen = -1
    while seen < writes:
        going = writer.is_alive()
        found = [one for one in t.store.search_many("g", questions) if isinstance(one, Found)]
        assert len({one.revision for one in found}) == 1
        for one in found:
            assert len(one.candidates[0]) == len(one.matches[0]) == one.subjects == one.revision
        seen = found[0].revision
        assert going or seen == writes
    writer.join()


# Revisions, sizes, thresholds.


@promise
def every_write_counts_one_revision(t: Trial) -> None:
    t.create()
    expected = 0

    def counts(changes: bool = True) -> None:
        nonlocal expected
        expected += changes
        assert t.store.get_gallery("g").revision == expected
        assert t.ask(PROBE, 1).revision == expected

    counts(False)
    t.enroll("s", along(2), along(3), request_id="r")
    counts()
    t.enroll("s", along(2), along(3), request_id="r")
    counts(False)
    t.settle()
    counts(False)
    t.store.set_threshold("g", 1.0).result()
    counts()
    with refused(EncodingInvalid):
        t.enroll("u", (np.nan, 0.0, 0.0, 0.0))
    counts(False)
    number = t.enroll("u", along(4), along(5)).encoding_ids[0]
    counts()
    assert t.store.delete_encoding("g", "u", number).result().revision == expected + 1
    counts()
    assert t.store.delete_subject("g", "s").result().revision == expected + 1
    counts()


@promise
def sizes_are_counted(t: Trial) -> None:
    t.create()
    last = t.enroll("s", along(2), along(3), along(6)).encoding_ids[2]
    t.enroll("u", along(4), along(5))
    t.settle()
    t.store.delete_encoding("g", "s", last).result()
    t.store.delete_subject("g", "u").result()
    gallery, found = t.store.get_gallery("g"), t.ask(PROBE, 1)
    assert (gallery.subjects, gallery.encodings) == (found.subjects, found.encodings) == (1, 2)


@promise
def every_threshold_is_kept(t: Trial) -> None:
    t.create()
    given = [(0.25, None), (0.36, "evidence"), (None, None), (0.5, None)]
    for threshold, calibration in given:
        t.store.set_threshold("g", threshold, calibration).result()
    t.settle()
    kept = t.store.list_thresholds("g")
    assert [(one.version, one.threshold, one.calibration) for one in reversed(kept)] == [
        (i + 1, *one) for i, one in enumerate(given)
    ]


@promise
def the_threshold_in_force_is_known(t: Trial) -> None:
    t.create()
    for store_says in (t.store.get_gallery, t.store.known):
        assert store_says("g").active.threshold is None
    t.store.set_threshold("g", 0.25, "evidence").result()
    t.settle()
    for threshold in (0.36, None, 0.0):
        after = t.store.set_threshold("g", threshold).result()
        for gallery in (after, t.store.get_gallery("g"), t.store.known("g")):
            assert gallery.active.threshold == threshold
            assert (gallery.active.calibration, gallery.active.calibration_revision) == ("evidence", 1)
    assert t.store.known("g").active.threshold_revision == 4


# Durability.


@promise
def what_is_done_survives_a_restart(t: Trial) -> None:
    t.create()
    t.create("other")
    t.enroll("s", along(2), along(3), labels={"name": "Zoë"})
    t.enroll("u", along(5))
    t.store.set_threshold("g", 0.36, "evidence").result()

    def everything() -> list[Any]:
        store = t.store
        return [
            store.list_galleries(),
            store.list_thresholds("g"),
            store.list_subjects("g"),
            store.get_subject("g", "s"),
            t.ask(PROBE, 5, 1.0, 5),
            store.verify("g", "s", np.array([PROBE], np.float32)),
        ]

    before = everything()
    t.restart()
    assert everything() == before
    t.enroll("new", along(1))
    assert t.nearest(PROBE).subject_id == "new"
