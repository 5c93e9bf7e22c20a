"""What somebody who means no good does to the HTTP port: nobody else waits for it, and nothing is kept of it."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from oneglance import Client, ResourceExhaustedError
from oneglance_index import read_trail
from oneglance_server.app import Server
from oneglance_server.http import bodies, listener
from tests.pictures import picture
from tests.running import measured, server_thread
from tests.server.access.callers import ADMIN, grant, key_of
from tests.server.http_channel import http_client
from tests.server.test_http import GET, IDENTIFY, V1, ask
from tests.waiting import PATIENCE_SECONDS, until

BULK_ENROLL = V1 + "SubjectService/BulkEnroll"
MEGABYTES = 8 << 20


@pytest.fixture(scope="module")
def server(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_thread(
        data_dir=tmp_path_factory.mktemp("http"), models=models[:1], http="127.0.0.1:0", max_message_bytes=MEGABYTES
    ) as server:
        yield server


def connected(server: Server, path: str, *headers: str, kind: str = "application/json") -> socket.socket:
    """A connection on which the head of a request was sent."""
    host, _, port = server.http_address.rpartition(":")
    raw = socket.create_connection((host, int(port)), PATIENCE_SECONDS)
    head = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Type: {kind}", *headers, "", ""]
    raw.sendall("\r\n".join(head).encode("latin-1"))
    return raw


def idle(server: Server) -> bool:
    held = server._call_bytes.under_way + server._stream_bytes.under_way
    return not held and not len(server._interceptor.under_way)


@pytest.mark.parametrize("name", ["Origin", "Authorization", "Connect-Timeout-Ms", "traceparent"])
def test_a_header_that_is_no_text_is_refused(server: Server, name: str) -> None:
    with closing(connected(server, GET, f"{name}: \xff\xfe", "Content-Length: 2")) as raw:
        raw.sendall(b"{}")
        answer = raw.recv(4096)
    assert b" 400 " in answer
    assert b"MALFORMED" in answer


def test_what_is_no_http_is_not_told_who_serves(server: Server) -> None:
    with closing(connected(server, GET, "Content-Length: 2", "Transfer-Encoding: chunked")) as raw:
        answer = raw.recv(4096)
    assert b" 400 " in answer
    assert b"Server: oneglance" in answer
    assert b"aiohttp" not in answer


def test_no_turn_of_the_loop_reads_much(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand chunks of one byte keep nobody else waiting."""
    sizes = []
    taken = listener._Connection.data_received

    def data_received(connection: listener._Connection, data: bytes) -> None:
        sizes.append(len(data))
        taken(connection, data)

    monkeypatch.setattr(listener._Connection, "data_received", data_received)
    with closing(connected(server, IDENTIFY, "Transfer-Encoding: chunked")) as raw:
        raw.sendall(b"1\r\n \r\n" * 100_000 + b"2\r\n{}\r\n0\r\n\r\n")
        assert b" 400 " in raw.recv(4096)
    assert sum(sizes) > 600_000
    assert max(sizes) <= listener._PART_BYTES


