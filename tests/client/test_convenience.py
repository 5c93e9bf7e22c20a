"""What the Python client makes easy: requests as calls are made, retries, options, tables."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import oneglance
from oneglance import Client, enroll_request, identify_request, photo
from oneglance.client import errors
from oneglance.client.texts import names_bad_text
from tests.pictures import picture, png
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS

ONE, TWO = png(picture(1)), png(picture(2))


def test_requests_are_made_as_calls_are(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(ONE)
    alone = enroll_request("g", "s", str(path), labels={"a": "b"})
    assert [one.image for one in alone.examples] == [ONE]
    assert alone == enroll_request("g", "s", [str(path)], labels={"a": "b"})
    assert [one.image for one in identify_request("g", str(path), TWO).probes] == [ONE, TWO]
    assert identify_request("g", ONE, TWO) == identify_request("g", (one for one in (ONE, TWO)))
    with path.open("rb") as file:
        assert identify_request("g", file).probes[0].image == ONE


def test_which_face_is_enrolled() -> None:
    assert enroll_request("g", "s", ONE, face="largest").examples[0] == photo(ONE, "largest")
    with pytest.raises(TypeError, match="photo"):
        enroll_request("g", "s", photo(ONE), face="largest")
    with pytest.raises(ValueError, match=r"'largest', 'aligned', a box .* not 'larges'"):
        enroll_request("g", "s", ONE, face="larges")  # type: ignore[arg-type]


def test_all_errors_and_the_version_are_there() -> None:
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.OneglanceError):
            assert getattr(oneglance, name) is kind
            assert name in oneglance.__all__
    assert set(oneglance.__all__) <= set(dir(oneglance))  # what an interpreter completes names from
    assert oneglance.__version__.split(".")[0].isdecimal()


def test_a_message_that_is_too_large_says_the_limit() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(oneglance.ResourceExhaustedError) as caught:
        client.identify("g", b"x" * (65 << 20))
    assert (caught.value.reason, caught.value.metadata["limit"]) == ("MESSAGE_TOO_LARGE", str(64 << 20))


class Failing(grpc.GenericRpcHandler):
    """Answers UNAVAILABLE so many times, and then as an empty message."""

    def __init__(self, times: int) -> None:
        self.left, self.calls = times, 0

    def service(self, details: Any) -> Any:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls += 1
            self.left -= 1
            if self.left >= 0:
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.mark.parametrize(
    ("ask", "sent"),
    [
        (lambda c: c.with_options(retries=2).identify("g", ONE), 3),
        (lambda c: c.with_options(retries=2).enroll("g", "s", ONE, request_id="r"), 3),
        (lambda c: c.with_options(retries=1).identify("g", ONE), 2),
        (lambda c: c.with_options(retries=2).enroll("g", "s", ONE), 1),
        (lambda c: c.with_options(retries=2).delete_gallery("g"), 1),
        (lambda c: c.identify("g", ONE), 1),
    ],
)
def test_only_what_may_be_made_twice_is_sent_again(ask: Any, sent: int) -> None:
    failing = Failing(2)
    server = grpc.server(ThreadPoolExecutor(1), handlers=[failing])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Client(f"127.0.0.1:{port}") as client:
            if sent == 3:
                ask(client)
            else:
                with pytest.raises(oneglance.UnavailableError):
                    ask(client)
    finally:
        server.stop(None).wait()
    assert failing.calls == sent


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.get_gallery("g"),
        lambda c: c.create_backup("b"),
        lambda c: c.calibrate("g", []),
        lambda c: list(c.identify_stream([identify_request("g", ONE)])),
        lambda c: list(c.bulk_enroll([enroll_request("g", "s", ONE)])),
    ],
)
def test_a_timeout_holds_for_the_calls_made_by_it(ask: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with Client(address, timeout_seconds=PATIENCE_SECONDS) as client:
            begun = time.monotonic()
            with pytest.raises(oneglance.DeadlineExceededError):
                ask(client.with_options(timeout_seconds=0.1, retries=3))
            assert time.monotonic() - begun < PATIENCE_SECONDS


def test_retries_and_timeout_are_given_together() -> None:
    failing = Failing(2)
    server = grpc.server(ThreadPoolExecutor(1), handlers=[failing])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Client(f"127.0.0.1:{port}") as client:
            client.with_options(timeout_seconds=PATIENCE_SECONDS, retries=2).identify("g", ONE)
            failing.left = 1
            with pytest.raises(oneglance.UnavailableError):  # the client itself is as it was
                client.identify("g", ONE)
    finally:
        server.stop(None).wait()
    assert failing.calls == 4


def test_options_are_the_calls_own(models: tuple[Path, Path], tmp_path: Path) -> None:
    with server_thread(data_dir=tmp_path, models=(models[0],)) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels")
        assert client.get_gallery("g").id == "g"
        with pytest.raises(ValueError, match="retries"):
            client.with_options(retries=-1)

        async def likewise() -> None:
            async with oneglance.AsyncClient(server.address) as other:
                assert (await other.with_options(retries=1).get_gallery("g")).id == "g"

        asyncio.run(likewise())


async def test_a_stream_that_is_left_ends_at_once() -> None:
    ended = []

    @names_bad_text
    async def answers() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            ended.append(True)

    stream = answers()
    assert await anext(stream) == 1
    await stream.aclose()
    assert ended


BAD = "ada\udc80"  # as Python reads a file name that is no UTF-8


@pytest.mark.parametrize(
    ("field", "ask"),
    [
        ("subject_id", lambda c: c.enroll("g", BAD, ONE)),
        ("labels", lambda c: c.enroll("g", "s", ONE, labels={"name": BAD})),
        ("gallery_id", lambda c: c.get_gallery(BAD)),
        ("gallery_id", lambda c: list(c.list_subjects(BAD))),
        ("request_id", lambda c: enroll_request("g", "s", ONE, request_id=BAD)),
    ],
)
def test_a_text_that_cannot_be_sent_is_named(field: str, ask: Any) -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(oneglance.InvalidArgumentError) as caught:
        ask(client)
    assert caught.value.reason == "TEXT_INVALID"
    assert [name for name, _ in caught.value.field_violations] == [field]
