"""An answer of Identify or Verify, beside what it must be (by_definition.py): what differs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from benchmarks.by_definition import Enrolled, Expected, Rule
from oneglance.v1.common_pb2 import Candidate
from oneglance.v1.identification_pb2 import (
    DECISION_IDENTIFIED,
    DECISION_UNKNOWN,
    IdentifyResult,
    VerifyResponse,
)

# That so many differ, or more, where no more may, must be less likely than this to be told.
_UNLIKELY = 0.001
_MOST_TOLD = 5


class Asked(NamedTuple):
    """One probe: among whom, by which rule, what it finds, how far a match may be, and how many candidates. Places in
    `enrolled` of subjects by their ids, and of encodings by theirs."""

    enrolled: Enrolled
    places: dict[str, int]
    rows: dict[str, int]
    rule: Rule
    expected: Expected
    tau: float
    candidates: int


@dataclass
class Counted:
    """What differs, of so many probes. `largest`: relative error of a distance, before it is rounded to float32.

    Of the `approximate` answers: `known` had a match by the definition, for `lost` of them the decision is another one;
    `let_in` had none, and got one. `note`: why answers are exact nevertheless.
    """

    probes: int = 0
    decisions: int = 0
    orders: int = 0
    distances: int = 0
    largest: float = 0.0
    approximate: int = 0
    known: int = 0
    lost: int = 0
    let_in: int = 0
    told: list[str] = field(default_factory=list)
    note: str = ""

    def differing(self, mates_found: float, margin: bool) -> bool:
        """Whether more differs than may. By margin a stranger may be let in for the want of others."""
        share = 1 - mates_found
        chance = sum(
            math.comb(self.known, lost) * share**lost * (1 - share) ** (self.known - lost)
            for lost in range(self.lost, self.known + 1)
        )
        wrong = self.decisions or self.orders or self.distances or (self.let_in and not margin)
        return bool(wrong) or chance < _UNLIKELY

    def tell(self, what: str) -> None:
        if len(self.told) < _MOST_TOLD:
            self.told.append(what)

    def add(self, result: IdentifyResult, asked: Asked, *, exact: bool) -> None:
        """The answer to one probe, which says that it is `exact`."""
        self.probes += 1
        self.approximate += not exact
        told = [asked.places.get(one.subject_id, -1) for one in result.candidates]
        matches = [asked.places.get(one.subject_id, -1) for one in result.matches]
        if -1 in told + matches:
            self.orders += 1
            self.tell(f"somebody is told who isn't there: {result}")
            return
        for at, one in zip(told + matches, [*result.candidates, *result.matches], strict=True):
            self._measure(one, at, asked, exact=exact)
        if not (_in_order(told, matches, asked) if exact else _ascending(result, asked)):
            self.orders += 1
            self.tell(f"candidates {told[:8]} and {len(matches)} matches")
        self._decide(result, told, asked, exact=exact)

    def _measure(self, one: Candidate, at: int, asked: Asked, *, exact: bool) -> None:
        wanted = asked.expected
        row = at if wanted.encodings is None else asked.rows.get(one.encoding_id, -1)
        # Where an approximate answer misses the nearest of a subject's encodings it tells of another one.
        right = not one.encoding_id if wanted.encodings is None else row >= 0 and asked.enrolled.owners[row] == at
        right = right and (wanted.encodings is None or not exact or row == wanted.encodings[at])
        away, distance = wanted.distance(row)
        if away and right:
            self.largest = max(self.largest, abs(one.distance - away) / away)
        right = right and distance.holds(0, one.distance) and wanted.probability(row).holds(0, one.probability)
        if exact:
            right = right and wanted.scores.holds(at, score_of(one))
        elif asked.rule.fusion != "margin":  # by which no score follows from some of the others
            right = right and score_of(one) == one.distance
        if not right:
            self.distances += 1
            self.tell(f"{one} beside {away!r}, score {[float(side[at]) for side in wanted.scores]}")

    def _decide(self, result: IdentifyResult, told: list[int], asked: Asked, *, exact: bool) -> None:
        wanted = asked.expected
        # Of those that nobody is certainly before the one that is told, if it is one of them.
        best = told[0] if told and not wanted.before(np.arange(len(wanted.ranks)), told[0]).any() else wanted.best()
        certainly, hardly = wanted.scores.high[best] <= asked.tau, wanted.scores.low[best] <= asked.tau
        if result.decision == DECISION_IDENTIFIED:
            right = hardly and result.subject_id == asked.enrolled.names[best]
        else:
            right = result.decision == DECISION_UNKNOWN and not result.subject_id and not certainly
        if not exact:
            self.known += int(certainly)
            self.lost += int(certainly and not right)
            self.let_in += int(not certainly and not right)
        elif not right:
            self.decisions += 1
            scores = [float(side[best]) for side in wanted.scores]
            self.tell(f"{result.subject_id!r}, tau {asked.tau!r}; {asked.enrolled.names[best]} has {scores}")

    def add_at_border(self, at: IdentifyResult, below: IdentifyResult) -> None:
        """Of one probe, with tau exactly its score, and the next number below that."""
        self.probes += 2
        if (at.decision, below.decision) != (DECISION_IDENTIFIED, DECISION_UNKNOWN):
            self.decisions += 1
            self.tell(f"at the border {at.decision}, below {below.decision}: {at.candidates[0]}")

    def add_verified(self, answer: VerifyResponse, at: int, asked: Asked) -> None:
        self.probes += 1
        one = Candidate(distance=answer.distance, encoding_id=answer.encoding_id, probability=answer.probability)
        if answer.HasField("score"):
            one.score = answer.score
        self._measure(one, at, asked, exact=True)
        scores = asked.expected.scores
        if not (scores.low[at] <= asked.tau if answer.same else scores.high[at] > asked.tau):
            self.decisions += 1
            self.tell(f"verified as {answer.same}, tau {asked.tau!r}: {answer.distance!r}")


def score_of(one: Candidate) -> float:
    """It is told where it isn't the distance."""
    return one.score if one.HasField("score") else one.distance


