"""A whole server on a GPU that isn't there: it answers as one on the CPU does, or says what is wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from oneglance import Client, OneglanceError
from oneglance_server.settings import Settings
from tests.fake_card import ILLEGAL_ADDRESS, FakeCard
from tests.fake_cuda import FakeCuda
from tests.pictures import picture
from tests.running import server_thread
from tests.waiting import until

LOST = ("UNAVAILABLE", "DEVICE_LOST")
SCRATCH = 4 << 20


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    return FakeCard(monkeypatch)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def settings(models: tuple[Path, Path], data_dir: Path, **others: Any) -> dict[str, Any]:
    return {
        "models": models,
        "data_dir": data_dir,
        "device": "cuda",
        "gpu_temp_memory_bytes": SCRATCH,
        **others,
    }


def day(client: Client) -> Iterator[object]:
    """What a client may ask for, and the answers, without what differs between two servers in any case."""
    for gallery in ("g", "h"):
        client.create_gallery(gallery, encoder="pixels")
        for i in range(60):
            client.enroll(gallery, f"s{i % 40}", picture(i))
    for gallery in ("g", "h"):
        found = client.identify(gallery, *(picture(i) for i in range(70)), all_matches=True, max_candidates=9)
        yield [(r.subject_id, tuple(map(str, r.candidates)), tuple(map(str, r.matches))) for r in found.results]
    for i in range(0, 40, 2):
        client.delete_subject("g", f"s{i}")
    yield [r.subject_id for r in client.identify("g", *(picture(i) for i in range(70))).results]
    yield round(client.verify("g", "s1", picture(41)).distance, 5)
    client.delete_gallery("h")
    client.enroll("g", "late", picture(900))
    yield client.identify("g", picture(900)).results[0].subject_id


def test_a_server_on_a_card_answers_as_one_on_the_cpu(
    card: FakeCard, cuda: FakeCuda, models: tuple[Path, Path], tmp_path: Path
) -> None:
    with server_thread(models=models, data_dir=tmp_path / "cpu") as server, Client(server.address) as client:
        expected = list(day(client))
    with server_thread(**settings(models, tmp_path / "cuda")) as server, Client(server.address) as client:
        assert list(day(client)) == expected
        found = client.identify("g", picture(900)).provenance
        assert (found.index_device, found.execution_provider) == ("cuda:0", "CUDAExecutionProvider")
    assert card.calls["bfKnn"] > 3


def failing(client: Client) -> tuple[str, str]:
    try:
        client.identify("g", picture(3))
    except OneglanceError as error:
        return error.code.name, error.reason
    return "OK", ""


def health(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        check = getattr(health_pb2_grpc.HealthStub(channel), "Check")  # noqa: B009 - its stubs lack it
        return int(check(health_pb2.HealthCheckRequest()).status)


@pytest.mark.parametrize("what", ["index", "encoder"])
def test_a_lost_card_is_told_and_a_restart_refills(
    what: str, card: FakeCard, cuda: FakeCuda, models: tuple[Path, Path], tmp_path: Path
) -> None:
    serving, not_serving = 1, 2
    with (
        server_thread(**settings(models, tmp_path)) as server,
        Client(server.address, retry=False) as client,
    ):
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "it", picture(3))
        assert failing(client) == ("OK", "")
        assert health(server.address) == serving
        if what == "index":
            card.lost = ILLEGAL_ADDRESS
        else:
            cuda.lost = True
        assert [failing(client) for _ in range(2)] == [LOST] * 2
        until(lambda: health(server.address) == not_serving)
    card.lost, cuda.lost = 0, False
    with server_thread(**settings(models, tmp_path)) as server, Client(server.address) as client:
        assert health(server.address) == serving
        assert client.identify("g", picture(3)).results[0].subject_id == "it"


def test_the_cpu_may_go_on_and_every_answer_says_so(
    card: FakeCard, cuda: FakeCuda, models: tuple[Path, Path], tmp_path: Path
) -> None:
    with (
        server_thread(**settings(models, tmp_path, gpu_lost="cpu")) as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "it", picture(3))
        card.lost, cuda.lost = ILLEGAL_ADDRESS, True
        for _ in range(2):
            found = client.identify("g", picture(3))
            assert found.results[0].subject_id == "it"
            assert (found.provenance.index_device, found.provenance.execution_provider) == (
                "cpu",
                "CPUExecutionProvider",
            )
        client.enroll("g", "other", picture(4))
        assert client.identify("g", picture(4)).results[0].subject_id == "other"
        assert server._galleries is not None
        assert server._galleries.trouble() is None


def test_a_card_without_memory_for_a_search_is_overload(
    card: FakeCard, cuda: FakeCuda, models: tuple[Path, Path], tmp_path: Path
) -> None:
    with (
        server_thread(**settings(models, tmp_path)) as server,
        Client(server.address, retry=False) as client,
    ):
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "it", picture(3))
        for _ in range(2):  # together with others, and alone
            card.fail("bfKnn", 2)
            cuda.failures = ["bfc_arena.cc: Available memory of 1 is smaller than requested bytes of 2"] * 2
            assert failing(client) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert failing(client) == ("OK", "")


def test_few_encoder_batches_at_once_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings(device="cuda").encoder_workers == 2
    assert Settings(device="cuda", encoder_workers=5).encoder_workers == 5
    assert Settings().encoder_workers == Settings.model_fields["encoder_workers"].default
    monkeypatch.setenv("ONEGLANCE_DEVICE", "cuda:1")
    assert Settings().encoder_workers == 2
