"""Promises about what is refused, and how."""

from __future__ import annotations

import contextlib

import numpy as np

from oneglance_index import (
    DimensionMismatch,
    EncoderMismatch,
    EncodingInvalid,
    EncodingNotFound,
    GalleryExists,
    GalleryNotFound,
    GenerationUnsupported,
    LimitExceeded,
    StoreClosed,
    SubjectExists,
    SubjectNotFound,
)
from tests.index.conformance.trial import (
    DIMENSION,
    MAX_CANDIDATES,
    MAX_ENCODINGS,
    PROBE,
    Trial,
    along,
    promise,
    refused,
)


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
        lambda: store.list_likenesses("g"),
        lambda: store.set_least_gap("g", 0.1).result(),
        lambda: store.set_approximation("g", None).result(),
        lambda: store.approximation_state("g"),
        lambda: store.get_subject("g", "s"),
        lambda: store.replay("g", "s", "r", b""),
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
        lambda: store.set_least_gap("g", -0.1).result(),
        lambda: store.set_least_gap("g", float("inf")).result(),
        lambda: store.create_gallery("h", encoder_digest="e", dimension=2, least_gap=float("nan")).result(),
        lambda: store.list_subjects("g", page_size=0),
        lambda: store.list_likenesses("g", page_size=0),
        lambda: store.list_galleries(page_size=0),
        lambda: store.list_thresholds("g", page_size=0),
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


@promise
def trouble_is_told(t: Trial) -> None:
    t.create()
    t.enroll("s", along(2))
    with refused(EncodingInvalid):
        t.enroll("u", (np.nan, 0.0, 0.0, 0.0))
    t.settle()
    assert t.store.trouble() is None
    t.store.close(deadline_seconds=0)
    assert t.store.trouble()
