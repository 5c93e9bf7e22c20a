"""What a server tells of itself."""

from importlib.metadata import version
from pathlib import Path

import pytest

from oneglance import Client
from oneglance_apps.cli import main
from oneglance_index.store.tables import SCHEMA_VERSION
from tests.running import server_thread


def test_a_server_says_what_it_is_and_can_do(
    models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server_thread(data_dir=tmp_path, models=models, max_image_pixels=1234, audit="off") as server:
        with Client(server.address) as client:
            about = client.get_server()
        assert main(["get-server", "--server", server.address]) == 0
    assert (about.version, about.schema_version, about.device) == (version("oneglance"), SCHEMA_VERSION, "cpu")
    can = set(about.capabilities)
    assert {"encode", "calibrate", "fusion:mean", "picture:JPEG", "sound:WAV"} <= can
    assert not {"faces", "backup", "callers", "audit"} & can
    assert (about.limits.picture_pixels, about.limits.probes) == (1234, 1024)
    text = capsys.readouterr().out
    assert version("oneglance") in text
    assert "picture pixels: at most 1,234" in text


def test_what_was_switched_on_is_told(models: tuple[Path, Path], tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    with (
        server_thread(data_dir=tmp_path / "data", models=models[:1], backup_dir=str(backups)) as server,
        Client(server.address) as client,
    ):
        can = set(client.get_server().capabilities)
    assert {"audit", "backup"} <= can
    assert "stylize" not in can
