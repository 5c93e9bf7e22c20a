"""Crops of pictures: kept where a gallery keeps them, gone with what they belong to, and never half moved."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_index import (
    MAX_CROP_BYTES,
    EncoderMismatch,
    Filling,
    GalleryWaits,
    LeftCrops,
    LocalGalleries,
    Note,
    StoreDamaged,
    SubjectChanged,
    SubjectNotMoving,
    back_up,
    check_directory,
    check_file,
    repair,
    restore,
)
from tests.index.moving import bring, take
from tests.waiting import until

CROP = bytes(range(256)) * 40


def vectors(count: int, dimension: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(count).standard_normal((count, dimension), dtype=np.float32)


@pytest.fixture
def galleries(tmp_path: Path) -> Iterator[LocalGalleries]:
    with LocalGalleries.open(tmp_path / "data") as opened:
        opened.create_gallery("g", encoder_digest="old", dimension=3, keep_crops=True).result()
        opened.create_gallery("plain", encoder_digest="old", dimension=3).result()
        yield opened


def enroll(galleries: LocalGalleries, subject: str, *crops: bytes, gallery_id: str = "g") -> tuple[str, ...]:
    made = galleries.enroll(gallery_id, subject, vectors(len(crops)), crops=crops).result()
    return made.encoding_ids


def move(galleries: LocalGalleries, gallery_id: str = "g") -> None:
    galleries.start_move(gallery_id, "new", encoder_digest="new", dimension=4).result()


def left(galleries: LocalGalleries) -> dict[str, LeftCrops]:
    return {one.subject_id: one for one in galleries.list_left_crops("g").subjects}


def crops(one: LeftCrops) -> list[bytes]:
    return [each.crop for each in one.encodings]


def fill(galleries: LocalGalleries, one: LeftCrops, gallery_id: str = "new", encoder: str = "new") -> None:
    taken = [each for each in one.encodings if each.crop]
    galleries.enroll(
        *(gallery_id, one.subject_id, vectors(len(taken), 4)),
        encoder_digest=encoder,
        notes=[each.note for each in taken],
        crops=[each.crop for each in taken],
        filling=Filling(tuple(each.encoding_id for each in taken), one.beside),
    ).result()


def test_only_a_gallery_that_was_told_to_keeps_any(galleries: LocalGalleries) -> None:
    assert galleries.get_gallery("g").keep_crops
    assert not galleries.get_gallery("plain").keep_crops
    enroll(galleries, "s", b"one", b"")
    enroll(galleries, "s", b"two", gallery_id="plain")
    move(galleries)
    assert crops(left(galleries)["s"]) == [b"one", b""]
    galleries.end_move("g").result()
    move(galleries, "plain")
    assert galleries.list_left_crops("plain").subjects == ()
    assert galleries.set_keep_crops("plain", True).result().keep_crops
    enroll(galleries, "t", b"three", gallery_id="plain")
    assert [one.subject_id for one in galleries.list_left_crops("plain").subjects] == ["t"]


def test_arguments_that_make_no_sense_are_told(galleries: LocalGalleries) -> None:
    for given in ([b"one"], [b"", b"x" * (MAX_CROP_BYTES + 1)]):
        with pytest.raises(ValueError, match="crop"):
            galleries.enroll("g", "s", vectors(2), crops=given).result()
    galleries.enroll("g", "s", vectors(2), crops=[b"", b"x" * MAX_CROP_BYTES]).result()


def test_a_subject_keeps_no_more_than_so_many_bytes(galleries: LocalGalleries) -> None:
    most = (4 << 20) // (MAX_CROP_BYTES + 28)
    whole = [bytes([place]) * MAX_CROP_BYTES for place in range(most)]
    enroll(galleries, "s", *whole[:-1])
    enroll(galleries, "s", whole[-1], b"y" * MAX_CROP_BYTES)
    enroll(galleries, "t", b"z" * MAX_CROP_BYTES)
    galleries.merge_subjects("g", "t", "s").result()
    move(galleries)
    assert crops(left(galleries)["s"]) == [*whole, b"", b""]


def test_switched_off_those_of_both_galleries_go(galleries: LocalGalleries) -> None:
    for subject in ("s", "t"):
        enroll(galleries, subject, b"one", CROP)
    move(galleries)
    fill(galleries, left(galleries)["s"])
    before = galleries.get_gallery("g")
    after = galleries.set_keep_crops("g", False).result()
    assert (after.keep_crops, after.revision) == (False, before.revision + 1)
    assert not galleries.get_gallery("new").keep_crops
    assert galleries.move_state("g").with_crops == 0
    galleries.set_keep_crops("g", True).result()
    assert left(galleries) == {}
    assert [len(one.encodings) for one in galleries.list_subjects("g").subjects] == [2, 2]


def test_it_is_switched_in_the_one_that_answers_alone(galleries: LocalGalleries) -> None:
    enroll(galleries, "s", b"one")
    move(galleries)
    fill(galleries, left(galleries)["s"])
    for change in (galleries.cut_over, galleries.roll_back, galleries.end_move):
        for keep in (False, True):
            with pytest.raises(GalleryWaits):
                galleries.set_keep_crops("new", keep).result()
        assert galleries.get_gallery("new").keep_crops
        change("g").result()


def test_whoever_is_filled_has_keys_labels_and_crops(galleries: LocalGalleries) -> None:
    notes = [Note("front", "a.png"), Note("", "b.png")]
    galleries.enroll("g", "s", vectors(2), crops=[b"one", b"two"], notes=notes, labels={"n": "1"}).result()
    enroll(galleries, "t", b"three")
    move(galleries)
    assert galleries.move_state("g").with_crops == 2
    fill(galleries, left(galleries)["s"])
    assert left(galleries).keys() == {"t"}
    assert galleries.move_state("g").with_crops == 1
    filled = galleries.get_subject("new", "s")
    assert [one.note for one in filled.encodings] == notes
    assert filled.labels == {"n": "1"}
    galleries.cut_over("g", leave=True).result()
    galleries.end_move("g").result()
    galleries.start_move("g", "third", encoder_digest="third", dimension=4).result()
    assert crops(left(galleries)["s"]) == [b"one", b"two"]


def test_what_both_encoders_made_is_not_made_again(galleries: LocalGalleries) -> None:
    enroll(galleries, "s", b"one")
    move(galleries)
    galleries.enroll("g", "s", vectors(1), encoder_digest="old", crops=[b"two"], others={"new": vectors(1, 4)}).result()
    (one,) = left(galleries)["s"].encodings
    assert one.crop == b"one"
    fill(galleries, left(galleries)["s"])
    assert left(galleries) == {}
    assert galleries.move_state("g").fewer_encodings == 0


CHANGES = {
    "an encoding deleted": lambda g, ids: g.delete_encoding("g", "s", ids[0]),
    "moved": lambda g, ids: g.move_encodings("g", "s", "t", encoding_id=ids[0]),
    "merged": lambda g, ids: g.merge_subjects("g", "t", "s"),
    "replaced": lambda g, ids: g.enroll("g", "s", vectors(1), on_existing="replace"),
    "filled": lambda g, ids: g.enroll("new", "s", vectors(1, 4)),
    "deleted": lambda g, ids: g.delete_subject("g", "s"),
    "deleted by its id there": lambda g, ids: g.rename_subject("g", "s", "u"),
    "cut over": lambda g, ids: g.cut_over("g", leave=True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_meanwhile_is_not_filled(galleries: LocalGalleries, change: str) -> None:
    ids = enroll(galleries, "s", b"one", b"two")
    enroll(galleries, "t", b"three")
    move(galleries)
    seen = left(galleries)["s"]
    CHANGES[change](galleries, ids).result()
    before = galleries.list_subjects("new").subjects
    if change == "merged":  # what was looked at is there yet, and more
        fill(galleries, seen)
        assert crops(left(galleries)["s"]) == [b"three"]
        return
    with pytest.raises((SubjectChanged, SubjectNotMoving, EncoderMismatch)):
        fill(galleries, seen)
    assert galleries.list_subjects("new").subjects == before


def test_a_crop_that_was_deleted_meanwhile_does_not_come_back(galleries: LocalGalleries) -> None:
    """Though crops are kept again by then."""
    enroll(galleries, "s", b"one")
    move(galleries)
    seen = left(galleries)["s"]
    galleries.set_keep_crops("g", False).result()
    galleries.set_keep_crops("g", True).result()
    with pytest.raises(SubjectChanged):
        fill(galleries, seen)
    assert galleries.list_subjects("new").subjects == ()


def test_a_gallery_that_moves_no_more_is_not_filled(galleries: LocalGalleries) -> None:
    enroll(galleries, "s", b"one")
    move(galleries)
    seen = left(galleries)["s"]
    galleries.end_move("g", keep=True).result()
    with pytest.raises(SubjectChanged):
        fill(galleries, seen)


def test_a_page_is_bounded_in_bytes(galleries: LocalGalleries) -> None:
    for place in range(5):
        enroll(galleries, f"s{place}", CROP, CROP)
    move(galleries)
    galleries.settings = galleries.settings.model_copy(update={"max_page_bytes": 2 * len(CROP)})
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = galleries.list_left_crops("g", after=after or None)
        assert len(page.subjects) == 1
        found += [one.subject_id for one in page.subjects]
        after = page.next_after
    assert found == [f"s{place}" for place in range(5)]


def test_no_crop_stands_in_the_clear(tmp_path: Path, galleries: LocalGalleries) -> None:
    enroll(galleries, "s", CROP)
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert any(path.name == "store.sqlite3-wal" for path in files)
    assert not [path for path in files if CROP[:64] in path.read_bytes()]


def test_a_backup_has_them_and_an_export_has_not(tmp_path: Path, galleries: LocalGalleries) -> None:
    enroll(galleries, "s", CROP)
    copy = tmp_path / "copy"
    back_up(tmp_path / "data" / "store.sqlite3", copy)
    exported = take(galleries)
    bring(galleries, exported, "copy")
    assert not galleries.get_gallery("copy").keep_crops
    restore(copy, tmp_path / "other", f"file:{tmp_path / 'data' / 'master.key'}")
    (tmp_path / "other" / "master.key").write_bytes((tmp_path / "data" / "master.key").read_bytes())
    with LocalGalleries.open(tmp_path / "other") as restored:
        move(restored)
        assert crops(left(restored)["s"]) == [CROP]


EDITS = {
    "edited": ("UPDATE crops SET picture = CAST(picture || x'00' AS BLOB)", False),
    "another's": (
        "UPDATE crops SET picture = (SELECT picture FROM crops WHERE encoding = 1) WHERE encoding = 2",
        False,
    ),
    "missing": ("DELETE FROM crops WHERE encoding = 2", True),
    "of another subject": ("UPDATE crops SET subject = 1 WHERE encoding = 2", False),
    "put back": ("UPDATE crops SET seal = seal + 1", True),
}


@pytest.mark.parametrize("edit", EDITS)
def test_damage_is_found(tmp_path: Path, edit: str) -> None:
    """At the start where rows don't add up, else when they are read; `oneglance check` finds it in any case."""
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="old", dimension=3, keep_crops=True).result()
        for subject in ("s", "t"):
            enroll(galleries, subject, CROP + subject.encode())
        move(galleries)
    statement, at_start = EDITS[edit]
    with sqlite3.connect(tmp_path / "store.sqlite3") as db:
        db.execute(statement)
    db.close()
    assert any("crops" in line or "rows" in line for line in check_file(tmp_path / "store.sqlite3"))
    assert list(check_directory(tmp_path, ""))
    if at_start:
        with pytest.raises(StoreDamaged):
            LocalGalleries.open(tmp_path)
    else:
        with LocalGalleries.open(tmp_path) as galleries, pytest.raises(StoreDamaged):
            galleries.list_left_crops("g")


