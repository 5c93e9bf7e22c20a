"""Doubtful enrollments at the same moment, and of a gallery that was made anew meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import Doubting, Found, LikeAnother, LocalGalleries, Neighbour, NeighbourGone, Search
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
