"""The check that a face is upright and aligned: the one that is shipped, and its trainer."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneglance_core.folder import read_any_model_folder
from oneglance_core.manifests import UprightnessEvidence, UprightnessManifest
from oneglance_exporter.cli import main
from oneglance_exporter.imports.dlib_faces import UPRIGHTNESS_FOLDER
from oneglance_exporter.runtime import check_model, session_of
from tests.face_models import face_models, photo, upright_look

torch = pytest.importorskip("torch")


def test_the_shipped_check_is_sound_and_says_how_it_was_measured() -> None:
    shipped = read_any_model_folder(UPRIGHTNESS_FOLDER).of(UprightnessManifest)
    check_model(shipped.model, shipped.manifest)
    assert shipped.manifest.training["photos"] == ["wild.zip"]  # ORL is for research only
    evidence = shipped.manifest.evidence
    assert evidence is not None
    assert evidence.faces >= 500
    assert evidence.junk >= 200
    assert evidence.faces_refused <= 0.01 * evidence.faces
    assert evidence.junk_accepted <= 0.01 * evidence.junk


def test_evidence_can_not_refuse_more_than_there_was() -> None:
    with pytest.raises(ValueError, match="more were refused"):
        UprightnessEvidence(faces=3, faces_refused=4, junk=0, junk_accepted=0, data="")


def test_samples_are_a_function_of_seed_and_step() -> None:
    from oneglance_exporter.uprightness.samples import CANVAS, FILLS, Faces, Samples

    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (3, FILLS, CANVAS, CANVAS), dtype=np.uint8)
    for junk in (faces[:0], faces[:2]):
        samples = Samples(Faces(faces, junk), 32, seed=1)
        chips, labels = samples(5)
        assert chips.shape == (32, 1, 48, 48)
        assert labels.tolist() == [1.0] * 16 + [0.0] * 16
        assert torch.equal(samples(5)[0], chips)
        assert not torch.equal(samples(6)[0], chips)
        assert chips.clamp(0, 255).equal(chips)


def test_a_check_is_trained_from_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A few steps on squares with green above: enough to run the whole way."""
    finders = face_models(tmp_path / "models")
    (finders / "encoder").rename(tmp_path / "encoder")
    (tmp_path / "photos").mkdir()
    for person in range(4):
        pixels = photo({(32, 32): person}, looks=upright_look)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{person}.png")
    arguments = ["train", "uprightness", "--photos", str(tmp_path / "photos"), "--heldout", str(tmp_path / "photos")]
    out = tmp_path / "uprightness"
    options = ["--finders", str(finders), "--out", str(out), "--steps", "2", "--batch", "16"]
    assert main([*arguments, *options]) == 0
    assert "faces refused" in capsys.readouterr().out
    made = read_any_model_folder(out).of(UprightnessManifest)
    chips = np.zeros((3, made.manifest.height, made.manifest.width, 3), np.uint8)
    (scores,) = session_of(made.model, 1).run(["scores"], {"chips": chips})
    assert scores.shape == (3,)
    assert made.manifest.evidence is not None
    assert (made.manifest.evidence.faces, made.manifest.evidence.junk) == (4, 12)

    assert main(["train", "uprightness", "--out", str(out)]) == 1
    assert "--photos" in capsys.readouterr().err
