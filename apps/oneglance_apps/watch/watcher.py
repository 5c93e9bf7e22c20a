"""Watch one source: send its frames to the server, give the answers to the appearances, and record their events."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc

from oneglance.client.async_client import AsyncClient
from oneglance.client.errors import InternalError, OneglanceError, UnavailableError, from_error
from oneglance.client.requests import identify_request, photo
from oneglance.v1.common_pb2 import Example
from oneglance.v1.face_pb2 import Photo
from oneglance.v1.identification_pb2 import (
    DECISION_IDENTIFIED,
    DECISION_NOT_COMPARED,
    UNKNOWN_REASON_AMBIGUOUS,
    UNKNOWN_REASON_NEGATIVE,
    IdentifyRequest,
    IdentifyResult,
    IdentifyStreamResponse,
)
from oneglance_apps.clock import Clock, SystemClock
from oneglance_apps.frames.frame import EncodedFrame
from oneglance_apps.frames.moment import Moment
from oneglance_apps.frames.source_error import SourceError
from oneglance_apps.frames.sources import Source
from oneglance_apps.text import nearest_given, score
from oneglance_apps.watch.appearances import Appearances
from oneglance_apps.watch.camera_state import CameraState
from oneglance_apps.watch.events import Event
from oneglance_apps.watch.frame_reader import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, FrameReader, ReadCounts
from oneglance_apps.watch.lateness import Lateness
from oneglance_apps.watch.recorder import Recorder
from oneglance_apps.watch.records import Frames, Latency
from oneglance_apps.watch.settings import USUAL_MAX_SIDE, WatchSettings
from oneglance_apps.watch.track import Box, Observation
from oneglance_apps.watch.window import Window
from oneglance_core.defaults import MAX_SEARCH_PIXELS

TICK_SECONDS = 0.25  # how often a live source is looked after
SILENT_SECONDS = 30.0  # a server that gives no answer for so long counts as unavailable
FRONTAL_ALIGNMENT_ERROR = 0.08  # a face that looks at the camera has about 0.04 (FaceQuality)
FRAME_ERRORS = (grpc.StatusCode.INVALID_ARGUMENT,)  # concern one frame; other errors concern all frames
TEMPORARY_ERRORS = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
)


@dataclass
class WatchCounts:
    """Counts of frames, faces and events.

    refused: frames that could not be read, or that the server refused; refusal: the last reason.
    lost: frames that were given, and then not sent, or not answered before the connection broke.
    seconds: time of the last answered frame.
    """

    answered: int = 0
    faces: int = 0
    identified: int = 0
    unknown: int = 0
    lost: int = 0
    refused: int = 0
    refusal: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class _Sent:
    """A frame on its way to the server. since: when it was taken; of a file, when its turn came."""

    moment: Moment
    taken: float
    since: float
    encoded: EncodedFrame


class Watcher:
    """Watches one source, and identifies its faces in one gallery.

    recorder: gets each event. warn: called (from any thread) with a message about a temporary problem.
    observe: called with the latency of each answer, in seconds. live: called once the source is open, if it is live.
    """

    def __init__(
        self,
        client: AsyncClient,
        source: Source,
        settings: WatchSettings,
        recorder: Recorder,
        warn: Callable[[str], None],
        clock: Clock | None = None,
        observe: Callable[[float], None] = lambda latency: None,
        live: Callable[[], None] = lambda: None,
    ) -> None:
        self.counts = WatchCounts()
        self.source = source
        self._client = client
        self._settings = settings
        self._recorder = recorder
        self._warn = warn
        self._clock = clock or SystemClock()
        self._observe = observe
        self._live = live
        self._appearances = Appearances(settings.rules)
        self._unanswered: deque[_Sent] = deque()
        self._encoding = 0  # frames being made ready to send
        self._reader: FrameReader | None = None
        self._stopped = asyncio.Event()
        self._takes_photos = False
        self._last_answer_at = self._clock.now()
        self._answer_timeout = asyncio.timeout(None)
        self._lateness = Lateness(None)
        self._camera = CameraState(source.name, settings.lost_after, self._clock.now())
        self._server_lost = False
        self._failed = False
        self._search_told = False

    @property
    def frames(self) -> Frames:
        """All frames of the source so far, by what became of them."""
        read = self._reader.counts if self._reader else ReadCounts()
        counts = self.counts
        return Frames(
            read=read.read,
            answered=counts.answered,
            skipped=read.skipped,
            dropped=read.dropped + counts.lost + counts.refused,
            under_way=read.waiting + len(self._unanswered) + self._encoding,
        )

    @property
    def camera_up(self) -> bool:
        """Frames come, or came to their end."""
        return self._reader is not None and self._camera.lost is None and not self._failed

    @property
    def server_up(self) -> bool:
        """The server answers, as far as is known."""
        return not self._server_lost

    def latency(self, *, of_run: bool = False) -> Latency:
        """Of the answers of the last 5 seconds, or of the whole run."""
        late, now = self._lateness, self._clock.now()
        p50, p99 = (late.of_run(share) if of_run else late.of_late(now, share) for share in (0.5, 0.99))
        return Latency(bound=self._settings.latency, p50=p50, p99=p99)

    def stop(self) -> None:
        """Send no more frames; ``run`` returns once those already sent are answered."""
        self._stopped.set()
        if self._reader:
            self._reader.close()

    async def run(self) -> None:
        """Returns at the end of a file, or after ``stop``.

        Raises SourceError if the source can't be opened, or if a file breaks off or is damaged. Raises OneglanceError
        if the server refuses all frames and, for a file, if it becomes unavailable or gives no answer for 30 seconds.
        For a live source the server is tried again instead.
        """
        try:
            await self._run()
        except (SourceError, OneglanceError) as error:
            self._failed = True
            self._server_lost |= isinstance(error, OneglanceError)
            raise

    async def _run(self) -> None:
        gallery = await self._client.get_gallery(self._settings.gallery)
        if gallery.encoder_loaded:
            self._takes_photos = (await self._client.describe_model(gallery.encoder_digest)).model.takes_photos
        if self._stopped.is_set():
            return
        self._reader = reader = FrameReader(self.source, self._settings.fps, self._warn, self._clock)
        try:
            await reader.open()
            live = self._recorder.live = self.source.live
            if live:
                self._live()
            self._lateness = Lateness(self._settings.latency if live else None)
            self._camera = CameraState(self.source.name, self._settings.lost_after, self._clock.now())
            ticking = asyncio.create_task(self._tick(reader)) if live else None
            try:
                await self._identify(reader)
            finally:
                if ticking:
                    ticking.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await ticking
                self._lose_unanswered()
                self._announce(self._appearances.end(), self._clock.now())
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
                if not self.source.live:
                    raise
                self._lose_unanswered()
                self._announce_leaving()
                if not self._server_lost:
                    self._server_lost = True
                    self._recorder.server("server_lost", str(error))
                if self.counts.answered > before:
                    pause = FIRST_PAUSE_SECONDS
                self._warn(f"{self._client.target}: {error}; trying again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause)
                return
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _identify_once(self, reader: FrameReader) -> None:
        window = Window(self._settings.latency if self.source.live else None)
        requests: asyncio.Queue[IdentifyRequest | None] = asyncio.Queue()
        self._answer_timeout = asyncio.timeout(None)
        try:
            async with self._answer_timeout:
                sending = asyncio.create_task(self._send(reader, window, requests))
                try:
                    async for answer in self._client.identify_stream(_until_none(requests)):
                        window.leave(self._receive(answer))
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

    async def _send(self, reader: FrameReader, window: Window, requests: asyncio.Queue[IdentifyRequest | None]) -> None:
        settings = self._settings
        try:
            while True:
                await window.enter()
                frame = await reader.next()
                if frame is None:
                    return
                since = frame.taken if self.source.live else self._clock.now()
                self._encoding = 1
                encoded = None
                try:
                    encoded = await asyncio.to_thread(frame.encoded, settings.max_side, settings.region)
                except OSError as error:
                    self._count_refusal(str(error))
                    window.leave()
                    continue
                except asyncio.CancelledError:
                    self.counts.lost += 1
                    raise
                finally:
                    self._encoding = 0
                self._unanswered.append(_Sent(frame.moment, frame.taken, since, encoded))
                if len(self._unanswered) == 1:
                    self._await_answer()
                probe = self._photo(encoded) if self._takes_photos else encoded.data
                requests.put_nowait(identify_request(settings.gallery, [probe], max_candidates=1, tau=settings.tau))
        finally:
            requests.put_nowait(None)

    def _photo(self, encoded: EncodedFrame) -> Example:
        settings = self._settings
        asked = settings.max_side > USUAL_MAX_SIDE
        return photo(
            encoded.data,
            small_faces=settings.small_faces,
            upright_only=not settings.turned,
            search_pixels=min(encoded.pixels or MAX_SEARCH_PIXELS, MAX_SEARCH_PIXELS) if asked else 0,
        )

    def _receive(self, answer: IdentifyStreamResponse) -> float:
        """Returns the latency of the frame."""
        sent = self._unanswered.popleft()
        now = self._clock.now()
        self.counts.seconds = sent.moment.seconds
        self._last_answer_at = now
        self._await_answer()
        if answer.HasField("error"):
            self._count_refusal(str(from_error(answer.error)))  # dropped, even if it ends the run
            error = from_error(answer.error)
            if error.code not in FRAME_ERRORS and not (self.source.live and error.code in TEMPORARY_ERRORS):
                raise error
            return now - sent.since
        self.counts.answered += 1
        if self._server_lost:
            self._server_lost = False
            self._recorder.server("server_back", f"{self._client.target} answers again")
        if answer.response.photos and not self._search_told:
            self._search_told = True
            self._tell_search(answer.response.photos[0], sent.encoded)
        compared = [result for result in answer.response.results if result.decision != DECISION_NOT_COMPARED]
        faces = [_observation(result, sent.encoded) for result in compared]
        self.counts.faces += len(faces)
        threshold = answer.response.threshold
        self._announce(
            self._appearances.see(sent.moment, faces, threshold.tau if threshold.source else None), sent.taken
        )
        latency = self._clock.now() - sent.since
        self._lateness.answered(self._clock.now(), latency)
        self._observe(latency)
        return latency

    def _tell_search(self, searched: Photo, encoded: EncodedFrame) -> None:
        """From which size on faces are seen, in pixels of the source's frames: frames may be shrunk on their way."""
        width, height = searched.width * encoded.scale_x, searched.height * encoded.scale_y
        self._warn(
            f"{self.source.name}: faces from {searched.smallest_face * encoded.scale_x:.0f} pixels on are looked for "
            f"in {width:.0f} x {height:.0f}"
        )

    def _announce(self, events: list[Event], taken: float) -> None:
        for event in events:
            self.counts.identified += event.kind == "identified"
            self.counts.unknown += event.kind in ("unknown", "unclear")
            self._recorder.appearance(event, taken)

    def _count_refusal(self, why: str) -> None:
        self.counts.refused += 1
        self.counts.refusal = why

    def _lose_unanswered(self) -> None:
        self.counts.lost += len(self._unanswered)
        self._unanswered.clear()

    async def _tick(self, reader: FrameReader) -> None:
        """Look after a live source while it gives no frames, or the server no answers."""
        while True:
            await self._clock.sleep(TICK_SECONDS)
            self._look(reader)

    def _look(self, reader: FrameReader) -> None:
        """End appearances, and tell what is lost, back or behind."""
        if not self._unanswered:
            self._announce_leaving()
        now = self._clock.now()
        if change := self._camera.look(now, reader.arrived_at, reader.problem):
            self._recorder.camera(change)
        if self._lateness.is_behind(now, self._unanswered[0].taken if self._unanswered else None):
            self._recorder.behind(self.latency(), self.frames)

    def _announce_leaving(self) -> None:
        now = self._clock.now()
        self._announce(self._appearances.until(self.counts.seconds + now - self._last_answer_at), now)


async def _until_none(requests: asyncio.Queue[IdentifyRequest | None]) -> AsyncIterator[IdentifyRequest]:
    while (request := await requests.get()) is not None:
        yield request


def _observation(result: IdentifyResult, encoded: EncodedFrame) -> Observation:
    box = None
    if result.HasField("face"):
        found = result.face.box
        x, y = encoded.scale_x, encoded.scale_y
        box = Box(
            found.x * x + encoded.left,
            found.y * y + encoded.top,
            max(found.width * x, 1e-3),
            max(found.height * y, 1e-3),
        )
    clear = not result.breaches
    error = result.face.quality.alignment_error
    nearest = nearest_given(result.candidates)
    return Observation(
        subject_id=result.subject_id if result.decision == DECISION_IDENTIFIED else None,
        nearest=nearest.subject_id if nearest else None,
        distance=score(nearest) if nearest else None,
        box=box,
        clear=clear,
        frontal=clear and 0 < error <= FRONTAL_ALIGNMENT_ERROR,
        rival=result.next_subject_id if result.unknown_reason == UNKNOWN_REASON_AMBIGUOUS else None,
        withheld=result.unknown_reason == UNKNOWN_REASON_NEGATIVE,
    )
