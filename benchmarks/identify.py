"""What coalescing gains: Identify through gRPC against bare FAISS called one query at a time, in one run.

    python -m benchmarks.identify [--subjects 100000]

K subjects x 128, one encoding each, unit norm (the worst case for any shortcut); probes are encodings.
Bare is ``faiss.IndexFlatL2.search`` with one query after the other, as a service without batching would run it: as it
comes, and with one OpenMP thread, since FAISS takes another path for fewer queries than threads. Both are given.
"Planned" is what `oneglance plan` would have expected of these callers on two cores.
The floor for one scan is the bytes of the gallery over the memory's bandwidth.
"""

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.load import IDENTIFY, drive
from benchmarks.random_directions import random_directions
from benchmarks.report import options, table
from benchmarks.stage import GLYPHS
from oneglance import Client, encoded_subject, encoding
from oneglance.client.requests import example
from oneglance.v1.identification_pb2 import IdentifyRequest
from oneglance_apps.planning.costs import CPU
from oneglance_apps.planning.sheet import Load, service_seconds
from tests.running import ServerProcess

Vectors = npt.NDArray[np.float32]
D = 128
ROUNDS = 3
SECONDS = 3.0


@dataclass(frozen=True)
class Bare:
    """Probes per second and median milliseconds of FAISS, one query at a time."""

    per_second: float
    p50_ms: float


def bare(index: faiss.Index, probes: Vectors, seconds: float, threads: int) -> Bare:
    faiss.omp_set_num_threads(threads)
    latencies: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        index.search(probes[len(latencies) % len(probes)][np.newaxis], 5)
        latencies.append(time.perf_counter() - begun)
    return Bare(len(latencies) / sum(latencies), statistics.median(latencies) * 1e3)


def bandwidth() -> float:
    """Bytes per second that one thread reads from memory, the best of some passes over 512 MB."""
    block = np.ones(64 << 20, dtype=np.float64)
    passes = []
    for _ in range(5):
        begun = time.perf_counter()
        block.sum()
        passes.append(time.perf_counter() - begun)
    return block.nbytes / min(passes)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--subjects", metavar="K", type=int, default=100_000)
    told = parser.parse_args()
    count: int = told.subjects
    # FAISS's own default: the index package changes it in a process that opens galleries.
    faiss.cvar.distance_compute_blas_threshold = 128_000
    rng = np.random.default_rng(0)
    gallery, probes = (random_directions(rng, some, D) for some in (count, 256))
    index = faiss.IndexFlatL2(D)
    index.add(gallery)
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), models=GLYPHS) as server:
        with Client(server.address) as client:
            digest = client.create_gallery("bench", doubt_policy="off", fusion="nearest").encoder_digest
            begun = time.perf_counter()
            new = (encoded_subject(f"s{i}", row) for i, row in enumerate(gallery))
            outcomes = client.bulk_enroll_encodings("bench", new, encoder_digest=digest)
            enrolled = sum(outcome.HasField("enrolled") for outcome in outcomes)
            seconds = time.perf_counter() - begun
            print(
                f"enrolled {enrolled:,} subjects in {seconds:.1f} s: {enrolled / seconds:,.0f}/s, durable", flush=True
            )
            requests = [IdentifyRequest(gallery_id="bench", probes=[example(encoding(row, digest))]) for row in probes]
            nearest = index.search(probes[:32], 5)[1]
            for request, expected in zip(requests[:32], nearest, strict=True):
                answer = client.identify("bench", *request.probes).results[0]
                assert [c.subject_id for c in answer.candidates] == [f"s{i}" for i in expected]
        rows = []
        for in_flight in (1, 8, 64, 256):
            loads, bares = [], []
            for _ in range(ROUNDS):
                ways = [bare(index, probes, SECONDS / 2, threads) for threads in (os.cpu_count() or 1, 1)]
                bares.append(ways)
                loads.append(
                    drive(server.address, IDENTIFY, requests, in_flight=in_flight, seconds=SECONDS, go_on=True)
                )
            middle = sorted(loads, key=lambda load: load.per_second)[ROUNDS // 2]
            planned = in_flight / service_seconds(CPU, Load(count, 1, D, 1, "encodings", 1), 2, in_flight)
            row: list[object] = [in_flight, middle.per_second, planned, middle.refused, middle.p50_ms, middle.p99_ms]
            for way in (0, 1):  # as it comes, one thread
                mine = [ways[way] for ways in bares]
                row += [
                    statistics.median(b.p50_ms for b in mine),
                    statistics.median(x.per_second / b.per_second for x, b in zip(loads, mine, strict=True)),
                    statistics.median(x.p50_ms / b.p50_ms for x, b in zip(loads, mine, strict=True)),
                ]
            rows.append(row)
    table(
        f"Identify: gRPC against bare FAISS one query at a time, K = {count:,} x {D}",
        ("in flight", "gRPC probes/s", "planned", "refused", "p50 ms", "p99 ms", "FAISS as it comes: p50 ms",
         "speed ratio", "p50 ratio", "FAISS, 1 thread: p50 ms", "speed ratio", "p50 ratio"),
        rows,
    )  # fmt: skip
    gallery_bytes, speed = count * D * 4, bandwidth()
    print(
        f"\nfloor of one scan: {gallery_bytes / 1e6:.0f} MB at {speed / 1e9:.1f} GB/s (one thread) = "
        f"{gallery_bytes / speed * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    main()
