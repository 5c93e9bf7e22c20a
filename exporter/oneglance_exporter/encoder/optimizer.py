"""Which weights of a Learner are learned, how fast, and with what decay."""

from typing import Any

import torch
from torch import nn

from oneglance_exporter.encoder.checkpoint import Learner
from oneglance_exporter.encoder.settings import TrainSettings

_LOSS_TIMES = 10.0  # the loss has few weights, and they must keep up with the encoder's


def optimizer_of(learner: Learner, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW. Batch norm's scales and all biases are left undecayed, and so are the loss's weights.

    With ``layer_decay`` each layer learns by that factor slower than the one after it.
    """
    layers = _layers(learner)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()  # two layers may share one
    for depth, layer in enumerate(reversed(layers)):
        for parameter in layer.parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                decay = settings.weight_decay if parameter.ndim > 1 else 0.0
                groups.setdefault((decay, settings.layer_decay**depth), []).append(parameter)
    found: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "times": times} for (decay, times), parameters in groups.items()
    ]
    own = list(learner.loss.parameters())
    if own:
        found.append({"params": own, "weight_decay": 0.0, "times": _LOSS_TIMES})
    return torch.optim.AdamW(found, lr=settings.learning_rate)


def fix_layers(learner: Learner, settings: TrainSettings) -> None:
    """With ``freeze``, all layers but the last don't learn, and their batch norms keep their statistics."""
    fixed = _layers(learner)[:-1] if settings.freeze else []
    for layer in fixed:
        for parameter in layer.parameters(recurse=False):
            parameter.requires_grad_(False)
    if fixed:
        freeze_statistics(learner.encoder.backbone)


def _layers(learner: Learner) -> list[nn.Module]:
    """The modules that have weights of their own, in the network's order."""
    return [module for module in learner.encoder.backbone.modules() if list(module.parameters(recurse=False))]


def freeze_statistics(backbone: nn.Module) -> None:
    """Let batch norms use the statistics that they have, and keep them."""
    for module in backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
