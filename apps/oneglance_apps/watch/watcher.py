"""Watch one source: send its frames to the server, give the answers to the appearances, and emit their events."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc

from oneglance.client.async_client import AsyncClient
from oneglance.client.errors import InternalError, UnavailableError, from_error
from oneglance.client.requests import identify_request, photo
from oneglance.v1.common_pb2 import Example
from oneglance.v1.identification_pb2 import (
    DECISION_IDENTIFIED,
    DECISION_NOT_COMPARED,
    IdentifyRequest,
    IdentifyResult,
    IdentifyStreamResponse,
)
from oneglance_apps.frames.frame import EncodedFrame
from oneglance_apps.frames.moment import Moment
from oneglance_apps.frames.sources import Source
from oneglance_apps.text import nearest_given, score
from oneglance_apps.watch.appearances import Appearances
from oneglance_apps.watch.events import Event
from oneglance_apps.watch.frame_reader import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, FrameReader
from oneglance_apps.watch.settings import WatchSettings
from oneglance_apps.watch.track import Box, Observation

MAX_UNANSWERED = 4  # frames sent that wait for their answer
TICK_SECONDS = 0.5  # how often appearances are ended while no answer comes
SILENT_SECONDS = 30.0  # a server that gives no answer for so long counts as unavailable
FRAME_ERRORS = (grpc.StatusCode.INVALID_ARGUMENT,)  # concern one frame; other errors concern all frames
TEMPORARY_ERRORS = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
)


@dataclass
class WatchCounts:
    """Counts of frames, faces and events, for the summary.

    refused: frames that could not be read, or that the server refused; refusal: the last reason.
    dropped: frames of a live source that a newer one replaced. lost: frames unanswered when the connection broke.
    seconds: time of the last answered frame.
    """

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


class Watcher:
    """Watches one source, and identifies its faces in one gallery.

    emit: called with each event. warn: called (from any thread) with a message about a temporary problem.
    """

    def __init__(
        self,
        client: AsyncClient,
        source: Source,
        settings: WatchSettings,
        emit: Callable[[Event], None],
        warn: Callable[[str], None],
    ) -> None:
        self.counts = WatchCounts()
        self._client = client
        self._source = source
        self._settings = settings
        self._emit = emit
        self._warn = warn
        self._appearances = Appearances(settings.rules)
        self._unanswered: deque[tuple[Moment, EncodedFrame]] = deque()
        self._reader: FrameReader | None = None
        self._stopped = asyncio.Event()
        self._takes_photos = False
        self._last_answer_at = time.monotonic()
        self._answer_timeout = asyncio.timeout(None)

    def stop(self) -> None:
        """Send no more frames; ``run`` returns once those already sent are answered."""
        self._stopped.set()
        if self._reader:
            self._reader.close()

    async def run(self) -> None:
        """Returns at the end of a file, or after ``stop``.

        Raises SourceError if the source can't be opened, or if a file breaks off. Raises OneglanceError if the server
        refuses all frames and, for a file, if it becomes unavailable or gives no answer for 30 seconds. For a live
        source the server is tried again instead.
        """
        gallery = await self._client.get_gallery(self._settings.gallery)
        if gallery.encoder_loaded:
            self._takes_photos = (await self._client.describe_model(gallery.encoder_digest)).model.takes_photos
        if self._stopped.is_set():
            return
        self._reader = reader = FrameReader(self._source, self._warn)
        try:
            await reader.open()
            ticking = asyncio.create_task(self._tick()) if self._source.live else None
            try:
                await self._identify(reader)
            finally:
                if ticking:
                    ticking.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await ticking
                self.counts.dropped = reader.dropped
                self._announce(self._appearances.end())
        finally:
            reader.close()

    async def _identify(self, reader: FrameReader) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            before = self.counts.answered
            try:
                await self._identify_once(reader)
                return
            except (UnavailableError, InternalError) as error:
                if not self._source.live:
                    raise
                self.counts.lost += len(self._unanswered)
                self._unanswered.clear()
                self._announce_leaving()
                if self.counts.answered > before:
                    pause = FIRST_PAUSE_SECONDS
                self._warn(f"{self._client.target}: {error}; trying again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause)
                return
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _identify_once(self, reader: FrameReader) -> None:
        free = asyncio.Semaphore(MAX_UNANSWERED)
        requests: asyncio.Queue[IdentifyRequest | None] = asyncio.Queue()
        self._answer_timeout = asyncio.timeout(None)
        try:
            async with self._answer_timeout:
                sending = asyncio.create_task(self._send(reader, free, requests))
                try:
                    async for answer in self._client.identify_stream(_until_none(requests)):
                        free.release()
                        self._receive(answer)
                    await sending  # raises the error of the source, if any
                finally:
                    sending.cancel()
                    await asyncio.wait([sending])
        except TimeoutError:
            raise UnavailableError(f"no answer for {SILENT_SECONDS:g} s") from None

    def _await_answer(self) -> None:
        """Start the timeout of the next answer; stop it if no frame is unanswered."""
        if not self._answer_timeout.expired():
            due = asyncio.get_running_loop().time() + SILENT_SECONDS
            self._answer_timeout.reschedule(due if self._unanswered else None)

    async def _send(
        self, reader: FrameReader, free: asyncio.Semaphore, requests: asyncio.Queue[IdentifyRequest | None]
    ) -> None:
        settings = self._settings
        try:
            while True:
                await free.acquire()
                frame = await reader.next()
                if frame is None:
                    return
                self.counts.frames += 1
                try:
                    encoded = await asyncio.to_thread(frame.encoded, settings.max_side)
                except OSError as error:
                    self._count_refusal(str(error))
                    free.release()
                    continue
                self._unanswered.append((frame.moment, encoded))
                if len(self._unanswered) == 1:
                    self._await_answer()
                probe = self._photo(encoded.data) if self._takes_photos else encoded.data
                requests.put_nowait(identify_request(settings.gallery, [probe], max_candidates=1, tau=settings.tau))
        finally:
            requests.put_nowait(None)

    def _photo(self, data: bytes) -> Example:
        return photo(data, small_faces=self._settings.small_faces, upright_only=not self._settings.turned)

    def _receive(self, answer: IdentifyStreamResponse) -> None:
        moment, encoded = self._unanswered.popleft()
        self.counts.seconds = moment.seconds
        self._last_answer_at = time.monotonic()
        self._await_answer()
        if answer.HasField("error"):
            error = from_error(answer.error)
            if error.code not in FRAME_ERRORS and not (self._source.live and error.code in TEMPORARY_ERRORS):
                raise error
            self._count_refusal(str(error))
            return
        self.counts.answered += 1
        compared = [result for result in answer.response.results if result.decision != DECISION_NOT_COMPARED]
        faces = [_observation(result, encoded) for result in compared]
        self.counts.faces += len(faces)
        threshold = answer.response.threshold
        self._announce(self._appearances.see(moment, faces, threshold.tau if threshold.source else None))

    def _announce(self, events: list[Event]) -> None:
        for event in events:
            self.counts.identified += event.kind == "identified"
            self.counts.unknown += event.kind == "unknown"
            self._emit(event)

    def _count_refusal(self, why: str) -> None:
        self.counts.refused += 1
        self.counts.refusal = why

    async def _tick(self) -> None:
        """End appearances while a live source gives no frames or the server no answers."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if not self._unanswered:
                self._announce_leaving()

    def _announce_leaving(self) -> None:
        silent = time.monotonic() - self._last_answer_at
        self._announce(self._appearances.until(self.counts.seconds + silent))


async def _until_none(requests: asyncio.Queue[IdentifyRequest | None]) -> AsyncIterator[IdentifyRequest]:
    while (request := await requests.get()) is not None:
        yield request


def _observation(result: IdentifyResult, encoded: EncodedFrame) -> Observation:
    box = None
    if result.HasField("face"):
        found = result.face.box
        x, y = encoded.scale_x, encoded.scale_y
        box = Box(found.x * x, found.y * y, max(found.width * x, 1e-3), max(found.height * y, 1e-3))
    nearest = nearest_given(result.candidates)
    return Observation(
        subject_id=result.subject_id if result.decision == DECISION_IDENTIFIED else None,
        nearest=nearest.subject_id if nearest else None,
        distance=score(nearest) if nearest else None,
        box=box,
    )
