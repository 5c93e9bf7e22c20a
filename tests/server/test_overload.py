"""Full queues refuse; streams wait instead; the server goes on."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from oneglance import AsyncClient, Client, OneglanceError, encoding, enroll_request, identify_request
from oneglance.client.requests import example
from oneglance.v1.identification_pb2 import EncodeRequest
from oneglance.v1.identification_pb2_grpc import IdentificationServiceStub
from oneglance_index.store.mutations import SetThreshold
from oneglance_server.app import Server
from oneglance_server.backlog import Backlog
from oneglance_server.engines.encoder import Encoder
from oneglance_server.errors import Overloaded
from oneglance_server.servicers import run
from oneglance_server.servicers.recent_calls import Arrivals, Lately, UsualTime
from tests.models import pixels_model
from tests.pictures import picture, png
from tests.running import measured, server_thread
from tests.waiting import PATIENCE_SECONDS, reached, until


class HeldEncoder:
    """Encoders encode nothing while this is shut (warm-up and parity come first, with it open). ``held``: how many
    batches have come to it while it was shut."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held = 0
        self._open = threading.Event()
        self._open.set()
        self._passes = threading.Semaphore(0)
        encode = Encoder.encode

        def encode_when_open(encoder: Encoder, inputs: Any) -> Any:
            self.held += not self._open.is_set()
            until(lambda: self._open.is_set() or self._passes.acquire(blocking=False))
            return encode(encoder, inputs)

        monkeypatch.setattr(Encoder, "encode", encode_when_open)

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def let_through(self, batches: int) -> None:
        self._passes.release(batches)


@pytest.fixture
def held_encoder(monkeypatch: pytest.MonkeyPatch) -> HeldEncoder:
    return HeldEncoder(monkeypatch)


def queued(server: Server) -> float:
    """Rows that wait for an encoder."""
    return measured(server, "oneglance_queue_rows", stage="encode")


def test_a_full_queue_refuses_calls_and_holds_streams_back(
    models: tuple[Path, Path], tmp_path: Path, held_encoder: HeldEncoder
) -> None:
    limits = {"max_batch": 1, "encoder_workers": 1}
    probes = [picture(i) for i in range(800)]
    with (
        server_thread(data_dir=tmp_path, models=models, **limits) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS, retry=False) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        client.create_gallery("g", encoder="pixels")
        held_encoder.shut()
        first = pool.submit(client.encode, picture(0), encoder="pixels")
        until(lambda: held_encoder.held == 1)
        second = pool.submit(client.encode, *probes, encoder="pixels")
        until(lambda: queued(server) == 800)
        with pytest.raises(OneglanceError) as caught:
            client.encode(probes[0], encoder="pixels")
        assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert caught.value.metadata == {"queue": "encode", "retry_after_ms": "100"}  # how long it takes isn't known
        items = (enroll_request("g", f"s{i}", [png(picture(i))]) for i in range(600))
        stream = pool.submit(lambda: list(client.bulk_enroll(items)))
        until(lambda: queued(server) == 800 + 256)  # the stream's window; it takes no room from calls
        third = pool.submit(client.encode, *probes, encoder="pixels")
        until(lambda: queued(server) == 800 + 256 + 800)
        held_encoder.open()
        assert len(first.result(PATIENCE_SECONDS).encodings) == 1
        assert len(second.result(PATIENCE_SECONDS).encodings) == 800
        assert len(third.result(PATIENCE_SECONDS).encodings) == 800
        assert all(answer.HasField("enrolled") for answer in stream.result(PATIENCE_SECONDS))
        assert client.get_gallery("g").subject_count == 600


