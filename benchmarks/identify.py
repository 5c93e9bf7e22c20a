"""What coalescing gains: Identify through gRPC against bare FAISS called one query at a time, in one run.

K = 100,000 subjects x 128, one encoding each, unit norm (the worst case for any shortcut); probes are encodings.
Bare is ``faiss.IndexFlatL2.search`` with one query after the other, as a service without batching would run it. The
floor for one scan is the bytes of the gallery over the memory's bandwidth.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np

from benchmarks.load import IDENTIFY, drive
from benchmarks.report import table
from oneglance import Client, encoding, enroll_request
from oneglance.v1.identification_pb2 import IdentifyRequest
from oneglance.v1.subject_pb2 import EnrollRequest
from tests.running import ServerProcess

K, D = 100_000, 128
ROUNDS = 3
SECONDS = 3.0


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.standard_normal((count, D), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def bare(index: faiss.Index, probes: np.ndarray, seconds: float) -> tuple[float, float]:
    """(probes per second, median milliseconds), one query at a time."""
    latencies = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        index.search(probes[len(latencies) % len(probes)][np.newaxis], 5)
        latencies.append(time.perf_counter() - begun)
    return len(latencies) / sum(latencies), statistics.median(latencies) * 1e3


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
            requests = [
                IdentifyRequest(gallery_id="bench", probes=[{"encoding": encoding(row, digest)}]) for row in probes
            ]
            nearest = index.search(probes[:32], 5)[1]
            for request, expected in zip(requests[:32], nearest, strict=True):
                answer = client.identify("bench", *request.probes).results[0]
                assert [c.subject_id for c in answer.candidates] == [f"s{i}" for i in expected]
        rows = []
        for in_flight in (1, 8, 64):
            loads, bares = [], []
            for _ in range(ROUNDS):
                bares.append(bare(index, probes, SECONDS / 2))
                loads.append(drive(server.address, IDENTIFY, requests, in_flight=in_flight, seconds=SECONDS))
            speed = statistics.median(load.per_second / b[0] for load, b in zip(loads, bares, strict=True))
            delay = statistics.median(load.p50_ms / b[1] for load, b in zip(loads, bares, strict=True))
            middle = sorted(loads, key=lambda load: load.per_second)[ROUNDS // 2]
            rate, median_ms = sorted(bares)[ROUNDS // 2]
            rows.append((in_flight, rate, median_ms, middle.per_second, middle.p50_ms, middle.p99_ms, speed, delay))
    table(
        f"Identify: gRPC against bare FAISS one query at a time, K = {K:,} x {D}",
        ("in flight", "bare probes/s", "bare p50 ms", "gRPC probes/s", "p50 ms", "p99 ms", "speed ratio", "p50 ratio"),
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
