"""Encodings that make it hard to be right: rows nearly equal or equal, far from the origin, tied, and ordinary ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Make = Callable[[np.random.Generator, int], Vectors]
DIMENSION = 64


def _unit(vectors: npt.NDArray[np.floating]) -> Vectors:
    made: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


def ordinary(rng: np.random.Generator, count: int) -> Vectors:
    return _unit(rng.standard_normal((count, DIMENSION)))


def like_an_encoders(rng: np.random.Generator, count: int) -> Vectors:
    """Variances that fall, in directions drawn at random."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((DIMENSION, DIMENSION)))[0]
    return _unit(rng.standard_normal((count, DIMENSION)) * np.exp(-np.arange(DIMENSION) / 12) @ turn)


def one_digit_apart(rng: np.random.Generator, count: int) -> Vectors:
    """Four of each, which differ in one number by the last digit that a float32 has."""
    made = ordinary(rng, -(-count // 4)).repeat(4, axis=0)[rng.permutation(count)]
    at = np.arange(count), rng.integers(DIMENSION, size=count)
    made[at] = np.nextafter(made[at], np.float32(9) * rng.choice([-1, 1], count).astype(np.float32))
    return made


def equal(rng: np.random.Generator, count: int) -> Vectors:
    """Half of them are, 25 to one another."""
    made = ordinary(rng, count)
    made[: count // 2] = made[np.arange(count // 2) // 25]
    return made[rng.permutation(count)]


def far_off(rng: np.random.Generator, count: int) -> Vectors:
    """A thousand times as far from the origin as from each other."""
    return ordinary(rng, count) + 1000 * ordinary(np.random.default_rng(0), 1)


def tied(rng: np.random.Generator, count: int) -> Vectors:
    """Whole numbers, few of them other than 0: many are equally far from any probe."""
    made = np.zeros((count, DIMENSION), np.float32)
    made[:, :7] = rng.integers(-2, 3, (count, 7))
    made[:, 7] = 3  # there is no encoding that is all 0
    return made


KINDS: dict[str, Make] = {
    "random": ordinary,
    "like an encoder's": like_an_encoders,
    "twins one digit apart": one_digit_apart,
    "half equal": equal,
    "far offset": far_off,
    "ties": tied,
    "deleted and enrolled anew": ordinary,
}
CHANGING = "deleted and enrolled anew"


def others_of(rng: np.random.Generator, kind: str, rows: Vectors) -> Vectors:
    """Another encoding of each subject."""
    if kind == "ties":
        away = np.zeros_like(rows)
        away[np.arange(len(rows)), rng.integers(8, DIMENSION, len(rows))] = rng.integers(0, 2, len(rows))
        return rows + away
    return rows + 0.3 * ordinary(rng, len(rows)) * rng.random((len(rows), 1), np.float32)


def probes_of(rng: np.random.Generator, kind: str, rows: Vectors, count: int) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """Probes, and which of them are other encodings of somebody enrolled: half of them. The others are strangers,
    copies of rows, one digit off, in the middle of two rows, and far away."""
    some = rows[rng.integers(len(rows), size=count)]
    probes = others_of(rng, kind, some)
    which = np.arange(count) % 10
    strangers = KINDS[kind](rng, count)
    probes[which == 5] = strangers[which == 5]
    probes[which == 6] = some[which == 6]
    probes[which == 7] = np.nextafter(some, np.float32(2000))[which == 7]
    probes[which == 8] = ((some + rows[rng.integers(len(rows), size=count)]) / 2)[which == 8]
    probes[which == 9] = (100 * strangers)[which == 9]
    return probes, which < 5


def for_head(form: str, vectors: Vectors) -> Vectors:
    """No encoding for chi-square has numbers below 0."""
    return np.abs(vectors) if form == "chi-square" else vectors
