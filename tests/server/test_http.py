"""The calls over HTTP, as a web page, curl and somebody who means no good make them."""

import base64
import gzip
import http.client
import json
import random
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from oneglance import Client, enroll_request, identify_request
from oneglance_server.app import Server
from oneglance_server.http.listener import DOCUMENT
from tests.pictures import picture, png
from tests.running import measured, server_thread
from tests.server.access.callers import grant
from tests.server.access.test_tls import Authority
from tests.server.http_channel import http_client
from tests.waiting import PATIENCE_SECONDS

V1 = "/oneglance.v1."
IDENTIFY = V1 + "IdentificationService/Identify"
GET = V1 + "GalleryService/GetGallery"
ONE = base64.b64encode(png(picture(1))).decode()
PAGE = "https://app.example"


@pytest.fixture(scope="module")
def server(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("http")
    with server_thread(
        data_dir=folder, models=(models[0],), http="127.0.0.1:0", http_origins=(PAGE,), max_message_bytes=8 << 20
    ) as server:
        with Client(server.address) as client:
            client.create_gallery("g", encoder="pixels")
            client.enroll("g", "one", png(picture(1)))
        yield server


def ask(server: Server, path: str, body: bytes | str, method: str = "POST", **headers: str) -> tuple[int, Any, Any]:
    """(HTTP status, the answer read as JSON, or its bytes, headers)."""
    with closing(http.client.HTTPConnection(server.http_address, timeout=PATIENCE_SECONDS)) as connection:
        given = {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        data = answer.read()
    return answer.status, json.loads(data) if data[:1] == b"{" else data, answer.headers


def reason(answer: Any) -> str:
    return str(answer["details"][0]["debug"]["reason"])


def fields(answer: Any) -> list[str]:
    return [one["field"] for one in answer["details"][0]["debug"].get("fieldViolations", ())]


def test_json_both_spellings_and_what_is_zero(server: Server) -> None:
    for name in ("galleryId", "gallery_id"):
        status, answer, headers = ask(server, IDENTIFY, json.dumps({name: "g", "probes": [{"image": ONE}]}))
        assert (status, headers["Content-Type"]) == (200, "application/json")
        result = answer["results"][0]
        assert result["subjectId"] == "one"
        assert result["candidates"][0]["distance"] == 0.0


def test_streams_and_encoded_messages(server: Server) -> None:
    with http_client(server) as client:
        items = [enroll_request("g", f"s{i}", [png(picture(i))]) for i in (2, 3)]
        assert all(answer.HasField("enrolled") for answer in client.bulk_enroll(items))
        asked = [identify_request("g", [png(picture(i))]) for i in (2, 3)]
        found = [answer.response.results[0].subject_id for answer in client.identify_stream(asked)]
    assert found == ["s2", "s3"]
    request = identify_request("g", [png(picture(1))]).SerializeToString()
    status, plain, _ = ask(server, IDENTIFY, request, content_type="application/proto")
    assert (status, b"one" in plain) == (200, True)
    framed = struct.pack(">BI", 0, len(request)) + request
    status, web, _ = ask(server, IDENTIFY, framed, content_type="application/grpc-web+proto")
    assert (status, web[5 : 5 + struct.unpack_from(">BI", web)[1]]) == (200, plain)
    assert web.endswith(b"grpc-status: 0\r\n")
    packed = gzip.compress(json.dumps({"galleryId": "g", "probes": [{"image": ONE}]}).encode())
    assert ask(server, IDENTIFY, packed, content_encoding="gzip")[0] == 200


REFUSED: dict[str, Any] = {  # the path, the body, headers; HTTP status, reason, fields
    "gallery-unknown": (GET, '{"galleryId": "x"}', {}, 404, "GALLERY_NOT_FOUND", []),
    "field-unknown": (IDENTIFY, '{"probes": [{"picture": ""}]}', {}, 400, "UNKNOWN_FIELD", ["probes[0].picture"]),
    "picture-none": (
        *(IDENTIFY, '{"galleryId": "g", "probes": [{"image": "AAAA"}]}', {}, 400, "IMAGE_UNDECODABLE"),
        ["probes[0].image"],
    ),
    "number-none": (IDENTIFY, '{"tau": "much"}', {}, 400, "MALFORMED", ["tau"]),
    "number-huge": (IDENTIFY, '{"tau": ' + "9" * 400 + "}", {}, 400, "MALFORMED", []),
    "integer-huge": (IDENTIFY, '{"maxCandidates": ' + "9" * 5000 + "}", {}, 400, "MALFORMED", []),
    "nan": (IDENTIFY, '{"tau": NaN}', {}, 400, "MALFORMED", ["tau"]),
    "nan-encoding": (
        *(IDENTIFY, '{"galleryId": "g", "probes": [{"encoding": {"values": ["NaN"], "encoderDigest": "a"}}]}', {}),
        *(400, "ENCODER_MISMATCH", []),
    ),
    "broken": (IDENTIFY, '{"galleryId": "g"', {}, 400, "MALFORMED", []),
    "no-object": (IDENTIFY, "[1]", {}, 400, "MALFORMED", []),
    "not-utf8": (IDENTIFY, b'{"galleryId": "\xff"}', {}, 400, "MALFORMED", []),
    "surrogate": (IDENTIFY, '{"galleryId": "\\ud800"}', {}, 400, "MALFORMED", ["galleryId"]),
    "twice": (IDENTIFY, '{"galleryId": "g", "galleryId": "g"}', {}, 400, "MALFORMED", []),
    "deep": (IDENTIFY, '{"probes": ' + "[" * 30_000, {}, 400, "MALFORMED", []),
    "many-probes": (
        *(IDENTIFY, '{"galleryId": "g", "probes": [' + ",".join(["{}"] * 2000) + "]}", {}, 400, "TOO_MANY"),
        ["probes"],
    ),
    "many-objects": (IDENTIFY, '{"probes": [' + "{}," * 1_000_000 + "{}]}", {}, 400, "TOO_MANY", []),
    "many-values": (IDENTIFY, '{"a": [' + "1," * 3_000_000 + "1]}", {}, 400, "TOO_MANY", []),
    "many-names": (
        *(IDENTIFY, "{" + ",".join(f'"{i}":1' for i in range(200_000)) + "}", {}, 400, "TOO_MANY"),
        [],
    ),
    "long-name": (IDENTIFY, '{"' + "a" * 100_000 + '": 1}', {}, 400, "MALFORMED", []),
    "long-text": (IDENTIFY, '{"galleryId": "' + "a" * 100_000 + '"}', {}, 400, "MALFORMED", ["galleryId"]),
    "long-text-within": (
        *(IDENTIFY, '{"filter": {"labels": {"a": "' + "a" * 100_000 + '"}}}', {}, 400, "MALFORMED"),
        ["filter.labels"],
    ),
    "long-unknown-name": (IDENTIFY, '{"' + "a" * 1000 + '": 1}', {}, 400, "UNKNOWN_FIELD", ["a" * 200]),
    "long": (GET, '{"galleryId": "' + "g" * 70_000 + '"}', {}, 400, "MESSAGE_TOO_LARGE", []),
    "bomb": (IDENTIFY, gzip.compress(b" " * (9 << 20)), {"content_encoding": "gzip"}, 400, "MESSAGE_TOO_LARGE", []),
    "bomb-that-lies": (
        *(IDENTIFY, gzip.compress(b" " * (9 << 20))[:-4] + b"\1\0\0\0", {"content_encoding": "gzip"}),
        *(400, "MALFORMED", []),
    ),
    "packing-unknown": (IDENTIFY, "{}", {"content_encoding": "br"}, 400, "ENCODING_UNKNOWN", ["content-encoding"]),
    "timeout-none": (IDENTIFY, "{}", {"connect_timeout_ms": "soon"}, 400, "INVALID_REQUEST", ["connect-timeout-ms"]),
    "timeout-zero": (IDENTIFY, "{}", {"connect_timeout_ms": "0"}, 504, "DEADLINE_PASSED", []),
    "origin": (GET, '{"galleryId": "g"}', {"Origin": "https://evil.example"}, 403, "ORIGIN_DENIED", []),
    "proto-broken": (GET, b"\xff\xff", {"content_type": "application/proto"}, 400, "MALFORMED", []),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(server: Server, name: str) -> None:
    path, body, headers, status, why, where = REFUSED[name]
    found, answer, _ = ask(server, path, body, **headers)
    assert (found, reason(answer)) == (status, why)
    assert not where or fields(answer) == where
    assert ask(server, GET, '{"galleryId": "g"}')[0] == 200


@pytest.mark.parametrize(
    ("path", "method", "kind", "status"),
    [
        (V1 + "GalleryService/Nothing", "POST", "application/json", 404),
        ("/", "GET", "", 404),
        (GET, "GET", "", 405),
        (GET, "POST", "text/plain", 415),
        (GET, "POST", "application/connect+json", 415),
        (V1 + "IdentificationService/IdentifyStream", "POST", "application/json", 415),
    ],
)
def test_what_is_no_call_is_told_so(server: Server, path: str, method: str, kind: str, status: int) -> None:
    found, answer, _ = ask(server, path, "{}", method, content_type=kind)
    assert (found, bool(answer["message"])) == (status, True)


def test_pages_of_allowed_origins_may_call(server: Server) -> None:
    status, _, headers = ask(server, GET, "", "OPTIONS", Origin=PAGE, Access_Control_Request_Method="POST")
    assert (status, headers["Access-Control-Allow-Origin"]) == (204, PAGE)
    assert "authorization" in headers["Access-Control-Allow-Headers"]
    status, _, headers = ask(server, GET, '{"galleryId": "g"}', Origin=PAGE)
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, PAGE)


def test_the_document_is_served_and_has_every_method(server: Server) -> None:
    status, document, _ = ask(server, "/openapi.json", "", "GET")
    assert (status, document) == (200, json.loads(DOCUMENT.read_bytes()))
    assert set(document["paths"]) == set(server._http._calls._methods)  # type: ignore[union-attr]
    schemas = document["components"]["schemas"]

    def references(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            yield from [part["$ref"]] if "$ref" in part else []
            for inner in part.values():
                yield from references(inner)
        elif isinstance(part, list):
            for inner in part:
                yield from references(inner)

    assert {one.removeprefix("#/components/schemas/") for one in references(document)} <= set(schemas)
    assert document["paths"][IDENTIFY]["post"]["description"].startswith("1:K. One or many probes")


def test_no_made_up_body_is_an_internal_error(server: Server) -> None:
    """Bodies made of good ones by chance: none is a bug of the server's, and it lives on."""
    chance = random.Random(0)
    good = json.dumps({"galleryId": "g", "probes": [{"image": ONE}, {"encoding": {"values": [0.5] * 8}}], "tau": 0.5})
    odd = ["null", "1e999", "-0", '"NaN"', "{}", "[]", "true", '"\\ud800"', "\\", '"', ",", "{", "[", ":", "9" * 30]
    kinds = ["application/json", "application/proto", "application/grpc-web+json", "application/grpc-web"]
    for _ in range(400):
        body = good
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(body))
            body = body[:at] + chance.choice(odd) + body[at + chance.randrange(0, 30) :]
        status, _, _ = ask(server, IDENTIFY, body.encode(), content_type=chance.choice(kinds))
        assert status in (200, 400, 404, 429), body
    stream = V1 + "SubjectService/BulkEnroll"
    for _ in range(100):
        parts = [struct.pack(">BI", chance.choice([0, 0, 1, 2, 255]), chance.choice([2, 3, 1 << 31])) + b"{}"]
        ended = ask(server, stream, b"".join(parts * chance.randrange(1, 4)), content_type="application/connect+json")
        assert ended[0] == 200
        assert b'"internal"' not in (ended[1] if isinstance(ended[1], bytes) else b"")
    for method in ("IdentificationService/Identify", "SubjectService/BulkEnroll"):
        count = partial(measured, server, "oneglance_call_seconds_count", method=method)
        assert count(code="INVALID_ARGUMENT") > 0
        assert count(code="INTERNAL") == 0


def test_a_body_that_ends_early_is_no_call(server: Server) -> None:
    host, _, port = server.http_address.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE_SECONDS) as raw:
        raw.sendall(f"POST {GET} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n".encode())
        raw.sendall(b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert b" 400 " in raw.recv(1000)
    assert ask(server, GET, '{"galleryId": "g"}')[0] == 200
    assert server._call_bytes.under_way == 0


def test_certificates_of_clients_say_who_calls(models: tuple[Path, Path], tmp_path: Path) -> None:
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    certificate, key = ours.sign("server", "localhost")
    (tmp_path / "policy.toml").write_text(grant(["cert:robot"], ["*"], ["*"]))
    with server_thread(
        data_dir=tmp_path / "d",
        models=(models[0],),
        http="localhost:0",
        policy=str(tmp_path / "policy.toml"),
        tls_cert=str(certificate),
        tls_key=str(key),
        tls_client_ca=str(ours.ca),
    ) as server:

        def identity(of: tuple[Path, Path]) -> Any:
            context = ssl.create_default_context(cafile=str(ours.ca))
            context.load_cert_chain(*map(str, of))
            path = V1 + "AccessService/GetIdentity"
            with closing(http.client.HTTPSConnection(server.http_address, context=context)) as connection:
                connection.request("POST", path, "{}", {"Content-Type": "application/json"})
                return json.loads(connection.getresponse().read())

        assert identity(ours.sign("robot"))["name"] == "cert:robot"
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            identity(others.sign("stranger"))
