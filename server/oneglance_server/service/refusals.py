"""Calls that are refused, for the audit trail: told so that who is refused again and again can't fill the disk."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from oneglance_index import Actor, Event

WINDOW_SECONDS = 60.0
MOST_KINDS = 32  # in a window
_MOST_CHARACTERS = 128  # of what a caller named: checks of its length may come later
_OTHERS = Actor("others", "")


@dataclass(slots=True)
class _Kind:
    """``more``: how often since it was told of."""

    event: Event
    more: int = 0


class Refusals:
    """Of each kind, which is who was refused what in which gallery from which host, the first is told at once; others
    within a window are told at its end, by their number. Of more than 32 kinds in a window only the number is told."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._begun = now()
        self._kinds: dict[tuple[str | None, ...], _Kind] = {}
        self._others = 0

    def add(self, actor: Actor, right: str, gallery: str | None) -> Event | None:
        """What is to be told at once. ``right``: that was lacking."""
        gallery = None if gallery is None else gallery[:_MOST_CHARACTERS]
        kind = (actor.name, actor.address.rpartition(":")[0], right, gallery)
        known = self._kinds.get(kind)
        if known is not None:
            known.more += 1
        elif len(self._kinds) < MOST_KINDS:
            event = Event(actor, "refused", gallery, details={"right": right})
            self._kinds[kind] = _Kind(event)
            return event
        else:
            self._others += 1
        return None

    def over(self, end: bool = False) -> list[Event]:
        """What is to be told when a window is over, or at the end; nothing before."""
        if not end and self._now() - self._begun < WINDOW_SECONDS:
            return []
        told = [
            Event(kind.event.actor, "refused", kind.event.gallery, details={**kind.event.details, "times": kind.more})
            for kind in self._kinds.values()
            if kind.more
        ]
        if self._others:
            told.append(Event(_OTHERS, "refused", details={"times": self._others}))
        self._kinds.clear()
        self._others, self._begun = 0, self._now()
        return told
