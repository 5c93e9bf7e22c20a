"""Deliver events to one output: each in time, or not at all.

::

    NotReached     nothing was sent: it may be tried again in any case
    NotTaken       the output answered that it failed
      Refused      and that another try would fail as well
    NoAnswer       it was sent, and nobody knows whether it was taken
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from oneglance_apps.clock import Clock, within
from oneglance_apps.watch.records import Record
from oneglance_apps.watch.settings import URGENT, DeliveryRules

Outcome = Literal["delivered", "expired", "refused", "unanswered", "overflowed", "unsent"]

MOST_WAITING = 1000
FAST_LANES = 8
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


class DeliveryError(Exception):
    """Why an event was not delivered, in words for people."""


class NotReached(DeliveryError):
    """Nothing was sent: the output can't have taken it."""


class NotTaken(DeliveryError):
    """The output says that it failed."""


class Refused(NotTaken):
    """The output says that it would fail again."""


class NoAnswer(DeliveryError):
    """It was sent, and the output may have taken it."""


class Output(Protocol):
    """Where events go."""

    name: str

    async def send(self, record: Record, left: float) -> None:
        """Send one event; ``left``: it must not be sent later than in so many seconds. Raises DeliveryError."""

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Letter:
    """An event on its way. taken, expires_at: by the clock's ``now``."""

    record: Record
    taken: float
    expires_at: float


@dataclass
class DeliveryCounts:
    """Events by what became of them."""

    delivered: int = 0
    expired: int = 0
    refused: int = 0
    unanswered: int = 0
    overflowed: int = 0
    unsent: int = 0

    @property
    def failed(self) -> int:
        return self.expired + self.refused + self.unanswered + self.overflowed + self.unsent


def _ignore(*_: object) -> None:
    pass


@dataclass
class Listener:
    """Called about each event: ``warn`` with a message when deliveries begin to fail, and when they work again;
    ``expired`` with an event that expired; ``count`` with what became of each."""

    warn: Callable[[str], None] = _ignore
    expired: Callable[[Letter, str], None] = _ignore
    count: Callable[[str, Outcome], None] = _ignore


@dataclass
class _Lane:
    """Events of one urgency: so many are sent at the same time, the others wait in order."""

    free: asyncio.Semaphore
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Outbox:
    """Sends events to one output, without ever delaying the caller.

    Urgent events (URGENT) have a lane of their own, and 8 at a time are under way, so that neither one another nor
    other events hold them up. Other events are sent one after the other, in order. An event that waits, or is tried
    again, until it is too old is not sent. At most 1,000 wait in each lane.
    """

    def __init__(self, output: Output, rules: DeliveryRules, clock: Clock, listener: Listener) -> None:
        self.counts = DeliveryCounts()
        self.name = output.name
        self._output = output
        self._rules = rules
        self._clock = clock
        self._listener = listener
        self._urgent = _Lane(asyncio.Semaphore(FAST_LANES))
        self._other = _Lane(asyncio.Semaphore(1))
        self._closed = False
        self._troubled = False

    def put(self, letter: Letter) -> None:
        """Take over an event; returns at once."""
        lane = self._urgent if letter.record.kind in URGENT else self._other
        if self._closed:
            self._note(letter, "unsent", "it ended")
        elif len(lane.tasks) >= MOST_WAITING:
            self._note(letter, "overflowed", f"{MOST_WAITING:,} events wait already")
        else:
            task = asyncio.create_task(self._deliver(letter, lane))
            lane.tasks.add(task)
            task.add_done_callback(lane.tasks.discard)

    async def close(self, seconds: float) -> None:
        """Deliver what waits, for at most ``seconds``; the rest is not sent."""
        self._closed = True
        tasks = [*self._urgent.tasks, *self._other.tasks]
        if tasks:
            try:
                await within(self._clock, seconds, _all(tasks))
            except TimeoutError:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
        await self._output.close()

    async def _deliver(self, letter: Letter, lane: _Lane) -> None:
        outcome: Outcome = "unsent"
        problem = "stopped"
        try:
            outcome, problem = await self._in_time(letter, lane)
        finally:  # also when it is cancelled
            self._note(letter, outcome, problem)

    async def _in_time(self, letter: Letter, lane: _Lane) -> tuple[Outcome, str]:
        try:
            await within(self._clock, self._left(letter), lane.free.acquire())
        except TimeoutError:
            return "expired", "earlier events still wait for an answer"
        try:
            return await self._tries(letter)
        finally:
            lane.free.release()

    async def _tries(self, letter: Letter) -> tuple[Outcome, str]:
        again = self._rules.delivery == "at-least-once"
        outcome: Outcome = "expired"
        problem = "it came too late"
        pause = FIRST_PAUSE_SECONDS
        while (left := self._left(letter)) > 0:
            record = letter.record.model_copy(update={"age": round(self._clock.now() - letter.taken, 3)})
            try:
                await within(self._clock, self._rules.answer_seconds, self._output.send(record, left))
            except NotReached as error:
                problem = str(error)
            except NotTaken as error:
                outcome, problem = "refused", str(error)
                if isinstance(error, Refused) or not again:
                    break
            except (NoAnswer, TimeoutError) as error:
                outcome, problem = "unanswered", str(error) or f"no answer for {self._rules.answer_seconds:g} s"
                if not again:
                    break
            else:
                return "delivered", ""
            await self._clock.sleep(min(pause, max(0.0, self._left(letter))))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return outcome, problem

    def _left(self, letter: Letter) -> float:
        return letter.expires_at - self._clock.now()

    def _note(self, letter: Letter, outcome: Outcome, problem: str) -> None:
        setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
        self._listener.count(self.name, outcome)
        if outcome == "expired":
            self._listener.expired(letter, self.name)
        failed = outcome != "delivered"
        if failed != self._troubled:
            self._troubled = failed
            self._listener.warn(
                f"{self.name}: {problem}; an event was not delivered"
                if failed
                else f"{self.name}: takes events again; {self.counts.failed} were not delivered"
            )


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
