"""kill -9 at random moments of a move to another encoder, and back: both galleries are whole, nothing acknowledged is
lost, and nothing deleted is in either of them.

Six rounds by default; ONEGLANCE_KILL_ROUNDS=200 for the long run.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import LocalGalleries, check_directory
from tests.index import asking, succession_child
from tests.index.succession_child import DIMENSIONS, PURPOSE, crops_of, vectors_of
from tests.killing import running

ROUNDS = int(os.environ.get("ONEGLANCE_KILL_ROUNDS", "6"))
MOST_LINES = 400
MOMENT_SECONDS = 0.01


def run_and_kill(data_dir: Path, name: str, rng: random.Random) -> list[list[str]]:
    with running(succession_child.main, str(data_dir), name) as child:
        assert child.said.readline() == b"try open\n"
        said = [child.said.readline() for _ in range(rng.randrange(40, MOST_LINES))]
        time.sleep(rng.uniform(0, MOMENT_SECONDS))
        said += child.kill()
    return [line.decode().split() for line in said]


@pytest.mark.timeout(1200 + 60 * ROUNDS)
def test_a_move_survives_kills_at_every_step(tmp_path: Path) -> None:
    rng = random.Random(int(os.environ.get("ONEGLANCE_KILL_SEED", "1")))
    must: set[str] = set()
    steps: Counter[str] = Counter()
    data_dir = tmp_path / "data"
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery("g", encoder_digest="a", dimension=DIMENSIONS["a"], keep_crops=True).result()
    for round_number in range(ROUNDS):
        maybe: set[str] = set()
        for state, act, *subject in run_and_kill(data_dir, str(round_number), rng):
            assert state in ("try", "ok"), (act, subject)
            steps[f"{state} {act}"] += 1
            if not subject:
                continue
            if state == "try":
                maybe.add(subject[0])
                must.discard(subject[0])
            else:
                maybe.discard(subject[0])
                if act == "enroll":
                    must.add(subject[0])
        assert list(check_directory(data_dir, "")) == []
        with LocalGalleries.open(data_dir) as galleries:
            present = check(galleries)
        assert must <= present, "an acknowledged enrollment was lost"
        assert present <= must | maybe, "an acknowledged deletion came back"
        must = present
    assert steps["ok swap"] > ROUNDS, "hardly anything was cut over"


def check(galleries: LocalGalleries) -> set[str]:
    """That the two galleries fit each other, and each its index. Returns who is enrolled."""
    ids = subjects(galleries, "g")
    move = galleries.get_gallery("g").move
    if move is None:
        assert [one.id for one in galleries.list_galleries().galleries] == ["g"]
        return ids
    assert (move.other, move.answers) == ("s", True)
    other = galleries.get_gallery("s").move
    assert other is not None
    assert (other.other, other.answers, other.origin) == ("g", False, not move.origin)
    assert subjects(galleries, "s") <= ids, "somebody is in the one that waits only"
    assert left(galleries) == ids - subjects(galleries, "s")
    for page in pages_of(galleries.list_left_crops):  # what is to be made again has its own crops
        for one in page.subjects:
            assert {each.crop for each in one.encodings} <= set(crops_of(one.subject_id))
    return ids


def left(galleries: LocalGalleries) -> set[str]:
    return {one.subject_id for page in pages_of(galleries.list_left) for one in page.subjects}


def pages_of(listed: Callable[..., Any]) -> Iterator[Any]:
    after: str | None = ""
    while after is not None:
        page = listed("g", page_size=100, after=after or None)
        yield page
        after = page.next_after


def subjects(galleries: LocalGalleries, gallery_id: str) -> set[str]:
    """Who is in a gallery, each found by its own encodings, made by the gallery's encoder."""
    names = galleries.subject_ids(gallery_id)
    assert galleries.count_label(gallery_id, "purpose").values == ({PURPOSE["purpose"]: len(names)} if names else {})
    gallery, info = galleries.get_gallery(gallery_id), galleries.index_info(gallery_id)
    assert (info.revision, info.subjects, info.encodings) == (gallery.revision, len(names), gallery.encodings)
    encoder = gallery.active.encoder_digest
    if names:
        probes = np.stack([vectors_of(name, encoder)[0] for name in names])
        found = asking.nearest(galleries, gallery_id, probes, 1, encoder_digest=encoder)
        assert [near[0].subject_id for near in found.candidates] == names
        assert {near[0].distance for near in found.candidates} == {0.0}
    return set(names)
