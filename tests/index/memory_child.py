"""Limits its address space, and checks that want of memory is told and survived. Run by test_want_of_memory.py."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_index import Found, IndexSettings, LocalGalleries, OutOfMemory, Search
from tests.index import asking

DIMENSION = 128
SETTINGS = IndexSettings(max_encodings_per_subject=100_000)
_MMAP_THRESHOLD = -3  # of malloc.h
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def limit_to(more_bytes: int) -> None:
    """The process may take so much more than it has in use."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + more_bytes, resource.RLIM_INFINITY))


def vectors(n: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, DIMENSION), dtype=np.float32)


def fill(galleries: LocalGalleries, subjects: int) -> None:
    galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
    for i in range(subjects):
        galleries.enroll("g", f"s{i}", vectors(2000, i)).result()


def check_first(galleries: LocalGalleries) -> None:
    found = asking.nearest(galleries, "g", vectors(1, 0), 1).candidates[0][0]
    assert (found.subject_id, found.distance) == ("s0", 0.0)


def enroll(data_dir: Path) -> None:
    with LocalGalleries.open(data_dir, settings=SETTINGS) as galleries:
        fill(galleries, 1)
        check_first(galleries)
        limit_to(100 << 20)
        enrolled, refused = 1, 0
        while refused < 3:
            try:
                galleries.enroll("g", f"s{enrolled}", vectors(2000, enrolled)).result()
                enrolled += 1
            except OutOfMemory:
                refused += 1
            check_first(galleries)
        assert enrolled > 1
        gallery = galleries.get_gallery("g")
        assert asking.nearest(galleries, "g", vectors(1, 0), 1).encodings == gallery.encodings == 2000 * enrolled
        assert galleries.trouble() is None
        resource.setrlimit(resource.RLIMIT_AS, UNLIMITED)
        galleries.enroll("g", "late", vectors(2000, 999)).result()


def search(data_dir: Path) -> None:
    with LocalGalleries.open(data_dir, settings=SETTINGS) as galleries:
        fill(galleries, 20)
        probes = Search(vectors(1000, 5), "e", 20)
        told = set()
        for room in (64, 32, 16, 8, 4, 2, 1, 0):
            limit_to(room << 20)
            try:
                (answer,) = galleries.search_many("g", [probes])
                told.add(type(answer))
            except OutOfMemory:
                told.add(OutOfMemory)
            resource.setrlimit(resource.RLIMIT_AS, UNLIMITED)
            check_first(galleries)
        assert told <= {Found, OutOfMemory}
        assert OutOfMemory in told


def load(data_dir: Path) -> None:
    with LocalGalleries.open(data_dir, settings=SETTINGS) as galleries:
        fill(galleries, 60)
    limit_to(48 << 20)  # threads take some, before it is loaded
    with pytest.raises(OutOfMemory, match="not enough memory to load gallery 'g': its 120000 encodings"):
        LocalGalleries.open(data_dir, settings=SETTINGS)
    resource.setrlimit(resource.RLIMIT_AS, UNLIMITED)
    with LocalGalleries.open(data_dir, settings=SETTINGS) as galleries:
        check_first(galleries)


if __name__ == "__main__":
    # What is large goes back to the system as soon as it is freed: else as much again fits into what malloc kept.
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 20)
    {"enroll": enroll, "search": search, "load": load}[sys.argv[2]](Path(sys.argv[1]))
    print("as promised")
