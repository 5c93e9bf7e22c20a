"""The memory of a GPU, through CUDA's runtime. The rows of galleries lie in it.

They are not left to a GPU index of FAISS: that one reserves exactly, so that every added row copies all of them, needs
twice the memory for it and computes all norms anew; and it must not be freed while another thread searches. Memory that
CUDA gives has none of that: it is written in place, and may be asked for and given back by any thread at any time.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneglance_index.errors import DeviceLost, DeviceUnavailable

_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation: the only error after which the card is as it was
_TO_DEVICE = 1  # cudaMemcpyHostToDevice
_OWN_STREAM = ctypes.c_void_p(2)  # cudaStreamPerThread


def load_runtime() -> Any:
    """CUDA's runtime, the copy that FAISS has loaded. Raises OSError where it has none."""
    for major in (12, 13):
        try:
            return ctypes.CDLL(f"libcudart.so.{major}", os.RTLD_NOLOAD | os.RTLD_NOW)
        except OSError:
            continue
    raise OSError("FAISS has loaded no CUDA runtime 12 or 13")


class Card:
    """One GPU. Thread-safe. Its methods raise MemoryError for want of its memory, DeviceLost when it fails for good.

    `lost`: why it fails for good; None while it works.
    """

    def __init__(self, device: str, ordinal: int) -> None:
        """Raises DeviceUnavailable."""
        self.device, self._ordinal = device, ordinal
        self.lost: str | None = None
        try:
            self._cuda = load_runtime()
        except OSError as error:
            raise DeviceUnavailable(device, str(error)) from error
        self._cuda.cudaGetErrorString.restype = ctypes.c_char_p

    def free_bytes(self) -> int:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def check(self) -> None:
        """Raises DeviceLost: FAISS ends the process when it meets such an error. Takes microseconds."""
        self.call("cudaStreamQuery", _OWN_STREAM)

    def give_up(self, reason: str) -> DeviceLost:
        """The card fails for good from here on: nothing is asked of it any more."""
        self.lost = self.lost or reason
        return DeviceLost(self.device, self.lost)

    def call(self, name: str, *args: Any) -> None:
        """A function of CUDA's runtime."""
        if self.lost is not None:
            raise DeviceLost(self.device, self.lost)
        code = self._cuda.cudaSetDevice(self._ordinal) or getattr(self._cuda, name)(*args)
        if code:
            self._cuda.cudaGetLastError()  # else FAISS's next call would take it for its own
            text = self._cuda.cudaGetErrorString(code).decode()
            if code == _OUT_OF_MEMORY:
                raise MemoryError(f"{self.device}: {text}")
            raise self.give_up(f"{name}: {text} [{code}]")

    def free(self, address: int) -> None:
        if self.lost is None and not self._cuda.cudaSetDevice(self._ordinal):
            self._cuda.cudaFree(ctypes.c_void_p(address))  # waits for what still reads it


class Memory:
    """So many bytes on a card; given back when nobody refers to it any more. Raises as Card does."""

    def __init__(self, card: Card, size: int) -> None:
        address = ctypes.c_void_p()
        card.call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(size))
        self.address = address.value or 0
        self._card = card
        weakref.finalize(self, card.free, self.address).atexit = False

    def write(self, offset: int, array: NDArray[np.floating[Any]]) -> None:
        """Copies a C-contiguous array to the bytes from `offset` on; it is there when this returns."""
        to, source = ctypes.c_void_p(self.address + offset), ctypes.c_void_p(array.ctypes.data)
        self._card.call("cudaMemcpyAsync", to, source, ctypes.c_size_t(array.nbytes), _TO_DEVICE, _OWN_STREAM)
        self._card.call("cudaStreamSynchronize", _OWN_STREAM)  # FAISS's streams wait for no other
