"""Connections, and what many calls of one come to: each is answered, or refused by us."""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from oneglance import Client, encoding, enroll_request, identify_request
from oneglance.v1.error_pb2 import Error
from oneglance_server.app import Server
from tests.pictures import picture
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def settings(models: tuple[Path, Path], tmp_path: Path) -> dict[str, Any]:
    return {"data_dir": tmp_path, "models": models[:1]}


async def outcomes(server: Server, method: str, requests: Iterator[Message]) -> "Counter[str]":
    """How often calls, all made at once on one connection, came to which end: OK, or the reason of the refusal."""
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/oneglance.v1.{method}")

        async def outcome(data: bytes) -> str:
            try:
                await call(data, timeout=PATIENCE_SECONDS)
            except grpc.aio.AioRpcError as error:
                trailers: Any = error.trailing_metadata()
                detail = dict(trailers or ()).get("oneglance-error-bin")
                return Error.FromString(detail).reason if detail else f"{error.code().name}, without details"
            return "OK"

        return Counter(await asyncio.gather(*(outcome(request.SerializeToString()) for request in requests)))


@pytest.mark.parametrize("limits", [{}, {"max_calls_per_connection": 100_000}])
async def test_thousands_of_calls_are_each_answered_or_refused_by_us(
    settings: dict[str, Any], limits: dict[str, Any]
) -> None:
    with server_thread(**settings, **limits) as server, Client(server.address) as client:
        client.create_gallery("g")
        client.enroll("g", "ada", picture(1))
        digest = client.get_gallery("g").encoder_digest
        probe = identify_request("g", [encoding(np.ones(64), digest)])
        found = await outcomes(server, "IdentificationService/Identify", iter([probe] * 3000))
        assert set(found) <= {"OK", "QUEUE_FULL"}
        assert found["OK"]
        enrolled = await outcomes(
            server,
            "SubjectService/Enroll",
            (enroll_request("g", f"s{i}", [encoding(np.ones(64), digest)]) for i in range(1500)),
        )
        assert set(enrolled) <= {"OK", "QUEUE_FULL"}
        assert client.get_gallery("g").subject_count == 1 + enrolled["OK"]


def test_connections_are_counted(settings: dict[str, Any]) -> None:
    with server_thread(**settings, max_connections=4) as server:
        host, _, port = server.address.rpartition(":")
        held = []
        try:
            for _ in range(4):
                one = socket.create_connection((host, int(port)), PATIENCE_SECONDS)
                held.append(one)
                assert one.recv(1)  # the server's SETTINGS
            with socket.create_connection((host, int(port)), PATIENCE_SECONDS) as fifth:
                assert fifth.recv(1) == b""
        finally:
            for one in held:
                one.close()
        with Client(server.address) as client:
            client.wait_until_serving(PATIENCE_SECONDS)


def test_an_idle_connection_is_closed_and_its_client_opens_another(settings: dict[str, Any]) -> None:
    with server_thread(**settings, connection_idle_seconds=0.2) as server, Client(server.address) as client:
        client.wait_until_serving(PATIENCE_SECONDS)
        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE_SECONDS) as silent:
            while silent.recv(1000):
                pass
        client.wait_until_serving(PATIENCE_SECONDS)


def test_an_old_connection_takes_no_new_calls_but_its_streams_go_on(settings: dict[str, Any]) -> None:
    with server_thread(**settings, connection_age_seconds=0.2) as server, Client(server.address) as client:
        client.create_gallery("g")
        answers = client.bulk_enroll(enroll_request("g", f"s{i}", [picture(i)]) for i in range(1000))
        assert sum(answer.HasField("enrolled") for answer in answers) == 1000
        assert client.get_gallery("g").subject_count == 1000
