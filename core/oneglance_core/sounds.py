"""From the bytes of a sound to an encoder's input: the one way, of the exporter and of the server alike.

Limits hold before decoding. Decoded by libsndfile, in the package ``soundfile`` (``pip install 'oneglance[sound]'``).
Errors::

    SoundError          a sound that can't be used; ``reason`` says why
    MemoryError         not enough memory for it now
"""

import importlib.util
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import InputSpec
from oneglance_core.resampling import resampled
from oneglance_core.sound_header import SoundError, SoundHeader, read_sound_header
from oneglance_core.windows import windows_of

SOUND_SUFFIXES = (".wav", ".flac")
DEFAULT_MAX_BYTES, DEFAULT_MAX_SECONDS = 16 << 20, 60.0
CLIPPED_SHARE = (
    0.01  # of the samples: at full scale, or at the sound's own highest or lowest, and so was the one before
)
_CLIPPED_PEAK = 0.1  # of a sound cut off below full scale; in quiet ones steps are few, and samples often equal
SILENT = 10 ** (-60 / 20)  # standard deviation of the loudest block, full scale is 1
_BLOCK_SECONDS = 0.1
_READ_FRAMES = 1 << 16

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SoundLimits:
    """Checked before decoding: the size of the file, and its length as its header states it."""

    max_sound_bytes: int = DEFAULT_MAX_BYTES
    max_sound_seconds: float = DEFAULT_MAX_SECONDS


def can_decode() -> bool:
    """Whether the package soundfile is there."""
    return importlib.util.find_spec("soundfile") is not None


def sound_input(data: bytes, spec: InputSpec, limits: SoundLimits) -> Samples:
    """What an encoder that takes ``spec``, with ``sound``, is given for a sound file: float32 [windows, L, C].

    Decoded; brought to C channels (the mean of all for one; the same twice for two of one), to the encoder's sample
    rate, and to its least level; cut into windows where it has some, else at the end, or followed by zeros.
    Raises SoundError: SOUND_EMPTY, SOUND_TOO_LARGE, SOUND_UNDECODABLE, SOUND_TOO_SHORT, SOUND_SILENT, SOUND_CLIPPED.
    """
    return windows_of(sound_samples(data, spec, limits), spec)


def sound_samples(data: bytes, spec: InputSpec, limits: SoundLimits) -> Samples:
    """The same before it is cut: float32 [samples, C]."""
    assert spec.sound is not None
    header = checked_header(data, limits)
    if header.seconds < spec.sound.least_seconds:
        raise SoundError("SOUND_TOO_SHORT", f"{header.seconds:.2f} s, at least {spec.sound.least_seconds:g} s")
    samples = _decoded(data, header, spec.shape[-1])
    if _loudest(samples, header.rate) < SILENT:
        raise SoundError("SOUND_SILENT", f"nowhere louder than {20 * np.log10(SILENT):.0f} dB below full scale")
    if (share := _flat_share(samples)) > CLIPPED_SHARE:
        raise SoundError("SOUND_CLIPPED", f"{share:.0%} of its samples are cut off at its highest or lowest")
    brought = resampled(samples, header.rate, spec.sound.sample_rate)
    return brought if spec.sound.least_dbfs is None else _louder(brought, spec.sound.least_dbfs)


def checked_header(data: bytes, limits: SoundLimits) -> SoundHeader:
    """Of a sound within the limits. Raises SoundError."""
    if len(data) > limits.max_sound_bytes:
        raise SoundError("SOUND_TOO_LARGE", f"{len(data)} bytes, at most {limits.max_sound_bytes}")
    header = read_sound_header(data)
    if header.seconds > limits.max_sound_seconds:
        raise SoundError("SOUND_TOO_LARGE", f"{header.seconds:.1f} s, at most {limits.max_sound_seconds:g} s")
    return header


def _decoded(data: bytes, header: SoundHeader, channels: int) -> Samples:
    """float32 [header.frames, channels], full scale 1. Raises SoundError."""
    try:
        import soundfile
    except ModuleNotFoundError as error:
        raise SoundError("SOUND_UNDECODABLE", "sounds need soundfile: pip install 'oneglance[sound]'") from error
    out = np.empty((header.frames, channels), np.float32)
    clipped, done, last = 0, 0, False
    full = 1 - 1.5 / (1 << min(header.bits or 16, 16) - 1)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if (file.samplerate, file.channels) != (header.rate, header.channels):
                raise SoundError("SOUND_UNDECODABLE", "damaged sound: its headers contradict each other")
            while done < header.frames:
                block = file.read(min(_READ_FRAMES, header.frames - done), dtype="float32", always_2d=True)
                if not len(block):
                    raise SoundError("SOUND_UNDECODABLE", f"cut off after {done} of {header.frames} samples")
                if not np.isfinite(block).all():
                    raise SoundError("SOUND_UNDECODABLE", "samples that are not finite")
                at_full = (np.abs(block) >= full).any(axis=1)
                clipped += int((at_full[1:] & at_full[:-1]).sum()) + int(last and at_full[0])
                last = bool(at_full[-1])
                out[done : done + len(block)] = _mixed(block, channels)
                done += len(block)
    except (SoundError, MemoryError):
        raise
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError, OSError) as error:
        raise SoundError("SOUND_UNDECODABLE", f"damaged sound: {error}") from error
    if clipped > CLIPPED_SHARE * header.frames:
        raise SoundError("SOUND_CLIPPED", f"{clipped / header.frames:.0%} of its samples are cut off at full scale")
    return out


def _mixed(block: Samples, channels: int) -> Samples:
    if block.shape[1] == channels:
        return block
    mean: Samples = block.mean(axis=1, keepdims=True)
    return np.repeat(mean, channels, axis=1)


def _loudest(samples: Samples, rate: int) -> float:
    """The largest standard deviation of a block of _BLOCK_SECONDS, or of all if there is less."""
    block = min(len(samples), max(1, round(_BLOCK_SECONDS * rate)))
    blocks = samples[: len(samples) // block * block].reshape(-1, block, samples.shape[1])
    return float(blocks.std(axis=1, dtype=np.float64).max())


def _flat_share(samples: Samples) -> float:
    """Of the worst channel, the share of samples at its highest or lowest after another one there."""
    at = (samples == samples.max(axis=0)) | (samples == samples.min(axis=0))
    shares = (at[1:] & at[:-1]).mean(axis=0)
    return float(shares[np.abs(samples).max(axis=0) >= _CLIPPED_PEAK].max(initial=0.0))


def _louder(samples: Samples, least_dbfs: float) -> Samples:
    level = float(np.sqrt(np.square(samples, dtype=np.float64).mean()))
    return samples * np.float32(max(1.0, 10 ** (least_dbfs / 20) / max(level, 1e-12)))
