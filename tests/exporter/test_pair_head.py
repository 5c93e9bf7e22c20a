"""The pair head of a training: exported beside its encoder, checked, made a probability, measured and served."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oneglance import Client
from oneglance_core.folder import read_model_folder
from oneglance_core.pair_head import FORMS, Form, probabilities_of
from oneglance_exporter.api import export, train
from oneglance_exporter.cli import main
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.encoder.export import pair_head_of
from oneglance_exporter.encoder.pair_fit import PairFit, platt, reliability, sampled_pairs, scaled
from oneglance_exporter.encoder.pair_losses import PairHead
from oneglance_exporter.errors import ExportError
from oneglance_exporter.training.checkpoint import load
from tests.exporter.test_trained_and_served import SHAPES, example, write
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS

SMALL: dict[str, Any] = {
    "input": "signal",
    "classes_per_batch": 12,
    "dimension": 12,
    "widths": (8, 16),
    "average": 0.9,
    "validation_steps": 20,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signals")
    for name, subjects in {"data": range(30), "validation": range(50, 60), "heldout": range(100, 116)}.items():
        write(folder / name, SHAPES["signal"], subjects, 4)
    return folder


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    found: Form = request.param
    return found


@pytest.fixture(scope="module")
def run(data: Path, form: Form, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(data / "data", folder, validation=data / "validation", steps=40, loss=form, **SMALL)
    return folder


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "mine"
    export(run, folder, "mine", which="last")
    return folder


def test_what_is_served_is_the_formula_with_the_manifests_numbers(
    model: Path, data: Path, form: Form, tmp_path: Path
) -> None:
    head = read_model_folder(model).manifest.pair_head
    assert head is not None
    assert head.form == form
    weights = head.weights.unpack().astype(np.float64)
    examples = [example(SHAPES["signal"], subject, number) for subject in (100, 101, 102) for number in range(2)]
    with (
        server_thread(data_dir=tmp_path, models=(model,)) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        client.create_gallery("g", fusion="nearest", decided_by="probability")
        for i in range(0, 6, 2):
            client.enroll("g", str(i), examples[i])
        rows = np.array([e.values for e in client.encode(*examples, encoder="mine").encodings], np.float64)
        for i in range(1, 6, 2):
            expected = {}
            for j in range(0, 6, 2):
                apart = np.abs(rows[i] - rows[j])
                terms = apart if form == "difference" else apart**2 / (rows[i] + rows[j])
                expected[str(j)] = 1 / (1 + np.exp(-(weights @ terms + head.bias)))
                told = client.verify("g", str(j), examples[i], tau=0.5)
                assert told.probability == pytest.approx(expected[str(j)], abs=1e-5)
            (result,) = client.identify("g", examples[i], tau=0.5).results
            assert {c.subject_id: c.probability for c in result.candidates} == pytest.approx(expected, abs=1e-5)


def test_it_is_torchs_head_made_a_probability_on_validation(run: Path, model: Path) -> None:
    state, manifest = load(run, EncoderCheckpoint), read_model_folder(model).manifest
    learner = state.averaged()
    fit = state.pair_fit
    assert fit is not None
    assert fit["step"] == 40
    assert manifest.training["pair_head_fit"] == fit
    assert manifest.pair_head is not None
    network: Any = learner.loss
    rows = torch.from_numpy(manifest.parity.outputs.unpack())
    with torch.no_grad():
        logits = network.head(rows[:1].expand(len(rows), -1), rows)
        expected = torch.sigmoid(fit["slope"] * logits + fit["offset"]).numpy()
    np.testing.assert_allclose(manifest.pair_head.probabilities, expected, atol=1e-5)
    head = manifest.pair_head.head()
    np.testing.assert_allclose(probabilities_of(head.logits(rows[:1].numpy(), rows.numpy())), expected, atol=1e-5)


@pytest.mark.parametrize("form", ["difference"], indirect=True)
def test_calibrate_says_what_it_is_worth(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = read_model_folder(model).digest
    command = ["calibrate", "--model", str(model), "--data", str(data / "heldout"), "--fpir", "0.1", "--splits", "5"]
    assert main(command) == 0
    folder = read_model_folder(model)
    assert folder.digest == digest
    head, told = folder.manifest.pair_head, capsys.readouterr().out
    assert head is not None
    assert head.threshold is not None
    assert head.threshold.decided_by == "probability"
    assert 0 <= head.threshold.tau <= 1
    assert head.false_positives is not None
    assert {one.fusion for one in head.false_positives.galleries} == {"nearest", "mean"}
    assert head.reliability is not None
    assert head.reliability.mated_pairs == 16 * 6
    assert sum(one.pairs for one in head.reliability.bins) == 16 * 6 + head.reliability.non_mated_pairs
    assert folder.manifest.threshold is not None
    assert folder.manifest.threshold.decided_by == "distance"
    assert "by probability: tau" in told
    assert "pair head's probability is off by" in told


def test_without_validation_the_head_is_as_it_was_trained(data: Path, tmp_path: Path) -> None:
    train(data / "data", tmp_path / "run", steps=2, loss="difference", **SMALL)
    export(tmp_path / "run", tmp_path / "model", "mine")
    manifest, learner = (
        read_model_folder(tmp_path / "model").manifest,
        load(tmp_path / "run", EncoderCheckpoint).averaged(),
    )
    network: Any = learner.loss
    assert manifest.pair_head is not None
    np.testing.assert_array_equal(manifest.pair_head.weights.unpack(), network.head.weight.detach().numpy())
    assert manifest.pair_head.bias == network.head.bias.detach().item()
    assert "pair_head_fit" not in manifest.training


def test_other_losses_have_no_head(data: Path, tmp_path: Path) -> None:
    train(data / "data", tmp_path / "run", steps=2, loss="triplet", **SMALL)
    assert export(tmp_path / "run", tmp_path / "model", "mine").pair_head is None


def pairs_of_logits(slope: float, offset: float) -> tuple[Any, Any]:
    """Logits, and labels drawn so that sigma(slope x + offset) is their probability."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 200_000)
    return logits, rng.random(len(logits)) < probabilities_of(slope * logits + offset)


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.4, 0.0), (2.5, 0.0)])
def test_platts_scaling_finds_the_probability(slope: float, offset: float) -> None:
    logits, same = pairs_of_logits(slope, offset)
    fit = platt(logits, same)
    assert fit.usable
    assert fit.slope == pytest.approx(slope, rel=0.05)
    assert fit.offset == pytest.approx(offset, abs=0.05)


