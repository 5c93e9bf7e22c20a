"""Kinds of index: chosen by name, strangers refused by name, and none has to hold all its rows in one array."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_core.distance import squared_l2
from oneglance_index import (
    Approximation,
    ApproximationState,
    Candidate,
    DeviceUnavailable,
    Found,
    GalleryError,
    GenerationUnsupported,
    IndexInfo,
    LocalGalleries,
    OpenProgress,
    Search,
)
from oneglance_index.records import Change, Checksum, Rows
from oneglance_index.search import faiss_calls
from oneglance_index.search.labelled import Directory
from oneglance_index.search.registry import KINDS, Machine
from oneglance_index.store import queries
from oneglance_index.store.ledger import Ledger
from oneglance_index.store.mutations import Applied
from oneglance_index.store.seals import GENERATIONS
from tests.index import asking

Vectors = NDArray[np.float32]


def vectors(n: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, 4), dtype=np.float32)


@dataclass(frozen=True)
class Row:
    subject: int
    vector: Vectors


@dataclass(frozen=True)
class FrozenFew:
    revision: int
    rows: dict[int, Row]
    by_subject: bool = False

    @property
    def encodings(self) -> int:
        return len(self.rows)

    def blocks(self) -> Iterator[Rows]:
        """Seven at a time."""
        for start in range(0, len(self.rows), 7):
            part = list(self.rows.items())[start : start + 7]
            yield Rows(
                np.array([number for number, _ in part]),
                np.array([row.subject for _, row in part]),
                np.stack([row.vector for _, row in part]),
            )


class FewIndex:
    """A kind of index that keeps each row by itself, and looks at one after the other."""

    kind = "few"
    exact = True
    device = "cpu"
    most_at_once = 0

    def __init__(self, dimension: int, machine: Machine, fusion: str, generation: int) -> None:
        self.dimension = dimension
        self.rows: dict[int, Row] = {}
        self.ids: dict[int, str] = {}
        self.revision = 0

    def load(self, revision: int, subjects: Mapping[int, str] | Directory, capacity: int) -> None:
        self.revision = revision
        self.ids = dict(subjects if isinstance(subjects, Mapping) else subjects.everybody().ids)

    def append(self, rows: Rows) -> None:
        type(self).most_at_once = max(self.most_at_once, len(rows.numbers))
        for number, subject, vector in zip(rows.numbers, rows.subjects, rows.vectors, strict=True):
            self.rows[int(number)] = Row(int(subject), vector.copy())

    def reserve(self, encodings: int, subjects: int) -> None:
        pass

    def checksum(self) -> Checksum:
        return Checksum(len(self.rows), sum(self.rows))

    def apply(self, *changes: Change) -> None:
        for change in changes:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        rows = dict(self.rows)
        for number, vector in zip(change.added, change.vectors, strict=True):
            rows[int(number)] = Row(change.subject, vector)
        for number in change.removed:
            del rows[int(number)]
        self.ids[change.subject] = change.subject_id
        self.rows, self.revision = rows, change.revision

    def approximate(self, wanted: Approximation | None) -> None:
        pass

    def approximation(self) -> ApproximationState | None:
        return None

    def wants_tending(self) -> bool:
        return False

    def search(self, searches: Sequence[Search]) -> list[Found | GalleryError]:
        def answer(probe: Vectors, k: int) -> tuple[Candidate, ...]:
            near = [
                Candidate(self.ids[row.subject], str(n), distance, distance)
                for n, row in self.rows.items()
                for distance in [float(squared_l2(row.vector, probe))]
            ]
            return tuple(sorted(near, key=lambda one: one.distance)[:k])

        sizes = (self.revision, len({row.subject for row in self.rows.values()}), len(self.rows))
        return [
            Found(
                tuple(answer(probe, search.candidates) for probe in search.probes),
                ((),) * len(search.probes),
                (False,) * len(search.probes),
                *sizes,
                self.exact,
                self.kind,
                self.device,
            )
            for search in searches
        ]

    def info(self) -> IndexInfo:
        return IndexInfo(self.kind, self.device, self.exact, self.revision, 0, len(self.rows), 0, 0)

    def freeze(self) -> FrozenFew:
        return FrozenFew(self.revision, self.rows)

    def improve(self) -> bool:
        return False

    def retire(self, drop: bool) -> None:
        pass

    def wants_compaction(self) -> bool:
        return False

    def compact(self) -> None:
        pass


def test_another_kind_serves_a_gallery_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "few", FewIndex)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("few", encoder_digest="e", dimension=4, kind="few").result()
        galleries.create_gallery("flat", encoder_digest="e", dimension=4).result()
        for i, vector in enumerate(vectors(40)):
            for gallery in ("few", "flat"):
                galleries.enroll(gallery, f"s{i}", vector[None]).result()
        for gallery in ("few", "flat"):
            galleries.delete_subject(gallery, "s3").result()
    (snapshot,) = (tmp_path / "snapshots").glob("1-*.snap")
    (other,) = (tmp_path / "snapshots").glob("2-*.snap")
    assert snapshot.stat().st_size == other.stat().st_size == 56 + 39 * (8 + 8 + 16) + 8 + 28
    seen: list[OpenProgress] = []
    with LocalGalleries.open(tmp_path, progress=seen.append) as galleries:
        assert {step.source for step in seen} == {"snapshot"}
        assert galleries.get_gallery("few").active.kind == "few"
        few, flat = (asking.nearest(galleries, gallery, vectors(5, 1), 3) for gallery in ("few", "flat"))
        assert (few.kind, flat.kind, few.encodings) == ("few", "flat", 39)
        for ours, theirs in zip(few.candidates, flat.candidates, strict=True):
            assert [(c.subject_id, c.distance) for c in ours] == [(c.subject_id, c.distance) for c in theirs]


def test_a_snapshot_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "few", FewIndex)
    monkeypatch.setattr("oneglance_index.search.snapshot._BLOCK_BYTES", 11 * 16)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("few", encoder_digest="e", dimension=4, kind="few").result()
        for i, vector in enumerate(vectors(40)):
            galleries.enroll("few", f"s{i}", vector[None])
    monkeypatch.setattr(FewIndex, "most_at_once", 0)
    seen: list[OpenProgress] = []
    with LocalGalleries.open(tmp_path, progress=seen.append) as galleries:
        assert FewIndex.most_at_once == 11
        assert [step.done_encodings for step in seen] == [11, 22, 33, 40, 40]
        found = asking.nearest(galleries, "few", vectors(40), 1)
        assert [near[0].subject_id for near in found.candidates] == [f"s{i}" for i in range(40)]


def test_a_kind_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(KINDS, "few", FewIndex)
        with LocalGalleries.open(tmp_path) as galleries:
            galleries.create_gallery("g", encoder_digest="e", dimension=4, kind="few").result()
    with pytest.raises(GenerationUnsupported, match=r"'g'.*'few'.*flat") as caught:
        LocalGalleries.open(tmp_path)
    assert (caught.value.gallery_id, caught.value.what, caught.value.got) == ("g", "kind of index", "few")
    assert caught.value.known == ("flat", "approximate")
    with monkeypatch.context() as patch:  # and nothing was harmed, the directory not locked
        patch.setitem(KINDS, "few", FewIndex)
        LocalGalleries.open(tmp_path).close()


class Median:
    """Gives gallery "g" the rule of fusion of a later version."""

    def run(self, db: sqlite3.Connection) -> Applied[None]:
        stored = queries.gallery(db, "g")
        ledger = Ledger(db, stored.place)
        ledger.update(GENERATIONS, stored.generation_row, fusion="median")
        ledger.close()
        return Applied(None)


def test_a_fusion_rule_that_is_not_there_is_named(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        galleries._store.write(Median()).result()
    with pytest.raises(GenerationUnsupported) as caught:
        LocalGalleries.open(tmp_path)
    assert (caught.value.what, caught.value.got) == ("rule of fusion", "median")


def test_a_gallery_has_one_active_generation(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        active = galleries.get_gallery("g").active
        assert (active.kind, active.fusion, active.state, active.encoder_digest) == ("flat", "nearest", "active", "e")
    with sqlite3.connect(tmp_path / "store.sqlite3") as db, pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        db.execute(
            "INSERT INTO generations (gallery, state, encoder_digest, dimension, kind, fusion, created)"
            " SELECT gallery, state, encoder_digest, dimension, kind, fusion, created FROM generations"
        )
    db.close()


def test_without_faiss_no_device_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faiss_calls.load.cache_clear()
    monkeypatch.setitem(sys.modules, "faiss", None)
    try:
        with pytest.raises(DeviceUnavailable, match="FAISS can't be loaded"):
            LocalGalleries.open(tmp_path / "data")
    finally:
        faiss_calls.load.cache_clear()
    assert not (tmp_path / "data").exists()
