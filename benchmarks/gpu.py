"""The first half hour on a graphics card: is everything right, and how fast is it?

    python -m benchmarks.gpu [--models FOLDER]... [--rows 10000000] [--steps 1,2,...] [--go-on]

In the order in which it should be known. Each step prints what was measured beside what was predicted from arithmetic
(docs/gpu.md). A wrong answer, or any error, ends the run: what comes after it means nothing. ``--go-on`` runs the other
steps nevertheless, when the card is there for minutes only. Needs a card, oneglance[gpu], and memory on the host for
10 million rows of 512 dimensions (23 GB).
"""

import argparse
import ctypes
import functools
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks.random_directions import random_directions
from oneglance_core.cuda_driver import driver_trouble
from oneglance_core.folder import model_folders, read_any_model_folder
from oneglance_core.manifests import (
    DetectorManifest,
    EncoderManifest,
    ModelManifest,
    StylizerManifest,
    UprightnessManifest,
)
from oneglance_index import Found, GalleryError, IndexSettings, LocalGalleries, Search
from oneglance_index.records import Rows
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.cuda import Memory
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.gpu_scan import Gpu, GpuScan, open_gpu
from oneglance_index.search.scan import CpuScan, Scan, every_distance
from oneglance_server.engines.cuda import BATCH_SIZES, CudaSession
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.faces import Detector
from oneglance_server.engines.loaded_model import LoadedModel
from oneglance_server.engines.session import Runtime
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.settings import BUNDLED_MODEL, BUNDLED_STYLIZER, Settings

Vectors = npt.NDArray[np.float32]
SCRATCH = IndexSettings().gpu_temp_memory_bytes
MODEL_BYTES = 4 << 30
REPEATS = 20
MIXED = (1, 64, 3, 32, 7, 64, 1, 20, 50, 2)  # sizes of batches, as callers make them
GALLERIES = 50
FULL_ROWS = 4_000_000  # more than a full card has room for
BUNDLED = (BUNDLED_MODEL, BUNDLED_STYLIZER)
SIZES = ("640x480", "1920x1080")
CANVASES: dict[type[ModelManifest], type[LoadedModel[Any]]] = {DetectorManifest: Detector, StylizerManifest: Stylizer}
K = 21  # rows that a search for five subjects asks for


class Wrong(Exception):
    """An answer that is not what it must be."""


