"""What keeping galleries encrypted, sealed and deletable costs: this build beside another one, in one run.

    python -m benchmarks.at_rest --encodings 100000 1000000 --before ../oneglance-before

enrolls so many subjects of one encoding each, 128-d, identifies, stops and starts, deletes a subject and the gallery,
each in a process of its own; first the build in the folder `--before`, then this one, `--rounds` times in turn. Says
the medians.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.random_directions import random_directions
from oneglance_index import LocalGalleries, Search

DIMENSION = 128
AT_ONCE = 512
PROBES = (1, 64)
PACKAGES = ("proto", "core", "index", "exporter", "server", "apps")
UNITS = {
    "enroll_per_second": "subjects enrolled a second",
    "enroll_cpu_us": "processor time of one, µs",
    "identify_1_ms": "identify, 1 probe, ms",
    "identify_64_ms": "identify, 64 probes, ms",
    "start_s": "start, s",
    "stop_s": "stop, s",
    "disk_mb": "on disk, MB",
    "delete_subject_ms": "delete one subject, ms",
    "delete_gallery_ms": "delete the gallery, ms",
    "purged_s": "until it is purged, s",
    "slowest_write_ms": "slowest write meanwhile, ms",
}


def timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def median(act: Callable[[], object], times: int) -> float:
    return statistics.median(timed(act) for _ in range(times))


def unit(count: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return random_directions(np.random.default_rng(seed), count, DIMENSION)


def enroll(galleries: LocalGalleries, subjects: Sequence[int], gallery: str = "g") -> None:
    for start in range(0, len(subjects), AT_ONCE):
        numbers = subjects[start : start + AT_ONCE]
        waiting = [
            galleries.enroll(gallery, f"s{number}", vector[None], labels={"name": f"subject {number}"})
            for number, vector in zip(numbers, unit(len(numbers), numbers[0]), strict=True)
        ]
        for one in waiting:
            one.result()


def measure(data_dir: Path, encodings: int) -> dict[str, float]:
    """One build: the one that is imported here."""
    found: dict[str, float] = {}
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
        enroll(galleries, range(1000))
        processor = time.process_time()
        seconds = timed(lambda: enroll(galleries, range(1000, encodings)))
        found["enroll_per_second"] = (encodings - 1000) / seconds
        found["enroll_cpu_us"] = (time.process_time() - processor) / (encodings - 1000) * 1e6
        for count in PROBES:
            ask = functools.partial(galleries.search_many, "g", [Search(unit(count, 1), "e", 5)])
            ask()
            found[f"identify_{count}_ms"] = 1e3 * median(ask, 15)
        begun = time.perf_counter()
    found["stop_s"] = time.perf_counter() - begun
    found["disk_mb"] = sum(path.stat().st_size for path in data_dir.rglob("*") if path.is_file()) / 1e6
    begun = time.perf_counter()
    galleries = LocalGalleries.open(data_dir)
    found["start_s"] = time.perf_counter() - begun
    numbers = iter(range(encodings))
    found["delete_subject_ms"] = 1e3 * median(lambda: galleries.delete_subject("g", f"s{next(numbers)}").result(), 25)
    galleries.create_gallery("other", encoder_digest="e", dimension=DIMENSION).result()
    found["delete_gallery_ms"] = 1e3 * timed(galleries.delete_gallery("g").result)
    begun, slowest, number = time.perf_counter(), 0.0, 0
    while rows_left(data_dir):
        slowest = max(slowest, timed(functools.partial(enroll, galleries, [number], "other")))
        number += 1
    found["purged_s"] = time.perf_counter() - begun
    found["slowest_write_ms"] = 1e3 * slowest
    galleries.close()
    return found


def rows_left(data_dir: Path) -> bool:
    """Of the deleted gallery, the first."""
    import sqlite3

    db = sqlite3.connect(data_dir / "store.sqlite3")
    rows = db.execute("SELECT 1 FROM galleries WHERE number = 1").fetchall()
    db.close()
    return bool(rows)


def run(build: Path, encodings: int) -> dict[str, float]:
    """What measure() finds in a process that has the packages of a build."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(build / name) for name in PACKAGES)}
        command = [sys.executable, __file__, "--encodings", str(encodings), "--in", folder]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encodings", type=int, nargs="+", default=[100_000])
    parser.add_argument("--before", type=Path, help="a folder with another build; without it only this one is measured")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(measure(options.folder, options.encodings[0])))
        return
    builds = {"this": Path(__file__).parents[1]}
    if options.before:
        builds = {"before": options.before.resolve(), **builds}
    for encodings in options.encodings:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in builds}
        for _ in range(options.rounds):
            for name, build in builds.items():
                found[name].append(run(build, encodings))
        print(f"\n| {encodings:,} x {DIMENSION} | {' | '.join(builds)} |\n|---|{'---|' * len(builds)}")
        for key, what in UNITS.items():
            medians = [statistics.median(one[key] for one in found[name]) for name in builds]
            print(f"| {what} | {' | '.join(f'{value:,.1f}' for value in medians)} |", flush=True)


if __name__ == "__main__":
    main()
