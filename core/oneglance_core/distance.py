"""The one distance, and the one check of what may be compared by it.

d(x, y) = ||x - y||^2, computed in float64 from float32 vectors and rounded once to float32. FAISS only
proposes rows; every distance that leaves this package, and every comparison with a threshold, is this one. So
an answer doesn't depend on the batch a probe came in, on the device, or on the way FAISS took.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneglance_index.errors import DimensionMismatch, EncodingInvalid
from oneglance_index.records import Vectors

# (||x|| + ||y||)^2 <= 4 * MAX must stay far below float32's 3.4e38, also while FAISS sums it up.
MAX_SQUARED_NORM = 1e36


def squared_l2(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """||a - b||^2 over the last axis; float32 [..., D] each, broadcast; result float32 [...]."""
    difference = a.astype(np.float64) - b
    np.square(difference, out=difference)
    distances: NDArray[np.float32] = difference.sum(axis=-1).astype(np.float32)
    return distances


def check_encodings(vectors: Any, dimension: int) -> Vectors:
    """Returns the vectors as float32 [n, D], C-contiguous, or says which of them has no usable distance.

    Raises DimensionMismatch (also for one that is not a 2-D array of numbers) and EncodingInvalid.
    """
    try:
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(vectors, dtype=np.float32)
    except (TypeError, ValueError):
        raise DimensionMismatch(dimension, np.shape(vectors) if hasattr(vectors, "shape") else ()) from None
    if array.ndim != 2 or array.shape[1] != dimension:
        raise DimensionMismatch(dimension, array.shape)
    usable = usable_encodings(array)
    if not usable.all():
        row = int(np.argmin(usable))
        raise EncodingInvalid(row, _reason(array[row]))
    return array


def usable_encodings(vectors: Vectors) -> NDArray[np.bool_]:
    """Which rows of float32 [n, D] have usable distances: finite, not zero, not huge. bool [n]."""
    norms = squared_norms(vectors)
    usable: NDArray[np.bool_] = (norms > 0) & (norms <= MAX_SQUARED_NORM)
    return usable


def _reason(vector: NDArray[np.float32]) -> str:
    if not np.isfinite(vector).all():
        return "not_finite"
    return "too_large" if vector.any() else "zero"


def squared_norms(vectors: Vectors) -> NDArray[np.float64]:
    """||x||^2 of every row; float32 [n, D] to float64 [n]. Rows that are not finite give NaN or infinity."""
    norms: NDArray[np.float64] = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return norms
