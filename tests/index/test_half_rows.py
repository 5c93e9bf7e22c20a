"""Rows in half precision: the proven bound holds, so that answers are those of float32; and half the memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from oneglance_core.distance import squared_l2, squared_norms
from oneglance_index import Found, IndexSettings, LocalGalleries, Search
from oneglance_index.search.bounds import HALF_MOST, as_halves, on_card
from tests.fake_card import FakeCard

D = 32


def as_faiss(rows: NDArray[np.float32], probe: NDArray[np.float32], cut_off: float) -> NDArray[np.float32]:
    """Distances float32 [n] as FAISS and tensor cores may compute them; `cut_off`, -1 to 1: how far the sums are off,
    as a share of what is allowed for."""
    x, q = as_halves(rows), as_halves(probe)
    squared = float((q * q).astype(np.float64).sum())
    wide, long = x.astype(np.float64), q.astype(np.float64)
    products = wide @ long + cut_off * len(q) * 2.0**-22 * (np.abs(wide) @ np.abs(long))
    norms = squared_norms(x.astype(np.float32)).astype(np.float32)
    return np.maximum(norms + squared - 2 * products, 0).astype(np.float32)


VALUES = st.one_of(
    st.floats(-2, 2, width=32),
    st.floats(-(2.0**-13), 2.0**-13, width=32),  # below the smallest normal float16
    st.sampled_from([0.0, 1.0, -1.0, 2.0**-25, 254.9, 255.1, -300.0, 7e4]),
)


@given(data=st.data())
def test_no_row_within_reach_is_ruled_out(data: st.DataObject) -> None:
    """Whatever the rows, the probe and the rounding: where a row of distance c was not proposed, F is such that the
    bound does not say that all such rows were."""
    dimension = data.draw(st.integers(1, 6))
    one = st.lists(VALUES, min_size=dimension, max_size=dimension)
    rows = np.array(data.draw(st.lists(one, min_size=1, max_size=8)), np.float32)
    probe = np.array(data.draw(one), np.float32)
    if data.draw(st.booleans()):
        rows[0] = probe * np.float32(1 + 3e-4)  # near twins
    proposed = as_faiss(rows, probe, data.draw(st.sampled_from([-1.0, 0.0, 1.0])))
    assert np.isfinite(proposed).all()
    cuts = squared_l2(rows, probe).astype(np.float64)
    largest = float(np.sqrt(squared_norms(rows).max()))
    bounds = on_card(dimension, largest, half=True)
    assert (bounds.floors(proposed.astype(np.float64), np.repeat(probe[None], len(rows), 0), cuts) <= cuts).all()


def test_float32_would_rule_rows_out() -> None:
    """Without their own term halves would lose rows: the test above can fail."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2000, D)).astype(np.float32) / np.float32(np.sqrt(D))
    probe = rows[0] + np.float32(0.01)
    cuts = squared_l2(rows, probe).astype(np.float64)
    largest, probes = as_faiss(rows, probe, 1.0).astype(np.float64), np.repeat(probe[None], len(rows), 0)
    floors = [bounds.floors(largest, probes, cuts) for bounds in (on_card(D, 9.0, half) for half in (False, True))]
    assert (floors[0] > cuts).any()
    assert (floors[1] <= cuts).all()
    assert np.median(cuts - floors[1]) < 0.02  # and it is of use: little more than what 2^-11 makes


def opened(path: Path, device: str, rows: str = "float32") -> LocalGalleries:
    settings = IndexSettings(gpu_temp_memory_bytes=1 << 20, gpu_rows=rows)
    return LocalGalleries.open(path, device=device, settings=settings)


@pytest.mark.parametrize("fusion", ["nearest", "mean", "margin"])
def test_a_store_answers_the_same_with_half_the_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fusion: str
) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((4000, D)).astype(np.float32)
    vectors[2000:] = vectors[:2000] + rng.standard_normal((2000, D)).astype(np.float32) * np.float32(1e-4)
    vectors[-1] = 400  # beyond HALF_MOST
    assert vectors[-1, 0] > HALF_MOST
    probes = np.concatenate([vectors[::500], rng.standard_normal((3, D)).astype(np.float32), vectors[-1:]])
    searches = [Search(probes, "e", 5), Search(probes, "e", 3, 40.0, 50), Search(probes[:2], "e", 2500)]
    answers, used = {}, {}
    with opened(tmp_path, "cpu") as store:
        store.create_gallery("g", encoder_digest="e", dimension=D, fusion=fusion).result()
        for start in range(0, len(vectors), 2):
            store.enroll("g", f"s{start}", vectors[start : start + 2])
        store.delete_subject("g", "s10").result()
        answers["cpu"] = store.search_many("g", searches)
    for rows in ("float32", "float16"):
        with monkeypatch.context() as patched:
            card = FakeCard(patched)
            with opened(tmp_path, "cuda", rows) as store:
                answers[rows] = store.search_many("g", searches)
                used[rows] = card.used - card.scratch
    for rows in ("float32", "float16"):
        for one, other in zip(answers[rows], answers["cpu"], strict=True):
            assert isinstance(one, Found)
            assert isinstance(other, Found)
            assert (one.candidates, one.matches, one.truncated) == (other.candidates, other.matches, other.truncated)
    assert used["float16"] / used["float32"] == pytest.approx((2 * D + 4) / (4 * D + 4), abs=0.01)
