"""Fills a gallery's successor by one map and another until it is killed, while subjects come and go. Run by
test_mapping.py.

Prints `try open`, then `step` for each step that is done."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneglance_core.mapping import EncodingMap
from oneglance_index import IndexSettings, LocalGalleries, MapLoss, SubjectNotFound, SubjectNotMoving
from tests.index.kill_child import say

SUBJECTS = 40


def encoding_of(subject: str, dimension: int) -> NDArray[np.float32]:
    """The same by each encoder, but for its length."""
    return np.full((1, dimension), 1 + int(subject[1:]) % 97, np.float32)


def a_map(number: int) -> tuple[EncodingMap, MapLoss]:
    made = EncodingMap("ridge", 1.0, np.eye(3, 5), np.full(5, float(number)), unit_norm=False)
    return made, MapLoss("ridge", "old", "new", str(number), 100, 200, 50, 80, 8, 2, 1, 0, 0.5)


def enroll(galleries: LocalGalleries, first: int) -> None:
    """Subjects that are in both, by true encodings; and, of some that are mapped, true ones."""
    for number in range(first, first + 1_000_000):
        subject = f"s{SUBJECTS + number}"
        mine, other = encoding_of(subject, 3), encoding_of(subject, 5)
        galleries.enroll("g", subject, mine, encoder_digest="old", others={"new": other}).result()
        again = f"s{number % SUBJECTS}"
        with contextlib.suppress(SubjectNotFound, SubjectNotMoving):  # the last round ended in between
            galleries.enroll("s", again, encoding_of(again, 5)).result()
            galleries.delete_subject("g", again).result()
        galleries.enroll("g", again, encoding_of(again, 3)).result()  # it is left, until it is mapped
        galleries.delete_subject("g", subject).result()


def main(data_dir: str, round_name: str) -> None:
    galleries = LocalGalleries.open(Path(data_dir), settings=IndexSettings(snapshot_every_encodings=20))
    say("try open")
    threading.Thread(target=enroll, args=(galleries, int(round_name) * 1000), daemon=True).start()
    for number in range(1, 1_000_000):
        after: str | None = ""
        while after is not None:
            step = galleries.fill_by_map("g", *a_map(number), most=7, after=after or None).result()
            after = step.next_after
            say("step")