def _in_order(told: list[int], matches: list[int], asked: Asked) -> bool:
    wanted, scores = asked.expected, asked.expected.scores
    certainly, hardly = (set(np.flatnonzero(side <= asked.tau).tolist()) for side in (scores.high, scores.low))
    whole = len(told) == min(asked.candidates, len(wanted.ranks)) and wanted.first(told)
    return whole and certainly <= set(matches) <= hardly and wanted.in_order(matches)


def _ascending(result: IdentifyResult, asked: Asked) -> bool:
    """What an approximate answer has to be: each subject once, and matches within tau."""
    for told in (result.candidates, result.matches):
        distances = [one.distance for one in told]
        if distances != sorted(distances) or len({one.subject_id for one in told}) < len(told):
            return False
    return all(score_of(one) <= asked.tau for one in result.matches)


Cells = dict[tuple[str, str, str], Counted]  # by rule, way of searching and data


def lines(cells: Cells, by: Iterable[int]) -> list[list[object]]:
    """Of a table, with those together that have the same parts at these places of their names."""
    at = list(by)
    parts: dict[tuple[str, ...], list[Counted]] = {}
    for cell, counted in cells.items():
        parts.setdefault(tuple(cell[place] for place in at), []).append(counted)
    return [[*part, *_line(these)] for part, these in parts.items()]


def _line(these: Sequence[Counted]) -> list[object]:
    def total(name: str) -> int:
        return sum(getattr(one, name) for one in these)

    lost = f"{total('lost')} of {total('known')}; {total('let_in')}" if total("approximate") else ""
    sums = [total(name) for name in ("probes", "decisions", "orders", "distances")]
    return [*sums, f"{max(one.largest for one in these):.2g}", total("approximate"), lost]
