"""How soon a server answers, what memory it takes, and what upkeep costs, by the size of a gallery.

    python -m benchmarks.ready [--subjects 10000 100000 1000000] [--rounds 3] [--galleries 10000] [--keep FOLDER]
        [--before CHECKOUT]

Each directory holds a gallery of so many subjects x 128, one encoding each, and a small one, the bystander. First a
server is started over an empty directory and over this one in turn, whose files are out of the page cache; with
``--before`` another checkout's server, too. Then ``--galleries`` small ones: how long a stop
takes after each changed. And, in a process of its own over a copy, snapshot, compaction after 2 %
were deleted, backup, deletion of the gallery: seconds, peak of memory, and what one probe to the bystander takes
meanwhile. ``--keep``: where the directories are made, and found again. Memory is a process's resident set.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.bulk import D, vectors, write
from benchmarks.report import options, table
from oneglance import Client, encoding
from oneglance_core.folder import read_model_folder
from oneglance_core.manifests import InputSpec
from oneglance_index import IndexSettings, LocalGalleries, Search
from tests.models import values_model
from tests.running import ServerProcess

BYSTANDERS, AT_ONCE, DELETED = 1000, 100_000, 50
PATIENCE_SECONDS = 600.0
MEGABYTE = 1e6


def make(folder: Path, digest: str, subjects: int) -> None:
    """A data directory as a server that was stopped leaves it."""
    with LocalGalleries.open(folder) as store:
        store.create_gallery("bystander", encoder_digest=digest, dimension=D).result()
        store.set_threshold("bystander", 0.5).result()
        for i, row in enumerate(vectors(BYSTANDERS, 7)):
            store.enroll("bystander", f"s{i}", row[None], patient=True).result()
        store.create_gallery("g", encoder_digest=digest, dimension=D).result()
        store.set_threshold("g", 0.5).result()
        for start in range(0, subjects, AT_ONCE):
            write(store, vectors(min(AT_ONCE, subjects - start), start), f"{start}-")


def forget_pages(folder: Path) -> None:
    """The files are out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory(name: str, pid: int | str = "self") -> float:
    """Of a process, megabytes: VmRSS or VmHWM."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / MEGABYTE


def cpu_seconds(pid: int) -> float:
    """That a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(folder: Path, model: Path, digest: str, checkout: Path | None) -> dict[str, float]:
    """A server's start over a directory, to its first answer if there is a gallery, until all is checked."""
    forget_pages(folder)
    probe = encoding(vectors(1, 99)[0], digest)
    found: dict[str, float] = {}
    begun = time.perf_counter()
    with ServerProcess(folder, models=model, log=folder.parent / "log", checkout=checkout) as server:
        found["serving"] = time.perf_counter() - begun
        pid = server.process.pid
        found["cpu"] = cpu_seconds(pid)
        with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
            galleries = [gallery.id for gallery in client.list_galleries()]
            if "g" in galleries:
                answer = client.identify("g", probe)
                found["answer"] = time.perf_counter() - begun
                found["cpu"] = cpu_seconds(pid)
                assert answer.provenance.exact
                found["peak at start"] = memory("VmHWM", pid)
                taken = []
                while checkout is None and client.identify("g", probe).provenance.unchecked:
                    asked = time.perf_counter()
                    client.identify("bystander", probe)
                    taken.append(time.perf_counter() - asked)
                    time.sleep(0.01)
                found["checked"] = time.perf_counter() - begun
                found["bystander p99"] = 1e3 * float(np.percentile(taken or [0.0], 99))
            found["then"] = memory("VmRSS", pid)
        begun = time.perf_counter()
        server.terminate()
        found["stop"] = time.perf_counter() - begun
    return found


