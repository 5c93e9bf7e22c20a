"""The watcher with a camera and a server that do what a test tells, on a clock that the test moves."""

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from oneglance.client.errors import FailedPreconditionError, UnavailableError
from oneglance.v1.gallery_pb2 import Gallery
from oneglance.v1.identification_pb2 import (
    DECISION_IDENTIFIED,
    IdentifyRequest,
    IdentifyResponse,
    IdentifyResult,
    IdentifyStreamResponse,
)
from oneglance_apps.frames.frame import EncodedFrame, Frame
from oneglance_apps.frames.moment import Moment
from oneglance_apps.frames.source_error import SourceError
from oneglance_apps.watch import frame_reader, watcher
from oneglance_apps.watch.outbox import Letter
from oneglance_apps.watch.recorder import Recorder
from oneglance_apps.watch.records import Frames, HeartbeatRecord
from oneglance_apps.watch.session import Session
from oneglance_apps.watch.settings import AppearanceRules, DeliveryRules, WatchSettings
from tests.apps.watch.manual_clock import ManualClock
from tests.waiting import PATIENCE_SECONDS, reached

ANN = IdentifyStreamResponse(
    response=IdentifyResponse(results=[IdentifyResult(decision=DECISION_IDENTIFIED, subject_id="ann")])
)


class Camera:
    """A live source that gives what the test puts: how many seconds ago a frame was taken, or an error."""

    live = True
    length: float | None = None
    damaged = missing = 0

    def __init__(self, clock: ManualClock, picture: Path, name: str = "door") -> None:
        self.name = name
        self.coming: queue.Queue[float | SourceError] = queue.Queue()
        self._clock = clock
        self._picture = picture
        self._number = 0

    def open(self) -> None:
        pass

    def frames(self) -> Iterator[Frame]:
        while True:
            coming = self.coming.get(timeout=PATIENCE_SECONDS)
            if isinstance(coming, SourceError):
                raise coming
            taken = self._clock.now() - coming
            yield Frame(Moment(self._number, taken, datetime(2026, 1, 1, tzinfo=UTC)), self._picture, 1.0, taken)
            self._number += 1


class Server:
    """Answers each frame with Ann when the test says so, or breaks off."""

    target = "server"

    def __init__(self) -> None:
        self.asked = 0
        self.answers: asyncio.Queue[IdentifyStreamResponse | Exception] = asyncio.Queue()

    async def get_gallery(self, gallery: str) -> Gallery:
        return Gallery()

    async def identify_stream(self, requests: AsyncIterator[IdentifyRequest]) -> AsyncIterator[IdentifyStreamResponse]:
        async for _ in requests:
            self.asked += 1
            answer = await self.answers.get()
            if isinstance(answer, Exception):
                raise answer
            yield answer


class Gate:
    """A watcher at work, and the events that it told."""

    def __init__(self, clock: ManualClock, picture: Path, settings: WatchSettings) -> None:
        self.clock = clock
        self.camera = Camera(clock, picture)
        self.server = Server()
        self.letters: list[Letter] = []
        self.told: list[str] = []
        recorder = Recorder("people", "door", DeliveryRules(), clock, self.letters.append)
        client: Any = self.server
        self.watcher = watcher.Watcher(client, self.camera, settings, recorder, self.told.append, clock)
        self.running = asyncio.create_task(self.watcher.run())

    @property
    def kinds(self) -> list[str]:
        return [letter.record.kind for letter in self.letters]

    async def frame(self, age: float = 0.0) -> None:
        """One comes, and is read."""
        before = self.watcher.frames.read
        self.camera.coming.put(age)
        await reached(lambda: self.watcher.frames.read > before)

    async def answer(self, count: int = 1) -> None:
        """The server answers so many frames, when it has them."""
        for _ in range(count):
            before = self.watcher.counts.answered
            self.server.answers.put_nowait(ANN)
            await reached(lambda before=before: self.watcher.counts.answered > before)  # type: ignore[misc]

    async def end(self) -> Frames:
        self.watcher.stop()
        self.camera.coming.put(0.0)
        for _ in range(9):
            self.server.answers.put_nowait(ANN)
        await self.running
        frames = self.watcher.frames
        assert frames.under_way == 0
        assert frames.read == frames.answered + frames.skipped + frames.dropped
        return frames


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def opened(picture: Path, **settings: Any) -> Gate:
    rules = AppearanceRules(confirm=1)
    return Gate(ManualClock(), picture, WatchSettings("people", rules=rules, **({"fps": 10.0} | settings)))


async def test_the_newest_frame_wins_and_every_frame_is_counted(picture: Path) -> None:
    gate = opened(picture)
    for _ in range(10):
        await gate.frame()
        await gate.clock.advance(0.1)
    await reached(lambda: gate.server.asked == 1)  # a window of one
    frames = gate.watcher.frames
    assert (frames.read, frames.dropped, frames.under_way) == (10, 8, 2)
    await gate.answer()
    await reached(lambda: gate.server.asked == 2)
    await gate.answer()
    assert gate.watcher.counts.seconds == pytest.approx(0.9)  # the last that came
    frames = await gate.end()
    assert (frames.answered, frames.skipped) == (2, 0)


