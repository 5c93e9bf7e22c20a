"""Muon (Jordan et al. 2024): filters take steps whose directions all count alike."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

_MOMENTUM = 0.95
_BETAS, _EPSILON = (0.9, 0.99), 1e-8  # of Adam
_TURNS = 5  # of Newton and Schulz's iteration
_QUINTIC = (3.4445, -4.7750, 2.0315)  # its polynomial: brings singular values of (0, 1] close to 1 in five turns
_ADAMS_SIZE = 0.2  # root mean square of Adam's usual step, of the learning rate (Liu et al. 2025)


class Muon(torch.optim.Optimizer):
    """Over parameter groups: those with ``"muon": True`` hold filters [out, ...], which take the step ``orthogonal``
    to their momentum, as large as Adam's; all others are Adam's."""

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "muon": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step. A closure isn't called."""
        for group in self.param_groups:
            move = _by_muon if group["muon"] else _by_adam
            for weight in group["params"]:
                if weight.grad is not None:
                    move(weight, weight.grad, self.state[weight], group["lr"])
        return None


def _by_muon(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], lr: float) -> None:
    momentum = state.setdefault("momentum", torch.zeros_like(weight))
    momentum.lerp_(gradient, 1 - _MOMENTUM)
    ahead = orthogonal(gradient.lerp(momentum, _MOMENTUM).flatten(1))  # Nesterov's
    weight.sub_(ahead.reshape(weight.shape), alpha=lr * _ADAMS_SIZE * max(ahead.shape) ** 0.5)


def _by_adam(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], lr: float) -> None:
    if not state:
        state.update(step=torch.tensor(0.0), mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
    state["step"] += 1
    mean = state["mean"].lerp_(gradient, 1 - _BETAS[0]) / (1 - _BETAS[0] ** state["step"])
    square = state["square"].lerp_(gradient.square(), 1 - _BETAS[1]) / (1 - _BETAS[1] ** state["step"])
    weight.addcdiv_(mean, square.sqrt_().add_(_EPSILON), value=-lr)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix whose rows, or columns if they are fewer, are orthonormal: singular values become 0.7 to
    1.2, those of less than 0.01 of the norm may stay smaller. A matrix of zeros stays one."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    a, b, c = _QUINTIC
    found = wide / (wide.norm() + _EPSILON)
    for _ in range(_TURNS):
        products = found @ found.T
        found = a * found + (b * products + c * products @ products) @ found
    return cast(Tensor, found if found.shape == matrix.shape else found.T)
