"""The one device setting: "cpu", "cuda" or "cuda:N". Opened once, when galleries are opened."""

from __future__ import annotations

import re
from dataclasses import dataclass

from oneglance_index.errors import DeviceUnavailable
from oneglance_index.search.faiss_calls import load
from oneglance_index.search.gpu_scan import Gpu, open_gpu
from oneglance_index.search.milvus.access import Access
from oneglance_index.search.milvus.address import is_address, parse_address
from oneglance_index.search.milvus.connection import Connection
from oneglance_index.search.milvus.engine import Engine
from oneglance_index.search.milvus.writer import Writer

_CLOSE_SECONDS = 10.0


def parse_device(device: str) -> int | None:
    """The GPU's ordinal, or None for the CPU. Raises DeviceUnavailable for anything else."""
    if device == "cpu":
        return None
    match = re.fullmatch(r"cuda(?::(\d{1,4}))?", device, re.ASCII)
    if match is None:
        raise DeviceUnavailable(device, 'expected "cpu", "cuda" or "cuda:N"')
    return int(match[1] or 0)


@dataclass(frozen=True, slots=True)
class Remote:
    """A Milvus, and what writes to it."""

    engine: Engine
    writer: Writer


@dataclass(frozen=True, slots=True)
class Device:
    """An opened device. `name` is "cpu", "cuda:N" or a Milvus's address; `gpu` is None but on a GPU, `remote` but on a
    Milvus.

    `cpu_instead`: searches go on on the CPU once the GPU fails for good.
    """

    name: str
    gpu: Gpu | None = None
    cpu_instead: bool = False
    remote: Remote | None = None

    def hurry(self) -> None:
        """It is about to be closed."""
        if self.remote is not None:
            self.remote.writer.hurry()

    def close(self) -> None:
        if self.remote is not None:
            self.remote.writer.close(_CLOSE_SECONDS)
            self.remote.engine.close()
        if self.gpu is not None:
            self.gpu.pool.shutdown()

    def trouble(self) -> str | None:
        """Why searches fail, until the next start or until Milvus answers; None where they don't."""
        if self.remote is not None:
            return self.remote.engine.trouble()
        lost = self.gpu.card.lost if self.gpu and not self.cpu_instead else None
        return lost and f"{self.name} fails, only a restart can help: {lost}"


def open_device(
    device: str,
    scratch_bytes: int,
    cpu_instead: bool = False,
    half: bool = False,
    access: Access | None = None,
    copy_seconds: float = 0.0,
) -> Device:
    """Opens the device, and loads FAISS, or raises DeviceUnavailable naming what is missing. `access`: to a Milvus;
    `copy_seconds`: how long that may have copies of what is deleted, 0 where nobody said."""
    ordinal = None if is_address(device) else parse_device(device)
    try:
        load()
    except (ImportError, OSError, RuntimeError) as error:  # faiss-gpu looks for CUDA's libraries itself
        raise DeviceUnavailable(device, f"FAISS can't be loaded (the cpu and gpu extras have it): {error}") from error
    if is_address(device):
        address = parse_address(device)
        engine = Engine(Connection(address, access or Access()), address.replicas)
        return Device(device, remote=Remote(engine, Writer(engine.name, copy_seconds)))
    if ordinal is None:
        return Device("cpu")
    name = f"cuda:{ordinal}"
    return Device(name, open_gpu(name, ordinal, scratch_bytes, half=half), cpu_instead)
