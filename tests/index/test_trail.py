"""The audit trail: each change has its entry, and no entry can be edited, dropped or moved without that being told."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import (
    Actor,
    Approximation,
    Decision,
    Event,
    GalleryExists,
    IndexSettings,
    LocalGalleries,
    Retention,
    StoreDamaged,
    StoreFull,
    TrailInvalid,
    acting,
    check_directory,
    export_trail,
    read_trail,
    repair,
    verify_export,
    verify_trail,
)
from oneglance_index.store.trail import Trail
from tests.waiting import until

VECTORS = np.eye(4, dtype=np.float32)
DOOR = Actor("key:door", "ipv4:10.0.0.7:4711")


@pytest.fixture(autouse=True)
def by_door() -> Iterator[None]:
    token = acting.set(DOOR)
    yield
    acting.reset(token)


def is_pruned(data_dir: Path) -> bool:
    """Whether nothing else is left than that entries were removed. They may be while this looks."""
    with contextlib.suppress(TrailInvalid):
        return [one["did"] for one in told(data_dir)] == ["prune"]
    return False


def told(data_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read_trail(data_dir)]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("filled") / "data"
    token = acting.set(DOOR)
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for i in range(4):
            galleries.enroll("g", f"s{i}", VECTORS[i : i + 1]).result()
    acting.reset(token)
    return data_dir


@pytest.fixture
def data_dir(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "data"))


def test_every_change_has_its_entry(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="model", dimension=4, least_gap=0.1).result()
        galleries.set_threshold("g", 0.25, "evidence").result()
        galleries.set_least_gap("g", 0.2).result()
        galleries.set_approximation("g", Approximation(0.99)).result()
        galleries.set_approximation("g", None).result()
        galleries.set_quality("g", "strict").result()
        galleries.set_doubt("g", "flag").result()
        galleries.set_decided_by("g", "probability").result()
        galleries.set_target_fpir("g", 0.01).result()
        galleries.set_fusion("g", "mean").result()
        galleries.enroll("g", "Zoë", VECTORS[:2], encoder_digest="model", labels={"secret": "label"}).result()
        negative = galleries.add_negative("g", "Zoë", VECTORS[3]).result()
        galleries.delete_negative("g", "Zoë", negative.id).result()
        galleries.delete_encoding("g", "Zoë", "1").result()
        galleries.set_retention("g", "Zoë", Retention(9e9, "purpose", "consent")).result()
        galleries.delete_subject("g", "Zoë").result()
        galleries.delete_gallery("g").result()
        galleries.create_gallery("h", encoder_digest="model", dimension=4).result()
        with pytest.raises(GalleryExists):
            galleries.create_gallery("h", encoder_digest="model", dimension=4).result()
        galleries.record([Event(DOOR, "identify", "g", decisions=[Decision("identified", "Zoë", 0.5)])]).result()
    entries = told(tmp_path)
    assert [one["did"] for one in entries] == [
        *("create-gallery", "set-threshold", "set-least-gap", "set-approximation", "set-approximation"),
        *(
            "set-quality-policy",
            "set-doubt-policy",
            "set-decided-by",
            "set-target-fpir",
            "set-fusion",
            "enroll",
            "add-negative",
            "delete-negative",
        ),
        *("delete", "set-retention", "delete", "delete-gallery", "create-gallery", "identify"),
    ]
    assert [one["number"] for one in entries] == list(range(1, 20))
    assert {(one["who"], one["from"]) for one in entries} == {DOOR_TOLD}
    assert [one["time"] for one in entries] == sorted(one["time"] for one in entries)
    threshold, enrolled = entries[1], entries[10]
    assert [one["kind"] for one in entries[3:5]] == ["approximate:0.99", "flat"]
    assert (threshold["tau"], threshold["tau_version"], threshold["calibrated"]) == (0.25, 1, True)
    assert (enrolled["subject"], enrolled["model"], enrolled["examples"], enrolled["revision"]) == (
        "Zoë",
        "model",
        2,
        10,
    )
    assert entries[13]["encoding"] == "1"
    assert entries[13]["subject_deleted"] is False
    assert entries[15]["subject_deleted"] is True
    assert entries[-1]["decisions"] == [{"outcome": "identified", "subject": "Zoë", "score": 0.5}]
    assert not any("label" in line for line in read_trail(tmp_path))
    assert all(line.isascii() for line in read_trail(tmp_path))
    assert verify_trail(tmp_path) == []
    assert list(check_directory(tmp_path, "")) == []


DOOR_TOLD = (DOOR.name, DOOR.address)


def test_nothing_is_told_where_nobody_acts(tmp_path: Path) -> None:
    acting.set(None)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
    assert told(tmp_path) == []
    assert verify_trail(tmp_path) == []


def test_who_is_deleted_since_the_time_is_over_is_told(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path, settings=IndexSettings(sweep_every_seconds=0.01)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        galleries.enroll("g", "s", VECTORS[:1], retention=Retention(1.0)).result()
        until(lambda: not galleries.list_subjects("g").subjects)
    last = told(tmp_path)[-1]
    assert (last["who"], last["did"], last["subject"]) == ("oneglance", "expire", "s")


def test_names_of_subjects_can_be_hashed(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path, settings=IndexSettings(audit_subjects="hashed")) as galleries:
        for gallery in ("g", "h"):
            galleries.create_gallery(gallery, encoder_digest="e", dimension=4).result()
            galleries.enroll(gallery, "Zoë", VECTORS[:1]).result()
        galleries.record([Event(DOOR, "identify", "g", decisions=[Decision("identified", "Zoë", 0.5)])]).result()
    _, in_g, _, in_h, identified = told(tmp_path)
    assert in_g["subject"].startswith("hmac:")
    assert len(in_g["subject"]) == 5 + 32
    assert identified["decisions"][0]["subject"] == in_g["subject"] != in_h["subject"]
    assert not any("Zo" in line for line in read_trail(tmp_path))


def change(data_dir: Path, *statements: str) -> None:
    db = sqlite3.connect(data_dir / "store.sqlite3")
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


SWAP = (
    "UPDATE audit SET number = 99 WHERE number = 2",
    "UPDATE audit SET number = 2 WHERE number = 3",
    "UPDATE audit SET number = 3 WHERE number = 99",
)


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (["UPDATE audit SET entry = replace(entry, 's1', 's9') WHERE number = 3"], "entry 3 "),
        (["UPDATE audit SET hash = zeroblob(32) WHERE number = 2"], "entry 2 "),
        (["DELETE FROM audit WHERE number = 3"], "entry 3 "),
        (["DELETE FROM audit WHERE number = 1"], "entry 1 "),
        (SWAP, "entry 2 "),
        (["DELETE FROM audit WHERE number = 5"], "ends with entry 4"),
        (["DELETE FROM audit"], "ends with entry 0"),
        (["INSERT INTO audit SELECT 6, entry, hash FROM audit WHERE number = 5"], "entry 6 "),
        (["UPDATE audit_head SET last = 4, hash = (SELECT hash FROM audit WHERE number = 4)"], "head"),
        (["UPDATE audit_head SET pruned = 1, pruned_hash = (SELECT hash FROM audit WHERE number = 1)"], "head"),
        (["UPDATE audit_head SET signature = zeroblob(64)"], "head"),
        (["DELETE FROM audit_head"], "0 heads"),
        (["INSERT INTO audit_head SELECT * FROM audit_head"], "2 heads"),
    ],
)
def test_any_edit_deletion_or_reordering_is_told(data_dir: Path, statements: list[str], named: str) -> None:
    change(data_dir, *statements)
    assert named in verify_trail(data_dir)[0]
    assert any(named in line for line in check_directory(data_dir, ""))


def test_who_chains_all_anew_has_not_signed(data_dir: Path) -> None:
    from oneglance_index.store.trail import chained

    db = sqlite3.connect(data_dir / "store.sqlite3")
    rows = db.execute("SELECT number, entry FROM audit ORDER BY number").fetchall()
    (before,) = db.execute("SELECT pruned_hash FROM audit_head").fetchone()
    for number, entry in rows:
        forged = entry.replace("s2", "s7")
        before = chained(before, forged)
        db.execute("UPDATE audit SET entry = ?, hash = ? WHERE number = ?", (forged, before, number))
    db.execute("UPDATE audit_head SET hash = ?", (before,))
    db.commit()
    db.close()
    (fault,) = verify_trail(data_dir)
    assert "isn't what was signed" in fault
    with pytest.raises(StoreDamaged, match="audit trail"):
        LocalGalleries.open(data_dir)


def test_an_older_copy_is_told_by_a_head_that_was_kept(data_dir: Path, tmp_path: Path) -> None:
    early = Path(shutil.copytree(data_dir, tmp_path / "early"))
    with LocalGalleries.open(data_dir) as galleries:
        galleries.enroll("g", "later", VECTORS[:1] * 2).result()
    *_, kept = export_trail(data_dir)
    assert verify_trail(data_dir, kept_head=kept) == []
    assert verify_trail(early) == []
    (fault,) = verify_trail(early, kept_head=kept)
    assert "entry 6 " in fault


def test_an_export_verifies_by_itself(data_dir: Path) -> None:
    key = (data_dir / "receipts.pub").read_text()
    exported = list(export_trail(data_dir))
    assert len(exported) == 6
    assert json.loads(exported[1])["hash"]
    assert verify_export(exported, key) == []
    assert verify_export([line + "\n" for line in exported], key) == []
    for spoiled, named in (
        (exported[:2] + exported[3:], "entry 3 "),
        ([exported[1], exported[0], *exported[2:]], "entry 1 "),
        (exported[:4] + exported[5:], "ends with entry 4"),
        ([line.replace("s1", "s2") for line in exported], "entry 3 "),
        ([*exported[:-1], exported[-1].replace('"last":5', '"last":6')], "entry 5, not with 6"),
    ):
        assert named in verify_export(spoiled, key)[0]
    for wrong in ([], ["x"], [*exported[:-1], "{}"], ["[" * 100_000, exported[-1]]):
        with pytest.raises(TrailInvalid):
            verify_export(wrong, key)
    with pytest.raises(TrailInvalid):
        verify_export(exported, "zz")


def test_what_is_pruned_is_told_and_the_rest_is_a_chain(data_dir: Path) -> None:
    before = list(export_trail(data_dir))
    settings = IndexSettings(audit_days=1e-9, sweep_every_seconds=0.01)
    with LocalGalleries.open(data_dir, settings=settings) as galleries:
        until(lambda: is_pruned(data_dir))
        assert told(data_dir)[0]["up_to"] == 5
        assert verify_trail(data_dir) == []
        galleries.set_threshold("g", 0.5).result()
    assert verify_trail(data_dir) == []
    assert verify_trail(data_dir, kept_head=before[-1]) == []
    with LocalGalleries.open(data_dir) as galleries:
        galleries.set_threshold("g", 0.5).result()
    assert told(data_dir)[-1]["number"] == 8
    assert verify_trail(data_dir) == []


def test_a_change_that_can_not_be_told_does_not_happen(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Trail) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with LocalGalleries.open(data_dir) as galleries:
        with monkeypatch.context() as patch:
            patch.setattr(Trail, "write", full)
            with pytest.raises(StoreFull):
                galleries.enroll("g", "untold", VECTORS[:1]).result()
            with pytest.raises(StoreFull):
                galleries.record([Event(DOOR, "identify")]).result()
        assert "untold" not in {subject.id for subject in galleries.list_subjects("g").subjects}
        galleries.enroll("g", "told", VECTORS[:1]).result()
    assert [one["subject"] for one in told(data_dir)[5:]] == ["told"]
    assert verify_trail(data_dir) == []


def test_another_process_that_writes_to_it_is_noticed(data_dir: Path) -> None:
    with LocalGalleries.open(data_dir) as galleries:
        change(data_dir, "UPDATE audit_head SET last = 4, hash = (SELECT hash FROM audit WHERE number = 4)")
        with pytest.raises(StoreDamaged, match="audit trail"):
            galleries.set_threshold("g", 0.5).result()


def test_entries_that_are_told_are_there_after_a_kill(tmp_path: Path) -> None:
    if (child := os.fork()) == 0:
        galleries = LocalGalleries.open(tmp_path)
        galleries.record([Event(DOOR, "identify", details={"i": i}) for i in range(1000)]).result()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert [one["i"] for one in told(tmp_path)] == list(range(1000))
    assert verify_trail(tmp_path) == []


@pytest.mark.parametrize(
    ("statements", "kept"),
    [
        (["UPDATE audit SET entry = replace(entry, 's0', 's9') WHERE number = 2"], [3, 4, 5, 6]),
        (["DELETE FROM audit WHERE number = 1"], [3, 4, 5, 6]),
        (["DELETE FROM audit WHERE number = 5"], [6]),
        (["DELETE FROM audit_head"], [6]),
        (["DELETE FROM audit"], [6]),
    ],
)
def test_a_repair_goes_on_with_a_chain_and_tells_what_is_missing(
    data_dir: Path, statements: list[str], kept: list[int]
) -> None:
    change(data_dir, *statements)
    _, lost = repair(data_dir, "")
    assert any("audit trail" in line for line in lost)
    assert verify_trail(data_dir) == []
    assert [one["number"] for one in told(data_dir)] == kept
    last = told(data_dir)[-1]
    assert (last["who"], last["did"]) == ("oneglance", "repair")
    assert last["of_the_trail"]
    with LocalGalleries.open(data_dir) as galleries:
        galleries.set_threshold("g", 0.5).result()
    assert verify_trail(data_dir) == []


def test_times_are_of_one_length(tmp_path: Path) -> None:
    now = time.time()
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.record([Event(DOOR, "identify", time=moment) for moment in (0.0, 1.5, now, float(int(now)))]).result()
    assert len({len(one["time"]) for one in told(tmp_path)}) == 1


def test_a_reader_that_pauses_holds_up_nothing_and_reads_what_there_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oneglance_index.store.trail_files._AT_ONCE", 2)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for number in range(1, 5):
            galleries.set_threshold("g", number / 10).result()
        exported = export_trail(tmp_path)
        read = [next(exported)]  # and the pager waits
        for number in range(200):
            galleries.set_threshold("g", number / 100).result()
        galleries.compact()
        assert (tmp_path / "store.sqlite3-wal").stat().st_size == 0
        read += exported
    assert [json.loads(line).get("number") for line in read] == [1, 2, 3, 4, 5, None]
    assert verify_export(read, (tmp_path / "receipts.pub").read_text()) == []
    assert verify_trail(tmp_path, kept_head=read[-1]) == []


def test_a_reader_whose_next_entries_are_removed_meanwhile_is_told(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oneglance_index.store.trail_files._AT_ONCE", 2)
    exported = export_trail(data_dir)
    next(exported)
    with LocalGalleries.open(data_dir, settings=IndexSettings(audit_days=1e-9, sweep_every_seconds=0.01)):
        until(lambda: is_pruned(data_dir))
        with pytest.raises(TrailInvalid, match="too old"):
            list(exported)