@dataclass
class Bench:
    """What the steps have in common."""

    rows: int
    models: Sequence[Path]
    threads: int = field(default_factory=engine.cores)

    @functools.cached_property
    def pool(self) -> ThreadPoolExecutor:
        return engine.scan_pools(self.threads).usual

    @functools.cached_property
    def gpu(self) -> Gpu:
        return open_gpu("cuda:0", 0, SCRATCH)

    @functools.cached_property
    def half_gpu(self) -> Gpu:
        return open_gpu("cuda:0", 0, SCRATCH, half=True)

    @functools.cached_property
    def large(self) -> tuple[Vectors, Vectors, GpuScan]:
        """`rows` x 128 with their norms, on the host and on the card."""
        matrix, norms = self.many(self.rows, 128)
        scan = GpuScan(self.gpu, 128)
        begun = time.perf_counter()
        scan.extend(matrix, norms, len(matrix))
        seconds = time.perf_counter() - begun
        say(
            f"upload of {len(matrix):,} x 128",
            f"{seconds:.2f} s, {matrix.nbytes / seconds / 1e9:.1f} GB/s",
            "3-10 GB/s",
        )
        return matrix, norms, scan

    def many(self, rows: int, dimension: int) -> tuple[Vectors, Vectors]:
        """Unit vectors: 100,000 random ones, each block of them turned by another swap of signs."""
        few = random_directions(np.random.default_rng(0), min(rows, 100_000), dimension)
        matrix = np.empty((rows, dimension), np.float32)

        def fill(block: int) -> None:
            part = matrix[block * len(few) : (block + 1) * len(few)]
            signs = np.random.default_rng(block).choice([-1, 1], dimension).astype(np.float32)
            np.multiply(few[: len(part)], signs, out=part)

        list(self.pool.map(fill, range(-(-rows // len(few)))))
        return matrix, np.ones(rows, np.float32)


def say(what: str, measured: str, predicted: str) -> None:
    print(f"  {what:<58} {measured:<28} predicted: {predicted}", flush=True)


def ms(run: Callable[[], object], repeats: int | None = None) -> float:
    """Median milliseconds, after one run that doesn't count."""
    run()
    took = []
    for _ in range(repeats or REPEATS):
        begun = time.perf_counter()
        run()
        took.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(took)


# The steps.


def driver(bench: Bench) -> None:
    if trouble := driver_trouble(0, 13000):
        raise Wrong(trouble)
    version = ctypes.c_int()
    ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    free = bench.gpu.card.free_bytes()
    say("CUDA of the driver", f"{version.value // 1000}.{version.value % 1000 // 10}", "13.0 or newer (driver 580)")
    say("FAISS, ONNX Runtime", f"{faiss.__version__}, {onnxruntime.__version__}", "1.15.1, 1.31.1")
    say("free memory of the card beside FAISS's scratch memory", f"{free / 1e9:.1f} GB", "the card's less 1.5 GB")


def parity(bench: Bench) -> None:
    for path in bench.models:
        folder = read_any_model_folder(path)
        begun = time.perf_counter()
        session = cuda_session(path)
        opened = time.perf_counter() - begun
        vectors = folder.manifest.vectors()
        names = list(vectors.outputs)
        reference = session._reference
        batched = isinstance(folder.manifest, EncoderManifest | UprightnessManifest)
        for size in BATCH_SIZES if batched else (0,):
            inputs = {
                name: array[np.arange(size) % len(array)] if batched else array
                for name, array in vectors.inputs.items()
            }
            begun = time.perf_counter()
            if batched:
                session.prepare(names, inputs)
            prepared = time.perf_counter() - begun
            pairs = zip(session.run(names, inputs), reference.run(names, inputs), strict=True)
            apart = max(float(np.abs(one.astype(np.float64) - other).max()) for one, other in pairs)
            say(
                f"{folder.manifest.name}: batch {size or 'of its parity vectors'}, to the CPU",
                f"{apart:.2g} (prepared in {prepared:.2f} s)",
                f"<= 1e-4 of its scale (tolerance {vectors.tolerance:g}); 1e-3 means TF32",
            )
            if apart > vectors.tolerance:
                raise Wrong(f"{folder.manifest.name}, batch {size}")
        say(f"{folder.manifest.name}: opened in", f"{opened:.2f} s", "0.2-5 s, the first with CUDA's start")
        if engine_of := CANVASES.get(type(folder.manifest)):  # every size that is prepared is compared with the CPU
            begun = time.perf_counter()
            engine_of.load(folder, Settings(device="cuda", prepared_sizes=SIZES))
            took = time.perf_counter() - begun
            say(f"{folder.manifest.name}: canvases of {', '.join(SIZES)}", f"equal ({took:.1f} s)", "equal")


def placement(bench: Bench) -> None:
    for path in bench.models:
        session = cuda_session(path)
        placed = session._any.placement()
        on_cpu = {name: dict(operations) for name, operations in placed.items() if "CUDA" not in name and operations}
        total = sum(sum(operations.values()) for operations in placed.values())
        say(f"{path.name}: of {total} operations not on the card", str(on_cpu or "none"), "shapes at most")


def exactness(bench: Bench) -> None:
    rng = np.random.default_rng(1)
    rows = random_directions(rng, min(1_000_000, bench.rows), 128)
    half, some = len(rows) // 2, len(rows) // 20
    rows[half : half + some] = rows[:some] * np.float32(1 + 2e-7)  # near-twins, where float32 cancels
    rows[-some:] = rows[:some]  # twins
    on_cpu = filled(bench, CpuScan(bench.pool, bench.threads), rows, 1)
    for gpu in (bench.gpu, bench.half_gpu):
        compare(rng, rows, on_cpu, filled(bench, GpuScan(gpu, 128), rows, 5), "float16" if gpu.half else "float32")


def compare(rng: np.random.Generator, rows: Vectors, on_cpu: ExactIndex, on_card: ExactIndex, kept: str) -> None:
    for count in (1, 64, 256):
        probes = np.concatenate([rows[: count // 2], random_directions(rng, count - count // 2, 128)])
        for search in (Search(probes, "e", 5), Search(probes, "e", 3, 0.9, 50), Search(probes[:2], "e", 3000)):
            (one,), (other,) = on_cpu.search([search]), on_card.search([search])
            if not isinstance(one, Found) or not isinstance(other, Found):
                raise Wrong(f"{one} {other}")
            if (one.candidates, one.matches) != (other.candidates, other.matches):
                raise Wrong(f"{count} probes, {search.candidates} candidates: not what the CPU finds")
        took = [ms(functools.partial(index.search, [Search(probes, "e", 5)]), 5) for index in (on_card, on_cpu)]
        say(
            f"{len(rows):,} x 128 {kept}, near-twins, {count} probes: as the CPU",
            f"equal; {took[0]:.1f} ms (CPU {took[1]:.0f})",
            "equal",
        )


def scan_times(bench: Bench) -> None:
    matrix, _, scan = bench.large
    report_scan(f"{bench.rows:,} x 128", scan, matrix, {1: "2-10 ms", 64: "3-15 ms", 256: "10-50 ms"})
    halves = GpuScan(bench.half_gpu, 128)
    halves.extend(matrix, np.empty(0, np.float32), len(matrix))
    less = dict.fromkeys((1, 64, 256), "less than float32")
    report_scan(f"{bench.rows:,} x 128 float16", halves, matrix, less, half=True)
    some = matrix[:1_000_000]
    for gpu in (bench.gpu, bench.half_gpu):
        index = filled(bench, GpuScan(gpu, 128), some, 1)
        probes = random_directions(np.random.default_rng(3), 256, 128)
        for count in (1, 64, 256):
            took = ms(functools.partial(index.search, [Search(probes[:count], "e", 5)]))
            what = f"{len(some):,} x 128 {'float16' if gpu.half else 'float32'} through the index, {count} probes"
            say(what, f"{took:.2f} ms", "the scan + 1 ms")


def scan_512(bench: Bench) -> None:
    matrix, norms = bench.many(bench.rows, 512)
    scan = GpuScan(bench.gpu, 512)
    scan.extend(matrix, norms, len(matrix))
    report_scan(f"{bench.rows:,} x 512", scan, matrix, {1: "8-15 ms", 64: "10-40 ms", 256: "40-100 ms"})


def parts(bench: Bench) -> None:
    _, _, scan = bench.large
    probes = random_directions(np.random.default_rng(4), 256, 128)
    for lanes, size in ((1, SCRATCH), (4, SCRATCH), (6, SCRATCH), (8, SCRATCH), (4, 2 * SCRATCH), (8, 2 * SCRATCH)):
        free = bench.gpu.card.free_bytes()
        trial = GpuScan(open_gpu("cuda:0", 0, size, lanes), 128)
        trial._chunks = scan._chunks
        taken = free - bench.gpu.card.free_bytes()
        times = [ms(functools.partial(trial.nearest, probes[:count], K, 1.0), 10) for count in (1, 4, 16, 64, 256)]
        say(
            f"{lanes} parts, scratch {size >> 20} MiB ({taken >> 20} MiB taken)",
            " / ".join(f"{took:.2f}" for took in times) + " ms",
            "1 / 4 / 16 / 64 / 256 probes: one part is slowest, little scratch memory costs",
        )


def enrolls(bench: Bench) -> None:
    matrix, norms, scan = bench.large
    room = RoomyIndex(scan, matrix, norms)
    probe = matrix[5:6]
    before = ms(lambda: room.scan.nearest(probe, K, 1.0))
    free = bench.gpu.card.free_bytes()
    took = []
    for i in range(200):
        begun = time.perf_counter()
        room.enroll(matrix[i : i + 1])
        room.scan.nearest(probe, K, 1.0)
        took.append(1e3 * (time.perf_counter() - begun))
    grown = free - bench.gpu.card.free_bytes()
    say("search of one probe", f"{before:.2f} ms", "2-10 ms")
    say(
        "enroll and search, 200 times: median, worst",
        f"{statistics.median(took):.2f}, {max(took):.2f} ms",
        "as the search alone",
    )
    say("memory of the card that it took", f"{grown / 1e6:.0f} MB", "a quarter more, once; FAISS's index: all, twice")


def encode(bench: Bench) -> None:
    for path in bench.models:
        folder = read_any_model_folder(path)
        if not isinstance(folder.manifest, EncoderManifest):
            continue
        encoder = Encoder(folder, Runtime("cuda", 1, MODEL_BYTES))
        sample = folder.manifest.parity.inputs.unpack()

        def batch(size: int, sample: npt.NDArray[Any] = sample) -> npt.NDArray[Any]:
            return sample[np.arange(size) % len(sample)]

        def alternate(encoder: Encoder = encoder) -> None:
            for size in MIXED:
                encoder.encode(batch(size))

        unprepared = ms(alternate, 3) / len(MIXED)
        encoder.warm_up(64)
        name = folder.manifest.name
        for size in BATCH_SIZES:
            took = ms(functools.partial(encoder.encode, batch(size)))
            say(f"{name}: batch of {size}", f"{took:.2f} ms", "<= 5 ms")
        say(f"{name}: alternating sizes, prepared: a batch", f"{ms(alternate) / len(MIXED):.2f} ms", "<= 5 ms")
        say(f"{name}: alternating sizes, one session: a batch", f"{unprepared:.1f} ms", "30-500 ms")


def deletions(bench: Bench) -> None:
    rng = np.random.default_rng(6)
    rows = random_directions(rng, 20_000, 128)
    with tempfile.TemporaryDirectory() as folder, LocalGalleries.open(Path(folder), device="cuda") as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=128).result()
        for start in range(0, len(rows), 500):
            galleries.enroll("g", f"s{start}", rows[start : start + 500])
        galleries.enroll("g", "last", rows[:1]).result()
        done, wrong, searched = threading.Event(), [], [0]

        def search(gallery: str) -> None:
            while not done.is_set():
                try:
                    (found,) = galleries.search_many(gallery, [Search(rows[7:8], "e", 1)])
                except GalleryError:
                    continue
                finally:
                    time.sleep(0.002)  # threads that never wait would keep Python's lock from the writer
                searched[0] += 1
                if gallery == "g" and (not isinstance(found, Found) or found.candidates[0][0].subject_id != "s0"):
                    wrong.append(found)

        threads = [threading.Thread(target=search, args=[name]) for name in ("g", "g", "h")]
        for thread in threads:
            thread.start()
        for i in range(GALLERIES):
            galleries.create_gallery("h", encoder_digest="e", dimension=128).result()
            galleries.enroll("h", "s", rows[i : i + 400]).result()
            galleries.delete_gallery("h").result()
        done.set()
        for thread in threads:
            thread.join()
    if wrong:
        raise Wrong(str(wrong[0]))
    say(f"{GALLERIES} galleries made and deleted during searches", f"{searched[0]} searches, all right", "all right")


def filling(bench: Bench) -> None:
    card = bench.gpu.card
    rows = random_directions(np.random.default_rng(7), 3000, 128)
    index = filled(bench, GpuScan(bench.gpu, 128), rows, 1)
    path = next(path for path in bench.models if isinstance(read_any_model_folder(path).manifest, EncoderManifest))
    encoder = Encoder(read_any_model_folder(path).of(EncoderManifest), Runtime("cuda", 1, MODEL_BYTES))
    taken = []
    size = card.free_bytes()
    while size > 1 << 20:
        try:
            taken.append(Memory(card, size))
        except MemoryError:
            size //= 2
    try:
        index.reserve(FULL_ROWS, FULL_ROWS)
    except MemoryError as error:
        refused = str(error)
    else:
        raise Wrong("an enrollment was let in that there is no memory for")
    (found,) = index.search([Search(rows[:256], "e", 1)])
    if not isinstance(found, Found) or [c[0].subject_id for c in found.candidates] != [f"s{i}" for i in range(256)]:
        raise Wrong(f"a search on a full card: {found}")
    sample = encoder.manifest.parity.inputs.unpack()
    try:
        encoder.encode(sample[np.arange(64) % len(sample)])
        encoded = "encoded"
    except MemoryError:
        encoded = "MemoryError"
    say("a full card: an enrollment", refused[-24:], "out of memory, typed")
    say("a full card: a search of 256 probes", "right", "right: its memory was taken at the start")
    say("a full card: a batch of 64", encoded, "MemoryError, or it fits in the arena")
    taken.clear()
    encoder.encode(sample[np.arange(64) % len(sample)])
    say("afterwards", f"encoded; {card.free_bytes() / 1e9:.1f} GB free", "as before")


STEPS: dict[str, Callable[[Bench], None]] = {
    "driver and libraries": driver,
    "parity of every model at every size of a batch": parity,
    "placement": placement,
    "exactness": exactness,
    "scan, 128 dimensions": scan_times,
    "parts and scratch memory": parts,
    "enrolling while identifying": enrolls,
    "encoding": encode,
    "deletions during searches": deletions,
    "a full card": filling,
    "scan, 512 dimensions": scan_512,
}


# What they use.


class RoomyIndex:
    """A scan's rows and one more after the other, as an index would add them: room for all was made before."""

    def __init__(self, scan: Scan, matrix: Vectors, norms: Vectors) -> None:
        self.scan = scan
        self._rows = len(matrix)
        self._matrix = np.concatenate([matrix, np.empty((1000, matrix.shape[1]), np.float32)])
        self._norms = np.concatenate([norms, np.ones(1000, np.float32)])

    def enroll(self, row: Vectors) -> None:
        self._matrix[self._rows] = row
        self._rows += 1
        self.scan.reserve(self._rows)
        self.scan.extend(self._matrix, self._norms, self._rows)


def cuda_session(path: Path) -> CudaSession:
    folder = read_any_model_folder(path)
    return CudaSession(folder, "cuda", 0, threads=4, memory_bytes=MODEL_BYTES)


def filled(bench: Bench, scan: Scan, rows: Vectors, chunks: int) -> ExactIndex:
    """An index of these rows, each a subject, which came in so many steps."""
    index = ExactIndex(rows.shape[1], scan, functools.partial(every_distance, bench.pool, bench.threads))
    step = -(-len(rows) // chunks)
    index.load(0, {i + 1: f"s{i}" for i in range(len(rows))}, step)
    for start in range(0, len(rows), step):
        numbers = np.arange(start, min(start + step, len(rows))) + 1
        index.append(Rows(numbers, numbers, rows[start : start + step]))
    return index


def report_scan(what: str, scan: Scan, matrix: Vectors, predicted: dict[int, str], half: bool = False) -> None:
    probes = random_directions(np.random.default_rng(2), 256, matrix.shape[1])
    at = np.arange(64) * (len(matrix) // 64)
    nearest = scan.nearest(matrix[at], 1, 1.0).rows.ravel()
    if not np.array_equal(matrix[nearest], matrix[at]):
        raise Wrong(f"{what}: a row is not nearest to itself")
    for count, expected in predicted.items():
        took = ms(functools.partial(scan.nearest, probes[:count], K, 1.0))
        floor = matrix.nbytes / (2 if half else 1) / 3.35e12 * 1e3
        say(f"{what}, {count} probes, k = {K}", f"{took:.2f} ms", f"{expected}; reading alone {floor:.1f} on an H100")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", type=Path, action="append", default=[], help="model folders, or folders of them")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--steps", default="", help="numbers of steps, comma-separated; default: all")
    parser.add_argument("--go-on", action="store_true", help="after a wrong answer or an error, too")
    chosen = parser.parse_args(arguments)
    models = [folder for path in chosen.models for folder in model_folders(path)]
    bench = Bench(chosen.rows, [*BUNDLED, *models])
    wanted = {int(number) for number in chosen.steps.split(",") if number}
    failed = 0
    for number, (name, step) in enumerate(STEPS.items(), 1):
        if wanted and number not in wanted:
            continue
        print(f"{number}. {name}", flush=True)
        begun = time.perf_counter()
        try:
            step(bench)
        except Exception:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            if not chosen.go_on:
                return 1
        print(f"  ({time.perf_counter() - begun:.1f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
