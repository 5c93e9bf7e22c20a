"""From one sample rate to another: a windowed sinc, evaluated where samples are wanted (a polyphase filter)."""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

_ZEROS = 16  # crossings of the sinc on each side
_BETA = 8.6  # of the Kaiser window: 80 dB below what is passed
_PASSED = 0.94  # of the lower rate's half


def resampled(samples: npt.NDArray[np.float32], rate: int, wanted: int) -> npt.NDArray[np.float32]:
    """``samples`` [n, C] at ``rate`` samples a second as float32 [ceil(n * wanted / rate), C] at ``wanted``.

    What the lower rate can't hold is taken out. Beyond its ends the signal is 0.
    """
    if rate == wanted:
        return samples
    common = math.gcd(rate, wanted)
    up, down = wanted // common, rate // common
    filters, reach = _filters(up, down)
    count = -(-len(samples) * up // down)
    result = np.empty((count, samples.shape[1]), np.float32)
    room = np.zeros((len(samples) + 2 * reach + down + 1, samples.shape[1]), np.float32)
    room[reach : reach + len(samples)] = samples
    # The filter of output j depends on j modulo ``up`` only; between such outputs lie ``down`` inputs.
    seen = np.lib.stride_tricks.sliding_window_view(room, 2 * reach, axis=0)  # [., C, 2 * reach]
    for phase in range(min(up, count)):
        first = phase * down // up + 1
        outputs = len(range(phase, count, up))
        result[phase::up] = seen[first : first + down * outputs : down][:outputs] @ filters[phase]
    return result


@lru_cache(maxsize=8)
def _filters(up: int, down: int) -> tuple[npt.NDArray[np.float32], int]:
    """float32 [up, 2 * reach]: row p weighs the inputs from floor - reach + 1 to floor + reach around an output that
    lies p * down / up inputs from the start, modulo 1."""
    cut = _PASSED * min(1.0, up / down)  # of half the input's rate
    reach = math.ceil(_ZEROS / cut)
    offset = (np.arange(up) * down % up)[:, np.newaxis] / up  # of the output from the input before it
    distance = np.arange(1 - reach, reach + 1) - offset
    window = np.i0(_BETA * np.sqrt(np.maximum(0, 1 - np.square(distance / reach)))) / np.i0(_BETA)
    weights = cut * np.sinc(cut * distance) * window
    # A constant stays what it is.
    filters: npt.NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    filters.setflags(write=False)
    return filters, reach
