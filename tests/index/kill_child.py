"""Writes to a data directory from several threads until it is killed. Run by test_kill.py.

Half of the threads write to the gallery "g", whose answers are exact, the others to "near", whose may be approximate;
each asks for what it enrolled and deleted, too. Another thread imports the gallery "source" as "copy" and deletes that
again, over and over.

Prints a line after each acknowledgement, and before each try: `try|ok enroll NAME`, `try|ok negate NAME`, `try|ok
delete NAME`, and where the subject that was enrolled as NAME is renamed or merged into another `try place NAME` and `ok
place NAME@ID`; `try|ok copy COUNT`: so many subjects of "copy" are there, "all" once it is finished, or "none". Now and
then it compacts, rotates keys, makes a backup beside the directory, or a gallery that it deletes again: `try make ID`
and `ok drop ID`. `failed`, and why, where anything fails or an answer is wrong.
Each subject has its vectors made from the name that it was enrolled as, which is in the keys of its encodings, so that
the parent knows what must be found.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneglance_index import Actor, GalleryExists, IndexSettings, LocalGalleries, Note, Search, acting, back_up
from oneglance_index.search import approximate, cells, coded, flat, upkeep
from tests.index import asking
from tests.index.moving import Taken, bringing, take

DIMENSION = 8
FUSIONS = {"g": "nearest", "near": "mean"}  # of the galleries that are written to
LEAST_ROWS = 16
"""From so many rows on answers may be approximate, with_few_rows()."""
TAU = 3.0  # some are nearer to a probe, most aren't


def with_few_rows(change: Callable[[object, str, object], None]) -> None:
    """Codes, cells, compactions and purges as with many rows, with a few; `change` is setattr()."""
    few: list[tuple[object, str, object]] = [
        (coded, "_LEAST_ROWS", 1),
        (coded, "_BLOCK_BYTES", 32 * DIMENSION),
        (coded, "_CODED_IN_PASSING", 8 * DIMENSION),
        (approximate, "LEAST_ROWS", LEAST_ROWS),
        (approximate, "_MANY_RECENT", 8),
        (approximate, "_MANY_MATES", 4),
        (approximate, "_FETCH", 4),
        (approximate, "_MOST_READ", 1.0),
        (cells, "_COPY_BYTES", 16 * 4 * DIMENSION),
        (cells, "_MANY_GONE", 8),
        (flat, "_MIN_DEAD_ROWS", 8),
        (upkeep, "_MANY_ENCODINGS", 16),
        (upkeep, "_FIRST_SLICE", 4),
        (upkeep, "_LARGEST_SLICE", 8),
    ]
    for module, name, value in few:
        assert hasattr(module, name), name
        change(module, name, value)


def vectors_of(subject: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(zlib.crc32(subject.encode()))
    return rng.standard_normal((int(rng.integers(1, 4)), DIMENSION), dtype=np.float32)


def negative_of(subject: str) -> NDArray[np.float32]:
    negative: NDArray[np.float32] = -vectors_of(subject)[0]
    return negative


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # one write: lines of threads don't mix, none waits in a buffer


def run(work: Callable[..., None], *arguments: object) -> None:
    """`work` in a thread."""

    def working() -> None:
        try:
            work(*arguments)
        except BaseException as error:
            say(f"failed {type(error).__name__} {str(error).replace(' ', '_')}")

    threading.Thread(target=working, daemon=True).start()


def look_after(galleries: LocalGalleries, gallery: str, name: str, act: float) -> None:
    if act < 0.01:
        galleries.rotate_keys(gallery)
    elif act < 0.015:
        galleries.rotate_keys()
    elif act < 0.02:
        back_up(galleries.data_dir / "store.sqlite3", galleries.data_dir.with_name("backup"))
    elif act < 0.04:
        say(f"try make {name}")
        galleries.create_gallery(name, encoder_digest="e", dimension=DIMENSION).result()
        galleries.enroll(name, "s", vectors_of(name)).result()
        galleries.delete_gallery(name).result()
        say(f"ok drop {name}")
    elif act < 0.05:
        galleries.compact(gallery)


def ask(galleries: LocalGalleries, gallery: str, subject: str, part: str, there: bool) -> None:
    """For what was enrolled as `part`, whether it is `there`."""
    exact = gallery == "g" or random.random() < 0.5
    search = Search(vectors_of(part)[:1], "e", 3, within=TAU, limit=3, exact=exact)
    found = asking.ask(galleries, gallery, search)
    told = {one.subject_id: one.distance for one in (*found.candidates[0], *found.matches[0])}
    assert found.exact or not exact, "an answer that had to be exact isn't"
    assert there or subject not in told, "who is deleted is told"
    if there and exact and (gallery == "g" or len(vectors_of(part)) == 1):
        assert told.get(subject) == 0, "who is enrolled is not told"


def write(galleries: LocalGalleries, gallery: str, name: str) -> None:
    acting.set(Actor(f"key:{name}", "ipv4:127.0.0.1:1"))
    alive: dict[str, list[str]] = {}  # by id, the names that its parts were enrolled as
    for i in range(1_000_000):
        look_after(galleries, gallery, name, random.random())
        act = random.random()
        if alive and act < 0.3:
            subject = random.choice(list(alive))
            parts = alive.pop(subject)
            for part in parts:
                say(f"try delete {part}")
            galleries.delete_subject(gallery, subject).result()
            for part in parts:
                say(f"ok delete {part}")
            ask(galleries, gallery, subject, parts[0], there=False)
        elif alive and act < 0.4:
            subject, other = random.choice(list(alive)), f"{name}~{i}"
            for part in alive[subject]:
                say(f"try place {part}")
            galleries.rename_subject(gallery, subject, other).result()
            galleries.update_labels(gallery, other, {"called": str(i)}).result()
            alive[other] = alive.pop(subject)
            for part in alive[other]:
                say(f"ok place {part}@{other}")
        elif len(alive) > 1 and act < 0.55:
            subject, other = random.sample(list(alive), 2)
            if len(alive[subject]) + len(alive[other]) > 4:
                continue
            for part in alive[subject]:
                say(f"try place {part}")
            galleries.merge_subjects(gallery, subject, other).result()
            for part in alive[subject]:
                say(f"ok place {part}@{other}")
            alive[other] += alive.pop(subject)
        else:
            subject = f"{name}-{i}"
            say(f"try enroll {subject}")
            notes = [Note(f"{subject}/{place}") for place in range(len(vectors_of(subject)))]
            galleries.enroll(gallery, subject, vectors_of(subject), request_id=subject, notes=notes).result()
            say(f"ok enroll {subject}")
            ask(galleries, gallery, subject, subject, there=True)
            if gallery == "g" or i % 8 == 0:  # with many of them few answers are approximate
                say(f"try negate {subject}")
                galleries.add_negative(gallery, subject, negative_of(subject)).result()
                say(f"ok negate {subject}")
            alive[subject] = [subject]


def copy(galleries: LocalGalleries, taken: Taken) -> None:
    while True:
        with contextlib.suppress(GalleryExists):  # it was finished before the kill
            for state, there in bringing(galleries, taken, "copy"):
                say(f"{state} copy {there}")
        say("try copy none")
        galleries.delete_gallery("copy").result()
        say("ok copy none")


def main(data_dir: str, round_name: str) -> None:
    with_few_rows(setattr)
    # Snapshots as often as can be, so that many kills fall into one.
    settings = IndexSettings(snapshot_every_encodings=5, start_check="behind")
    galleries = LocalGalleries.open(Path(data_dir), settings=settings)
    galleries.await_loaded()
    taken = take(galleries, name="source")
    say("try open")
    for worker in range(4):
        run(write, galleries, list(FUSIONS)[worker % 2], f"{round_name}-{worker}")
    run(copy, galleries, taken)
    threading.Event().wait()
