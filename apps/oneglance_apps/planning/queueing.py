"""Probes that come at random and wait for the scan under way: all that wait are answered by the next one.

So a busy server answers more probes a second than an idle one: a scan for many takes little longer than for one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PROBES = 20_000
_WARM_UP = PROBES // 10
HOPELESS_SECONDS = 60.0

# Seconds that so many probes take together.
Service = Callable[[int], float]
Times = NDArray[np.float64]


@dataclass(frozen=True)
class Waited:
    """From a probe's coming to its answer: seconds, half and 99 of 100 of them at most. `busy`: the share of time in
    which something was under way; `together`: probes of a scan, on average. inf where more come than are answered."""

    p50: float
    p99: float
    busy: float
    together: float


OVERLOADED = Waited(np.inf, np.inf, 1.0, np.inf)


def simulate(service: Service, per_second: float, most: int) -> Waited:
    """Probes that come independently, so many a second on average; of a scan at most `most`."""
    return _waited(_arrivals(per_second), None, service, per_second, most)


def simulate_behind(servers: int, front: Service, service: Service, per_second: float, most: int) -> Waited:
    """As simulate(), where a probe first goes to one of so many servers, whichever it is, which takes `front` for those
    that wait there. `busy` and `together` are those of the one behind them all."""
    came = _arrivals(per_second)
    if per_second / servers * front(most) > most:
        return OVERLOADED
    server = np.random.default_rng(1).integers(servers, size=PROBES)
    passed_on = np.empty(PROBES)
    for one in range(servers):
        its = server == one
        answers = _answers(came[its], front, most)
        if answers is None:
            return OVERLOADED
        passed_on[its] = answers.at
    return _waited(came, passed_on, service, per_second, most)


@dataclass(frozen=True)
class _Answers:
    at: Times
    busy: float
    scans: int


def _arrivals(per_second: float) -> Times:
    return np.cumsum(np.random.default_rng(0).exponential(1 / per_second, PROBES))


def _waited(came: Times, passed_on: Times | None, service: Service, per_second: float, most: int) -> Waited:
    """`passed_on`: when each of them, which came in this order, is there to be answered; None: as it comes."""
    if per_second * service(most) > most:
        return OVERLOADED
    there = came if passed_on is None else passed_on
    order = np.argsort(there, kind="stable")
    answers = _answers(there[order], service, most)
    if answers is None:
        return OVERLOADED
    answered = np.empty(PROBES)
    answered[order] = answers.at
    p50, p99 = np.quantile((answered - came)[_WARM_UP:], [0.5, 0.99]).tolist()
    return Waited(p50, p99, answers.busy / float(answers.at[-1]), PROBES / answers.scans)


def _answers(came: Times, service: Service, most: int) -> _Answers | None:
    """Of probes in the order in which they come; None where they wait without end."""
    answered = np.empty(len(came))
    now = busy = 0.0
    scans = first = 0
    while first < len(came):
        now = max(now, float(came[first]))
        end = min(int(np.searchsorted(came, now, side="right")), first + most)
        took = service(end - first)
        now, busy, scans = now + took, busy + took, scans + 1
        answered[first:end] = now
        if now - came[first] > HOPELESS_SECONDS:
            return None
        first = end
    return _Answers(answered, busy, scans)
