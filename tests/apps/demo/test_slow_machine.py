"""The demo's kill comes after enough acknowledgements, however long these take; it gives up where none comes."""

import threading
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from oneglance import Client, UnavailableError
from oneglance_apps.demo import durability
from oneglance_apps.demo.errors import DemoError
from oneglance_apps.demo.pictures import Picture
from oneglance_apps.server_process import ServerProcess


class Slow:
    """Server, client and clock in one: each look at the log is one enrollment of ``seconds``; ``last`` is the last."""

    def __init__(self, seconds: float, last: int) -> None:
        self.seconds, self.last, self.enrolled, self.waited = seconds, last, 0, 0.0
        self.turn, self.went, self.killed = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def enroll(self, *_: Any, **__: Any) -> None:
        self.turn.acquire()
        self.enrolled += 1
        self.went.release()
        if self.enrolled > self.last:
            self.killed.wait()
        if self.killed.is_set():
            raise UnavailableError("killed")

    def kill(self) -> None:
        self.killed.set()
        self.turn.release()

    def monotonic(self) -> float:
        return self.seconds * self.enrolled + self.waited

    def sleep(self, _: float) -> None:
        if self.enrolled > self.last:
            self.waited += 1
        else:
            self.turn.release()
            self.went.acquire()


class Drawn:
    def example(self) -> Any:
        return np.zeros((1, 1), np.uint8)


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Callable[[Slow, int], list[str]]:
    def run(slow: Slow, at_least: int) -> list[str]:
        monkeypatch.setattr(durability, "WRITERS", 1)
        monkeypatch.setattr(durability, "monotonic", slow.monotonic)
        monkeypatch.setattr(durability, "sleep", slow.sleep)
        server, client = cast(ServerProcess, slow), cast(Client, slow)
        pictures = [cast(Picture, Drawn())]
        return durability._write_until_killed(server, client, pictures, at_least, lambda *_: None).acknowledged

    return run


def test_a_slow_machine_takes_its_time(write: Callable[[Slow, int], list[str]]) -> None:
    assert len(write(Slow(seconds=20, last=6), 6)) == 6  # 120 s, four times what is waited for one


def test_it_gives_up_where_nothing_is_acknowledged_any_more(write: Callable[[Slow, int], list[str]]) -> None:
    with pytest.raises(DemoError, match="only 3 of 6 enrollments"):
        write(Slow(seconds=0, last=3), 6)
