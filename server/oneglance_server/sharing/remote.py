"""RemoteGalleries: the galleries that another process keeps (keeper.py), as a GalleryStore."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc

from oneglance_core.names import composed
from oneglance_index.approximation import EXACT_KIND, ApproximationState
from oneglance_index.audit import acting
from oneglance_index.errors import (
    EngineUnavailable,
    EngineUnsupported,
    GalleryError,
    GalleryNotFound,
    StoreClosed,
)
from oneglance_index.protocol import GalleryStore
from oneglance_index.records import Backup, Gallery
from oneglance_index.threads import started
from oneglance_server.sharing.addresses import Keeping
from oneglance_server.sharing.messages import (
    BYE,
    CANCELLED,
    CODE,
    CODE_KEY,
    METHOD,
    METHODS,
    TOKEN_KEY,
    Answer,
    Asked,
    Call,
    Granted,
    NoQuotas,
    Spending,
    Told,
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


def open_remote(keeping: Keeping, *, patience_seconds: float = 30.0, spending: Spending | None = None) -> GalleryStore:
    """The galleries of a keeper. `spending`: of this process's callers; it is told to all others. Raises
    EngineUnavailable where the keeper doesn't answer within that time."""
    opened = RemoteGalleries(keeping, spending or NoQuotas())
    try:
        opened.await_keeper(patience_seconds)
    except BaseException:
        opened.close(0)
        raise
    return cast(GalleryStore, opened)


class RemoteGalleries:
    """Has all methods of GalleryStore: those that aren't written out here are calls of the keeper. What it decides by
    (known) is as new as the keeper's own: see news.py. While the keeper isn't there all raise EngineUnavailable, and
    whether a write under way then was done isn't known."""

    def __init__(self, keeping: Keeping, spending: Spending) -> None:
        self._keeping = keeping
        self._spending = spending
        self._session: _Session | None = None
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._trouble = "it was never reached"
        self._thread = started("keeper", self._follow)

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            raise AttributeError(name)
        return functools.partial(self._call, name)

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        method = METHODS[name]
        if named.get("caller") is not None:  # whoever it is: there it is one among others that take turns
            named["caller"] = hash(named["caller"])
        written = self._ask(name, raw(method.arguments(*arguments, **named)), method.read_result)
        return written if method.writes else written.result()

    def _ask(self, name: str, arguments: Any, read: Callable[[Any], Any]) -> Future[Any]:
        session = self._session
        if session is None:
            failed: Future[Any] = Future()
            failed.set_exception(self._away())
            return failed
        return session.ask(name, arguments, read)

    def _away(self) -> GalleryError:
        if self._closed.is_set():
            return StoreClosed(Path(self._keeping.name))
        return EngineUnavailable(self._keeping.name, self._trouble)

    # What is answered from what was told.

    @property
    def device(self) -> str:
        return self._present().granted.device

    @property
    def sound(self) -> bool:
        session = self._session
        return session is not None and session.granted is not None and session.granted.sound

    def trouble(self) -> str | None:
        try:
            return self._present().granted.trouble
        except GalleryError as error:
            return str(error)

    def queued_writes(self) -> int:
        session = self._session
        if session is None or session.granted is None:
            return 0
        return session.granted.queued_writes

    def known(self, gallery_id: str) -> Gallery:
        found = self._present().galleries.get(composed(gallery_id))
        if found is None:
            raise GalleryNotFound(gallery_id)
        return found

    def approximation_state(self, gallery_id: str) -> ApproximationState | None:
        gallery = self.known(gallery_id)
        if gallery.active.kind == EXACT_KIND:
            return None
        return self._present().granted.approximations.get(gallery.id, ApproximationState("exact", "being built"))

    def back_up(self, target: Path, ended: Callable[[], bool]) -> Backup:
        raise EngineUnsupported(self._keeping.name, "backups: ask the server that keeps them")

    def _present(self) -> _Present:
        """What was told, while that is sure to be true."""
        session = self._session
        if session is None or session.granted is None or time.monotonic() > session.until:
            raise self._away()
        return _Present(session.galleries, session.granted)

    # The keeper.

    def await_keeper(self, seconds: float) -> None:
        """Raises EngineUnavailable."""
        with self._changed:
            if not self._changed.wait_for(self._is_there, seconds):
                raise self._away()

    def _is_there(self) -> bool:
        return self._session is not None and self._session.granted is not None

    def _follow(self) -> None:
        while not self._closed.is_set():
            session = _Session(self._keeping, self._spending)
            try:
                for told in session.told():
                    session.hear(told)
                    if told.granted is not None and self._session is not session:
                        log.info("the galleries of %s are there", self._keeping.name)
                        with self._changed:
                            self._session = session
                            self._changed.notify_all()
                self._trouble = "it ended the connection"
            except grpc.RpcError as error:
                self._trouble = error.details() or error.code().name
            except Exception as error:
                log.exception("what the keeper of the galleries said can't be understood")
                self._trouble = f"{type(error).__name__}: {error}"
            if self._session is session:
                self._session = None
                if not self._closed.is_set():
                    log.warning("the galleries of %s are away: %s", self._keeping.name, self._trouble)
            session.end(self._away())
            self._closed.wait(_RETRY_SECONDS)

    def close(self, deadline_seconds: float | None = None) -> None:
        session = self._session
        if session is not None and not self._closed.is_set():
            session.await_answers(deadline_seconds)
        self._closed.set()
        if session is not None:
            session.leave()
        self._thread.join()


