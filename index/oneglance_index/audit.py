"""What the audit trail is told: who did what, to whom, and what was decided.

A change of a gallery is told by the store itself, in the transaction of the change, where somebody is `acting`. All
else is told with GalleryStore.record().
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["identified", "unknown", "ambiguous", "withheld", "not_compared", "same", "different"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, by the name of a credential, and from which address."""

    name: str
    address: str


# What the store does by itself, such as deleting whose time is over.
ITSELF = Actor("oneglance", "")
# On whose behalf the present task writes; None: nothing is told of it.
acting: ContextVar[Actor | None] = ContextVar("acting", default=None)


@dataclass(frozen=True, slots=True)
class Decision:
    """Of one probe or face: what was decided, about which subject, at which score; None where there was nobody."""

    outcome: Outcome
    subject: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One entry to be. `did` is a word for what was done, as in "enroll"; `details` is what else is to be told of it,
    as JSON has it, and names no subject. `time`: seconds since 1970."""

    actor: Actor
    did: str
    gallery: str | None = None
    subject: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    decisions: Sequence[Decision] = ()
    time: float = field(default_factory=time.time)
