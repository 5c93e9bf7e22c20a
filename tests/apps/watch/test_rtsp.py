"""A real RTSP server (Debian's gst-rtsp-server): why it can't be read is told apart."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from pathlib import Path

import pytest

from oneglance import Client
from oneglance_apps.frames.frame import Frame
from oneglance_apps.frames.source_error import Reason, SourceError
from oneglance_apps.frames.video import NetworkSettings, VideoSource
from tests.models import pixels_model
from tests.running import free_port, server_thread
from tests.waiting import PATIENCE_SECONDS, until

SYSTEM_PYTHON = Path("/usr/bin/python3")
SCRIPT = Path(__file__).with_name("rtsp_camera.py")
CHECK = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; "
    "Gst.init(None); raise SystemExit(not all(map(Gst.ElementFactory.find, ('x264enc', 'rtph264pay', 'videotestsrc'))))"
)
PATIENT = NetworkSettings(connect_seconds=PATIENCE_SECONDS, read_seconds=PATIENCE_SECONDS)
Start = Callable[[str, str], subprocess.Popen[str]]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    found = (
        SYSTEM_PYTHON.exists()
        and not subprocess.run(
            [SYSTEM_PYTHON, "-c", CHECK], capture_output=True, env=environment(), check=False
        ).returncode
    )
    if not found:
        pytest.skip("needs Debian's gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-{base,good,ugly} and python3-gi")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def start(port: int) -> Iterator[Start]:
    """Starts the camera with a password and a transport."""
    running: list[subprocess.Popen[str]] = []

    def begin(password: str, transport: str) -> subprocess.Popen[str]:
        for process in running:
            process.kill()
            process.communicate()
        running[:] = [
            subprocess.Popen(
                [SYSTEM_PYTHON, SCRIPT, str(port), password, transport],
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
            )
        ]
        assert running[0].stdout is not None
        assert running[0].stdout.readline() == "ready\n"
        return running[0]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def refusal(url: str, network: NetworkSettings = PATIENT) -> tuple[Reason, str]:
    with pytest.raises(SourceError) as caught:
        VideoSource(url, live=True, network=network).open()
    assert "secret" not in str(caught.value)
    return caught.value.reason, str(caught.value)


def test_password_path_and_transport_are_told_apart(start: Start, port: int) -> None:
    start("secret", "udp")
    door = f"rtsp://guard:secret@127.0.0.1:{port}/door"
    assert refusal(f"rtsp://guard:wrong@127.0.0.1:{port}/door") == (
        "password",
        f"rtsp://127.0.0.1:{port}/door: can't be opened as a video: user or password is wrong or missing",
    )
    assert refusal(f"rtsp://127.0.0.1:{port}/door")[0] == "password"
    assert refusal(f"rtsp://guard:secret@127.0.0.1:{port}/yard")[0] == "path"
    reason, words = refusal(door)
    assert reason == "transport"
    assert "--rtsp-transport" in words


def test_a_camera_is_read_and_after_a_restart_its_new_password_is_the_reason(start: Start, port: int) -> None:
    camera = start("secret", "tcp")
    source = VideoSource(f"rtsp://guard:secret@127.0.0.1:{port}/door", live=True, network=PATIENT)
    source.open()
    frames = source.frames()
    moments = [frame.moment for frame in islice(frames, 15)]
    camera.kill()
    with contextlib.suppress(SourceError):  # some ends are errors
        moments.extend(frame.moment for frame in frames)
    assert [moment.frame for moment in moments] == list(range(len(moments)))
    assert [moment.seconds for moment in moments] == sorted(moment.seconds for moment in moments)
    start("another", "tcp")
    with pytest.raises(SourceError, match="user or password") as caught:
        next(source.frames())
    assert caught.value.reason == "password"
    start("secret", "tcp")
    assert next(source.frames()).moment.frame == len(moments)


def test_an_address_where_nobody_listens_and_one_that_never_answers(port: int) -> None:
    assert refusal(f"rtsp://127.0.0.1:{port}/door")[0] == "refused"
    with socket.create_server(("127.0.0.1", port)):  # takes the connection, and says nothing
        network = NetworkSettings(connect_seconds=0.5, read_seconds=PATIENCE_SECONDS)
        reason, words = refusal(f"rtsp://127.0.0.1:{port}/door", network)
    assert reason == "timeout"
    assert words.endswith("nothing came for 0.5 s")


def test_a_camera_that_stops_is_a_timeout(start: Start, port: int) -> None:
    camera = start("secret", "tcp")
    network = NetworkSettings(connect_seconds=PATIENCE_SECONDS, read_seconds=1.0)
    source = VideoSource(f"rtsp://guard:secret@127.0.0.1:{port}/door", live=True, network=network)
    frames: Iterator[Frame] = iter(())

    def one_came() -> bool:  # on a slow machine it may take longer than the timeout
        nonlocal frames
        try:
            frames = source.frames()
            next(frames)
        except SourceError:
            return False
        return True

    until(one_came)
    os.kill(camera.pid, signal.SIGSTOP)
    with pytest.raises(SourceError, match="nothing came for 1 s") as caught:
        for _ in frames:
            pass
    assert caught.value.reason == "timeout"


def test_watch_goes_on_after_its_camera_was_cut_off(start: Start, port: int, tmp_path: Path) -> None:
    """``oneglance watch`` as a process: who stands before the camera is seen, the camera is lost, and comes back."""
    camera = start("secret", "tcp")
    url = f"rtsp://guard:secret@127.0.0.1:{port}/door"
    frames = VideoSource(url, live=True, network=PATIENT).frames()
    seen = next(frames).encoded(1000).data
    del frames
    with server_thread(data_dir=tmp_path / "data", models=(pixels_model(tmp_path / "pixels", tau=0.1),)) as server:
        with Client(server.address) as client:
            client.create_gallery("people")
            client.enroll("people", "door", seen)
        command = [sys.executable, "-m", "oneglance_apps.cli", "watch", "--server", server.address, "people", url]
        command += ["--json", "--leave", "--gone", "2", "--lost-after", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            events = map(json.loads, process.stdout)
            try:
                first = next(events)
                assert (first["kind"], first["subject_id"]) == ("identified", "door")
                camera.kill()
                while_away = list(takewhile(lambda event: event["kind"] != "left", events))
                start("secret", "tcp")
                back: set[str] = set()
                while not back >= {"camera_back", "identified"}:
                    back.add(next(events)["kind"])
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=PATIENCE_SECONDS)
            finally:
                process.kill()
    assert {event["kind"] for event in while_away} == {"camera_lost"}
    assert process.returncode == 0
    assert "Traceback" not in said
    assert "secret" not in said
