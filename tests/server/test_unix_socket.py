"""A server on a Unix socket: its owner's alone, found and taken away as a port would be."""

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from oneglance import AsyncClient, Client, OneglanceError, UnauthenticatedError
from oneglance.addresses import is_loopback
from oneglance_apps.cli.main import main
from oneglance_server.errors import StartupError
from tests.pictures import picture, png
from tests.running import ServerDidNotStart, ServerProcess, server_thread
from tests.server.access.callers import grant, key_of
from tests.waiting import PATIENCE_SECONDS

Models = tuple[Path, Path]


def test_served_to_its_owner_and_taken_away_at_the_end(
    tmp_path: Path, models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.sock"
    address = f"unix:{path}"
    with server_thread(data_dir=tmp_path / "data", models=models, listen=address, metrics="127.0.0.1:0") as server:
        assert server.address == address
        found = path.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        with Client(address, timeout_seconds=PATIENCE_SECONDS, token="sent") as client:
            client.wait_until_serving(PATIENCE_SECONDS)
            client.create_gallery("g", encoder="pixels")
            client.enroll("g", "s", png(picture(1)))

        async def asked() -> str:
            async with AsyncClient(address, timeout_seconds=PATIENCE_SECONDS) as connected:
                return (await connected.identify("g", png(picture(1)))).results[0].subject_id

        assert asyncio.run(asked()) == "s"
        assert main(["list-galleries", "--server", address]) == 0
        assert "g: 1 subject" in capsys.readouterr().out
        with grpc.insecure_channel(address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            watched = health.Watch(health_pb2.HealthCheckRequest())
            assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
            watched.cancel()
    assert not path.exists()


def test_what_a_killed_server_left_is_replaced(tmp_path: Path, models: Models) -> None:
    path = tmp_path / "one.sock"
    settings: dict[str, Any] = {"models": models[0], "listen": f"unix:{path}"}
    with ServerProcess(tmp_path / "data", **settings) as server:
        server.kill()
    assert path.is_socket()
    with ServerProcess(tmp_path / "data", **settings) as server:
        assert server.address == f"unix:{path}"
        with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
            assert [one.name for one in client.list_models()] == ["pixels"]
        with pytest.raises(ServerDidNotStart, match=f"can't listen on {path}: it is in use"):
            ServerProcess(tmp_path / "other", **settings)
        with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
            assert client.list_models()


def test_nothing_but_a_socket_is_replaced(tmp_path: Path, models: Models) -> None:
    path = tmp_path / "one.sock"
    path.write_text("precious")
    with (
        pytest.raises(StartupError, match="it is there, and no socket"),
        server_thread(data_dir=tmp_path / "data", models=models, listen=f"unix:{path}"),
    ):
        pass
    assert path.read_text() == "precious"
    with (
        pytest.raises(StartupError, match="No such file or directory"),
        server_thread(data_dir=tmp_path / "data", models=models, listen=f"unix:{tmp_path}/nowhere/one.sock"),
    ):
        pass


def test_a_policy_needs_no_tls_there(tmp_path: Path, models: Models) -> None:
    data, policy = tmp_path / "data", tmp_path / "policy.toml"
    policy.write_text(grant(["key:ada"], ["g"], ["administer"]))
    address = f"unix:{tmp_path}/one.sock"
    key = key_of(data, "ada")
    with server_thread(data_dir=data, models=models, listen=address, policy=str(policy)):
        with Client(address, token=key, timeout_seconds=PATIENCE_SECONDS) as client:
            client.create_gallery("g", encoder="pixels")
        with Client(address, timeout_seconds=PATIENCE_SECONDS) as client, pytest.raises(UnauthenticatedError):
            client.get_gallery("g")


def test_the_servers_own_socket_stays_closed_to_others(tmp_path: Path, models: Models) -> None:
    address = f"unix:{tmp_path}/one.sock"
    with (
        server_thread(data_dir=tmp_path / "data", models=models, listen=address) as server,
        Client(server._backlog._socket, timeout_seconds=PATIENCE_SECONDS) as client,
        pytest.raises(OneglanceError) as refused,
    ):
        client.list_models()
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_tokens_go_to_ones_own_sockets_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.sock"
    assert is_loopback(f"unix:{path}")  # nobody else may make it
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        assert is_loopback(f"unix:{path}")
        assert is_loopback(f"unix://{path}")
        if os.geteuid():
            monkeypatch.setattr(os, "geteuid", lambda: 4321)
        else:
            os.chown(path, 4321, -1)
        assert not is_loopback(f"unix:{path}")
        with pytest.raises(ValueError, match="would be readable"):
            Client(f"unix:{path}", token="secret")
    path.unlink()
    tmp_path.chmod(0o777)
    assert not is_loopback(f"unix:{path}")
