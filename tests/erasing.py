"""What can be rebuilt of what was deleted, by whoever has the master key and every byte of a data directory.

    python -m tests.erasing --rounds 200 --seed 1 [--keep-keys]

deletes in every way there is, and after all that can happen to a store (ways_to_delete.py), and plays the thief
(thief.py). Then it kills a process that enrolls, deletes, rotates keys and makes backups in each round, at a random
moment, starts again, and plays the thief before and after. --keep-keys does the same where no key is destroyed: then
what was deleted must be found, else the thief is no good. The exit status is 0 where nothing could be rebuilt, else 1.
To run it on another version, copy this file, killing.py, ways_to_delete.py and thief.py into its tests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from oneglance_index import GalleryError, IndexSettings, LocalGalleries
from tests.killing import running
from tests.thief import Thief, keep_keys, recording
from tests.ways_to_delete import DIMENSION, WAYS, Secrets, found_by, labels_of, secrets_of, vectors_of

GALLERIES = {"flat": "nearest", "mean": "mean"}

ROUNDS_OF_ONE = 20


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def work(galleries: LocalGalleries, name: str) -> None:
    """Says what was deleted, and acknowledged."""
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
        elif len(alive[gallery]) > 1 and act < 0.61 and hasattr(galleries, "merge_subjects"):
            # All that one has goes to the other, which is deleted under another id: what it was called is of no help.
            subject, other = rng.sample(alive[gallery], 2)
            if act < 0.605:
                galleries.merge_subjects(gallery, subject, other).result()
            else:
                for encoding in galleries.get_subject(gallery, subject).encodings:
                    galleries.move_encodings(gallery, subject, other, encoding_id=encoding.id).result()
            galleries.update_labels(gallery, other, {"secret": "no more"}).result()
            galleries.rename_subject(gallery, other, f"{other}~").result()
            galleries.delete_subject(gallery, f"{other}~").result()
            alive[gallery] = [one for one in alive[gallery] if one not in (subject, other)]
            say(f"gone {subject}")
            say(f"gone {other}")
        elif act < 0.65 and hasattr(galleries, "rotate_keys"):
            with contextlib.suppress(GalleryError):  # two at once
                galleries.rotate_keys(rng.choice([*GALLERIES, None]))
        elif act < 0.67 and hasattr(galleries, "rotate_keys"):
            from oneglance_index import back_up

            back_up(galleries.data_dir / "store.sqlite3", galleries.data_dir.with_name(f"copy-{own}"))
        else:
            subject = f"{name}-{i}"
            galleries.enroll(gallery, subject, vectors_of(subject), labels=labels_of(subject)).result()
            galleries.add_negative(gallery, subject, -vectors_of(subject)[0]).result()
            alive[gallery].append(subject)


def child(data_dir: Path, name: str, keeping: bool) -> None:
    if keeping:
        keep_keys()
    with recording(data_dir.with_name("ciphertexts")):
        galleries = LocalGalleries.open(data_dir, settings=IndexSettings(snapshot_every_encodings=5))
        say("open")
        for number in range(2):
            threading.Thread(target=work, args=(galleries, f"{name}-{number}"), daemon=True).start()
        threading.Event().wait()


def rounds(folder: Path, count: int, seed: int, keeping: bool) -> tuple[int, int]:
    """How many were deleted, and of how many of those anything could be rebuilt after any round. One directory has
    ROUNDS_OF_ONE of them."""
    deleted = rebuilt = 0
    for first in range(0, count, ROUNDS_OF_ONE):
        with tempfile.TemporaryDirectory(dir=folder) as own:
            numbers = range(first, min(first + ROUNDS_OF_ONE, count))
            found = _rounds(Path(own), numbers, seed, keeping)
        deleted, rebuilt = deleted + found[0], rebuilt + found[1]
    return deleted, rebuilt


def _rounds(folder: Path, numbers: Sequence[int], seed: int, keeping: bool) -> tuple[int, int]:
    rng, data_dir = random.Random(f"{seed}-{numbers[0]}"), folder / "data"
    with LocalGalleries.open(data_dir) as galleries:
        for gallery, fusion in GALLERIES.items():
            galleries.create_gallery(gallery, encoder_digest="e", dimension=DIMENSION, fusion=fusion).result()
    thief = Thief(data_dir, folder / "ciphertexts")
    gone: Secrets = {}
    rebuilt: set[str] = set()
    for number in numbers:
        with running(child, data_dir, f"{seed}-{number}", keeping) as process:
            process.said.readline()
            said = []
            for _ in range(rng.randrange(1, 40)):
                said.append(process.said.readline())
                if rng.random() < 0.2:
                    thief.look()
            time.sleep(rng.uniform(0, 0.005))
            said += process.kill()
        thief.look()  # at what was left, before anybody tidies up
        fresh = secrets_of(*(line.decode().split()[1] for line in said if line.startswith(b"gone ")))
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
    options = parser.parse_args()
    if options.keep_keys:
        keep_keys()
    any_found = False
    for way in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = found_by(way, Path(folder))
            except (ImportError, AttributeError) as error:  # in a version that has no backups, or no keys
                print(json.dumps({way.__name__: f"not there: {error}"}), flush=True)
            else:
                any_found = any_found or any(found.values())
                print(json.dumps({way.__name__: {step: sorted(names) for step, names in found.items()}}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        gone, rebuilt = rounds(Path(folder), options.rounds, options.seed, options.keep_keys)
    print(json.dumps({"rounds": options.rounds, "deleted": gone, "rebuilt": rebuilt}))
    sys.exit(any_found or rebuilt > 0)


if __name__ == "__main__":
    main()
