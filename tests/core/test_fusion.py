"""Rules of fusion against their definitions."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneglance_core.fusion import farthest_margin_match, margin_scores, template

DISTANCES = st.lists(st.floats(0, 4, width=32), min_size=1, max_size=12).map(sorted)


def score(distances: list[float], own: int) -> float:
    others = sorted(distances[:own] + distances[own + 1 :])[:5]
    return distances[own] - (0.3 * sum(others) / len(others) if others else 0.0)


@given(DISTANCES)
def test_a_score_is_the_distance_less_the_margin(distances: list[float]) -> None:
    found = margin_scores(np.array(distances, np.float32))
    assert found.tolist() == pytest.approx([score(distances, i) for i in range(len(distances))], abs=1e-12)


@given(DISTANCES)
def test_scores_have_the_order_of_distances(distances: list[float]) -> None:
    found = margin_scores(np.array(distances, np.float32))
    assert (np.diff(found) >= 0).all()
    assert (np.diff(found)[np.diff(np.array(distances)) == 0] == 0).all()


@given(DISTANCES, st.floats(-1, 4))
def test_nobody_beyond_the_farthest_match_matches(distances: list[float], tau: float) -> None:
    ordered = np.array(distances, np.float32)
    beyond = farthest_margin_match(ordered[:6], tau)
    assert (margin_scores(ordered)[ordered > beyond] > tau).all()


def test_a_template_is_the_mean_as_long_as_the_encodings_are() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 50):
        vectors: npt.NDArray[np.float32] = rng.standard_normal((n, 16)).astype(np.float32)
        made = template(vectors)
        mean = vectors.mean(axis=0, dtype=np.float64)
        assert made.dtype == np.float32
        assert made @ mean == pytest.approx(np.linalg.norm(made) * np.linalg.norm(mean), rel=1e-6)
        assert np.linalg.norm(made) == pytest.approx(np.linalg.norm(vectors, axis=1).mean(), rel=1e-6)


def test_one_encoding_is_its_own_template() -> None:
    only = np.random.default_rng(1).standard_normal((1, 16)).astype(np.float32)
    assert (template(only) == only[0]).all()


def test_a_mean_without_direction_is_not_stretched() -> None:
    vector = np.array([3.0, 4.0], np.float32)
    assert (template(np.stack([vector, -vector])) == 0).all()
