"""The losses and the selections of triplets against their formulas, written out in loops."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oneglance_exporter.encoder.loss import TripletLoss, batch_hard
from oneglance_exporter.encoder.loss import random as random_triplets
from oneglance_exporter.encoder.losses import ProxyLoss, loss_of
from oneglance_exporter.encoder.pair_losses import ContrastiveLoss, PairLoss
from oneglance_exporter.encoder.settings import TrainSettings
from tests.triplets import Floats, encodings_and_labels, formula


def squared(f: Floats, i: int, j: int) -> float:
    return float(((f[i] - f[j]) ** 2).sum())


def pairwise(f: Floats, labels: list[int], loss: Callable[[int, int, bool], float]) -> float:
    """1/2 (mean over the pairs of one class + mean over the others), pair by pair."""
    kinds: dict[bool, list[float]] = {True: [], False: []}
    for i in range(len(f)):
        for j in range(i + 1, len(f)):
            same = labels[i] == labels[j]
            kinds[same].append(loss(i, j, same))
    return sum(sum(losses) / len(losses) for losses in kinds.values()) / 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("margin", [0.4, 1.0])
def test_contrastive_is_the_formula(seed: int, margin: float) -> None:
    points, labels = encodings_and_labels(seed)
    f, classes = points.double().numpy(), labels.tolist()

    def loss(i: int, j: int, same: bool) -> float:
        d = math.sqrt(squared(f, i, j))
        return d**2 if same else max(margin - d, 0.0) ** 2

    found, active = ContrastiveLoss(margin)(points, labels)
    assert active is None
    assert found.item() == pytest.approx(pairwise(f, classes, loss), abs=1e-5)


def cross_entropy(logit: float, same: bool) -> float:
    y = 1 / (1 + math.exp(-logit))
    return -math.log(y if same else 1 - y)


@pytest.mark.parametrize("seed", range(3))
def test_the_logistic_unit_on_differences_is_the_formula(seed: int) -> None:
    points, labels = encodings_and_labels(seed)
    loss = PairLoss(6, "difference")
    nn.init.normal_(loss.head.weight, generator=torch.Generator().manual_seed(seed))
    f, w, b = points.double().numpy(), loss.head.weight.detach().double().numpy(), loss.head.bias.item()

    def each(i: int, j: int, same: bool) -> float:
        return cross_entropy(sum(w[k] * abs(f[i, k] - f[j, k]) for k in range(6)) + b, same)

    assert loss(points, labels)[0].item() == pytest.approx(pairwise(f, labels.tolist(), each), abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_chi_square_unit_is_the_formula(seed: int) -> None:
    points, labels = encodings_and_labels(seed)
    points = points.abs() + 0.01
    loss = PairLoss(6, "chi-square")
    nn.init.normal_(loss.head.weight, generator=torch.Generator().manual_seed(seed))
    f, w, b = points.double().numpy(), loss.head.weight.detach().double().numpy(), loss.head.bias.item()

    def each(i: int, j: int, same: bool) -> float:
        terms = [w[k] * (f[i, k] - f[j, k]) ** 2 / (f[i, k] + f[j, k]) for k in range(6)]
        return cross_entropy(sum(terms) + b, same)

    assert loss(points, labels)[0].item() == pytest.approx(pairwise(f, labels.tolist(), each), abs=1e-5)


def test_arcface_is_formula_3() -> None:
    points, labels = encodings_and_labels(2)
    loss = ProxyLoss(7, 6, margin=0.5)
    w = loss.mean.W.detach().double().numpy()
    w = w / np.linalg.norm(w, axis=0)
    losses = []
    for f, y in zip(points.double().numpy(), labels.tolist(), strict=True):
        angles = [math.acos(float(f @ w[:, k])) for k in range(7)]
        beyond = angles[y] > math.pi - 0.5
        own = math.cos(angles[y]) - 0.5 * math.sin(0.5) if beyond else math.cos(angles[y] + 0.5)
        logits = [32 * (own if k == y else math.cos(angles[k])) for k in range(7)]
        losses.append(math.log(sum(math.exp(one - logits[y]) for one in logits)))
    assert loss(points, labels)[0].item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_batch_hard_is_its_definition(seed: int) -> None:
    points, labels = encodings_and_labels(seed)
    f, classes = points.double().numpy(), labels.tolist()
    wanted = []
    for a in range(len(f)):
        mates = [p for p in range(len(f)) if p != a and classes[p] == classes[a]]
        others = [n for n in range(len(f)) if classes[n] != classes[a]]
        wanted.append((a, max(mates, key=lambda p: squared(f, a, p)), min(others, key=lambda n: squared(f, a, n))))
    assert [tuple(t) for t in torch.stack(batch_hard(points, labels, 0.2), 1).tolist()] == wanted
    loss, active = TripletLoss(0.2, "batch-hard")(points, labels)
    assert loss.item() == pytest.approx(formula(f, wanted, 0.2) / len(f), abs=1e-5)
    assert active == sum(formula(f, [triplet], 0.2) > 0 for triplet in wanted)


def test_random_triplets_are_all_pairs_each_with_any_other_and_follow_the_seed() -> None:
    points, labels = encodings_and_labels(0)

    def drawn(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return torch.stack(random_triplets(points, labels, 0.2, generator), 1).tolist()

    triplets = drawn(0)
    classes = labels.tolist()
    assert len(triplets) == 5 * 3 * 2
    assert all(a != p and classes[a] == classes[p] and classes[n] != classes[a] for a, p, n in triplets)
    assert {n for seed in range(40) for a, _, n in drawn(seed) if a == 0} == set(range(3, 15))
    assert drawn(0) == triplets != drawn(1)
    loss, active = TripletLoss(0.2, "random")(points, labels, torch.Generator().manual_seed(0))
    f, chosen = points.double().numpy(), [(a, p, n) for a, p, n in triplets]
    assert loss.item() == pytest.approx(formula(f, chosen, 0.2) / 30, abs=1e-5)
    assert active == sum(formula(f, [triplet], 0.2) > 0 for triplet in chosen)


@pytest.mark.parametrize("name", ["triplet", "contrastive", "arcface", "difference", "chi-square"])
@pytest.mark.parametrize("mining", ["semi-hard", "random", "batch-hard"])
def test_every_loss_is_finite_on_equal_encodings_and_on_one_class(name: str, mining: str) -> None:
    if mining != "semi-hard" and name != "triplet":
        pytest.skip("mining is of triplets")
    loss = loss_of(TrainSettings(steps=1, loss=name, mining=mining, dimension=4), classes=3)
    equal = nn.functional.normalize(torch.ones(6, 4))
    for labels in (torch.tensor([0, 0, 1, 1, 2, 2]), torch.zeros(6, dtype=torch.int64), torch.arange(6) % 3):
        points = equal.clone().requires_grad_()
        value, _ = loss(points, labels, torch.Generator().manual_seed(0))
        value.backward()
        assert isinstance(points.grad, Tensor)
        assert points.grad.isfinite().all()
        assert value.isfinite()
