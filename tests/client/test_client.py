"""The two Python clients: the same methods, the same answers, the same errors."""

import inspect
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from oneglance import AsyncClient, Client, OneglanceError, encoding, enroll_request, identify_request
from oneglance.client.errors import InternalError, NotFoundError, UnavailableError
from oneglance.client.requests import example
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED, IdentifyRequest
from oneglance.v1.subject_pb2 import BulkEnrollResponse, EnrollRequest
from oneglance_server.app import Server
from tests.models import pixels_model
from tests.pictures import picture, png
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("client")
    with server_thread(data_dir=folder / "data", models=(pixels_model(folder / "pixels"),)) as server:
        assert isinstance(server, Server)
        yield server.address


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(function).parameters)
            for name, function in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(AsyncClient) == methods(Client)
    assert all(function.__doc__ for name, function in inspect.getmembers(Client, inspect.isfunction) if name[0] != "_")


async def test_the_async_client_does_it_all(address: str, tmp_path: Path) -> None:
    async def items() -> AsyncIterator[EnrollRequest]:
        for i in range(10):
            yield enroll_request("async", f"s{i}", [png(picture(i))])

    async def probes() -> AsyncIterator[IdentifyRequest]:
        for i in range(10):
            yield identify_request("async", [picture(i)])

    file = tmp_path / "drawing.png"
    file.write_bytes(png(picture(3)))
    async with AsyncClient(address) as client:
        await client.wait_until_serving()
        assert (await client.create_gallery("async")).dimension == 64
        assert [r.enrolled.subject_id async for r in client.bulk_enroll(items())] == [f"s{i}" for i in range(10)]
        found = [r.response.results[0] async for r in client.identify_stream(probes())]
        assert [r.subject_id for r in found] == [f"s{i}" for i in range(10)]
        assert (await client.identify("async", file)).results[0].decision == DECISION_IDENTIFIED
        assert (await client.identify("async", str(file))).results[0].subject_id == "s3"
        assert (await client.verify("async", "s3", file)).same
        assert (await client.compare(file, picture(3))).distance == pytest.approx(0, abs=1e-6)
        assert (await client.set_threshold("async", 0.1)).tau == 0.1
        assert (await client.get_threshold("async")).tau == 0.1
        (point,) = (await client.encode(file)).encodings
        await client.enroll("async", "s3", point, on_existing="replace")
        subject = await client.get_subject("async", "s3")
        assert (await client.delete_encoding("async", "s3", subject.encodings[0].id)).subject_deleted
        assert (await client.delete_subject("async", "s4")).deleted_encodings == 1
        assert [s.id async for s in client.list_subjects("async")] == [f"s{i}" for i in range(10) if i not in (3, 4)]
        assert "async" in [g.id async for g in client.list_galleries()]
        assert (await client.get_gallery("async")).subject_count == 8
        assert (await client.describe_model((await client.list_models())[0].name)).manifest_json
        with pytest.raises(NotFoundError) as caught:
            await client.get_subject("async", "nobody")
        assert caught.value.reason == "SUBJECT_NOT_FOUND"
        answered: list[str] = []
        with pytest.raises(RuntimeError, match="the caller's own"):
            await collect(client.bulk_enroll(breaking("async")), answered)
        assert answered == ["last"]
        assert (await client.delete_gallery("async")).deleted_subjects == 9


async def collect(answers: AsyncIterator[BulkEnrollResponse], into: list[str]) -> None:
    async for answer in answers:
        into.append(answer.enrolled.subject_id)


async def breaking(gallery: str) -> AsyncIterator[EnrollRequest]:
    yield enroll_request(gallery, "last", [picture(1)])
    raise RuntimeError("the caller's own iterator fails")


def test_nobody_there_is_unavailable() -> None:
    with Client("127.0.0.1:1", timeout_seconds=PATIENCE_SECONDS) as client:
        with pytest.raises(UnavailableError) as caught:
            client.list_models()
        assert caught.value.reason == ""
        with pytest.raises(UnavailableError, match="no server is serving"):
            client.wait_until_serving(0.2)


def test_waiting_ends_in_time_when_nobody_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begun = time.monotonic()
        with (
            Client(f"127.0.0.1:{silent.getsockname()[1]}") as client,
            pytest.raises(UnavailableError, match="no server is serving"),
        ):
            client.wait_until_serving(1.5)
        assert 1.0 < time.monotonic() - begun < PATIENCE_SECONDS


def test_loopback_goes_past_a_proxy(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Client(address) as client:
        assert client.list_models()


def test_errors_are_one_tree() -> None:
    kinds = OneglanceError.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds) == 11
    assert str(InternalError("words", reason="WHY", field_violations=[("a.b", "c")])) == (
        "INTERNAL [WHY]: words\n  a.b: c"
    )


def test_examples_come_from_what_programs_have(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"picture")
    assert example(tmp_path / "x.png").image == example(b"picture").image == b"picture"
    tensor = example(np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1]).tensor
    assert tensor.shape == [2, 3]
    assert np.frombuffer(tensor.data, "<f4").tolist() == [2, 1, 0, 5, 4, 3]
    assert example(encoding([1, 2], "d")).encoding.values == [1, 2]
    message = example(b"x")
    assert example(message) is message
    with pytest.raises(TypeError, match="uint8 or float32"):
        example(np.zeros(3))
    with pytest.raises(TypeError, match="a path, the bytes"):
        example(3.5)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        example(tmp_path / "none.png")
