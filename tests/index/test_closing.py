"""Closing finishes what waits to be written; the rest of it takes the time that it is given. Opening can be ended."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import LocalGalleries, OpenProgress, StoreClosed
from oneglance_index.search import snapshot
from tests.index import asking
from tests.index.holding import Hold
from tests.waiting import until

VECTORS = np.eye(4, dtype=np.float32)


def fill(galleries: LocalGalleries, count: int) -> None:
    for i in range(count):
        galleries.create_gallery(f"g{i}", encoder_digest="e", dimension=4)
        galleries.enroll(f"g{i}", "s", VECTORS[:2])


def snapshots(data_dir: Path) -> int:
    return len(list((data_dir / "snapshots").glob("*.snap"))) if (data_dir / "snapshots").exists() else 0


def test_it_writes_what_waits_and_takes_snapshots(tmp_path: Path) -> None:
    galleries = LocalGalleries.open(tmp_path)
    hold = Hold(galleries)
    fill(galleries, 50)
    closing = threading.Thread(target=galleries.close)
    closing.start()
    hold.end.set()
    closing.join()
    assert snapshots(tmp_path) == 50
    with pytest.raises(StoreClosed):
        galleries.enroll("g0", "late", VECTORS[:1]).result()
    with LocalGalleries.open(tmp_path) as again:
        for i in range(50):
            assert asking.nearest(again, f"g{i}", VECTORS[:1], 1).encodings == 2


def test_without_time_what_waits_is_not_written_and_says_so(tmp_path: Path) -> None:
    galleries = LocalGalleries.open(tmp_path)
    galleries.create_gallery("there", encoder_digest="e", dimension=4).result()
    hold = Hold(galleries)
    waiting = [galleries.enroll("there", f"s{i}", VECTORS[:1]) for i in range(1000)]
    closing = threading.Thread(target=galleries.close, kwargs={"deadline_seconds": 0})
    closing.start()
    until(lambda: galleries._store.closed and galleries._store._writer._until is not None)
    hold.end.set()
    closing.join()
    assert all(isinstance(enrolling.exception(), StoreClosed) for enrolling in waiting)
    assert snapshots(tmp_path) == 0
    with LocalGalleries.open(tmp_path) as again:
        assert again.get_gallery("there").subjects == 0


def test_it_takes_snapshots_while_there_is_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    galleries = LocalGalleries.open(tmp_path)
    fill(galleries, 10)
    now = 0.0
    write = snapshot.write

    def slow(*arguments: object) -> object:
        nonlocal now
        now += 1
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshot, "write", slow)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    galleries.close(deadline_seconds=3.5)
    monkeypatch.undo()
    assert snapshots(tmp_path) == 3  # the fourth took too long, and was given up


def test_a_snapshot_under_way_is_given_up_when_time_is_over(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        fill(galleries, 1)
        galleries.set_threshold("g0", 1.0).result()
        galleries.snapshot()
        (former,) = (tmp_path / "snapshots").iterdir()
        galleries.enroll("g0", "more", VECTORS[:1]).result()
        path = snapshot.path_of(tmp_path, 1, 3)
        index = galleries._opened._opened["g0"].in_step()
        frozen = index.freeze()
        assert frozen is not None
        with pytest.raises(snapshot.SnapshotAbandoned):
            snapshot.write(path, frozen, 4, lambda: True, 1, lambda generation, content: "")
        assert list((tmp_path / "snapshots").iterdir()) == [former]


@pytest.mark.parametrize("gallery_id", ["g0", "g2"])
def test_opening_ends_where_progress_raises(tmp_path: Path, gallery_id: str) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        fill(galleries, 3)

    class Stop(Exception):
        pass

    seen: list[str] = []

    def progress(step: OpenProgress) -> None:
        seen.append(step.gallery_id)
        if step.gallery_id == gallery_id:
            raise Stop

    with pytest.raises(Stop):
        LocalGalleries.open(tmp_path, progress=progress)
    assert seen[-1] == gallery_id
    with LocalGalleries.open(tmp_path) as again:  # nothing was harmed, the directory not locked
        assert asking.nearest(again, "g2", VECTORS[:1], 1).encodings == 2
