"""Writer: the thread that brings changes of all indexes to Milvus, drops those of deleted galleries, and has Milvus
forget what was deleted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from oneglance_core.error_words import in_words
from oneglance_index.search.milvus.engine import NotForgotten
from oneglance_index.threads import started

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
# Milvus's files are to forget a deletion so long behind it, or in half of the time that somebody said, if that is less:
# each time costs witnesses. Where that failed, the next tries follow at growing distances.
_FORGET_SECONDS = 7 * 86_400.0
_FORGET_AGAIN_SECONDS, _FORGET_AGAIN_AT_MOST = 600.0, 86_400.0
_LOOK_SECONDS = 60.0


class Turn:
    """A lock that tells whether somebody waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = 0
        self._counting = threading.Lock()

    @property
    def wanted(self) -> bool:
        return self._waiting > 0

    def __enter__(self) -> None:
        with self._counting:
            self._waiting += 1
        try:
            self._lock.acquire()
        finally:
            with self._counting:
                self._waiting -= 1

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Written(Protocol):
    """An index whose rows are at Milvus."""

    @property
    def name(self) -> str: ...
    @property
    def retired(self) -> bool: ...
    def write(self) -> bool: ...
    def seal(self) -> None: ...
    def drop(self) -> None: ...
    def unforgotten_since(self) -> int | None: ...
    def has_room(self) -> bool: ...
    def forget(self, go_on: Callable[[], bool]) -> None: ...


class Writer:
    """`engine`: its name. `copy_seconds`: how long Milvus may have copies of what is deleted; 0: nobody said."""

    def __init__(self, engine: str, copy_seconds: float = 0.0) -> None:
        self._engine, self._copy_seconds = engine, copy_seconds
        self._forget_seconds = min(_FORGET_SECONDS, copy_seconds / 2 or _FORGET_SECONDS)
        self._indexes = set[Written]()  # those that are looked after
        self._tries: dict[Written, _Try] = {}  # of those that didn't forget
        self._due: dict[Written, bool] = {}  # and whether it is to be dropped
        self._told = threading.Condition()
        self._turns: dict[int, Turn] = {}  # by generation
        self._hurrying, self._closing = False, False
        self._thread = started("milvus", self._loop)

    def turn_of(self, generation: int) -> Turn:
        """Held by whoever writes rows of this generation."""
        with self._told:
            return self._turns.setdefault(generation, Turn())

    def look_after(self, index: Written) -> None:
        with self._told:
            self._indexes.add(index)

    def due(self, index: Written) -> None:
        with self._told:
            self._indexes.add(index)
            if self._due.setdefault(index, False) is False:
                self._told.notify()

    def drop(self, index: Written) -> None:
        with self._told:
            self._due[index] = True
            self._told.notify()

    def hurry(self) -> None:
        """It is about to be closed: nothing that takes long is begun, or gone on with."""
        self._hurrying = True

    def close(self, seconds: float) -> None:
        """Writes what waits, for so long at most: the next start does the rest."""
        self.hurry()
        with self._told:
            self._closing = True
            self._told.notify()
        self._thread.join(seconds)

    def _loop(self) -> None:
        while True:
            with self._told:
                if not self._due and not self._closing:
                    self._told.wait(min(_LOOK_SECONDS, self._forget_seconds))
                due, self._due = self._due, {}
            if not due and self._closing:
                return
            for index, drop in due.items():
                try:
                    if drop:
                        index.drop()
                    elif index.write():
                        self.due(index)
                    else:
                        index.seal()
                except Exception as error:  # it is in the store: tried again, and at the next start
                    log.debug("writing to %s failed: %s", self._engine, in_words(error))
                    if self._closing:
                        return
                    (self.drop if drop else self.due)(index)
                    time.sleep(_RETRY_SECONDS)
            if index_due := self._to_forget():
                self._forget(*index_due)

    def _live(self) -> list[Written]:
        with self._told:
            self._indexes = {one for one in self._indexes if not one.retired}
            return list(self._indexes)

    def _to_forget(self) -> tuple[Written, int] | None:
        """One that has something to forget by now, and since when."""
        live = self._live()
        self._tries = {index: one for index, one in self._tries.items() if index in live}
        for index in live:
            since, tried = index.unforgotten_since(), self._tries.get(index)
            due = since is not None and time.time() >= since + self._forget_seconds
            if since is not None and due and (tried is None or time.monotonic() >= tried.next):
                return index, since
        return None

    def _forget(self, index: Written, since: int) -> None:
        def go_on() -> bool:
            return not self._hurrying and all(one.has_room() for one in self._live())

        if self._hurrying:
            return
        try:
            if not go_on():
                raise NotForgotten("others are enrolled too fast")
            index.forget(go_on)
            self._tries.pop(index, None)
        except Exception as error:
            tried = self._tries.setdefault(index, _Try())
            tried.failed()
            late = time.time() > since + (self._copy_seconds or 2 * self._forget_seconds)
            log.log(
                logging.WARNING if late else logging.INFO,
                "files of %s at %s may have rows that were deleted since %s: %s",
                *(index.name, self._engine, _date(since)),
                str(error) if isinstance(error, NotForgotten) else in_words(error),
            )


class _Try:
    """Of forgetting, in vain: when the next one is, of time.monotonic()."""

    def __init__(self) -> None:
        self.next = 0.0
        self._pause = _FORGET_AGAIN_SECONDS

    def failed(self) -> None:
        self.next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _FORGET_AGAIN_AT_MOST)


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
