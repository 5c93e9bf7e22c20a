"""After an orderly stop rows aren't checked one by one at the start; after anything else they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import LocalGalleries, Search, StoreDamaged, StoreIOError
from oneglance_index.records import Integers
from oneglance_index.store import queries
from oneglance_index.store.schema import TOUCH
from oneglance_index.store.stopped import subjects_digest

VECTORS = np.eye(4, dtype=np.float32)
NAMES = ("aaaaaaaa", "bbbbbbbb", "cccccccc")
Act = Callable[[LocalGalleries], object]


def fill(data_dir: Path, *acts: Act) -> None:
    with LocalGalleries.open(data_dir) as galleries:
        for gallery, fusion in (("g", "nearest"), ("m", "mean")):
            galleries.create_gallery(gallery, encoder_digest="e", dimension=4, fusion=fusion).result()
            for name, vector in zip(NAMES, VECTORS, strict=False):
                galleries.enroll(gallery, name, vector[None], request_id=name).result()
            galleries.delete_subject(gallery, NAMES[0]).result()
        for act in acts:
            act(galleries)


def is_checked(data_dir: Path) -> bool:
    """Whether a start looks at the rows; and that it finds everybody."""
    real, checks = queries.all_subjects, 0

    def counting(db: sqlite3.Connection) -> dict[int, queries.Subjects]:
        nonlocal checks
        checks += 1
        return real(db)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries, "all_subjects", counting)
        with LocalGalleries.open(data_dir) as galleries:
            for gallery in ("g", "m"):
                (found,) = galleries.search_many(gallery, [Search(VECTORS[1:2], "e", 1)])
                assert found.candidates[0][0].subject_id == NAMES[1]  # type: ignore[union-attr]
    return checks > 0


def test_only_after_an_orderly_stop_rows_are_not_checked(tmp_path: Path) -> None:
    fill(tmp_path)
    assert not is_checked(tmp_path)
    (tmp_path / "stopped").unlink()
    assert is_checked(tmp_path)
    assert not is_checked(tmp_path)
    with LocalGalleries.open(tmp_path) as galleries:
        assert not (tmp_path / "stopped").exists()  # a process that dies leaves none
        galleries.enroll("g", "new", VECTORS[3:]).result()
        galleries.delete_subject("m", NAMES[2]).result()
        galleries.delete_gallery("m").result()
        galleries.create_gallery("m", encoder_digest="e", dimension=4, fusion="mean").result()
        galleries.enroll("m", NAMES[1], VECTORS[1:3]).result()
        galleries.rotate_keys("g")
        galleries.rotate_keys()
    assert not is_checked(tmp_path)


@pytest.mark.parametrize(
    "act",
    [
        lambda galleries: galleries.close(deadline_seconds=0),
        lambda galleries: write(galleries.data_dir),
        lambda galleries: fail_to_destroy(galleries),
    ],
    ids=["in a hurry", "another process wrote", "a key is left"],
)
def test_a_stop_that_is_not_orderly_says_nothing(tmp_path: Path, act: Act) -> None:
    fill(tmp_path, act)
    assert not (tmp_path / "stopped").exists()
    assert is_checked(tmp_path)


def fail_to_destroy(galleries: LocalGalleries) -> None:
    def fail() -> None:
        raise StoreIOError(galleries.data_dir, "the disk")

    galleries._store.keys.destroy_doomed = fail  # type: ignore[method-assign]
    assert galleries.delete_subject("g", NAMES[2]).exception() is not None


def write(data_dir: Path) -> None:
    with sqlite3.connect(data_dir / "store.sqlite3") as db:
        db.execute(TOUCH)
    db.close()


@pytest.mark.parametrize("file", ["store.sqlite3", "stopped"])
def test_a_byte_that_was_changed_since_shows(tmp_path: Path, file: str) -> None:
    fill(tmp_path)
    content = bytearray((tmp_path / file).read_bytes())
    content[60 if file == "stopped" else 96] ^= 1  # of the MAC; or of SQLite's own version, which it ignores
    (tmp_path / file).write_bytes(content)
    assert is_checked(tmp_path)


def test_what_was_changed_while_it_was_open_is_not_taken_for_right(tmp_path: Path) -> None:
    def rename(galleries: LocalGalleries) -> None:
        """Somebody, in table and index, in the file itself."""
        galleries.compact()  # all is in the file
        path = tmp_path / "store.sqlite3"
        content = path.read_bytes()
        assert NAMES[1].encode() in content
        with path.open("r+b") as file:
            file.write(content.replace(NAMES[1].encode(), b"bbbbxbbb"))

    fill(tmp_path, rename)
    assert (tmp_path / "stopped").exists()
    with pytest.raises(StoreDamaged):
        LocalGalleries.open(tmp_path)


def test_the_digest_tells_subjects_and_slots_apart() -> None:
    slots = {1: np.array([3, 1], np.int64)}
    digest = subjects_digest({1: {1: "a", 2: "bc"}}, slots)
    assert subjects_digest({1: {2: "bc", 1: "a"}}, {1: np.array([1, 3], np.int64)}) == digest
    others: list[tuple[dict[int, dict[int, str]], dict[int, Integers]]] = [
        ({1: {1: "ab", 2: "c"}}, slots),
        ({1: {1: "a", 3: "bc"}}, slots),
        ({1: {1: "a"}, 2: {2: "bc"}}, slots),
        ({1: {1: "a", 2: "bc"}}, {1: np.array([3, 2], np.int64)}),
        ({1: {1: "a", 2: "bc"}}, {2: slots[1]}),
        ({1: {}}, {}),
        ({}, {}),
    ]
    assert len({digest, *(subjects_digest(ids, used) for ids, used in others)}) == len(others) + 1
