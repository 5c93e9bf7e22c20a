"""Small arrays inside a manifest."""

import base64
import math
import zlib
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from oneglance_core.manifests.part import ModelFolderError, Part

MAX_ARRAY_BYTES = 64 << 20  # unpacked

Dtype = Literal["uint8", "float32", "int64"]


class Array(Part):
    """A small array inside the manifest: C order, little endian, zlib, base64. At most MAX_ARRAY_BYTES unpacked."""

    dtype: Dtype
    shape: tuple[Annotated[int, Field(ge=0)], ...] = Field(max_length=8)
    zlib_base64: str

    @model_validator(mode="after")
    def _small(self) -> Self:
        # Empty arrays too: numpy multiplies the sizes beside a 0.
        if math.prod(max(size, 1) for size in self.shape) * np.dtype(self.dtype).itemsize > MAX_ARRAY_BYTES:
            raise ValueError(f"an array is at most {MAX_ARRAY_BYTES >> 20} MiB, not {self.dtype} {list(self.shape)}")
        return self

    @classmethod
    def pack(cls, values: npt.NDArray[Any]) -> Self:
        """``values``: uint8, int64 or float32, up to 8 axes; other floats become float32.

        Raises ValueError for more than MAX_ARRAY_BYTES.
        """
        names: dict[str, Dtype] = {"uint8": "uint8", "int64": "int64"}
        name = names.get(values.dtype.name, "float32")
        raw = np.ascontiguousarray(values, dtype=np.dtype(name).newbyteorder("<")).tobytes()
        text = base64.b64encode(zlib.compress(raw, 9)).decode("ascii")
        return cls(dtype=name, shape=values.shape, zlib_base64=text)

    def unpack(self) -> npt.NDArray[Any]:
        """The array, ``dtype [*shape]``. Raises ModelFolderError when the bytes don't match."""
        dtype = np.dtype(self.dtype).newbyteorder("<")
        size = math.prod(self.shape) * dtype.itemsize
        try:
            inflate = zlib.decompressobj()
            raw = inflate.decompress(base64.b64decode(self.zlib_base64, validate=True), size + 1)
        except (ValueError, zlib.error) as error:
            raise ModelFolderError(f"parity: array can't be unpacked: {error}") from error
        if len(raw) != size:
            raise ModelFolderError(f"parity: array of shape {self.shape} needs {size} bytes")
        return np.frombuffer(raw, dtype).reshape(self.shape).astype(self.dtype)
