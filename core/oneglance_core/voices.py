"""Generate voices: invented speakers who say invented words. What glyphs.py is to pictures.

A voice has a pitch, formants of its own, a tilt of its spectrum and a breath; an utterance is some vowels in a row, at
some distance from the microphone. The harmonics of the pitch are summed under the formants' envelope.

    for voice in voices(seed=1, count=20, utterances=2):
        voice.name, voice.utterances       # "voice-0001-007", two arrays float32 [samples], full scale 1

The same seed gives the same samples as far as the machine's sine does.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RATE = 8000  # samples a second
_VOWELS = np.array([[270, 2290], [530, 1840], [730, 1090], [570, 840], [300, 870], [490, 1350]], np.float64)  # Hz
_HIGHER = (2900.0, 3600.0)  # Hz: the third and the fourth formant
_WIDTHS = np.array([70.0, 100.0, 140.0, 190.0])  # Hz


@dataclass(frozen=True, slots=True)
class Voice:
    name: str
    utterances: tuple[npt.NDArray[np.float32], ...]


def voices(seed: int, count: int, utterances: int) -> Iterator[Voice]:
    """Yield ``count`` voices. Raises ValueError for a negative seed."""
    for i in range(count):
        owner = np.random.default_rng([seed, 4, i])
        pitch = 85.0 * 2 ** owner.uniform(0, 1.6)  # Hz
        formants = owner.uniform(0.85, 1.2) * np.exp(0.06 * owner.standard_normal((len(_VOWELS), 4)))
        tilt, breath = owner.uniform(0.6, 1.8), owner.uniform(0.003, 0.03)
        said = (np.random.default_rng([seed, 5, i, j]) for j in range(utterances))
        yield Voice(f"voice-{seed:04d}-{i:03d}", tuple(_utterance(rng, pitch, formants, tilt, breath) for rng in said))


def _utterance(
    rng: np.random.Generator, pitch: float, formants: npt.NDArray[np.float64], tilt: float, breath: float
) -> npt.NDArray[np.float32]:
    """Five to ten vowels; 1.5 to 3 s."""
    length = int(rng.uniform(1.5, 3.0) * RATE)
    at = np.linspace(0, 1, length)
    vowels = rng.integers(len(_VOWELS), size=rng.integers(5, 11))
    spoken = np.concatenate([_VOWELS[vowels], np.broadcast_to(_HIGHER, (len(vowels), 2))], axis=1) * formants[vowels]
    knots = np.linspace(0, 1, len(vowels))
    tract = np.stack([np.interp(at, knots, spoken[:, k]) for k in range(4)])  # [4, length], Hz
    melody = pitch * np.exp(np.interp(at, np.linspace(0, 1, 4), 0.08 * rng.standard_normal(4)))
    phase = 2 * np.pi * np.cumsum(melody) / RATE
    sound = np.zeros(length)
    for harmonic in range(1, int(0.48 * RATE / melody.max()) + 1):
        frequency = harmonic * melody
        envelope = (1 / (1 + ((frequency - tract) / _WIDTHS[:, np.newaxis]) ** 2)).sum(axis=0)
        sound += envelope * harmonic**-tilt * np.sin(harmonic * phase)
    sound = sound / np.abs(sound).max() * np.minimum(1, np.minimum(at, 1 - at) * 20)
    sound += breath * rng.standard_normal(length)
    loud: npt.NDArray[np.float32] = (rng.uniform(0.1, 0.7) * sound / np.abs(sound).max()).astype(np.float32)
    return loud
