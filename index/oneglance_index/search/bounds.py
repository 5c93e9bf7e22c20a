"""How far the distances that a scan computes can be off, and so how near the rows can be that it did not propose.

FAISS computes in float32. With u = 2^-24, D dimensions and any order of summation, fused or not (Higham, Accuracy and
Stability of Numerical Algorithms, section 3.1), let gamma = (D + 3) u / (1 - (D + 3) u).

Row by row, sum (x - q)^2: each term is off by a few u of its own, so

    |FAISS's d - d|  <=  gamma * d

By matrix products, ||x||^2 + ||q||^2 - 2xq, which cancels: near 0 nothing of the value may be left. The absolute values
of all products sum up to at most (||x|| + ||q||)^2, so

    |FAISS's d - d|  <=  gamma * (||x|| + ||q||)^2

A row not proposed has FAISS's d >= F, the largest proposed. A row with d <= c has ||x|| <= ||q|| + sqrt(c). So when
F - gamma * (2 ||q|| + sqrt(c))^2 > c, no row that was left out has d <= c.

Rows far from the origin, beside how far they are from each other, make that bound useless, so a point in their midst is
subtracted from rows and probes first. Distances stay, but for the rounding of the differences: x' and q' are off by
h ||x'|| and h ||q'|| at most, with h = u. By the triangle inequality, e being the sum of both,

    |sqrt(d') - sqrt(d)|  <=  e

and when sqrt(F - gamma * (||x'|| + ||q'||)^2) - e > sqrt(c), no row that was left out has d <= c.

Rows in half precision (on a GPU, `gpu_rows` = float16). x' and q', the float16 values nearest to x and q, are compared
instead. With h = 2^-11, and no value above HALF_MOST,

    ||x - x'|| <= h ||x|| + 2^-25 sqrt(D)

where the last term is for values below the smallest normal one, 2^-14. So, with e the sum of that for x and for q,

    |sqrt(d') - sqrt(d)| <= e <= h (||x|| + ||q||) + 2^-24 sqrt(D)

A product of two float16 values is exact in float32. They are summed by tensor cores, which cut off where float32 would
round, and do so after every few products (Fasi, Higham, Mikaitis, Pranesh: Numerical behavior of NVIDIA tensor cores,
2021): u = 2^-22 covers it. FAISS sums ||q'||^2 of squares that it rounds to float16: that is off by
h ||q'||^2 + 2^-25 D at most. So for FAISS's d

    |FAISS's d - d'|  <=  (gamma + h) (||x'|| + ||q'||)^2 + 2^-25 D

Squares of more than HALF_MOST have no float16: such values are cut down to it, which keeps everything finite, and where
a probe or a row that matters could have one, nothing is known of the rows that were not proposed.

Rows as codes (coded.py). x' is what a row's code stands for, q' what the probe was rounded to, and how far they are
from x and q is measured: ||x - x'|| + ||q - q'|| <= off. FAISS sums ||x' - q'||^2 row by row, in steps s. By the
triangle inequality

    sqrt(d)  >=  s sqrt(FAISS's d / (1 + gamma)) - off

The scan proposes the rows of which the right side is least, so what it is of the last one holds for all the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from oneglance_core.distance import squared_norms
from oneglance_index.records import Vectors

Floats = NDArray[np.float64]

ROUNDING = 2.0**-24
HALF_ROUNDING = 2.0**-11
TENSOR_UNIT = 2.0**-22  # of a sum by tensor cores
HALF_MOST = 255.0  # the square of 256 is beyond float16
# So much more than D + 3 covers norms that were rounded to float32, and the computation of the bound itself.
_MORE = 16
# Products that underflow, should the hardware flush them to 0: of each dimension.
_LEAST = 2.0**-124


def as_halves(vectors: Vectors) -> NDArray[np.float16]:
    """Vectors as a scan with HALF_ROUNDING compares them."""
    halves: NDArray[np.float16] = np.clip(vectors, -HALF_MOST, HALF_MOST).astype(np.float16)
    return halves


class Bounds(Protocol):
    """Of one scan of rows."""

    def floors(self, largest: Floats, probes: Vectors, cuts: Floats) -> Floats:
        """A lower bound of the real distance of every row that was not proposed, or something that is above the cut if
        and only if that is: float64 [q], rounded to float32 as distances are.

        largest: the largest that the scan proposed, float64 [q]. probes: float32 [q, D]. cuts: the distances that
        matter, float64 [q].
        """


@dataclass(frozen=True, slots=True)
class ByRow:
    """Of distances that were summed up row by row."""

    dimension: int

    @property
    def gamma(self) -> float:
        unit = (self.dimension + _MORE) * ROUNDING
        return unit / (1 - unit)

    def floors(self, largest: Floats, probes: Vectors, cuts: Floats) -> Floats:
        return _rounded((largest - self.dimension * _LEAST) / (1 + self.gamma))

    def reach(self, cut: float) -> float:
        """No row within the cut, a distance as it is told, has more by FAISS."""
        most = np.float32(cut * (1 + 2 * self.gamma) + self.dimension * _LEAST)
        return float(np.nextafter(most, np.float32(np.inf)))


class _Floors:
    """Of distances that are lower bounds themselves, of rows not proposed, too."""

    def floors(self, largest: Floats, probes: Vectors, cuts: Floats) -> Floats:
        return largest


FLOORS = _Floors()


def code_floors(distances: Vectors, dimension: int, step: float, off: float) -> Floats:
    """A lower bound of the real distance of rows whose codes are so far from a probe, in steps: float64 [n]."""
    gamma = ByRow(dimension).gamma
    steps = np.sqrt(np.maximum(distances.astype(np.float64) - dimension * _LEAST, 0.0) / (1 + gamma))
    floors: Floats = np.maximum(steps * (step * (1 - 1e-12)) - off, 0.0) ** 2 * (1 - 1e-12)
    return floors


@dataclass(frozen=True, slots=True)
class ByProduct:
    """Of distances by matrix products. max_norm: at least the largest ||x||, of rows less the centre. rounding: how
    much of every number is rounded away before anything is computed. unit: u."""

    dimension: int
    max_norm: float
    rounding: float = 0.0
    unit: float = ROUNDING
    centre: Vectors | None = None

    def floors(self, largest: Floats, probes: Vectors, cuts: Floats) -> Floats:
        half = self.rounding >= HALF_ROUNDING
        norms = np.sqrt(squared_norms(probes if self.centre is None else probes - self.centre))
        unit = (self.dimension + _MORE) * self.unit
        gamma = unit / (1 - unit) + self.rounding
        reach = norms + np.minimum(self.max_norm, norms + np.sqrt(cuts) * (1 + 1e-6))
        away = self.rounding * reach + (2.0**-24 * np.sqrt(self.dimension) if half else 0.0)
        floors = largest - gamma * (reach + away) ** 2 - self.dimension * (2.0**-25 if half else _LEAST)
        if self.rounding:
            floors = np.maximum(np.sqrt(np.maximum(floors, 0.0)) - away, 0.0) ** 2
        if half:
            floors[~(reach <= HALF_MOST)] = -np.inf
        return _rounded(floors)


def on_card(dimension: int, max_norm: float, half: bool) -> ByProduct:
    """Of a GPU, whose rows are float16 or float32."""
    return ByProduct(dimension, max_norm, HALF_ROUNDING if half else 0.0, TENSOR_UNIT if half else ROUNDING)


def _rounded(floors: Floats) -> Floats:
    return floors.astype(np.float32).astype(np.float64)
