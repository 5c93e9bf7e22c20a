"""Messages made to exhaust the server: each is refused with a type, little memory is taken, and health answers."""

import gzip
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from oneglance import Client, OneglanceError, identify_request
from oneglance.client.errors import raise_from
from oneglance.v1.identification_pb2 import IdentifyResponse, IdentifyStreamRequest, IdentifyStreamResponse
from tests.pictures import picture
from tests.running import ServerProcess
from tests.server.test_wire import field
from tests.waiting import PATIENCE_SECONDS

IDENTIFY = "/oneglance.v1.IdentificationService/Identify"
ENROLL = "/oneglance.v1.SubjectService/Enroll"
GET_GALLERY = "/oneglance.v1.GalleryService/GetGallery"
HEALTH = "/grpc.health.v1.Health/Check"
SERVING = HealthCheckResponse(status=HealthCheckResponse.SERVING).SerializeToString()
MOST = 60 << 20
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]


@pytest.fixture(scope="module")
def process(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("data"), models=models[0], log_level="error") as server:
        with Client(server.address) as client:
            client.create_gallery("g")
            client.enroll("g", "ada", picture(1))
        yield server
        status, log = server.terminate()
    assert status == 0
    assert "Traceback" not in log


@pytest.fixture(scope="module")
def bystander(process: ServerProcess) -> Iterator[Client]:
    with Client(process.address, timeout_seconds=PATIENCE_SECONDS) as client:
        yield client


