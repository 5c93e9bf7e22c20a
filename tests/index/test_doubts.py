"""Doubtful enrollments at the same moment, and of a gallery that was made anew meanwhile."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import (
    Doubting,
    Found,
    LikeAnother,
    LocalGalleries,
    Neighbour,
    NeighbourGone,
    OnExisting,
    OutOfMemory,
    Search,
)
from oneglance_index.opened import OpenedGalleries
from oneglance_index.store import recent
from oneglance_index.store.mutations import Applied, Effect
from oneglance_index.store.slots import Slots
from tests.index.brute_force import distance
from tests.index.holding import Hold
from tests.waiting import PATIENCE_SECONDS

PERSON = np.array([[1, 2, 3]], np.float32)


def doubting(galleries: LocalGalleries, vectors: np.typing.NDArray[np.float32], limit: float) -> Doubting:
    (found,) = galleries.search_many("g", [Search(vectors, "e", 1, singly=True)])
    assert isinstance(found, Found)
    near = tuple(
        Neighbour(i, one[0].subject_id, one[0].distance) if one else None for i, one in enumerate(found.candidates)
    )
    return Doubting(near, found.revision, limit, None, refuse=True)


@pytest.mark.parametrize("fusion", ["nearest", "mean"])
def test_of_many_who_enroll_one_person_under_many_names_one_wins(tmp_path: Path, fusion: str) -> None:
    with LocalGalleries.open(tmp_path) as galleries, ThreadPoolExecutor(16) as pool:
        galleries.create_gallery("g", encoder_digest="e", dimension=3, fusion=fusion).result()
        for round in range(10):
            person = PERSON * (1 + round)
            before = doubting(galleries, person, 0.1)  # all of them searched before any was enrolled
            written = pool.map(
                lambda i, person=person, before=before, round=round: galleries.enroll(
                    "g", f"{round} {i}", person, doubting=before
                ),
                range(16),
            )
            errors = [one.exception(PATIENCE_SECONDS) for one in written]
            assert sum(error is None for error in errors) == 1
            winner = next(i for i, error in enumerate(errors) if error is None)
            for error in errors:
                if error is not None:
                    assert isinstance(error, LikeAnother)
                    assert (error.other_subject_id, error.distance) == (f"{round} {winner}", 0.0)
        assert galleries.get_gallery("g").subjects == 10


def test_what_was_found_in_a_deleted_gallery_does_not_count(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        for _ in range(2):
            galleries.create_gallery("g", encoder_digest="e", dimension=3, fusion="mean").result()
            galleries.enroll("g", "gone", PERSON).result()
            before = doubting(galleries, PERSON, 0.1)
            galleries.delete_gallery("g").result()
        galleries.create_gallery("g", encoder_digest="e", dimension=3, fusion="mean").result()
        with pytest.raises(NeighbourGone):
            galleries.enroll("g", "new", PERSON, doubting=before).result()


def test_who_was_deleted_since_the_search_is_not_named(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=3).result()
        galleries.enroll("g", "late", PERSON + 1).result()
        galleries.enroll("g", "gone", PERSON).result()
        before = doubting(galleries, PERSON, 0.1)
        galleries.delete_subject("g", "gone").result()
        with pytest.raises(NeighbourGone):
            galleries.enroll("g", "new", PERSON, doubting=before).result()
        again = doubting(galleries, PERSON, 0.1)
        galleries.enroll("g", "other", PERSON + 2).result()
        assert galleries.enroll("g", "new", PERSON, doubting=again).result().nearest_other == Neighbour(0, "late", 3.0)


def test_each_is_compared_with_all_that_came_since_its_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever came, went or failed meanwhile, and however long ago the search was."""
    monkeypatch.setattr(recent, "_ENCODINGS", 8)
    monkeypatch.setattr(recent, "_GENERATIONS", 2)
    make_room = OpenedGalleries._make_room

    def failing(self: OpenedGalleries, effect: Effect) -> None:
        if any(change.subject_id == "no room" for change in effect.changes):
            raise OutOfMemory("for this")
        make_room(self, effect)

    monkeypatch.setattr(OpenedGalleries, "_make_room", failing)
    rng = np.random.default_rng(0)
    # By gallery and subject, each encoding with its revision.
    held: dict[str, dict[str, list[tuple[int, np.typing.NDArray[np.float32]]]]] = {name: {} for name in ("g", "h", "i")}
    revisions = dict.fromkeys(held, 0)
    with LocalGalleries.open(tmp_path) as galleries:
        for gallery in held:
            galleries.create_gallery(gallery, encoder_digest="e", dimension=3, fusion="mean").result()
        for step in range(400):
            gallery, subject = str(rng.choice(list(held))), f"s{rng.integers(12)}"
            own, last = held[gallery], revisions[gallery]
            vectors = rng.standard_normal((int(rng.integers(1, 12)), 3)).astype(np.float32)
            kind = rng.random()
            if kind < 0.1:
                failed = galleries.enroll(gallery, "no room", vectors)
                assert isinstance(failed.exception(), OutOfMemory)
                continue
            if kind < 0.25 and subject in own:
                revisions[gallery] = galleries.delete_subject(gallery, subject).result().revision
                del own[subject]
                continue
            since = int(rng.integers(max(0, last - 15), last + 1))
            none = Doubting((None,) * len(vectors), since, None, None, refuse=False)  # nobody was there at the search
            how: OnExisting = "replace" if kind < 0.4 else "add"
            done = galleries.enroll(gallery, subject, vectors, on_existing=how, doubting=none if kind < 0.7 else None)
            near = done.result().nearest_other
            if kind < 0.7:
                others = [row for name, rows in own.items() if name != subject for row in rows]
                distances = [distance(row, vector) for came, row in others if came > since for vector in vectors]
                assert (near.distance if near else None) == min(distances, default=None), step
            revisions[gallery] = done.result().revision
            kept = own.get(subject, []) if how == "add" else []
            own[subject] = kept + [(revisions[gallery], vector) for vector in vectors]


