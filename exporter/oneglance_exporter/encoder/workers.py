"""Processes that share the batches of a training, on one machine: each encodes its share, on a device of its own.

Process 0 is the training itself. It draws the batch, gives the others their shares and the weights, takes the loss of
all encodings, gives each the gradients of its own, and adds up what the weights get. So the loss sees the whole batch,
which that of DistributedDataParallel doesn't, and the weights end as those of one process, but for the order of sums.
The others (``encoder.worker``) have no data, no optimizer and no checkpoint: nothing is lost with them.
"""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.encoder.network import Encoder
from oneglance_exporter.encoder.pieces import Encoded, Pieces
from oneglance_exporter.encoder.shares import READY, Shares, join, leave
from oneglance_exporter.errors import RunError

_ENDING_SECONDS = 10.0


class Workers:
    """``checkpoint.settings.processes`` processes, of which this is one. ``with Workers(...) as workers``.

    Raises RunError when another can't be begun, or ends before the training.
    """

    def __init__(self, checkpoint: EncoderCheckpoint, device: torch.device) -> None:
        self._settings, self._device = checkpoint.settings, device
        self._others: list[subprocess.Popen[bytes]] = []
        self._meeting = contextlib.ExitStack()
        if checkpoint.settings.processes == 1:
            return
        folder = self._meeting.enter_context(tempfile.TemporaryDirectory(prefix="oneglance-"))
        file = io.BytesIO()
        torch.save({**checkpoint.content(), "model": {}, "average": {}, "optimizer": {}, "scaler": {}}, file)
        try:
            for number in range(1, checkpoint.settings.processes):
                self._others.append(self._begun(number, folder, file.getvalue()))
            for number, process in enumerate(self._others, 1):
                if process.stdout is None or process.stdout.readline() != READY:
                    raise self._ended(number)
            with self._alive():
                join(Path(folder), 0, checkpoint.settings.processes, device)
        except BaseException:
            self.close()
            raise

    def _begun(self, number: int, folder: str, content: bytes) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-m", "oneglance_exporter.encoder.worker", str(number), folder],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process alone, which stops after a step
        )
        with contextlib.suppress(BrokenPipeError):  # it has ended already, which is found when it isn't ready
            if process.stdin is not None:
                process.stdin.write(len(content).to_bytes(8, "little") + content)
                process.stdin.flush()
        return process

    def encoded(self, encoder: Encoder, inputs: Tensor, step: int) -> Encoded:
        """Of prepared ``inputs``, float32 [B, C, *sizes]. ``encoder`` is on this process's device."""
        if not self._others:
            return Pieces(encoder, inputs.to(self._device), self._settings, step)
        with self._alive():
            return _Shared(self, encoder, inputs, step)

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """What fails inside fails because another process has ended, if one has."""
        try:
            yield
        except RuntimeError as error:
            for number, process in enumerate(self._others, 1):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_ENDING_SECONDS / len(self._others))  # it may be about to
                    raise self._ended(number) from error
            raise

    def _ended(self, number: int) -> RunError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._others[number - 1].wait(_ENDING_SECONDS)
        return RunError(
            f"process {number} of the training's {len(self._others) + 1} has ended, with status "
            f"{self._others[number - 1].returncode}; what was saved before stays: go on with --resume"
        )

    def close(self) -> None:
        """End the others."""
        for process in self._others:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
        for process in self._others:
            try:
                process.wait(_ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if self._others:
            leave()
        self._others = []
        self._meeting.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Shared:
    """A batch of which each process encodes a share."""

    encodings: Tensor

    def __init__(self, workers: Workers, encoder: Encoder, inputs: Tensor, step: int) -> None:
        settings, device = workers._settings, workers._device
        self._workers, self._shares = workers, Shares(encoder, device, settings.processes)
        own = self._shares.give_inputs(inputs, step)
        self._own = Pieces(encoder, own, settings, step)
        self.encodings = self._shares.take_encodings(self._own.encodings)

    def backward(self, gradient: Tensor) -> None:
        with self._workers._alive():
            self._own.backward(self._shares.give_gradients(gradient))
            self._shares.add_up()