def test_a_stream_of_identifications_waits_for_the_index(models: tuple[Path, Path], tmp_path: Path) -> None:
    with (
        server_thread(data_dir=tmp_path, models=models, max_search_batch=128) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        digest = client.create_gallery("g", encoder="pixels").encoder_digest
        client.enroll("g", "it", picture(1))
        probes = [encoding(np.eye(64)[i % 64] + 1, digest) for i in range(128)]
        requests = (identify_request("g", probes, max_candidates=1) for _ in range(100))
        answers = list(client.identify_stream(requests))
        assert [answer.WhichOneof("outcome") for answer in answers] == ["response"] * 100


def test_an_encoding_never_lands_in_a_gallery_of_another_encoder(
    models: tuple[Path, Path], tmp_path: Path, held_encoder: HeldEncoder
) -> None:
    twin = pixels_model(tmp_path / "twin", name="twin", resize="bilinear")  # the same D, another encoder
    with (
        server_thread(data_dir=tmp_path / "data", models=(*models, twin), encoder_workers=1) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        client.create_gallery("g", encoder="pixels")
        held_encoder.shut()
        enrolling = pool.submit(client.enroll, "g", "it", picture(1))
        until(lambda: held_encoder.held == 1)
        identifying = pool.submit(client.identify, "g", picture(1))
        until(lambda: queued(server) == 1)
        client.delete_gallery("g")
        client.create_gallery("g", encoder="twin")
        held_encoder.open()
        # Both are encoded anew, as if they had come now.
        digest = client.describe_model("twin").model.digest
        for answer in (enrolling.result(PATIENCE_SECONDS), identifying.result(PATIENCE_SECONDS)):
            assert answer.provenance.encoder_digest == digest
        found = client.identify("g", picture(1)).results[0]
        assert found.subject_id == "it"
        assert found.candidates[0].distance == 0


async def test_a_threshold_counts_even_when_its_caller_left(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SetThreshold.run
    begun, left = threading.Event(), threading.Event()

    def held(self: SetThreshold, db: Any) -> Any:
        begun.set()
        assert left.wait(PATIENCE_SECONDS)
        return run(self, db)

    with server_thread(data_dir=tmp_path, models=models) as server:
        async with AsyncClient(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
            await client.create_gallery("g", encoder="pixels")
            monkeypatch.setattr(SetThreshold, "run", held)
            setting = asyncio.create_task(client.set_threshold("g", 0.01))
            await reached(begun.is_set)
            setting.cancel()
            left_how = {"method": "GalleryService/SetThreshold", "code": "CANCELLED"}
            await reached(lambda: measured(server, "oneglance_call_seconds_count", **left_how))
            left.set()
            while (await client.get_threshold("g")).tau != 0.01:
                await asyncio.sleep(0.005)
            assert (await client.identify("g", picture(1))).threshold.tau == 0.01


def test_an_expired_deadline_stores_nothing(
    models: tuple[Path, Path], tmp_path: Path, held_encoder: HeldEncoder
) -> None:
    with (
        server_thread(data_dir=tmp_path, models=models, encoder_workers=1) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
        Client(server.address, timeout_seconds=0.3) as hasty,
    ):
        client.create_gallery("g", encoder="pixels")
        held_encoder.shut()
        for subject in ("with the encoder", "in the queue"):
            with pytest.raises(OneglanceError) as caught:
                hasty.enroll("g", subject, picture(1))
            assert caught.value.code.name == "DEADLINE_EXCEEDED"
        held_encoder.open()
        client.enroll("g", "in time", picture(2))
        assert [subject.id for subject in client.list_subjects("g")] == ["in time"]


def test_a_caller_with_hundreds_of_examples_delays_anothers_single_one_by_a_batch(
    models: tuple[Path, Path], tmp_path: Path, held_encoder: HeldEncoder
) -> None:
    with (
        server_thread(data_dir=tmp_path, models=models, max_batch=10, encoder_workers=1) as server,
        Client(server.address) as client,
        # Channels of one process share a connection unless told otherwise, and a connection is a caller.
        grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        encode = IdentificationServiceStub(other).Encode
        held_encoder.shut()
        many = pool.submit(client.encode, *[picture(0)] * 800, encoder="pixels")
        until(lambda: held_encoder.held == 1 and queued(server) == 790)
        request = EncodeRequest(encoder="pixels", examples=[example(picture(1))])
        single = encode.future(request, timeout=PATIENCE_SECONDS)
        until(lambda: queued(server) == 791)
        held_encoder.let_through(2)  # the batch that runs, and the next
        assert len(single.result(PATIENCE_SECONDS).encodings) == 1
        assert not many.done()
        held_encoder.open()
        assert len(many.result(PATIENCE_SECONDS).encodings) == 800


def test_when_calls_wait_too_long_unseen_more_are_refused_unread(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_many, often = False, True
    monkeypatch.setattr(Backlog, "too_long", lambda self, method, under_way, left=None: too_many)
    monkeypatch.setattr(Arrivals, "few", lambda self, connection: not often)
    with (
        server_thread(data_dir=tmp_path, models=models) as server,
        Client(server.address, retry=False) as client,
        grpc.insecure_channel(server.address) as channel,
    ):
        client.create_gallery("g", encoder="pixels")
        too_many = True
        for call in (client.list_models, lambda: client.enroll("g", "it", bytes(1 << 20))):
            with pytest.raises(OneglanceError) as caught:
                call()
            assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
            assert caught.value.metadata == {"queue": "calls", "retry_after_ms": "200"}
        counted = {"method": "SubjectService/Enroll", "code": "RESOURCE_EXHAUSTED"}
        assert measured(server, "oneglance_call_seconds_count", **counted) == 1
        client.wait_until_serving()  # health is answered
        for unknown in ("/oneglance.v1.Nothing/Get", "/oneglance.v1.SubjectService/Nothing"):
            missing: Any = channel.unary_unary(unknown, lambda data: data, None).future(b"", timeout=PATIENCE_SECONDS)
            assert missing.code() is grpc.StatusCode.UNIMPLEMENTED
        often = False
        assert client.list_models()
        client.enroll("g", "it", picture(1))
        too_many, often = False, True
        assert client.list_models()


def test_a_call_that_is_late_while_others_wait_is_refused_before_it_is_read(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, usual = 1.0, 1e6
    monkeypatch.setattr(Backlog, "seconds", lambda self, method: waited)
    monkeypatch.setattr(UsualTime, "seconds", lambda self, kind: usual)
    with server_thread(data_dir=tmp_path, models=models) as server:
        with Client(server.address, retry=False) as client:
            with pytest.raises(OneglanceError) as caught:
                client.list_models()
            assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
            waited = 0.0
            assert client.list_models()
            waited, usual = 1.0, 0.0
            assert client.list_models()
        usual = 1e6
        with grpc.insecure_channel(server.address) as channel:  # who has no deadline is never late
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/oneglance.v1.ModelService/ListModels"
            )
            assert call(b"")


def test_while_hundreds_are_refused_calls_are_looked_at_later_or_not_at_all(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_many = many = often = False
    monkeypatch.setattr(Backlog, "too_long", lambda self, method, under_way, left=None: too_many)
    monkeypatch.setattr(Lately, "many", lambda self: many)
    monkeypatch.setattr(Arrivals, "few", lambda self, connection: not often)
    with server_thread(data_dir=tmp_path, models=models) as server, grpc.insecure_channel(server.address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/oneglance.v1.ModelService/ListModels")

        def told(timeout: float | None) -> tuple[str, float]:
            begun = time.monotonic()
            failed = call.future(b"", timeout=timeout).code()
            return failed.name, time.monotonic() - begun

        assert told(None)[0] == "OK"  # from here on more than one is asked for
        too_many = many = often = True
        assert told(0.1)[0] == "DEADLINE_EXCEEDED"
        dropped = {"method": "ModelService/ListModels", "code": "DEADLINE_EXCEEDED"}
        until(lambda: measured(server, "oneglance_call_seconds_count", **dropped) >= 1)
        for patience in (None, PATIENCE_SECONDS):
            code, seconds = told(patience)
            assert code == "RESOURCE_EXHAUSTED"
            assert seconds >= 0.2
        often = False
        assert told(0.1 * PATIENCE_SECONDS)[0] == "OK"
        often, too_many = True, False
        assert told(None)[0] == "OK"


def test_what_happens_often_is_known_from_a_quarter_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lately = Lately()
    for _ in range(249):
        lately.add()
    assert not lately.many()
    now = 100.2
    lately.add()
    assert lately.many()
    now = 100.3
    assert not lately.many()


def test_connections_that_call_seldom_are_told_from_those_that_call_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    arrivals = Arrivals()
    for _ in range(63):
        arrivals.add("busy")
    assert arrivals.few("busy")  # nobody calls often
    arrivals.add("seldom")
    assert not arrivals.few("busy")
    assert arrivals.few("seldom")
    assert arrivals.few("new")
    now = 101.0
    arrivals.add("seldom")
    assert not arrivals.few("busy")
    assert arrivals.few("seldom")
    now = 103.5  # nobody called for two seconds
    arrivals.add("seldom")
    assert arrivals.few("busy")
    assert arrivals.few("seldom")


def test_the_usual_time_of_calls_is_known_from_a_dozen_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    usual = UsualTime()
    assert usual.seconds("A") == 0.0
    for seconds in range(11):
        usual.add("A", float(seconds))
    assert usual.seconds("A") == 0.0
    usual.add("A", 11.0)
    assert usual.seconds("A") == 9.0
    assert usual.seconds("B") == 0.0
    now = 101.5
    assert usual.seconds("A") == 0.0


def test_of_a_thousand_refusals_one_line_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(run.log, "warning", lambda event, **values: lines.append(values), raising=False)
    told = run.Told()
    for _ in range(1000):
        told.refused("IdentificationService/Identify", Overloaded("the encode queue is full"))
    assert told._told is not None
    told._told -= 10.0  # so long ago
    told.refused("SubjectService/Enroll", Overloaded("the disk is full"))
    assert [(line["calls"], line["last_method"]) for line in lines] == [
        (1, "IdentificationService/Identify"),
        (1000, "SubjectService/Enroll"),
    ]
