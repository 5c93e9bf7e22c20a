"""Muon: the step of its filters, by a computation of its own, and Adam's of the rest."""

import pytest
import torch

from oneglance_exporter.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 40), (40, 8)])
def test_a_matrix_becomes_about_orthonormal_and_keeps_its_directions(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = u.T @ orthogonal(matrix) @ v.T
    assert (values - values.diag().diag()).abs().max() < 1e-4
    assert values.diag().min() > 0.6
    assert values.diag().max() < 1.3
    assert not orthogonal(torch.zeros(shape)).any()


def test_a_filter_s_step_is_as_large_as_adam_s_whatever_its_gradient() -> None:
    for size in (1e-3, 1e3):
        weight = torch.nn.Parameter(torch.zeros(16, 8, 3, 3))
        optimizer = Muon([{"params": [weight], "muon": True}], lr=0.5)
        weight.grad = size * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        optimizer.step()
        assert weight.square().mean().sqrt().item() == pytest.approx(0.5 * 0.2, rel=0.2)
        assert (weight * weight.grad).sum() < 0


def test_the_rest_is_adam_s() -> None:
    random = torch.Generator().manual_seed(2)
    ours, theirs = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    optimizers = Muon([{"params": [ours]}], lr=0.1), torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))
    for _ in range(5):
        ours.grad = torch.randn(5, generator=random)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