def test_what_a_failed_commit_took_back_is_nobodys_neighbour(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=3).result()
        galleries.enroll("g", "far", PERSON + 9).result()
        before = doubting(galleries, PERSON, 0.1)
        galleries.enroll("g", "far too", PERSON + 8, doubting=before).result()  # it is followed from here on

        class Failing:
            def run(self, db: sqlite3.Connection) -> Applied[None]:
                raise sqlite3.OperationalError("disk I/O error")

        hold = Hold(galleries)
        lost = galleries.enroll("g", "lost", PERSON, doubting=before)
        failing = galleries._store.write(Failing())
        again = galleries.enroll("g", "again", PERSON, doubting=before)
        hold.end.set()
        assert failing.exception(PATIENCE_SECONDS) is not None
        assert lost.exception(PATIENCE_SECONDS) is None  # the group was rolled back, and it was run again
        error = again.exception(PATIENCE_SECONDS)
        assert isinstance(error, LikeAnother)
        assert error.other_subject_id == "lost"


def test_what_was_undone_before_the_commit_is_nobodys_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was no memory for noting which keys are to go."""
    will_doom, failed = Slots.will_doom, threading.Event()

    def full_once(slots: Slots, gone: Iterable[int]) -> None:
        if not failed.is_set():
            failed.set()
            raise MemoryError
        will_doom(slots, gone)

    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=3).result()
        galleries.enroll("g", "a", 9 * PERSON).result()
        before = doubting(galleries, PERSON, 0.1)
        galleries.enroll("g", "another", 5 * PERSON, doubting=before).result()  # from here on what comes is known
        with monkeypatch.context() as patched:
            patched.setattr(Slots, "will_doom", full_once)
            undone = galleries.enroll("g", "a", PERSON, on_existing="replace")
            assert isinstance(undone.exception(), OutOfMemory)
        galleries.enroll("g", "b", PERSON, doubting=before).result()
