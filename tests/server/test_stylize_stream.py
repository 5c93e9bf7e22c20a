"""Frames of a video: the newest wins, order, steadiness, and what is left when somebody leaves."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from oneglance import AsyncClient, Client, OneglanceError, stream_settings, stylize_settings
from oneglance.v1.stylization_pb2 import PICTURE_FORMAT_JPEG, PICTURE_FORMAT_PNG, StylizedPicture, StylizeStreamResponse
from oneglance_server.app import Server
from oneglance_server.engines.steadying import MOVED, STILL, FrameMemory
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.servicers.frames import FrameSlot, WaitingFrame
from tests.pictures import png
from tests.running import server_thread
from tests.server.test_stylize import direct, near, scene
from tests.server.test_stylize_load import Gate, gate
from tests.waiting import PATIENCE_SECONDS, until

__all__ = ["gate"]  # a fixture
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def server(tints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"data_dir": tmp_path_factory.mktemp("data"), "models": (tints,), "stylize_tile": 128}
    with server_thread(**settings, stylize_streams=4, drain_seconds=0.1) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected
    until(lambda: at_rest(server))


def at_rest(server: Server) -> bool:
    """Nothing is held of any stream."""
    return server._gate.services.stylization.streams.under_way == 0 and server._stream_bytes.under_way == 0


def noisy(pixels: Pixels, count: int, sigma: float = 4) -> list[Pixels]:
    """The same picture with noise of its own in every frame."""
    random = np.random.default_rng(0)
    frames = (pixels + random.normal(0, sigma, pixels.shape) for _ in range(count))
    return [np.clip(np.rint(frame), 0, 255).astype(np.uint8) for frame in frames]


def pictures(answers: list[StylizeStreamResponse]) -> list[npt.NDArray[np.float32]]:
    return [opened(answer.picture) for answer in answers]


def opened(picture: StylizedPicture) -> npt.NDArray[np.float32]:
    return np.asarray(Image.open(io.BytesIO(picture.image)), np.float32)


def test_every_frame_is_answered_in_order_when_that_is_asked(client: Client) -> None:
    frames = [scene(64, 64, seed) for seed in range(30)]
    answers = list(client.stylize_stream(map(png, frames), "ember", every_frame=True, steadiness=0))
    assert [answer.index for answer in answers] == list(range(30))
    assert {answer.dropped for answer in answers} == {0}
    for frame, found in zip(frames, pictures(answers), strict=True):
        assert near(found, direct(frame, ember=1))


async def test_the_newest_frame_wins_and_dropped_ones_are_counted(
    server: Server, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[int] = []
    waited = FrameSlot.put

    async def noted(self: FrameSlot, frame: WaitingFrame, *, replace: bool) -> None:
        await waited(self, frame, replace=replace)
        put.append(frame.index)

    monkeypatch.setattr(FrameSlot, "put", noted)

    async def camera() -> AsyncIterator[bytes]:
        yield png(scene(seed=0))
        await asyncio.to_thread(until, lambda: len(gate.runs) == 1)  # it is being painted
        for seed in range(1, 10):
            yield png(scene(seed=seed))
        await asyncio.to_thread(until, lambda: len(put) == 10)
        gate.open()
        await asyncio.to_thread(until, lambda: len(gate.runs) == 2)
        yield png(scene(seed=10))

    gate.shut()
    async with AsyncClient(server.address) as client:
        answers = [answer async for answer in client.stylize_stream(camera(), "ember", steadiness=0)]
    assert [(answer.index, answer.dropped) for answer in answers] == [(0, 0), (9, 8), (10, 0)]
    for answer in answers:
        assert near(opened(answer.picture), direct(scene(seed=answer.index), ember=1))
    assert len(gate.runs) == 3


async def test_a_sender_is_held_back_when_every_frame_counts(server: Server, gate: Gate) -> None:
    sent = 0
    frame = png(np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8))  # 43 kB

    async def film() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 1
            yield frame

    gate.shut()
    async with AsyncClient(server.address) as client:
        answers = client.stylize_stream(film(), "ember", every_frame=True)
        first = asyncio.ensure_future(anext(answers))
        settled = -1
        while settled != sent or not gate.runs:
            settled = sent
            await asyncio.sleep(0.5)
        assert sent < 400  # flow control
        gate.open()
        assert (await first).index == 0
        assert [answer.index async for answer in answers] == list(range(1, 400))


def test_settings_change_from_the_next_frame_on(client: Client) -> None:
    frame = scene()
    moss = stream_settings(stylize_settings("moss", format="jpeg", max_side=32), every_frame=True)
    answers = list(client.stylize_stream([png(frame), moss, png(frame), png(frame)], "ember", every_frame=True))
    assert [answer.index for answer in answers] == [0, 1, 2]
    assert [answer.picture.format for answer in answers] == [PICTURE_FORMAT_PNG, *[PICTURE_FORMAT_JPEG] * 2]
    assert [answer.picture.width for answer in answers] == [128, 32, 32]
    assert near(pictures(answers)[0], direct(frame, ember=1))


def test_a_frame_that_cant_be_read_does_not_end_the_stream(client: Client) -> None:
    frames = [png(scene()), b"", png(scene())[:200], png(scene())]
    answers = list(client.stylize_stream(frames, "ember", every_frame=True))
    assert [answer.index for answer in answers] == [0, 1, 2, 3]
    assert [answer.WhichOneof("outcome") for answer in answers] == ["picture", "error", "error", "picture"]
    assert [answer.error.reason for answer in answers[1:3]] == ["IMAGE_EMPTY", "IMAGE_UNDECODABLE"]


@pytest.mark.parametrize("size", [(64, 128), (200, 160)])  # whole, in tiles
def test_still_frames_with_noise_flicker_less(client: Client, size: tuple[int, int]) -> None:
    def flicker(steadiness: float | None) -> float:
        # inverse: its contrast makes noise large
        answers = list(client.stylize_stream(map(png, frames), "inverse", every_frame=True, steadiness=steadiness))
        return float(np.stack(pictures(answers[4:])).std(axis=0).mean())

    frames = noisy(scene(*size) // 2 + 60, 16)
    calm, default, restless = flicker(0.8), flicker(None), flicker(0)
    assert calm == default
    assert calm < restless / 2


def test_moments_follow_slowly(client: Client) -> None:
    """A lamp goes on: colours drift to the new ones instead of jumping, and arrive."""
    dark = scene() // 2
    bright = dark + 12  # less than what counts as moved in all pixels
    frames = [png(dark)] * 2 + [png(bright)] * 40
    found = [p.mean() for p in pictures(list(client.stylize_stream(frames, "inverse", every_frame=True)))]
    own = direct(bright, inverse=1).mean()
    assert abs(found[1] - own) < 1  # instance normalisation sees no lamp
    assert abs(found[2] - own) > 5
    assert abs(found[-1] - own) < 1


def test_a_still_picture_arrives_however_steady_it_is() -> None:
    memory, pixels, moments = FrameMemory(), np.full((8, 8, 3), 100, np.uint8), np.ones((1, 2), np.float32)
    everything = (slice(None), slice(None))
    for level, count in ((60, 1), (120, 600)):
        for _ in range(count):
            frame = memory.begin(pixels, "look", 0.99)
            found = frame.steady(np.full(pixels.shape, level, np.float32), *everything)
            frame.finish(moments)
    assert np.abs(found - 120).max() < 1


def test_another_scene_another_size_and_another_style_start_afresh(client: Client) -> None:
    first, second, wide = scene(seed=1), 255 - scene(seed=1), scene(64, 192, seed=1)
    moss = stream_settings(stylize_settings("moss"), every_frame=True)
    given: list[Any] = [png(first), png(first), png(second), png(wide), moss, png(wide)]
    answers = pictures(list(client.stylize_stream(given, "ember", every_frame=True)))
    for found, (pixels, style) in zip(
        answers, [(first, "ember"), (first, "ember"), (second, "ember"), (wide, "ember"), (wide, "moss")], strict=True
    ):
        assert near(found, direct(pixels, **{style: 1.0}))


def test_what_moved_is_painted_anew_and_what_stands_still_is_kept() -> None:
    memory = FrameMemory()
    before, now = np.full((32, 64, 3), 100, np.uint8), np.full((32, 64, 3), 100, np.uint8)
    now[:, 32:] += np.uint8(MOVED)
    everything = (slice(None), slice(None))
    moments = np.ones((2, 2), np.float32)
    frame = memory.begin(before, "look", 0.75)
    assert (frame.moments, frame.own) == (None, 1.0)
    first = frame.steady(np.full(before.shape, 40, np.float32), *everything)
    assert (first == 40).all()
    frame.finish(moments)
    frame = memory.begin(now, "look", 0.75)
    assert frame.moments is moments
    assert frame.own == 0.25
    steadied = frame.steady(np.full(before.shape, 80, np.float32), *everything)
    assert (steadied[:, :29] == 50).all()  # 3/4 of 40, 1/4 of 80
    assert (steadied[:, 35:] == 80).all()
    frame.finish(moments)
    slightly = memory.begin(now + np.uint8(STILL), "look", 0.5)
    assert (slightly.steady(np.full(before.shape, 80, np.float32), *everything)[:, :29] == 65).all()
    forgotten = [(now[1:], "look", 0.5), (now, "other", 0.5), (255 - now, "look", 0.5), (now, "look", 0)]
    for pixels, look, steadiness in forgotten:
        assert memory.begin(pixels, look, steadiness).moments is None
    memory.begin(now, "look", 0).finish(moments)
    assert memory.begin(now, "look", 0.5).moments is None  # nothing is kept for nothing


def test_a_frame_that_fails_half_way_leaves_the_memory_as_it_was() -> None:
    memory = FrameMemory()
    pixels = np.full((8, 8, 3), 100, np.uint8)
    frame = memory.begin(pixels, "look", 0.5)
    frame.steady(np.zeros(pixels.shape, np.float32), slice(None), slice(None))
    frame.finish(np.ones((1, 2), np.float32))
    failed = memory.begin(pixels, "look", 0.5)
    failed.steady(np.full((4, 8, 3), 200, np.float32), slice(0, 4), slice(None))
    again = memory.begin(pixels, "look", 0.5).steady(np.zeros(pixels.shape, np.float32), slice(None), slice(None))
    assert (again == 0).all()


async def test_a_client_that_leaves_leaves_nothing_behind(server: Server, gate: Gate) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield png(scene())
            await asyncio.sleep(0.001)

    async with AsyncClient(server.address) as client:
        for held in (False, True):
            answers = client.stylize_stream(endless(), "ember")
            async for _ in answers:
                break
            if held:
                gate.shut()
                begun = len(gate.runs)
                await asyncio.to_thread(until, lambda begun=begun: len(gate.runs) > begun)  # type: ignore[misc]
            await answers.aclose()  # type: ignore[attr-defined]
            await asyncio.to_thread(until, lambda: at_rest(server))
            gate.open()
        assert [a.index async for a in client.stylize_stream(once(), "ember")] == [0]


async def once() -> AsyncIterator[bytes]:
    yield png(scene())


def test_more_streams_than_allowed_on_one_connection_are_refused(server: Server) -> None:
    hold = threading.Event()

    def waiting() -> Iterator[bytes]:
        yield png(scene())
        hold.wait(PATIENCE_SECONDS)

    with Client(server.address) as client:
        streams = [client.stylize_stream(waiting(), "ember") for _ in range(2)]  # half of those the server has
        for stream in streams:
            assert next(stream).HasField("picture")
        with pytest.raises(OneglanceError) as caught:
            list(client.stylize_stream([png(scene())], "ember"))
        assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert caught.value.metadata == {"queue": "stylize_streams", "max_streams": "2"}
        hold.set()
        for stream in streams:
            assert list(stream) == []
        assert [answer.index for answer in client.stylize_stream([png(scene())], "ember")] == [0]


def test_several_streams_are_answered_each_its_own(client: Client, server: Server) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def play(seed: int) -> None:
        frames = [scene(64, 64, seed * 100 + i) for i in range(20)]
        with Client(server.address) as mine:
            answers = list(mine.stylize_stream(map(png, frames), "ember", every_frame=True, steadiness=0))
        assert len(answers) == 20
        for frame, found in zip(frames, pictures(answers), strict=True):
            assert near(found, direct(frame, ember=1))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(play, (1, 2)))


async def test_the_slot_holds_one_frame_and_releases_what_it_replaces() -> None:
    released: list[int] = []
    slot = FrameSlot()

    def frame(index: int) -> WaitingFrame:
        return WaitingFrame(index, b"", cast("Any", None), lambda: released.append(index))

    await slot.put(frame(0), replace=True)
    await slot.put(frame(1), replace=True)
    assert released == [0]
    held = asyncio.create_task(slot.put(frame(2), replace=False))
    await asyncio.sleep(0)
    assert not held.done()  # one waits already
    frames = slot.frames()
    assert (await anext(frames)).index == 1
    await held
    assert released == [0]  # the one under way is not
    assert (await anext(frames)).index == 2
    assert released == [0, 1]
    await slot.put(frame(4), replace=True)
    slot.close()
    assert [frame.index async for frame in frames] == [4]
    assert released == [0, 1, 2, 4]
    await slot.put(frame(5), replace=True)
    slot.clear()
    assert released == [0, 1, 2, 4, 5]


def test_the_stylizer_of_a_stream_is_given_the_moments_before(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[bool, float]] = []
    run = Stylizer.run

    def noted(self: Stylizer, image: Any, weights: Any, moments: Any = None, own: float = 0.0) -> Any:
        given.append((moments is not None, round(own, 3)))
        return run(self, image, weights, moments, own)

    monkeypatch.setattr(Stylizer, "run", noted)
    list(client.stylize_stream([png(scene())] * 3, "ember", every_frame=True, steadiness=0.7))
    assert given == [(False, 1.0), (True, 0.3), (True, 0.3)]
    given.clear()
    list(client.stylize_stream([png(scene(200, 128))] * 2, "ember", every_frame=True, steadiness=0.7))
    assert given == [(False, 1.0), *[(True, 0.0)] * 2, (True, 0.3), *[(True, 0.0)] * 2]