def test_platts_scaling_of_what_is_apart_or_tells_nothing_is_finite() -> None:
    same = np.arange(200) < 100
    apart = platt(np.where(same, 5.0, -5.0), same)
    assert apart.usable
    assert np.isfinite([apart.slope, apart.offset]).all()
    nothing = platt(np.zeros(200), same)
    assert np.isfinite([nothing.slope, nothing.offset]).all()
    other_way_round = platt(np.where(same, -1.0, 1.0) + np.arange(200) % 2, same)
    assert np.isfinite([other_way_round.slope, other_way_round.offset]).all()
    assert not other_way_round.usable


def test_reliability_is_of_pairs_as_likely_to_be_mated_as_not() -> None:
    rng = np.random.default_rng(1)
    subject_of = np.repeat(np.arange(40), 5)
    centres = rng.standard_normal((40, 4))
    encodings = (centres[subject_of] + 0.4 * rng.standard_normal((200, 4))).astype(np.float32)
    raw = scaled(PairHead(4, "difference").served(), 3.0, 0.0)
    found = reliability(raw, encodings, subject_of, "made up")
    assert found is not None
    better = reliability(scaled(raw, found.slope, found.offset), encodings, subject_of, "made up")
    assert better is not None
    assert found.error > better.error
    assert found.log_loss > better.log_loss
    assert (better.slope, better.offset) == pytest.approx((1, 0), abs=0.02)
    assert reliability(raw, encodings[:5], subject_of[:5], "one subject") is None
    pairs = sampled_pairs(encodings, subject_of)
    assert pairs is not None
    assert pairs.same.sum() == 40 * 10


def test_a_head_that_can_not_be_served_is_not_exported() -> None:
    encodings = np.eye(4, dtype=np.float32) - np.float32(0.1)
    for head, message in (
        (PairHead(3, "difference"), "can't be served"),
        (PairHead(4, "chi-square"), "never negative"),
    ):
        with pytest.raises((ExportError, RuntimeError), match=f"{message}|size"):
            pair_head_of(head, None, encodings)
    broken = PairHead(4, "difference")
    with torch.no_grad():
        broken.weight[1] = float("nan")
    with pytest.raises(ExportError, match="a finite number"):
        pair_head_of(broken, PairFit(1, 0, 1, 1), encodings)
