"""Encodings of several symmetries of a picture, joined."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from oneglance_core.folder import read_model_folder
from oneglance_exporter.api import export, train
from oneglance_exporter.encoder.augment import symmetry
from oneglance_exporter.encoder.export import parity_inputs, to_onnx
from oneglance_exporter.encoder.network import INPUT, ConvNet, Encoder
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.look.activations import peaks
from oneglance_exporter.look.receptive_fields import layers_of
from oneglance_exporter.runtime import encoder_of

VIEWS = 4


def test_the_distance_is_the_mean_of_those_of_the_views() -> None:
    torch.manual_seed(0)
    network = ConvNet(1, (105, 105), 6, widths=(4, 8), shrink=3)
    one, joined = Encoder(INPUT, network).eval(), Encoder(INPUT, network, views=VIEWS).eval()
    ink = torch.rand(3, 1, 105, 105).round()
    with torch.no_grad():
        together = joined.encode(ink)
        parts = [one.encode(symmetry(ink, which)) for which in range(VIEWS)]
    assert together.shape == (3, 6 * VIEWS)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    expected = torch.stack([(part[0] - part[1]).square().sum() for part in parts]).mean()
    torch.testing.assert_close((together[0] - together[1]).square().sum(), expected)


def test_the_training_sees_one_view_and_the_graph_joins_them(tmp_path: Path, drawings_zip: Path) -> None:
    small: dict[str, Any] = {"classes_per_batch": 6, "dimension": 16, "widths": (4, 8)}
    state = train(drawings_zip, tmp_path / "run", steps=2, views=VIEWS, **small)
    learner = state.learner()
    assert learner.encoder.encode(torch.zeros(2, 1, 105, 105)).shape == (2, 16 // VIEWS)
    assert export(tmp_path / "run", tmp_path / "model", "mine").output.dimension == 16
    folder = read_model_folder(tmp_path / "model")
    pictures = folder.manifest.parity.inputs.unpack()
    turned = encoder_of(folder.model, threads=1)(np.rot90(pictures, axes=(1, 2)))
    # What is seen of a picture that was turned before is what is seen of it, in another order.
    plain = folder.manifest.parity.outputs.unpack().reshape(len(pictures), VIEWS, -1)
    np.testing.assert_allclose(turned.reshape(plain.shape), np.roll(plain, -1, axis=1), atol=1e-4)


def test_what_excites_a_unit_is_looked_for_in_the_picture_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ConvNet(1, (105, 105), 6, widths=(4, 8), shrink=3)
    pictures = parity_inputs()
    kinds, found = [], []
    for views in (1, VIEWS):
        encoder = Encoder(INPUT, network, views=views).eval()
        graph = onnx.load_from_string(to_onnx(encoder, pictures, "input", "encoding"))
        layers = layers_of(graph, axes=2)
        kinds.append([replace(layer, name="") for layer in layers])
        found.append(peaks(graph, layers, pictures, threads=1))
    assert kinds[0] == kinds[1]
    for plain, joined in zip(*found, strict=True):
        np.testing.assert_allclose(plain.values, joined.values, atol=1e-5)
        assert np.mean(plain.places == joined.places) > 0.99  # of two places that are excited alike, either


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimension": 10, "views": 4}, "--dimension must be a multiple of --views, got 10 and 4"),
        ({"loss": "chi-square", "views": 2}, "--loss chi-square learns a pair head, which is for --views 1"),
        ({"augment": "none", "views": 2}, "--views is for --augment drawing"),
        ({"input": "signal", "views": 2}, "--views is for --augment drawing"),
    ],
)
def test_views_are_for_drawings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TrainSettings(steps=1, **settings)
