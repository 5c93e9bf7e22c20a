"""Promises about answers: decisions, order, several questions at once."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import numpy as np

from oneglance_index import (
    DimensionMismatch,
    EncoderMismatch,
    EncodingInvalid,
    Enrolled,
    Found,
    LimitExceeded,
    Search,
)
from tests.index.brute_force import distance, nearest
from tests.index.conformance.trial import (
    DIMENSION,
    MAX_CANDIDATES,
    PROBE,
    Trial,
    along,
    promise,
    random_vectors,
)

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
