"""Full queues refuse; streams wait instead; the server goes on."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance import Client, OneglanceError, encoding, enroll_request, identify_request
from oneglance_index.store.mutations import SetThreshold
from oneglance_server.engines.encoder import Encoder
from tests.models import pixels_model
from tests.pictures import picture, png
from tests.running import server_thread


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


def test_a_stream_of_identifications_waits_for_the_index(models: tuple[Path, Path], tmp_path: Path) -> None:
    with (
        server_thread(data_dir=tmp_path, models=models, search_queue=1024, max_search_batch=128) as server,
        Client(server.address) as client,
    ):
        digest = client.create_gallery("g", encoder="pixels").encoder_digest
        client.enroll("g", "it", picture(1))
        probes = [encoding(np.eye(64)[i % 64] + 1, digest) for i in range(128)]
        requests = (identify_request("g", probes, 1) for _ in range(100))
        answers = list(client.identify_stream(requests))
        assert [answer.WhichOneof("outcome") for answer in answers] == ["response"] * 100


def test_an_encoding_never_lands_in_a_gallery_of_another_encoder(
    models: tuple[Path, Path], tmp_path: Path, held_encoder: threading.Event
) -> None:
    twin = pixels_model(tmp_path / "twin", name="twin", resize="bilinear")  # the same D, another encoder
    with (
        server_thread(data_dir=tmp_path / "data", models=(*models, twin), encoder_workers=1) as server,
        Client(server.address) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        client.create_gallery("g", encoder="pixels")
        held_encoder.clear()
        enrolling = pool.submit(client.enroll, "g", "it", picture(1))
        time.sleep(0.3)
        identifying = pool.submit(client.identify, "g", picture(1))
        time.sleep(0.3)
        client.delete_gallery("g")
        client.create_gallery("g", encoder="twin")
        held_encoder.set()
        for call in (enrolling, identifying):
            with pytest.raises(OneglanceError) as caught:
                call.result(30)
            assert (caught.value.code.name, caught.value.reason) == ("FAILED_PRECONDITION", "ENCODER_MISMATCH")
        assert client.get_gallery("g").encoding_count == 0
        client.enroll("g", "it", picture(1))
        assert client.identify("g", picture(1)).results[0].subject_id == "it"


def test_a_threshold_counts_even_when_its_caller_left(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SetThreshold.run

    def slow(self: SetThreshold, db: Any) -> Any:
        time.sleep(0.6)
        return run(self, db)

    with (
        server_thread(data_dir=tmp_path, models=models) as server,
        Client(server.address) as client,
        Client(server.address, timeout_seconds=0.2) as hasty,
    ):
        client.create_gallery("g", encoder="pixels")
        monkeypatch.setattr(SetThreshold, "run", slow)
        with pytest.raises(OneglanceError):
            hasty.set_threshold("g", 0.01)
        time.sleep(1)
        assert client.identify("g", picture(1)).threshold.tau == client.get_threshold("g").tau == 0.01


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
