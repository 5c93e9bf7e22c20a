"""Writes to a data directory from several threads until it is killed. Run by test_kill.py.

Prints a line after each acknowledgement, and before each try: `try|ok enroll SUBJECT`,
`ok negate SUBJECT` or `try|ok delete SUBJECT`.
Each subject has its vectors made from its name, so that the parent knows what must be found.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneglance_index import IndexSettings, LocalGalleries

DIMENSION = 8


def vectors_of(subject: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(zlib.crc32(subject.encode()))
    return rng.standard_normal((int(rng.integers(1, 4)), DIMENSION), dtype=np.float32)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # one write: lines of threads don't mix, none waits in a buffer


def work(galleries: LocalGalleries, name: str) -> None:
    alive: list[str] = []
    for i in range(1_000_000):
        if alive and random.random() < 0.4:
            subject = alive.pop(random.randrange(len(alive)))
            say(f"try delete {subject}")
            galleries.delete_subject("g", subject).result()
            say(f"ok delete {subject}")
        else:
            subject = f"{name}-{i}"
            say(f"try enroll {subject}")
            galleries.enroll("g", subject, vectors_of(subject), request_id=subject).result()
            say(f"ok enroll {subject}")
            galleries.add_negative("g", subject, -vectors_of(subject)[0]).result()
            say(f"ok negate {subject}")
            alive.append(subject)


def main(data_dir: str, round_name: str) -> None:
    # Snapshots as often as can be, so that many kills fall into one.
    galleries = LocalGalleries.open(Path(data_dir), settings=IndexSettings(snapshot_every_encodings=5))
    say("try open")
    for worker in range(4):
        threading.Thread(target=work, args=(galleries, f"{round_name}-{worker}"), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
