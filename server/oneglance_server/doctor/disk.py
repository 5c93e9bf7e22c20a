"""The disk below a data directory: of which kind it is, what is free, and how long it takes to be sure of a write."""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from oneglance_server.doctor.finding import Finding

_MOUNTS = Path("/proc/self/mountinfo")
_SYNCS, _BYTES = 25, 4096
_SLOW_SECONDS = 0.02
_TOO_QUICK_SECONDS = 20e-6  # no device answers so fast
_LEAST_FREE = 1 << 30
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "fuse.glusterfs")
_VOLATILE = ("tmpfs", "ramfs")


def disk(data_dir: Path, mounts: Path = _MOUNTS) -> Iterator[Finding]:
    """A file is written beside the data, and removed."""
    folder = next(path for path in (data_dir.absolute(), *data_dir.absolute().parents) if path.is_dir())
    kind = _kind_of(folder, mounts)
    free = shutil.disk_usage(folder).free
    text = f"{kind} at {folder}, {free / 2**30:.1f} GiB free"
    if kind in _VOLATILE:
        yield Finding("bad", "disk", f"{text}: nothing there outlives the machine")
    elif kind in _REMOTE:
        yield Finding(
            "bad", "disk", f"{text}: a store needs a local disk; locks and shared memory of SQLite don't work there"
        )
    elif kind == "overlay":
        yield Finding("bad", "disk", f"{text}: the container's own layer, which goes with it: mount a volume")
    elif free < _LEAST_FREE:
        yield Finding(
            "note", "disk", f"{text}: 1,000,000 encodings of 128 numbers take 1.3 GB, and a conversion as much again"
        )
    else:
        yield Finding("good", "disk", text)
    try:
        seconds = sync_seconds(folder)
    except OSError as error:
        yield Finding("note", "disk sync", f"can't be measured: {error}")
        return
    middle, worst = statistics.median(seconds), max(seconds)
    told = f"a write is on the disk after {middle * 1000:.2f} ms, at worst {worst * 1000:.1f} ms"
    rate = f"one enrollment after the other: at most {1 / middle:,.0f} a second; many at once share it"
    if middle < _TOO_QUICK_SECONDS and kind not in _VOLATILE:
        yield Finding("note", "disk sync", f"{told}: no disk is so fast; does something only say that it wrote?")
    elif middle > _SLOW_SECONDS:
        yield Finding("note", "disk sync", f"{told}: slow. {rate}")
    else:
        yield Finding("good", "disk sync", f"{told}; {rate}")


def sync_seconds(folder: Path) -> list[float]:
    """Of each of some small writes that were synced. Raises OSError."""
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            begin = time.perf_counter()
            file.write(os.urandom(_BYTES))
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - begin)
    return taken


def _kind_of(folder: Path, mounts: Path) -> str:
    """Of the file system: that of the deepest mount above the folder."""
    best, kind = "", "a file system"
    for line in mounts.read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].replace("\\040", " ")
        if len(point) >= len(best) and folder.is_relative_to(point):
            best, kind = point, after.split()[0]
    return kind
