"""What a sound file says of itself, read without its decoder: WAV and FLAC.

A header may claim anything: 4 GB in 44 bytes, no samples a second, 65,535 channels. So it is read, and held against
limits, before the decoder sees the file. Errors::

    SoundError          a sound that can't be used; ``reason`` says why
"""

import struct
from dataclasses import dataclass

from oneglance_core.manifests.sound import LEAST_RATE, MOST_RATE, RATE_STEP

MAX_CHANNELS = 8
MAX_CHUNKS = 256  # of a WAV, before its samples
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_WIDTHS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}  # bits of a sample, by format
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # written by programs that couldn't go back to say how much it became


class SoundError(ValueError):
    """A sound that can't be used. ``reason`` is stable (docs/errors.md)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SoundHeader:
    """``frames``: samples of each channel. ``bits``: of an integer sample; 0: samples are floats."""

    rate: int
    channels: int
    frames: int
    bits: int

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def read_sound_header(data: bytes) -> SoundHeader:
    """Raises SoundError (SOUND_EMPTY, SOUND_UNDECODABLE)."""
    if not data:
        raise SoundError("SOUND_EMPTY", "no bytes")
    try:
        if is_sound(data):
            header = _flac(data) if data[:4] == b"fLaC" else _wav(data)
        else:
            raise _undecodable("not a sound of a known format (WAV, FLAC)")
    except struct.error as error:
        raise _undecodable("its header is cut off") from error
    if not 1 <= header.channels <= MAX_CHANNELS:
        raise _undecodable(f"{header.channels} channels; 1 to {MAX_CHANNELS} are taken")
    if not LEAST_RATE <= header.rate <= MOST_RATE or header.rate % RATE_STEP:
        raise _undecodable(
            f"{header.rate} samples a second; {LEAST_RATE} to {MOST_RATE} are taken, in multiples of {RATE_STEP}"
        )
    return header


def is_sound(data: bytes) -> bool:
    """By its first bytes."""
    return data[:4] == b"fLaC" or (data[:4] == b"RIFF" and data[8:12] == b"WAVE")


def _wav(data: bytes) -> SoundHeader:
    position, form = 12, None
    for _ in range(MAX_CHUNKS):
        kind, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if kind == b"fmt ":
            form = _format(data, position, size)
        elif kind == b"data":
            if form is None:
                raise _undecodable("a WAV that doesn't say what its samples are")
            return _of_samples(form, size, len(data) - position)
        position += size + size % 2
    raise _undecodable(f"a WAV of more than {MAX_CHUNKS} chunks before its samples")


@dataclass(frozen=True, slots=True)
class _Format:
    code: int
    channels: int
    rate: int
    frame_bytes: int
    bits: int


def _format(data: bytes, position: int, size: int) -> _Format:
    code, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", data, position)
    if code == _EXTENSIBLE and size >= 40:
        (code,) = struct.unpack_from("<H", data, position + 24)
    if bits not in _WIDTHS.get(code, ()):
        raise _undecodable(f"a WAV of format {code} with {bits} bits a sample; PCM and floating point are taken")
    if frame_bytes != channels * bits // 8:
        raise _undecodable(f"a WAV with {frame_bytes} bytes for {channels} samples of {bits} bits")
    return _Format(code, channels, rate, max(1, frame_bytes), bits)


def _of_samples(form: _Format, size: int, left: int) -> SoundHeader:
    if size > left and (size not in _UNKNOWN_SIZES or not left):
        raise _undecodable(f"cut off: {size} bytes of samples are said to follow, {left} do")
    used = left if size in _UNKNOWN_SIZES else size
    return SoundHeader(form.rate, form.channels, used // form.frame_bytes, form.bits if form.code == _PCM else 0)


def _flac(data: bytes) -> SoundHeader:
    kind, length = data[4:5], data[5:8]
    if len(data) < 42 or kind[0] & 0x7F or int.from_bytes(length, "big") != 34:
        raise _undecodable("a FLAC without its header")
    packed = int.from_bytes(data[18:26], "big")  # 20 bits rate, 3 channels - 1, 5 bits - 1, 36 samples
    frames = packed & (1 << 36) - 1
    if not frames:
        raise _undecodable("a FLAC that doesn't say how long it is")
    return SoundHeader(packed >> 44, (packed >> 41 & 7) + 1, frames, (packed >> 36 & 31) + 1)


def _undecodable(message: str) -> SoundError:
    return SoundError("SOUND_UNDECODABLE", message)
