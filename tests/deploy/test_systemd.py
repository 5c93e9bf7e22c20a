"""The unit: what systemd says of it, and a real server that lives under its restrictions."""

import socket
import subprocess
from pathlib import Path

import pytest

from oneglance import Client
from tests.deploy.tools import needs
from tests.pictures import picture
from tests.running import ServerProcess
from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/oneglance.service"


@needs("systemd-analyze", "systemd")
def test_the_unit_is_confined() -> None:
    """systemd's own measure, 0 (all is shut) to 10 (all is open)."""
    asked = ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", str(UNIT)]
    told = subprocess.run(asked, capture_output=True, text=True)
    if "unrecognized option" in told.stderr:
        pytest.skip("this systemd-analyze can't look at a file")
    assert told.returncode == 0, told.stdout + told.stderr


@needs("systemd-analyze", "systemd")
def test_a_server_serves_under_the_restrictions_of_its_unit_and_tells_when_it_is_ready(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    told = tmp_path / "told"
    first = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); os.environ['NOTIFY_SOCKET'] = {str(told)!r}\n"
        f"from pathlib import Path; from tests.deploy.confined import confine; confine(Path({str(UNIT)!r}))"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(told))
        manager.settimeout(PATIENCE_SECONDS)
        server = ServerProcess(tmp_path / "data", first=first, models=":".join(map(str, models)), log=tmp_path / "log")
        assert manager.recv(100) == b"READY=1"
        with Client(server.address) as client:
            client.create_gallery("g", encoder="pixels", fusion="nearest")
            client.enroll("g", "it", picture(5))
            assert client.identify("g", picture(5), tau=0.1).results[0].subject_id == "it"
            client.delete_subject("g", "it")
        status = (Path("/proc") / str(server.process.pid) / "status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        server.terminate()
        assert manager.recv(100) == b"STOPPING=1"
    assert server.process.returncode == 0
