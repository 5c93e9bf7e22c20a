"""Rows that make exact search slow, beside random ones: far from the origin, equal, in far clusters, all equally far.

    python -m benchmarks.hard_rows [--rows 100000] [--dimension 128] [--before CHECKOUT]

Each search asks for the five nearest subjects, as Identify does. Times are of an index in a process of its own,
medians, by the number of probes, and how many times those of random rows they are, which are searched in turn; with
--before those of another checkout's index, too. Distances are equal for all offsets, but float32 keeps less of the rows
the larger one is. The last column is of the first search of an index that has just been loaded, for one probe.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oneglance_index import Search
from oneglance_index.records import Rows
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.device import open_device
from oneglance_index.search.kinds import GalleryIndex
from oneglance_index.search.registry import KINDS as KINDS_OF_INDEX
from oneglance_index.search.registry import Machine

PROBES = (1, 16, 64)
TIMES = 5
PACKAGES = ("proto", "core", "index")
Vectors = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Times = list[tuple[float, float]]  # in ms: of these rows, and of random ones meanwhile


def spread(rng: np.random.Generator, count: int, dimension: int) -> Vectors:
    """Random directions about the origin, of length 1."""
    rows = rng.standard_normal((count, dimension)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def offset(norm: float) -> Callable[[np.random.Generator, Vectors], Vectors]:
    def make(rng: np.random.Generator, rows: Vectors) -> Vectors:
        return rows + norm * spread(rng, 1, rows.shape[1])

    return make


def alike(share: float, each: int = 0, off: float = 0) -> Callable[[np.random.Generator, Vectors], Vectors]:
    """So many of the rows are equal, `each` to one another, or all; or but for so much. The first 64 are among them."""

    def make(rng: np.random.Generator, rows: Vectors) -> Vectors:
        count = int(share * len(rows))
        classes = count // each if each else 1
        members = np.concatenate([np.arange(classes), classes + rng.permutation(len(rows) - classes)])[:count]
        made = rows.copy()
        made[members] = rows[np.arange(count) % classes]
        if off:
            made[members] += off * spread(rng, count, rows.shape[1])
        return made

    return make


def clusters(rng: np.random.Generator, rows: Vectors) -> Vectors:
    """Ten of them, a thousand times as far from each other as their rows are."""
    return rows + 1000 * spread(rng, 10, rows.shape[1])[rng.integers(10, size=len(rows))]


def sphere(rng: np.random.Generator, rows: Vectors) -> Vectors:
    """All as far from the probes, which are in the middle, as float32 can tell."""
    return rows


KINDS: dict[str, Callable[[np.random.Generator, Vectors], Vectors]] = {
    "random": lambda rng, rows: rows,
    "offset by 100": offset(100),
    "offset by 10,000": offset(10_000),
    "5 % equal": alike(0.05),
    "50 % equal": alike(0.5),
    "50 % equal, offset by 10,000": lambda rng, rows: offset(10_000)(rng, alike(0.5)(rng, rows)),
    "50 % equal, probes elsewhere": alike(0.5),
    "50 % equal, 100 each": alike(0.5, 100),
    "50 % equal, 10 each": alike(0.5, 10),
    "all equal, two each": alike(1, 2),
    "5 % nearly equal": alike(0.05, off=1e-7),
    "ten far clusters": clusters,
    "a sphere, probes in its middle": sphere,
}


def measure(rows: int, dimension: int) -> dict[str, Times]:
    """By kind of rows, for each number of probes and for the first search, by the index that is imported here."""
    threads = engine.cores()
    build: Any = engine  # which may be another
    pool = build.scan_pools(threads).usual if hasattr(build, "scan_pools") else build.scan_pool(threads)
    coded: dict[str, Any] = {field.name: True for field in dataclasses.fields(Machine) if field.name == "coded"}
    machine = Machine(pool, threads, open_device("cpu", 0), **coded)
    taken: dict[str, Times] = {}
    random: tuple[Vectors, list[Search]] | None = None
    for kind, make in KINDS.items():
        rng = np.random.default_rng(0)
        matrix = np.ascontiguousarray(make(rng, spread(rng, rows, dimension)), np.float32)
        near = np.zeros((1, dimension)) if make is sphere else matrix[rng.integers(rows, size=max(PROBES))]
        if "equal" in kind and "elsewhere" not in kind:
            near = matrix[: max(PROBES)]
        probes = (near + (1e-6 if make is sphere else 0.5) * spread(rng, max(PROBES), dimension)).astype(np.float32)
        searches = [Search(np.ascontiguousarray(probes[:count]), "e", 5) for count in PROBES]
        of_random = random or (matrix, searches)
        firsts = [
            [taking(filled(machine, of), asked[0]) for of, asked in ((matrix, searches), of_random)]
            for _ in range(TIMES)
        ]
        first = statistics.median(took for took, _ in firsts), statistics.median(took for _, took in firsts)
        random = of_random
        index, other = filled(machine, matrix), filled(machine, random[0])
        taken[kind] = [*(medians(index, *each, other) for each in zip(searches, random[1], strict=True)), first]
        print(kind, file=sys.stderr)
    return taken


def filled(machine: Machine, matrix: Vectors) -> GalleryIndex:
    """With these rows, each of another subject."""
    count, dimension = matrix.shape
    index = KINDS_OF_INDEX["flat"](dimension, machine, "nearest", 1)
    numbers = np.arange(1, count + 1)
    index.load(1, {i: f"s{i}" for i in range(1, count + 1)}, count)
    index.append(Rows(numbers, numbers, matrix))
    return index


def medians(index: GalleryIndex, search: Search, of_random: Search, random: GalleryIndex) -> tuple[float, float]:
    taken = [(taking(index, search), taking(random, of_random)) for _ in range(TIMES + 1)][1:]
    return statistics.median(took for took, _ in taken), statistics.median(took for _, took in taken)


def taking(index: GalleryIndex, search: Search) -> float:
    begun = time.perf_counter()
    index.search([search])
    return 1000 * (time.perf_counter() - begun)


def measured_by(checkout: Path, arguments: Sequence[str]) -> dict[str, Times]:
    """By a checkout, in a process of its own."""
    path = os.pathsep.join(str(checkout / package) for package in PACKAGES)
    command = [sys.executable, "-P", str(Path(__file__)), *arguments, "--json"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=True, stdout=subprocess.PIPE)
    measured: dict[str, Times] = json.loads(done.stdout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--json", action="store_true", help="print the times alone")
    options = parser.parse_args()
    if options.json:
        print(json.dumps(measure(options.rows, options.dimension)))
        return
    arguments = ["--rows", str(options.rows), "--dimension", str(options.dimension)]
    here = Path(__file__).parents[1]
    builds = {"": here} | ({"before: ": options.before.resolve()} if options.before else {})
    table: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for checkout in builds.values():
        measured = measured_by(checkout, arguments)
        for kind, times in measured.items():
            for took, random in times:
                table[kind].append(f"{took:.1f}" if kind == "random" else f"{took:.1f} ({took / random:.1f})")
    columns = [f"{build}{what}" for build in builds for what in ("1 probe", *map(str, PROBES[1:]), "first")]
    print(f"\n{options.rows:,} x {options.dimension}, ms (times random rows')\n")
    print("| rows | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for kind, cells in table.items():
        print(f"| {kind} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
