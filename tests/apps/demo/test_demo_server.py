"""The demo's server: started, told of, and ended with it, however it ends."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oneglance_apps.cli.main import main
from oneglance_apps.demo.step_printer import StepPrinter
from oneglance_apps.server_process import ServerProcess, ServerProcessError
from tests.waiting import PATIENCE_SECONDS


def test_the_server_ends_with_the_demo_when_a_step_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int | None] = []
    start = ServerProcess.start

    def started(self: ServerProcess) -> float:
        seconds = start(self)
        pids.append(self.pid)
        return seconds

    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ServerProcess, "start", started)
    monkeypatch.setattr("oneglance_apps.demo.timed_calls.enroll_all", fail)
    out = tmp_path / "page.html"
    assert main(["demo", "--subjects", "2", "--strangers", "1", "--out", str(out)]) == 130
    assert pids[0] is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert not out.exists()


def test_a_terminated_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "oneglance_apps.cli", "demo", "--out", str(tmp_path / "page.html")]
    with subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "process " in line:
                break
        server = int(line.rpartition(" ")[2])
        os.kill(server, 0)
        demo.send_signal(signal.SIGTERM)
        demo.stdout.read()
        assert demo.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the way")
    with ServerProcess(tmp_path / "data", tmp_path / "log") as server:
        with pytest.raises(ServerProcessError, match=r"did not start:\n(.*\n)*.*can't open .*/data"):
            server.start()
        assert server.pid is None


def test_settings_of_other_servers_and_proxies_are_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ONEGLANCE_MODELS", "/nonexistent")
    with ServerProcess(tmp_path / "data", tmp_path / "log") as server:
        server.start()
        with server.client() as client:
            assert list(client.list_galleries()) == []


def test_progress_is_one_line_on_a_terminal_and_none_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("oneglance_apps.demo.step_printer._LIVE_SECONDS", 0.0)
    live, plain = Terminal(), io.StringIO()
    for out in (live, plain):
        printer = StepPrinter(out)
        printer.step("Look")
        printer.progress("seen", 1, 2)
        printer.say("done")
    assert plain.getvalue() == "\n1. Look\n   done\n"
    assert live.getvalue() == "\n1. Look\n   seen 1 of 2\r" + " " * 14 + "\r   done\n"
