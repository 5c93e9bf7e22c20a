"""Probes that come at random and wait for the scan under way: all that wait are answered by the next one.

So a busy server answers more probes a second than an idle one: a scan for many takes little longer than for one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PROBES = 20_000
_WARM_UP = PROBES // 10
HOPELESS_SECONDS = 60.0

# Seconds that so many probes take together.
Service = Callable[[int], float]


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
    if per_second * service(most) > most:
        return OVERLOADED
    came = np.cumsum(np.random.default_rng(0).exponential(1 / per_second, PROBES))
    answered = np.empty(PROBES)
    now = busy = 0.0
    scans = first = 0
    while first < PROBES:
        now = max(now, float(came[first]))
        end = min(int(np.searchsorted(came, now, side="right")), first + most)
        took = service(end - first)
        now, busy, scans = now + took, busy + took, scans + 1
        answered[first:end] = now
        if now - came[first] > HOPELESS_SECONDS:
            return OVERLOADED
        first = end
    p50, p99 = np.quantile((answered - came)[_WARM_UP:], [0.5, 0.99]).tolist()
    return Waited(p50, p99, busy / now, PROBES / scans)
