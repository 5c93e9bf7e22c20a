"""The encodings of a batch, made in pieces, and the gradients that the weights get from those of the encodings.

The loss is taken of all encodings of a batch at once, however these were made. So triplets are selected from the whole
batch, and pairs are all its pairs, though the network never holds more than a piece (Gao et al. 2021, GradCache).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from oneglance_exporter.device import AUTOCAST
from oneglance_exporter.encoder.network import Encoder
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.encoder.shared_norm import SharedNorms


class Encoded(Protocol):
    """encodings: float32 [B, D], without a graph. backward: adds to the gradients of the weights what follows from
    those of the encodings, float32 [B, D]."""

    encodings: Tensor

    def backward(self, gradient: Tensor) -> None: ...


class Pieces:
    """The encodings of prepared ``inputs``, float32 [B, C, *sizes], in ``settings.accumulate`` pieces.

    One piece is encoded once. Of several, each is encoded twice: first without a graph, then for its gradient, with the
    same random numbers. Batch norm sees a piece at a time, with those of the other processes, and records its
    statistics once.
    number: of the first piece among all that are made in this step; each has random numbers of its own.
    """

    encodings: Tensor

    def __init__(self, encoder: Encoder, inputs: Tensor, settings: TrainSettings, step: int, number: int = 0) -> None:
        self._encoder, self._settings = encoder, settings
        self._parts = inputs.tensor_split(settings.accumulate)
        self._seeds = [seed_of(settings, step, number + i) for i in range(len(self._parts))]
        self._graph: Tensor | None = None
        if len(self._parts) == 1:
            self._graph = self._encode(0)
            self.encodings = self._graph.detach()
        else:
            with torch.no_grad(), _unrecorded(encoder):
                self.encodings = torch.cat([self._encode(i) for i in range(len(self._parts))])

    def _encode(self, part: int) -> Tensor:
        inputs, settings = self._parts[part], self._settings
        torch.manual_seed(self._seeds[part])  # of all torch: a network may have dropout
        with ExitStack() as contexts:
            if settings.precision != "fp32":
                contexts.enter_context(torch.autocast(inputs.device.type, AUTOCAST[settings.precision]))
            if settings.processes > 1:
                contexts.enter_context(SharedNorms())
            return self._encoder.encode(inputs)

    def backward(self, gradient: Tensor) -> None:
        if self._graph is not None:
            self._graph.backward(gradient)  # type: ignore[no-untyped-call]
            return
        for part, own in enumerate(gradient.tensor_split(len(self._parts))):
            self._encode(part).backward(own)  # type: ignore[no-untyped-call]


def seed_of(settings: TrainSettings, step: int, number: int = 0) -> int:
    """Of the random numbers of piece ``number`` of a step."""
    return ((settings.seed << 32) + (number << 28) + step) % (1 << 64)


def with_graph(made: Encoded) -> Tensor:
    """``made.encodings``, such that a loss of them has a ``backward``, which calls that of ``made``."""
    found: Tensor = _Made.apply(torch.ones((), requires_grad=True), made)  # type: ignore[no-untyped-call]
    return found


class _Made(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, anchor: Tensor, made: Encoded) -> Tensor:
        """anchor: torch makes a graph only of what needs a gradient."""
        context.made = made
        return made.encodings

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, None]:
        with torch.enable_grad():
            context.made.backward(gradient)
        return None, None


@contextmanager
def _unrecorded(encoder: nn.Module) -> Iterator[None]:
    """Batch norms don't record the statistics of what they see: they will see it again."""
    norms = [
        module
        for module in encoder.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training and module.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
