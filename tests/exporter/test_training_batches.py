"""Batches: P classes x K examples, the same for a seed and step, never a class twice."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.reading import read_examples
from oneglance_exporter.encoder.augment import SYMMETRIES, another_hand, another_pen, composite, shapes, symmetry
from oneglance_exporter.encoder.batches import BentBatches, DrawingBatches, PlainBatches
from oneglance_exporter.encoder.network import INPUT, ConvNet, Encoder
from oneglance_exporter.encoder.settings import Shares, TrainSettings
from oneglance_exporter.errors import DataError, SettingsError


@pytest.fixture(scope="module")
def pictures(drawings_zip: Path) -> Examples:
    return read_examples([drawings_zip], INPUT)


def batches_of(
    pictures: Examples, classes: int, each: int, procedural: float, composites: float, seed: int, bent: float = 0.0
) -> DrawingBatches:
    prepare = Encoder(INPUT, ConvNet(1, (105, 105), 4)).prepared
    kind = BentBatches if bent else DrawingBatches
    return kind(pictures, classes, each, Shares(procedural, composites, bent), seed, prepare)


@pytest.mark.parametrize("bent", [0.0, 0.5])
def test_a_batch_is_a_function_of_seed_and_step(pictures: Examples, bent: float) -> None:
    def batches(seed: int) -> DrawingBatches:
        return batches_of(pictures, 10, 3, procedural=0.2, composites=0.3, seed=seed, bent=bent)

    ink, labels = batches(0)(5)
    assert ink.shape == (30, 1, 105, 105)
    assert torch.equal(labels, labels[::3].repeat_interleave(3))
    assert len(set(labels.tolist())) == 10
    assert (labels < 8 * 12).sum() == 15  # half of the classes are of the data, and have labels of their own
    assert 0 <= ink.min() <= ink.max() <= 1
    assert torch.equal(ink, batches(0)(5)[0])
    assert not torch.equal(ink, batches(0)(6)[0])
    assert not torch.equal(ink, batches(1)(5)[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and a torch built for it")
@pytest.mark.parametrize("bent", [0.0, 0.5])
def test_batches_on_a_card_are_those_of_the_cpu(pictures: Examples, bent: float) -> None:
    encoder = Encoder(INPUT, ConvNet(1, (105, 105), 4))
    kind = BentBatches if bent else DrawingBatches
    shares = Shares(0.2, 0.3, bent)
    expected, labels = kind(pictures, 10, 3, shares, 0, encoder.prepared)(1)
    ink, same = kind(pictures, 10, 3, shares, 0, lambda inputs: encoder.prepared(inputs.to("cuda")))(1)
    assert ink.device.type == "cuda"
    assert torch.equal(labels, same)
    torch.testing.assert_close(ink.cpu(), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("bent", [0.0, 0.5])
@pytest.mark.parametrize(("procedural", "composites"), [(0, 0), (1, 0), (0, 1), (0.5, 0.5)])
def test_any_mixture_fills_the_batch(pictures: Examples, procedural: float, composites: float, bent: float) -> None:
    ink, labels = batches_of(pictures, 12, 2, procedural, composites, 0, bent)(0)
    assert len(ink) == len(labels) == 24
    assert (ink.amax(dim=(1, 2, 3)) > 0.3).all()


def test_more_classes_than_subjects_are_filled_with_other_symmetries(pictures: Examples) -> None:
    subjects = len(pictures.subjects)
    assert len(batches_of(pictures, SYMMETRIES * subjects, 2, 0, 0, 0)(0)[0]) == 2 * SYMMETRIES * subjects
    with pytest.raises(DataError, match="--classes-per-batch"):
        batches_of(pictures, SYMMETRIES * subjects + 1, 2, 0, 0, 0)


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(SettingsError, match="shares"):
        TrainSettings(steps=1, procedural=0.6, composite=0.6)
    with pytest.raises(SettingsError, match="--bent"):
        TrainSettings(steps=1, loss="arcface", bent=0.1)
    with pytest.raises(SettingsError, match="--examples-per-class must be at least 2"):
        TrainSettings(steps=1, examples_per_class=1)


def test_the_eight_symmetries_differ_and_keep_the_ink() -> None:
    ink = torch.rand(1, 1, 7, 7)
    turned = [symmetry(ink, which) for which in range(SYMMETRIES)]
    assert all(not torch.equal(turned[i], turned[j]) for i in range(SYMMETRIES) for j in range(i))
    assert all(torch.equal(t.flatten().sort().values, ink.flatten().sort().values) for t in turned)
    assert torch.equal(turned[0], ink)


def test_another_hand_moves_the_ink_a_little() -> None:
    ink = torch.zeros(64, 1, 105, 105)
    ink[:, :, 40:65, 50:55] = 1
    warped = another_hand(ink, torch.Generator().manual_seed(0))
    assert warped.shape == ink.shape
    assert 0 <= warped.min() <= warped.max() <= 1
    share = warped.sum(dim=(1, 2, 3)) / ink.sum(dim=(1, 2, 3))
    assert 0.4 < share.min() <= share.max() < 2.5
    assert not torch.equal(warped[0], warped[1])


def test_another_pen_thickens_some_and_thins_some() -> None:
    ink = torch.zeros(200, 1, 21, 21)
    ink[:, :, 8:13, 3:18] = 1
    change = (another_pen(ink, torch.Generator().manual_seed(0)) - ink).sum(dim=(1, 2, 3))
    assert (change > 0).float().mean() == pytest.approx(1 / 3, abs=0.1)
    assert (change < 0).float().mean() == pytest.approx(1 / 6, abs=0.1)


def test_drawings_of_a_class_are_bent_alike() -> None:
    """Bent wide, and by no hand: the drawings of a class stay equal, those of two classes don't."""
    ink = torch.zeros(12, 1, 105, 105)
    ink[:, :, 30:75, 50:55] = 1
    bent = shapes(6, 1.0, torch.Generator().manual_seed(0)).repeated(2)(ink)
    assert torch.equal(bent[::2], bent[1::2])
    assert all((bent[2 * i] - bent[2 * j]).abs().sum() > 50 for i in range(6) for j in range(i))
    assert not torch.allclose(bent, ink, atol=0.5)
    kept = shapes(6, 0.0, torch.Generator().manual_seed(0)).repeated(2)(ink)
    torch.testing.assert_close(kept, ink, atol=1e-4, rtol=0)


