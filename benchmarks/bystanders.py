"""What one gallery's load does to others: p50 and p99 of single probes, idle and meanwhile.

    python -m benchmarks.bystanders [--rows 300000] [--rounds 3] [--seconds 4] [--only WORDS] [--before CHECKOUT]

A gallery of ``--rows`` x 128 is under load: calls of 1,024 probes, two at a time; single probes, 64 at a time; both;
1,024 probes with all matches; everybody's look-alikes. Meanwhile another caller identifies one probe after the other,
in a gallery of 1,000 subjects or in the very gallery that is under load. Each of them is a caller of its own, in a
process of its own on the same machine. Medians of the rounds; idle and each load take turns.
"""

import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from google.protobuf.message import Message

from benchmarks.bulk import D, vectors, write
from benchmarks.load import IDENTIFY, Load, drive
from benchmarks.report import options, table
from benchmarks.stage import sides
from oneglance import Client, encoding
from oneglance.client.requests import example
from oneglance.v1.identification_pb2 import IdentifyRequest, ListLookAlikesRequest
from oneglance_core.manifests import InputSpec
from oneglance_index import LocalGalleries
from tests.models import values_model
from tests.running import ServerProcess

LOOK_ALIKES = "/oneglance.v1.IdentificationService/ListLookAlikes"
LARGE, SMALL, SMALL_SUBJECTS = "large", "small", 1000
PROBES = 1024  # of a large call
MANY_MATCH = 1.45  # a tau that some hundreds of 300,000 random rows are within
Requests = tuple[str, Sequence[Message], int]  # method, requests in turn, calls in flight


def loads(digest: str) -> dict[str, list[Requests]]:
    """By name, who calls."""
    points = vectors(4 * PROBES, 2)
    probes = [example(encoding(point, digest)) for point in points]
    four = [probes[start : start + PROBES] for start in range(0, len(probes), PROBES)]
    large = IDENTIFY, [IdentifyRequest(gallery_id=LARGE, probes=some) for some in four], 2
    single = IDENTIFY, [IdentifyRequest(gallery_id=LARGE, probes=[one]) for one in probes], 64
    matches = [IdentifyRequest(gallery_id=LARGE, probes=some, all_matches=True, tau=MANY_MATCH) for some in four]
    alike = [ListLookAlikesRequest(gallery_id=LARGE, page_size=1000, within=0.1)]
    return {
        "nothing": [],
        "1,024 probes, 2 in flight": [large],
        "1 probe, 64 in flight": [single],
        "both": [large, single],
        "1,024 probes, all matches": [(IDENTIFY, matches, 2)],
        "look-alikes": [(LOOK_ALIKES, alike, 1)],
    }


def fill(folder: Path, model: Path, rows: int) -> str:
    """Both galleries in a data directory; the encoder's digest."""
    with ServerProcess(folder, models=model) as server, Client(server.address) as client:
        digest = client.list_models()[0].digest
        for gallery in (LARGE, SMALL):
            client.create_gallery(gallery, doubt_policy="off", fusion="nearest")
            client.set_threshold(gallery, 0.5)
        server.terminate()
    with LocalGalleries.open(folder) as store:
        write(store, vectors(rows, 0), "held", LARGE)
        write(store, vectors(SMALL_SUBJECTS, 1), "held", SMALL)
    return digest


def measure(address: str, asked: Requests, load: Sequence[Requests], seconds: float) -> tuple[Load, list[Load]]:
    """What the bystander sees, and what the load achieves."""
    with ThreadPoolExecutor(max(1, len(load))) as pool:
        running: list[Future[Load]] = [
            # It begins before and ends after.
            pool.submit(drive, address, method, requests, in_flight=in_flight, seconds=1.5 * seconds + 1, go_on=True)
            for method, requests, in_flight in load
        ]
        method, requests, in_flight = asked
        seen = drive(address, method, requests, in_flight=in_flight, seconds=seconds, go_on=True)
        return seen, [one.result() for one in running]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", metavar="WORDS", default="", help="loads whose name has these words")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="also its server, in turns")
    o = parser.parse_args()
    seen: dict[tuple[str, str, str], list[Load]] = {}
    done: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = values_model(folder / "model", InputSpec(kind="image", shape=(8, 16, 1), dtype="uint8", color="gray"))
        digest = fill(folder / "data", model, o.rows)
        probes = [example(encoding(point, digest)) for point in vectors(256, 3)]
        singles = {
            gallery: [IdentifyRequest(gallery_id=gallery, probes=[one]) for one in probes] for gallery in (SMALL, LARGE)
        }
        under = {name: load for name, load in loads(digest).items() if not load or o.only in name}
        for _ in range(o.rounds):
            for side in sides(o.before):
                with ServerProcess(folder / "data", models=model, checkout=side.checkout, log=folder / "log") as server:
                    for name, load in under.items():
                        for gallery, requests in singles.items():
                            asked = IDENTIFY, requests, 1
                            one, achieved = measure(server.address, asked, load, o.seconds)
                            seen.setdefault((side.name, name, gallery), []).append(one)
                            done.setdefault((side.name, name), []).append(sum(each.per_second for each in achieved))
                    server.terminate()
    rows = []
    for side in sides(o.before):
        for name in under:
            cells: list[object] = [side.name, name, statistics.median(done[side.name, name])]
            cells.append(sum(one.refused for gallery in (SMALL, LARGE) for one in seen[side.name, name, gallery]))
            for gallery in (SMALL, LARGE):
                idle, now = seen[side.name, "nothing", gallery], seen[side.name, name, gallery]
                for figure in ("p50_ms", "p99_ms"):
                    took, alone = (statistics.median(getattr(one, figure) for one in these) for these in (now, idle))
                    cells.append(f"{took:.1f} ({took / alone:.1f})")
            rows.append(cells)
    table(
        f"Single probes while a gallery of {o.rows:,} x {D} is under load: ms (times idle)",
        (
            "server",
            "load",
            "its calls/s",
            "refused bystanders",
            "small gallery: p50",
            "p99",
            "the same gallery: p50",
            "p99",
        ),
        rows,
    )


if __name__ == "__main__":
    main()
