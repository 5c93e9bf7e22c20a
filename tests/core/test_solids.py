"""Invented characters in space, and invented voices: the same for a seed, and like themselves."""

import hashlib

import numpy as np
import pytest

from oneglance_core.solids import cabinet, shape
from oneglance_core.voices import RATE, voices

# Of the voxels of cabinet(7, 4, 2). If it changes, every published figure on solids does.
GOLDEN = "a515a807cd9d3f77f9dd5545b1abb03df5cf0f36fd499dbb88e89622ff694591"


def test_the_same_seed_gives_the_same_voxels_everywhere() -> None:
    voxels = b"".join(solid.volumes.tobytes() for solid in cabinet(7, 4, 2))
    assert hashlib.sha256(voxels).hexdigest() == GOLDEN


def test_more_characters_or_hands_leave_the_first_as_they_were() -> None:
    for a, b in zip(cabinet(3, 3, 2), cabinet(3, 5, 4), strict=False):
        assert a.name == b.name
        np.testing.assert_array_equal(a.volumes, b.volumes[:2])


@pytest.mark.parametrize("size", [8, 24, 33])
def test_tubes_lie_inside_the_cube(size: int) -> None:
    for solid in cabinet(11, 5, 2, size):
        assert solid.volumes.shape == (2, size, size, size)
        assert solid.volumes.dtype == np.uint8
        for volume in solid.volumes:
            assert volume.max() > 200
            assert 0.005 < (volume > 128).mean() < (0.2 if size >= 24 else 0.6)
            edges = [volume[[0, -1]], volume[:, [0, -1]], volume[:, :, [0, -1]]]
            assert size < 33 or not any(edge.any() for edge in edges)


def test_a_hand_makes_its_own_character_more_than_another() -> None:
    """Blurred, the nearest of other hands' volumes is that of the same character."""
    solids = list(cabinet(5, 10, 2))
    blurred = np.array([[blur(volume).ravel() for volume in solid.volumes] for solid in solids])
    apart = np.square(blurred[:, 0, np.newaxis] - blurred[np.newaxis, :, 1]).sum(axis=2)
    assert (apart.argmin(axis=1) == np.arange(10)).sum() >= 7


def blur(volume: np.ndarray) -> np.ndarray:
    padded = volume.astype(np.float64)
    for axis in range(3):
        padded = np.mean([np.roll(padded, step, axis) for step in (-2, -1, 0, 1, 2)], axis=0)
    return padded


def test_too_small_a_cube_and_a_wrong_seed_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 voxels"):
        shape((np.zeros((2, 3)),), np.random.default_rng(0), 7)
    with pytest.raises(ValueError, match="seed must be"):
        list(cabinet(-1, 1, 1))


def test_voices_speak_within_full_scale_and_differ() -> None:
    spoken = list(voices(1, 3, 2))
    for voice in spoken:
        for said in voice.utterances:
            assert 1.5 * RATE - 1 <= len(said) <= 3 * RATE
            assert 0.05 < np.abs(said).max() < 1
    np.testing.assert_array_equal(spoken[2].utterances[0], list(voices(1, 4, 3))[2].utterances[0])
    assert len({voice.name for voice in spoken}) == 3
