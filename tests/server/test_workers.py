"""Several processes on one port, as one server: ``--workers``."""

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from oneglance import Client, OneglanceError, identify_request
from oneglance.v1.identification_pb2 import IdentifyRequest
from oneglance_server.errors import StartupError
from oneglance_server.settings import load_settings
from tests.pictures import picture
from tests.running import ServerDidNotStart, ServerProcess, free_port
from tests.waiting import until


def workers_of(server: ServerProcess) -> set[int]:
    """The processes that it started and that answer."""
    found = set()
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.add(int(child))
    return found


def answering(port: int, pids: set[int]) -> set[int]:
    """Those of ``pids`` that listen on a port."""
    inodes = {
        line.split()[9]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if int(line.split()[1].split(":")[1], 16) == port and line.split()[3] == "0A"
    }
    found = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if any(f"socket:[{inode}]" == os.readlink(descriptor) for inode in inodes):
                    found.add(pid)
            except OSError:
                continue
    return found


def done(ask: Callable[[], object]) -> bool:
    """Or it was unavailable: a connection to a process that was killed fails once."""
    try:
        ask()
    except OneglanceError as error:
        if error.code.name == "UNAVAILABLE":
            return False
        raise
    return True


def test_workers_are_one_server_and_outlive_the_kill_of_one(models: tuple[Path, Path], tmp_path: Path) -> None:
    with ServerProcess(tmp_path, models=models[0], workers=2, log_level="error", listen="127.0.0.1:0") as server:
        port = int(server.address.rpartition(":")[2])
        both = workers_of(server)
        assert len(both) == 2
        assert answering(port, both | {server.process.pid}) == both
        with Client(server.address) as client:
            client.create_gallery("g", encoder="pixels")
            client.enroll("g", "s", picture(1))
        for _ in range(12):  # each connection goes to one of the two
            with Client(server.address) as client:
                assert client.identify("g", picture(1), tau=0.1).results[0].subject_id == "s"
        killed = min(both)
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(answering(port, workers_of(server) - {killed})) == 2)
        with Client(server.address) as client:
            until(lambda: done(lambda: client.enroll("g", "t", picture(2), request_id="once")))
            assert [subject.id for subject in client.list_subjects("g")] == ["s", "t"]
        last = workers_of(server)
        assert server.terminate()[0] == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in last)
    with ServerProcess(tmp_path, models=models[0], log_level="error") as alone, Client(alone.address) as client:
        assert client.identify("g", picture(2), tau=0.1).results[0].subject_id == "t"


def test_workers_end_with_the_one_that_started_them(models: tuple[Path, Path], tmp_path: Path) -> None:
    with ServerProcess(tmp_path, models=models[0], workers=2, log_level="error") as server:
        both = workers_of(server)
        server.kill()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in both))


def test_workers_that_are_told_twice_to_end_finish_what_is_under_way(models: tuple[Path, Path], tmp_path: Path) -> None:
    """As Ctrl-C tells all of a terminal's processes, and then the one that started them."""
    requests: queue.SimpleQueue[IdentifyRequest | None] = queue.SimpleQueue()
    request = identify_request("g", [picture(1)], tau=0.1)
    with ServerProcess(
        tmp_path / "data", models=models[0], workers=1, log=tmp_path / "log", drain_seconds=600
    ) as server:
        with Client(server.address) as client:
            client.create_gallery("g", encoder="pixels")
            client.enroll("g", "s", picture(1))
            answers = client.identify_stream(iter(requests.get, None))
            requests.put(request)
            assert next(answers).response.results[0].subject_id == "s"
            (worker,) = workers_of(server)
            for number, said in ((signal.SIGINT, "draining"), (signal.SIGTERM, "signalled again")):
                os.kill(worker, number)
                until(lambda said=said: said in (tmp_path / "log").read_text())  # type: ignore[misc]
            requests.put(request)
            assert next(answers).response.results[0].subject_id == "s"
            requests.put(None)
            assert list(answers) == []
        until(lambda: not Path(f"/proc/{worker}").exists())


def test_workers_start_where_the_server_is_the_first_process(models: tuple[Path, Path], tmp_path: Path) -> None:
    """As in a container."""
    code = "import sys; from oneglance_apps.cli.main import main; sys.exit(main())"
    served = ["serve", "--data-dir", tmp_path, "--models", models[0], "--workers", "1", "--listen", "127.0.0.1:0"]
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", code, *map(str, served)]
    if subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode:
        pytest.skip("no namespace of processes can be had here")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            assert "is serving on" in said, process.communicate()[1]
            with Client(said.split()[-1]) as client:
                assert client.create_gallery("g", encoder="pixels").subject_count == 0
        finally:
            process.kill()
            process.communicate()


def test_a_port_that_is_taken_is_told(models: tuple[Path, Path], tmp_path: Path) -> None:
    port = free_port()
    with (
        ServerProcess(tmp_path / "one", models=models[0], workers=1, listen=f"127.0.0.1:{port}"),
        pytest.raises(ServerDidNotStart, match=f"can't listen on 127.0.0.1:{port}: it is in use"),
    ):
        ServerProcess(tmp_path / "other", models=models[0], workers=1, listen=f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"workers": "1", "listen": "unix:/x"}, "--workers: .* at a port"),
        ({"workers": "1", "device": "cuda"}, "--workers: .* on the CPU"),
        ({"workers": "1", "galleries": "keeper://127.0.0.1:1"}, "--workers: for galleries of this server"),
        ({"workers": "1", "share": "127.0.0.1:1"}, "its --share is unix:PATH"),
        ({"workers": "2", "metrics": "127.0.0.1:65534"}, "up to 65535"),
        ({"workers": "-1"}, "--workers must be at least 0"),
        ({"galleries": "keeper://nowhere"}, "--galleries: expected keeper://HOST:PORT"),
        ({"galleries": "keeper://127.0.0.1:1", "share": "127.0.0.1:2"}, "--share is for the server that keeps"),
        ({"galleries": "keeper://127.0.0.1:1", "backup_dir": "/b"}, "--backup-dir is for the server that keeps"),
        ({"share": "0.0.0.0:1"}, "--share 0.0.0.0:1: beyond loopback it needs"),
        ({"share_token": "env:X"}, "--share-token is of --share"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(flags: dict[str, str], told: str) -> None:
    with pytest.raises(StartupError, match=told):
        load_settings(flags)
