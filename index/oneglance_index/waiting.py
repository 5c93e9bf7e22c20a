"""What is made of the result of a write before anybody gets it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


def then(written: Future[T], make: Callable[[T], U]) -> Future[U]:
    """The future of what `make` makes of the result."""
    return _Made(written, make)


class _Made(Future[U], Generic[T, U]):
    def __init__(self, written: Future[T], make: Callable[[T], U]) -> None:
        super().__init__()
        self._written = written
        self._make = make
        written.add_done_callback(self._settle)

    def cancel(self) -> bool:
        """Cancels the write, if it hasn't begun."""
        return self._written.cancel()

    def _settle(self, written: Future[T]) -> None:
        if written.cancelled():
            super().cancel()
        elif (error := written.exception()) is not None:
            self.set_exception(error)
        else:
            try:
                made = self._make(written.result())
            except Exception as failure:
                self.set_exception(failure)
            else:
                self.set_result(made)
