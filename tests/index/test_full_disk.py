"""On a full disk nothing more is enrolled or backed up, but what is there can be deleted, and is gone for good."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_SECONDS

# In a namespace of its own, with a small file system that is filled to the brim.
SCRIPT = """
set -e
mount -t tmpfs -o size=64m tmpfs {folder}
exec {python} -c '
import os, sys
from pathlib import Path
import numpy as np
from oneglance_index import LocalGalleries, StoreFull
from tests.thief import Thief, recording
from tests.ways_to_delete import DIMENSION, labels_of, secrets_of, vectors_of

def fill_up():
    with open("{folder}/filler", "ab", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass

data, seen = Path("{folder}/data"), Path("{seen}")
with recording(seen), LocalGalleries.open(data) as galleries:
    galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
    galleries.create_gallery("h", encoder_digest="e", dimension=DIMENSION).result()
    for i in range(50):
        galleries.enroll("g" if i else "h", f"s{{i}}", vectors_of(f"s{{i}}"), labels=labels_of(f"s{{i}}")).result()
    galleries.create_gallery("wide", encoder_digest="e", dimension=512).result()
    for i in range(2):
        many = np.random.default_rng(i).standard_normal((1000, 512), dtype=np.float32)
        galleries.enroll("wide", f"w{{i}}", many).result()
    galleries.create_gallery("pictured", encoder_digest="e", dimension=512, keep_crops=True).result()
    pictures = [os.urandom(128 << 10) for _ in range(32)]
    galleries.enroll("pictured", "p", many, crops=pictures + [b"beyond"] * 968).result()
    galleries.compact()
    thief = Thief(data, seen)
    thief.look()
    fill_up()
    full = 0
    for i in range(3000):
        try:
            galleries.enroll("g", f"t{{i}}", vectors_of("x"), labels=labels_of("x")).result()
        except StoreFull:
            full += 1
            if full == 3:
                break
    assert full == 3, full
    try:
        galleries.back_up(Path("{folder}/backup"))
    except StoreFull:
        full += 1
    assert full == 4
    assert not list(Path("{folder}").glob("*backup*")) and not list(Path("{folder}").glob(".oneglance*"))
    gone = {{f"s{{i}}" for i in range(0, 20)}}
    for name in sorted(gone - {{"s0"}}):
        galleries.delete_subject("g", name).result()
    galleries.delete_gallery("h").result()
    (first, *_) = galleries.get_subject("wide", "w0").encodings
    galleries.delete_encoding("wide", "w0", first.id).result()
    fill_up()
    (first, *_) = galleries.get_subject("pictured", "p").encodings
    galleries.delete_encoding("pictured", "p", first.id).result()
    fill_up()
    for i in range(2):
        galleries.delete_subject("wide", f"w{{i}}").result()
        fill_up()
    assert thief.of(secrets_of(*gone)) == set()
    assert thief.of({{"p": (pictures[0],)}}) == set() and thief.of({{"p": (pictures[1],)}})
    fill_up()
    galleries.set_keep_crops("pictured", False).result()
    assert not thief.of({{"p": tuple(pictures)}})
fill_up()
for path in (data / "snapshots").glob("*.snap"):  # to be forgotten, and on this disk there is no room for another
    with path.open("r+b") as file:
        file.write(bytes(64))
left = LocalGalleries.open(data)
fill_up()
left.delete_subject("g", "s20").result()
gone.add("s20")
assert not (gone & {{s.id for s in left.list_subjects("g", page_size=1000).subjects}})
assert thief.of(secrets_of(*gone)) == set()
left.close()
'
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs a file system of its own",
)
def test_what_is_there_can_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    script = SCRIPT.format(folder=tmp_path / "small", seen=tmp_path / "seen", python=sys.executable)
    run = subprocess.run(
        ["unshare", "-m", "bash", "-c", script], timeout=PATIENCE_SECONDS, check=False, capture_output=True, text=True
    )
    if "mount" in run.stderr and "denied" in run.stderr:
        pytest.skip("may not mount")
    assert run.returncode == 0, run.stderr[-2000:]
