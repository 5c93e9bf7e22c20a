"""Calls from a process of its own: so many in flight, or so many a second whether they are answered or not.

Requests and answers are bytes, so that any server of the protocol can be asked.
"""

import asyncio
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from oneglance.v1.error_pb2 import Error

SERVICE = "/oneglance.v1."
UNANSWERED = "UNANSWERED"
_ERROR_KEY = "oneglance-error-bin"
_CHANNEL_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@dataclass(frozen=True)
class Flow:
    """Calls of one method.

    payloads: sent in turn. in_flight: a closed loop of so many callers; 0: an open loop of ``per_second`` calls, at
    random moments (a Poisson process), or ``even``.
    """

    name: str
    method: str
    payloads: tuple[bytes, ...] = field(repr=False)
    in_flight: int = 0
    per_second: float = 0.0
    even: bool = False
    deadline_seconds: float | None = None
    connections: int = 1


@dataclass
class Calls:
    """What became of the calls of a flow.

    begun: time.monotonic() when each was due (open loop) or sent; float64 [n]. seconds: until its answer, float64 [n].
    what: OK, or the gRPC code and our reason.
    """

    begun: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    what: list[str]

    def between(self, start: float, end: float) -> "Calls":
        """Those due or sent in that time."""
        return self._only((self.begun >= start) & (self.begun < end))

    def of(self, *, ok: bool) -> "Calls":
        """Those answered OK, or all others."""
        return self.such(lambda what: (what == "OK") == ok)

    def such(self, wanted: Callable[[str], bool]) -> "Calls":
        """Those whose ``what`` is wanted."""
        return self._only(np.array([wanted(what) for what in self.what], bool))

    def _only(self, chosen: npt.NDArray[np.bool_]) -> "Calls":
        what = [self.what[i] for i in np.flatnonzero(chosen)]
        return Calls(self.begun[chosen], self.seconds[chosen], what)

    def __len__(self) -> int:
        return len(self.what)

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.what)

    def ms(self, percentile: float) -> float:
        """Of the seconds, in milliseconds; NaN without calls."""
        return float(np.percentile(self.seconds, percentile)) * 1e3 if len(self) else float("nan")


@dataclass
class Sent:
    """By flow. ``cores``: used while it sent. ``late_ms``: how late calls were sent, 99th percentile."""

    calls: dict[str, Calls]
    cores: float
    late_ms: float


def send(stop: Event, address: str, flows: list[Flow], seconds: float = float("inf"), linger: float = 30.0) -> Sent:
    """Send all flows at once until ``stop`` or for ``seconds``; then wait ``linger`` seconds for what is unanswered."""
    return asyncio.run(_Sender(stop, address, time.monotonic() + seconds, linger).send(flows))


class _Sender:
    def __init__(self, stop: Event, address: str, until: float, linger: float) -> None:
        self._stop = stop
        self._address = address
        self._until = until
        self._linger = linger
        self._rows: list[tuple[str, float, float, str]] = []
        self._late: list[float] = []
        self._begun, self._cpu = time.monotonic(), cpu_seconds()
        self._cores = 0.0

    async def send(self, flows: list[Flow]) -> Sent:
        watch = asyncio.create_task(self._watch())
        await asyncio.gather(*(self._flow(flow) for flow in flows))
        watch.cancel()
        calls = {flow.name: self._calls(flow) for flow in flows}
        return Sent(calls, self._cores, float(np.percentile(self._late, 99)) * 1e3 if self._late else 0.0)

    def _calls(self, flow: Flow) -> Calls:
        rows = [row for row in self._rows if row[0] == flow.name]
        times = np.array([row[1:3] for row in rows], float).reshape(-1, 2)
        return Calls(times[:, 0], times[:, 1], [row[3] for row in rows])

    async def _watch(self) -> None:
        while not self._stop.is_set():
            await asyncio.sleep(0.05)
        self._until = 0.0

    async def _flow(self, flow: Flow) -> None:
        channels = [grpc.aio.insecure_channel(self._address, options=_CHANNEL_OPTIONS) for _ in range(flow.connections)]
        calls: list[Any] = [channel.unary_unary(flow.method) for channel in channels]
        if flow.in_flight:
            await self._bounded([self._caller(flow, calls[i % len(calls)], i) for i in range(flow.in_flight)])
        else:
            await self._open_loop(flow, calls)
        for channel in channels:
            await channel.close()

    async def _open_loop(self, flow: Flow, calls: list[Any]) -> None:
        rng, number = random.Random(flow.name), 0
        due = time.monotonic()
        pending: set[asyncio.Task[None]] = set()
        while due < self._until:
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(due - now)
                continue
            self._late.append(now - due)
            payload = flow.payloads[number % len(flow.payloads)]
            task = asyncio.create_task(self._one(flow, calls[number % len(calls)], payload, due))
            pending.add(task)
            task.add_done_callback(pending.discard)
            number += 1
            due += 1 / flow.per_second if flow.even else rng.expovariate(flow.per_second)
            if number % 16 == 0:
                await asyncio.sleep(0)  # when late: answers are read, too
        await self._finish(pending)

    async def _caller(self, flow: Flow, call: Any, number: int) -> None:
        while time.monotonic() < self._until:
            await self._one(flow, call, flow.payloads[number % len(flow.payloads)], time.monotonic())
            number += flow.in_flight

    async def _bounded(self, work: list[Coroutine[Any, Any, None]]) -> None:
        tasks = {asyncio.create_task(one) for one in work}
        while time.monotonic() < self._until and any(not task.done() for task in tasks):
            await asyncio.sleep(0.02)
        await self._finish({task for task in tasks if not task.done()})

    async def _finish(self, pending: set[asyncio.Task[None]]) -> None:
        self._cores = (cpu_seconds() - self._cpu) / (time.monotonic() - self._begun)
        if pending:
            _, late = await asyncio.wait(set(pending), timeout=self._linger)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _one(self, flow: Flow, call: Any, payload: bytes, due: float) -> None:
        what = UNANSWERED
        try:
            await call(payload, timeout=flow.deadline_seconds)
            what = "OK"
        except grpc.aio.AioRpcError as error:
            what = status_text(error)
        finally:
            self._rows.append((flow.name, due, time.monotonic() - due, what))


def status_text(error: Any) -> str:
    """The code, and the reason if it is one of ours: "RESOURCE_EXHAUSTED QUEUE_FULL"."""
    reason = ""
    for key, value in error.trailing_metadata() or ():
        if key == _ERROR_KEY and isinstance(value, bytes):
            reason = Error.FromString(value).reason
    return f"{error.code().name} {reason}".strip()


def cpu_seconds() -> float:
    """That this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
