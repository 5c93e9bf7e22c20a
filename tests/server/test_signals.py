"""What signals do to ``oneglance serve``: the first drains, in time; a second, or one while it loads, ends it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from oneglance import Client, OneglanceError, enroll_request
from oneglance.v1.subject_pb2 import EnrollRequest
from tests.pictures import picture
from tests.running import ServerProcess
from tests.waiting import PATIENCE_SECONDS, until

ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NEVER_ENCODES = """
import threading
from oneglance_server.engines.encoder import Encoder
encode = Encoder.encode

def never(self, inputs):
    if inputs.min() < 255:
        return encode(self, inputs)
    open({begun!r}, "w").close()
    threading.Event().wait()

Encoder.encode = never
"""


@contextmanager
def open_stream(client: Client) -> Iterator[Iterator[object]]:
    """A stream to gallery g that has had its first answer; it ends with the block."""
    end = threading.Event()

    def items() -> Iterator[EnrollRequest]:
        yield enroll_request("g", "it", [picture(1)])
        end.wait(PATIENCE_SECONDS)

    answers = client.bulk_enroll(items())
    next(answers)
    try:
        yield answers
    finally:
        end.set()


@pytest.fixture(autouse=True)
def not_under_nohup() -> Iterator[None]:
    """Servers inherit what this process does about SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def refusal(client: Client) -> tuple[str, str] | None:
    """(code, reason) of what refuses a call, if anything does."""
    try:
        client.list_models()
    except OneglanceError as error:
        return error.code.name, error.reason
    return None


@pytest.mark.parametrize("number", ALL, ids=lambda number: number.name)
def test_each_drains(number: signal.Signals, models: tuple[Path, Path], tmp_path: Path) -> None:
    with ServerProcess(tmp_path, models=models[0]) as server:
        status, log = server.terminate(number)
    assert status == 0, log
    assert "draining" in log
    assert "stopped" in log


def test_under_nohup_a_lost_terminal_is_no_signal(models: tuple[Path, Path], tmp_path: Path) -> None:
    ignored = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    with ServerProcess(tmp_path, models=models[0], first=ignored) as server, Client(server.address) as client:
        server.process.send_signal(signal.SIGHUP)
        for _ in range(10):
            assert refusal(client) is None


@pytest.mark.parametrize("second", ALL, ids=lambda number: number.name)
def test_a_second_one_ends_at_once(second: signal.Signals, models: tuple[Path, Path], tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, models=models[0], drain_seconds=10 * PATIENCE_SECONDS) as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g")
        with open_stream(client):
            server.process.send_signal(signal.SIGTERM)
            until(lambda: refusal(client) == ("UNAVAILABLE", "NOT_SERVING"))
            status, log = server.terminate(second)
    assert status == 128 + second
    assert "ended at once" in log
    with ServerProcess(tmp_path, models=models[0]) as server, Client(server.address) as client:
        assert client.get_gallery("g").subject_count == 1


def test_what_never_ends_is_refused_and_left_behind(models: tuple[Path, Path], tmp_path: Path) -> None:
    """A stream that is not ended, and a batch that hangs in a thread."""
    begun = tmp_path / "begun"
    first = NEVER_ENCODES.format(begun=str(begun))
    with (
        ServerProcess(tmp_path / "data", models=models[0], first=first, drain_seconds=1) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        client.create_gallery("g")
        white = picture(1) * 0 + 255
        with open_stream(client) as answers:
            hanging = pool.submit(client.identify, "g", white)
            until(begun.exists)
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(OneglanceError) as unary:
                hanging.result(PATIENCE_SECONDS)
            with pytest.raises(OneglanceError) as stream:
                next(answers)
        log = server.process.communicate(timeout=PATIENCE_SECONDS)[1]
    assert (unary.value.code.name, unary.value.reason) == ("UNAVAILABLE", "NOT_SERVING")
    assert (stream.value.code.name, stream.value.reason) == ("UNAVAILABLE", "NOT_SERVING")
    assert "not everything ended in time" in log
    assert server.process.returncode == 0, log  # the store is closed
    with ServerProcess(tmp_path / "data", models=models[0]) as server, Client(server.address) as client:
        assert client.get_gallery("g").subject_count == 1


@pytest.mark.parametrize("number", ALL, ids=lambda number: number.name)
def test_one_while_it_loads_ends_it(number: signal.Signals, models: tuple[Path, Path], tmp_path: Path) -> None:
    model = shutil.copytree(models[0], tmp_path / "model")
    endless = tmp_path / "endless"
    os.mkfifo(endless)
    hangs = (
        f"import oneglance_server.loading as loading; loading._check_names = lambda _: open({str(endless)!r}).read()"
    )
    flags = ("--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"), "--models", str(model))
    code = f"{hangs}\nimport sys\nfrom oneglance_apps.cli.main import main\nsys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    writers: list[int] = []

    def loads() -> bool:
        with suppress(OSError):  # nobody reads it yet
            writers.append(os.open(endless, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    try:
        until(loads)
        process.send_signal(number)
        out, log = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
        os.close(writers[0])
    assert process.returncode == 0, log
    assert not out
    assert "stopped before it served" in log
