"""What callers are told while the store or an index can't do it now, and that long lists come in pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from oneglance import Client, OneglanceError
from oneglance.v1.gallery_pb2 import ListThresholdsRequest
from oneglance.v1.subject_pb2 import ListSubjectsRequest
from oneglance_index import (
    DeviceLost,
    EngineUnavailable,
    EngineUnsupported,
    GalleryError,
    IndexOutOfStep,
    OutOfMemory,
    StoreBusy,
    StoreDamaged,
    StoreGone,
    WriteQueueFull,
)
from oneglance_index.search.flat import ExactIndex
from oneglance_index.store import schema
from oneglance_server.app import Server
from oneglance_server.servicers.requests import version_from
from tests.pictures import picture
from tests.running import server_thread
from tests.waiting import until

STATES: dict[str, tuple[GalleryError, str, str]] = {
    "store-busy": (StoreBusy(Path("store")), "UNAVAILABLE", "STORE_BUSY"),
    "store-gone": (StoreGone(Path("store")), "UNAVAILABLE", "STORE_GONE"),
    "store-damaged": (StoreDamaged(Path("store"), "row 3"), "DATA_LOSS", "STORE_DAMAGED"),
    "memory-full": (OutOfMemory("for this"), "RESOURCE_EXHAUSTED", "QUEUE_FULL"),
    "write-queue-full": (WriteQueueFull(1, 2), "RESOURCE_EXHAUSTED", "QUEUE_FULL"),
    "device-lost": (DeviceLost("cuda:0", "a secret"), "UNAVAILABLE", "DEVICE_LOST"),
    "engine-unavailable": (EngineUnavailable("milvus://x:1/d", "a secret"), "UNAVAILABLE", "ENGINE_UNAVAILABLE"),
    "engine-unsupported": (EngineUnsupported("milvus://x:1/d", "this"), "UNIMPLEMENTED", "ENGINE_UNSUPPORTED"),
    "index-rebuilding": (IndexOutOfStep("g"), "UNAVAILABLE", "INDEX_REBUILDING"),
}


@pytest.fixture
def server(models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.05)
    with server_thread(data_dir=tmp_path, models=models) as server:
        with Client(server.address) as client:
            client.create_gallery("g", encoder="pixels")
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


@pytest.mark.parametrize("slug", STATES)
def test_what_passes_is_told_as_such(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, slug: str
) -> None:
    error, code, reason = STATES[slug]
    failed: Future[Any] = Future()
    failed.set_exception(error)

    def refuse(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(server._galleries, "enroll", lambda *_, **__: failed)
    monkeypatch.setattr(ExactIndex, "search", refuse)
    for call in (lambda: client.enroll("g", "s", picture(0)), lambda: client.identify("g", picture(0), tau=1.0)):
        with pytest.raises(OneglanceError) as caught:
            call()
        assert (caught.value.code.name, caught.value.reason) == (code, reason)
    monkeypatch.undo()
    client.enroll("g", "s", picture(0))
    assert client.identify("g", picture(0), tau=1.0).results[0].subject_id == "s"


def test_a_locked_store_refuses_writes_until_it_is_free(server: Server, client: Client, tmp_path: Path) -> None:
    client.enroll("g", "s", picture(0))
    other = sqlite3.connect(tmp_path / "store.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for call in (lambda: client.enroll("g", "t", picture(1)), lambda: client.delete_subject("g", "s")):
        with pytest.raises(OneglanceError) as caught:
            call()
        assert (caught.value.code.name, caught.value.reason) == ("UNAVAILABLE", "STORE_BUSY")
    assert client.identify("g", picture(0), tau=1.0).results[0].subject_id == "s"
    other.execute("COMMIT")
    other.close()
    client.enroll("g", "t", picture(1))
    assert [subject.id for subject in client.list_subjects("g")] == ["s", "t"]


def test_a_page_of_subjects_is_bounded_in_bytes(client: Client) -> None:
    labels = {f"k{i:02}": "ä" * 1000 for i in range(64)}  # 128 kB
    for i in range(40):
        client.enroll("g", f"s{i:02}", picture(i), labels=labels)
    token, seen, sizes = "", [], []
    while True:
        request = ListSubjectsRequest(gallery_id="g", page_size=1000, page_token=token)
        page = client._call(client._subjects.ListSubjects, request)
        sizes.append(page.ByteSize())
        seen += [subject.id for subject in page.subjects]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"s{i:02}" for i in range(40)] == [subject.id for subject in client.list_subjects("g")]
    assert len(sizes) == 2
    assert max(sizes) <= 4 << 20


def test_thresholds_come_in_pages(server: Server, client: Client) -> None:
    for i in range(7):
        client.set_threshold("g", i / 8)
    token, seen, pages = "", [], 0
    while True:
        request = ListThresholdsRequest(gallery_id="g", page_size=3, page_token=token)
        page = client._call(client._galleries.ListThresholds, request)
        seen += [version.version for version in page.versions]
        pages += 1
        token = page.next_page_token
        if not token:
            break
        client.set_threshold("g", 0.9)  # what comes meanwhile comes before the first page
    assert (seen, pages) == ([7, 6, 5, 4, 3, 2, 1], 3)
    assert [version.version for version in client.list_thresholds("g")] == list(range(9, 0, -1))


@pytest.mark.parametrize("token", ["%%%", "YQ==", "LTE=", "MS41", "4paIMQ=="])  # no base64; "a", "-1", "1.5", "█1"
def test_a_forged_token_of_thresholds_is_refused(client: Client, token: str) -> None:
    with pytest.raises(OneglanceError) as caught:
        client._call(client._galleries.ListThresholds, ListThresholdsRequest(gallery_id="g", page_token=token))
    assert (caught.value.code.name, caught.value.field_violations[0][0]) == ("INVALID_ARGUMENT", "page_token")


def test_versions_of_tokens() -> None:
    assert (version_from(None), version_from("12")) == (None, 12)


def test_a_directory_that_is_removed_ends_serving(server: Server, client: Client, tmp_path: Path) -> None:
    client.enroll("g", "s", picture(0))
    (tmp_path / "store.sqlite3").rename(tmp_path / "elsewhere")
    with pytest.raises(OneglanceError) as caught:
        client.enroll("g", "t", picture(1))
    assert (caught.value.code.name, caught.value.reason) == ("UNAVAILABLE", "STORE_GONE")
    assert str(tmp_path) not in str(caught.value)
    with grpc.insecure_channel(server.address) as channel:
        check = getattr(health_pb2_grpc.HealthStub(channel), "Check")  # noqa: B009 - its stubs lack it
        until(lambda: check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING)
        (tmp_path / "elsewhere").rename(tmp_path / "store.sqlite3")
        until(lambda: check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING)
    client.enroll("g", "t", picture(1))
