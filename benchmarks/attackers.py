"""Each attack, as one function that runs in a process of its own and says which statuses it was answered with."""

import asyncio
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import grpc
import numpy as np
from PIL import Image

from benchmarks.random_directions import random_directions
from benchmarks.traffic import SERVICE, Flow, send, status_text
from oneglance import encoding, enroll_request, identify_request
from oneglance.client.requests import stream_settings, stylize_settings
from oneglance.v1.identification_pb2 import IdentifyRequest
from oneglance.v1.stylization_pb2 import StylizeStreamRequest
from oneglance.v1.subject_pb2 import BulkEnrollRequest, EnrollRequest
from tests.bad_client import BadClient
from tests.http2 import prefixed

IDENTIFY = SERVICE + "IdentificationService/Identify"
ENROLL = SERVICE + "SubjectService/Enroll"
BULK_ENROLL = SERVICE + "SubjectService/BulkEnroll"
STREAM = SERVICE + "StylizationService/StylizeStream"
LARGE, SMALL = "large", "small"
LONGEST_SECONDS = 90.0  # that an attacker waits for an answer
MESSAGE_BYTES = 60_000_000
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
Statuses = Counter[str]


@dataclass(frozen=True)
class Target:
    """What an attacker knows. ``hold_seconds``: how long what is held is held. ``drawing``: a picture as PNG."""

    address: str
    digest: str
    dimension: int
    style: str
    drawing: bytes = field(repr=False)
    hold_seconds: float = 30.0


@dataclass(frozen=True)
class Attack:
    """settings: flags of the server under attack. log: where its log goes. terminate: SIGTERM comes in the middle."""

    name: str
    run: Callable[[Event, Target], Statuses]
    settings: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""
    terminate: bool = False


def one_call(target: Target, method: str, request: bytes, compression: grpc.Compression | None = None) -> Statuses:
    with grpc.insecure_channel(target.address, options=_OPTIONS) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        try:
            call(request, timeout=LONGEST_SECONDS, compression=compression)
        except grpc.RpcError as error:
            return Counter([status_text(error)])
    return Counter(["OK"])


def _in(gallery: str) -> bytes:
    return IdentifyRequest(gallery_id=gallery).SerializeToString()


