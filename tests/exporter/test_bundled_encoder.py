"""The encoders that come with the server: whole, reproducible by their manifests, as good as was said."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from oneglance_core.folder import ModelFolder, read_model_folder
from oneglance_core.glyphs import TRAINING_SEEDS, alphabet
from oneglance_core.input_figures import input_figures
from oneglance_core.limits import breaches
from oneglance_core.manifests import EncoderManifest, Parity
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.reading import read_examples
from oneglance_exporter.encoder.evaluate import evaluate
from oneglance_exporter.encoder.made_for import made_for as measured
from oneglance_exporter.encoder.network import INPUT
from oneglance_exporter.encoder.settings import EvaluateSettings
from oneglance_exporter.errors import ExportError
from oneglance_exporter.runtime import check_model, encoder_of

MODELS = Path(__file__).resolve().parents[2] / "server" / "oneglance_server" / "models"
MODEL = MODELS / "characters"


@pytest.fixture(scope="module")
def bundled() -> ModelFolder[EncoderManifest]:
    return read_model_folder(MODEL)


def encode(bundled: ModelFolder[EncoderManifest], images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return encoder_of(bundled.model, threads=1)(images)


@pytest.mark.parametrize("name", ["characters", "glyphs"])
def test_it_reproduces_its_parity_vectors_and_is_small(name: str) -> None:
    folder = read_model_folder(MODELS / name)
    check_model(folder.model, folder.manifest)
    assert len(folder.model) < 3_000_000


def test_all_bundled_models_together_are_small() -> None:
    assert sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file()) < 8_000_000


def test_what_a_server_would_refuse_is_not_written(bundled: ModelFolder[EncoderManifest]) -> None:
    vectors = bundled.manifest.vectors()
    off = Parity.pack(vectors.inputs["input"], vectors.outputs["encoding"] + np.float32(0.01), vectors.tolerance)
    with pytest.raises(ExportError, match="characters: the model does not reproduce its parity vectors"):
        check_model(bundled.model, bundled.manifest.model_copy(update={"parity": off}))
    wider = bundled.manifest.output.model_copy(update={"dimension": 256})
    with pytest.raises(ExportError, match=r"characters: the graph returns encoding as float32 \[free, 512\]"):
        check_model(bundled.model, bundled.manifest.model_copy(update={"output": wider}))


def test_its_manifest_tells_how_it_was_made_and_under_which_licence(bundled: ModelFolder[EncoderManifest]) -> None:
    manifest = bundled.manifest
    assert manifest.training["command"].startswith("oneglance-exporter train encoder --data images_background")
    assert manifest.training["calibration_command"].startswith("oneglance-exporter calibrate")
    assert "Lake" in manifest.description
    assert "MIT" in manifest.license
    # Paths are as a user would write them, not of the machine it was made on.
    text = (MODEL / "manifest.json").read_text()
    assert not any(place in text for place in ("/tmp", "/home", "/root", "/work"))


def test_its_manifest_tells_what_it_is_made_for(bundled: ModelFolder[EncoderManifest], data_folder: Path) -> None:
    made_for = bundled.manifest.made_for
    assert made_for is not None
    assert "Omniglot" in made_for.data
    drawings = [one.drawings[0][..., None] for one in alphabet(3, 20, 1)]
    assert not [broken for one in drawings for broken in breaches(input_figures(one), made_for.limits)]
    sources = [data_folder / "omniglot" / f"images_background_small{i}.zip" for i in (1, 2)]
    if not all(source.is_file() for source in sources):
        pytest.skip(f"no {sources[0]}; set ONEGLANCE_DATA to the folder that holds omniglot/")
    pictures = read_examples(sources, bundled.manifest.input)
    assert measured(pictures.inputs, made_for.data) == made_for  # to the digit


def test_its_threshold_comes_from_the_validation_alphabets(bundled: ModelFolder[EncoderManifest]) -> None:
    threshold = bundled.manifest.threshold
    assert threshold is not None
    assert (threshold.target_fpir, threshold.gallery_size) == (0.01, 138)
    assert "images_validation" in threshold.data
    assert threshold.fpir_low < 0.01 < threshold.fpir_high


def test_it_knows_invented_characters_it_never_saw(bundled: ModelFolder[EncoderManifest]) -> None:
    """Ten alphabets of twenty, from seeds that training never draws."""
    seeds = range(1000, 1010)
    assert not any(seed in TRAINING_SEEDS for seed in seeds)
    stacks = [subject.drawings for seed in seeds for subject in alphabet(seed, 20, 2)]
    pictures = Examples(
        inputs=np.concatenate(stacks)[..., None],
        subject_of=np.repeat(np.arange(200), 2),
        subjects=tuple(f"{i // 20}/{i}" for i in range(200)),
        group_of=np.repeat(np.arange(10), 20),
        groups=tuple(map(str, range(10))),
    )
    result = evaluate(encode(bundled, pictures.inputs), pictures, EvaluateSettings(trials=2000))
    assert result.one_shot_error < 0.03
    assert result.rank1.mean > 0.90


def test_its_one_shot_error_on_omniglot_is_the_published_one(
    bundled: ModelFolder[EncoderManifest], omniglot: Path
) -> None:
    pictures = read_examples([omniglot / "images_validation.zip"], INPUT)
    result = evaluate(encode(bundled, pictures.inputs), pictures, EvaluateSettings())
    assert result.one_shot_error == pytest.approx(0.0889, abs=0.001)
    assert result.rank1.mean == pytest.approx(0.8424, abs=0.001)
