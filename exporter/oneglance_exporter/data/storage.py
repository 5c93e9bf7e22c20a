"""Where examples are kept while they are trained on: in memory, or beyond it."""

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_exporter.data.reading import Store
from oneglance_exporter.errors import RunError


def storage(folder: Path, most_bytes: int) -> Store:
    """Arrays of at most ``most_bytes`` in memory; larger ones in a file without a name in ``folder``.

    Such a file goes with the process, however that ends. Its room is taken at once, so that a full disk is told before
    the work. The store raises RunError.
    """

    def make(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        size = math.prod(shape) * dtype.itemsize
        if size <= most_bytes:
            return np.empty(shape, dtype)
        try:
            with tempfile.TemporaryFile(dir=folder) as file:  # the array's memory keeps it
                os.posix_fallocate(file.fileno(), 0, size)
                return np.memmap(file, dtype, "r+", shape=shape)
        except OSError as error:
            raise RunError(f"{folder}: no room for {size:,} bytes of examples: {error}") from error

    return make
