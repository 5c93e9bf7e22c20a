"""Many subjects that are enrolled by one write: each as it would be alone, in one transaction."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oneglance_index import (
    DimensionMismatch,
    EncoderMismatch,
    EncodingInvalid,
    Enrolled,
    Followed,
    GalleryNotFound,
    IndexSettings,
    LimitExceeded,
    LocalGalleries,
    NewEncodings,
    RequestConflict,
    SubjectExists,
)
from tests.index.conformance.trial import Trial, Vectors, along


def new(subject: str, *vectors: Sequence[float] | Vectors, **how: Any) -> NewEncodings:
    return NewEncodings(subject, np.array(vectors, np.float32), **how)


def test_each_is_enrolled_as_it_would_be_alone(tmp_path: Path) -> None:
    t = Trial(lambda: LocalGalleries.open(tmp_path, settings=IndexSettings(max_encodings_per_subject=5)))
    t.create()
    t.enroll("old", along(2))
    again = {"request_id": "r", "request_digest": b"d"}
    outcomes = t.store.enroll_many(
        "g",
        [
            new("a", along(3), along(4), labels={"k": "v"}),
            new("old", along(5), on_existing="fail"),
            new("old", along(6)),
            new("nan", (np.nan, 0, 0, 0)),
            new("short", (1.0, 0.0)),
            new("b", along(7), **again),
            new("b", along(7), **again),
            new("b", along(8), request_id="r", request_digest=b"other"),
            new("full", *[along(9)] * (6)),
            new("a", along(10), on_existing="replace", labels={}),
        ],
        encoder_digest="e",
    ).result()
    told = [one.subject_id if isinstance(one, Enrolled) else type(one) for one in outcomes]
    wrong = (SubjectExists, EncodingInvalid, DimensionMismatch, RequestConflict, LimitExceeded)
    assert told == ["a", wrong[0], "old", wrong[1], wrong[2], "b", "b", wrong[3], wrong[4], "a"]
    done = [one for one in outcomes if isinstance(one, Enrolled)]
    assert [one.created for one in done] == [True, False, True, True, False]
    assert [one.replayed for one in done] == [False, False, False, True, False]
    assert [len(one.encoding_ids) for one in done] == [2, 1, 1, 1, 1]
    assert [one.revision for one in done] == [2, 3, 4, 4, 5]
    t.restart()
    assert t.subjects() == ["a", "b", "old"]
    assert t.store.get_subject("g", "a").labels == {}
    assert t.store.get_gallery("g").encodings == 4
    assert [t.distance_of(name, along(x)) for name, x in (("a", 10), ("b", 7), ("old", 6))] == [0.0, 0.0, 0.0]
    assert t.store.enroll_many("g", []).result() == []
    (foreign,) = t.store.enroll_many("g", [new("x", along(1))], encoder_digest="f").result()
    (nowhere,) = t.store.enroll_many("none", [new("x", along(1))]).result()
    assert (type(foreign), type(nowhere)) == (EncoderMismatch, GalleryNotFound)
    t.store.close()


def test_they_are_one_commit_and_tau_moves_once(tmp_path: Path) -> None:
    asked: list[int] = []

    def rule(one: Any) -> Followed | None:
        asked.append(one.subjects)
        return Followed(one.subjects / 100, f"size {one.subjects}")

    with LocalGalleries.open(tmp_path, tau_rule=rule) as store:
        store.create_gallery("g", encoder_digest="e", dimension=4, target_fpir=0.01).result()
        asked.clear()
        commits = store._store._writer.commits
        store.enroll_many("g", [new(f"s{x}", along(x + 2)) for x in range(50)]).result()
        assert store._store._writer.commits == commits + 1
        assert asked == [50]
        followed = store.get_gallery("g").active.followed
        assert followed is not None
        assert followed.tau == 0.5


_SUBJECTS = st.sampled_from("abc")
_ITEMS = st.tuples(_SUBJECTS, st.integers(2, 9), st.sampled_from(["add", "replace", "fail"]), st.sampled_from("pq"))


@given(st.lists(st.lists(_ITEMS, max_size=6), max_size=4))
def test_as_one_by_one(tmp_path_factory: Any, batches: list[list[tuple[str, int, Any, str]]]) -> None:
    """The same outcomes and the same gallery, whatever comes in which order."""
    left, right = (LocalGalleries.open(tmp_path_factory.mktemp(side)) for side in ("left", "right"))
    with left, right:
        for store in (left, right):
            store.create_gallery("g", encoder_digest="e", dimension=4).result()
        for batch in batches:
            items = [
                new(name, along(x), on_existing=how, labels={"x": str(x)}, request_id=key, request_digest=name.encode())
                for name, x, how, key in batch
            ]
            together = left.enroll_many("g", items).result()
            for one, outcome in zip(items, together, strict=True):
                alone = right.enroll(
                    *("g", one.subject_id, one.encodings),
                    labels=one.labels,
                    on_existing=one.on_existing,
                    request_id=one.request_id,
                    request_digest=one.request_digest,
                )
                error = alone.exception()
                if error is None:
                    assert outcome == alone.result()
                else:
                    assert str(outcome) == str(error)
        found = [
            [(one.id, one.labels, [e.id for e in one.encodings]) for one in store.list_subjects("g").subjects]
            for store in (left, right)
        ]
        assert found[0] == found[1]
