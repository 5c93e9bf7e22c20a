"""What stylization does to identification: python -m benchmarks.style_load [MODEL_DIR].

Identify's latency, drawings as PNG against 20,000 subjects, while nothing else happens and while 1024 px pictures are
stylized without a pause, four calls in flight. Rounds alternate; the ratio is the median over rounds.
"""

import io
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.load import IDENTIFY, Load, drive
from benchmarks.random_directions import random_directions
from benchmarks.report import options, table
from benchmarks.stage import GLYPHS
from benchmarks.style import photo
from oneglance import Client, encoding, enroll_request, identify_request
from oneglance_core.folder import read_any_model_folder
from oneglance_core.glyphs import alphabet
from oneglance_server.settings import BUNDLED_STYLIZER
from tests.pictures import png
from tests.running import ServerProcess

SUBJECTS, DIMENSION = 20_000, 128
STYLIZED_AT_ONCE, ROUNDS, SECONDS = 4, 5, 8.0


def fill(client: Client) -> None:
    client.create_gallery("people", encoder=GLYPHS.name)
    digest = client.get_gallery("people").encoder_digest
    rows = random_directions(np.random.default_rng(0), SUBJECTS, DIMENSION)
    requests = (enroll_request("people", f"s{i}", [encoding(row, digest)]) for i, row in enumerate(rows))
    for response in client.bulk_enroll(requests):
        assert not response.HasField("error"), response.error


class Stylizing:
    """Stylizes without a pause in threads of this process, until it is left."""

    def __init__(self, address: str, style: str) -> None:
        buffer = io.BytesIO()
        Image.fromarray(photo(1024)).save(buffer, "JPEG", quality=90)
        self._picture, self._address, self._style = buffer.getvalue(), address, style
        self._over = threading.Event()
        self.done = 0

    def _work(self) -> None:
        with Client(self._address, timeout_seconds=120) as client:
            while not self._over.is_set():
                client.stylize(self._picture, self._style)
                self.done += 1

    def __enter__(self) -> "Stylizing":
        self._threads = [threading.Thread(target=self._work) for _ in range(STYLIZED_AT_ONCE)]
        for thread in self._threads:
            thread.start()
        time.sleep(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("model", metavar="MODEL_DIR", nargs="?", type=Path, default=BUNDLED_STYLIZER)
    folder = parser.parse_args().model
    style = read_any_model_folder(folder).manifest.styles[0].name
    drawings = [png(subject.drawings[0]) for subject in alphabet(seed=1, characters=64, drawings=1)]
    rows = []
    with (
        tempfile.TemporaryDirectory() as data,
        ServerProcess(Path(data), models=f"{GLYPHS}:{folder}", log_level="error") as server,
        Client(server.address, timeout_seconds=120) as client,
    ):
        fill(client)
        requests = [identify_request("people", [drawing]) for drawing in drawings]
        for in_flight in (1, 8):
            idle: list[Load] = []
            busy: list[Load] = []
            per_second: list[float] = []
            for _ in range(ROUNDS):
                idle.append(drive(server.address, IDENTIFY, requests, in_flight=in_flight, seconds=SECONDS))
                with Stylizing(server.address, style) as load:
                    done, begun = load.done, time.perf_counter()
                    busy.append(drive(server.address, IDENTIFY, requests, in_flight=in_flight, seconds=SECONDS))
                    per_second.append((load.done - done) / (time.perf_counter() - begun))
            rows.append(
                (in_flight, *(statistics.median(getattr(load, name) for load in loads)
                              for name in ("p50_ms", "p99_ms") for loads in (idle, busy)),
                 statistics.median(b.p50_ms / i.p50_ms for b, i in zip(busy, idle, strict=True)),
                 statistics.median(b.p99_ms / i.p99_ms for b, i in zip(busy, idle, strict=True)),
                 statistics.median(per_second))
            )  # fmt: skip
    table(
        "Identify while stylization is saturated",
        ("in flight", "idle p50 ms", "busy p50 ms", "idle p99 ms", "busy p99 ms", "p50 ratio", "p99 ratio",
         "1024 px pictures stylized/s meanwhile"),
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
