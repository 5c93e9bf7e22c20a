"""What coalescing gains: Identify through gRPC against bare FAISS called one query at a time, in one run.

K = 100,000 subjects x 128, one encoding each, unit norm (the worst case for any shortcut); probes are encodings.
Bare is ``faiss.IndexFlatL2.search`` with one query after the other, as a service without batching would run it: as it
comes, and with one OpenMP thread, since FAISS takes another path for fewer queries than threads. The better of the two
is what we compare with. The floor for one scan is the bytes of the gallery over the memory's bandwidth.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.load import IDENTIFY, drive
from benchmarks.report import table
from oneglance import Client, encoding, enroll_request
from oneglance.client.requests import example
from oneglance.v1.identification_pb2 import IdentifyRequest
from oneglance.v1.subject_pb2 import EnrollRequest
from tests.running import ServerProcess

Vectors = npt.NDArray[np.float32]
K, D = 100_000, 128
ROUNDS = 3
SECONDS = 3.0


def unit(rng: np.random.Generator, count: int) -> Vectors:
    vectors = rng.standard_normal((count, D), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


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
    rng = np.random.default_rng(0)
    gallery, probes = unit(rng, K), unit(rng, 256)
    index = faiss.IndexFlatL2(D)
    index.add(gallery)
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder)) as server:
        with Client(server.address) as client:
            digest = client.create_gallery("bench").encoder_digest

            def items() -> Iterator[EnrollRequest]:
                for i, row in enumerate(gallery):
                    yield enroll_request("bench", f"s{i}", [encoding(row, digest)])

            begun = time.perf_counter()
            refused = sum(response.HasField("error") for response in client.bulk_enroll(items()))
            seconds = time.perf_counter() - begun
            print(
                f"enrolled {K - refused:,} subjects over one stream in {seconds:.1f} s: {K / seconds:,.0f}/s, durable"
            )
            requests = [IdentifyRequest(gallery_id="bench", probes=[example(encoding(row, digest))]) for row in probes]
            nearest = index.search(probes[:32], 5)[1]
            for request, expected in zip(requests[:32], nearest, strict=True):
                answer = client.identify("bench", *request.probes).results[0]
                assert [c.subject_id for c in answer.candidates] == [f"s{i}" for i in expected]
        rows = []
        for in_flight in (1, 8, 64):
            loads, bares = [], []
            for _ in range(ROUNDS):
                ways = [bare(index, probes, SECONDS / 2, threads) for threads in (os.cpu_count() or 1, 1)]
                bares.append(ways)
                loads.append(drive(server.address, IDENTIFY, requests, in_flight=in_flight, seconds=SECONDS))
            best = [min(ways, key=lambda way: way.p50_ms) for ways in bares]
            speed = statistics.median(x.per_second / b.per_second for x, b in zip(loads, best, strict=True))
            delay = statistics.median(x.p50_ms / b.p50_ms for x, b in zip(loads, best, strict=True))
            middle = sorted(loads, key=lambda load: load.per_second)[ROUNDS // 2]
            as_it_comes, one_thread = (statistics.median(ways[i].p50_ms for ways in bares) for i in (0, 1))
            rate = statistics.median(b.per_second for b in best)
            rows.append(
                (
                    in_flight,
                    as_it_comes,
                    one_thread,
                    rate,
                    middle.per_second,
                    middle.p50_ms,
                    middle.p99_ms,
                    speed,
                    delay,
                )
            )
    table(
        f"Identify: gRPC against bare FAISS one query at a time, K = {K:,} x {D}",
        ("in flight", "bare p50 ms", "bare p50 ms, 1 thread", "best bare probes/s", "gRPC probes/s", "p50 ms", "p99 ms",
         "speed ratio", "p50 ratio"),
        rows,
    )  # fmt: skip
    gallery_bytes, speed = K * D * 4, bandwidth()
    print(
        f"\nfloor of one scan: {gallery_bytes / 1e6:.0f} MB at {speed / 1e9:.1f} GB/s (one thread) = "
        f"{gallery_bytes / speed * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    main()
