"""What is told at a start, before anybody waits for models: addresses, variables, galleries without their encoder."""

import gc
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from oneglance import Client
from oneglance_server.environment import OTHERS, unknown_variables
from oneglance_server.errors import StartupError
from oneglance_server.process import leave_what_is_loaded_alone
from oneglance_server.settings import BUNDLED, BUNDLED_MODEL, BUNDLED_STYLIZER, Settings, load_settings
from tests.pictures import picture
from tests.running import ServerProcess, server_thread
from tests.waiting import until

SERVING, NOT_SERVING = 1, 2
KUBERNETES = {
    "ONEGLANCE_SERVICE_HOST": "10.0.0.7",
    "ONEGLANCE_SERVICE_PORT": "50051",
    "ONEGLANCE_SERVICE_PORT_GRPC": "50051",
    "ONEGLANCE_PORT": "tcp://10.0.0.7:50051",
    "ONEGLANCE_PORT_50051_TCP": "tcp://10.0.0.7:50051",
    "ONEGLANCE_PORT_50051_TCP_PROTO": "tcp",
    "ONEGLANCE_PORT_50051_TCP_PORT": "50051",
    "ONEGLANCE_PORT_50051_TCP_ADDR": "10.0.0.7",
    "ONEGLANCE_METRICS_SERVICE_HOST": "10.0.0.8",
    "ONEGLANCE_METRICS_PORT": "tcp://10.0.0.8:9090",
}


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        yield f"127.0.0.1:{busy.getsockname()[1]}"


@pytest.mark.parametrize("flag", ["--listen", "--metrics", "--console"])
def test_a_port_in_use_is_told_before_models_are_loaded(flag: str, taken: str, tmp_path: Path) -> None:
    if flag == "--console":
        pytest.importorskip("nicegui")
    listen = () if flag == "--listen" else ("--listen", "127.0.0.1:0")
    command = [sys.executable, "-m", "oneglance_apps.cli", "serve", "--data-dir", str(tmp_path), *listen, flag, taken]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "in use" in ended.stderr
    assert "model loaded" not in ended.stderr


def test_variables_that_are_no_settings_are_told_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_fields
    assert not unknown_variables(
        {**KUBERNETES, **dict.fromkeys(OTHERS, "x"), "ONEGLANCE_LISTEN": "", "PATH": ""}, settings
    )
    assert unknown_variables({"ONEGLANCE_MAX_BATCHES": "3"}, settings) == [
        "ONEGLANCE_MAX_BATCHES is no setting; the nearest is ONEGLANCE_MAX_BATCH"
    ]
    assert unknown_variables({"ONEGLANCE_PORT": "50051"}, settings)[0].startswith("ONEGLANCE_PORT is no setting")
    assert unknown_variables({"ONEGLANCE_XYZZY": ""}, settings) == ["ONEGLANCE_XYZZY is no setting"]
    for name in [name for name in os.environ if name.startswith("ONEGLANCE_")]:
        monkeypatch.delenv(name)
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    load_settings({"strict": True})
    monkeypatch.setenv("ONEGLANCE_LISTN", "127.0.0.1:1")
    load_settings()
    with pytest.raises(StartupError, match="--strict: ONEGLANCE_LISTN is no setting; the nearest is ONEGLANCE_LISTEN"):
        load_settings({"strict": True})


def test_the_command_line_reads_no_other_variables() -> None:
    root = Path(__file__).parents[2]
    read = subprocess.run(
        ["grep", "-rhoE", "--include=*.py", "ONEGLANCE_[A-Z_]+[A-Z]", str(root / "apps")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    settings = {f"ONEGLANCE_{name.upper()}" for name in Settings.model_fields}
    assert set(read) <= OTHERS | settings


def test_bundled_models_have_names(tmp_path: Path) -> None:
    both = (BUNDLED_MODEL, BUNDLED_STYLIZER)
    assert load_settings({"models": "bundled"}).models == both
    assert load_settings({"models": "faces:bundled"}).models == (Path("faces"), *both)
    assert load_settings({"models": "faces:bundled-stylizer"}).models == (Path("faces"), BUNDLED_STYLIZER)
    assert load_settings({"models": "bundled-characters:bundled"}).models == both
    assert load_settings({"models": "bundled-glyphs"}).models == (BUNDLED / "glyphs",)
    assert load_settings({"models": "./bundled"}).models == (Path("bundled"),)
    toml = tmp_path / "settings.toml"
    toml.write_text('models = ["faces", "bundled-stylizer"]')
    assert load_settings({}, toml).models == (Path("faces"), BUNDLED_STYLIZER)


def logged(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_galleries_without_their_encoder_are_told_and_seen_in_health(models: tuple[Path, Path], tmp_path: Path) -> None:
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        client.create_gallery("a", encoder="pixels")
        client.create_gallery("b", encoder="pixels")
        digest = client.get_gallery("a").encoder_digest
    with ServerProcess(tmp_path, models=models[1], log_format="json") as process:
        with grpc.insecure_channel(process.address) as channel, Client(process.address) as client:
            check = getattr(health_pb2_grpc.HealthStub(channel), "Check")  # noqa: B009 - its stubs lack it

            def status(service: str) -> int:
                return int(check(health_pb2.HealthCheckRequest(service=service)).status)

            assert status("oneglance.v1.IdentificationService") == NOT_SERVING
            assert status("") == status("oneglance.v1.GalleryService") == SERVING
            client.create_gallery("c")  # of the encoder that is loaded
            until(lambda: status("oneglance.v1.IdentificationService") == SERVING)
        _, text = process.terminate()
    (told,) = [line for line in logged(text) if "encoder is not loaded" in str(line["event"])]
    assert told["level"] == "warning"
    assert (told["count"], told["galleries"], told["encoder_digest"]) == (2, ["a", "b"], digest)
    assert "--models" in str(told["cure"])


@pytest.mark.parametrize("subjects", ["plain", "hashed"])
@pytest.mark.parametrize("audit", ["on", "off"])
def test_changes_leave_a_line_of_the_log(models: tuple[Path, Path], tmp_path: Path, subjects: str, audit: str) -> None:
    flags: dict[str, Any] = {"models": models[0], "log_format": "json", "audit": audit, "audit_subjects": subjects}
    with ServerProcess(tmp_path, **flags) as process:
        with Client(process.address) as client:
            client.create_gallery("g")
            client.enroll("g", "ada", picture(1))
            client.enroll("g", "bob", picture(2))
            client.set_threshold("g", 0.25)
            client.delete_subject("g", "bob")
            client.delete_gallery("g")
        _, text = process.terminate()
    lines = [line for line in logged(text) if line.get("by")]
    assert [line["event"] for line in lines] == [
        "create-gallery",
        "enroll",
        "enroll",
        "set-threshold",
        "delete",
        "delete-gallery",
    ]
    assert all(line["gallery"] == "g" and line["level"] == "info" for line in lines)
    assert lines[1].get("subjects") == (["ada"] if subjects == "plain" else None)
    assert lines[1]["count"] == 1
    assert lines[3]["tau"] == 0.25
    if subjects == "hashed":
        assert '"ada"' not in text
        assert '"bob"' not in text


def test_the_collector_of_cycles_passes_over_what_is_loaded() -> None:
    thresholds = gc.get_threshold()
    try:
        leave_what_is_loaded_alone()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
