"""``oneglance watch`` with a real server and the pixels model: whole frames, no faces."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from oneglance import AsyncClient, Client
from oneglance.client.errors import UnavailableError
from oneglance_apps.cli import main
from oneglance_apps.clock import SystemClock
from oneglance_apps.frames.sources import source_from
from oneglance_apps.limits import NO_LIVENESS
from oneglance_apps.watch import watcher
from oneglance_apps.watch.outbox import Letter
from oneglance_apps.watch.recorder import Recorder
from oneglance_apps.watch.records import AppearanceRecord
from oneglance_apps.watch.settings import AppearanceRules, DeliveryRules, WatchSettings
from oneglance_server.app import Server
from tests.apps.watch.test_frames import Camera, no_proxy, serving  # noqa: F401
from tests.apps.watch.test_webhook import Receiver, receiver  # noqa: F401
from tests.apps.watch.videos import level, scene, write_video
from tests.models import pixels_model
from tests.pictures import picture, png
from tests.running import ServerProcess, server_thread
from tests.waiting import PATIENCE_SECONDS, reached, until

Capture = pytest.CaptureFixture[str]
PEOPLE = {"ann": 1, "bea": 2, "cem": 3}
STRANGER = 99


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("watch")
    model = pixels_model(folder / "pixels", tau=0.1)
    with server_thread(data_dir=folder / "data", models=(model,)) as running, Client(running.address) as client:
        client.create_gallery("people")
        for name, seed in PEOPLE.items():
            client.enroll("people", name, png(picture(seed)))
        yield running


def show(path: Path, *seeds: int, each: int = 25) -> Path:
    """A video at 25 frames a second: each picture for ``each`` frames."""
    return write_video(path, [scene(picture(seed)) for seed in seeds for _ in range(each)])


def watched(server: Server, capsys: Capture, *words: str, status: int = 0) -> tuple[list[dict[str, Any]], str]:
    """The events, and the output on stderr."""
    assert main(["watch", "--server", server.address, "--json", *words]) == status
    out, err = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


def names(found: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(event["kind"], event["subject_id"]) for event in found]


def test_who_could_be_either_of_two_is_unknown_with_both_names(server: Server, tmp_path: Path, capsys: Capture) -> None:
    with Client(server.address) as client:
        client.create_gallery("twins", least_gap=0.01)
        for name in ("ann", "bea"):
            client.enroll("twins", name, png(picture(PEOPLE["ann"])))
    video = show(tmp_path / "gate.mp4", PEOPLE["ann"], each=75)
    found, _ = watched(server, capsys, "twins", str(video))
    assert names(found) == [("unknown", None)]
    (event,) = found
    assert event["unknown_reason"] == "ambiguous"
    assert (event["nearest"]["subject_id"], event["rival"]) == ("ann", "bea")
    assert event["distance"] < event["tau"]


def test_pictures_shown_for_a_second_each_give_one_event_each(server: Server, tmp_path: Path, capsys: Capture) -> None:
    video = show(tmp_path / "gate.mp4", *PEOPLE.values())
    found, said = watched(server, capsys, "people", str(video))
    assert names(found) == [("identified", name) for name in PEOPLE]
    assert [e["seconds"] for e in found] == pytest.approx([0.2, 1.2, 2.2])
    assert [e["frame"] for e in found] == [5, 30, 55]
    assert [e["appearance"] for e in found] == [1, 2, 3]
    for event in found:
        assert event["distance"] < event["tau"] == 0.1
        assert (event["gallery"], event["source"], event["box"], event["nearest"]) == ("people", str(video), None, None)
    assert "75 frames: 15 answered, 60 skipped, 0 dropped; 15 faces, 3 identified, 0 unknown" in said


def test_several_sources_in_one_process_and_one_that_fails_ends_no_other(
    server: Server, tmp_path: Path, capsys: Capture
) -> None:
    ann, bea = show(tmp_path / "a.mp4", PEOPLE["ann"]), show(tmp_path / "b.mp4", PEOPLE["bea"])
    found, said = watched(server, capsys, "people", str(ann), str(bea))
    assert {(e["source"], e["subject_id"]) for e in found} == {(str(ann), "ann"), (str(bea), "bea")}
    assert f"{ann}: 25 frames: 5 answered, 20 skipped, 0 dropped" in said
    found, said = watched(server, capsys, "people", str(ann), str(tmp_path / "missing.mp4"), status=1)
    assert [e["subject_id"] for e in found] == ["ann"]
    assert "missing.mp4: there is no such file" in said
    watched(server, capsys, "people", str(ann), str(ann), status=2)


def test_a_stranger_is_unknown_and_everybody_leaves(server: Server, tmp_path: Path, capsys: Capture) -> None:
    video = show(tmp_path / "gate.mp4", STRANGER, PEOPLE["bea"], each=50)
    found, _ = watched(server, capsys, "people", str(video), "--leave", "--gone", "0.5", "--unknown-after", "1.4")
    assert names(found) == [("unknown", None), ("identified", "bea"), ("left", "bea")]
    unknown = found[0]
    assert unknown["seconds"] == pytest.approx(1.4)
    assert unknown["nearest"]["subject_id"] in PEOPLE
    assert unknown["nearest"]["distance"] == unknown["distance"] > unknown["tau"]
    assert found[2]["frames"] == 20


def test_tau_and_text(server: Server, tmp_path: Path, capsys: Capture) -> None:
    video = show(tmp_path / "gate.mp4", PEOPLE["ann"], each=50)
    assert main(["watch", "--server", server.address, "people", str(video), "--tau", "0"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[:4] == ["1.0", "s", "unknown", "unknown"]
    assert "nearest ann" in line


def test_a_folder_is_a_video_too(server: Server, tmp_path: Path, capsys: Capture) -> None:
    for i, seed in enumerate([1, 1, 2, 2]):
        (tmp_path / f"{i}.png").write_bytes(png(picture(seed)))
    (tmp_path / "4.png").write_bytes(b"not a picture")
    found, said = watched(server, capsys, "people", str(tmp_path))
    assert [(e["subject_id"], e["picture"]) for e in found] == [("ann", "1.png"), ("bea", "3.png")]
    assert "1 frames refused, the last: INVALID_ARGUMENT [IMAGE_UNDECODABLE]" in said


def test_stills_need_other_settings_and_are_told_so(server: Server, tmp_path: Path, capsys: Capture) -> None:
    for i, seed in enumerate([1, STRANGER]):
        (tmp_path / f"{i}.png").write_bytes(png(picture(seed)))
    found, said = watched(server, capsys, "people", str(tmp_path))
    assert found == []
    assert "for stills: --confirm 1 --unknown-after 0" in said
    found, said = watched(server, capsys, "people", str(tmp_path), "--confirm", "1", "--unknown-after", "0")
    assert names(found) == [("identified", "ann"), ("unknown", None)]
    assert "for stills" not in said


def test_help_says_every_status(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["watch", "--help"])
    said = capsys.readouterr().out
    assert all(f"{status}:" in said for status in (0, 1, 2, 130))
    assert NO_LIVENESS in " ".join(said.split())


def test_events_are_posted_also_when_the_receiver_fails_first(
    server: Server,
    tmp_path: Path,
    capsys: Capture,
    receiver: Receiver,  # noqa: F811
) -> None:
    receiver.statuses = [500]
    video = show(tmp_path / "gate.mp4", *PEOPLE.values())
    found, said = watched(server, capsys, "people", str(video), "--post", receiver.url, "--delivery", "at-least-once")
    ids = {event["id"]: event for event in found}
    assert sorted(receiver.accepted, key=lambda event: event["seconds"]) == [
        ids[event["id"]] | {"age": event["age"]}
        for event in sorted(receiver.accepted, key=lambda event: event["seconds"])
    ]
    assert len(found) == 3
    assert "3 events delivered, 0 not" in said


def test_what_can_not_be_watched_is_said_in_words(server: Server, tmp_path: Path, capsys: Capture) -> None:
    video = show(tmp_path / "gate.mp4", 1)
    for words, said in (
        (["people", str(tmp_path / "missing.mp4")], "no such file"),
        (["people", "7"], "no such camera"),
        (["nobody", str(video)], "GALLERY_NOT_FOUND"),
        (["people", str(video), "--server", "127.0.0.1:9"], "UNAVAILABLE"),
    ):
        found, err = watched(server, capsys, *words, status=1)
        assert found == []
        assert said in err
    for words in (["--post", "nowhere"], ["--post", "http://user:secret@[::1/x"], ["--gone", "0.1"]):
        _, err = watched(server, capsys, "people", str(video), *words, status=2)
        assert "secret" not in err
    assert "secret" not in watched(server, capsys, "people", "rtsp://user:secret@[::1/x", status=1)[1]
    for words in (["--fps", "0"], ["--confirm", "0"], ["--tau", "nan"], ["--gone", "x"]):
        with pytest.raises(SystemExit) as refused:
            main(["watch", "people", str(video), *words])
        assert refused.value.code == 2
        capsys.readouterr()


def test_a_file_cut_short_gives_its_events_and_fails(server: Server, tmp_path: Path, capsys: Capture) -> None:
    frames = [scene(picture(1))] * 50 + [level(200, 64, 64)] * 50
    whole = write_video(tmp_path / "whole.mp4", frames, movflags="faststart").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    found, said = watched(server, capsys, "people", str(tmp_path / "cut.mp4"), status=1)
    assert names(found) == [("identified", "ann")]
    assert "broken off" in said


def test_frames_that_are_all_refused_are_a_failure(server: Server, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.png").write_bytes(b"not a picture")
    assert watched(server, capsys, "people", str(tmp_path), status=1)[0] == []


class Door(Camera):
    """A camera that shows Ann all the time."""

    length = 100_000

    def picture(self, number: int) -> Image.Image:
        return Image.fromarray(scene(picture(1)))


CODE = "import fcntl, sys; from oneglance_apps.cli import watch; from oneglance_apps.cli.main import main; "


@pytest.mark.usefixtures("no_proxy")
def test_who_reads_one_event_and_goes_ends_the_watch(server: Server) -> None:
    with serving(Door) as url:
        words = ["watch", "--server", server.address, "people", url, "--json", "--confirm", "1", "--repeat", "0.1"]
        command = [sys.executable, "-m", "oneglance_apps.cli", *words, "--fps", "20"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert json.loads(process.stdout.readline())["subject_id"] == "ann"
            process.stdout.close()  # as head -1 does
            said = process.stderr.read()
            assert process.wait(PATIENCE_SECONDS) == 1, said
    assert "Traceback" not in said
    assert "events were not printed" in said


@pytest.mark.usefixtures("no_proxy")
def test_who_stops_reading_holds_up_nothing_and_watch_ends_in_order(server: Server, receiver: Receiver) -> None:  # noqa: F811
    """A FIFO that nobody reads any more, and a receiver that gets every event nevertheless."""
    reads, writes = os.pipe()
    with serving(Door) as url:
        code = f"{CODE}fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 4096); watch.DELIVER_SECONDS = 0.1; sys.exit(main())"
        words = ["watch", "--server", server.address, "people", url, "--json", "--confirm", "1", "--repeat", "0.01"]
        words += ["--fps", "100", "--post", receiver.url, "--max-age", "1000"]
        command = [sys.executable, "-c", code, *words]
        with subprocess.Popen(command, stdout=writes, stderr=subprocess.PIPE, text=True) as process:
            os.close(writes)
            until(lambda: len(receiver.accepted) > 30 or process.poll() is not None)  # the pipe holds five or so
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE_SECONDS)
    os.close(reads)
    assert process.returncode == 1, said
    assert "Fatal" not in said
    assert "events were not printed" in said


@pytest.mark.usefixtures("no_proxy")
def test_ctrl_c_ends_a_camera_with_a_summary(server: Server) -> None:
    with serving(Door) as url:
        command = [sys.executable, "-m", "oneglance_apps.cli", "watch", "--server", server.address, "people", url]
        command += ["--gone", "3600"]  # whatever pauses there are, she is not seen leaving
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert first.split()[2:4] == ["identified", "ann"]
        assert (rest, process.returncode) == ("", 0)
        assert "1 identified, 0 unknown" in said
        assert f"oneglance watch: {NO_LIVENESS}\n" in said  # before a camera decides anything
        assert "Traceback" not in said


def recorder(see: Callable[[AppearanceRecord], object]) -> Recorder:
    """Gives each event about an appearance to ``see``."""

    def send(letter: Letter) -> None:
        if isinstance(letter.record, AppearanceRecord):
            see(letter.record)

    return Recorder("people", "door", DeliveryRules(), SystemClock(), send)


def there(seen: list[AppearanceRecord]) -> bool:
    """Whether Ann is there, by the events so far. On a slow machine she may leave and come back between two frames."""
    assert {event.subject_id for event in seen} <= {"ann"}
    return bool(seen) and seen[-1].kind == "identified"


def assert_back(left: AppearanceRecord, back: AppearanceRecord) -> None:
    """That Ann left, and came back as somebody new."""
    assert (left.kind, back.kind, back.subject_id) == ("left", "identified", "ann")
    assert back.appearance == left.appearance + 1


@pytest.mark.usefixtures("no_proxy")
async def test_a_camera_goes_on_when_the_server_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "FIRST_PAUSE_SECONDS", 0.05)
    model = pixels_model(tmp_path / "pixels", tau=0.1)
    seen: list[AppearanceRecord] = []
    told: list[str] = []
    process = await asyncio.to_thread(ServerProcess, tmp_path / "data", models=model)
    try:
        async with AsyncClient(process.address) as client:
            await client.create_gallery("people")
            await client.enroll("people", "ann", png(picture(1)))
            with serving(Door) as url:
                settings = WatchSettings("people", fps=20, rules=AppearanceRules(confirm=1, gone=0.3))
                watch = watcher.Watcher(client, source_from(url, 20), settings, recorder(seen.append), told.append)
                watching = asyncio.create_task(watch.run())
                await reached(lambda: there(seen))
                process.kill()
                await reached(lambda: told and not there(seen))
                await reached(lambda: watch._reader and watch.frames.dropped)  # the camera goes on
                before = len(seen)
                restarted = await asyncio.to_thread(
                    ServerProcess, tmp_path / "data", models=model, listen=process.address
                )
                with restarted:
                    await reached(lambda: len(seen) > before)
                    assert_back(seen[before - 1], seen[before])
                    watch.stop()
                    await watching
        assert any("trying again" in words for words in told)
        assert watch.frames.dropped > 0
    finally:
        if process.process.poll() is None:
            process.kill()


async def test_a_file_does_not_go_on_when_the_server_goes_away(tmp_path: Path, server: Server) -> None:
    video = write_video(tmp_path / "long.mp4", [scene(picture(1))] * 200)
    with ServerProcess(tmp_path / "data", models=pixels_model(tmp_path / "pixels", tau=0.1)) as process:
        async with AsyncClient(process.address) as client:
            await client.create_gallery("people")
            await client.enroll("people", "ann", png(picture(1)))
            watch = watcher.Watcher(
                client,
                source_from(str(video), 25),
                WatchSettings("people", fps=25),
                recorder(lambda event: process.kill()),
                print,
            )
            with pytest.raises(UnavailableError):
                await asyncio.wait_for(watch.run(), PATIENCE_SECONDS)
    assert watch.counts.identified == 1


@pytest.mark.usefixtures("no_proxy")
async def test_a_camera_notices_a_server_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "FIRST_PAUSE_SECONDS", 0.05)
    seen: list[AppearanceRecord] = []
    told: list[str] = []
    with ServerProcess(tmp_path / "data", models=pixels_model(tmp_path / "pixels", tau=0.1)) as process:
        async with AsyncClient(process.address) as client:
            await client.create_gallery("people")
            await client.enroll("people", "ann", png(picture(1)))
            with serving(Door) as url:
                settings = WatchSettings("people", fps=20, rules=AppearanceRules(confirm=1, gone=0.3))
                watch = watcher.Watcher(client, source_from(url, 20), settings, recorder(seen.append), told.append)
                watching = asyncio.create_task(watch.run())
                await reached(lambda: there(seen))
                monkeypatch.setattr(watcher, "SILENT_SECONDS", 1.0)
                os.kill(process.process.pid, signal.SIGSTOP)
                try:
                    await reached(lambda: told and not there(seen))
                    before = len(seen)
                finally:
                    monkeypatch.setattr(watcher, "SILENT_SECONDS", PATIENCE_SECONDS)  # it may be slow from now on
                    os.kill(process.process.pid, signal.SIGCONT)
                await reached(lambda: len(seen) > before)
                assert_back(seen[before - 1], seen[before])
                watch.stop()
                await watching
    assert "UNAVAILABLE: no answer for 1 s; trying again in 0.05 s" in told[0]
    assert watch.counts.lost > 0


async def test_a_file_fails_when_the_server_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / "long.mp4", [scene(picture(1))] * 200)
    with ServerProcess(tmp_path / "data", models=pixels_model(tmp_path / "pixels", tau=0.1)) as process:
        async with AsyncClient(process.address) as client:
            await client.create_gallery("people")
            await client.enroll("people", "ann", png(picture(1)))

            def hang(event: AppearanceRecord) -> None:
                if event.kind == "identified":
                    os.kill(process.process.pid, signal.SIGSTOP)
                    monkeypatch.setattr(watcher, "SILENT_SECONDS", 1.0)  # it may have been slow until now
                    watch._await_answer()

            watch = watcher.Watcher(
                client, source_from(str(video), 25), WatchSettings("people", fps=25), recorder(hang), print
            )
            try:
                with pytest.raises(UnavailableError, match="no answer for 1 s"):
                    await asyncio.wait_for(watch.run(), PATIENCE_SECONDS)
            finally:
                os.kill(process.process.pid, signal.SIGCONT)
    assert watch.counts.identified == 1


@pytest.mark.usefixtures("no_proxy")
async def test_a_camera_that_shows_nothing_new_is_not_the_server_s_silence(
    server: Server,
) -> None:
    awake = threading.Event()

    class Sleepy(Door):
        """Stands still until ``awake``."""

        def picture(self, number: int) -> Image.Image:
            assert number < 10 or awake.wait(PATIENCE_SECONDS)
            return super().picture(number)

    told: list[str] = []
    with serving(Sleepy) as url:
        async with AsyncClient(server.address) as client:
            watch = watcher.Watcher(
                client, source_from(url, 100), WatchSettings("people", fps=100), recorder(print), told.append
            )
            watching = asyncio.create_task(watch.run())
            await reached(lambda: watch.counts.answered and not watch.frames.under_way)
            assert watch._answer_timeout.when() is None  # nobody waits for an answer
            answered = watch.counts.answered
            awake.set()
            await reached(lambda: watch.counts.answered > answered + 10)
            watch.stop()
            await watching
    assert (told, watch.counts.lost) == ([], 0)
