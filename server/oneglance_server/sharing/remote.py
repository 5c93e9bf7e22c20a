"""RemoteGalleries: the galleries that another process keeps (keeper.py), as a GalleryStore."""

from __future__ import annotations

import contextlib
import functools
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, cast

import grpc

from oneglance_core.names import composed
from oneglance_index.approximation import EXACT_KIND, ApproximationState
from oneglance_index.audit import acting
from oneglance_index.errors import (
    EngineUnavailable,
    EngineUnsupported,
    GalleryError,
    GalleryNotFound,
    OutOfMemory,
    StoreClosed,
)
from oneglance_index.protocol import GalleryStore
from oneglance_index.records import Backup, Gallery
from oneglance_index.threads import started
from oneglance_server.sharing.addresses import Keeping
from oneglance_server.sharing.beside import Beside
from oneglance_server.sharing.code import code
from oneglance_server.sharing.files import RemoteFiles, clock
from oneglance_server.sharing.messages import (
    BYE,
    CANCELLED,
    CODE_KEY,
    METHOD,
    METHODS,
    TOKEN_KEY,
    USER_KEY,
    Answer,
    Asked,
    Call,
    Granted,
    NoQuotas,
    Spending,
    Told,
    at_once,
    encoded,
    error_of,
    raw,
    read_told,
)

log = logging.getLogger(__name__)

# So many hellos in the time that one is granted.
_HELLOS = 4
# A keeper that grants nothing for so many times that is taken for dead.
_DEAD_AFTER = 4
_RETRY_SECONDS = 0.25
# A keeper that is told goodbye ends the connection.
_LEAVE_SECONDS = 1.0


def open_remote(
    keeping: Keeping,
    *,
    patience_seconds: float = 30.0,
    spending: Spending | None = None,
    on_gone: Callable[[str], None] = lambda _: None,
    files: RemoteFiles | None = None,
) -> SharedGalleries:
    """The galleries of a keeper. `spending`: of this process's callers; it is told to all others. `on_gone` hears, in a
    thread of this, of each that is gone, whoever deleted it. `files` become those of the keeper. Raises
    EngineUnavailable where a keeper of this code doesn't answer within that time, or wants another token."""
    opened = RemoteGalleries(keeping, spending, on_gone, files)
    try:
        opened.await_keeper(patience_seconds)
    except BaseException:
        opened.close(0)
        raise
    return cast(SharedGalleries, opened)


class SharedGalleries(GalleryStore, Beside, Protocol):
    """Of a keeper."""


