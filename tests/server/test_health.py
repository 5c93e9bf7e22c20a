"""Health says SERVING only while the store is well."""

import sqlite3
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from oneglance import Client, OneglanceError
from oneglance_index import LocalGalleries
from tests.pictures import picture
from tests.running import server_thread
from tests.waiting import until

SERVING, NOT_SERVING = 1, 2


def test_health_follows_the_store(models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trouble: list[str] = []
    errors: list[Exception] = []

    def told(_: LocalGalleries) -> str | None:
        if errors:
            raise errors.pop()
        return trouble[0] if trouble else None

    monkeypatch.setattr(LocalGalleries, "trouble", told)
    with (
        server_thread(data_dir=tmp_path, models=models) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        check = getattr(health_pb2_grpc.HealthStub(channel), "Check")  # noqa: B009 - its stubs lack it

        def status(service: str) -> int:
            return int(check(health_pb2.HealthCheckRequest(service=service)).status)

        for service in ("", "oneglance.v1.IdentificationService"):
            assert status(service) == SERVING
        errors.append(MemoryError())  # to look fails once
        trouble.append("its disk is gone")
        until(lambda: status("") == status("oneglance.v1.IdentificationService") == NOT_SERVING)
        trouble.clear()
        until(lambda: status("") == status("oneglance.v1.IdentificationService") == SERVING)


def test_a_row_that_is_damaged_ends_serving_once_it_is_found(models: tuple[Path, Path], tmp_path: Path) -> None:
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "s", picture(0))
        client.enroll("g", "t", picture(1))
        until(lambda: not client.identify("g", picture(0), tau=1.0).provenance.unchecked)
    db = sqlite3.connect(tmp_path / "store.sqlite3")
    db.executescript("UPDATE subjects SET purpose = 'another' WHERE id = 't'")
    db.close()
    with (
        server_thread(data_dir=tmp_path, models=models) as server,
        grpc.insecure_channel(server.address) as channel,
        Client(server.address) as client,
    ):
        check = getattr(health_pb2_grpc.HealthStub(channel), "Check")  # noqa: B009 - its stubs lack it
        until(lambda: check(health_pb2.HealthCheckRequest()).status == NOT_SERVING)
        for call in (lambda: client.identify("g", picture(0), tau=1.0), lambda: client.enroll("g", "u", picture(2))):
            with pytest.raises(OneglanceError) as caught:
                call()
            assert caught.value.reason == "STORE_DAMAGED"
