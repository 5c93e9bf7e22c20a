"""Signals longer than an encoder's input: encoded in windows, whose encodings are averaged."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import InputSpec
from oneglance_core.tensors import tensor_input


def windows_of(array: npt.NDArray[Any], spec: InputSpec) -> npt.NDArray[Any]:
    """The windows of an array, ``spec.dtype [windows, *spec.shape]``; one where ``spec`` has no windows.

    Otherwise as tensor_input. Raises TensorError.
    """
    windows = spec.windows
    if windows is None:
        return tensor_input(array, spec)[np.newaxis]
    length = spec.shape[0]
    whole = spec.model_copy(update={"shape": (max(1, len(array)), spec.shape[-1])})
    values = tensor_input(array, whole)
    count = windows.count(len(values))
    padded = np.zeros((windows.step * (count - 1) + length, spec.shape[-1]), values.dtype)
    kept = values[: len(padded) - windows.before]
    padded[windows.before : windows.before + len(kept)] = kept
    return np.stack([padded[start : start + length] for start in range(0, windows.step * count, windows.step)])


def joined(encodings: npt.NDArray[np.float32], counts: Sequence[int], *, unit_norm: bool) -> npt.NDArray[np.float32]:
    """One encoding for each signal, float32 [len(counts), D].

    encodings: of the windows of all signals, float32 [sum(counts), D]. unit_norm: those of several windows get the
    length 1 again.
    """
    if all(count == 1 for count in counts):
        return encodings
    starts = np.cumsum([0, *counts[:-1]])
    sums = np.add.reduceat(encodings.astype(np.float64), starts, axis=0)
    several = np.array(counts) > 1
    means = sums / np.array(counts)[:, np.newaxis]
    if unit_norm:
        length = np.sqrt(np.square(means).sum(axis=1, keepdims=True))
        means = np.where(several[:, np.newaxis] & (length > 0), means / np.maximum(length, 1e-30), means)
    result: npt.NDArray[np.float32] = means.astype(np.float32)
    result[~several] = encodings[starts[~several]]
    return result
