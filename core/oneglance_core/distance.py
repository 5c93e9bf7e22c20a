"""The one distance: d(x, y) = ||x - y||^2, squared L2.

What decides is always :func:`squared_l2`: computed in float64 from float32 vectors and rounded once to float32, so that
an answer depends neither on the batch a probe came in, nor on the device, nor on the library that proposed a row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

# (||x|| + ||y||)^2 <= 4 * MAX must stay far below float32's 3.4e38, also while FAISS sums it up.
MAX_SQUARED_NORM = 1e36

# Of the length of an encoding, where that is 1. An encoder of 8 or 16 bits comes within 1e-6.
UNIT_TOLERANCE = 1e-3


def squared_l2(a: Vectors, b: Vectors) -> Vectors:
    """||a - b||^2 over the last axis; float32 [..., D] each, broadcast; result float32 [...]."""
    difference = a.astype(np.float64) - b
    np.square(difference, out=difference)
    distances: Vectors = difference.sum(axis=-1).astype(np.float32)
    return distances


def pairwise_squared_l2(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """||a_i - b_j||^2 of all pairs, for measuring: float64 [N, M] for [N, D] and [M, D].

    By a matrix product in float64, so it may differ from :func:`squared_l2` in the last digits.
    """
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    squares = (a64 * a64).sum(axis=1)[:, None] + (b64 * b64).sum(axis=1)[None, :]
    distances: npt.NDArray[np.float64] = np.maximum(squares - 2.0 * (a64 @ b64.T), 0.0)  # rounding can fall below 0
    return distances


def squared_norms(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """||x||^2 of every row; [n, D] to float64 [n]. Rows that are not finite give NaN or infinity."""
    norms: npt.NDArray[np.float64] = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return norms


def usable_encodings(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """Which rows of float32 [n, D] have usable distances: finite, not zero, not huge. bool [n]."""
    norms = squared_norms(vectors)
    usable: npt.NDArray[np.bool_] = (norms > 0) & (norms <= MAX_SQUARED_NORM)
    return usable


def first_not_unit(vectors: npt.NDArray[np.floating]) -> tuple[int, float] | None:
    """Of the rows of [n, D], the first whose length isn't 1 within UNIT_TOLERANCE, and its length; None: there is none.

    Rows with NaN are not looked for."""
    lengths = np.sqrt(squared_norms(vectors))
    wrong = np.abs(lengths - 1) > UNIT_TOLERANCE
    if not wrong.any():
        return None
    row = int(np.argmax(wrong))
    return row, float(lengths[row])
