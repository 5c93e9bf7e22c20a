"""What calls do besides changing galleries, for the audit trail: decisions, what was read, who was refused.

Changes the store tells of by itself (oneglance_index.audit).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import structlog

from oneglance_core.error_words import in_words
from oneglance_index import ITSELF, Actor, Decision, Event, GalleryError, GalleryStore
from oneglance_server.calls import Call
from oneglance_server.errors import AuditFailed
from oneglance_server.service.content import Tau
from oneglance_server.service.refusals import Refusals

log = structlog.get_logger()
Mode = Literal["off", "on", "fail-closed"]
_FLUSH_SECONDS = 0.25  # with the time of a commit well below the second that a kill may cost
MOST_WAITING = 20_000  # entries and the decisions in them, while they can't be written: about 20 MB
_MOST_AT_ONCE = 1_000  # of these, in one transaction


class Audit:
    """``mode``: off: nothing is told. on: entries are written in batches, four times a second. fail-closed: a call is
    answered once its entry is on the disk, and fails where that can't be.

    Belongs to an event loop. ``on_lost(count)`` hears of entries that there was no more room for, while they could not
    be written; the trail tells how many once it can.
    """

    def __init__(self, store: GalleryStore, mode: Mode, on_lost: Callable[[int], None]) -> None:
        self.mode = mode
        self._store = store
        self._on_lost = on_lost
        self._waiting: list[Event] = []
        self._lines = 0  # of them, as _lines() counts
        self._writing: tuple[list[Event], asyncio.Future[None]] | None = None
        self._lost = 0
        self._failing = False
        self._refusals = Refusals()
        self._access: Mapping[str, object] = {}

    async def decided(
        self,
        call: Call,
        did: str,
        gallery: str | None,
        decisions: Sequence[Decision],
        tau: Tau,
        model: str,
        revision: int = 0,
        subject: str | None = None,
    ) -> None:
        """Raises AuditFailed, as the others do that are awaited."""
        if self.mode == "off" or not decisions:
            return
        details = {
            "model": model,
            "revision": revision,
            "tau": tau.value,
            "tau_source": tau.source,
            "tau_version": tau.version,
        }
        await self._tell(Event(_actor(call), did, gallery, subject, details, decisions))

    async def did(
        self, call: Call, did: str, gallery: str | None = None, subject: str | None = None, **details: object
    ) -> None:
        """What a call has read, or is about to do outside of the store."""
        if self.mode != "off":
            await self._tell(Event(_actor(call), did, gallery, subject, details))

    async def begin(self, models: Sequence[str], access: Mapping[str, object]) -> None:
        """The server serves, with models of these digests, to whom the files of ``access`` let in: told before
        anything else."""
        if self.mode != "off":
            self._access = access
            await self._tell(Event(ITSELF, "serve", details={"models": list(models), **access}))
            await self.flush()

    async def let_in_by(self, access: Mapping[str, object]) -> None:
        """What decides who may call is this now: told where it has changed. Raises AuditFailed: it is to be told
        again."""
        if self.mode != "off" and access != self._access:
            fresh = {name: told for name, told in access.items() if told != self._access.get(name)}
            gone = {name: None for name in self._access if name not in access}
            await self._tell(Event(ITSELF, "access", details={**fresh, **gone}))
            self._access = access

    def refused(self, actor: Actor, right: str, gallery: str | None) -> None:
        """``right``: that was lacking; "credential" where that isn't good. Never waited for: nothing was done."""
        if self.mode != "off":
            event = self._refusals.add(actor, right, gallery)
            if event is not None:
                self._queue(event)

    async def watch(self) -> None:
        """Writes what waits, again and again."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            for event in self._refusals.over():
                self._queue(event)
            await self.flush()

    async def close(self) -> None:
        """Writes what waits, if it can be."""
        for event in self._refusals.over(end=True):
            self._queue(event)
        await self.flush()

    async def flush(self) -> None:
        """Writes what waits. What can't be written goes on waiting."""
        while self._writing is not None or self._waiting or self._lost:
            events = self._next() if self._writing is None else self._writing[0]
            try:
                if self._writing is None:
                    self._writing = events, asyncio.wrap_future(self._store.record(events))
                # Whoever stops waiting shall not take them back: the next one to come waits on.
                await asyncio.shield(self._writing[1])
            except Exception as error:
                self._writing = None
                if not self._failing:
                    log.error(
                        "the audit trail can't be written: entries wait", waiting=len(events), error=in_words(error)
                    )
                self._failing = True
                self._back(events)
                return
            self._writing = None
            if self._failing:
                log.info("the audit trail is written again", entries=len(events))
            self._failing = False

    def _next(self) -> list[Event]:
        """Of what waits, as much as one transaction takes at most, and how many were lost."""
        lines, count = 0, 0
        while count < len(self._waiting) and (not count or lines + _lines(self._waiting[count]) <= _MOST_AT_ONCE):
            lines, count = lines + _lines(self._waiting[count]), count + 1
        events, self._waiting, self._lines = self._waiting[:count], self._waiting[count:], self._lines - lines
        if self._lost:
            events.append(Event(ITSELF, "lost", details={"entries": self._lost}))
            self._lost = 0
        return events

    def _back(self, events: list[Event]) -> None:
        """They could not be written, and wait again, before the others."""
        if events[-1].did == "lost" and events[-1].actor is ITSELF:
            self._lost += int(str(events.pop().details["entries"]))
        come, self._waiting, self._lines = self._waiting, [], 0
        for event in (*events, *come):
            self._queue(event)

    def _queue(self, event: Event) -> None:
        lines = _lines(event)
        if self._lines + lines <= MOST_WAITING:
            self._waiting.append(event)
            self._lines += lines
        else:
            self._lost += 1
            self._on_lost(1)

    async def _tell(self, event: Event) -> None:
        if self.mode == "on":
            self._queue(event)
            return
        try:
            await asyncio.wrap_future(self._store.record([event]))
        except GalleryError as error:
            log.error("the audit trail can't be written: the call fails", did=event.did, error=str(error))
            raise AuditFailed("the audit trail can't be written now, so nothing is answered") from error


def _lines(event: Event) -> int:
    return 1 + len(event.decisions)


def _actor(call: Call) -> Actor:
    return Actor(call.caller.identity.name, call.caller.connection)
