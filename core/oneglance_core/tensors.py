"""From arrays to an encoder's input: the one way, of whoever trains on arrays and of whoever sends them to a server.

TensorError     an array that the encoder can't take, in words
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import InputSpec


class TensorError(ValueError):
    """Raised for an array of another shape or dtype than the encoder takes, or with values that are not finite."""


def tensor_input(array: npt.NDArray[Any], spec: InputSpec) -> npt.NDArray[Any]:
    """What an encoder that takes ``spec``, which is no image, is given for an array: ``spec.dtype [*spec.shape]``.

    An array without an axis for channels gets one of size 1. Numbers become ``spec.dtype`` if that loses nothing but
    float32's precision. Other sizes: as ``spec.fit`` says. Raises TensorError.
    """
    given = with_channels(array, spec.axes)
    if given.shape[-1] != spec.shape[-1]:
        raise TensorError(f"has {given.shape[-1]} channels, the encoder takes {spec.shape[-1]}")
    if spec.dtype == "uint8" and given.dtype != np.uint8:
        raise TensorError(f"holds {given.dtype}, the encoder takes uint8")
    with np.errstate(over="ignore"):  # found below
        values = given.astype(spec.dtype)
    if not np.isfinite(values).all():
        raise TensorError("has values that are NaN, infinite, or too large for float32")
    if values.shape == spec.shape:
        return values
    if spec.fit is None:
        raise TensorError(f"is {_sizes(given.shape)}, the encoder takes {_sizes(spec.shape)}")
    fitted = np.zeros(spec.shape, spec.dtype)
    kept = tuple(slice(min(has, wanted)) for has, wanted in zip(values.shape, spec.shape, strict=True))
    fitted[kept] = values[kept]
    return fitted


def with_channels(array: npt.NDArray[Any], axes: int) -> npt.NDArray[Any]:
    """``array`` [*sizes] or [*sizes, C] as [*sizes, C], where ``axes`` is the number of sizes. Raises TensorError for
    another number of axes, for an empty array, and for what isn't numbers."""
    if array.dtype.kind not in "biuf":
        raise TensorError(f"holds {array.dtype}; numbers are needed")
    given = array[..., np.newaxis] if array.ndim == axes else array
    if given.ndim != axes + 1:
        raise TensorError(f"has {array.ndim} axes; {axes} are needed, or {axes + 1} with the channels last")
    if not given.size:
        raise TensorError("is empty")
    return given


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
