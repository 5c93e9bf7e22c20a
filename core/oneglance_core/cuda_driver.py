"""The NVIDIA driver, asked directly: why CUDA can't be used here, in words. ONNX Runtime and FAISS don't say."""

from __future__ import annotations

import ctypes


def driver_trouble(ordinal: int, least: int) -> str | None:
    """What is missing for the card of this number (from 0); None when nothing is.

    ``least``: the oldest CUDA that will do, as 1000 * major + 10 * minor.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return f"there is no NVIDIA driver ({error})"
    if code := driver.cuInit(0):
        return f"the NVIDIA driver can't start: {_name_of(driver, code)}"
    version, cards = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    if version.value < least:
        return f"the NVIDIA driver is for CUDA {_text(version.value)}, and CUDA {_text(least)} or newer is needed"
    driver.cuDeviceGetCount(ctypes.byref(cards))
    if ordinal >= cards.value:
        return f"the NVIDIA driver shows {cards.value} card(s), numbered from 0"
    return None


def _name_of(driver: ctypes.CDLL, code: int) -> str:
    name = ctypes.c_char_p()
    driver.cuGetErrorName(code, ctypes.byref(name))
    return (name.value or str(code).encode()).decode()


def _text(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
