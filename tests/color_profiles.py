"""ICC profiles for tests, made from their numbers."""

import struct

import numpy as np
import numpy.typing as npt

# Columns: where full red, green and blue lie, XYZ under D50.
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
_WHITE = np.array([0.9642, 1.0, 0.8249])
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def rgb_profile(primaries: npt.NDArray[np.float64], gamma: float | None = None) -> bytes:
    """A display with ``primaries`` [3, 3] and the curve ``gamma``; None: that of sRGB."""
    curve = _curve(gamma)
    colors = {name: _xyz(primaries[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return _profile(b"mntr", b"RGB ", {**colors, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)})


def gray_profile(gamma: float | None = None) -> bytes:
    return _profile(b"mntr", b"GRAY", {b"kTRC": _curve(gamma)})


def cmyk_profile(paper: float = 100.0) -> bytes:
    """A press that prints gray only: its lightness is ``paper``, times what each of the four inks lets through."""
    inks = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    lightness = paper * np.prod(1 - inks, axis=1)
    lab = np.stack([lightness * 2.55, np.full(16, 128), np.full(16, 128)], axis=-1)
    straight = bytes(range(256))
    head = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(np.eye(3, dtype=int) << 16).ravel())
    table = head + straight * 4 + np.rint(lab).astype(np.uint8).tobytes() + straight * 3
    return _profile(b"prtr", b"CMYK", {b"A2B0": table}, connection=b"Lab ")


def linear(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """sRGB's curve: [0, 1] to [0, 1]."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def curved(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The other way round; what is outside of [0, 1] is clipped."""
    inside = np.clip(values, 0, 1)
    return np.where(inside <= 0.0031308, inside * 12.92, 1.055 * inside ** (1 / 2.4) - 0.055)


def _curve(gamma: float | None) -> bytes:
    numbers = _SRGB_CURVE if gamma is None else (gamma,)
    return b"para" + bytes(4) + struct.pack(">HH", 0 if gamma else 3, 0) + _fixed(numbers)


def _xyz(values: npt.NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _fixed(values: "npt.NDArray[np.float64] | tuple[float, ...]") -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _profile(device: bytes, kind: bytes, tags: dict[bytes, bytes], *, connection: bytes = b"XYZ ") -> bytes:
    tags = {b"wtpt": _xyz(_WHITE), **tags}
    start = 128 + 4 + 12 * len(tags)
    table, data = b"", b""
    for name, content in tags.items():
        table += struct.pack(">4sLL", name, start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    body = struct.pack(">L", len(tags)) + table + data
    head = struct.pack(
        ">L4sL4s4s4s12s4s28x", 128 + len(body), b"test", 0x04000000, device, kind, connection, bytes(12), b"acsp"
    )
    return head + _fixed(_WHITE) + bytes(48) + body
