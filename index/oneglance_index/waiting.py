"""What is made of the result of a write before anybody gets it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


def then(written: Future[T], make: Callable[[T], U]) -> Future[U]:
    """The future of what `make` makes of the result."""
    return _Made(written, make)


class After(Future[U]):
    """Of what comes after a write. To cancel it cancels the write, if that hasn't begun."""

    def __init__(self, written: Future[Any]) -> None:
        super().__init__()
        self._written = written

    def cancel(self) -> bool:
        return self._written.cancel()

    def was_cancelled(self) -> None:
        """The write was."""
        super().cancel()


class _Made(After[U], Generic[T, U]):
    def __init__(self, written: Future[T], make: Callable[[T], U]) -> None:
        super().__init__(written)
        self._make = make
        written.add_done_callback(self._settle)

    def _settle(self, written: Future[T]) -> None:
        if written.cancelled():
            self.was_cancelled()
        elif (error := written.exception()) is not None:
            self.set_exception(error)
        else:
            try:
                made = self._make(written.result())
            except Exception as failure:
                self.set_exception(failure)
            else:
                self.set_result(made)
