"""The device setting fails closed."""

from __future__ import annotations

from pathlib import Path

import faiss
import pytest

from oneglance_index import DeviceUnavailable, LocalGalleries, parse_device
from oneglance_index.search import device, faiss_calls
from oneglance_index.search.device import open_device


@pytest.mark.parametrize(("name", "ordinal"), [("cpu", None), ("cuda", 0), ("cuda:0", 0), ("cuda:12", 12)])
def test_names(name: str, ordinal: int | None) -> None:
    assert parse_device(name) == ordinal


@pytest.mark.parametrize("name", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:1 ", "cuda:0:1"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(DeviceUnavailable) as caught:
        parse_device(name)
    assert caught.value.device == name


def test_faiss_without_gpu_support_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    with pytest.raises(DeviceUnavailable, match="no GPU support"):
        LocalGalleries.open(tmp_path / "data", device="cuda")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("visible", "name", "inexact", "reason"),
    [
        (-1, "cuda", "", "there is no NVIDIA driver"),
        (0, "cuda", "", r"FAISS sees 0 GPU\(s\)"),
        (1, "cuda:1", "", "FAISS sees 1 GPU"),
        (1, "cuda", "NVIDIA_TF32_OVERRIDE", "TF32"),
        (1, "cuda", "CUBLAS_EMULATE_SINGLE_PRECISION", "CUBLAS_EMULATE_SINGLE_PRECISION=1"),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, visible: int, name: str, inexact: str, reason: str
) -> None:
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: visible)
    monkeypatch.setattr(faiss_calls, "driver_trouble", lambda *_: "there is no NVIDIA driver" if visible < 0 else None)
    if inexact:
        monkeypatch.setenv(inexact, "1")
    with pytest.raises(DeviceUnavailable, match=reason):
        open_device(name, 0)


def test_a_broken_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("CUDA driver version is insufficient")

    monkeypatch.setattr(faiss, "StandardGpuResources", Broken, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss_calls, "driver_trouble", lambda *_: None)
    with pytest.raises(DeviceUnavailable, match="insufficient"):
        open_device("cuda", 0)


def test_faiss_that_misses_a_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """faiss-gpu looks for CUDA's libraries itself, and raises RuntimeError."""

    def load() -> None:
        raise RuntimeError("faiss-gpu installed but nvidia-cublas-cu12 is missing")

    monkeypatch.setattr(device, "load", load)
    with pytest.raises(DeviceUnavailable, match="nvidia-cublas-cu12 is missing"):
        open_device("cuda", 0)
