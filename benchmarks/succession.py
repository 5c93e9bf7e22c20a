"""A gallery moves from one encoder of drawings to another, there and back, under load.

    python -m benchmarks.succession [--subjects 20000] [--swaps 5] [--seconds 10]
    python -m benchmarks.succession --models bundled:models/int8 --encoders characters characters-int8

Subjects are invented characters, one drawing each. Unless it is told others, the bundled encoder ``glyphs`` is the
former one, ``characters`` the new one. All the while two callers identify enrolled drawings, each of which must be its
own subject, and a third one enrolls a drawing, asks for it, deletes it and asks again: any other answer is wrong. They
go on while the successor is filled from the same drawings, at ``--swaps`` cut-overs and roll-backs, and after the last
cut-over.
"""

import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.report import options, table
from oneglance import Client, enroll_request
from oneglance_core.glyphs import alphabet
from tests.pictures import png
from tests.running import ServerProcess

PHASES = ("before", "filling", "swaps", "after")
_AN_ALPHABET = 50  # characters


def drawings(count: int) -> list[bytes]:
    """PNG, of as many characters."""
    made: list[bytes] = []
    while len(made) < count:
        made += [png(one.drawings[0]) for one in alphabet(len(made), min(_AN_ALPHABET, count - len(made)), 1)]
    return made


class Load:
    """``phase``: what the times of answers are counted to from now on."""

    def __init__(self, address: str, pictures: Sequence[bytes], newcomers: Sequence[bytes]) -> None:
        self.phase = PHASES[0]
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.wrong: list[str] = []
        self._pictures, self._newcomers = pictures, newcomers
        self._ended = threading.Event()
        acts: list[Callable[[Client, int], None]] = [self._ask, self._ask, self._come_and_go]
        self._threads = [threading.Thread(target=self._run, args=(address, act, n)) for n, act in enumerate(acts)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, address: str, act: Callable[[Client, int], None], seed: int) -> None:
        rng = np.random.default_rng(seed)
        with Client(address) as client:
            while not self._ended.is_set():
                act(client, int(rng.integers(len(self._pictures))))

    def _ask(self, client: Client, i: int) -> None:
        self._expect(client, self._pictures[i], f"s{i}")

    def _come_and_go(self, client: Client, i: int) -> None:
        picture = self._newcomers[i % len(self._newcomers)]
        client.enroll("g", "new", picture, accept_breaches=True)
        self._expect(client, picture, "new")
        client.delete_subject("g", "new")
        found = client.identify("g", picture).results[0].subject_id
        if found == "new":
            self.wrong.append("one that was deleted")

    def _expect(self, client: Client, picture: bytes, subject: str) -> None:
        phase, begun = self.phase, time.monotonic()
        result = client.identify("g", picture).results[0]
        self.seconds[phase].append(time.monotonic() - begun)
        if result.subject_id != subject:
            self.wrong.append(f"{subject} was {result.subject_id or 'unknown'}")


def fill(client: Client, gallery_id: str, pictures: Sequence[bytes]) -> float:
    """Subjects a second."""
    begun = time.monotonic()
    items = (
        enroll_request(gallery_id, f"s{i}", one, doubt_policy="off", accept_breaches=True)
        for i, one in enumerate(pictures)
    )
    for answer in client.bulk_enroll(items):
        assert answer.HasField("enrolled"), answer.error
    return len(pictures) / (time.monotonic() - begun)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--subjects", type=int, default=20_000)
    parser.add_argument("--swaps", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--models", default="bundled:bundled-glyphs", help="as of oneglance serve [%(default)s]")
    parser.add_argument("--encoders", nargs=2, default=("glyphs", "characters"), metavar=("FORMER", "NEW"))
    o = parser.parse_args()
    made = drawings(o.subjects + 100)
    pictures, newcomers = made[: o.subjects], made[o.subjects :]
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder) / "data", models=o.models, log=Path(folder) / "log") as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g", encoder=o.encoders[0], quality_policy="off", doubt_policy="off")
        speeds = [fill(client, "g", pictures)]
        load = Load(server.address, pictures, newcomers)
        time.sleep(o.seconds)
        load.phase = "filling"
        client.start_move("g", "next", o.encoders[1])
        speeds.append(fill(client, "next", pictures))
        load.phase = "swaps"
        swaps = []
        for swap in [client.cut_over, client.roll_back] * o.swaps + [client.cut_over]:
            begun = time.monotonic()
            swap("g", leave=True)
            swaps.append(time.monotonic() - begun)
            time.sleep(o.seconds / o.swaps / 2)
        load.phase = "after"
        time.sleep(o.seconds)
        load.end()
        client.end_move("g")
        server.terminate()
    rows = []
    for phase in PHASES:
        times = sorted(load.seconds[phase])
        p50, p99 = (1000 * times[int(share * len(times))] for share in (0.5, 0.99))
        rows.append((phase, len(times), p50, p99, 1000 * times[-1]))
    table(f"{o.subjects:,} subjects move", ("", "answers", "p50 ms", "p99 ms", "longest ms"), rows)
    print(f"\nWrong answers: {len(load.wrong)} {load.wrong[:3] or ''}")
    print(f"Filled with {speeds[0]:.0f} subjects a second without load, the successor with {speeds[1]:.0f} under it.")
    print(f"A swap took {1000 * statistics.median(swaps):.0f} ms, the longest {1000 * max(swaps):.0f} ms.")


if __name__ == "__main__":
    main()
