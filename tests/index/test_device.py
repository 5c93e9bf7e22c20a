"""The device setting fails closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from oneglance_index import DeviceUnavailable, IndexSettings, LocalGalleries, OutOfMemory, parse_device
from oneglance_index.search.device import open_device
from tests.index import asking
from tests.index.brute_force import nearest


@pytest.mark.parametrize(("device", "ordinal"), [("cpu", None), ("cuda", 0), ("cuda:0", 0), ("cuda:12", 12)])
def test_names(device: str, ordinal: int | None) -> None:
    assert parse_device(device) == ordinal


@pytest.mark.parametrize("device", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:1 ", "cuda:0:1"])
def test_other_names_are_refused(device: str) -> None:
    with pytest.raises(DeviceUnavailable) as caught:
        parse_device(device)
    assert caught.value.device == device


def test_faiss_without_gpu_support_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    with pytest.raises(DeviceUnavailable, match="no GPU support"):
        LocalGalleries.open(tmp_path / "data", device="cuda")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("visible", "device", "tf32", "reason"),
    [(0, "cuda", "0", "sees no GPU"), (1, "cuda:1", "0", "sees 1 GPU"), (1, "cuda", "1", "TF32")],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, visible: int, device: str, tf32: str, reason: str
) -> None:
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: visible)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", tf32)
    with pytest.raises(DeviceUnavailable, match=reason):
        open_device(device, 0)


def test_a_broken_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("CUDA driver version is insufficient")

    monkeypatch.setattr(faiss, "StandardGpuResources", Broken, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    with pytest.raises(DeviceUnavailable, match="insufficient"):
        open_device("cuda", 0)


class _Resources:
    """Stands for FAISS's GPU classes over the CPU's, so that the calls made to them are checked without a GPU."""

    temp_memory = -1

    def setTempMemory(self, size: int) -> None:  # FAISS's name
        type(self).temp_memory = size


class _Config:
    device = -1
    useFloat16 = True  # noqa: N815 - FAISS's name
    use_cuvs = True


def _flat(resources: Any, dimension: int, config: Any) -> Any:
    assert isinstance(resources, _Resources)
    assert (config.device, config.useFloat16, config.use_cuvs) == (1, False, False)
    return faiss.IndexFlatL2(dimension)


def test_the_gpu_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "StandardGpuResources", _Resources, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatConfig", _Config, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatL2", _flat, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    vectors = np.random.default_rng(0).standard_normal((50, 8), dtype=np.float32)
    settings = IndexSettings(gpu_temp_memory_bytes=3 << 20)
    with LocalGalleries.open(tmp_path, device="cuda:1", settings=settings) as galleries:
        assert _Resources.temp_memory == 3 << 20
        galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
        for i, vector in enumerate(vectors):
            galleries.enroll("g", f"s{i}", vector[None]).result()
        result = asking.nearest(galleries, "g", vectors[:1], 3)
        assert result.device == "cuda:1"
        expected = nearest([(f"s{i}", i + 1, v) for i, v in enumerate(vectors)], vectors[0], 3)
        assert [(c.subject_id, c.encoding_id, c.distance) for c in result.candidates[0]] == expected


def test_a_gpu_without_room_for_a_gallery_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(resources: Any, dimension: int, config: Any) -> Any:
        if dimension > 1:
            raise RuntimeError("out of memory")
        return faiss.IndexFlatL2(dimension)

    monkeypatch.setattr(faiss, "StandardGpuResources", _Resources, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatConfig", _Config, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatL2", full, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
    with pytest.raises(DeviceUnavailable, match="out of memory"):
        LocalGalleries.open(tmp_path, device="cuda")


@pytest.mark.parametrize(("says", "error"), [("out of memory [2])", OutOfMemory), ("launch", DeviceUnavailable)])
def test_a_gpu_that_is_full_is_want_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, error: type[Exception]
) -> None:
    class Full:
        ntotal = 0

        def add(self, vectors: Any) -> None:
            raise RuntimeError(f"(cudaMalloc error {says}")

    monkeypatch.setattr(faiss, "StandardGpuResources", _Resources, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatConfig", _Config, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatL2", lambda *_: Full(), raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    with LocalGalleries.open(tmp_path, device="cuda:1") as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
        galleries.enroll("g", "s", np.ones((1, 8), np.float32)).result()
        with pytest.raises(error):
            asking.nearest(galleries, "g", np.ones((1, 8), np.float32), 1)


@pytest.mark.gpu
@pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="needs an NVIDIA GPU and faiss-gpu")
def test_a_real_gpu_equals_brute_force(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((5000, 128), dtype=np.float32)
    rows = [(f"s{i}", i + 1, vector) for i, vector in enumerate(vectors)]
    with LocalGalleries.open(tmp_path, device="cuda") as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=128).result()
        for subject, _, vector in rows:
            galleries.enroll("g", subject, vector[None])
        for probe in (vectors[7], rng.standard_normal(128, dtype=np.float32)):
            found = asking.nearest(galleries, "g", probe[None], 2500).candidates[0]
            assert [(c.subject_id, c.encoding_id, c.distance) for c in found] == nearest(rows, probe, 2500)
