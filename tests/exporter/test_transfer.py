"""Trainings that begin with what was learned before: weights taken over, layers fixed or slower, heads on a base."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from oneglance_core.folder import read_model_folder
from oneglance_exporter.api import evaluate, export, resume, train
from oneglance_exporter.data.reading import read_examples
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint, Learner
from oneglance_exporter.encoder.data import input_spec
from oneglance_exporter.encoder.network import encode
from oneglance_exporter.encoder.optimizer import optimizer_of
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.encoder.start import start_from
from oneglance_exporter.errors import ExporterError, RunError, SettingsError, WeightsError
from oneglance_exporter.runtime import encoder_of
from oneglance_exporter.training.checkpoint import load
from tests.face_models import face_models, photo
from tests.pictures import png

SMALL: dict[str, Any] = {"classes_per_batch": 8, "examples_per_class": 2, "dimension": 16, "shrink": 7}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, drawings_zip: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    train(drawings_zip, folder, steps=3, **SMALL)
    return folder


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load(run, EncoderCheckpoint).average


def test_the_weights_of_a_run_are_taken_over(tmp_path: Path, run: Path, drawings_zip: Path) -> None:
    told: list[str] = []
    train(drawings_zip, tmp_path, steps=1, init=str(run), learning_rate=1e-30, tell=told.append, **SMALL)
    taken, given = load(tmp_path, EncoderCheckpoint).model, weights(run)
    learned = {name for name in given if "running" not in name and "num_batches" not in name}
    assert all(torch.equal(taken[name], given[name]) for name in learned)
    assert any(f"--init {run}: {len(given)} of {len(given)} weights taken" in line for line in told)


def test_a_state_dict_of_the_network_is_taken_over_where_shapes_agree(
    tmp_path: Path, run: Path, drawings_zip: Path
) -> None:
    given = {name.removeprefix("encoder.backbone."): value for name, value in weights(run).items()}
    torch.save({"state_dict": given}, tmp_path / "net.pt")
    told: list[str] = []
    other = {**SMALL, "dimension": 8}
    train(drawings_zip, tmp_path / "run", steps=1, init=str(tmp_path / "net.pt"), tell=told.append, **other)
    assert any("new: backbone.head.weight, backbone.head.bias" in line for line in told)


@pytest.mark.parametrize("content", [b"nothing", None])
def test_weights_that_can_not_be_taken_are_named(tmp_path: Path, drawings_zip: Path, content: bytes | None) -> None:
    file = tmp_path / "net.pt"
    torch.save({"other": torch.zeros(3)}, file)
    if content:
        file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.pt: (no state dict|none of its weights)"):
        train(drawings_zip, tmp_path / "run", steps=1, init=str(file), **SMALL)


def test_frozen_layers_stay_and_the_last_one_learns(tmp_path: Path, run: Path, drawings_zip: Path) -> None:
    train(drawings_zip, tmp_path, steps=5, init=str(run), freeze=True, **SMALL)
    before, after = weights(run), load(tmp_path, EncoderCheckpoint).model
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert set(before) - same == {"encoder.backbone.head.weight", "encoder.backbone.head.bias"}
    with pytest.raises(SettingsError, match="--freeze needs --init"):
        train(drawings_zip, tmp_path / "other", steps=1, freeze=True)


def test_each_layer_learns_slower_than_the_one_after_it() -> None:
    settings = TrainSettings(steps=1, layer_decay=0.5)
    learner = Learner(settings, input_spec(settings), 3)
    times = {id(p): g["times"] for g in optimizer_of(learner, settings).param_groups for p in g["params"]}
    network: Any = learner.encoder.backbone
    assert times[id(network.head.weight)] == times[id(network.head.bias)] == 1
    assert times[id(network.features[-1][1].weight)] == 0.5
    assert times[id(network.features[-1][0].weight)] == 0.25
    assert len(times) == len(list(learner.parameters()))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    export(run, folder, "base")
    return folder


@pytest.mark.parametrize("source", ["base", "base/model.onnx"])
def test_the_weights_of_an_exported_graph_are_taken_over(
    tmp_path: Path, base: Path, drawings_zip: Path, source: str
) -> None:
    told: list[str] = []
    start = base.parent / source
    train(drawings_zip, tmp_path, steps=1, init=str(start), learning_rate=1e-30, tell=told.append, **SMALL)
    assert any(f"--init {start}: " in line and "new" not in line for line in told)
    assert any("batch norms" in line for line in told)
    graph = onnx.load_model_from_string(read_model_folder(base).model)
    given = {one.name: onnx.numpy_helper.to_array(one) for one in graph.graph.initializer}
    begun = load(tmp_path, EncoderCheckpoint).model
    same = [name for name in given if f"encoder.{name}" in begun]
    assert {"backbone.features.0.0.weight", "backbone.head.weight", "backbone.head.bias"} <= set(same)
    for name in same:
        np.testing.assert_array_equal(begun[f"encoder.{name}"].numpy(), given[name])


def test_an_exported_graph_is_begun_with_exactly(base: Path, drawings_zip: Path) -> None:
    settings = TrainSettings(steps=1, **SMALL)
    spec = input_spec(settings)
    learner, told = Learner(settings, spec, 3), list[str]()
    examples = read_examples([str(drawings_zip)], spec)
    start_from(learner, base, examples.inputs, told.append)
    folder = read_model_folder(base)
    inputs = folder.manifest.parity.inputs.unpack()
    assert learner.training
    np.testing.assert_allclose(encode(learner.encoder.eval(), inputs), encoder_of(folder.model, 1)(inputs), atol=1e-4)
    # With the statistics of a batch as with those of all: near to what it answers, so that training goes on from there.
    batch = torch.from_numpy(examples.inputs[:48])
    with torch.no_grad():
        as_it_is, in_training = learner.encoder.eval()(batch), learner.encoder.train()(batch)
    assert float(((as_it_is - in_training) ** 2).sum(1).mean()) < 0.1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nothing", "no ONNX with its weights inside"),
        (None, "can't be read"),
        ("foreign", "none of its weights"),
        ("moved", "gives other encodings"),
    ],
)
def test_a_graph_that_can_not_be_begun_with_is_named(
    tmp_path: Path, base: Path, drawings_zip: Path, content: bytes | str | None, message: str
) -> None:
    file = tmp_path / "net.onnx"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        graph = onnx.load_model_from_string(read_model_folder(base).model)
        for node in graph.graph.node if content == "moved" else ():
            if node.op_type == "Relu":
                node.op_type = "Abs"
        for weight in graph.graph.initializer if content == "foreign" else ():
            for node in graph.graph.node:
                node.input[:] = [f"other.{weight.name}" if name == weight.name else name for name in node.input]
            weight.name = f"other.{weight.name}"
        file.write_bytes(graph.SerializeToString())
    with pytest.raises(WeightsError, match=rf"net\.onnx: .*{message}"):
        train(drawings_zip, tmp_path / "run", steps=1, init=str(file), **SMALL)


def test_a_pair_head_is_taken_over_too(tmp_path: Path, heldout_zip: Path) -> None:
    settings: dict[str, Any] = {**SMALL, "loss": "difference", "dimension": 8}
    train(heldout_zip, tmp_path / "first", steps=3, **settings)
    head = export(tmp_path / "first", tmp_path / "model", "first").pair_head
    assert head is not None
    given = torch.from_numpy(head.weights.unpack())
    for source in ("first", "model"):
        train(
            heldout_zip,
            tmp_path / f"from-{source}",
            steps=1,
            init=str(tmp_path / source),
            learning_rate=1e-30,
            **settings,
        )
        assert torch.equal(load(tmp_path / f"from-{source}", EncoderCheckpoint).model["loss.head.weight"], given)


HEAD: dict[str, Any] = {"classes_per_batch": 8, "examples_per_class": 2, "dimension": 6, "hidden": 12}


def test_a_head_and_its_base_are_one_graph(tmp_path: Path, base: Path, heldout_zip: Path) -> None:
    told: list[str] = []
    train(heldout_zip, tmp_path / "run", base=str(base), steps=30, tell=told.append, **HEAD)
    assert "the base base takes images of 105 x 105 x 1" in told[0]
    manifest = export(tmp_path / "run", tmp_path / "model", "head")
    whole, first = read_model_folder(tmp_path / "model"), read_model_folder(base)
    assert manifest.input == first.manifest.input
    assert manifest.made_for == first.manifest.made_for
    assert manifest.output.dimension == 6
    assert manifest.training["base"]["digest"] == first.digest
    inputs = first.manifest.parity.inputs.unpack()
    by_hand = encode(load(tmp_path / "run", EncoderCheckpoint).encoder(), encoder_of(first.model, 1)(inputs)[..., None])
    np.testing.assert_allclose(encoder_of(whole.model, 1)(inputs), by_hand, atol=1e-4)
    assert evaluate(tmp_path / "model", heldout_zip, ways=5, trials=100).one_shot_error < 0.8


def test_a_head_is_not_resumed_on_another_base(tmp_path: Path, run: Path, heldout_zip: Path) -> None:
    base = tmp_path / "base"
    export(run, base, "base")
    train(heldout_zip, tmp_path / "run", base=str(base), steps=2, **HEAD)
    assert resume(tmp_path / "run").step == 2
    export(run, base, "renamed")
    assert resume(tmp_path / "run").step == 2  # the same network
    train(heldout_zip, tmp_path / "other", steps=1, **SMALL)
    export(tmp_path / "other", base, "base")
    with pytest.raises(RunError, match=r"is not what it was when the run began|begun with"):
        resume(tmp_path / "run")


def test_a_head_on_an_encoder_of_faces_takes_photos(tmp_path: Path) -> None:
    models = face_models(tmp_path / "models")
    for person in range(2, 6):
        (tmp_path / "photos" / str(person)).mkdir(parents=True)
        for number in range(3):
            place = tmp_path / "photos" / str(person) / f"{number}.png"
            place.write_bytes(png(photo({(16 + 4 * number, 16): person})))
    train(tmp_path / "photos", tmp_path / "run", base=str(models / "encoder"), steps=4, **HEAD)
    manifest = export(tmp_path / "run", models / "head", "head")
    assert manifest.alignment == read_model_folder(models / "encoder").manifest.alignment


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base": "BASE", "size": (9, 9)}, "--size can't change it"),
        ({"base": "BASE", "network": "timm:x"}, "--network can't change it"),
        ({"base": "BASE", "augment": "photo"}, "encodings are varied"),
        ({"hidden": 3}, "go with --base"),
        ({"base": "nowhere"}, "not a model folder"),
        ({"base": "net.onnx"}, "a graph alone doesn't say what it takes"),
    ],
)
def test_settings_that_do_not_go_with_a_base_are_refused(
    tmp_path: Path, base: Path, heldout_zip: Path, settings: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {name: str(base) if value == "BASE" else value for name, value in settings.items()}
    with pytest.raises((ExporterError, ValueError), match=message):
        train(heldout_zip, tmp_path / "run", steps=1, **given)
