"""Nobody rebuilds what was deleted: not with the master key and every byte of the data directory (tests/erasing.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import erasing
from tests.thief import Thief, keep_keys, recording
from tests.ways_to_delete import WAYS, Way, found_by, labels_of, opened, secrets_of


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_deleted_is_rebuilt_by_nobody(tmp_path: Path, way: Way) -> None:
    found = found_by(way, tmp_path)
    assert found
    assert {step: names for step, names in found.items() if names} == {}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_where_keys_are_kept_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    keep_keys(monkeypatch.setattr)
    assert {step for step, names in found_by(way, tmp_path).items() if not names} == set()


def test_what_is_there_is_read_by_who_has_the_key(tmp_path: Path) -> None:
    thief = Thief(tmp_path / "data", tmp_path / "ciphertexts")
    with recording(tmp_path / "ciphertexts"), opened(tmp_path / "data", "s", "t") as galleries:
        assert thief.of(secrets_of("s", "t")) == {"s", "t"}
        galleries.delete_subject("g", "t").result()
        assert thief.of(secrets_of("s", "t")) == {"s"}
        assert galleries.get_subject("g", "s").labels == labels_of("s")


def test_killed_at_any_moment_it_is_rebuilt_by_nobody(tmp_path: Path) -> None:
    gone, rebuilt = erasing.rounds(tmp_path, 3, 1, keeping=False)
    assert rebuilt == 0
    assert gone > 0