class RemoteGalleries:
    """Has all methods of GalleryStore and of Beside: those that aren't written out here are calls of the keeper. What
    it decides by (known) is as new as the keeper's own: see news.py. While the keeper isn't there all raise
    EngineUnavailable, and whether a write under way then was done isn't known; what wasn't done by then never is."""

    def __init__(
        self,
        keeping: Keeping,
        spending: Spending | None = None,
        on_gone: Callable[[str], None] = lambda _: None,
        files: RemoteFiles | None = None,
    ) -> None:
        self._keeping, self._spending, self._on_gone = keeping, spending or NoQuotas(), on_gone
        self._galleries: Mapping[str, Gallery] = {}  # of the last session
        self._files = files or RemoteFiles()
        self._files.keeping = cast(Beside, self)
        self._name = secrets.token_hex(16)
        self._session: _Session | None = None  # once it was granted something
        self._newest: _Session | None = None
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._trouble, self._refused = "it was never reached", False
        self._thread = started("keeper", self._follow)

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            raise AttributeError(name)
        return functools.partial(self._call, name)

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        method = METHODS[name]
        if named.get("caller") is not None:  # whoever it is: there it is one among others that take turns
            named["caller"] = hash(named["caller"])
        given = method.arguments(*arguments, **named)
        try:
            asked = self._ask(name, raw(given), method.read_result if method.writes else None)
        except GalleryError as error:
            asked = failed(error)
        except (ValueError, TypeError, OverflowError, NotImplementedError) as error:  # it can't be sent
            asked = failed(ValueError(str(error)))
        except MemoryError:
            asked = failed(OutOfMemory("to ask the keeper of the galleries"))
        return asked if method.writes else method.read_result(asked.result())

    def _ask(self, name: str, arguments: Any, read: Callable[[Any], Any] | None) -> Future[Any]:
        """`read` makes the result of the answer; None: that is left to the caller. Raises EngineUnavailable,
        StoreClosed."""
        return self._here(patient=True).ask(name, arguments, read)

    def _here(self, *, patient: bool = False) -> _Session:
        """Of which it is sure what the galleries are like, or (`patient`) was a moment ago. Raises EngineUnavailable,
        StoreClosed."""
        session = self._session
        if session is None or self._closed.is_set():
            raise self._away()
        if clock() > session.until + patient * session.granted.seconds:
            raise EngineUnavailable(self._keeping.name, "it doesn't answer")
        return session

    def _away(self) -> GalleryError:
        if self._closed.is_set():
            return StoreClosed(Path(self._keeping.name))
        return EngineUnavailable(self._keeping.name, self._trouble)

    # What is answered from what was told.

    @property
    def device(self) -> str:
        return self._here().granted.device

    @property
    def sound(self) -> bool:
        session = self._session
        return session is not None and session.granted.sound

    def trouble(self) -> str | None:
        try:
            return self._here().granted.trouble
        except GalleryError as error:
            return str(error)

    def queued_writes(self) -> int:
        session = self._session
        return 0 if session is None else session.granted.queued_writes

    def known(self, gallery_id: str) -> Gallery:
        galleries = self._here().galleries
        found = galleries.get(gallery_id) or galleries.get(composed(gallery_id))
        if found is None:
            raise GalleryNotFound(gallery_id)
        return found

    def approximation_state(self, gallery_id: str) -> ApproximationState | None:
        gallery = self.known(gallery_id)
        if gallery.active.kind == EXACT_KIND:
            return None
        told = self._here().granted.approximations
        return told.get(gallery.id, ApproximationState("exact", "being built"))

    def back_up(self, target: Path, ended: Callable[[], bool]) -> Backup:
        raise EngineUnsupported(self._keeping.name, "backups to a file that isn't the keeper's")

    @property
    def backs_up(self) -> bool:
        return self._here().granted.backs_up

    # The keeper.

    def await_keeper(self, seconds: float) -> None:
        """Raises EngineUnavailable: at once where it wants another token; one of other code may be about to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._session is not None or self._refused, seconds)
            if self._session is None:
                raise self._away()

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                session = _Session(self._keeping, self._name, self._spending, self._files)
            except Exception as error:  # want of memory, or of threads
                self._tell_away(f"{type(error).__name__}: {error}")
            else:
                self._newest = session
                if not self._closed.is_set():
                    self._hear(session)
                session.end(self._away)
            self._closed.wait(_RETRY_SECONDS)

    def _hear(self, session: _Session) -> None:
        """Until it is over."""
        trouble, refused = "it ended the connection", False
        try:
            for told in session.told():
                session.hear(told)
                if told.galleries or told.anew:
                    self._tell_gone(session, told)
                if told.granted is not None and self._session is not session:
                    log.info("the galleries of %s are there", self._keeping.name)
                    with self._changed:
                        self._session, self._trouble = session, ""
                        self._changed.notify_all()
        except grpc.RpcError as error:
            trouble, refused = error.details() or error.code().name, error.code() == grpc.StatusCode.UNAUTHENTICATED
        except Exception as error:
            log.exception("what the keeper of the galleries said can't be understood")
            trouble = f"{type(error).__name__}: {error}"
        self._session = None
        self._tell_away(trouble, refused)

    def _tell_gone(self, session: _Session, told: Told) -> None:
        if told.anew:
            former, self._galleries = self._galleries, session.galleries
            gone = [*(former.keys() - session.galleries.keys())]
        else:
            gone = [gallery_id for gallery_id, gallery in told.galleries if gallery is None]
        for gallery_id in gone:
            self._on_gone(gallery_id)

    def _tell_away(self, trouble: str, refused: bool = False) -> None:
        if trouble != self._trouble and not self._closed.is_set():
            log.warning("the galleries of %s are away: %s", self._keeping.name, trouble)
        with self._changed:
            self._trouble, self._refused = trouble, refused
            self._changed.notify_all()

    def close(self, deadline_seconds: float | None = None) -> None:
        first = not self._closed.is_set()
        self._closed.set()
        session = self._session
        if session is not None:
            if first:
                session.await_answers(deadline_seconds)
            session.leave()
            self._thread.join(_LEAVE_SECONDS)
        if self._newest is not None:
            self._newest.cancel()
        self._thread.join()


class _Future(Future[Any]):
    """Of a write. To cancel it is a wish: the keeper tells whether it came in time."""

    def __init__(self, leave: Callable[[], None]) -> None:
        super().__init__()
        self._leave = leave

    def cancel(self) -> bool:
        if not self.done():
            self._leave()
        return False

    def cancelled_there(self) -> None:
        super().cancel()
        self.set_running_or_notify_cancel()


class _Session:
    """One stream of messages to a keeper and back."""

    granted: Granted  # once it was

    def __init__(self, keeping: Keeping, name: str, spending: Spending, files: RemoteFiles) -> None:
        self._spending, self._files = spending, files
        self.galleries: dict[str, Gallery] = {}
        self.until = 0.0  # of clock(): so long it is sure what the galleries are like
        self._seconds = 1.0  # that are granted
        self._lock = threading.Condition()
        self._wake = threading.Event()
        self._calls: list[Call] = []
        self._left: list[int] = []
        self._heard = self._confirmed = 0
        self._numbers = self._hellos = 0
        self._said: dict[int, float] = {}  # when each hello was said
        self._waiting: dict[int, tuple[_Future, Callable[[Any], Any] | None]] = {}
        self._over: Callable[[], GalleryError] | None = None
        self._leaving = False
        self._begun = clock()
        self._channel = keeping.channel()
        shown = ((CODE_KEY, code()), (USER_KEY, name), *([(TOKEN_KEY, keeping.token)] if keeping.token else []))
        use: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(METHOD)
        self._stream = use(self._messages(), metadata=shown)

    def told(self) -> Iterator[Told]:
        for message in self._stream:
            yield read_told(message)

    def hear(self, told: Told) -> None:
        if told.anew:
            self.galleries.clear()
        for gallery_id, gallery in told.galleries:
            if gallery is None:
                self.galleries.pop(gallery_id, None)
            else:
                self.galleries[gallery_id] = gallery
        if told.anew or told.files:
            self._files.hear(told.files, anew=told.anew)
        if told.news > self._heard:
            self._heard = told.news
            self._wake.set()
        if told.granted is not None:
            self.granted, self._seconds = told.granted, told.granted.seconds
            self.until = self._said[told.granted.hello] + told.granted.seconds
            self._files.until = self.until
            for hello in [hello for hello in list(self._said) if hello <= told.granted.hello]:
                del self._said[hello]
        if told.spent:
            self._spending.spent_elsewhere(told.spent)
        for answer in told.answers:
            self._settle(answer)

    def _settle(self, answer: Answer) -> None:
        with self._lock:
            future, read = self._waiting.pop(answer.number)
            if not self._waiting:
                self._lock.notify_all()
        if answer.fault == CANCELLED:
            future.cancelled_there()
            return
        try:
            if answer.fault is not None:
                raise error_of(answer.fault)
            result = answer.result if read is None else read(answer.result)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def ask(self, method: str, arguments: Any, read: Callable[[Any], Any] | None) -> Future[Any]:
        with self._lock:
            self._numbers += 1
            number = self._numbers
            future = _Future(functools.partial(self._forget, number))
            if self._over is not None:
                raise self._over()
            self._waiting[number] = future, read
            self._calls.append(Call(number, method, acting.get(), arguments))
        self._wake.set()
        return future

    def _forget(self, number: int) -> None:
        with self._lock:
            self._left.append(number)
        self._wake.set()

    def _messages(self) -> Iterator[bytes]:
        """In a thread of gRPC's."""
        last = 0.0
        while self._over is None:
            now = clock()
            if now > max(self.until, self._begun) + _DEAD_AFTER * self._seconds:
                self._stream.cancel()
                return
            hello = 0
            if now - last >= self._seconds / _HELLOS:
                last = now
                self._hellos += 1
                hello = self._hellos
                self._said[hello] = now
            self._wake.clear()
            with self._lock:
                count = at_once(self._calls, lambda one: len(one.arguments))
                calls, self._calls = self._calls[:count], self._calls[count:]
                more = bool(self._calls)
                left, self._left = ([], self._left) if more else (self._left, [])
            heard = self._heard
            leaving = self._leaving and not more
            if calls or left or hello or heard > self._confirmed or leaving:
                self._confirmed = heard
                spent = self._spending.take() if hello or leaving else []
                yield encoded(Asked(calls, left, heard, BYE if leaving else hello, spent))
            if leaving:
                return
            if not more:
                self._wake.wait(max(0.0, last + self._seconds / _HELLOS - clock()))

    def await_answers(self, seconds: float | None) -> None:
        with self._lock:
            self._lock.wait_for(lambda: not self._waiting, seconds)

    def leave(self) -> None:
        self._leaving = True
        self._wake.set()

    def cancel(self) -> None:
        self._stream.cancel()

    def end(self, why: Callable[[], GalleryError]) -> None:
        """What waits for answers gets none, but this."""
        with self._lock:
            self._over = why
            waiting, self._waiting = self._waiting, {}
            self._lock.notify_all()
        self._wake.set()
        self._stream.cancel()
        for future, _ in waiting.values():
            future.set_exception(why())
        with contextlib.suppress(Exception):
            self._channel.close()


def failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
