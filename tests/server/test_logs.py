"""A log that can't be written, or a line that can't be made, changes nothing for callers or the exit status."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from oneglance import Client, OneglanceError, enroll_request
from oneglance_server.log_sink import LogSink
from oneglance_server.logs import configure_logs
from tests.pictures import picture
from tests.running import ServerProcess
from tests.waiting import PATIENCE_SECONDS, until

CALLS = 500  # each leaves a line of more than 100 bytes; a pipe holds 65,536


def use(address: str) -> None:
    """Calls that are answered, refused and streamed, each with something to log."""
    with Client(address, timeout_seconds=PATIENCE_SECONDS) as client:
        client.create_gallery("g")
        for _ in range(CALLS):
            with pytest.raises(OneglanceError) as caught:
                client.get_subject("g", "nobody")
            assert caught.value.code.name == "NOT_FOUND"
        with pytest.raises(OneglanceError) as caught:
            client.identify("g", b"no picture")
        assert caught.value.code.name == "INVALID_ARGUMENT"
        items = [enroll_request("g", f"s{i}", [picture(i)]) for i in range(20)]
        assert not [done.error for done in client.bulk_enroll(items) if not done.HasField("enrolled")]
        assert client.identify("g", picture(3)).results[0].subject_id == "s3"


@pytest.fixture
def end_of_pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_a_full_disk(models: tuple[Path, Path], tmp_path: Path) -> None:
    with ServerProcess(tmp_path, log=Path("/dev/full"), models=models[0], log_level="debug") as server:
        use(server.address)
        status, _ = server.terminate()
    assert status == 0


def test_a_reader_that_stopped(models: tuple[Path, Path], tmp_path: Path, end_of_pipe: tuple[int, int]) -> None:
    with ServerProcess(tmp_path, log=Path(f"/dev/fd/{end_of_pipe[1]}"), models=models[0], log_level="debug") as server:
        use(server.address)
        status, _ = server.terminate()
    assert status == 0


def test_nobody_reads_stdout_or_stderr(models: tuple[Path, Path], tmp_path: Path) -> None:
    """As in ``oneglance serve 2>&1 | true``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    reading, writing = os.pipe()
    os.close(reading)
    flags = ("--listen", address, "--data-dir", str(tmp_path), "--models", str(models[0]), "--log-level", "debug")
    process = subprocess.Popen(
        [sys.executable, "-m", "oneglance_apps.cli", "serve", *flags], stdout=writing, stderr=writing
    )
    os.close(writing)
    try:
        with Client(address) as client:
            client.wait_until_serving(PATIENCE_SECONDS)
        use(address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_lines_are_counted_while_they_are_lost_and_told_of_afterwards(end_of_pipe: tuple[int, int]) -> None:
    reading, writing = end_of_pipe
    sink = LogSink(writing, lambda lines: f"lost {lines}\n")
    before = os.dup(writing)
    with open("/dev/full", "w") as full:
        os.dup2(full.fileno(), writing)
    for i in range(3):
        sink.write(f"line {i}\n")
    until(lambda: sink.lost == 3)
    os.dup2(before, writing)
    os.close(before)
    sink.write("again\n")
    sink.write("and again\n")
    sink.wait_until_written(PATIENCE_SECONDS)
    assert os.read(reading, 1000) == b"again\nlost 3\nand again\n"


def test_what_waits_is_bounded(end_of_pipe: tuple[int, int]) -> None:
    reading, writing = end_of_pipe
    sink = LogSink(writing, lambda lines: f"lost {lines}\n")
    line = "x" * 99_999 + "\n"
    for _ in range(100):
        sink.write(line)
    assert 50 < sink.lost < 70
    with os.fdopen(os.dup(reading)) as pipe:
        assert pipe.readline() == line
        assert pipe.readline() == f"lost {sink.lost}\n"
        for _ in range(99 - sink.lost):
            assert pipe.readline() == line


def test_an_error_of_its_own_does_not_end_it(end_of_pipe: tuple[int, int]) -> None:
    reading, writing = end_of_pipe
    errors: list[Exception] = [MemoryError(), RuntimeError()]

    def notice(lines: int) -> str:
        if errors:
            raise errors.pop()
        return f"lost {lines}\n"

    sink = LogSink(writing, notice)
    sink.lost = 1
    for i in range(3):
        sink.write(f"line {i}\n")
    until(lambda: not errors)
    sink.wait_until_written(PATIENCE_SECONDS)
    assert os.read(reading, 1000) == b"line 0\nline 1\nline 2\nlost 1\n"


def test_a_closed_stderr_gets_no_other_files_number(models: tuple[Path, Path], tmp_path: Path) -> None:
    """As in ``oneglance serve 2>&-``."""
    flags = ("--listen", "127.0.0.1:0", "--data-dir", str(tmp_path), "--models", str(models[0]))
    process = subprocess.Popen(
        ["bash", "-c", 'exec "$@" 2>&-', "bash", sys.executable, "-m", "oneglance_apps.cli", "serve", *flags],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        assert os.readlink(f"/proc/{process.pid}/fd/2") == os.devnull
        use(address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.communicate()


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_value_that_cannot_be_printed_costs_its_line_only(
    form: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = configure_logs(form, "info")
    try:
        log = structlog.get_logger()
        log.info("unprintable", value=Unprintable())
        log.info("surrogates", gallery="\udcff")
        log.info("wide", gallery="日本")
        sink.wait_until_written(PATIENCE_SECONDS)
        first, second, third = capfd.readouterr().err.splitlines()
    finally:
        configure_logs("text", "error")
    assert "unprintable" in first
    assert "RuntimeError" in first
    assert "\\udcff" in second
    if form == "json":
        assert json.loads(third)["gallery"] == "日本"
    assert sink.lost == 0


def test_what_libraries_and_threads_say_becomes_json_lines() -> None:
    code = (
        "import logging, sys, threading, warnings\n"
        "warnings.simplefilter('always')\n"
        "from grpc._cython.cygrpc import ExecuteBatchError\n"
        "from oneglance_server.logs import configure_logs, log_everything\n"
        "log_everything(configure_logs('json', 'info'), 'json')\n"
        "logging.getLogger('asyncio').error('Task %s was never retrieved', 5)\n"
        "logging.getLogger('grpc').info('of no interest')\n"
        "try:\n"
        "    raise ExecuteBatchError('a peer left')\n"
        "except ExecuteBatchError:\n"
        "    logging.getLogger('grpc._cython.cygrpc').exception('of no interest either')\n"
        "logging.getLogger('odd').warning('%d', 'not a number')\n"
        "thread = threading.Thread(target=lambda: 1 / 0, name='worker')\n"
        "thread.start(); thread.join()\n"
        "warnings.warn('out of date', DeprecationWarning)\n"
        "print('printed', 'in parts', file=sys.stderr)\n"
        "class Odd:\n"
        "    def __del__(self): raise OSError('late')\n"
        "Odd()\n"
        "raise RuntimeError('nobody caught it')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=PATIENCE_SECONDS)
    assert ended.returncode == 1
    assert not ended.stdout
    lines = [json.loads(line) for line in ended.stderr.decode().splitlines()]
    told = [(line["event"], line.get("logger")) for line in lines]
    assert told[0] == ("Task 5 was never retrieved", "asyncio")
    assert told.index(("a thread ended by an error", None)) < told.index(("printed in parts", "stderr"))
    assert any("out of date" in event and logger == "py.warnings" for event, logger in told)
    assert any("not a number" in event for event, _ in told)  # logging's own report
    assert [line["exception"][0]["exc_type"] for line in lines if "exception" in line] == [
        "ZeroDivisionError",
        "OSError",
        "RuntimeError",
    ]
    assert told[-1] == ("ended by an error", None)


@pytest.mark.parametrize("flags", [["--max-batch", "0"], ["--models", "/nowhere"], ["--listen", "nosuch.invalid:0"]])
def test_a_server_that_does_not_start_says_so_in_json(flags: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "oneglance_apps.cli", "serve", "--log-format", "json", "--data-dir", str(tmp_path)]
    ended = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert ended.returncode == 1
    last = [json.loads(line) for line in ended.stderr.splitlines()][-1]
    assert last["event"] == "not started"
    assert flags[-1] in last["error"]


def test_every_line_of_a_session_is_json(models: tuple[Path, Path], tmp_path: Path) -> None:
    with ServerProcess(tmp_path, models=models[0], log_level="debug", log_format="json") as server:
        use(server.address)
        status, text = server.terminate()
    assert status == 0
    assert len([json.loads(line) for line in text.splitlines()]) > CALLS
