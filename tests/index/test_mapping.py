"""Mapped encodings in the store, step by step: which pairs a map may be fitted on, who is mapped, what the trail tells,
and kill -9 at any moment. The model of test_succession.py has the rest."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oneglance_core.mapping import EncodingMap
from oneglance_index import (
    HoldsMapped,
    KnownSubjects,
    LocalGalleries,
    MoveConflict,
    MoveNotFound,
    Note,
    check_directory,
    read_trail,
    repair,
)
from oneglance_index.records import UNKNOWN_LOSS, Mapped
from oneglance_index.store import ciphers, queries, schema
from oneglance_index.store.directory import DATABASE_NAME
from oneglance_index.store.ledger import Ledger, seal_store
from oneglance_index.store.seals import MAPS
from tests.acting import acting_as
from tests.index import asking, mapping_child
from tests.index.mapping_child import SUBJECTS, a_map, encoding_of
from tests.killing import running

ROUNDS = 4
MOST_STEPS = 60
MOMENT_SECONDS = 0.01
OLD = np.eye(3, dtype=np.float32)
NEW = np.eye(5, dtype=np.float32)


def moving(folder: Path, subjects: int = 3, **options: object) -> LocalGalleries:
    """ "g", which has subjects, moves to "s"."""
    galleries = LocalGalleries.open(folder)
    galleries.create_gallery("g", encoder_digest="old", dimension=3, **options).result()  # type: ignore[arg-type]
    for i in range(subjects):
        galleries.enroll("g", f"s{i}", encoding_of(f"s{i}", 3)).result()
    galleries.start_move("g", "s", encoder_digest="new", dimension=5).result()
    return galleries


def test_pairs_are_what_was_enrolled_in_both_at_once_or_has_one_key(tmp_path: Path) -> None:
    with moving(tmp_path, 0) as galleries:

        def enroll(gallery: str, subject: str, rows: list[int], *keys: str) -> None:
            notes = [Note(key) for key in keys] or None
            if gallery == "both":
                others = {"new": NEW[rows]}
                galleries.enroll("g", subject, OLD[rows], encoder_digest="old", others=others, notes=notes).result()
            else:
                vectors = (OLD if gallery == "g" else NEW)[rows]
                galleries.enroll(gallery, subject, vectors, notes=notes).result()

        enroll("both", "a", [0, 1])
        enroll("both", "a", [2])
        enroll("both", "b", [0], "one")
        enroll("s", "b", [3], "two")
        enroll("g", "c", [0, 1, 2], "x", "y", "z")
        enroll("s", "c", [4, 2, 0], "w", "z", "x")
        enroll("g", "d", [1])
        enroll("s", "d", [1])
        enroll("g", "e", [1])
        galleries.fill_by_map("g", *a_map(1)).result()
        assert galleries.get_subject("s", "e").mapped
        first = galleries.list_pairs("s", page_size=2)
        rest = galleries.list_pairs("g", after=first.next_after)
        assert (first.next_after, rest.next_after) == ("b", None)
        found = {one.subject_id: (one.old, one.new) for one in (*first.subjects, *rest.subjects)}
        assert found.keys() == {"a", "b", "c", "d"}
        for subject, old, new in (("a", [0, 1, 2], [0, 1, 2]), ("b", [0], [0]), ("c", [0, 2], [0, 2]), ("d", [], [])):
            np.testing.assert_array_equal(found[subject][0], OLD[old])
            np.testing.assert_array_equal(found[subject][1], NEW[new])
        galleries.cut_over("g").result()
        again = galleries.list_pairs("g").subjects
        assert [(one.subject_id, one.old.shape[1], one.new.shape[1]) for one in again] == [
            (name, 3, 5) for name in "abcd"
        ], "old is the origin's, whoever answers"
        galleries.end_move("g").result()
        with pytest.raises(MoveNotFound):
            galleries.list_pairs("g")


def test_of_what_was_enrolled_at_once_nothing_is_paired_once_one_gallery_lacks_some(tmp_path: Path) -> None:
    with moving(tmp_path, 0) as galleries:
        for row in (0, 1):
            rows = OLD[[row, 2]], {"new": NEW[[row, 2]]}
            galleries.enroll("g", "a", rows[0], encoder_digest="old", others=rows[1]).result()
        first = galleries.get_subject("s", "a").encodings[0]
        galleries.delete_encoding("s", "a", encoding_id=first.id).result()
        (pairs,) = galleries.list_pairs("g").subjects
        np.testing.assert_array_equal(pairs.old, OLD[[1, 2]])
        np.testing.assert_array_equal(pairs.new, NEW[[1, 2]])


def test_what_can_not_be_mapped_is_left_and_told(tmp_path: Path) -> None:
    with moving(tmp_path) as galleries:
        made, loss = a_map(1)
        nothing = replace(made, weights=np.zeros((3, 5)), offset=np.zeros(5))
        step = galleries.fill_by_map("g", nothing, loss).result()
        assert (step.mapped, step.refused, step.next_after) == (0, 3, None)
        assert galleries.get_gallery("s").mapped is None
        assert galleries.move_state("g").left == 3
        wrong = replace(loss, to_encoder="another")
        assert isinstance(galleries.fill_by_map("g", made, wrong).exception(), MoveConflict)
        assert isinstance(galleries.fill_by_map("s", made, loss).exception(), MoveConflict), "it waits"
        assert isinstance(galleries.fill_by_map("g", made, loss, most=0).exception(), ValueError)


def test_what_was_mapped_once_is_not_mapped_again(tmp_path: Path) -> None:
    """A move of a gallery that holds mapped encodings: of those nobody knows what two maps would cost."""
    with moving(tmp_path) as galleries:
        galleries.fill_by_map("g", *a_map(1)).result()
        galleries.enroll("s", "s2", encoding_of("s2", 5)).result()
        galleries.cut_over("g").result()
        galleries.end_move("g").result()
        galleries.start_move("g", "t", encoder_digest="newest", dimension=2).result()
        galleries.enroll("g", "s1", encoding_of("s1", 5), encoder_digest="new", others={"newest": NEW[:1, :2]}).result()
        made = EncodingMap("ridge", 1.0, np.eye(5, 2), np.zeros(2), unit_norm=False)
        loss = replace(a_map(1)[1], from_encoder="new", to_encoder="newest")
        step = galleries.fill_by_map("g", made, loss).result()
        assert (step.mapped, step.refused) == (1, 0)
        assert [(one.subject_id, one.mapped) for one in galleries.list_left("g").subjects] == [
            ("s0", False),
            ("s2", True),
        ]
        assert [one.subject_id for one in galleries.list_pairs("g").subjects] == ["s1"]


def test_the_trail_tells_what_was_mapped_and_no_export_takes_it(tmp_path: Path) -> None:
    with acting_as("key:admin"), moving(tmp_path) as galleries:
        galleries.fill_by_map("g", *a_map(1), most=2).result()
        with pytest.raises(HoldsMapped, match="2 subjects"):
            galleries.export_step("s", KnownSubjects.none(), 1 << 20)
    (told,) = [entry for entry in map(json.loads, read_trail(tmp_path)) if entry["did"] == "fill-by-map"]
    assert (told["gallery"], told["mapped"], told["map"]) == ("g", 2, "1")
    assert (told["probes"], told["missed"], told["missed_true"]) == (80, 8, 2)


def test_a_store_that_is_put_right_knows_who_is_mapped(tmp_path: Path) -> None:
    with moving(tmp_path) as galleries:
        galleries.fill_by_map("g", *a_map(1)).result()
        galleries.enroll("s", "s1", encoding_of("s1", 5)).result()
        galleries.back_up(tmp_path / "backup")
        galleries.enroll("s", "s2", encoding_of("s2", 5)).result()
        loss = galleries.get_gallery("s").mapped
    _, lost = repair(tmp_path, "", tmp_path / "backup")
    assert lost == []
    with LocalGalleries.open(tmp_path) as galleries:
        assert galleries.get_gallery("s").mapped == loss
        assert [one.mapped for one in galleries.list_subjects("s").subjects] == [True, False, False]


@pytest.mark.parametrize("damage", ["UPDATE mapped SET version = 7", "UPDATE mapped SET generation = 1"])
def test_whose_mark_was_damaged_is_mapped_still(tmp_path: Path, damage: str) -> None:
    with moving(tmp_path) as galleries:
        galleries.fill_by_map("g", *a_map(1)).result()
        galleries.enroll("s", "s1", encoding_of("s1", 5)).result()
    change(tmp_path, damage)
    repair(tmp_path, "")
    assert list(check_directory(tmp_path, "")) == []
    with LocalGalleries.open(tmp_path) as galleries:
        assert [one.mapped for one in galleries.list_subjects("s").subjects] == [True, False, True]
        assert galleries.get_gallery("s").mapped is not None


def test_where_what_a_map_costs_is_lost_its_encodings_are_told_as_mapped(tmp_path: Path) -> None:
    with moving(tmp_path) as galleries:
        galleries.fill_by_map("g", *a_map(1)).result()
    change(tmp_path, "DELETE FROM maps")
    _, lost = repair(tmp_path, "")
    assert any("costs" in line for line in lost)
    assert list(check_directory(tmp_path, "")) == []
    with LocalGalleries.open(tmp_path) as galleries:
        told = galleries.get_gallery("s").mapped
        assert told is not None
        assert (told.subjects, told.loss) == (3, UNKNOWN_LOSS)
        found = asking.nearest(galleries, "s", NEW[:1], 3, encoder_digest="new")
        assert (found.mapped, [one.mapped for one in found.candidates[0]]) == (told, [True] * 3)
        galleries.fill_by_map("g", *a_map(2)).result()
        again = galleries.get_gallery("s").mapped
        assert again is not None
        assert (again.subjects, again.outdated, again.loss) == (3, 0, a_map(2)[1])


def test_reading_a_gallery_looks_at_no_mapped_subject(tmp_path: Path) -> None:
    """There may be a million: 48 ms at each reading, and at each step of filling."""
    said: list[str] = []

    def read(galleries: LocalGalleries) -> Mapped | None:
        def told(db: sqlite3.Connection) -> Mapped | None:
            db.set_trace_callback(said.append)
            try:
                return queries.gallery(db, "s").gallery.mapped
            finally:
                db.set_trace_callback(None)

        return galleries._store.read(told)

    with moving(tmp_path, 6) as galleries:
        for number, most in ((1, 4), (1, 2), (2, 3)):
            galleries.fill_by_map("g", *a_map(number), most=most).result()
        found = read(galleries)
        assert found is not None
        assert (found.subjects, found.outdated) == (6, 3)
        galleries.enroll("s", "s0", encoding_of("s0", 5)).result()  # true ones
        galleries.delete_subject("s", "s5").result()
        galleries.merge_subjects("g", "s1", "s2").result()
        found = read(galleries)
        assert found is not None
        assert (found.subjects, found.outdated) == (3, 2)
    assert any("FROM maps" in one for one in said)
    assert not any("FROM mapped" in one for one in said)


def test_a_store_that_does_not_count_them_yet_begins_to(tmp_path: Path) -> None:
    with moving(tmp_path, 4) as galleries:
        galleries.fill_by_map("g", *a_map(1)).result()
    with writing(tmp_path) as db:
        newest = queries.newest_map(db, queries.place(db, "s").generation)
        assert newest is not None
        assert newest.made == {1: 4}
        ledger = Ledger(db, queries.place(db, "s"))
        ledger.update(MAPS, newest.row, loss=queries.map_text(newest.loss, None))
        ledger.close()
        seal_store(db)
    with LocalGalleries.open(tmp_path) as galleries:
        before = galleries.get_gallery("s").mapped
        assert before is not None
        assert before.subjects == 4
        galleries.delete_subject("s", "s1").result()
        after = galleries.get_gallery("s").mapped
        assert after is not None
        assert (after.subjects, after.outdated) == (3, 0)
    with writing(tmp_path) as db:
        newest = queries.newest_map(db, queries.place(db, "s").generation)
        assert newest is not None
        assert newest.made == {1: 3}
    assert list(check_directory(tmp_path, "")) == []


def test_a_wrong_count_is_found(tmp_path: Path) -> None:
    with moving(tmp_path, 4) as galleries:
        galleries.fill_by_map("g", *a_map(1)).result()
    with writing(tmp_path) as db:
        newest = queries.newest_map(db, queries.place(db, "s").generation)
        assert newest is not None
        ledger = Ledger(db, queries.place(db, "s"))
        ledger.update(MAPS, newest.row, loss=queries.map_text(newest.loss, {1: 5}))
        ledger.close()
        seal_store(db)
    assert any("other mapped subjects than it counts" in line for line in check_directory(tmp_path, ""))
    repair(tmp_path, "")
    assert list(check_directory(tmp_path, "")) == []


@contextlib.contextmanager
def writing(data_dir: Path) -> Iterator[ciphers.Connection]:
    """A transaction of the store's own tables."""
    master = bytes.fromhex((data_dir / "master.key").read_text())
    db = schema.connect_writer(data_dir / DATABASE_NAME, lambda make: [master])
    db.execute("BEGIN IMMEDIATE")
    yield db
    db.execute("COMMIT")
    db.close()
    db.keys.close()


