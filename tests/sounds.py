"""Sound files, made here: WAV by hand, so that any header can be written, FLAC by soundfile."""

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

RATE = 8000


def soundfile() -> Any:
    """The package; the test is skipped where it isn't installed."""
    return pytest.importorskip("soundfile", reason="needs soundfile: pip install 'oneglance[sound]'")


def tone(hertz: float, seconds: float = 0.5, rate: int = RATE, level: float = 0.3) -> npt.NDArray[np.float32]:
    """float32 [samples, 1]."""
    wave = level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return wave.astype(np.float32)[:, np.newaxis]


def wav(samples: npt.NDArray[Any], rate: int = RATE, *, bits: int = 16) -> bytes:
    """A WAV of ``samples`` [n, channels], full scale 1. bits: 16, or 32 for floats."""
    if bits == 16:
        return wav_of((samples * 32768).clip(-32768, 32767).astype("<i2").tobytes(), rate, samples.shape[1])
    return wav_of(samples.astype("<f4").tobytes(), rate, samples.shape[1], bits=32, code=3)


def wav_of(
    body: bytes, rate: int = RATE, channels: int = 1, *, bits: int = 16, code: int = 1, claimed: int | None = None
) -> bytes:
    """A WAV with this header. claimed: the bytes of samples that it says to have."""
    frame = channels * bits // 8 & 0xFFFF
    form = struct.pack("<HHIIHH", code, channels, rate, rate * frame & 0xFFFFFFFF, frame, bits)
    size = len(body) if claimed is None else claimed
    riff = struct.pack("<4sI4s4sI", b"RIFF", 36 + size & 0xFFFFFFFF, b"WAVE", b"fmt ", len(form))
    return riff + form + struct.pack("<4sI", b"data", size) + body


def flac(samples: npt.NDArray[Any], rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile().write(buffer, samples, rate, format="FLAC")
    return buffer.getvalue()
