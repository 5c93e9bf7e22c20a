"""Encoders of signals, planes, volumes and colour pictures: trained, exported, calibrated, asked through a server."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from oneglance import Client
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED
from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.folder import read_model_folder
from oneglance_core.manifests import SoundSpec, Windows
from oneglance_core.trials import one_shot_error
from oneglance_core.voices import RATE, voices
from oneglance_exporter.api import calibrate, evaluate, export, train
from oneglance_exporter.cli import main
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.reading import read_examples
from oneglance_exporter.encoder.network import encode
from oneglance_exporter.encoder.trials import one_shot_trials
from oneglance_exporter.errors import ExportError
from tests.pictures import png
from tests.running import server_thread
from tests.sounds import soundfile, wav
from tests.waiting import PATIENCE_SECONDS

Array = npt.NDArray[Any]
SHAPES: dict[str, tuple[int, ...]] = {"signal": (24, 2), "plane": (12, 16, 1), "volume": (8, 8, 8, 1)}
SMALL: dict[str, Any] = {"classes_per_batch": 24, "dimension": 32, "widths": (16, 32), "average": 0.9}
LOSSES = ("triplet", "contrastive", "arcface", "difference", "chi-square")


def example(shape: tuple[int, ...], subject: int, number: int) -> Array:
    """A pattern of the subject's, moved, louder or softer, in noise, under a hum of any phase louder than all of it."""
    pattern = np.random.default_rng(subject).standard_normal(shape[:-1])
    for axis in range(pattern.ndim):
        pattern = (pattern + np.roll(pattern, 1, axis)) / 1.4
    rng = np.random.default_rng((subject, number))
    moved = np.roll(pattern, int(rng.integers(-1, 2)), 0) * rng.uniform(0.6, 1.6)
    along = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 2))
    hum = 3 * np.sin(math.pi / 2 * along + rng.uniform(0, 2 * math.pi))
    whole = np.stack([moved + hum] * shape[-1], axis=-1)
    return (20 + 5 * (whole + 0.5 * rng.standard_normal(shape))).astype(np.float32)


def write(root: Path, shape: tuple[int, ...], subjects: range, each: int) -> Path:
    for subject in subjects:
        (root / f"{subject:03d}").mkdir(parents=True)
        for number in range(each):
            np.save(root / f"{subject:03d}" / f"{number}.npy", example(shape, subject, number))
    return root


def trained(tmp_path: Path, kind: str, steps: int, **settings: Any) -> tuple[Path, Path]:
    """Model folder and held-out arrays."""
    data = write(tmp_path / "data", SHAPES[kind], range(60), 6)
    heldout = write(tmp_path / "heldout", SHAPES[kind], range(100, 120), 4)
    train(data, tmp_path / "run", input=kind, steps=steps, **{**SMALL, **settings})
    export(tmp_path / "run", tmp_path / "model", "mine")
    return tmp_path / "model", heldout


