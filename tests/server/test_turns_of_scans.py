"""A large request is answered slice by slice; between two of them, and beside them, others are answered."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from oneglance import Client, encoding
from oneglance.client.requests import example
from oneglance.v1.identification_pb2 import IdentifyRequest
from oneglance.v1.identification_pb2_grpc import IdentificationServiceStub
from oneglance_index import Found, GalleryError, LocalGalleries, Search
from oneglance_server.app import Server
from oneglance_server.engines.batcher import _FIRST_STEP
from tests.models import pixels_model
from tests.running import measured, server_thread
from tests.waiting import PATIENCE_SECONDS, until

PROBES = 1024
POINTS = np.random.default_rng(0).random((PROBES, 64), dtype=np.float32)


class Slices:
    """Scans of the gallery "large" begin when they are let through; ``sizes`` of those that did, in probes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.held = threading.Semaphore(0)
        self.arrived = 0
        run = LocalGalleries.search_many

        def search_many(
            store: LocalGalleries, gallery_id: str, searches: Sequence[Search]
        ) -> list[Found | GalleryError]:
            if gallery_id == "large":
                self.arrived += 1
                assert self.held.acquire(timeout=PATIENCE_SECONDS)
                self.sizes.append(sum(len(search.probes) for search in searches))
            return run(store, gallery_id, searches)

        monkeypatch.setattr(LocalGalleries, "search_many", search_many)


@pytest.fixture
def slices(monkeypatch: pytest.MonkeyPatch) -> Slices:
    return Slices(monkeypatch)


@pytest.fixture
def server(slices: Slices, tmp_path: Path) -> Iterator[Server]:
    model = pixels_model(tmp_path / "pixels", tau=0.5)
    with server_thread(data_dir=tmp_path / "data", models=(model,)) as running:
        with Client(running.address) as client:
            for gallery in ("large", "small"):
                digest = client.create_gallery(gallery, doubt_policy="off").encoder_digest
                client.enroll(gallery, "ada", encoding(POINTS[0], digest))
        yield running


@pytest.mark.parametrize("gallery", ["large", "small"])
def test_a_single_probe_is_answered_between_the_slices_of_a_large_request(
    server: Server, slices: Slices, gallery: str
) -> None:
    with (
        Client(server.address) as client,
        # Channels of one process share a connection unless told otherwise, and a connection is a caller.
        grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        digest = client.get_gallery("large").encoder_digest
        many = pool.submit(client.identify, "large", *(encoding(point, digest) for point in POINTS), max_candidates=1)
        until(lambda: slices.arrived == 1)
        request = IdentifyRequest(gallery_id=gallery, probes=[example(encoding(POINTS[0], digest))])
        single = IdentificationServiceStub(other).Identify.future(request, timeout=PATIENCE_SECONDS)
        if gallery == "large":
            until(lambda: measured(server, "oneglance_queue_rows", stage="search") == PROBES - _FIRST_STEP + 1)
            slices.held.release(2)  # the slice that is there, and the next
        assert single.result(PATIENCE_SECONDS).results[0].subject_id == "ada"
        assert not many.done()
        assert sum(slices.sizes) < PROBES
        slices.held.release(PROBES)
        assert len(many.result(PATIENCE_SECONDS).results) == PROBES
        assert len(slices.sizes) > 4