def peak_bytes(server: ServerProcess) -> int:
    """The most memory that the process ever had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) << 10


def send(server: ServerProcess, method: str, data: bytes, compression: grpc.Compression | None = None) -> bytes:
    with grpc.insecure_channel(server.address, options=OPTIONS, compression=compression) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        try:
            return call(data, timeout=PATIENCE_SECONDS)
        except grpc.RpcError as error:
            raise_from(error)


ATTACKS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a flood of empty probes": (IDENTIFY, lambda: b"\x12\x00" * (MOST // 2), "TOO_MANY"),
    "a flood of empty examples": (ENROLL, lambda: b"\x1a\x00" * (MOST // 2), "TOO_MANY"),
    "a flood of labels": (ENROLL, lambda: b"\x22\x00" * (MOST // 2), "TOO_MANY"),
    "one encoding of 15 million values": (
        IDENTIFY,
        lambda: field(2, field(3, field(1, b"\0\0\x80?" * (MOST // 4)))),
        "TOO_MANY",
    ),
    "the same, not packed": (IDENTIFY, lambda: field(2, field(3, b"\x0d\0\0\x80?" * (MOST // 5))), "TOO_MANY"),
    "a tensor of 30 million sides": (IDENTIFY, lambda: field(2, field(2, b"\x10\x01" * (MOST // 2))), "TOO_MANY"),
    "the same, packed": (IDENTIFY, lambda: field(2, field(2, field(2, b"\x01" * MOST))), "TOO_MANY"),
    "unknown fields": (IDENTIFY, lambda: b"\xa0\x06\x01" * (MOST // 3), "TOO_MANY"),
    "one encoding, given again and again": (IDENTIFY, lambda: field(2, b"\x1a\x00" * (MOST // 2)), "TOO_MANY"),
    "nested groups": (IDENTIFY, lambda: b"\xa3\x06" * (MOST // 2), "MALFORMED"),
    "nested groups, few": (IDENTIFY, lambda: b"\xa3\x06" * 1000, "MALFORMED"),
    "cut off": (IDENTIFY, lambda: field(2, bytes(MOST))[:-1], "MALFORMED"),
    "cut off, short": (IDENTIFY, lambda: b"\x12\x05abc", "MALFORMED"),
    "text that is not UTF-8": (IDENTIFY, lambda: field(1, b"\xff" * 100), "MALFORMED"),
    "long text that is not UTF-8": (IDENTIFY, lambda: field(1, b"\xff" * MOST), "MALFORMED"),
    "gzip cut off": (IDENTIFY, lambda: gzip.compress(bytes(1000))[:-9] + b"\0\x01\0\0", "MALFORMED"),
    "gzip that says it is shorter": (IDENTIFY, lambda: gzip.compress(bytes(MOST))[:-4] + b"\x10\0\0\0", "MALFORMED"),
    "gzip that says it is longer": (IDENTIFY, lambda: gzip.compress(b"\x0a\0")[:-4] + b"\0\0\0\x03", "MALFORMED"),
    "gzip twice": (IDENTIFY, lambda: gzip.compress(b"\x0a\0") * 2, "MALFORMED"),
    "gzip in gzip": (IDENTIFY, lambda: gzip.compress(gzip.compress(bytes(MOST))), "MALFORMED"),
    "a gzip bomb": (IDENTIFY, lambda: gzip.compress(bytes(1 << 30), 1), "MESSAGE_TOO_LARGE"),
    "a gzip bomb for a small request": (GET_GALLERY, lambda: gzip.compress(bytes(MOST)), "MESSAGE_TOO_LARGE"),
    "a large small request": (GET_GALLERY, lambda: field(1, b"x" * MOST), "MESSAGE_TOO_LARGE"),
    "a large health request": (HEALTH, lambda: field(1, b"x" * MOST), "MESSAGE_TOO_LARGE"),
    "a health request that is none": (HEALTH, lambda: b"\x0a\x05abc", "MALFORMED"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_is_refused_and_others_are_answered(name: str, process: ServerProcess, bystander: Client) -> None:
    method, make, reason = ATTACKS[name]
    data = make()
    with_gzip = not data.startswith(b"\x1f\x8b")
    before = peak_bytes(process)
    refused: list[OneglanceError] = []

    def attack(compression: grpc.Compression | None) -> None:
        for _ in range(2):
            with pytest.raises(OneglanceError) as caught:
                send(process, method, data, compression)
            refused.append(caught.value)

    compressions = [None, grpc.Compression.Gzip] if with_gzip else [None]
    attackers = [threading.Thread(target=attack, args=(how,)) for how in compressions]
    for attacker in attackers:
        attacker.start()
    while any(attacker.is_alive() for attacker in attackers):
        assert bystander.identify("g", picture(1)).results[0].subject_id == "ada"
        bystander.wait_until_serving(PATIENCE_SECONDS)
    assert [error.reason for error in refused] == [reason] * (2 * len(attackers))
    assert {error.code.name for error in refused} == {"INVALID_ARGUMENT"}
    # gRPC's own buffers, the message, and once more unpacked or parsed; and what Python and malloc keep.
    assert peak_bytes(process) - before < 6 * len(attackers) * (64 << 20)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.NoCompression])
def test_honest_compression_works(process: ServerProcess, compression: grpc.Compression) -> None:
    with grpc.insecure_channel(process.address, options=OPTIONS, compression=compression) as channel:
        request = field(1, b"oneglance.v1.IdentificationService")
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(HEALTH)
        watch: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/grpc.health.v1.Health/Watch")
        assert check(request, timeout=PATIENCE_SECONDS) == SERVING
        assert next(iter(watch(request, timeout=PATIENCE_SECONDS))) == SERVING
        probe = identify_request("g", [picture(1)] * 10)
        identify: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(IDENTIFY)
        found = IdentifyResponse.FromString(identify(probe.SerializeToString(), timeout=PATIENCE_SECONDS))
        assert [result.subject_id for result in found.results] == ["ada"] * 10
        many = [IdentifyStreamRequest(request=probe).SerializeToString()] * 3
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"{IDENTIFY}Stream")
        answers = [IdentifyStreamResponse.FromString(answer) for answer in stream(iter(many), timeout=PATIENCE_SECONDS)]
        assert [len(answer.response.results) for answer in answers] == [10, 10, 10]


def test_what_deflate_packed_is_refused(process: ServerProcess) -> None:
    with grpc.insecure_channel(process.address, options=OPTIONS, compression=grpc.Compression.Deflate) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(GET_GALLERY)
        with pytest.raises(grpc.RpcError) as caught:
            call(field(1, b"g" * 1000), timeout=PATIENCE_SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
