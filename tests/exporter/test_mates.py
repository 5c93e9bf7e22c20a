"""Scores of mated probes, as a manifest keeps them, against those of the very galleries they come from."""

import numpy as np
import pytest

from oneglance_core.fusion import FUSIONS
from oneglance_core.manifests import MateScores, MatesOfSize
from oneglance_exporter.encoder.mates import SHARES, SIZES, mate_scores
from oneglance_exporter.encoder.random_galleries import EXAMPLES, RandomGalleries


def people(count: int, pictures: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Encodings float32 [N, 8] of unit norm, and whose they are."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.standard_normal((count, 8)), pictures, axis=0)
    vectors = centres + noise * rng.standard_normal(centres.shape)
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit, np.repeat(np.arange(count), pictures)


def test_each_share_of_the_mates_is_below_its_score() -> None:
    random = RandomGalleries(*people(20, 6), seed=3)
    found = mate_scores(random, "made up")
    assert found is not None
    assert (found.people, found.shares) == (20, SHARES)
    measured = {(one.fusion, one.examples, one.gallery_size) for one in found.galleries}
    assert measured == {(rule, n, size) for rule in FUSIONS for n in EXAMPLES for size in SIZES if size <= 10}
    for one in found.galleries:
        scores = random.scores(one.examples, one.gallery_size)[one.fusion].mated
        hits = scores[np.isfinite(scores)]
        assert [float((hits <= score + 1e-5).mean()) for score in one.scores] == pytest.approx(SHARES, abs=0.02)


def test_a_picture_alone_tells_of_no_mates() -> None:
    assert mate_scores(RandomGalleries(*people(20, 1)), "made up") is None


def test_the_most_similar_gallery_is_looked_up() -> None:
    galleries = tuple(
        MatesOfSize(fusion="mean", examples=examples, gallery_size=size, scores=(examples, size))
        for examples, size in ((1, 5), (1, 100), (3, 100))
    )
    mates = MateScores(data="", people=5, shares=(0.1, 0.9), galleries=galleries)
    assert mates.scores("mean", 1.0, 30) == (1, 5)
    assert mates.scores("mean", 1.4, 90) == (1, 100)
    assert mates.scores("mean", 2.6, 2) == (3, 100)
    assert mates.scores("nearest", 1.0, 5) is None
    for wrong in ((0.9, 0.1), (0.5,), (0.0, 0.5)):
        with pytest.raises(ValueError, match="shares"):
            MateScores(data="", people=5, shares=wrong, galleries=galleries)
