"""What a gallery may lose for faster answers, and how that stands: the operator says it, the index holds itself to it.

A generation's `kind` says it in the store: "flat" for exact answers, or Approximation.kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EXACT_KIND = "flat"
APPROXIMATE = "approximate"
_ON_ALARM = "exact-on-alarm"

# So many mates as are remembered can't tell of more (search/approximate.py).
MOST_FOUND = 0.9995

Answers = Literal["exact", "approximate"]
Because = Literal["", "device", "few subjects", "no threshold yet", "being built", "too few mates yet", "alarm"]


@dataclass(frozen=True, slots=True)
class Approximation:
    """Of the mates that lie within τ at least the share `mates_found` is found, above 0.5 and at most 0.9995. With
    `exact_on_alarm` answers are exact again once live searches show that it isn't held. Raises ValueError."""

    mates_found: float
    exact_on_alarm: bool = False

    def __post_init__(self) -> None:
        if not 0.5 < self.mates_found <= MOST_FOUND:
            wrong = self.mates_found
            raise ValueError(f"a share of mates to be found is above 0.5 and at most {MOST_FOUND}, got {wrong}")

    @property
    def kind(self) -> str:
        return ":".join([APPROXIMATE, repr(float(self.mates_found)), *([_ON_ALARM] if self.exact_on_alarm else [])])


def kind_of(approximation: Approximation | None) -> str:
    return EXACT_KIND if approximation is None else approximation.kind


def name_of(kind: str) -> str:
    """Of a kind, without what its answers may lose."""
    return kind.partition(":")[0]


def approximation_of(kind: str) -> Approximation | None:
    """What a generation of this kind may lose; None: nothing. Raises ValueError for a kind that there isn't."""
    if kind == EXACT_KIND:
        return None
    name, _, told = kind.partition(":")
    share, _, alarm = told.partition(":")
    if name != APPROXIMATE or alarm not in ("", _ON_ALARM):
        raise ValueError(f"{kind!r} is no kind of index")
    return Approximation(float(share), bool(alarm))


@dataclass(frozen=True, slots=True)
class Checked:
    """Live probes that were searched exactly, too: how many, and for how many the decision was another one."""

    probes: int = 0
    differing: int = 0


NOTHING_CHECKED = Checked()


@dataclass(frozen=True, slots=True)
class ApproximationState:
    """How answers come about now.

    `answers` says which way, `because` why they are exact nevertheless. `tau`: the index is tuned for thresholds up to
    this, None before it is; searches beyond it are exact. `share_read`: of the enrolled rows, about how many are
    compared with a probe; `recent`: how many are compared exactly besides, because they came since. `known` and
    `strangers`: probes that were checked since the start, those with a match by exact search and those without; and
    `alarms`: how often they showed that more was lost than may be. `alarm`: now.
    """

    answers: Answers
    because: Because
    tau: float | None = None
    share_read: float = 1.0
    recent: int = 0
    known: Checked = NOTHING_CHECKED
    strangers: Checked = NOTHING_CHECKED
    alarms: int = 0
    alarm: bool = False