async def test_frames_beyond_the_rate_are_skipped_and_counted(picture: Path) -> None:
    gate = opened(picture, fps=5.0)
    for _ in range(40):
        await gate.frame()
        if gate.watcher.frames.under_way:
            await gate.answer()
        await gate.clock.advance(0.1)
    frames = await gate.end()
    assert frames.answered == pytest.approx(20, abs=1)
    assert frames.skipped == pytest.approx(20, abs=1)


async def test_an_event_is_as_old_as_the_frame_that_shows_it(picture: Path) -> None:
    gate = opened(picture)
    await gate.clock.advance(100)
    await gate.frame(age=16.0)  # held up on its way
    await gate.answer()
    letter = next(letter for letter in gate.letters if letter.record.kind == "identified")
    assert letter.record.age == 16.0
    assert letter.expires_at < gate.clock.now()
    assert gate.watcher.latency().p99 == 16.0
    await gate.end()


async def test_behind_is_told_while_the_server_is_slow(picture: Path) -> None:
    gate = opened(picture)
    for _ in range(4):
        await gate.frame()
        await gate.clock.advance(0.9)
        await gate.answer()
    await gate.clock.advance(0.3)
    assert gate.kinds.count("behind") == 1
    behind = next(letter.record for letter in gate.letters if letter.record.kind == "behind")
    assert behind.latency.bound == 0.5
    assert behind.latency.p50 == pytest.approx(0.9)
    assert behind.frames.answered >= 3
    await gate.end()


async def test_a_camera_that_stops_is_lost_and_comes_back(picture: Path) -> None:
    gate = opened(picture, lost_after=3.0)
    await gate.frame()
    await gate.answer()
    await gate.clock.advance(16.0)
    (lost,) = (letter.record for letter in gate.letters if letter.record.kind == "camera_lost")
    assert lost.reason == "silent"
    assert lost.silent == pytest.approx(3.25)
    assert not gate.watcher.camera_up
    await gate.frame()
    await gate.answer()
    await gate.clock.advance(0.5)
    (back,) = (letter.record for letter in gate.letters if letter.record.kind == "camera_back")
    assert back.silent == pytest.approx(16.0)
    assert gate.watcher.camera_up
    await gate.end()


async def test_a_wrong_password_after_a_restart_is_told_as_such(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_reader, "FIRST_PAUSE_SECONDS", 0.01)
    gate = opened(picture)
    await gate.frame()
    await gate.answer()
    gate.camera.coming.put(SourceError("door: ended", "ended"))
    await reached(lambda: gate.told)
    await gate.clock.advance(0.3)
    gate.camera.coming.put(SourceError("door: user or password is wrong", "password"))
    await reached(lambda: len(gate.told) == 2)
    await gate.clock.advance(0.3)
    reasons = [letter.record.reason for letter in gate.letters if letter.record.kind == "camera_lost"]
    assert reasons == ["ended", "password"]
    await gate.end()


async def test_a_server_that_goes_away_and_comes_back_is_told(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "FIRST_PAUSE_SECONDS", 0.01)
    gate = opened(picture)
    await gate.frame()
    gate.server.answers.put_nowait(UnavailableError("gone"))
    await reached(lambda: gate.told)
    assert not gate.watcher.server_up
    await gate.clock.advance(0.2)
    await gate.frame()
    await gate.answer()
    assert [kind for kind in gate.kinds if kind.startswith("server")] == ["server_lost", "server_back"]
    frames = await gate.end()
    assert frames.dropped >= 1
    assert gate.watcher.counts.lost == 1


async def test_a_source_that_the_server_refused_has_no_server_and_the_others_go_on(picture: Path) -> None:
    clock = ManualClock()
    server = Server()
    told: list[Letter] = []
    client: Any = server
    session = Session(
        client, WatchSettings("people"), DeliveryRules(), clock, lambda _: None, told.append, heartbeat_seconds=1.0
    )
    door, yard = Camera(clock, picture, "door"), Camera(clock, picture, "yard")
    for camera in (door, yard):
        session.add_source(camera)
    running = asyncio.create_task(session.run())

    async def beats() -> dict[str, tuple[bool, bool]]:
        """Camera and server, of the next heartbeat of each source."""
        told.clear()
        await clock.advance(1.0)
        found = [one.record for one in told if isinstance(one.record, HeartbeatRecord)]
        return {one.source: (one.camera, one.server) for one in found}

    await reached(lambda: all(one.watcher.camera_up and one.recorder.live for one in session.watched))
    assert await beats() == {"door": (True, True), "yard": (True, True)}
    door.coming.put(0.0)
    await reached(lambda: server.asked == 1)
    server.answers.put_nowait(FailedPreconditionError("this gallery's encoder is not loaded"))
    failed, going_on = session.watched
    await reached(lambda: failed.failure)
    assert await beats() == {"door": (False, False), "yard": (True, True)}
    assert (failed.watcher.camera_up, failed.watcher.server_up) == (False, False)  # what the metrics tell
    going_on.watcher.stop()
    yard.coming.put(0.0)
    await running


@pytest.mark.parametrize(
    ("max_side", "pixels", "asked"), [(1280, 921_600, 0), (3840, 8_294_400, 8_294_400), (9000, 0, 16_000_000)]
)
async def test_larger_frames_are_searched_as_they_are(picture: Path, max_side: int, pixels: int, asked: int) -> None:
    gate = opened(picture, max_side=max_side)
    assert gate.watcher._photo(EncodedFrame(b"", pixels)).face.search_pixels == asked
    await gate.end()