def through_the_server(model: Path, examples: Examples, data_dir: Path) -> float:
    """The share of probes that aren't given to their subject: of each subject one example is enrolled, one probes."""
    with (
        server_thread(data_dir=data_dir, models=(model,)) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        client.create_gallery("g", encoder="mine")
        for subject, members in enumerate(examples.members()):
            client.enroll("g", str(subject), examples.inputs[members[0]])
        probes = [examples.inputs[members[1]] for members in examples.members()]
        found = [client.identify("g", probe, tau=100.0).results[0] for probe in probes]
    assert all(result.decision == DECISION_IDENTIFIED for result in found)
    return sum(result.subject_id != str(subject) for subject, result in enumerate(found)) / len(found)


def chance(tmp_path: Path, kind: str, examples: Examples) -> float:
    """``through_the_server`` by the weights that a training begins with: the learning rate of its first step is 0."""
    first = train(tmp_path / "data", tmp_path / "first", input=kind, steps=1, **SMALL)
    rows = encode(first.encoder(), examples.inputs)
    enrolled, probes = (rows[[members[i] for members in examples.members()]] for i in range(2))
    nearest = pairwise_squared_l2(probes, enrolled).argmin(axis=1)
    return float((nearest != np.arange(len(probes))).mean())


@pytest.mark.parametrize("kind", SHAPES)
def test_arrays_of_every_number_of_axes_are_trained_on_and_served(tmp_path: Path, kind: str) -> None:
    model, heldout = trained(tmp_path, kind, steps=60)
    spec = read_model_folder(model).manifest.input
    assert (spec.kind, spec.shape, spec.dtype) == (kind, SHAPES[kind], "float32")
    calibrate(model, heldout, fpir=0.1, splits=20)
    assert read_model_folder(model).manifest.threshold is not None
    examples = read_examples([heldout], spec)
    learned = through_the_server(model, examples, tmp_path / "learned")
    assert learned <= chance(tmp_path, kind, examples) - 0.2
    assert evaluate(model, heldout, ways=10, trials=500).one_shot_error < 0.5


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_beats_an_untrained_network_by_a_wide_margin(tmp_path: Path, loss: str) -> None:
    settings: dict[str, Any] = {"loss": loss, "learning_rate": 1e-2 if loss == "arcface" else 3e-3}
    model, heldout = trained(tmp_path / "learned", "signal", steps=120, **settings)
    learned = evaluate(model, heldout, ways=20, trials=2000).one_shot_error
    # The learning rate of the first step is 0: these are the first weights.
    first = train(tmp_path / "learned/data", tmp_path / "run", input="signal", steps=1, **{**SMALL, "loss": loss})
    examples = read_examples([heldout], first.spec)
    untrained = one_shot_error(encode(first.encoder(), examples.inputs), one_shot_trials(examples, 2000, ways=20))
    assert learned <= 0.7 * untrained


def test_colour_pictures_of_any_size_are_served_as_they_were_measured(tmp_path: Path) -> None:
    for subject in range(12):
        (tmp_path / "data" / str(subject)).mkdir(parents=True)
        for number in range(3):
            rng = np.random.default_rng((subject, number))
            pixels = np.full((30 + 4 * number, 40, 3), 30 + 15 * subject, np.float64)
            pixels[..., subject % 3] += 60
            noisy = (pixels + 20 * rng.standard_normal(pixels.shape)).clip(0, 255).astype(np.uint8)
            (tmp_path / "data" / str(subject) / f"{number}.png").write_bytes(png(noisy))
    data = tmp_path / "data"
    settings: dict[str, Any] = {"color": "rgb", "size": (20, 32), "fit": "pad", "classes_per_batch": 6, "dimension": 8}
    train(data, tmp_path / "run", steps=4, **settings)
    manifest = export(tmp_path / "run", tmp_path / "model", "mine")
    assert (manifest.input.shape, manifest.input.color, manifest.input.fit) == ((20, 32, 3), "rgb", "pad")
    assert manifest.made_for is not None
    out = tmp_path / "out.npz"
    assert main(["encode", "--model", str(tmp_path / "model"), "--data", str(data), "--out", str(out)]) == 0
    with (
        server_thread(data_dir=tmp_path / "served", models=(tmp_path / "model",)) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        served = client.encode(data / "3" / "2.png", encoder="mine")
    with np.load(out) as measured:
        row = [file.endswith("3/2.png") for file in measured["files"].tolist()].index(True)
        np.testing.assert_allclose(np.array(served.encodings[0].values), measured["encodings"][row], atol=1e-5)


def test_sounds_are_served_as_they_were_measured(tmp_path: Path) -> None:
    """Trained in windows, on sounds of many lengths; the server gives what `encode` measures of a file, alone and among
    others."""
    soundfile()
    for voice in voices(1, 8, 3):
        (tmp_path / "data" / voice.name).mkdir(parents=True)
        for number, said in enumerate(voice.utterances):
            (tmp_path / "data" / voice.name / f"{number}.wav").write_bytes(wav(said[:, np.newaxis], RATE))
    data = tmp_path / "data"
    told: list[str] = []
    settings: dict[str, Any] = {"sample_rate": RATE, "size": (512,), "window_step": 300, "widths": (4, 8)}
    train(
        data, tmp_path / "run", input="signal", steps=4, classes_per_batch=8, dimension=8, tell=told.append, **settings
    )
    lengths = [len(said) for voice in voices(1, 8, 3) for said in voice.utterances]
    windows = sum(1 + (length - 384) // 300 for length in lengths)
    assert any(f"{windows} examples of 8 subjects" in line for line in told)
    manifest = export(tmp_path / "run", tmp_path / "model", "mine")
    assert (manifest.input.sound, manifest.input.windows) == (SoundSpec(sample_rate=RATE), Windows(step=300, least=384))
    calibrate(tmp_path / "model", data, fpir=0.2, splits=5)
    out = tmp_path / "out.npz"
    assert main(["encode", "--model", str(tmp_path / "model"), "--data", str(data), "--out", str(out)]) == 0
    files = sorted(data.glob("*/*.wav"))
    with (
        server_thread(data_dir=tmp_path / "served", models=(tmp_path / "model",)) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        together = [one.values for one in client.encode(*files, encoder="mine").encodings]
        alone = [client.encode(file, encoder="mine").encodings[0].values for file in files[:3]]
    with np.load(out) as measured:
        np.testing.assert_allclose(together, measured["encodings"], atol=1e-5)
    np.testing.assert_allclose(together[:3], alone, atol=1e-6)


def test_arrays_of_other_lengths_are_served_as_they_were_measured(tmp_path: Path) -> None:
    """Followed by zeros, by the exporter and by the server alike."""
    for subject in range(6):
        (tmp_path / "data" / str(subject)).mkdir(parents=True)
        for number in range(3):
            length = int(np.random.default_rng((subject, number)).integers(9, 25))
            np.save(tmp_path / "data" / str(subject) / f"{number}.npy", example((24, 2), subject, number)[:length])
    data = tmp_path / "data"
    train(data, tmp_path / "run", input="signal", fit="pad", steps=4, classes_per_batch=6, dimension=8, widths=(4,))
    export(tmp_path / "run", tmp_path / "model", "mine")
    out = tmp_path / "out.npz"
    assert main(["encode", "--model", str(tmp_path / "model"), "--data", str(data), "--out", str(out)]) == 0
    arrays = [np.load(file) for file in sorted(data.glob("*/*.npy"))]
    with (
        server_thread(data_dir=tmp_path / "served", models=(tmp_path / "model",)) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        together = [one.values for one in client.encode(*arrays, encoder="mine").encodings]
        alone = [client.encode(array, encoder="mine").encodings[0].values for array in arrays]
    with np.load(out) as measured:
        np.testing.assert_allclose(together, measured["encodings"], atol=1e-5)
    np.testing.assert_allclose(together, alone, atol=1e-6)


BAD_NETWORKS = """
import torch
from torch import nn

class Mean(nn.Module):
    def __init__(self, shape, dimension):
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1], dimension))

    def forward(self, x):
        found = self.inner(x)
        return found - found.mean(dim=0, keepdim=True) / 2

class Unsupported(Mean):
    def forward(self, x):
        found = self.inner(x)
        return torch.linalg.eigvals(found.T @ found).real.sum() + found
"""


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("Mean", "an input depends on the others of its batch"),
        ("Unsupported", "can't be written as ONNX: .*linalg_eig"),
    ],
)
def test_a_network_that_can_not_be_served_is_refused_for_the_right_reason(
    tmp_path: Path, network: str, message: str
) -> None:
    (tmp_path / "bad.py").write_text(BAD_NETWORKS)
    data = write(tmp_path / "data", SHAPES["signal"], range(4), 3)
    settings: dict[str, Any] = {"network": f"{tmp_path}/bad.py:{network}", "dimension": 4}
    train(data, tmp_path / "run", input="signal", steps=2, **settings)
    with pytest.raises(ExportError, match=message) as refused:
        export(tmp_path / "run", tmp_path / "model", "bad")
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "model").exists()
