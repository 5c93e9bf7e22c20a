"""What waits to be written is bounded in bytes, and callers take turns."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import IndexSettings, LocalGalleries, WriteQueueFull
from oneglance_index.store import write_queue
from tests.index import asking
from tests.index.holding import Hold

LARGE = np.ones((500, 64), np.float32)  # 128 kB, and 512 kB for being 500
SMALL = np.ones((1, 64), np.float32)


@pytest.fixture
def galleries(tmp_path: Path) -> Iterator[LocalGalleries]:
    with LocalGalleries.open(tmp_path, settings=IndexSettings(max_queued_bytes=2 << 20)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=64).result()
        yield galleries


def test_what_finds_no_room_is_refused_at_once(galleries: LocalGalleries) -> None:
    hold = Hold(galleries)
    futures = [galleries.enroll("g", f"s{i}", LARGE) for i in range(10)]
    refused = [future for future in futures if future.done()]
    assert 0 < len(refused) < 10
    assert {type(future.exception()) for future in refused} == {WriteQueueFull}
    hold.end.set()
    taken = [future for future in futures if future not in refused]
    assert all(future.exception() is None for future in taken)
    assert galleries.get_gallery("g").subjects == len(taken)
    galleries.enroll("g", "again", LARGE).result()


def test_what_is_patient_is_taken_and_takes_no_room(galleries: LocalGalleries) -> None:
    hold = Hold(galleries)
    patient = [galleries.enroll("g", f"p{i}", LARGE, patient=True) for i in range(10)]
    single = galleries.enroll("g", "s", LARGE)
    assert not single.done()
    hold.end.set()
    assert {type(future.exception()) for future in (*patient, single)} == {type(None)}


def test_a_write_larger_than_the_queue_is_taken_alone(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path, settings=IndexSettings(max_queued_bytes=1)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=64).result()
        galleries.enroll("g", "s", LARGE).result()
        galleries.compact()
        assert asking.nearest(galleries, "g", SMALL, 1).encodings == 500
    with LocalGalleries.open(tmp_path) as galleries:
        assert asking.nearest(galleries, "g", SMALL, 1).encodings == 500


def test_callers_take_turns(galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_queue, "MAX_GROUP", 4)
    done: list[str] = []

    def enroll(subject: str, caller: str) -> Future[Any]:
        future = galleries.enroll("g", subject, SMALL, caller=caller)
        future.add_done_callback(lambda _: done.append(subject))
        return future

    hold = Hold(galleries)
    futures = [enroll(f"many{i}", "many") for i in range(100)]
    futures.append(enroll("one", "another"))
    hold.end.set()
    wait(futures)
    assert done.index("one") < 4
    assert [subject for subject in done if subject != "one"] == [f"many{i}" for i in range(100)]  # in their order


def test_a_group_is_bounded_in_bytes(galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_queue, "MAX_GROUP_BYTES", 1 << 20)
    hold = Hold(galleries)
    futures = [galleries.enroll("g", f"s{i}", LARGE) for i in range(3)]
    before = galleries._store.commits
    hold.end.set()
    wait(futures)
    assert galleries._store.commits - before == 1 + 2  # what was held up, two together, and one
