"""The τ that follows a gallery's size: a version for each move, in the write that moves it, and durable with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_index import Followable, Followed, LocalGalleries, StoreFull
from oneglance_index.store import following

STEP = 3


def vectors(n: int) -> NDArray[np.float32]:
    return np.random.default_rng(n).standard_normal((n, 4), dtype=np.float32)


def made(found: Followable) -> Followed:
    step = -(-found.subjects // STEP)
    return Followed(found.target_fpir / (1 + step), f"{found.fusion}/{step}")


def rule(found: Followable) -> Followed | None:
    """Moves with every third subject."""
    return None if found.followed is not None and found.followed.id == made(found).id else made(found)


def opened(data_dir: Path) -> LocalGalleries:
    return LocalGalleries.open(data_dir, tau_rule=rule)


def moves(galleries: LocalGalleries) -> list[tuple[int, float | None, str | None, int | None, int | None]]:
    """Version, τ, id and size, the oldest first."""
    return [
        (one.version, one.threshold, one.followed, one.subjects, one.encodings)
        for one in reversed(galleries.list_thresholds("g").versions)
    ]


def test_each_move_is_a_version_of_the_write_that_makes_it(tmp_path: Path) -> None:
    with opened(tmp_path) as galleries:
        created = galleries.create_gallery("g", encoder_digest="e", dimension=4, target_fpir=0.12).result()
        assert (created.active.threshold, created.active.followed) == (None, Followed(0.12, "nearest/0"))
        for i in range(7):
            enrolled = galleries.enroll("g", f"s{i}", vectors(2)).result()
            assert enrolled.revision == i + 1
            known = galleries.known("g").active
            assert known == galleries.get_gallery("g").active
            assert known.followed == made(Followable("e", "nearest", 0.12, i + 1, 2 * i + 2, None))
        expected = [
            (1, 0.12, "nearest/0", 0, 0),
            (2, 0.06, "nearest/1", 1, 2),
            (3, 0.04, "nearest/2", 4, 8),
            (4, 0.03, "nearest/3", 7, 14),
        ]
        assert moves(galleries) == expected
        assert galleries.known("g").active.threshold_revision == 4
        assert galleries.known("g").active.threshold_since == galleries.list_thresholds("g").versions[0].since
    with opened(tmp_path) as galleries:
        assert moves(galleries) == expected
        assert galleries.known("g").revision == 7
        galleries.delete_subject("g", "s6").result()
        assert moves(galleries)[-1] == (5, 0.04, "nearest/2", 6, 12)
        galleries.delete_encoding("g", "s5", galleries.get_subject("g", "s5").encodings[0].id).result()
        assert len(moves(galleries)) == 5


def test_what_is_told_makes_it_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, target_fpir=0.12).result()
        own = galleries.set_threshold("g", 0.5).result().active
        assert (own.threshold, own.followed) == (0.5, None)
        galleries.enroll("g", "s", vectors(1)).result()
        assert galleries.known("g").active.followed is None
        cleared = galleries.set_threshold("g", None).result().active
        assert (cleared.threshold, cleared.followed) == (None, Followed(0.06, "nearest/1"))
        assert cleared.threshold_revision == 4
        assert galleries.set_target_fpir("g", 0.2).result().active.followed == Followed(0.1, "nearest/1")
        assert galleries.set_target_fpir("g", 0.2).result().active.threshold_revision == 5  # the same again
        assert galleries.set_fusion("g", "mean").result().active.followed == Followed(0.1, "mean/1")
        assert galleries.known("g").active.followed == Followed(0.1, "mean/1")
        assert [one[:3] for one in moves(galleries)] == [
            (1, 0.12, "nearest/0"),
            (2, 0.5, None),
            (3, None, None),
            (4, 0.06, "nearest/1"),
            (5, 0.1, "nearest/1"),
            (6, None, None),
            (7, 0.1, "mean/1"),
        ]
        assert galleries.set_target_fpir("g", None).result().active.followed is None


def test_a_write_that_fails_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, target_fpir=0.12).result()

        def full(*_: object) -> bool:
            raise StoreFull(tmp_path, "no room")

        with monkeypatch.context() as broken:
            broken.setattr(following, "_record", full)
            with pytest.raises(StoreFull):
                galleries.enroll("g", "s", vectors(1)).result()
        assert galleries.get_gallery("g").subjects == 0
        assert [one[0] for one in moves(galleries)] == [1]


def test_a_gallery_that_grew_without_its_encoder_is_brought_up_to_date_when_opened(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, target_fpir=0.12).result()
        galleries.create_gallery("old", encoder_digest="e", dimension=4).result()
        galleries.enroll("g", "s", vectors(1)).result()
        assert moves(galleries) == []
    with opened(tmp_path) as galleries:
        assert galleries.known("g").active.followed == Followed(0.06, "nearest/1")
        assert moves(galleries) == [(1, 0.06, "nearest/1", 1, 1)]
        assert galleries.known("old").active.followed is None
        assert galleries.list_thresholds("old").versions == ()
    with LocalGalleries.open(tmp_path) as galleries:  # without it again: what was recorded stays
        assert galleries.known("g").active.followed == Followed(0.06, "nearest/1")


def test_a_gallery_that_goes_to_and_fro_keeps_so_many_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MOST_VERSIONS", 6)
    with opened(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, target_fpir=0.12).result()
        galleries.set_threshold("g", 0.5, "evidence").result()
        galleries.set_threshold("g", None).result()
        for i in range(8):
            galleries.enroll("g", f"s{i}", vectors(1)).result()
        for _ in range(10):
            galleries.delete_subject("g", "s7").result()
            galleries.delete_subject("g", "s6").result()
            galleries.enroll("g", "s6", vectors(1)).result()
            galleries.enroll("g", "s7", vectors(1)).result()
        kept = moves(galleries)
        assert len([one for one in kept if one[2] is not None]) == 6
        assert {one[2] for one in kept} == {None, "nearest/0", "nearest/1", "nearest/2", "nearest/3"}
        assert [one[:2] for one in kept if one[2] is None] == [(2, 0.5), (3, None)]  # what was set by hand stays
        assert kept[-1][0] == galleries.known("g").active.threshold_revision > 20
