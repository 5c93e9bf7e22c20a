"""Encodings at random."""

import numpy as np
from numpy.typing import NDArray


def random_directions(rng: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    """float32 [n, D], of length 1, in all directions."""
    vectors = rng.standard_normal((count, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