def change(data_dir: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(data_dir / DATABASE_NAME)) as db, db:
        db.execute(statement)


@pytest.mark.timeout(600)
def test_it_goes_on_after_kills_at_any_moment(tmp_path: Path) -> None:
    rng = random.Random(1)
    data_dir = tmp_path / "data"
    moving(data_dir, SUBJECTS).close()
    steps = 0
    for number in range(ROUNDS):
        with running(mapping_child.main, str(data_dir), str(number)) as child:
            assert child.said.readline() == b"try open\n"
            for _ in range(rng.randrange(1, MOST_STEPS)):
                assert child.said.readline() == b"step\n"
                steps += 1
            time.sleep(rng.uniform(0, MOMENT_SECONDS))
            child.kill()
        assert list(check_directory(data_dir, "")) == []
        with LocalGalleries.open(data_dir) as galleries:
            check(galleries)
    assert steps > 2 * SUBJECTS // 7, "hardly anything was mapped twice"
    with LocalGalleries.open(data_dir) as galleries:
        after: str | None = None
        while (after := galleries.fill_by_map("g", *a_map(0), after=after).result().next_after) is not None:
            pass
        state = galleries.move_state("g")
        assert state.left == 0
        told = galleries.get_gallery("s").mapped
        assert told is not None
        assert (told.subjects, told.outdated, told.loss) == (state.mapped, 0, a_map(0)[1])
        check(galleries)


def check(galleries: LocalGalleries) -> None:
    """Each subject in "s" is found by the encoding that it has, mapped or true, and told as what it is."""
    told = galleries.get_gallery("s").mapped
    subjects = galleries.list_subjects("s", page_size=1000).subjects
    likenesses = galleries.list_likenesses("s", page_size=1000).subjects
    assert (0 if told is None else told.subjects) == sum(one.mapped for one in subjects)
    for subject, like in zip(subjects, likenesses, strict=True):
        true = (like.vectors == encoding_of(subject.id, 5)).all()
        assert subject.mapped != true, subject.id
        found = asking.nearest(galleries, "s", like.vectors, 40, encoder_digest="new")
        own = [one.mapped for one in found.candidates[0] if one.subject_id == subject.id and one.distance == 0]
        assert own == [subject.mapped] * len(own)
