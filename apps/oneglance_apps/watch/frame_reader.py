"""Read frames in a thread, for the event loop: every frame of a file, the newest frame of a live source."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from oneglance_apps.clock import Clock
from oneglance_apps.frames.frame import Frame
from oneglance_apps.frames.pace import FilePace, LivePace
from oneglance_apps.frames.source_error import SourceError
from oneglance_apps.frames.sources import Source
from oneglance_core.error_words import in_words

# Before a source, or the server, is tried again: a door waits for it. Cameras lock out who guesses at passwords.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 2.0
LONGEST_PASSWORD_PAUSE_SECONDS = 10.0


@dataclass
class ReadCounts:
    """Frames that were read. ``read`` = ``skipped`` + ``dropped`` + ``given`` + ``waiting``, always.

    skipped: more than are to be looked at. dropped: replaced by a newer one, or not taken before the end.
    given: taken by ``next``. waiting: 0 or 1.
    """

    read: int = 0
    skipped: int = 0
    dropped: int = 0
    given: int = 0
    waiting: int = 0


class FrameReader:
    """Reads ``source`` in a thread of its own, at most ``fps`` frames a second, and holds one frame.

    File: reading waits until the frame is taken; every frame is given. Live source: a newer frame replaces one that was
    not taken. A live source that breaks off is opened again, after 0.5 to 2 seconds; ``warn`` is called (in the
    thread) with a message.

    arrived_at: when the last frame came, skipped ones included, by the clock; None before the first.
    problem: why a live source is not open; None while it is.
    """

    def __init__(self, source: Source, fps: float, warn: Callable[[str], None], clock: Clock) -> None:
        self.arrived_at: float | None = None
        self.problem: SourceError | None = None
        self._counts = ReadCounts()
        self._source = source
        self._fps = fps
        self._pace: FilePace | LivePace = FilePace(fps)
        self._warn = warn
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._changed = asyncio.Event()  # set in the loop when a frame, the end or an error is there
        self._closed = threading.Event()
        self._free = threading.Condition()
        self._frame: Frame | None = None
        self._ended = False
        self._error: SourceError | None = None

    async def open(self) -> None:
        """Returns once the source is open. Raises SourceError."""
        threading.Thread(target=self._read, name="frames", daemon=True).start()
        await self._opened

    @property
    def counts(self) -> ReadCounts:
        with self._free:
            return replace(self._counts, waiting=int(self._frame is not None))

    async def next(self) -> Frame | None:
        """The next frame of a file, or the newest of a live source; None after the end or ``close``.

        Raises SourceError where a file breaks off, and after the last frame of one that is incomplete or damaged.
        """
        while True:
            self._changed.clear()
            with self._free:
                if self._closed.is_set():
                    return None
                frame, self._frame = self._frame, None
                self._free.notify()
                if frame is not None:
                    self._counts.given += 1
                    return frame
                if self._error is not None:
                    raise self._error
                if self._ended:
                    return None
            await self._changed.wait()

    def close(self) -> None:
        """Stop reading. Does not wait for a read that is under way."""
        with self._free:
            self._closed.set()
            self._counts.dropped += self._frame is not None
            self._frame = None
            self._free.notify()
        self._changed.set()
        self._answer_open(None)

    def _read(self) -> None:
        try:
            self._source.open()
        except SourceError as error:
            self._in_loop(self._answer_open, error)
            return
        if self._source.live:
            self._pace = LivePace(self._fps)
        self._in_loop(self._answer_open, None)
        try:
            self._read_on()
        except SourceError as error:
            self._error = error
        except Exception as error:  # whatever it is, nobody must wait for another frame
            self._error = SourceError(f"{self._source.name}: {in_words(error)}")
        finally:
            self._ended = True
            self._in_loop(self._changed.set)

    def _read_on(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._closed.is_set():
            try:
                for frame in self._source.frames():
                    pause = FIRST_PAUSE_SECONDS
                    self._put(frame)
                    if self._closed.is_set():
                        return
                problem = SourceError(f"{self._source.name}: ended", "ended")
            except SourceError as error:
                if not self._source.live:
                    raise
                problem = error
            if not self._source.live:
                return
            self.problem = problem
            self._warn(f"{problem}; trying again in {pause:g} s")
            self._closed.wait(pause)
            guessed = problem.reason == "password"
            pause = min(2 * pause, LONGEST_PASSWORD_PAUSE_SECONDS if guessed else LONGEST_PAUSE_SECONDS)

    def _put(self, frame: Frame) -> None:
        with self._free:
            self._counts.read += 1
            self.arrived_at, self.problem = self._clock.now(), None
            if self._closed.is_set():
                self._counts.dropped += 1
                return
            if not self._pace.due(frame.moment.seconds):
                self._counts.skipped += 1
                return
            if self._source.live:
                self._counts.dropped += self._frame is not None
            elif self._frame is not None:
                self._free.wait_for(lambda: self._frame is None or self._closed.is_set())
                if self._closed.is_set():
                    self._counts.dropped += 1
                    return
            self._frame = frame
        self._in_loop(self._changed.set)

    def _answer_open(self, error: SourceError | None) -> None:
        if self._opened.done():
            return
        if error is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(error)

    def _in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop is closed, so is the reader
            self._closed.set()
