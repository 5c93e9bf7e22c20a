"""The invented alphabet: the same pixels for a seed, drawings that look like their own glyph."""

import hashlib
import time

import numpy as np
import pytest

from oneglance_core.glyphs import TRAINING_SEEDS, alphabet, draw, glyphs
from oneglance_exporter.encoder.export import parity_inputs

# Of the pixels of alphabet(7, 5, 3). If it changes, every published figure on glyphs does.
GOLDEN = "10a3b66f0e521ff954954d7b1a714eccc64a34fbd91ff4cb760636bebd7972ba"


def test_the_same_seed_gives_the_same_pixels_everywhere() -> None:
    pixels = b"".join(subject.drawings.tobytes() for subject in alphabet(7, 5, 3))
    assert hashlib.sha256(pixels).hexdigest() == GOLDEN


def test_more_characters_or_drawings_leave_the_first_as_they_were() -> None:
    few, many = list(alphabet(3, 4, 2)), list(alphabet(3, 6, 5))
    for a, b in zip(few, many, strict=False):
        assert a.name == b.name
        np.testing.assert_array_equal(a.drawings, b.drawings[:2])


def test_drawings_are_black_ink_on_white_paper_with_a_margin() -> None:
    for size in (32, 105, 160):
        for subject in alphabet(11, 10, 2, size):
            assert subject.drawings.shape == (2, size, size)
            assert subject.drawings.dtype == np.uint8
            for picture in subject.drawings:
                assert picture.min() < 64
                assert (picture[[0, -1]] == 255).all()
                assert (picture[:, [0, -1]] == 255).all()
                assert 0.005 < (picture < 128).mean() < 0.3


def test_names_are_unique_and_drawings_differ() -> None:
    subjects = list(alphabet(5, 30, 2))
    assert len({subject.name for subject in subjects}) == 30
    assert all((subject.drawings[0] != subject.drawings[1]).any() for subject in subjects)


def test_a_drawing_resembles_its_own_glyph_more_than_the_others() -> None:
    """Even raw pixels, blurred, find the mate far more often than chance (1 in 30)."""
    subjects = list(alphabet(5, 30, 2))
    coarse = np.stack([s.drawings.reshape(2, 7, 15, 7, 15).mean(axis=(2, 4)) for s in subjects])
    flat = coarse.reshape(30, 2, -1)
    distance = ((flat[:, 1, None] - flat[None, :, 0]) ** 2).sum(axis=2)
    assert (distance.argmin(axis=1) == np.arange(30)).mean() > 0.3


def test_a_seed_or_a_size_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        list(alphabet(-1, 1, 1))
    with pytest.raises(ValueError, match="seed"):
        list(alphabet(2**32, 1, 1))
    with pytest.raises(ValueError, match="size"):
        list(alphabet(1, 1, 1, size=7))


def test_no_drawings_is_an_empty_stack() -> None:
    assert [s.drawings.shape for s in alphabet(1, 2, 0)] == [(0, 105, 105)] * 2


def test_training_seeds_lie_above_all_others() -> None:
    assert TRAINING_SEEDS.start == 2**31
    assert TRAINING_SEEDS.stop == 2**32


def test_drawing_is_fast() -> None:
    found = glyphs(np.random.default_rng(1), 20)
    begun = time.process_time()
    for i, glyph in enumerate(found):
        draw(glyph, np.random.default_rng(i))
    assert (time.process_time() - begun) / len(found) < 0.01  # about 0.6 ms where it was written


def test_parity_vectors_hold_drawings_and_edge_cases() -> None:
    inputs = parity_inputs()
    assert inputs.shape == (7, 105, 105, 1)
    assert (inputs[4] == 255).all()
    assert (inputs[5] == 0).all()
