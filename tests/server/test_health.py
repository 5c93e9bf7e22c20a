"""Health says SERVING only while the store is well."""

from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from oneglance_index import LocalGalleries
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