def test_what_is_bent_and_drawn_by_a_hand_is_the_one_after_the_other() -> None:
    """A point of the result comes from where the bent character has what the hand took there."""
    generator = torch.Generator().manual_seed(1)
    shape, hand = shapes(3, 1.0, generator), shapes(3, 1.0, generator)
    flat = [dataclasses.replace(warp, knots=torch.zeros(3, 2, 25)) for warp in (shape, hand)]
    points = torch.rand(3, 2, 5, generator=generator)
    inner = flat[1].matrix @ points + flat[1].shift[:, :, None]
    both = flat[0].of(flat[1])
    expected = flat[0].matrix @ inner + flat[0].shift[:, :, None]
    torch.testing.assert_close(both.matrix @ points + both.shift[:, :, None], expected)


def test_a_composite_shows_both_parts_where_the_layout_says() -> None:
    full = torch.ones(4, 1, 105, 105)
    layout = torch.tensor([[-0.5, 0.0, 0.4], [0.5, 0.0, 0.4]]).repeat(4, 1, 1)
    generator = torch.Generator().manual_seed(0)
    left = composite(full, torch.zeros_like(full), layout, generator)
    assert left[..., :52].sum() > 50 * left[..., 53:].sum()
    both = composite(full, full, layout, generator)
    assert both[..., :52].sum() == pytest.approx(both[..., 53:].sum().item(), rel=0.3)


def test_a_composite_of_halves_has_one_of_each() -> None:
    full = torch.ones(4, 1, 105, 105)
    layout, cut = torch.tensor([[0.0, 0.0, 1.3]] * 2).repeat(4, 1, 1), torch.tensor([1.0, 0.0, 0.0])
    generator = torch.Generator().manual_seed(0)
    right = composite(full, torch.zeros_like(full), layout, generator, cut)
    left = composite(torch.zeros_like(full), full, layout, generator, cut)
    assert (right[..., 53:] > 0.9).all()
    assert not right[..., :53].any()
    torch.testing.assert_close(left + right, full)


def test_the_examples_of_a_group_have_the_same_places(pictures: Examples) -> None:
    """What is drawn at one place of every subject is often by one drawer."""
    batches = batches_of(pictures, 6, 3, 0, 0, seed=0, bent=0.5)
    assert isinstance(batches, BentBatches)
    order = batches._places(np.random.default_rng(0))
    members = pictures.members()
    for subject in (0, 1):
        rows = batches._rows_at(np.random.default_rng(subject), subject, order)
        np.testing.assert_array_equal(rows, members[subject][order[:3]])


def test_batches_of_anything_else_are_its_subjects_each_with_its_label(pictures: Examples) -> None:
    def batch(step: int, classes: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
        nothing_varied = PlainBatches(pictures, classes, 3, 0, lambda inputs: inputs, lambda inputs, generator: inputs)
        assert nothing_varied.classes == 12
        return nothing_varied(step)

    inputs, labels = batch(4)
    assert inputs.shape == (24, 105, 105, 1)
    assert len(set(labels.tolist())) == 8
    for drawing, label in zip(inputs, labels.tolist(), strict=True):
        own = torch.from_numpy(pictures.inputs[pictures.members()[label]])
        assert (own == drawing).flatten(1).all(dim=1).any()
    assert torch.equal(inputs, batch(4)[0])
    assert not torch.equal(inputs, batch(5)[0])
    assert set(batch(0, classes=100)[1].tolist()) == set(range(12))  # too few: all of them
