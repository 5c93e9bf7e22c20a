"""The loss against the sources' formula written out in numpy, and the miner against its definition."""

import numpy as np
import pytest
import torch

from oneglance_exporter.encoder.loss import TripletLoss, semi_hard, torch_squared_l2
from tests.triplets import Floats, encodings_and_labels, formula


def brute_force_triplets(f: Floats, labels: list[int], margin: float) -> list[tuple[int, int, int]]:
    """FaceNet 3.2, literally: for every (A, P) the nearest N with d(A,P) < d(A,N) < d(A,P) + margin."""
    d = ((f[:, None] - f[None]) ** 2).sum(axis=2)
    triplets = []
    for a in range(len(f)):
        for p in range(len(f)):
            if a == p or labels[a] != labels[p]:
                continue
            allowed = [n for n in range(len(f)) if labels[n] != labels[a] and d[a, p] < d[a, n] < d[a, p] + margin]
            if allowed:
                triplets.append((a, p, min(allowed, key=lambda n: float(d[a, n]))))
    return triplets


@pytest.mark.parametrize("seed", range(5))
def test_semi_hard_triplets_are_the_definitions(seed: int) -> None:
    f, labels = encodings_and_labels(seed)
    found = {tuple(t) for t in torch.stack(semi_hard(f, labels, 0.2), dim=1).tolist()}
    assert found == set(brute_force_triplets(f.double().numpy(), labels.tolist(), 0.2))
    assert found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("margin", [0.1, 0.5])
def test_the_loss_is_the_formula(seed: int, margin: float) -> None:
    f, labels = encodings_and_labels(seed)
    triplets = brute_force_triplets(f.double().numpy(), labels.tolist(), margin)
    loss, active = TripletLoss(margin)(f, labels)
    assert active == len(triplets)
    pairs = 5 * 3 * 2
    assert loss.item() == pytest.approx(formula(f.double().numpy(), triplets, margin) / pairs, abs=1e-5)


def test_the_gradient_is_the_formulas() -> None:
    """dJ/df by hand: for an active triplet 2(N - P) at A, 2(P - A) at P, 2(A - N) at N."""
    f, labels = encodings_and_labels(1)
    f.requires_grad_()
    loss, _ = TripletLoss(0.3)(f, labels)
    loss.backward()
    x = f.detach().double().numpy()
    expected = np.zeros_like(x)
    for a, p, n in brute_force_triplets(x, labels.tolist(), 0.3):
        expected[a] += 2 * (x[n] - x[p])
        expected[p] += 2 * (x[p] - x[a])
        expected[n] += 2 * (x[a] - x[n])
    assert f.grad is not None
    np.testing.assert_allclose(f.grad.numpy(), expected / 30, atol=1e-5)


def test_distance_is_squared_and_not_normalised() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch_squared_l2()(points)[0, 1].item() == pytest.approx(25.0)


def test_bfloat16_encodings_are_lifted_before_subtraction() -> None:
    f, labels = encodings_and_labels(2)
    half = f.bfloat16()
    assert TripletLoss(0.2)(half, labels)[0].item() == TripletLoss(0.2)(half.float(), labels)[0].item()


def test_a_batch_without_semi_hard_triplets_has_loss_zero_and_a_gradient() -> None:
    f = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    loss, active = TripletLoss(0.2)(f, torch.tensor([0, 0, 1, 1]))
    assert (loss.item(), active) == (0.0, 0)
    loss.backward()
