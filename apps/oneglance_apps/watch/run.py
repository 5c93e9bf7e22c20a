"""The loop: frames to the server, answers to appearances, appearances to events."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import grpc

from oneglance.client.async_client import AsyncClient
from oneglance.client.errors import InternalError, UnavailableError, from_error
from oneglance.client.requests import SmallFaces, identify_request, photo
from oneglance.v1.identification_pb2 import (
    DECISION_IDENTIFIED,
    IdentifyRequest,
    IdentifyResult,
    IdentifyStreamResponse,
)
from oneglance_apps.watch.appearances import Appearances, Box, Event, Moment, Observation, Rules
from oneglance_apps.watch.feed import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Feed
from oneglance_apps.watch.frames import Encoded, Source

WINDOW = 4  # frames under way
TICK_SECONDS = 0.5  # how often a live source's silence is looked at
SILENT_SECONDS = 30.0  # a server that owes an answer for so long is taken for gone
# Of one frame; other errors concern all of them.
OF_A_FRAME = (grpc.StatusCode.INVALID_ARGUMENT,)
PASSING = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
)


@dataclass(frozen=True)
class Settings:
    """What to look for, and how. ``tau``: squared L2; None: the gallery's. ``max_side``: pixels of a frame's longer
    side on the wire."""

    gallery: str
    tau: float | None = None
    max_side: int = 1280
    small_faces: SmallFaces = "never"
    rules: Rules = field(default_factory=Rules)


@dataclass
class Tally:
    """What happened, for the summary. ``refused``: frames that the server, or the disk, refused, ``refusal`` the last
    reason. ``lost``: frames under way when the server went away."""

    frames: int = 0
    answered: int = 0
    faces: int = 0
    identified: int = 0
    unknown: int = 0
    dropped: int = 0
    lost: int = 0
    refused: int = 0
    refusal: str = ""
    seconds: float = 0.0


class Watch:
    """One source watched against one gallery.

    ``emit`` is called with each event, ``tell`` (from any thread) with words about trouble that passes.
    """

    def __init__(
        self,
        client: AsyncClient,
        source: Source,
        settings: Settings,
        emit: Callable[[Event], None],
        tell: Callable[[str], None],
    ) -> None:
        self.tally = Tally()
        self._client = client
        self._source = source
        self._settings = settings
        self._emit = emit
        self._tell = tell
        self._appearances = Appearances(settings.rules)
        self._underway: deque[tuple[Moment, Encoded]] = deque()
        self._feed: Feed | None = None
        self._stopped = asyncio.Event()
        self._takes_photos = False
        self._heard = time.monotonic()
        self._silence = asyncio.timeout(None)

    def stop(self) -> None:
        """Take no more frames; ``run`` returns once those under way are answered."""
        self._stopped.set()
        if self._feed:
            self._feed.close()

    async def run(self) -> None:
        """Returns at the end of a file, or after ``stop``. Raises SourceError for a source that can't be opened and a
        file that breaks off, OneglanceError for what the server refuses altogether, and, watching a file, when it goes
        away or owes an answer for 30 seconds. A live source waits for it instead."""
        gallery = await self._client.get_gallery(self._settings.gallery)
        if gallery.encoder_loaded:
            self._takes_photos = (await self._client.describe_model(gallery.encoder_digest)).model.takes_photos
        if self._stopped.is_set():
            return
        self._feed = feed = Feed(self._source, self._tell)
        try:
            await feed.open()
            ticking = asyncio.create_task(self._tick()) if self._source.live else None
            try:
                await self._identify(feed)
            finally:
                if ticking:
                    ticking.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await ticking
                self.tally.dropped = feed.dropped
                self._announce(self._appearances.end())
        finally:
            feed.close()

    async def _identify(self, feed: Feed) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            before = self.tally.answered
            try:
                await self._identify_until_it_breaks(feed)
                return
            except (UnavailableError, InternalError) as error:
                if not self._source.live:
                    raise
                self.tally.lost += len(self._underway)
                self._underway.clear()
                self._announce_leaving()
                if self.tally.answered > before:
                    pause = FIRST_PAUSE_SECONDS
                self._tell(f"{self._client.target}: {error}; trying again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause)
                return
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _identify_until_it_breaks(self, feed: Feed) -> None:
        room = asyncio.Semaphore(WINDOW)
        requests: asyncio.Queue[IdentifyRequest | None] = asyncio.Queue()
        self._silence = asyncio.timeout(None)
        try:
            async with self._silence:
                sending = asyncio.create_task(self._send(feed, room, requests))
                try:
                    async for answer in self._client.identify_stream(_until_none(requests)):
                        room.release()
                        self._take(answer)
                    await sending  # raises what reading raised
                finally:
                    sending.cancel()
                    await asyncio.wait([sending])
        except TimeoutError:
            raise UnavailableError(f"no answer for {SILENT_SECONDS:g} s") from None

    def _await_answer(self) -> None:
        """From now on, while frames are under way, the next answer has SILENT_SECONDS."""
        if not self._silence.expired():
            due = asyncio.get_running_loop().time() + SILENT_SECONDS
            self._silence.reschedule(due if self._underway else None)

    async def _send(self, feed: Feed, room: asyncio.Semaphore, requests: asyncio.Queue[IdentifyRequest | None]) -> None:
        o = self._settings
        try:
            while True:
                await room.acquire()
                frame = await feed.next()
                if frame is None:
                    return
                self.tally.frames += 1
                try:
                    encoded = await asyncio.to_thread(frame.encoded, o.max_side)
                except OSError as error:
                    self._refused(str(error))
                    room.release()
                    continue
                self._underway.append((frame.moment, encoded))
                if len(self._underway) == 1:
                    self._await_answer()
                probe = photo(encoded.data, small_faces=o.small_faces) if self._takes_photos else encoded.data
                requests.put_nowait(identify_request(o.gallery, [probe], max_candidates=1, tau=o.tau))
        finally:
            requests.put_nowait(None)

    def _take(self, answer: IdentifyStreamResponse) -> None:
        moment, encoded = self._underway.popleft()
        self.tally.seconds = moment.seconds
        self._heard = time.monotonic()
        self._await_answer()
        if answer.HasField("error"):
            error = from_error(answer.error)
            if error.code not in OF_A_FRAME and not (self._source.live and error.code in PASSING):
                raise error
            self._refused(str(error))
            return
        self.tally.answered += 1
        faces = [_observation(result, encoded) for result in answer.response.results]
        self.tally.faces += len(faces)
        threshold = answer.response.threshold
        self._announce(self._appearances.see(moment, faces, threshold.tau if threshold.source else None))

    def _announce(self, events: list[Event]) -> None:
        for event in events:
            self.tally.identified += event.kind == "identified"
            self.tally.unknown += event.kind == "unknown"
            self._emit(event)

    def _refused(self, why: str) -> None:
        self.tally.refused += 1
        self.tally.refusal = why

    async def _tick(self) -> None:
        """Ends appearances while a live source, or the server, is silent."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if not self._underway:
                self._announce_leaving()

    def _announce_leaving(self) -> None:
        silent = time.monotonic() - self._heard
        self._announce(self._appearances.until(self.tally.seconds + silent))


async def _until_none(requests: asyncio.Queue[IdentifyRequest | None]) -> AsyncIterator[IdentifyRequest]:
    while (request := await requests.get()) is not None:
        yield request


def _observation(result: IdentifyResult, encoded: Encoded) -> Observation:
    box = None
    if result.HasField("face"):
        found = result.face.box
        x, y = encoded.scale_x, encoded.scale_y
        box = Box(found.x * x, found.y * y, max(found.width * x, 1e-3), max(found.height * y, 1e-3))
    nearest = result.candidates[0] if result.candidates else None
    return Observation(
        subject_id=result.subject_id if result.decision == DECISION_IDENTIFIED else None,
        nearest=nearest.subject_id if nearest else None,
        distance=nearest.distance if nearest else None,
        box=box,
    )
