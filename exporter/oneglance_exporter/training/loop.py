"""What every training loop does: end gently when told to, and average its weights."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Let SIGINT and SIGTERM end the loop after its current step instead of breaking it."""
    received: list[int] = []

    def remember(number: int, frame: object) -> None:
        received.append(number)

    old = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * model; batch norm's statistics likewise."""
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[name], 1 - decay)
        else:
            value.copy_(current[name])
