"""Full queues refuse; streams wait instead; the server goes on."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from oneglance import Client, OneglanceError, enroll_request
from oneglance_server.engines.encoder import Encoder
from tests.running import server_thread
from tests.server.conftest import picture, png


@pytest.fixture
def held_encoder(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Encoders that wait for the event before they encode (warm-up and parity come first, with it set)."""
    gate = threading.Event()
    gate.set()
    encode = Encoder.encode

    def held(self: Encoder, inputs: Any) -> Any:
        assert gate.wait(30)
        return encode(self, inputs)

    monkeypatch.setattr(Encoder, "encode", held)
    return gate


def test_a_full_queue_refuses_calls_and_holds_streams_back(
    models: tuple[Path, Path], tmp_path: Path, held_encoder: threading.Event
) -> None:
    limits = {"encode_queue": 1024, "max_batch": 1, "encoder_workers": 1}
    probes = [picture(i) for i in range(800)]
    with (
        server_thread(data_dir=tmp_path, models=models, **limits) as server,
        Client(server.address) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        client.create_gallery("g", encoder="pixels")
        held_encoder.clear()
        first = pool.submit(client.encode, picture(0), encoder="pixels")
        time.sleep(0.3)  # on the worker
        second = pool.submit(client.encode, *probes, encoder="pixels")
        time.sleep(0.5)  # in the queue
        with pytest.raises(OneglanceError) as caught:
            client.encode(*probes, encoder="pixels")
        assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert caught.value.metadata == {"queue": "encode", "max_rows": "1024"}
        items = (enroll_request("g", f"s{i}", [png(picture(i))]) for i in range(600))
        stream = pool.submit(lambda: list(client.bulk_enroll(items)))
        time.sleep(0.5)
        held_encoder.set()
        assert len(first.result(30)) == 1
        assert len(second.result(30)) == 800
        assert all(answer.HasField("enrolled") for answer in stream.result(60))
        assert client.get_gallery("g").subject_count == 600


def test_an_expired_deadline_stores_nothing(
    models: tuple[Path, Path], tmp_path: Path, held_encoder: threading.Event
) -> None:
    with (
        server_thread(data_dir=tmp_path, models=models, encoder_workers=1) as server,
        Client(server.address) as client,
        Client(server.address, timeout_seconds=0.3) as hasty,
    ):
        client.create_gallery("g", encoder="pixels")
        held_encoder.clear()
        for subject in ("with the encoder", "in the queue"):
            with pytest.raises(OneglanceError) as caught:
                hasty.enroll("g", subject, picture(1))
            assert caught.value.code.name == "DEADLINE_EXCEEDED"
        held_encoder.set()
        client.enroll("g", "in time", picture(2))
        assert [subject.id for subject in client.list_subjects("g")] == ["in time"]
