"""Nobody rebuilds what was deleted: not with the master key and every byte of the data directory (tests/erasing.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from oneglance_index import LocalGalleries
from tests import erasing
from tests.erasing import DIMENSION, Thief, labels_of, vectors_of


@pytest.fixture
def kept_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    from oneglance_index.store import keys, slots

    for owner, name in ((slots.Slots, "_renew"), (keys.Keys, "destroy"), (keys.Keys, "keep_only")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # so that it comes back
    erasing.keep_keys()


def delete(data_dir: Path) -> tuple[Thief, dict[str, set[str]], set[str]]:
    """Enrolls, and deletes in every way. The thief, whom it finds after each way, and who is still enrolled."""
    thief = Thief(data_dir)
    found: dict[str, set[str]] = {}

    def after(way: str, *names: str) -> None:
        found[way] = thief.of(set(names))

    with LocalGalleries.open(data_dir) as galleries:
        for gallery in ("g", "other"):
            galleries.create_gallery(gallery, encoder_digest="e", dimension=DIMENSION).result()
        for name in ("whole", "renewed", "relabelled", "part", "kept"):
            galleries.enroll("g", name, vectors_of(name), labels=labels_of(name)).result()
            galleries.add_negative("g", name, -vectors_of(name)[0]).result()
        galleries.enroll("other", "elsewhere", vectors_of("elsewhere"), labels=labels_of("elsewhere")).result()
        galleries.snapshot()
        thief.look()
        galleries.delete_subject("g", "whole").result()
        after("subject", "whole")
        galleries.enroll("g", "renewed", vectors_of("new"), labels=labels_of("new"), on_existing="replace").result()
        negative = galleries.get_subject("g", "renewed").negatives[0]
        galleries.delete_negative("g", "renewed", negative.id).result()
        after("replaced, and its negative", "renewed")
        thief.look()
        galleries.delete_gallery("other").result()
        after("gallery", "elsewhere")
        part = galleries.get_subject("g", "part")
        for encoding in part.encodings[1:]:
            galleries.delete_encoding("g", "part", encoding.id).result()
        loot = thief.rebuilds()
        found["encodings"] = {"part"} if any(vector.tobytes() in loot for vector in vectors_of("part")[1:]) else set()
        galleries.enroll("g", "relabelled", vectors_of("more"), labels=labels_of("more")).result()
        loot = thief.rebuilds()
        found["labels"] = {"relabelled"} if labels_of("relabelled")["secret"].encode() in loot else set()
    after("closed", "whole", "renewed", "elsewhere")
    with LocalGalleries.open(data_dir) as galleries:
        assert [subject.id for subject in galleries.list_subjects("g").subjects] == [
            *("kept", "part", "relabelled", "renewed")
        ]
        assert galleries.get_subject("g", "kept").labels == labels_of("kept")
    thief.look()
    after("opened again", "whole", "renewed", "elsewhere")
    return thief, found, {"kept", "relabelled", "new"}


def test_what_is_deleted_is_rebuilt_by_nobody(tmp_path: Path) -> None:
    thief, found, alive = delete(tmp_path)
    assert {way: names for way, names in found.items() if names} == {}
    assert thief.of(alive) == alive  # the thief is a good one


@pytest.mark.usefixtures("kept_keys")
def test_where_keys_are_kept_it_is(tmp_path: Path) -> None:
    _, found, _ = delete(tmp_path)
    assert {way for way, names in found.items() if not names} == set()


def test_killed_at_any_moment_it_is_rebuilt_by_nobody(tmp_path: Path) -> None:
    gone, rebuilt = erasing.rounds(tmp_path, 3, 1, keeping=False)
    assert rebuilt == 0
    assert gone > 0
