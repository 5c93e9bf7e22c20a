"""Writers, searches, compactions, snapshots and failures of an index all at once: answers miss and invent nothing."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_core.distance import squared_norms
from oneglance_index import (
    EVERYBODY,
    Change,
    EngineUnavailable,
    IndexOutOfStep,
    IndexSettings,
    LocalGalleries,
    OutOfMemory,
    Search,
    StoreBusy,
    SubjectFilter,
)
from oneglance_index.search import flat, rows, upkeep
from oneglance_index.search.milvus import writer as milvus_writer
from oneglance_index.search.milvus.engine import MARK
from oneglance_index.search.milvus.index import MilvusIndex
from tests.index import asking
from tests.index.brute_force import nearest
from tests.index.fake_milvus import URL, FakeMilvus
from tests.waiting import until

DIMENSION = 16
WRITERS, STEPS, SUBJECTS = 3, 120, 5

REFUSALS = (OutOfMemory, IndexOutOfStep, EngineUnavailable)
Held = dict[str, dict[int, np.ndarray[Any, Any]]]


class Failures:
    """Of an index, while `on`: it fails to follow, before or after it did; it has no memory to grow, drain, compact;
    its Milvus doesn't answer."""

    def __init__(self, seed: int) -> None:
        self.on = True
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def strikes(self, share: float) -> bool:
        with self._lock:
            return self.on and self._random.random() < share


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> Failures:
    failures = Failures(seed=1)
    empty, move_up = rows.RowArrays.empty, rows.RowArrays.move_up

    def applying(apply: Callable[..., None]) -> Callable[..., None]:
        def applied(one: object, *changes: Change) -> None:
            if failures.strikes(0.01):
                raise ZeroDivisionError
            apply(one, *changes)
            if failures.strikes(0.01):
                raise ZeroDivisionError

        return applied

    def answering(ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(milvus: FakeMilvus, *arguments: Any) -> Any:
            if failures.strikes(0.02):
                raise EngineUnavailable(milvus.name, "it doesn't answer")
            return ask(milvus, *arguments)

        return asked

    def made(capacity: int, dimension: int) -> rows.RowArrays:
        if failures.strikes(0.2):
            raise MemoryError
        return empty(capacity, dimension)

    def moved(*args: Any) -> int:
        if failures.strikes(0.05):
            raise MemoryError
        return move_up(*args)

    def measured(vectors: Any) -> Any:
        if failures.strikes(0.05):
            raise MemoryError
        return squared_norms(vectors)

    for kind in (flat.ExactIndex, MilvusIndex):
        monkeypatch.setattr(kind, "apply", applying(kind.apply))
    for name in ("drop_others", "known", "make", "write", "nearest", "drop", "forget", "strays"):
        monkeypatch.setattr(FakeMilvus, name, answering(getattr(FakeMilvus, name)))
    for name in ("_RETRY_SECONDS", "_FORGET_AGAIN_SECONDS", "_FORGET_AGAIN_AT_MOST"):
        monkeypatch.setattr(milvus_writer, name, 0.001)
    monkeypatch.setattr(rows.RowArrays, "empty", made)
    monkeypatch.setattr(rows.RowArrays, "move_up", moved)
    monkeypatch.setattr(flat, "squared_norms", measured)
    monkeypatch.setattr(flat, "_PENDING_ROWS", 16)
    monkeypatch.setattr(flat, "_STEP_BYTES", 256)
    monkeypatch.setattr(flat, "_MIN_DEAD_ROWS", 8)
    monkeypatch.setattr(upkeep, "_FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(upkeep, "_RETRY_SECONDS", 0.01)
    return failures


def write(galleries: LocalGalleries, writer: int) -> Held:
    """What this writer has done to its own subjects. Each search that follows a write that is done sees it."""
    chance = random.Random(writer)
    held: Held = {}
    for _ in range(STEPS):
        subject = f"w{writer}-{chance.randrange(SUBJECTS)}"
        vectors = np.random.default_rng(chance.getrandbits(32)).standard_normal((4, DIMENSION), dtype=np.float32)
        if subject in held and chance.random() < 0.4:
            revision = galleries.delete_subject("g", subject).result().revision
            del held[subject]
        else:
            replacing = chance.random() < 0.5
            try:
                done = galleries.enroll("g", subject, vectors, on_existing="replace" if replacing else "add").result()
            except REFUSALS:
                continue
            revision = done.revision
            before = {} if replacing else held.get(subject, {})
            held[subject] = before | dict(zip(map(int, done.encoding_ids), vectors, strict=True))
        try:
            among = SubjectFilter(id_prefix=f"w{writer}-") if chance.random() < 0.2 else EVERYBODY
            found = asking.nearest(galleries, "g", vectors[:1], WRITERS * SUBJECTS, among=among)
        except REFUSALS:
            continue
        assert found.revision >= revision
        own = {c.subject_id: (int(c.encoding_id), c.distance) for c in found.candidates[0]}
        assert own.keys() & {f"w{writer}-{i}" for i in range(SUBJECTS)} == held.keys()
        for one, encodings in held.items():
            assert own[one][0] in encodings
        assert subject not in held or own[subject][1] == 0
    return held


@pytest.mark.parametrize("device", ["cpu", URL])
def test_every_answer_is_exact_whatever_fails(
    tmp_path: Path, failures: Failures, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    milvus = FakeMilvus.installed(monkeypatch)
    settings = IndexSettings(snapshot_every_encodings=50, engine_copy_seconds=0.01)
    with LocalGalleries.open(tmp_path, device=device, settings=settings) as galleries:
        failures.on = False
        galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
        failures.on = True
        ended = threading.Event()

        def look_after() -> None:
            while not ended.is_set():
                for step in (galleries.compact, galleries.snapshot):
                    with contextlib.suppress(*REFUSALS, StoreBusy):  # readers may be in the way
                        step("g")

        with ThreadPoolExecutor(WRITERS + 1) as pool:
            upkept = pool.submit(look_after)
            try:
                written = [future.result() for future in [pool.submit(write, galleries, i) for i in range(WRITERS)]]
            finally:
                ended.set()
            upkept.result()
        failures.on = False
        until(lambda: galleries.trouble() is None and not galleries._upkeep._repairs)
        held: Held = {subject: encodings for one in written for subject, encodings in one.items()}
        check(galleries, held)
        until(lambda: milvus.forgotten and not milvus.since if device == URL else True)
        assert not any(milvus.lost.values())
    with LocalGalleries.open(tmp_path, device=device) as again:
        check(again, held)
    assert [set(rows) - {MARK} for rows in milvus.collections.values()] == (
        [] if device == "cpu" else [{number for own in held.values() for number in own}]
    )


def check(galleries: LocalGalleries, held: Held) -> None:
    """The gallery holds this, and finds it as brute force does."""
    table = [(subject, number, vector) for subject, own in held.items() for number, vector in own.items()]
    gallery, info = galleries.get_gallery("g"), galleries.index_info("g")
    assert (gallery.subjects, gallery.encodings) == (info.subjects, info.encodings) == (len(held), len(table))
    probes = np.random.default_rng(0).standard_normal((8, DIMENSION), dtype=np.float32)
    (found,) = galleries.search_many("g", [Search(probes, "e", 10)])
    assert not isinstance(found, Exception)
    for probe, candidates in zip(probes, found.candidates, strict=True):
        assert [(c.subject_id, c.encoding_id, c.distance) for c in candidates] == nearest(table, probe, 10)