def test_repair_keeps_what_is_sound_and_takes_the_rest_from_the_backup(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with LocalGalleries.open(data) as galleries:
        galleries.create_gallery("g", encoder_digest="old", dimension=3, keep_crops=True).result()
        for subject in ("s", "t", "gone"):
            enroll(galleries, subject, CROP + subject.encode())
        back_up(data / "store.sqlite3", tmp_path / "copy")
        galleries.delete_subject("g", "gone").result()
        enroll(galleries, "late", CROP)
    with sqlite3.connect(data / "store.sqlite3") as db:
        db.execute("UPDATE crops SET picture = x'00' WHERE encoding = 2")
        db.execute("UPDATE crops SET picture = x'00' WHERE encoding = 4")
    db.close()
    _, lost = repair(data, "", tmp_path / "copy")
    assert [line for line in lost if "crops" in line] == ["row 4 of crops: it was changed"]
    assert list(check_directory(data, "")) == []
    with LocalGalleries.open(data) as galleries:
        move(galleries)
        assert {name: crops(one) for name, one in left(galleries).items()} == {
            name: [CROP + name.encode()] for name in ("s", "t")
        }
        assert galleries.get_gallery("g").subjects == 3


def test_a_deleted_gallery_leaves_no_crop(tmp_path: Path, galleries: LocalGalleries) -> None:
    enroll(galleries, "s", CROP, CROP)
    path = tmp_path / "data" / "store.sqlite3"
    assert rows_in(path) == 2
    galleries.delete_gallery("g").result()
    until(lambda: rows_in(path) == 0)


def rows_in(path: Path) -> int:
    with sqlite3.connect(path) as db:
        (count,) = db.execute("SELECT COUNT(*) FROM crops").fetchone()
    db.close()
    return int(count)
