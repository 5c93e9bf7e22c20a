"""What can be rebuilt of what was deleted, by whoever has the master key and every byte of a data directory.

    python -m tests.erasing --rounds 200 --seed 1 [--keep-keys]

kills a process that enrolls and deletes in each round, at a random moment, starts again, and then plays the thief: with
the directory as it is then, and all ciphertexts that ever were in it (a log, a backup or the cells of a disk may still
hold them). --keep-keys does the same to a process that destroys no keys: then what was deleted must be found, else the
thief is no good.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from oneglance_index import IndexSettings, LocalGalleries

DIMENSION = 8
GALLERIES = {"flat": "nearest", "mean": "mean"}
Secrets = tuple[bytes, ...]


def vectors_of(name: str) -> NDArray[np.float32]:
    """The encodings of a subject, made of its name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.standard_normal((1 + len(name) % 3, DIMENSION), dtype=np.float32)


def labels_of(name: str) -> dict[str, str]:
    return {"secret": f"the label of {name}, {zlib.crc32(name.encode()):08x}"}


def secrets_of(name: str) -> Secrets:
    """What must be nowhere once it is deleted: the bytes of its vectors, of its negative, of its labels."""
    vectors = vectors_of(name)
    texts = [text.encode() for text in labels_of(name).values()]
    return (*(vector.tobytes() for vector in vectors), (-vectors[0]).tobytes(), *texts)


