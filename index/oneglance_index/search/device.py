"""The one device setting: "cpu", "cuda" or "cuda:N". Opened once per process side, and never replaced by
another.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

from oneglance_index.errors import DeviceUnavailable
from oneglance_index.search.faiss_calls import GpuResources, load


def parse_device(device: str) -> int | None:
    """The GPU's ordinal, or None for the CPU. Raises DeviceUnavailable for anything else."""
    if device == "cpu":
        return None
    match = re.fullmatch(r"cuda(?::(\d{1,4}))?", device, re.ASCII)
    if match is None:
        raise DeviceUnavailable(device, 'expected "cpu", "cuda" or "cuda:N"')
    return int(match[1] or 0)


@dataclass(frozen=True, slots=True)
class Device:
    """An opened device. `name` is "cpu" or "cuda:N"; `gpu` is None on the CPU.

    `lock` is held during every use of the GPU: its scratch memory and streams are shared by all galleries on
    it.
    """

    name: str
    gpu: GpuResources | None
    lock: threading.Lock


def open_device(device: str, gpu_temp_memory_bytes: int) -> Device:
    """Opens the device, and loads FAISS, or raises DeviceUnavailable naming what is missing."""
    ordinal = parse_device(device)
    try:
        load()
    except ImportError as error:
        raise DeviceUnavailable(device, f"FAISS can't be loaded (the cpu and gpu extras have it): {error}") from error
    if ordinal is None:
        return Device("cpu", None, threading.Lock())
    name = f"cuda:{ordinal}"
    return Device(name, GpuResources(name, ordinal, gpu_temp_memory_bytes), threading.Lock())
