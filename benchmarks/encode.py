"""What the server adds to ONNX Runtime: Encode through gRPC against the same model run bare, in one run.

Both use the same model, the same number of batches at once and the same threads inside one. Bare means: a loop of
``session.run`` on a ready array of 64, the best a caller in process could do. The client shares the machine's cores
with the server. Rounds alternate between the two, and the ratio is the median over rounds.
"""

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.load import ENCODE, drive
from benchmarks.report import table
from oneglance.client.requests import example
from oneglance.glyphs import alphabet
from oneglance.model_folder import read_model_folder
from oneglance.v1.identification_pb2 import EncodeRequest
from oneglance_server.engines.encoder import Encoder
from oneglance_server.settings import BUNDLED_MODEL
from tests.running import ServerProcess
from tests.server.conftest import png

BATCH = 64
ROUNDS = 3
SECONDS = 3.0


def bare(encoder: Encoder, inputs: npt.NDArray[np.uint8], workers: int, seconds: float) -> float:
    """Pictures per second of ``workers`` threads that each run batches of 64 back to back."""
    until = time.perf_counter() + seconds

    def loop(_: int) -> int:
        done = 0
        while time.perf_counter() < until:
            encoder.encode(inputs)
            done += len(inputs)
        return done

    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        done = sum(pool.map(loop, range(workers)))
    return done / (time.perf_counter() - started)


def main() -> None:
    drawings = [subject.drawings[0] for subject in alphabet(seed=1, characters=BATCH, drawings=1)]
    inputs = np.stack(drawings)[..., np.newaxis]
    requests = {
        "tensor": [EncodeRequest(examples=[example(row)]) for row in inputs],
        "PNG": [EncodeRequest(examples=[example(png(row))]) for row in inputs],
    }
    rows = []
    for workers in (1, 2):
        encoder = Encoder(read_model_folder(BUNDLED_MODEL), device="cpu", threads=1, gpu_memory_bytes=1)
        encoder.warm_up((BATCH,))
        with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), encoder_workers=workers) as server:
            for kind, in_flight in (("tensor", 1), ("tensor", 8), ("tensor", 64), ("PNG", 64)):
                ratios, loads, bares = [], [], []
                for _ in range(ROUNDS):
                    bares.append(bare(encoder, inputs, workers, SECONDS / 2))
                    loads.append(drive(server.address, ENCODE, requests[kind], in_flight=in_flight, seconds=SECONDS))
                    ratios.append(loads[-1].per_second / bares[-1])
                middle = sorted(loads, key=lambda load: load.per_second)[ROUNDS // 2]
                rows.append(
                    (
                        workers,
                        kind,
                        in_flight,
                        statistics.median(bares),
                        middle.per_second,
                        statistics.median(ratios),
                        middle.p50_ms,
                        middle.p99_ms,
                    )
                )
    table(
        "Encode: gRPC against bare ONNX Runtime",
        ("threads of both", "input", "in flight", "bare pictures/s", "gRPC pictures/s", "ratio", "p50 ms", "p99 ms"),
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
