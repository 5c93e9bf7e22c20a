"""Streams that send nothing, or read nothing, end; they shut nobody out."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool

from oneglance import Client, OneglanceError, encoding, enroll_request, identify_request
from oneglance.v1.subject_pb2 import BulkEnrollRequest
from oneglance_server.app import Server
from oneglance_server.byte_budget import ByteBudget
from oneglance_server.calls import Call, Caller
from oneglance_server.errors import StreamIdle
from oneglance_server.service import stream_slots
from oneglance_server.servicers.receiving import Incoming, Parser
from tests.pictures import png
from tests.running import measured, server_thread
from tests.server.test_stylize import scene
from tests.waiting import PATIENCE_SECONDS, reached, until

STREAMS = (
    "SubjectService/BulkEnroll",
    "IdentificationService/IdentifyStream",
    "StylizationService/StylizeStream",
    "GalleryService/Calibrate",
)


@pytest.fixture
def settings(models: tuple[Path, Path], tints: Path, tmp_path: Path) -> dict[str, Any]:
    return {"data_dir": tmp_path, "models": (models[0], tints)}


class Silent:
    """A stream whose sender sends what it is given, then nothing until ``go``."""

    def __init__(self, *messages: bytes) -> None:
        self._messages = messages
        self.go = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield from self._messages
        self.go.wait(PATIENCE_SECONDS)


def channel(server: Server, stack: ExitStack) -> grpc.Channel:
    return stack.enter_context(grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]))


def stream(channel: grpc.Channel, method: str, messages: Iterable[bytes]) -> Any:
    call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/oneglance.v1.{method}")
    return call(iter(messages))


def details(error: grpc.RpcError) -> bytes:
    trailers: Any = error.trailing_metadata()
    return bytes(dict(trailers)["oneglance-error-bin"])


@pytest.mark.parametrize("method", STREAMS)
def test_a_stream_that_sends_nothing_is_ended(settings: dict[str, Any], method: str) -> None:
    with server_thread(**settings, stream_idle_seconds=0.2) as server, ExitStack() as stack:
        silent = Silent()
        answers = stream(channel(server, stack), method, silent)
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert b"STREAM_IDLE" in details(caught.value)
        silent.go.set()
        until(lambda: measured(server, "oneglance_call_seconds_count", method=method, code="ABORTED") == 1)


async def test_a_stream_is_not_idle_while_something_of_it_is_under_way() -> None:
    async def data() -> AsyncIterator[bytes]:
        yield b""
        await asyncio.Event().wait()

    parser = Parser(descriptor_pool.Default().FindMethodByName("oneglance.v1.SubjectService.BulkEnroll"), 1 << 20)
    call = Call(Caller("me"), patient=True)
    incoming: Incoming[BulkEnrollRequest] = Incoming(call, data(), parser, ByteBudget(1 << 20), 0.01)
    received = await anext(incoming)
    assert await received.message() == BulkEnrollRequest()
    following = asyncio.create_task(anext(incoming))
    await reached(lambda: incoming._waiting is not None)
    assert incoming._waiting is not None
    assert incoming._waiting.when() is None  # it may take for ever
    received.release()
    with pytest.raises(StreamIdle):
        await following


def test_idle_stylize_streams_shut_nobody_out(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    frame = png(scene(64, 64, 0))
    with server_thread(**settings, stylize_streams=8) as server, ExitStack() as stack:
        opened = server._gate.services.stylization.streams
        silent = Silent()
        idle = []
        for _ in range(2):  # half of the places each
            held = channel(server, stack)
            for _ in range(4):
                idle.append(stream(held, STREAMS[2], silent))
                until(lambda: opened.under_way == len(idle))
        with Client(server.address) as client:
            with pytest.raises(OneglanceError) as caught:  # none was idle for long
                list(client.stylize_stream([frame], "ember"))
            assert caught.value.reason == "QUEUE_FULL"
            monkeypatch.setattr(stream_slots, "GIVES_WAY_SECONDS", 0.0)
            assert len(list(client.stylize_stream([frame], "ember"))) == 1
        with pytest.raises(grpc.RpcError) as gone:
            next(idle[0])  # the one that had been idle longest
        assert gone.value.code() is grpc.StatusCode.ABORTED
        assert opened.under_way == 7
        silent.go.set()


def test_one_connection_has_half_of_the_stylize_streams(settings: dict[str, Any]) -> None:
    with server_thread(**settings, stylize_streams=4) as server, ExitStack() as stack:
        opened = server._gate.services.stylization.streams
        silent = Silent()
        held = channel(server, stack)
        streams = [stream(held, STREAMS[2], silent)]
        until(lambda: opened.under_way == 1)
        streams.append(stream(held, STREAMS[2], silent))
        until(lambda: opened.under_way == 2)
        streams.append(stream(held, STREAMS[2], silent))
        with pytest.raises(grpc.RpcError) as caught:
            next(streams[2])
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert opened.under_way == 2
        with Client(server.address) as client:
            assert len(list(client.stylize_stream([png(scene(64, 64, 0))], "ember"))) == 1
        silent.go.set()


def test_a_stream_whose_answers_are_not_read_is_ended(settings: dict[str, Any]) -> None:
    points = np.random.default_rng(0).random((1000, 64), dtype=np.float32)
    # By a server that is patient: on a slow machine this stream would be ended.
    with server_thread(**settings) as server, Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        client.create_gallery("g", encoder="pixels")
        digest = client.get_gallery("g").encoder_digest
        for answer in client.bulk_enroll(
            [enroll_request("g", f"s{i}" + "x" * 100, [encoding(row, digest)]) for i, row in enumerate(points)]
        ):
            assert answer.HasField("enrolled")
    with server_thread(**settings, stream_idle_seconds=0.5) as server, ExitStack() as stack:
        client = stack.enter_context(Client(server.address, timeout_seconds=PATIENCE_SECONDS))
        probe = identify_request("g", [encoding(row, digest) for row in points[:50]], max_candidates=1000)
        request = b"\x0a" + _varint(probe.ByteSize()) + probe.SerializeToString()
        answers = stream(channel(server, stack), STREAMS[1], Silent(*[request] * 40))
        ended = {"method": STREAMS[1], "code": "ABORTED"}
        until(lambda: measured(server, "oneglance_call_seconds_count", **ended))
        assert client.identify("g", encoding(points[3], digest)).results
        answers.cancel()
        until(lambda: server._stream_bytes.under_way == 0)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
