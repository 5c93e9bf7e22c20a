"""Writes to a gallery that moves to another encoder, and back, until it is killed. Run by test_succession_kills.py.

Prints `try|ok enroll NAME` and `try|ok delete NAME`, and `ok swap`, `ok start`, `ok end` of what the move came through;
`failed`, and why, where anything fails. Each subject has its vectors made of its name, by each encoder.
"""

from __future__ import annotations

import contextlib
import random
import threading
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneglance_index import EncodingNotFound, Filling, GalleryError, IndexSettings, LocalGalleries, MoveIncomplete
from tests.index.kill_child import say

DIMENSIONS = {"a": 6, "b": 8}
PURPOSE = {"purpose": "of the test"}


def vectors_of(subject: str, encoder: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(zlib.crc32(f"{encoder}/{subject}".encode()))
    return rng.standard_normal((2, DIMENSIONS[encoder]), dtype=np.float32)


def both(subject: str) -> dict[str, NDArray[np.float32]]:
    return {encoder: vectors_of(subject, encoder) for encoder in DIMENSIONS}


def crops_of(subject: str) -> list[bytes]:
    """As many, and as long as those of faces."""
    return [f"{place} of {subject}, ".encode() * 1000 for place in range(2)]


def work(galleries: LocalGalleries, name: str) -> None:
    rng = random.Random(name)
    alive: list[str] = []
    for i in range(1_000_000):
        if alive and rng.random() < 0.4:
            subject = alive.pop(rng.randrange(len(alive)))
            say(f"try delete {subject}")
            galleries.delete_subject("g", subject).result()
            say(f"ok delete {subject}")
        else:
            subject = f"{name}-{i}"
            say(f"try enroll {subject}")
            examples = both(subject)
            galleries.enroll(
                *("g", subject, examples["a"]),
                encoder_digest="a",
                others=examples,
                request_id=subject,
                labels=PURPOSE,
                crops=crops_of(subject),
            ).result()
            say(f"ok enroll {subject}")
            alive.append(subject)
        if alive and rng.random() < 0.1:  # it is left then, until the move's thread fills it
            subject = rng.choice(alive)
            found = galleries.get_subject("g", subject).encodings
            if len(found) == 2:
                with contextlib.suppress(EncodingNotFound):  # it was cut over in between, and these have other ids
                    galleries.delete_encoding("g", subject, found[1].id).result()


def step(galleries: LocalGalleries, act: float) -> str:
    """One step of a move; what it was."""
    move = galleries.get_gallery("g").move
    if move is None:
        active = galleries.get_gallery("g").active.encoder_digest
        (other,) = DIMENSIONS.keys() - {active}
        galleries.start_move("g", "s", encoder_digest=other, dimension=DIMENSIONS[other]).result()
        return "start"
    if act < 0.1:
        galleries.end_move("g").result()
        return "end"
    waiting = galleries.get_gallery("s").active.encoder_digest
    for left in galleries.list_left_crops("g", page_size=200).subjects:
        made = [vectors_of(left.subject_id, waiting)[int(one.crop[:1])] for one in left.encodings]
        galleries.enroll(
            *("s", left.subject_id, np.stack(made)),
            encoder_digest=waiting,
            crops=[one.crop for one in left.encodings],
            filling=Filling(tuple(one.encoding_id for one in left.encodings), left.beside),
        ).exception()  # deleted meanwhile, or changed
    (galleries.cut_over if move.cut_over is None else galleries.roll_back)("g").result()
    return "swap"


def move(galleries: LocalGalleries, name: str) -> None:
    rng = random.Random(name)
    while True:
        with contextlib.suppress(MoveIncomplete):  # somebody enrolled, or lost an encoding, meanwhile
            say(f"ok {step(galleries, rng.random())}")


def guarded(act: object, galleries: LocalGalleries, name: str) -> None:
    try:
        act(galleries, name)  # type: ignore[operator]
    except (GalleryError, AssertionError, ValueError) as error:
        say(f"failed {type(error).__name__} {str(error).replace(' ', '_')}")


def main(data_dir: str, round_name: str) -> None:
    galleries = LocalGalleries.open(Path(data_dir), settings=IndexSettings(snapshot_every_encodings=5))
    say("try open")
    for worker in range(2):
        threading.Thread(target=guarded, args=(work, galleries, f"{round_name}-{worker}"), daemon=True).start()
    threading.Thread(target=guarded, args=(move, galleries, round_name), daemon=True).start()
    threading.Event().wait()
