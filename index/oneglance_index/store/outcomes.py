"""Who hears what came of mutations: a Future of one, or one Future of several."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future, InvalidStateError
from typing import Any, Protocol


class Outcome(Protocol):
    """Hears what came of a mutation: a Future, or a place among many."""

    def set_result(self, result: Any) -> None: ...

    def set_exception(self, exception: BaseException | None) -> None: ...


class Together:
    """Resolves one future with what came of each of several mutations."""

    def __init__(self, future: Future[list[Any]], count: int) -> None:
        self._future = future
        self._outcomes: list[Any] = [None] * count
        self._left = count
        self._lock = threading.Lock()

    def settle(self, place: int, outcome: Any) -> None:
        with self._lock:
            self._outcomes[place] = outcome
            self._left -= 1
            if self._left:
                return
        with contextlib.suppress(InvalidStateError):  # failed as a whole
            self._future.set_result(self._outcomes)


class Place:
    """Of one mutation among those of a Together."""

    __slots__ = ("_place", "_together")

    def __init__(self, together: Together, place: int) -> None:
        self._together, self._place = together, place

    def set_result(self, result: Any) -> None:
        self._together.settle(self._place, result)

    def set_exception(self, exception: BaseException | None) -> None:
        self._together.settle(self._place, exception)
