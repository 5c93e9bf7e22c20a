"""A map between the encodings of two encoders: against plain least squares, and what it costs counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.fusion import FUSIONS, margin_scores
from oneglance_core.mapping import FOLDS, PENALTIES, EncodingMap, Losses, fit_map, losses, procrustes, ridge

SIZES = st.tuples(st.integers(2, 6), st.integers(2, 6))


def pairs(seed: int, sizes: tuple[int, int], count: int = 60, noise: float = 0.1) -> tuple[Any, Any]:
    """The second are the first, mapped by a random matrix and moved, with noise."""
    rng = np.random.default_rng(seed)
    old = rng.normal(size=(count, sizes[0])) + 3.0
    new = old @ rng.normal(size=sizes) + rng.normal(size=sizes[1]) + noise * rng.normal(size=(count, sizes[1]))
    return old.astype(np.float32), new.astype(np.float32)


@given(st.integers(0, 99), SIZES, st.sampled_from(PENALTIES))
@settings(deadline=None)
def test_ridge_is_least_squares_with_a_row_for_each_weight(seed: int, sizes: tuple[int, int], penalty: float) -> None:
    old, new = pairs(seed, sizes)
    x, y = old.astype(np.float64), new.astype(np.float64)
    centred = x - x.mean(axis=0)
    weight = penalty * np.square(centred).sum() / sizes[0]
    rows = np.vstack([centred, np.sqrt(weight) * np.eye(sizes[0])])
    targets = np.vstack([y - y.mean(axis=0), np.zeros(sizes)])
    expected = np.linalg.lstsq(rows, targets, rcond=None)[0]
    found = ridge(old, new, penalty, unit_norm=False)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found(old), centred @ expected + y.mean(axis=0), rtol=1e-4, atol=1e-4)


@given(st.integers(0, 99), st.integers(2, 6), st.floats(0.1, 10))
@settings(deadline=None)
def test_procrustes_finds_a_turn_a_scale_and_a_shift(seed: int, size: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(size, size)))[0]
    old = rng.normal(size=(40, size)).astype(np.float32)
    new = (scale * old.astype(np.float64) @ turn + rng.normal(size=size)).astype(np.float32)
    found = procrustes(old, new, unit_norm=False)
    np.testing.assert_allclose(found.weights, scale * turn, rtol=1e-3, atol=1e-4 * scale)
    np.testing.assert_allclose(found(old), new, rtol=1e-3, atol=1e-4 * max(1.0, scale))


@pytest.mark.parametrize("sizes", [(3, 5), (5, 3), (4, 4)])
def test_what_is_mapped_has_length_one_where_the_encoder_says_so(sizes: tuple[int, int]) -> None:
    old, new = pairs(1, sizes)
    whose = np.arange(len(old)) // 2
    made = fit_map(old, new, whose, unit_norm=True)
    np.testing.assert_allclose(np.linalg.norm(made(old), axis=1), 1, rtol=1e-6)
    assert made(old).dtype == np.float32
    assert made(old).shape == (len(old), sizes[1])
    nothing = EncodingMap("ridge", 0.0, np.zeros(sizes), np.zeros(sizes[1]), unit_norm=True)
    assert not nothing(old).any(), "what has no length is left as it is, for the store to refuse"


def test_cross_validation_finds_the_kind_that_the_pairs_are_of() -> None:
    rng = np.random.default_rng(5)
    turn = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    old = rng.normal(size=(60, 24)).astype(np.float32)
    turned = (old @ turn + 0.3 * rng.normal(size=old.shape)).astype(np.float32)
    assert fit_map(old, turned, np.arange(60), unit_norm=False).kind == "procrustes", "few pairs, and a turn"
    bent, targets = pairs(3, (6, 6), 300, noise=0.01)
    assert fit_map(bent, targets, np.arange(300), unit_norm=False).kind == "ridge"


def test_no_subject_is_on_both_sides() -> None:
    """With every subject twice, and noise in place of a relation, a map that saw the double would seem to be good."""
    rng = np.random.default_rng(7)
    old = np.repeat(rng.normal(size=(40, 30)), 2, axis=0).astype(np.float32)
    new = np.repeat(rng.normal(size=(40, 4)), 2, axis=0).astype(np.float32)
    honest = fit_map(old, new, np.repeat(np.arange(40), 2), unit_norm=False)
    fooled = fit_map(old, new, np.arange(80), unit_norm=False)
    assert np.abs(honest.weights).max() < np.abs(fooled.weights).max() / 3
    with pytest.raises(ValueError, match=f"{FOLDS} subjects"):
        fit_map(old, new, np.arange(80) % (FOLDS - 1), unit_norm=False)


def counted(enrolled: Any, probes: Any, own: Any, tau: float, fusion: str) -> Losses:
    """One probe at a time."""
    missed = let_in = 0
    for probe, mate in zip(probes, own, strict=True):
        distances = pairwise_squared_l2(probe[None], enrolled)[0]
        for absent in (False, True):
            places = [i for i in range(len(enrolled)) if not (absent and i == mate)]
            places.sort(key=lambda i: distances[i])
            ordered = distances[places]
            scores = margin_scores(ordered) if fusion == "margin" else ordered
            if absent:
                let_in += scores[0] <= tau
            else:
                missed += places[0] != mate or scores[0] > tau
    return Losses(len(own), missed, let_in)


@given(st.integers(0, 99), st.integers(2, 12), st.sampled_from(FUSIONS), st.floats(0, 4))
@settings(deadline=None)
def test_losses_are_those_of_each_probe(seed: int, subjects: int, fusion: str, tau: float) -> None:
    rng = np.random.default_rng(seed)
    enrolled = rng.normal(size=(subjects, 3)).astype(np.float32)
    own = rng.integers(0, subjects, 300)
    probes = (enrolled[own] + 0.5 * rng.normal(size=(300, 3))).astype(np.float32)
    found = losses(enrolled, probes, own, tau, fusion, pairwise_squared_l2)
    assert found == counted(enrolled, probes, own, tau, fusion)
