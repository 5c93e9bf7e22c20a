"""Batches: P classes x K examples, the same for a seed and step, never a class twice."""

from pathlib import Path

import pytest
import torch

from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.reading import read_examples
from oneglance_exporter.encoder.augment import SYMMETRIES, another_hand, another_pen, composite, symmetry
from oneglance_exporter.encoder.batches import DrawingBatches, PlainBatches
from oneglance_exporter.encoder.network import INPUT, ConvNet, Encoder
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.errors import DataError, SettingsError


@pytest.fixture(scope="module")
def pictures(drawings_zip: Path) -> Examples:
    return read_examples([drawings_zip], INPUT)


def batches_of(
    pictures: Examples, classes: int, each: int, procedural: float, composites: float, seed: int
) -> DrawingBatches:
    prepare = Encoder(INPUT, ConvNet(1, (105, 105), 4)).prepared
    return DrawingBatches(pictures, classes, each, procedural, composites, seed, prepare)


def test_a_batch_is_a_function_of_seed_and_step(pictures: Examples) -> None:
    def batches(seed: int) -> DrawingBatches:
        return batches_of(pictures, 10, 3, procedural=0.2, composites=0.3, seed=seed)

    ink, labels = batches(0)(5)
    assert ink.shape == (30, 1, 105, 105)
    assert torch.equal(labels, labels[::3].repeat_interleave(3))
    assert len(set(labels.tolist())) == 10
    assert (labels < 8 * 12).sum() == 15  # half of the classes are of the data, and have labels of their own
    assert 0 <= ink.min() <= ink.max() <= 1
    assert torch.equal(ink, batches(0)(5)[0])
    assert not torch.equal(ink, batches(0)(6)[0])
    assert not torch.equal(ink, batches(1)(5)[0])


@pytest.mark.parametrize(("procedural", "composites"), [(0, 0), (1, 0), (0, 1), (0.5, 0.5)])
def test_any_mixture_fills_the_batch(pictures: Examples, procedural: float, composites: float) -> None:
    ink, labels = batches_of(pictures, 12, 2, procedural, composites, 0)(0)
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


def test_a_composite_shows_both_parts_where_the_layout_says() -> None:
    full = torch.ones(4, 1, 105, 105)
    layout = torch.tensor([[-0.5, 0.0, 0.4], [0.5, 0.0, 0.4]]).repeat(4, 1, 1)
    generator = torch.Generator().manual_seed(0)
    left = composite(full, torch.zeros_like(full), layout, generator)
    assert left[..., :52].sum() > 50 * left[..., 53:].sum()
    both = composite(full, full, layout, generator)
    assert both[..., :52].sum() == pytest.approx(both[..., 53:].sum().item(), rel=0.3)


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