class Bystander:
    """Asks its own gallery all the time; how long each answer took comes to ``seconds``."""

    def __init__(self, store: LocalGalleries, digest: str) -> None:
        self.seconds: list[float] = []
        self._store, self._digest, self._end = store, digest, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        question = [Search(vectors(1, 99), self._digest, 5)]
        while not self._end.wait(0.002):
            asked = time.perf_counter()
            self._store.search_many("bystander", question)
            self.seconds.append(time.perf_counter() - asked)

    def __enter__(self) -> "Bystander":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def upkeep(folder: Path, digest: str, codes: str) -> dict[str, list[float]]:
    """Of each work its seconds, the peak of memory in MB, and the bystander's p99 in ms meanwhile."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as empty, LocalGalleries.open(Path(empty)):
        floor = memory("VmRSS")
    settings = IndexSettings(start_check="behind", row_codes="int8" if codes == "int8" else "off")
    with LocalGalleries.open(folder, settings=settings) as store:
        store.await_loaded()
        while not store.sound:
            time.sleep(0.01)
        held = store.get_gallery("g").subjects
        floor += (5 if codes == "int8" else 4) * D * held / MEGABYTE

        def measure(what: str, work: Callable[[], object]) -> None:
            Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
            with Bystander(store, digest) as bystander:
                begun = time.perf_counter()
                work()
                seconds = time.perf_counter() - begun
            p99 = 1e3 * float(np.percentile(bystander.seconds or [0.0], 99))
            peak = memory("VmHWM")
            found[what] = [seconds, peak, peak / floor, p99]

        measure("nothing", lambda: time.sleep(2))
        store.enroll("g", "new", vectors(1, 98)).result()
        measure("snapshot", lambda: store.snapshot("g"))
        first = [subject.id for subject in store.list_subjects("g", page_size=max(1, held // DELETED)).subjects]
        gone = [store.delete_subject("g", subject_id) for subject_id in first]
        for one in gone:
            one.result()
        measure("compaction", lambda: store.compact("g"))
        measure("backup", lambda: store.back_up(folder.parent / "backup.sqlite3"))
        measure("delete the gallery", lambda: store.delete_gallery("g").result())
    return found


def served(o: argparse.Namespace, folders: dict[int, Path], model: Path, digest: str) -> None:
    rows: list[tuple[object, ...]] = []
    builds = {"this": None, **({"before": o.before} if o.before else {})}
    for subjects, folder in folders.items():
        for name, checkout in builds.items():
            rounds: list[dict[str, float]] = []
            for _ in range(o.rounds):
                with tempfile.TemporaryDirectory(dir=folder.parent) as empty:
                    without = start(Path(empty) / "data", model, digest, checkout)
                one = start(folder, model, digest, checkout)
                rounds.append(
                    {
                        **one,
                        "later": one["answer"] - without["serving"],
                        "cpu later": one["cpu"] - without["cpu"],
                        "empty": without["then"],
                    }
                )
            middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
            told = (
                "serving",
                "answer",
                "later",
                "cpu later",
                "checked",
                "bystander p99",
                "peak at start",
                "then",
                "empty",
                "stop",
            )
            rows.append((f"{subjects:,}", name, *(middle[key] for key in told), 4 * D * subjects / MEGABYTE))
    header = (
        "SERVING, s",
        "first answer, s",
        "later than empty, s",
        "of that CPU, s",
        "checked, s",
        "bystander p99 until then, ms",
    )
    sizes = ("peak at first answer, MB", "then, MB", "empty, MB", "stop, s", "vectors, MB")
    table("A server's start, page cache cold", ("subjects", "build", *header, *sizes), rows)


def many(count: int, base: Path, model: Path, digest: str, drain_seconds: float) -> None:
    """So many galleries: a start, and a stop after each of them changed."""
    folder = base / f"{count}-galleries"
    if not folder.exists():
        with LocalGalleries.open(folder) as store:
            for start in range(0, count, 500):
                names = [f"g{i}" for i in range(start, min(start + 500, count))]
                made = [store.create_gallery(name, encoder_digest=digest, dimension=D) for name in names]
                for one in made:
                    one.result()
                write_all(store, names, "first")
            store.close(0)
    begun = time.perf_counter()
    with ServerProcess(folder, models=model, log=base / "log", drain_seconds=drain_seconds) as server:
        serving = time.perf_counter() - begun
        with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
            for i in range(count):
                client.enroll(f"g{i}", f"new {begun}", encoding(vectors(1, i)[0], digest), doubt_policy="off")
        begun = time.perf_counter()
        server.terminate()
        stopped = time.perf_counter() - begun
    title = f"{count:,} galleries, each changed before the stop"
    table(title, ("SERVING, s", "stop, s", "drain_seconds"), [(serving, stopped, drain_seconds)])


def write_all(store: LocalGalleries, names: list[str], subject_id: str) -> None:
    for one in [store.enroll(name, subject_id, vectors(1, i), patient=True) for i, name in enumerate(names)]:
        one.result()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--subjects", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--galleries", type=int, default=10_000)
    parser.add_argument("--drain-seconds", type=float, default=5.0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--upkeep", nargs=3, help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.upkeep:
        print(json.dumps(upkeep(Path(o.upkeep[0]), *o.upkeep[1:])))
        return
    with tempfile.TemporaryDirectory() as name:
        base = o.keep or Path(name)
        base.mkdir(exist_ok=True)
        model = base / "model"
        if not model.exists():
            values_model(model, InputSpec(kind="image", shape=(8, 16, 1), dtype="uint8", color="gray"))
        digest = read_model_folder(model).digest
        folders = {subjects: base / f"{subjects}" / "data" for subjects in o.subjects}
        for subjects, folder in folders.items():
            if not folder.exists():
                folder.parent.mkdir()
                make(folder, digest, subjects)
        served(o, folders, model, digest)
        many(o.galleries, base, model, digest, o.drain_seconds)
        rows = []
        for subjects, folder in folders.items():
            for codes in ("int8", "off"):
                with tempfile.TemporaryDirectory(dir=base) as copies:
                    copy = shutil.copytree(folder, Path(copies) / "data")
                    command = [sys.executable, "-m", "benchmarks.ready", "--upkeep", str(copy), digest, codes]
                    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                for what, told in json.loads(done.stdout).items():
                    rows.append((f"{subjects:,}", codes, what, *told))
        header = ("subjects", "row_codes", "meanwhile", "s", "peak, MB", "times rows and empty", "bystander's p99, ms")
        table("What upkeep costs", header, rows)


if __name__ == "__main__":
    main()
