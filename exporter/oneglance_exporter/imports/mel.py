"""Mel spectrograms as librosa makes them (Slaney's scale and norm), as matrices that go into a graph."""

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
_LINEAR = 200 / 3  # Hz a mel, below
_BREAK = 1000.0  # Hz; above, mels are logarithmic
_LOG_STEP = np.log(6.4) / 27


def fourier(size: int) -> Matrix:
    """float64 [2 * (size // 2 + 1), size]: a Fourier transform behind a Hann window, real parts first."""
    at = np.arange(size)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * at / size)
    phases = 2 * np.pi * np.outer(np.arange(size // 2 + 1), at) / size
    return np.concatenate([np.cos(phases) * hann, -np.sin(phases) * hann])


def mel_weights(sample_rate: int, size: int, channels: int) -> Matrix:
    """float64 [channels, size // 2 + 1]: triangles of area 1 over the frequencies of a transform of ``size``."""
    frequencies = np.arange(size // 2 + 1) * sample_rate / size
    edges = _hertz(np.linspace(0, _mel(sample_rate / 2), channels + 2))
    low, middle, high = edges[:-2, np.newaxis], edges[1:-1, np.newaxis], edges[2:, np.newaxis]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    triangles: Matrix = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    return triangles


def _mel(hertz: float) -> float:
    if hertz < _BREAK:
        return hertz / _LINEAR
    return float(_BREAK / _LINEAR + np.log(hertz / _BREAK) / _LOG_STEP)


def _hertz(mels: Matrix) -> Matrix:
    at_break = _BREAK / _LINEAR
    above: Matrix = np.where(mels < at_break, mels * _LINEAR, _BREAK * np.exp(_LOG_STEP * (mels - at_break)))
    return above
