"""A map from the encodings of one encoder to those of another, fitted on pairs: encodings of the same picture by both.

    ridge        x W + b with the least squared error plus a penalty on W
    procrustes   a turn, one scale and a shift: x R s + b, R with orthonormal columns or rows (Schoenemann 1966; Gower
                 and Dijksterhuis 2004 for the scale)

Cross-validation chooses between them, and the penalty: by the mean squared distance of mapped to true encodings, on
subjects that the map under test was not fitted on. All is computed in float64. A mapped encoding is a guess: whoever is
found by one is found worse than by a true one, and ``losses`` says by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import Vectors
from oneglance_core.fusion import margin_scores
from oneglance_core.measures import Distances, Indices, matches, to_mate

Float64 = npt.NDArray[np.float64]
MapKind = Literal["ridge", "procrustes"]

FOLDS = 5
PENALTIES = tuple(10.0**power for power in range(-6, 3))
"""Of ridge regression, times the mean eigenvalue of the encodings' scatter."""

_NO_LENGTH = 1e-12
_PROBES_AT_ONCE = 256


@dataclass(frozen=True, slots=True, eq=False)
class EncodingMap:
    """weights: float64 [D1, D2], offset: float64 [D2]. penalty: of "ridge". unit_norm: what it makes has length 1."""

    kind: MapKind
    penalty: float
    weights: Float64
    offset: Float64
    unit_norm: bool

    def __call__(self, encodings: npt.NDArray[np.floating]) -> Vectors:
        """float32 [n, D1] to float32 [n, D2]. One that has no length can't be made one of length 1: it stays so."""
        made = encodings.astype(np.float64) @ self.weights + self.offset
        if self.unit_norm:
            made /= np.maximum(np.sqrt(np.square(made).sum(axis=1, keepdims=True)), _NO_LENGTH)
        vectors: Vectors = made.astype(np.float32)
        return vectors


def fit_map(old: Vectors, new: Vectors, subjects: Indices, *, unit_norm: bool) -> EncodingMap:
    """The map with the least error by cross-validation, fitted on all pairs.

    old: float32 [n, D1], new: float32 [n, D2], the i-th of the same picture. subjects: int64 [n], whose each is: those
    of one subject are never on both sides. Raises ValueError for fewer than FOLDS subjects.
    """
    places = np.unique(subjects, return_inverse=True)[1]
    if places.max(initial=-1) + 1 < FOLDS:
        raise ValueError(f"a map is fitted on {FOLDS} subjects at least")
    errors: dict[tuple[MapKind, float], float] = {}
    for fold in range(FOLDS):
        held = places % FOLDS == fold
        for made in _candidates(old[~held], new[~held], unit_norm):
            error = np.square(made(old[held]).astype(np.float64) - new[held]).sum()
            errors[made.kind, made.penalty] = errors.get((made.kind, made.penalty), 0.0) + float(error)
    kind, penalty = min(errors, key=lambda one: errors[one])
    return procrustes(old, new, unit_norm) if kind == "procrustes" else ridge(old, new, penalty, unit_norm)


def ridge(old: Vectors, new: Vectors, penalty: float, unit_norm: bool) -> EncodingMap:
    """``penalty``: as of PENALTIES."""
    return next(_ridges(_Centred.of(old, new), (penalty,), unit_norm))


def procrustes(old: Vectors, new: Vectors, unit_norm: bool) -> EncodingMap:
    return _procrustes(_Centred.of(old, new), unit_norm)


@dataclass(frozen=True, slots=True, eq=False)
class _Centred:
    """Pairs less their means, and what both kinds are made of: x^T x and x^T y."""

    old_mean: Float64
    new_mean: Float64
    scatter: Float64
    cross: Float64

    @classmethod
    def of(cls, old: Vectors, new: Vectors) -> _Centred:
        x, y = old.astype(np.float64), new.astype(np.float64)
        old_mean, new_mean = x.mean(axis=0), y.mean(axis=0)
        x -= old_mean
        y -= new_mean
        return cls(old_mean, new_mean, x.T @ x, x.T @ y)

    def made(self, kind: MapKind, penalty: float, weights: Float64, unit_norm: bool) -> EncodingMap:
        return EncodingMap(kind, penalty, weights, self.new_mean - self.old_mean @ weights, unit_norm)


def _candidates(old: Vectors, new: Vectors, unit_norm: bool) -> Iterator[EncodingMap]:
    centred = _Centred.of(old, new)
    yield from _ridges(centred, PENALTIES, unit_norm)
    yield _procrustes(centred, unit_norm)


def _ridges(centred: _Centred, penalties: tuple[float, ...], unit_norm: bool) -> Iterator[EncodingMap]:
    values, vectors = np.linalg.eigh(centred.scatter)
    turned = vectors.T @ centred.cross
    size = max(float(values.mean()), _NO_LENGTH)
    for penalty in penalties:
        weights = vectors @ (turned / (np.maximum(values, 0.0) + penalty * size)[:, None])
        yield centred.made("ridge", penalty, weights, unit_norm)


def _procrustes(centred: _Centred, unit_norm: bool) -> EncodingMap:
    left, values, right = np.linalg.svd(centred.cross, full_matrices=False)
    turn = left @ right
    length = float(np.einsum("ij,ij->", turn, centred.scatter @ turn))  # of the turned encodings, squared
    return centred.made("procrustes", 0.0, turn * (values.sum() / max(length, _NO_LENGTH)), unit_norm)


# What it costs.


@dataclass(frozen=True, slots=True)
class Losses:
    """Of ``probes``: ``missed`` are those whose own subject isn't the nearest at or below tau (FNIR), ``let_in`` those
    that somebody else matches while their own subject isn't there (FPIR)."""

    probes: int
    missed: int
    let_in: int


def losses(
    enrolled: Vectors, probes: Vectors, own: Indices, tau: float, fusion: str, scores: Callable[..., Float64]
) -> Losses:
    """What happens to probes, float32 [n, D], in a gallery of one encoding of each subject, float32 [s, D], s >= 2.

    own: int64 [n], each probe's place in the gallery. scores(probes, enrolled): float64 [n, s], distances or what else
    decides; by "margin" they are distances.
    """
    missed = let_in = 0
    for start in range(0, len(own), _PROBES_AT_ONCE):
        mates = own[start : start + _PROBES_AT_ONCE]
        found = scores(probes[start : start + _PROBES_AT_ONCE], enrolled)
        others = found.copy()
        others[np.arange(len(mates)), mates] = np.inf
        if fusion == "margin":
            found, others = _by_margin(found), margin_scores(np.sort(others, axis=1)[:, :-1])
        missed += int((~matches(to_mate(found, mates), tau)).sum())
        let_in += int(matches(others.min(axis=1), tau).sum())
    return Losses(len(own), missed, let_in)


def _by_margin(distances: Distances) -> Float64:
    order = np.argsort(distances, axis=1, kind="stable")
    scores = np.empty_like(distances)
    np.put_along_axis(scores, order, margin_scores(np.take_along_axis(distances, order, axis=1)), axis=1)
    return scores
