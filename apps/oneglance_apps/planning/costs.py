"""What was measured, and how it is taken to grow. Times are in seconds, sizes in bytes.

A scan's time grows with the numbers that it reads or multiplies, rows x dimension; on CPUs it falls with the cores, as
long as the memory's bandwidth grows with them. Where each figure comes from stands beside it; all are in
docs/benchmarks.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A call of a server: gRPC, decisions, the answer; on one core, which no others relieve.
CALL_SECONDS = 0.0005
# The same where one of several servers takes it, and what is left to the one that keeps the galleries:
# benchmarks.together, encodings, 64 in flight, two workers.
SERVER_CALL_SECONDS, KEEPER_CALL_SECONDS = 0.00049, 0.000213
SERVER_CORES = 8
# What a batch takes besides: threads that are woken, a turn of the event loop.
BATCH_SECONDS = 0.0015
# So many calls a connection may have under way (max_calls_per_connection).
BATCH_CALLS = 256
# Of one core, for a probe that comes as ...: benchmarks.faces, 25.8 photos/s; benchmarks.encode.
INPUT_CORE_SECONDS = {"encodings": 0.0, "drawings": 0.0019, "photos": 0.039}

# benchmarks.ready: a server without galleries; of each encoding besides its numbers, in memory and in the store.
PROCESS_BYTES = 160 * 10**6
ROW_BYTES, STORE_ROW_BYTES = 20, 275
# A snapshot, a compaction or a backup needs so many times what it takes.
PEAK = 1.31
# The first answer, of 512 MB of vectors: 1.1 s of one core, decryption and all.
LOAD_CORE_SECONDS_PER_BYTE = 1.1 / 512e6


@dataclass(frozen=True)
class Scanner:
    """What compares probes with rows: `seconds` for `probes` at once, ascending, of `numbers` numbers (rows x
    dimension) by `cores` cores; `row_bytes`: of each number, in its memory, of which it has `memory_bytes`, None for a
    machine of which that is to be told."""

    name: str
    probes: tuple[int, ...]
    seconds: tuple[float, ...]
    numbers: float
    cores: int
    row_bytes: int
    memory_bytes: float | None = None

    def scan_seconds(self, probes: int, numbers: float) -> float:
        """Of so many probes at once, through so many numbers; in between by a straight line, beyond by the last one."""
        most = self.probes[-1]
        whole, rest = divmod(probes, most)
        taken = whole * self.seconds[-1] + (float(np.interp(rest, self.probes, self.seconds)) if rest else 0.0)
        return taken * numbers / self.numbers


# benchmarks.exact_rivals, 1M x 128, random: two cores of an AMD EPYC with AVX-512; four bytes of a vector's number, and
# one of its code's.
CPU = Scanner("CPU", (1, 8, 64, 256), (0.0052, 0.027, 0.0969, 0.329), 128e6, 2, 5)
# benchmarks.gpu, 10M x 128, an NVIDIA H200; its memory less a tenth.
H200 = Scanner("H200", (1, 64, 256), (0.0141, 0.0232, 0.0571), 1280e6, 0, 4, 0.9 * 141e9)
H200_HALF = Scanner("H200, --gpu-rows float16", (1, 64, 256), (0.0147, 0.0284, 0.0706), 1280e6, 0, 2, 0.9 * 141e9)
# benchmarks.on_milvus, 1M x 128: Milvus, the server and its callers on two cores, so a call is in it, and the way of
# the vectors back. A query node has so many cores, and so much memory for vectors: three fourths of 64 GB.
NODE_CORES, NODE_BYTES = 8, 0.75 * 64e9
MILVUS = Scanner("Milvus", (1, 8, 64, 256), (0.047, 0.204, 1.018, 3.1), 128e6, 2, 4)
# Where CPUs alone want more memory than this, a Milvus is planned, too.
LARGE_BYTES = 256e9
