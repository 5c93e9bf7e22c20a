"""Functions in processes of their own: what is measured there doesn't wait for this process's threads."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from threading import Event
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from tests.waiting import PATIENCE_SECONDS

P = ParamSpec("P")
T = TypeVar("T")
_SPAWN = multiprocessing.get_context("spawn")  # gRPC doesn't survive a fork


def meeting(processes: int) -> Barrier:
    """Where so many processes wait for each other, this one among them. An argument of Apart."""
    return _SPAWN.Barrier(processes)


class Apart(Generic[T]):
    """``work(stop, *arguments)`` in a process of its own, begun at once.

    work: a function of a module's top level; it may end by itself, and should soon after ``stop`` is set.
    """

    def __init__(self, work: "Callable[Concatenate[Event, P], T]", *arguments: P.args, **named: P.kwargs) -> None:
        self._stop = _SPAWN.Event()
        self._answers, theirs = _SPAWN.Pipe(duplex=False)
        self._process = _SPAWN.Process(target=_work, args=(theirs, self._stop, work, arguments, named), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def running(self) -> bool:
        return self._process.is_alive() and not self._answers.poll()

    def result(self, patience_seconds: float = PATIENCE_SECONDS) -> T:
        """What ``work`` returned once it ended by itself. Raises RuntimeError when it failed, TimeoutError."""
        if not self._answers.poll(patience_seconds):
            self._process.kill()
            raise TimeoutError("the work in another process did not end")
        try:
            outcome: T | _Failed = self._answers.recv()
        except EOFError:
            outcome = _Failed("the process ended without an answer")
        self._process.join()
        if isinstance(outcome, _Failed):
            raise RuntimeError(outcome.why)
        return outcome

    def stopped(self, patience_seconds: float = PATIENCE_SECONDS) -> T:
        """Set ``stop``, then as ``result``."""
        self._stop.set()
        return self.result(patience_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()


class _Failed:
    def __init__(self, why: str) -> None:
        self.why = why


def _work(answers: Connection, stop: Any, work: Callable[..., Any], arguments: Any, named: Any) -> None:
    try:
        outcome = work(stop, *arguments, **named)
    except BaseException as error:
        outcome = _Failed(f"{type(error).__name__}: {error}")
    answers.send(outcome)
