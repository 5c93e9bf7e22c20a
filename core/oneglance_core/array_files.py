"""Arrays in .npy and .npz files that anybody may have written: looked at before memory is taken for them.

A header can claim 2^40 numbers in a file of 100 bytes, and a compressed member can hold a thousand times its size.
Object arrays, whose reading runs code, are refused.
"""

import io
import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from oneglance_core.archives import check_inflation

Array = npt.NDArray[Any]
_MAGIC_BYTES = np.lib.format.MAGIC_LEN
_DAMAGED = (OSError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


class ArrayFileError(ValueError):
    """Not an array file, a damaged one, or one that claims more than it has."""


def array_in(content: bytes) -> Array:
    """The array in the bytes of a .npy file, or of a .npz that holds one. Raises ArrayFileError."""
    if content[:4] == b"PK\x03\x04":
        arrays = arrays_in(io.BytesIO(content))
        if len(arrays) != 1:
            raise ArrayFileError(f"holds {len(arrays)} arrays; one is needed")
        return next(iter(arrays.values()))
    return _read(io.BytesIO(content), len(content))


def load_array(path: str | os.PathLike[str]) -> Array:
    """The array in a .npy file. Raises ArrayFileError, OSError."""
    with Path(path).open("rb") as file:
        return _read(file, os.fstat(file.fileno()).st_size)


def arrays_in(file: str | os.PathLike[str] | IO[bytes], names: Sequence[str] | None = None) -> dict[str, Array]:
    """Those of a .npz, by name: all, or of ``names`` those that are there. Raises ArrayFileError, and OSError where
    there is no file."""
    try:
        with zipfile.ZipFile(file) as archive:
            found = {}
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name != member.filename and (names is None or name in names):
                    check_inflation(member)
                    with archive.open(member) as content:
                        found[name] = _read(content, member.file_size)
            return found
    except FileNotFoundError:
        raise
    except (ValueError, MemoryError, *_DAMAGED) as error:
        if isinstance(error, ArrayFileError):
            raise
        raise ArrayFileError(f"no .npz, or damaged: {error}") from error


def _read(file: IO[bytes], size: int) -> Array:
    """``size``: how many bytes there are."""
    try:
        shape, fortran, dtype, begin = _header(file)
        if dtype.hasobject:
            raise ArrayFileError("holds objects, not numbers")
        count = math.prod(shape)
        if count * dtype.itemsize > size - begin:
            raise ArrayFileError(f"claims {count:,} numbers, and has {size - begin:,} bytes")
        array = np.empty(count, dtype)
        left = memoryview(array.reshape(-1).view(np.uint8)) if array.nbytes else memoryview(b"")
        while len(left):
            part = file.read(min(len(left), 1 << 20))
            if not part:
                raise ArrayFileError("cut off")
            left[: len(part)] = part
            left = left[len(part) :]
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    except (ValueError, TypeError, MemoryError, RecursionError, *_DAMAGED) as error:
        if isinstance(error, ArrayFileError):
            raise
        raise ArrayFileError(f"no array file, or damaged: {error}") from error


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether the last axis varies slowest, dtype, and where the numbers begin."""
    version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)  # type: ignore[no-untyped-call]
    else:
        raise ArrayFileError(f"is of version {version[0]}.{version[1]} of the format, for tables")
    if any(one < 0 for one in shape):
        raise ArrayFileError(f"claims the shape {list(shape)}")
    return shape, fortran, dtype, _MAGIC_BYTES
