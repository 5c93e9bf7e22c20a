"""The model folder: round trip, atomicity, and every way it can be wrong."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oneglance.model_folder import (
    Array,
    Calibration,
    ModelFolderError,
    read_model_folder,
    write_model_folder,
)
from tests.models import pixels_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pixels_model(tmp_path / "model")


def edit(folder: Path, path: str, value: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    at = manifest
    *parents, last = path.split(".")
    for key in parents:
        at = at[key]
    at[last] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_round_trip(folder: Path, tmp_path: Path) -> None:
    first = read_model_folder(folder)
    write_model_folder(tmp_path / "copy", first.manifest, first.model)
    second = read_model_folder(tmp_path / "copy")
    assert (second.manifest, second.model, second.digest) == (first.manifest, first.model, first.digest)
    assert (tmp_path / "copy" / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()


def test_the_digest_covers_graph_and_contract_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    digest = read_model_folder(folder).digest
    edit(folder, "threshold.tau", 0.123)
    edit(folder, "description", "other words")
    assert read_model_folder(folder).digest == digest
    edit(folder, "input.resize", "bilinear")
    assert read_model_folder(folder).digest != digest
    original = read_model_folder(folder)
    write_model_folder(tmp_path / "other", original.manifest, original.model + b"x")
    assert read_model_folder(tmp_path / "other").digest != original.digest


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("format", "oneglance-model/2", "format"),
        ("name", "No Spaces", "name"),
        ("input.shape", [8, 8], "input"),
        ("input.shape", [8, 8, 3], "input"),
        ("input.dtype", "float64", "input.dtype"),
        ("output.dimension", 0, "output.dimension"),
        ("metric", "cosine", "metric"),
        ("threshold.tau", -1, "threshold.tau"),
        ("threshold.tau", float("nan"), "threshold.tau"),
        ("threshold.fmr_curve", [[1.0, 0.5], [0.5, 0.6]], "threshold.fmr_curve"),
        ("parity.tolerance", 0, "parity.tolerance"),
        ("model_sha256", "abc", "model_sha256"),
        ("surprise", 1, "surprise"),
    ],
)
def test_a_wrong_manifest_names_the_field(folder: Path, path: str, value: Any, named: str) -> None:
    edit(folder, path, value)
    with pytest.raises(ModelFolderError, match=rf"manifest.json: .*{named}"):
        read_model_folder(folder)


def test_missing_truncated_and_damaged_files(folder: Path) -> None:
    model, manifest = folder / "model.onnx", folder / "manifest.json"
    content = model.read_bytes()
    model.write_bytes(content[:-1])
    with pytest.raises(ModelFolderError, match="bytes, the manifest says"):
        read_model_folder(folder)
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelFolderError, match="SHA-256"):
        read_model_folder(folder)
    model.write_bytes(content)
    manifest.write_bytes(manifest.read_bytes()[:-5])
    with pytest.raises(ModelFolderError, match=r"manifest\.json"):
        read_model_folder(folder)
    manifest.unlink()
    with pytest.raises(ModelFolderError, match="not a model folder"):
        read_model_folder(folder)


def test_a_reader_never_sees_a_mixture(folder: Path) -> None:
    """Replacing a folder over and over under readers: each read is one of the two versions, whole, or a clear miss."""
    one = read_model_folder(folder)
    two_model = one.model + b"two"
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            write_model_folder(folder, one.manifest, two_model)
            write_model_folder(folder, one.manifest, one.model)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = set()
        for _ in range(300):
            seen.add(read_model_folder(folder).model)
    finally:
        stop.set()
        writer.join()
    assert seen <= {one.model, two_model}
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_nothing_but_a_model_folder_is_ever_replaced(folder: Path, tmp_path: Path) -> None:
    one = read_model_folder(folder)
    precious = tmp_path / "precious"
    precious.mkdir()
    write_model_folder(precious, one.manifest, one.model)  # empty: fine
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelFolderError, match="something else"):
        write_model_folder(precious, one.manifest, one.model)
    assert (precious / "thesis.txt").read_text() == "years of work"
    with pytest.raises(ModelFolderError, match="something else"):
        write_model_folder(precious / "thesis.txt", one.manifest, one.model)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, max_side=5))
    | hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=5), elements=st.floats(width=32, allow_nan=False))
)
def test_arrays_survive(values: np.ndarray[Any, Any]) -> None:
    again = Array.model_validate_json(Array.pack(values).model_dump_json()).unpack()
    assert again.dtype == values.dtype
    assert np.array_equal(again, values)


def test_an_array_that_inflates_too_far_is_refused() -> None:
    bomb = Array.pack(np.zeros(10_000_000, np.uint8)).model_copy(update={"shape": (3,)})
    with pytest.raises(ModelFolderError):
        bomb.unpack()


def test_fmr_is_interpolated() -> None:
    manifest = {
        "tau": 0.5, "target_fpir": 0.01, "gallery_size": 10, "fpir": 0.01, "fpir_low": 0, "fpir_high": 0.1,
        "fnir": 0.2, "non_mated_probes": 10, "mated_probes": 10, "data": "d", "method": "m",
        "fmr_curve": [[0.2, 0.0], [0.4, 0.01], [1.0, 1.0]],
    }  # fmt: skip
    calibration = Calibration.model_validate(manifest)
    assert calibration.fmr(0.1) == 0
    assert calibration.fmr(0.3) == pytest.approx(0.005)
    assert calibration.fmr(5) == 1
    assert Calibration.model_validate(manifest | {"fmr_curve": []}).fmr(0.3) is None
