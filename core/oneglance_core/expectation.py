"""The FPIR to expect of a tau, and the tau for an FPIR, at any size of a gallery: by what was measured at some sizes.

Between the sizes and the numbers of examples that were measured, -ln(1 - FPIR), which grows in proportion to the
gallery if comparisons are independent, is interpolated on logarithmic scales. Beyond the largest size it grows in
proportion: too fast, since a stranger who resembles nobody of many resembles few of more. Below the least level that
was measured the FPIR is that level: that there was none is no proof of zero. Beyond the largest tau that was measured
it is 1.
"""

import bisect
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import FalsePositives

Curve = npt.NDArray[np.float64]  # a tau for each level

_STEPS = 60  # of halving, when a tau is searched
_LEAST = 1e-12
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate with its 95 % interval, None where none is known."""

    value: float
    low: float | None
    high: float | None


class Expectation:
    """What ``measured`` says of galleries."""

    def __init__(self, measured: FalsePositives) -> None:
        self.measured = measured
        self._levels = np.log(np.array(measured.levels))
        self._lows, self._highs = np.array(measured.lows), np.array(measured.highs)
        self._taus: dict[tuple[str, int], dict[int, Curve]] = {}
        for one in measured.galleries:
            self._taus.setdefault((one.fusion, one.examples), {})[one.gallery_size] = np.array(one.taus)
        self.fpir = functools.lru_cache(maxsize=4096)(self._fpir)
        self.tau = functools.lru_cache(maxsize=4096)(self._tau)

    def knows(self, fusion: str) -> bool:
        return any(rule == fusion for rule, _ in self._taus)

    def most_examples(self, fusion: str) -> int:
        """The largest number of examples that was measured by a rule that it knows: for more it answers the same."""
        return max(number for rule, number in self._taus if rule == fusion)

    def reach(self, fusion: str) -> tuple[float, float]:
        """The least and the largest tau that was measured by a rule."""
        known = [taus for (rule, _), by_size in self._taus.items() if rule == fusion for taus in by_size.values()]
        return min(float(taus[0]) for taus in known), max(float(taus[-1]) for taus in known)

    def _fpir(self, tau: float, fusion: str, examples: float, size: int) -> Rate:
        """Of a gallery of ``size`` subjects, >= 1, with ``examples`` each on average, >= 1, by a rule that it knows."""
        value = self._value(tau, fusion, examples, size)
        level = math.log(max(value, _LEAST))
        low, high = (float(np.interp(level, self._levels, side)) for side in (self._lows, self._highs))
        if level < self._levels[0]:
            low = 0.0
        return Rate(value, min(low, value), max(high, value))

    def _tau(self, target: float, fusion: str, examples: float, size: int) -> float:
        """The largest tau at which the FPIR to expect is at most ``target``; the least that was measured, if none
        is."""
        low, high = self.reach(fusion)
        target *= 1 + _ROUNDING
        if self._value(high, fusion, examples, size) <= target:
            return high
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._value(middle, fusion, examples, size) <= target else (low, middle)
        return low

    def _value(self, tau: float, fusion: str, examples: float, size: int) -> float:
        def of_size(by_size: dict[int, Curve]) -> float:
            sizes = sorted(by_size)
            if size >= sizes[-1]:
                return self._hazard(tau, by_size[sizes[-1]]) * size / sizes[-1]
            return _between(size, sizes, lambda at: self._hazard(tau, by_size[at]))

        numbers = sorted(number for rule, number in self._taus if rule == fusion)
        hazard = _between(min(max(examples, 1.0), numbers[-1]), numbers, lambda at: of_size(self._taus[fusion, at]))
        return -math.expm1(-hazard)

    def _hazard(self, tau: float, taus: Curve) -> float:
        """-ln(1 - FPIR) at ``tau``, of galleries that were measured."""
        level = float(np.exp(np.interp(tau, taus, self._levels))) if tau <= taus[-1] else 1.0
        return -math.log1p(-min(level, 1 - _LEAST))


def _between(x: float, known: Sequence[int], value: Callable[[int], float]) -> float:
    """Log-log interpolation of ``value`` between the two of ``known`` about ``x``; at the ends, that of the end."""
    at = bisect.bisect_left(known, x)
    if at == 0 or at == len(known):
        return value(known[min(at, len(known) - 1)])
    before, after = known[at - 1], known[at]
    share = math.log(x / before) / math.log(after / before)
    first, second = max(value(before), _LEAST), max(value(after), _LEAST)
    return math.exp((1 - share) * math.log(first) + share * math.log(second))
