"""Random numbers that are the same on every machine: uniform ones and + - * /, which IEEE 754 rounds identically."""

import numpy as np
import numpy.typing as npt


def random_below(rng: np.random.Generator, bound: int) -> int:
    """One of 0 to ``bound`` - 1."""
    return int(rng.random() * bound)


def normal(rng: np.random.Generator) -> float:
    """Approximately normal, mean 0, standard deviation 1, within 3.5: the sum of four uniforms (Irwin-Hall)."""
    return float((rng.random() + rng.random() + rng.random() + rng.random() - 2.0) * 1.7320508075688772)


def normals(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """float64 [*shape] of them."""
    four = rng.random((4, *shape))
    bells: npt.NDArray[np.float64] = (four[0] + four[1] + four[2] + four[3] - 2.0) * 1.7320508075688772
    return bells
