"""Writes to a data directory from several threads until it is killed. Run by test_kill.py.

Prints a line after each acknowledgement, and before each try: `try|ok enroll NAME`, `ok negate NAME`,
`try|ok delete NAME`, and where the subject that was enrolled as NAME is renamed or merged into another `try place NAME`
and `ok place NAME@ID`. Now and then it rotates keys, makes a backup beside the directory, or a
gallery that it deletes again. `failed`, and why, where anything fails.
Each subject has its vectors made from the name that it was enrolled as, which is in the keys of its encodings, so that
the parent knows what must be found.
"""

from __future__ import annotations

import os
import random
import threading
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneglance_index import Actor, IndexSettings, LocalGalleries, Note, acting, back_up

DIMENSION = 8


def vectors_of(subject: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(zlib.crc32(subject.encode()))
    return rng.standard_normal((int(rng.integers(1, 4)), DIMENSION), dtype=np.float32)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # one write: lines of threads don't mix, none waits in a buffer


def work(galleries: LocalGalleries, name: str) -> None:
    try:
        _work(galleries, name)
    except BaseException as error:
        say(f"failed {type(error).__name__} {str(error).replace(' ', '_')}")


def upkeep(galleries: LocalGalleries, name: str, act: float) -> None:
    if act < 0.01:
        galleries.rotate_keys("g")
    elif act < 0.015:
        galleries.rotate_keys()
    elif act < 0.02:
        back_up(galleries.data_dir / "store.sqlite3", galleries.data_dir.with_name("backup"))
    elif act < 0.04:
        galleries.create_gallery(name, encoder_digest="e", dimension=DIMENSION).result()
        galleries.enroll(name, "s", vectors_of(name)).result()
        galleries.delete_gallery(name).result()


def _work(galleries: LocalGalleries, name: str) -> None:
    acting.set(Actor(f"key:{name}", "ipv4:127.0.0.1:1"))
    alive: dict[str, list[str]] = {}  # by id, the names that its parts were enrolled as
    for i in range(1_000_000):
        upkeep(galleries, name, random.random())
        act = random.random()
        if alive and act < 0.3:
            subject = random.choice(list(alive))
            parts = alive.pop(subject)
            for part in parts:
                say(f"try delete {part}")
            galleries.delete_subject("g", subject).result()
            for part in parts:
                say(f"ok delete {part}")
        elif alive and act < 0.4:
            subject, other = random.choice(list(alive)), f"{name}~{i}"
            for part in alive[subject]:
                say(f"try place {part}")
            galleries.rename_subject("g", subject, other).result()
            galleries.update_labels("g", other, {"called": str(i)}).result()
            alive[other] = alive.pop(subject)
            for part in alive[other]:
                say(f"ok place {part}@{other}")
        elif len(alive) > 1 and act < 0.55:
            subject, other = random.sample(list(alive), 2)
            if len(alive[subject]) + len(alive[other]) > 4:
                continue
            for part in alive[subject]:
                say(f"try place {part}")
            galleries.merge_subjects("g", subject, other).result()
            for part in alive[subject]:
                say(f"ok place {part}@{other}")
            alive[other] += alive.pop(subject)
        else:
            subject = f"{name}-{i}"
            say(f"try enroll {subject}")
            notes = [Note(f"{subject}/{place}") for place in range(len(vectors_of(subject)))]
            galleries.enroll("g", subject, vectors_of(subject), request_id=subject, notes=notes).result()
            say(f"ok enroll {subject}")
            galleries.add_negative("g", subject, -vectors_of(subject)[0]).result()
            say(f"ok negate {subject}")
            alive[subject] = [subject]


def main(data_dir: str, round_name: str) -> None:
    # Snapshots as often as can be, so that many kills fall into one.
    settings = IndexSettings(snapshot_every_encodings=5, start_check="behind")
    galleries = LocalGalleries.open(Path(data_dir), settings=settings)
    galleries.await_loaded()
    say("try open")
    for worker in range(4):
        threading.Thread(target=work, args=(galleries, f"{round_name}-{worker}"), daemon=True).start()
    threading.Event().wait()
