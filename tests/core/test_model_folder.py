"""The model folder: round trip, atomicity, and every way it can be wrong."""

import base64
import contextlib
import json
import os
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from oneglance_core.faces.finder import FaceFinder, FaceSearch
from oneglance_core.folder import check_replaceable, read_any_model_folder, read_model_folder, write_model_folder
from oneglance_core.manifests import Array, Calibration, DetectorManifest, ModelFolderError
from tests.face_models import face_models
from tests.models import calibration, pixels_model, signal_model


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
        ("alignment", {"landmarks": "dlib-5", "template": [[1, 1], [6, 1], [1, 6], [6, 6], [3, 3]]}, "needs rgb"),
        ("parity.inputs.shape", [-1], "parity.inputs.shape"),
        ("parity.inputs.shape", [2**32, 2**32], "parity.inputs: .*at most 64 MiB"),
        ("parity.inputs.shape", [0, 2**70], "parity.inputs.shape: .*must be between"),
        ("parity.inputs.shape", [1] * 65, "parity.inputs.shape"),
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


def test_a_signal_of_integers_is_refused(tmp_path: Path) -> None:
    """The dtype that arrays have, and inputs don't."""
    folder = signal_model(tmp_path / "model")
    edit(folder, "input.dtype", "int64")
    with pytest.raises(ModelFolderError, match=r"input\.dtype"):
        read_model_folder(folder)


POINTS = [[6.5, 2.0], [5.0, 2.0], [0.5, 2.0], [2.0, 2.0]]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("alignment.template", [[1, 1]] * 5, "within a pixel"),
        ("alignment.template", [[1, 1], [1 + 1e-9, 1], [1, 1], [1, 1], [1, 1.9]], "within a pixel"),
        ("alignment.template", [*POINTS, [1e300, 1]], "more than 4 times the chip's side"),
        ("alignment.template", [*POINTS, [3, -32.1]], "more than 4 times the chip's side"),
        ("alignment.template", [*POINTS, [float("inf"), 3]], "finite"),
        ("input.shape", [7, 8, 3], "needs rgb images of at least 8 x 8"),
        ("input", {"kind": "image", "shape": [8, 8, 1], "dtype": "uint8", "color": "gray"}, "needs rgb"),
        ("input", {"kind": "signal", "shape": [8, 3], "dtype": "float32"}, "needs rgb"),
    ],
)
def test_an_alignment_that_cannot_work_is_refused(tmp_path: Path, path: str, value: Any, words: str) -> None:
    folder = face_models(tmp_path) / "encoder"
    edit(folder, path, value)
    with pytest.raises(ModelFolderError, match=words):
        read_model_folder(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window", 4097),
        ("stride", 1025),
        ("offset", 4097),
        ("offset", -1e300),
        ("shrink", 0.99),
        ("margin", 129),
        ("gap", 1025),
        ("smallest_side", 4097),
    ],
)
def test_a_detector_that_could_search_forever_is_refused(tmp_path: Path, field: str, value: float) -> None:
    folder = face_models(tmp_path) / "detector"
    edit(folder, field, value)
    with pytest.raises(ModelFolderError, match=rf"{field}: .* (less|greater) than or equal"):
        read_any_model_folder(folder)


@pytest.mark.parametrize("shape", [(3, 3), (100, 100), (3, 30_000), (30_000, 3), (700, 900)])
def test_the_most_a_manifest_may_ask_for_still_ends(tmp_path: Path, shape: tuple[int, int]) -> None:
    """At the fewest pixels a server may search, every canvas stays within its limit."""
    spec = read_any_model_folder(face_models(tmp_path) / "detector").manifest
    most = spec.model_copy(update={"margin": 128, "gap": 1024, "shrink": 0.98, "window": 4096, "stride": 1024})
    most = DetectorManifest.model_validate(most.model_dump())
    seen = []

    def score(canvases: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        seen.append(canvases.shape[1] * canvases.shape[2])
        return np.full((len(canvases), 1, 1), -1, np.float32)

    finder = FaceFinder(score, most, lambda inputs: np.empty((0, 5, 2), np.float32), FaceSearch(search_pixels=10_000))
    (photo,) = finder.find([np.zeros((*shape, 3), np.uint8)], ["always"])
    assert photo.faces == ()
    assert seen
    assert max(seen) <= 16 * 10_000


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


def test_what_can_t_be_written_is_told_and_leaves_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = read_model_folder(folder)
    below_a_file = folder / "model.onnx" / "inside"
    with pytest.raises(ModelFolderError, match="can't be written"):
        write_model_folder(below_a_file, one.manifest, one.model)
    with pytest.raises(ModelFolderError, match="can't be written"):  # before the work
        check_replaceable(below_a_file)
    renamed = os.replace

    def fail_the_second(source: Path, target: Path) -> None:
        if Path(target) == folder and (Path(source) / "model.onnx").read_bytes() == b"new":
            raise OSError("disk")
        renamed(source, target)

    monkeypatch.setattr(os, "replace", fail_the_second)
    with pytest.raises(ModelFolderError, match="can't be written: disk"):
        write_model_folder(folder, one.manifest, b"new")
    assert read_model_folder(folder).model == one.model
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_of_a_link_the_folder_behind_it_is_replaced(folder: Path, tmp_path: Path) -> None:
    one = read_model_folder(folder)
    link = tmp_path / "current"
    link.symlink_to(folder)
    write_model_folder(link, one.manifest, one.model + b"two")
    assert link.is_symlink()
    assert read_model_folder(folder).model == one.model + b"two"


def test_of_two_writers_at_a_time_nothing_stays_but_one_whole_folder(folder: Path) -> None:
    one = read_model_folder(folder)

    def write(number: int) -> None:
        for _ in range(30):
            with contextlib.suppress(ModelFolderError):  # the other one came between
                write_model_folder(folder, one.manifest, one.model + bytes([number]))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert read_model_folder(folder).model in {one.model + bytes([number]) for number in range(2)}
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


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


def test_arrays_are_small() -> None:
    """Said by the manifest before anything is inflated, and by ``pack`` too."""
    bomb = base64.b64encode(zlib.compress(bytes(1 << 20))).decode()
    Array(dtype="uint8", shape=(64, 1 << 20), zlib_base64=bomb)
    for shape in ((65, 1 << 20), (1 << 62, 4), (-1,), (-1, -1)):
        with pytest.raises(ValidationError):
            Array(dtype="uint8", shape=shape, zlib_base64=bomb)
    with pytest.raises(ValidationError):
        Array(dtype="int64", shape=(9, 1 << 20), zlib_base64=bomb)
    with pytest.raises(ValueError, match="at most 64 MiB"):
        Array.pack(np.broadcast_to(np.float32(0), (17, 1 << 20)))


def test_a_manifest_has_few_arrays(tmp_path: Path) -> None:
    folder = face_models(tmp_path) / "landmarks"
    parity = json.loads((folder / "manifest.json").read_text())["parity"]
    edit(folder, "parity.inputs", {f"{i}": parity["outputs"]["points"] for i in range(5)})
    with pytest.raises(ModelFolderError, match=r"parity\.inputs: .*at most 4"):
        read_any_model_folder(folder)


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


def test_below_the_nearest_pair_seen_the_match_rate_is_not_zero() -> None:
    curve = calibration(0.5)
    assert curve.fmr(0.0) == curve.fmr(0.1) == pytest.approx(0.0001)
    assert curve.fmr(0.05) == pytest.approx(0.0001)
    assert curve.fmr(5.0) == 1.0