@dataclass(frozen=True, slots=True)
class _Present:
    galleries: dict[str, Gallery]
    granted: Granted


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

    def __init__(self, keeping: Keeping, spending: Spending) -> None:
        self._spending = spending
        self.galleries: dict[str, Gallery] = {}
        self.granted: Granted | None = None
        self.until = 0.0  # of time.monotonic(): so long it is sure what the galleries are like
        self._lock = threading.Condition()
        self._wake = threading.Event()
        self._calls: list[Call] = []
        self._left: list[int] = []
        self._heard = self._confirmed = 0
        self._numbers = self._hellos = 0
        self._said: dict[int, float] = {}  # when each hello was said
        self._waiting: dict[int, tuple[_Future, Callable[[Any], Any]]] = {}
        self._over: GalleryError | None = None
        self._leaving = False
        self._begun = time.monotonic()
        self._channel = keeping.channel()
        shown = ((CODE_KEY, CODE), *([(TOKEN_KEY, keeping.token)] if keeping.token else []))
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
        if told.news > self._heard:
            self._heard = told.news
            self._wake.set()
        if told.granted is not None:
            self.granted = told.granted
            self.until = self._said.pop(told.granted.hello) + told.granted.seconds
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
        elif answer.fault is not None:
            future.set_exception(error_of(answer.fault))
        else:
            future.set_result(read(answer.result))

    def ask(self, method: str, arguments: Any, read: Callable[[Any], Any]) -> Future[Any]:
        with self._lock:
            self._numbers += 1
            number = self._numbers
            future = _Future(functools.partial(self._forget, number))
            if self._over is not None:
                future.set_exception(self._over)
                return future
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
            seconds = self.granted.seconds if self.granted is not None else 1.0
            now = time.monotonic()
            if now > max(self.until, self._begun) + _DEAD_AFTER * seconds:
                self._stream.cancel()
                return
            hello = 0
            if now - last >= seconds / _HELLOS:
                last = now
                self._hellos += 1
                hello = self._hellos
                self._said[hello] = now
            with self._lock:
                calls, self._calls = self._calls, []
                left, self._left = self._left, []
            heard = self._heard
            if calls or left or hello or heard > self._confirmed or self._leaving:
                self._confirmed = heard
                spent = self._spending.take() if hello else []
                yield encoded(Asked(calls, left, heard, BYE if self._leaving else hello, spent))
            if self._leaving:
                return
            self._wake.wait(max(0.0, last + seconds / _HELLOS - time.monotonic()))
            self._wake.clear()

    def await_answers(self, seconds: float | None) -> None:
        with self._lock:
            self._lock.wait_for(lambda: not self._waiting, seconds)

    def leave(self) -> None:
        self._leaving = True
        self._wake.set()

    def end(self, why: GalleryError) -> None:
        """What waits for answers gets none."""
        with self._lock:
            self._over = why
            waiting, self._waiting = self._waiting, {}
            self._lock.notify_all()
        self._wake.set()
        self._stream.cancel()
        for future, _ in waiting.values():
            future.set_exception(why)
        with contextlib.suppress(Exception):
            self._channel.close()