def test_a_body_that_begins_quickly_may_not_end_slowly(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_SLOW_SECONDS", 0.2)
    with closing(connected(server, IDENTIFY, f"Content-Length: {MEGABYTES - 10}")) as raw:
        raw.sendall(b" " * (MEGABYTES // 2))
        raw.settimeout(0.02)
        for _ in range(1000):
            raw.sendall(b" ")
            try:
                assert b" 504 " in raw.recv(4096)
                break
            except TimeoutError:
                pass
        else:
            raise AssertionError("it is never refused")
    until(lambda: idle(server))


def test_what_an_envelope_promises_takes_no_room(server: Server) -> None:
    size = MEGABYTES - 10
    with closing(connected(server, BULK_ENROLL, "Transfer-Encoding: chunked", kind="application/connect+json")) as raw:
        raw.sendall(b"6\r\n" + struct.pack(">BI", 0, size) + b"{\r\n")
        until(lambda: server._stream_bytes.under_way == 1)
    until(lambda: idle(server))


@pytest.mark.parametrize("body", [b"", b"3\r\n{  \r\n", b"fffff\r\n" + b" " * 100_000])
@pytest.mark.parametrize(("path", "kind"), [(IDENTIFY, "application/json"), (BULK_ENROLL, "application/connect+json")])
def test_who_leaves_in_the_middle_leaves_nothing(server: Server, path: str, kind: str, body: bytes) -> None:
    with closing(connected(server, path, "Transfer-Encoding: chunked", kind=kind)) as raw:
        until(lambda: len(server._interceptor.under_way) == 1)
        raw.sendall(body)
    until(lambda: idle(server))


def test_who_leaves_ends_what_was_begun(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream whose caller leaves between two messages is over, and measured as such."""
    was = measured(server, "oneglance_call_seconds_count", method="SubjectService/BulkEnroll", code="CANCELLED")
    with closing(connected(server, BULK_ENROLL, "Transfer-Encoding: chunked", kind="application/connect+json")) as raw:
        raw.sendall(b"7\r\n" + struct.pack(">BI", 0, 2) + b"{}\r\n")
        assert b" 200 " in raw.recv(4096)
    until(lambda: idle(server))
    now = measured(server, "oneglance_call_seconds_count", method="SubjectService/BulkEnroll", code="CANCELLED")
    assert now == was + 1


def test_rights_quotas_and_the_trail_are_those_of_grpc(models: tuple[Path, Path], tmp_path: Path) -> None:
    rules = ADMIN + grant(["key:door"], ["g"], ["identify", "candidates"])
    rules += '[[quota]]\nto = ["key:door"]\nprobes = "3/day"\n'
    (tmp_path / "policy.toml").write_text(rules)
    data = tmp_path / "data"
    admin, door = key_of(data, "admin"), key_of(data, "door")
    with server_thread(
        data_dir=data, models=models[:1], http="127.0.0.1:0", policy=str(tmp_path / "policy.toml")
    ) as server:
        with http_client(server, admin) as client:
            client.create_gallery("g", encoder="pixels")
            client.enroll("g", "it", picture(1))
        with Client(server.address, token=door) as by_grpc, http_client(server, door) as by_http:
            assert by_http.identify("g", picture(1), tau=0.1).results[0].subject_id == "it"
            by_grpc.identify("g", picture(1), picture(1), tau=0.1)
            for client in by_http, by_grpc:
                with pytest.raises(ResourceExhaustedError):
                    client.identify("g", picture(1), tau=0.1)
        request = '{"galleryId": "g"}'
        none: dict[str, str] = {}
        wrong = {"authorization": "Bearer og_wrong"}
        for headers, status in ((none, 401), (wrong, 401), ({"authorization": f"Bearer {door}"}, 403)):
            assert ask(server, V1 + "GalleryService/DeleteGallery", request, **headers)[0] == status
        # No other header tells who calls.
        for name in ("x_api_key", "cookie", "proxy_authorization", "x_forwarded_for"):
            assert ask(server, GET, request, **{name: f"Bearer {admin}"})[0] == 401
    told = [
        (one["who"], one["did"]) for one in map(json.loads, read_trail(data)) if one.get("from", "").startswith("ipv4")
    ]
    assert {("key:admin", "create-gallery"), ("key:admin", "enroll"), ("key:door", "identify")} <= set(told)
    assert {who for who, did in told if did == "refused"} == {"anonymous", "key:door"}


@pytest.mark.skipif(not Path("/proc/net/if_inet6").is_file(), reason="this machine has no IPv6")
def test_who_calls_from_an_address_of_ipv6_is_told_as_grpc_tells_it(models: tuple[Path, Path], tmp_path: Path) -> None:
    with (
        server_thread(data_dir=tmp_path, models=models[:1], listen="[::1]:0", http="[::1]:0") as server,
        http_client(server) as by_http,
        Client(server.address) as by_grpc,
    ):
        by_http.create_gallery("a", encoder="pixels")
        by_grpc.create_gallery("b", encoder="pixels")
    entries = [json.loads(line) for line in read_trail(tmp_path)]
    ours, theirs = (one["from"].rpartition(":")[0] for one in entries if one["did"] == "create-gallery")
    assert ours == theirs


def test_a_drain_answers_http_too(models: tuple[Path, Path], tmp_path: Path) -> None:
    """What is under way ends with its answer or with 503, also a body that never comes."""
    with server_thread(data_dir=tmp_path, models=models[:1], http="127.0.0.1:0", drain_seconds=1.0) as server:
        raw = connected(server, BULK_ENROLL, "Transfer-Encoding: chunked", kind="application/connect+json")
        half = connected(server, IDENTIFY, "Content-Length: 100")
        until(lambda: len(server._interceptor.under_way) == 2)
    with closing(raw), closing(half):
        assert b'"unavailable"' in raw.makefile("rb").read()
        assert b" 503 " in half.makefile("rb").read()
