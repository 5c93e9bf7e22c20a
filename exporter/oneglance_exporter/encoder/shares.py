"""What the processes of a training say to each other, in this order, for every batch:

    process 0               the others
    weights, inputs   ->
                      <-    encodings of their share
    their gradients   ->
                      <-    gradients of the weights, which are added up

Over gloo on CPUs and NCCL on cards. Batch norms speak in between (``encoder.shared_norm``).
"""

import os
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import FileStore  # torch.distributed doesn't say that it exports it

from oneglance_exporter.encoder.network import Encoder

READY = b"ready\n"
_STORE = "store"
_LONGEST_WAIT = timedelta(days=1)  # for process 0 to measure and to save
_INTERFACE = "GLOO_SOCKET_IFNAME"


def join(folder: Path, number: int, processes: int, device: torch.device) -> None:
    """Return when all have. folder: where they find each other."""
    before = os.environ.get(_INTERFACE)
    os.environ[_INTERFACE] = "lo"
    try:
        dist.init_process_group(
            "gloo" if device.type == "cpu" else "nccl",
            store=FileStore(str(folder / _STORE), processes),
            rank=number,
            world_size=processes,
            timeout=_LONGEST_WAIT,
        )
    finally:
        if before is None:
            del os.environ[_INTERFACE]
        else:
            os.environ[_INTERFACE] = before


def leave() -> None:
    """After ``join``, or in place of it."""
    if dist.is_initialized():
        dist.destroy_process_group()


class Shares:
    """One process's part in it."""

    def __init__(self, encoder: Encoder, device: torch.device, processes: int) -> None:
        self._encoder, self._device, self._processes = encoder, device, processes
        self._rows: list[int] = []

    def give_inputs(self, inputs: Tensor, step: int) -> Tensor:
        """Process 0: give the others weights and inputs, [B, C, *sizes]. Returns the own share."""
        own, *others = (share.to(self._device).contiguous() for share in inputs.tensor_split(self._processes))
        self._rows = [len(own), *map(len, others)]
        dist.broadcast(torch.tensor([step, *self._rows], device=self._device), 0)
        dist.broadcast(self._weights(), 0)
        for number, share in enumerate(others, 1):
            dist.send(share, number)
        return own

    def take_inputs(self, number: int, shape: tuple[int, ...]) -> tuple[int, Tensor]:
        """Another process: the step, and its share of the inputs, which are of this shape (C, *sizes)."""
        told = torch.empty(1 + self._processes, dtype=torch.int64, device=self._device)
        dist.broadcast(told, 0)
        step, *self._rows = told.tolist()
        weights = self._weights()
        dist.broadcast(weights, 0)
        self._set_weights(weights)
        inputs = torch.empty(self._rows[number], *shape, device=self._device)
        dist.recv(inputs, 0)
        return step, inputs

    def take_encodings(self, own: Tensor) -> Tensor:
        """Process 0: those of all, [B, D]."""
        parts = [own]
        for number, rows in enumerate(self._rows[1:], 1):
            parts.append(own.new_empty(rows, own.shape[1]))
            dist.recv(parts[-1], number)
        return torch.cat(parts)

    def give_encodings(self, own: Tensor) -> Tensor:
        """Another process. Returns their gradients."""
        dist.send(own, 0)
        gradient = torch.empty_like(own)
        dist.recv(gradient, 0)
        return gradient

    def give_gradients(self, gradient: Tensor) -> Tensor:
        """Process 0: of all encodings, [B, D]. Returns the own share."""
        own, *others = torch.split(gradient.contiguous(), self._rows)
        for number, share in enumerate(others, 1):
            dist.send(share, number)
        return own

    def add_up(self) -> None:
        """Every process: the sums of the gradients of the weights are process 0's, then."""
        learned = [parameter for parameter in self._encoder.parameters() if parameter.requires_grad]
        zeros = torch.zeros((), device=self._device)
        parts = [zeros.expand(p.shape) if p.grad is None else p.grad for p in learned]
        total = torch.cat([part.flatten() for part in parts])
        dist.reduce(total, 0)
        for parameter, part in zip(learned, torch.split(total, [p.numel() for p in learned]), strict=True):
            parameter.grad = part.reshape(parameter.shape)

    def _weights(self) -> Tensor:
        return torch.cat([value.detach().flatten() for value in self._floats()])

    @torch.no_grad()
    def _set_weights(self, weights: Tensor) -> None:
        values = self._floats()
        for value, part in zip(values, torch.split(weights, [value.numel() for value in values]), strict=True):
            value.copy_(part.reshape(value.shape))

    def _floats(self) -> list[Tensor]:
        """With the statistics of batch norms."""
        return [value for value in self._encoder.state_dict().values() if value.is_floating_point()]
