"""Batch norm over a batch whose examples lie in several processes: the statistics are of all of them.

torch's own (SyncBatchNorm) knows no CPU, and takes the place of a module, so that what a network's own class does
besides is lost. This one stands under torch.nn.functional.batch_norm.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class SharedNorms(TorchFunctionMode):
    """Inside, batch norms that are in training mode take the statistics of all processes' inputs, which must call it
    alike."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function is functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _batch_norm(
    values: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """functional.batch_norm of [B, C, *sizes]."""
    if not training:
        return functional.batch_norm(values, running_mean, running_var, weight, bias, False, momentum, eps)
    axes = [0, *range(2, values.ndim)]
    shape = [1, -1, *[1] * (values.ndim - 2)]
    given = values.float()
    own = torch.full((1,), given.numel() / given.shape[1], device=given.device)
    total = _sum(torch.cat([given.sum(axes), own]))
    count = total[-1].detach()
    mean = total[:-1] / count
    centred = given - mean.reshape(shape)
    variance = _sum(centred.square().sum(axes)) / count
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean.detach(), momentum)
        running_var.lerp_(variance.detach() * count / (count - 1), momentum)
    scale = torch.rsqrt(variance + eps) if weight is None else torch.rsqrt(variance + eps) * weight
    found = centred * scale.reshape(shape)
    return (found if bias is None else found + bias.reshape(shape)).to(values.dtype)


def _sum(values: Tensor) -> Tensor:
    """Over all processes."""
    found: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return found


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total
