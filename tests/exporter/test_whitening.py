"""Within-class whitening at export: against its definition, and where one direction drowns the rest."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from oneglance_core.folder import read_model_folder
from oneglance_core.manifests import InputSpec
from oneglance_exporter.api import export, train
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.encoder.network import Encoder
from oneglance_exporter.encoder.whitening import whiten
from oneglance_exporter.errors import RunError, SettingsError
from oneglance_exporter.runtime import encoder_of
from tests.exporter.small_runs import Cli

LENGTH = 6
SMALL: dict[str, Any] = {
    "classes_per_batch": 4,
    "examples_per_class": 4,
    "dimension": LENGTH,
    "steps": 1,
    "augment": "none",
}
Rows = npt.NDArray[np.float32]
NETWORK = f"""
import torch

def itself(shape, dimension):
    layer = torch.nn.Linear({LENGTH}, dimension)
    torch.nn.init.eye_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    return torch.nn.Sequential(torch.nn.Flatten(), layer)
"""


def rows_of(subjects: int, each: int, seed: int) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Subjects differ in the last numbers; the first ones vary widely in examples of everybody."""
    rng = np.random.default_rng(seed)
    spread = np.array([30, 10, 1, 0.1, 0.1, 0.1])
    of = np.repeat(np.arange(subjects), each)
    own = np.concatenate([np.zeros((subjects, 3)), rng.standard_normal((subjects, 3))], axis=1)
    rows = own[of] + spread * rng.standard_normal((len(of), LENGTH)) + 5
    return rows.astype(np.float32)[..., None], of


def write(folder: Path, rows: Rows, subject_of: npt.NDArray[np.int64]) -> Path:
    for number, (row, subject) in enumerate(zip(rows, subject_of, strict=True)):
        (folder / f"s{subject:02}").mkdir(parents=True, exist_ok=True)
        np.save(folder / f"s{subject:02}" / f"{number:04}.npy", row)
    return folder


def rank_1(model: Path, rows: Rows, subject_of: npt.NDArray[np.int64]) -> float:
    """Of all examples, against the first one of each subject."""
    encodings = encoder_of(read_model_folder(model).model, threads=1)(rows)
    enrolled = encodings[np.unique(subject_of, return_index=True)[1]]
    nearest = np.square(encodings[:, None] - enrolled).sum(axis=2).argmin(axis=1)
    return float((nearest == subject_of).mean())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "network.py").write_text(NETWORK)
    data = write(tmp_path / "data", *rows_of(12, 8, seed=1))
    train(data, tmp_path / "run", input="signal", network=f"{tmp_path / 'network.py'}:itself", **SMALL)
    return tmp_path / "run"


def test_examples_of_one_subject_vary_alike_in_every_direction() -> None:
    rows, of = rows_of(12, 40, seed=2)
    examples = Examples(rows, of, tuple(map(str, range(12))), np.zeros(12, np.int64), ("",))
    encoder = Encoder(InputSpec(kind="signal", shape=(LENGTH, 1), dtype="float32"), nn.Flatten()).eval()
    whiten(encoder, examples, 1e-9)
    with torch.no_grad():
        white = encoder.backbone(encoder.prepared(torch.from_numpy(rows))).double().numpy()
    assert np.allclose(white.mean(axis=0), 0, atol=1e-2 * np.abs(white).max())
    apart = np.concatenate([white[of == subject] - white[of == subject].mean(axis=0) for subject in range(12)])
    within = apart.T @ apart / len(apart)
    assert np.allclose(within / within[0, 0], np.eye(LENGTH), atol=1e-3)


def test_a_shrinkage_of_one_takes_only_the_mean_away() -> None:
    rows, of = rows_of(4, 5, seed=3)
    examples = Examples(rows, of, tuple("abcd"), np.zeros(4, np.int64), ("",))
    encoder = Encoder(InputSpec(kind="signal", shape=(LENGTH, 1), dtype="float32"), nn.Flatten()).eval()
    whiten(encoder, examples, 1.0)
    with torch.no_grad():
        found = encoder.backbone(encoder.prepared(torch.from_numpy(rows))).numpy()
    assert np.allclose(found, rows[..., 0] - rows[..., 0].mean(axis=0), atol=1e-4)


def test_it_tells_strangers_apart_where_one_direction_drowns_the_rest(run: Path, tmp_path: Path) -> None:
    strangers = rows_of(12, 20, seed=4)
    export(run, tmp_path / "as-trained", "plain")
    manifest = export(run, tmp_path / "whitened", "white", whiten=1e-5)
    assert rank_1(tmp_path / "as-trained", *strangers) < 0.35
    assert rank_1(tmp_path / "whitened", *strangers) > 0.9
    assert manifest.training["whitened"] == 1e-5


def test_what_can_not_be_whitened_is_refused(run: Path, tmp_path: Path, cli: Cli) -> None:
    for shrinkage in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(SettingsError, match="--whiten must be above 0 and at most 1"):
            export(run, tmp_path / "out", "white", whiten=shrinkage)
    write(tmp_path / "data", rows_of(1, 9, seed=5)[0], np.full(9, 77))
    with pytest.raises(RunError, match="these are not the data that the run was begun with"):
        export(run, tmp_path / "out", "white", whiten=0.1)
    common = ["export", "--run", str(run), "--out", str(tmp_path / "out"), "--name", "white"]
    assert cli(*common, "--whiten", "0.1") == 1
    with pytest.raises(SystemExit, match="2"):
        cli(*common, "--whiten", "0")
    assert not (tmp_path / "out").exists()
    network = f"{tmp_path / 'network.py'}:itself"
    train(tmp_path / "data", tmp_path / "pairs", input="signal", network=network, loss="difference", **SMALL)
    with pytest.raises(SettingsError, match="would change the numbers that the run's pair head weighs"):
        export(tmp_path / "pairs", tmp_path / "out", "white", whiten=0.1)


def test_subjects_of_equal_examples_have_nothing_to_whiten_by() -> None:
    rows = np.repeat(rows_of(4, 1, seed=6)[0], 3, axis=0)
    examples = Examples(rows, np.repeat(np.arange(4), 3), tuple("abcd"), np.zeros(4, np.int64), ("",))
    encoder = Encoder(InputSpec(kind="signal", shape=(LENGTH, 1), dtype="float32"), nn.Flatten()).eval()
    with pytest.raises(SettingsError, match="no two examples of one subject differ"):
        whiten(encoder, examples, 0.5)
