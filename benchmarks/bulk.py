"""Encodings enrolled in bulk while somebody identifies: how many a second, beside the store alone, which is the limit.

    python -m benchmarks.bulk [--encodings 100000] [--held 1000000] [--rounds 3] [--every 0] [--before CHECKOUT]

Rounds alternate between the store alone (a process that writes as the server does, and nothing else), messages of many
subjects, and one subject a message, each into a gallery that holds ``--held`` subjects x 128. While the server enrolls,
a client identifies one probe after the other, or with ``--every`` one each so many seconds, in that very gallery. What
the server answered is fsynced. ``--before`` runs the server of another checkout of this project, too, in turns.
"""

import itertools
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.random_directions import random_directions
from benchmarks.report import options, table
from benchmarks.stage import sides
from oneglance import Client, encoded_subject, encoding, enroll_request
from oneglance_core.manifests import InputSpec
from oneglance_index import LocalGalleries, NewEncodings
from tests.models import values_model
from tests.running import ServerProcess

D, MANY = 128, 512
PATIENCE_SECONDS = 600.0
_TICKS = os.sysconf("SC_CLK_TCK")
Vectors = npt.NDArray[np.float32]


def vectors(count: int, seed: int) -> Vectors:
    return random_directions(np.random.default_rng(seed), count, D)


def write(store: LocalGalleries, rows: Vectors, prefix: str, gallery: str = "g") -> None:
    """As fast as the store can: some messages wait while one is written."""
    waiting = []
    for start in range(0, len(rows), MANY):
        new = [NewEncodings(f"{prefix}{i}", rows[i : i + 1]) for i in range(start, min(start + MANY, len(rows)))]
        waiting.append(store.enroll_many(gallery, new, patient=True))
        if len(waiting) == 4:
            waiting.pop(0).result()
    for one in waiting:
        one.result()


def timed(work: Callable[[], None], cpu_seconds: Callable[[], float]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    begun, cpu = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - begun, cpu_seconds() - cpu


class Served:
    """A server with the gallery, and who calls it."""

    def __init__(self, server: ServerProcess, client: Client, digest: str) -> None:
        self._server, self._client, self._digest = server, client, digest

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def many(self, rows: Vectors, prefix: str) -> None:
        new = (encoded_subject(f"{prefix}{i}", row) for i, row in enumerate(rows))
        for outcome in self._client.bulk_enroll_encodings("g", new, encoder_digest=self._digest, at_once=MANY):
            assert outcome.HasField("enrolled"), outcome

    def single(self, rows: Vectors, prefix: str) -> None:
        new = (enroll_request("g", f"{prefix}{i}", encoding(row, self._digest)) for i, row in enumerate(rows))
        for outcome in self._client.bulk_enroll(new):
            assert outcome.HasField("enrolled"), outcome

    @contextmanager
    def identifying(self, probes: Vectors, every: float, seconds: list[float]) -> Iterator[None]:
        """Meanwhile one client identifies; how long each call took comes to ``seconds``."""
        end = threading.Event()

        def identify() -> None:
            with Client(self._server.address, timeout_seconds=PATIENCE_SECONDS) as client:
                for probe in itertools.cycle(probes):
                    if end.is_set():
                        return
                    begun = time.perf_counter()
                    client.identify("g", encoding(probe, self._digest))
                    seconds.append(time.perf_counter() - begun)
                    end.wait(max(0.0, every - seconds[-1]))

        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(identify)
            try:
                yield
            finally:
                end.set()
                other.result()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--encodings", type=int, default=100_000, help="enrolled in a round")
    parser.add_argument("--held", type=int, default=1_000_000, help="subjects there before")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--every", type=float, default=0.0, metavar="SECONDS", help="a probe so often; 0: at once again"
    )
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    o = parser.parse_args()
    taken: dict[str, list[tuple[float, float, int]]] = {}
    seconds: dict[str, list[float]] = {side.name: [] for side in sides(o.before)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = values_model(folder / "model", InputSpec(kind="image", shape=(8, 16, 1), dtype="uint8", color="gray"))
        with ServerProcess(folder / "data", models=model) as server, Client(server.address) as client:
            digest = client.list_models()[0].digest
            client.create_gallery("g", doubt_policy="off", fusion="nearest")
            client.set_threshold("g", 0.5)
            server.terminate()
        held = vectors(o.held, 0)
        with LocalGalleries.open(folder / "data") as store:
            write(store, held, "held")
        with LocalGalleries.open(folder / "alone") as store:
            store.create_gallery("g", encoder_digest=digest, dimension=D).result()
            write(store, held, "held")
        for side in sides(o.before):
            shutil.copytree(folder / "data", folder / side.name)
        for number in range(o.rounds):
            rows, prefix = vectors(o.encodings, 1 + number), f"{number}-"
            with LocalGalleries.open(folder / "alone") as store:
                took = timed(partial(write, store, rows, prefix), time.process_time)
            taken.setdefault("the store alone", []).append((*took, len(rows)))
            for side in sides(o.before):
                with (
                    ServerProcess(folder / side.name, models=model, checkout=side.checkout) as server,
                    Client(server.address) as client,
                ):
                    served = Served(server, client, digest)
                    with served.identifying(held[:1000], o.every, seconds[side.name]):
                        took = timed(partial(served.many, rows, prefix), served.cpu_seconds)
                        taken.setdefault(f"{side.name}, {MANY} subjects a message", []).append((*took, len(rows)))
                        few = rows[: len(rows) // 20]
                        took = timed(partial(served.single, few, f"one-{prefix}"), served.cpu_seconds)
                        taken.setdefault(f"{side.name}, one subject a message", []).append((*took, len(few)))
                    server.terminate()
    limit = statistics.median(count / wall for wall, _, count in taken["the store alone"])
    told = []
    for what, rounds in taken.items():
        rate = statistics.median(count / wall for wall, _, count in rounds)
        micros = statistics.median(1e6 * cpu / count for _, cpu, count in rounds)
        told.append((what, rate, rate / limit, micros))
    title = f"Bulk enrollment into {o.held:,} x {D}, while one client identifies"
    table(title, ("", "encodings/s", "of the store alone", "CPU, us each, with identifying"), told)
    calls = [(name, len(took), *(np.percentile(took, [50, 99]) * 1000).tolist()) for name, took in seconds.items()]
    table("Identify meanwhile", ("server", "calls", "p50, ms", "p99, ms"), calls)


if __name__ == "__main__":
    main()
