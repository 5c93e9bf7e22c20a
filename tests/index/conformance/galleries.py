"""Promises about galleries: pages, sizes, revisions, thresholds, threads, restarts, requests that come again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from oneglance_index import (
    Approximation,
    EncodingInvalid,
    EncodingNotFound,
    Found,
    RequestConflict,
    Search,
    SubjectNotFound,
    approximation_of,
)
from tests.index.conformance.trial import (
    MAX_PAGE_BYTES,
    PROBE,
    Trial,
    along,
    promise,
    refused,
)

# Idempotency.


@promise
def a_request_is_done_once(t: Trial) -> None:
    t.create()
    first = t.enroll("s", along(2), request_id="r", request_digest=b"1")
    again = t.enroll("s", along(2), request_id="r", request_digest=b"1")
    assert (first.replayed, again.replayed) == (False, True)
    assert (again.encoding_ids, again.created, again.revision) == (first.encoding_ids, True, first.revision)
    assert t.store.replay("g", "s", "r", b"1") == again
    assert t.store.replay("g", "s", "other", b"1") is None
    one = np.array([along(3)], np.float32)
    both = [t.store.enroll("g", "u", one, request_id="at once") for _ in range(2)]
    assert [future.result().replayed for future in both] == [False, True]
    for subject in ("s", "u"):
        assert len(t.store.get_subject("g", subject).encodings) == 1


@promise
def whether_crops_are_kept_is_known(t: Trial) -> None:
    t.create()
    t.store.create_gallery("h", encoder_digest="e", dimension=2, keep_crops=True).result()
    t.settle()
    for store_says in (t.store.get_gallery, t.store.known):
        assert (store_says("g").keep_crops, store_says("h").keep_crops) == (False, True)
    for keep in (True, False, True):
        before = t.store.get_gallery("g").revision
        after = t.store.set_keep_crops("g", keep).result()
        for gallery in (after, t.store.get_gallery("g"), t.store.known("g")):
            assert (gallery.keep_crops, gallery.revision) == (keep, before + 1)
        t.enroll(f"s{before}", along(2), crops=[b"a crop"])
        assert len(t.store.get_subject("g", f"s{before}").encodings) == 1


@promise
def requests_are_remembered_through_restarts(t: Trial) -> None:
    t.create()
    first = t.enroll("s", along(2), request_id="r", request_digest=b"1")
    t.restart()
    replayed = t.store.replay("g", "s", "r", b"1")
    assert replayed is not None
    assert replayed.encoding_ids == first.encoding_ids


@promise
def a_request_id_with_other_content_is_refused(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2), request_id="r", request_digest=b"1")
    with refused(RequestConflict):
        t.enroll("s", along(2), request_id="r", request_digest=b"2")
    with refused(RequestConflict):
        t.store.replay("g", "s", "r", b"2")


@promise
def a_retry_does_not_bring_back_who_was_deleted(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2), request_id="r", request_digest=b"1")
    t.store.delete_subject("g", "s").result()
    with refused(SubjectNotFound):
        t.enroll("s", along(2), request_id="r", request_digest=b"1")
    with refused(SubjectNotFound):
        t.store.replay("g", "s", "r", b"1")
    t.enroll("s", along(3), request_id="other", request_digest=b"2")  # the same name, somebody new
    with refused(SubjectNotFound):
        t.store.replay("g", "s", "r", b"1")


@promise
def a_failed_request_is_not_remembered(t: Trial) -> None:
    t.create()
    with refused(EncodingInvalid):
        t.enroll("s", (np.nan, 0.0, 0.0, 0.0), request_id="r", request_digest=b"1")
    assert t.store.replay("g", "s", "r", b"1") is None
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


@promise
def paging_of_thresholds_holds_while_others_write(t: Trial) -> None:
    t.create()
    for threshold in range(7):
        t.store.set_threshold("g", threshold).result()
    t.settle()
    seen: list[int] = []
    after: int | None = None
    for _ in range(100):
        page = t.store.list_thresholds("g", page_size=2, after=after)
        seen += [one.version for one in page.versions]
        after = page.next_after
        if after is None:
            break
        t.store.set_threshold("g", 9.0).result()
    assert seen == [7, 6, 5, 4, 3, 2, 1]


@promise
def pages_are_bounded_in_bytes(t: Trial) -> None:
    t.create()
    third, more = "x" * (MAX_PAGE_BYTES // 3), "x" * (MAX_PAGE_BYTES + 1)
    texts = [third, third, third, third, more, third, more, more]
    for i, text in enumerate(texts):
        t.enroll(f"s{i}", along(i + 2), labels={"text": text})
        t.store.set_threshold("g", i, text).result()
    t.settle()
    subjects = [t.store.list_subjects("g")]
    while subjects[-1].next_after is not None:
        subjects.append(t.store.list_subjects("g", after=subjects[-1].next_after))
    thresholds = [t.store.list_thresholds("g")]
    while thresholds[-1].next_after is not None:
        thresholds.append(t.store.list_thresholds("g", after=thresholds[-1].next_after))
    listed = [[len(one.labels["text"]) for one in page.subjects] for page in subjects]
    kept = [[len(one.calibration or "") for one in page.versions] for page in thresholds]
    assert all(len(sizes) == 1 or sum(sizes) <= MAX_PAGE_BYTES for sizes in (*listed, *kept))
    assert [one.id for page in subjects for one in page.subjects] == [f"s{i}" for i in range(len(texts))]
    assert [one.version for page in thresholds for one in page.versions] == list(range(len(texts), 0, -1))


# Galleries, threads.


@promise
def galleries_do_not_touch_each_other(t: Trial) -> None:
    t.create()
    t.create("other")
    here = t.enroll("s", along(2), request_id="r", request_digest=b"1")
    one = np.array([along(3)], np.float32)
    assert t.store.replay("other", "s", "r", b"1") is None
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
    kept = t.thresholds(page_size=3)
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


@promise
def the_quality_policy_is_known(t: Trial) -> None:
    t.create()
    t.store.create_gallery("h", encoder_digest="e", dimension=2, quality="strict").result()
    t.settle()
    for store_says in (t.store.get_gallery, t.store.known):
        assert (store_says("g").active.quality, store_says("h").active.quality) == (None, "strict")
    for quality in ("off", "a word of no meaning", None):
        before = t.store.get_gallery("g").revision
        after = t.store.set_quality("g", quality).result()
        for gallery in (after, t.store.get_gallery("g"), t.store.known("g")):
            assert (gallery.active.quality, gallery.revision) == (quality, before + 1)


@promise
def the_least_gap_is_known(t: Trial) -> None:
    t.create()
    t.store.create_gallery("h", encoder_digest="e", dimension=2, least_gap=0.25).result()
    t.settle()
    for store_says in (t.store.get_gallery, t.store.known):
        assert (store_says("g").active.least_gap, store_says("h").active.least_gap) == (0.0, 0.25)
    for gap in (0.5, 0.0, 1e-3):
        before = t.store.get_gallery("g").revision
        after = t.store.set_least_gap("g", gap).result()
        for gallery in (after, t.store.get_gallery("g"), t.store.known("g")):
            assert (gallery.active.least_gap, gallery.revision) == (gap, before + 1)


@promise
def what_answers_may_lose_is_known(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2))
    wanted: Approximation | None
    for wanted in (Approximation(0.75), Approximation(0.999, exact_on_alarm=True), Approximation(0.999), None):
        before = t.store.get_gallery("g").revision
        after = t.store.set_approximation("g", wanted).result()
        for gallery in (after, t.store.get_gallery("g"), t.store.known("g")):
            assert approximation_of(gallery.active.kind) == wanted
            assert gallery.revision == before + 1
        state = t.store.approximation_state("g")
        assert (state is None) == (wanted is None)
        # So small a gallery has nothing to gain, and every search may ask for an exact answer.
        assert state is None or (state.answers, state.because != "") == ("exact", True)
        for exact in (False, True):
            (found,) = t.store.search_many("g", [Search(np.array([PROBE], np.float32), "e", 1, exact=exact)])
            assert isinstance(found, Found)
            assert found.exact
            assert [one.subject_id for one in found.candidates[0]] == ["s"]


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


@promise
def what_answers_may_lose_survives_a_restart(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2))
    wanted = Approximation(0.99, exact_on_alarm=True)
    before = t.store.set_approximation("g", wanted).result()
    t.restart()
    for gallery in (t.store.get_gallery("g"), t.store.known("g")):
        assert (approximation_of(gallery.active.kind), gallery.revision) == (wanted, before.revision)
    assert t.nearest(PROBE).subject_id == "s"
    t.enroll("u", along(1))
    assert t.nearest(PROBE).subject_id == "u"
