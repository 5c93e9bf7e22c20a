"""What may be enrolled and searched for."""

from __future__ import annotations

from typing import Any

import numpy as np

from oneglance_core.distance import usable_encodings
from oneglance_index.errors import DimensionMismatch, EncodingInvalid
from oneglance_index.records import Vectors


def check_encodings(vectors: Any, dimension: int) -> Vectors:
    """Returns the vectors as float32 [n, D], C-contiguous, or says which of them has no usable distance.

    Raises DimensionMismatch (also for one that is not a 2-D array of numbers) and EncodingInvalid.
    """
    array = as_encodings(vectors, dimension)
    check_values(array)
    return array


def as_encodings(vectors: Any, dimension: int) -> Vectors:
    """Returns the vectors as float32 [n, D], C-contiguous, or raises DimensionMismatch. Looks at no value."""
    array = vectors if _as_wanted(vectors) else _converted(vectors, dimension)
    if array.ndim != 2 or array.shape[1] != dimension:
        raise DimensionMismatch(dimension, array.shape)
    return array


def check_values(array: Vectors) -> None:
    """Raises EncodingInvalid for the first vector that has no usable distance."""
    usable = usable_encodings(array)
    if not usable.all():
        row = int(np.argmin(usable))
        raise EncodingInvalid(row, _reason(array[row]))


def _as_wanted(vectors: Any) -> bool:
    return isinstance(vectors, np.ndarray) and vectors.dtype == np.float32 and vectors.flags.c_contiguous


def _converted(vectors: Any, dimension: int) -> Vectors:
    try:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(vectors, dtype=np.float32)
    except (TypeError, ValueError):
        raise DimensionMismatch(dimension, np.shape(vectors) if hasattr(vectors, "shape") else ()) from None


def _reason(vector: Vectors) -> str:
    if not np.isfinite(vector).all():
        return "not_finite"
    return "too_large" if vector.any() else "zero"