class Thief:
    """Keeps every ciphertext that it saw, and tries all keys that the directory gives away with the master key."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._seen: set[tuple[bytes, bytes]] = set()  # ciphertexts, and what they belong to

    def look(self) -> None:
        """At the ciphertexts there are now. The store may be open."""
        from oneglance_index.store import ciphers

        with sqlite3.connect(self._data_dir / "store.sqlite3") as db:
            for gallery, number, sealed in db.execute("SELECT gallery, number, labels FROM subjects"):
                self._seen.add((sealed, ciphers.labels_identity(gallery, number)))
            for table, identity in ciphers.VECTORS.items():
                for generation, number, sealed in db.execute(f"SELECT generation, number, vector FROM {table}"):
                    self._seen.add((sealed, identity(generation, number)))
        db.close()
        for path in (self._data_dir / "snapshots").glob("*.snap"):
            with contextlib.suppress(FileNotFoundError):  # removed just now
                self._seen.update(_blocks(path))

    def rebuilds(self) -> bytes:
        """All that it can make out: what is there in the clear, and what it can decrypt."""
        found = [path.read_bytes() for path in sorted(self._data_dir.rglob("*")) if path.is_file()]
        if self._seen:
            from oneglance_index.store.ciphers import decrypt

            for key in _keys(self._data_dir):
                found += filter(None, (decrypt(key, sealed, identity) for sealed, identity in self._seen))
        return b"\0".join(found)

    def of(self, names: set[str]) -> set[str]:
        """Of which of these subjects it can rebuild anything."""
        loot = self.rebuilds()
        return {name for name in names if any(secret in loot for secret in secrets_of(name))}


def _keys(data_dir: Path) -> Iterator[AESGCM]:
    """Every key that any slot may give, whether it is in use or not, with every key of a gallery."""
    from oneglance_index.errors import StoreError
    from oneglance_index.store.keys import Keys
    from oneglance_index.store.master import read_master_key
    from oneglance_index.store.slots import SLOT_BYTES, Slots

    keys = Keys(data_dir, [read_master_key("", data_dir, make=False)])
    records = os.fstat(keys._file).st_size
    for gallery in range(1, records):
        try:
            key, _ = keys._opened(gallery)
        except StoreError:
            continue
        for path in sorted((data_dir / "keys").glob("*.slots")):
            slots = Slots(path, key)
            yield from (slots.read(slot) for slot in range(path.stat().st_size // SLOT_BYTES))
            slots.close()
    keys.close()


def _blocks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    from oneglance_index.search.snapshot import _HEADER, _MAGIC, _bounds, _Layout
    from oneglance_index.store import ciphers

    content = path.read_bytes()
    magic, _, encodings, dimension, blocks = _HEADER.unpack(content[: _HEADER.size])
    lists = np.frombuffer(content, "<i8", 2 * encodings + blocks, _Layout(encodings, dimension, blocks).tail_at)
    order = lists[encodings : 2 * encodings] if magic == _MAGIC[True] else lists[:encodings]
    at, start, generation = _HEADER.size, 0, int(path.stem.split("-")[0])
    for end, (first, _) in zip(lists[2 * encodings :].tolist(), _bounds(order, lists[2 * encodings :]), strict=True):
        size = ciphers.OVERHEAD_BYTES + 4 * dimension * (end - start)
        yield content[at : at + size], ciphers.block_identity(generation, first)
        at, start = at + size, end


def keep_keys() -> None:
    """Destroys no key any more: what the test must find out."""
    from oneglance_index.store import keys, slots

    slots.Slots._renew = lambda self, slots: None  # type: ignore[method-assign]
    keys.Keys.destroy = lambda self, gallery: self._destroyed.add(gallery)  # type: ignore[method-assign]
    keys.Keys.keep_only = lambda self, galleries: None  # type: ignore[method-assign]


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def work(galleries: LocalGalleries, name: str) -> None:
    """Says what it is about to delete, and what was acknowledged."""
    rng = random.Random(name)
    alive: dict[str, list[str]] = {gallery: [] for gallery in GALLERIES}
    own = f"own-{name}"
    for i in range(1_000_000):
        gallery = rng.choice([*GALLERIES])
        act = rng.random()
        if alive[gallery] and act < 0.4:
            subject = alive[gallery].pop(rng.randrange(len(alive[gallery])))
            galleries.delete_subject(gallery, subject).result()
            say(f"gone {subject}")
        elif act < 0.5:  # a gallery of its own, with all that is in it
            galleries.create_gallery(own, encoder_digest="e", dimension=DIMENSION).result()
            subject = f"{name}-{i}"
            galleries.enroll(own, subject, vectors_of(subject), labels=labels_of(subject)).result()
            galleries.delete_gallery(own).result()
            say(f"gone {subject}")
        elif alive[gallery] and act < 0.6:  # another in its place
            subject = rng.choice(alive[gallery])
            other = f"{name}-{i}"
            galleries.enroll(
                gallery, subject, vectors_of(other), labels=labels_of(other), on_existing="replace"
            ).result()
            (negative,) = galleries.get_subject(gallery, subject).negatives
            galleries.delete_negative(gallery, subject, negative.id).result()
            say(f"gone {subject}")
            alive[gallery].remove(subject)
        else:
            subject = f"{name}-{i}"
            galleries.enroll(gallery, subject, vectors_of(subject), labels=labels_of(subject)).result()
            galleries.add_negative(gallery, subject, -vectors_of(subject)[0]).result()
            alive[gallery].append(subject)


def child(data_dir: Path, name: str) -> None:
    galleries = LocalGalleries.open(data_dir, settings=IndexSettings(snapshot_every_encodings=5))
    say("open")
    for number in range(2):
        threading.Thread(target=work, args=(galleries, f"{name}-{number}"), daemon=True).start()
    threading.Event().wait()


def rounds(data_dir: Path, count: int, seed: int, keeping: bool) -> tuple[int, int]:
    """How many were deleted, and of how many of those anything could be rebuilt after any round."""
    rng = random.Random(seed)
    with LocalGalleries.open(data_dir) as galleries:
        for gallery, fusion in GALLERIES.items():
            galleries.create_gallery(gallery, encoder_digest="e", dimension=DIMENSION, fusion=fusion).result()
    thief = Thief(data_dir)
    gone: set[str] = set()
    rebuilt: set[str] = set()
    for number in range(count):
        command = [sys.executable, "-m", "tests.erasing", "--child", str(data_dir), "--name", f"{seed}-{number}"]
        process = subprocess.Popen([*command, *(["--keep-keys"] if keeping else [])], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process, process.stdout:
            said = []
            try:
                process.stdout.readline()
                for _ in range(rng.randrange(1, 40)):
                    said.append(process.stdout.readline())
                    if rng.random() < 0.2:
                        thief.look()
                thief.look()
                time.sleep(rng.uniform(0, 0.005))
            finally:
                process.send_signal(signal.SIGKILL)
            said += process.stdout.read().splitlines()
        thief.look()  # at what was left, before anybody tidies up
        fresh = {line.decode().split()[1] for line in said if line.startswith(b"gone ")}
        gone |= fresh
        rebuilt |= thief.of(fresh)  # acknowledged: gone already now
        LocalGalleries.open(data_dir).close()
        rebuilt |= thief.of(gone)
    return len(gone), len(rebuilt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep-keys", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.keep_keys:
        keep_keys()
    if options.child:
        child(options.child, options.name)
    with tempfile.TemporaryDirectory() as folder:
        gone, rebuilt = rounds(Path(folder), options.rounds, options.seed, options.keep_keys)
    print(json.dumps({"rounds": options.rounds, "deleted": gone, "rebuilt": rebuilt}))


if __name__ == "__main__":
    main()