def _times(field_tag: int) -> bytes:
    """60 MB of empty messages of one field."""
    return bytes([field_tag << 3 | 2, 0]) * (MESSAGE_BYTES // 2)


def nothing(stop: Event, target: Target) -> Statuses:
    stop.wait(target.hold_seconds / 2)
    return Counter()


def empty_probes(stop: Event, target: Target) -> Statuses:
    return one_call(target, IDENTIFY, _in(SMALL) + _times(2))


def empty_probes_gzip(stop: Event, target: Target) -> Statuses:
    return one_call(target, IDENTIFY, _in(SMALL) + _times(2), grpc.Compression.Gzip)


def empty_labels(stop: Event, target: Target) -> Statuses:
    start = EnrollRequest(gallery_id=SMALL, subject_id="s").SerializeToString()
    return one_call(target, ENROLL, start + _times(4))


def long_encoding(stop: Event, target: Target) -> Statuses:
    values = np.ones(15_000_000, np.float32)
    request = IdentifyRequest(gallery_id=SMALL)
    request.probes.add().encoding.CopyFrom(encoding(values, target.digest))
    return one_call(target, IDENTIFY, request.SerializeToString())


def webp_of_42_megapixels() -> bytes:
    """Not two kilobytes."""
    buffer = io.BytesIO()
    Image.new("RGB", (6480, 6480), (200, 200, 200)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def bombs(stop: Event, target: Target) -> Statuses:
    return one_call(target, IDENTIFY, identify_request(SMALL, [webp_of_42_megapixels()] * 256).SerializeToString())


def points(target: Target, count: int, seed: int = 0) -> list[Any]:
    """Encodings, unit norm."""
    rows = random_directions(np.random.default_rng(seed), count, target.dimension)
    return [encoding(row, target.digest) for row in rows]


def many_probes(stop: Event, target: Target) -> Statuses:
    """The largest legal identification, again and again."""
    request = identify_request(LARGE, points(target, 1024)).SerializeToString()
    seen: Statuses = Counter()
    until = time.monotonic() + target.hold_seconds / 2
    while time.monotonic() < until and not stop.is_set():
        seen += one_call(target, IDENTIFY, request)
    return seen


def idle_streams(stop: Event, target: Target) -> Statuses:
    """Eight streams that send settings and no frame; a neighbour then wants one with a frame, every second."""
    settings = stylize_settings(target.style, max_side=64)
    first = StylizeStreamRequest(settings=stream_settings(settings)).SerializeToString()
    frame = StylizeStreamRequest(frame=target.drawing).SerializeToString()
    seen: Statuses = Counter()
    until = time.monotonic() + target.hold_seconds
    with ExitStack() as held:

        def open_stream(messages: Iterator[bytes]) -> Any:
            channel = held.enter_context(grpc.insecure_channel(target.address, options=_OPTIONS))
            call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM)
            return call(messages, timeout=LONGEST_SECONDS)

        def idle() -> Iterator[bytes]:
            yield first
            while time.monotonic() < until + 5 and not stop.is_set():
                time.sleep(0.1)

        streams = [open_stream(idle()) for _ in range(8)]
        time.sleep(1)
        while time.monotonic() < until and not stop.is_set():
            try:
                answered = len(list(open_stream(iter([first, frame]))))
                seen[f"neighbour {'OK' if answered else 'nothing'}"] += 1
            except grpc.RpcError as error:
                seen[f"neighbour {status_text(error)}"] += 1
            stop.wait(1)
        for stream in streams:
            if stream.done():
                seen[f"idle {status_text(stream)}"] += 1
            stream.cancel()
    return seen


def half_sent(stop: Event, target: Target) -> Statuses:
    """40 connections, each with 8 MB of a message of 60 MB."""
    part = prefixed(bytes(8 << 20), claimed=MESSAGE_BYTES)
    with ExitStack() as held:
        clients = [held.enter_context(BadClient(target.address)) for _ in range(40)]
        sent = sum(client.send(client.begin(IDENTIFY), part, patience_seconds=1.0) for client in clients)
        until = time.monotonic() + target.hold_seconds
        while time.monotonic() < until and not stop.is_set():
            for client in clients:
                client.listen(0.001)
            time.sleep(0.2)
        closed = sum(client.closed for client in clients)
    return Counter({"connections closed by the server": closed, "MB taken": sent // 1_000_000})


def idle_connections(stop: Event, target: Target) -> Statuses:
    """1,000 connections on which nothing is said, opened one after the other."""
    with ExitStack() as held:
        clients = []
        for _ in range(1000):
            try:
                clients.append(held.enter_context(BadClient(target.address)))
            except OSError:
                break
        until = time.monotonic() + target.hold_seconds
        while time.monotonic() < until and not stop.is_set():
            for client in clients:
                client.listen(0.0)
            time.sleep(0.2)
        closed = sum(client.closed for client in clients)
    return Counter({"connections": len(clients), "connections closed by the server": closed})


def unread_answers(stop: Event, target: Target) -> Statuses:
    """320 answers of 50,000 candidates each that nobody reads."""
    request = identify_request(LARGE, points(target, 50), max_candidates=1000).SerializeToString()
    with ExitStack() as held:
        clients = [held.enter_context(BadClient(target.address, window=0)) for _ in range(20)]
        for client in clients:
            for _ in range(16):
                if not client.closed:
                    client.call(IDENTIFY, request)
        until = time.monotonic() + target.hold_seconds
        while time.monotonic() < until and not stop.is_set():
            for client in clients:
                client.listen(0.001)
            time.sleep(0.2)
        return Counter({"connections closed by the server": sum(client.closed for client in clients)})


def patient_callers(stop: Event, target: Target) -> Statuses:
    """64 callers without deadlines: what the server can do."""
    return _callers(stop, target, 64, None)


def hasty_callers(stop: Event, target: Target) -> Statuses:
    """256 callers who wait for 0.2 s and then ask again."""
    return _callers(stop, target, 256, 0.2)


def _callers(stop: Event, target: Target, number: int, deadline: float | None) -> Statuses:
    seconds = target.hold_seconds / 3
    request = identify_request(SMALL, [target.drawing]).SerializeToString()
    flow = Flow("callers", IDENTIFY, (request,), number, deadline_seconds=deadline, connections=16)
    calls = send(stop, target.address, [flow], seconds).calls["callers"]
    seen = calls.counts
    seen["OK/s"] = round(seen["OK"] / seconds)
    return seen


async def _at_once(target: Target, method: str, requests: list[bytes]) -> Statuses:
    async with grpc.aio.insecure_channel(target.address, options=_OPTIONS) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)

        async def one(request: bytes) -> str:
            try:
                await call(request, timeout=LONGEST_SECONDS)
            except grpc.aio.AioRpcError as error:
                return status_text(error)
            return "OK"

        return Counter(await asyncio.gather(*map(one, requests)))


def calls_at_once(stop: Event, target: Target) -> Statuses:
    """6,000 calls on one connection."""
    requests = [identify_request(SMALL, [point]).SerializeToString() for point in points(target, 100)]
    return asyncio.run(_at_once(target, IDENTIFY, requests * 60))


def enrolls_at_once(stop: Event, target: Target) -> Statuses:
    """3,000 enrollments on one connection."""
    requests = [
        enroll_request(SMALL, f"new{i}", [point]).SerializeToString() for i, point in enumerate(points(target, 3000))
    ]
    return asyncio.run(_at_once(target, ENROLL, requests))


def unwritable_log(stop: Event, target: Target) -> Statuses:
    """Good calls, bad calls and a stream with a bad item, all of which are logged."""
    good = [identify_request(SMALL, [point]).SerializeToString() for point in points(target, 20)]
    bad = [identify_request("none", [target.drawing]).SerializeToString()] * 20
    seen = asyncio.run(_at_once(target, IDENTIFY, good + bad))
    items = [enroll_request(SMALL, f"bulk{i}", [point]) for i, point in enumerate(points(target, 20))]
    items.insert(10, enroll_request("none", "x", [target.drawing]))
    with grpc.insecure_channel(target.address) as channel:
        call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            SERVICE + "SubjectService/BulkEnroll"
        )
        try:
            requests = [BulkEnrollRequest(item=item).SerializeToString() for item in items]
            seen["items answered"] = sum(1 for _ in call(iter(requests), timeout=LONGEST_SECONDS))
        except grpc.RpcError as error:
            seen[f"stream {status_text(error)}"] += 1
    return seen


ATTACKS = (
    Attack("nothing", nothing),
    Attack("60 MB of empty probes", empty_probes),
    Attack("the same, gzip", empty_probes_gzip),
    Attack("60 MB of empty labels", empty_labels),
    Attack("an encoding of 15 M values", long_encoding),
    Attack("256 WebPs of 42 megapixels", bombs),
    Attack("1,024 probes, large gallery", many_probes),
    Attack("8 idle streams", idle_streams),
    Attack("40 half-sent messages", half_sent, {"max_inflight_bytes": 16 << 20}),
    Attack("1,000 idle connections", idle_connections),
    Attack("320 unread answers", unread_answers),
    Attack("64 patient callers", patient_callers),
    Attack("256 callers, 0.2 s each", hasty_callers),
    Attack("6,000 calls at once", calls_at_once),
    Attack("3,000 enrollments at once", enrolls_at_once),
    Attack("a log that can't be written", unwritable_log, {"log_level": "debug"}, log="/dev/full"),
    Attack("SIGTERM among WebPs", bombs, terminate=True),
)
