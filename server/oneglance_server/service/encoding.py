"""From pictures, tensors and client-made encodings to points in one encoder's space."""

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_index import EncodingInvalid, check_encodings, usable_encodings
from oneglance_server.engines.batcher import Batcher, BatchObserver
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.pictures import PictureError, PictureLimits, decode_picture
from oneglance_server.errors import (
    EncoderNotLoaded,
    ForeignEncoding,
    InvalidRequest,
    ModelNotFound,
)
from oneglance_server.service.content import ClientEncoding, Content, Picture, TensorInput

CLIENT = "client"
_NO_ENCODING = "the encoder gives it no usable encoding"
ENCODING_FLAWS = {
    "not_finite": "has values that are not finite",
    "zero": "is all zero",
    "too_large": "has values too large to compare",
}


@dataclass(frozen=True, slots=True)
class Encoded:
    """``vectors`` float32 [n, D]; ``provider`` ran the encoder, or "client" when nothing had to be encoded."""

    vectors: npt.NDArray[np.float32]
    provider: str


class Encoders:
    """The loaded encoders, each behind its own coalescing batcher."""

    def __init__(
        self,
        encoders: Sequence[Encoder],
        limits: PictureLimits,
        executor: Executor,
        *,
        workers: int,
        max_batch: int,
        max_queue: int,
        observer: BatchObserver,
    ) -> None:
        self._limits = limits
        self._by_name = {encoder.manifest.name: encoder for encoder in encoders}
        self._by_digest = {encoder.digest: encoder for encoder in encoders}
        self._batchers = {
            encoder.digest: Batcher[Content, npt.NDArray[np.float32]](
                "encode",
                self._runner(encoder),
                executor,
                workers=workers,
                max_batch_rows=max_batch,
                max_queue_rows=max_queue,
                observer=observer,
            )
            for encoder in encoders
        }

    def all(self) -> list[Encoder]:
        """By name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def find(self, path: str, name_or_digest: str) -> Encoder:
        """A loaded encoder; an empty name is the only one loaded. Raises ModelNotFound, InvalidRequest."""
        if not name_or_digest:
            if len(self._by_name) == 1:
                return next(iter(self._by_name.values()))
            known = ", ".join(sorted(self._by_name)) or "none"
            raise InvalidRequest.field(path, f"name one of the loaded models: {known}", reason="MODEL_REQUIRED")
        found = self._by_name.get(name_or_digest) or self._by_digest.get(name_or_digest)
        if found is None:
            shown = name_or_digest if len(name_or_digest) <= 128 else name_or_digest[:125] + "..."
            raise ModelNotFound(f"no loaded model {shown!r}", metadata={"model": shown})
        return found

    def by_digest(self, digest: str) -> Encoder | None:
        return self._by_digest.get(digest)

    async def encode(
        self,
        contents: Sequence[Content],
        paths: Sequence[str],
        *,
        digest: str,
        dimension: int,
        deadline: float | None,
        patient: bool = False,
    ) -> Encoded:
        """Points in the space of encoder ``digest``, the i-th for the i-th content.

        ``paths`` name the contents in errors. ``patient`` callers (streams) wait for room in the queue instead of
        being refused. Raises InvalidRequest for the first bad content, ForeignEncoding, EncoderNotLoaded, Overloaded,
        DeadlinePassed.
        """
        encoder = self._by_digest.get(digest)
        vectors = np.empty((len(contents), dimension), dtype=np.float32)
        to_encode: list[int] = []
        for i, (content, path) in enumerate(zip(contents, paths, strict=True)):
            if isinstance(content, ClientEncoding):
                vectors[i] = _check_client_encoding(content, f"{path}.encoding", digest, dimension)
            elif encoder is None:
                raise EncoderNotLoaded(
                    f"{path}: the gallery's encoder {digest[:12]} is not loaded here; only encodings can be compared",
                    metadata={"encoder_digest": digest},
                )
            else:
                if isinstance(content, TensorInput):
                    _check_tensor(content, f"{path}.tensor", encoder)
                elif encoder.manifest.input.kind != "image":
                    raise InvalidRequest.field(
                        f"{path}.image", f"this encoder takes a {encoder.manifest.input.kind}: send a tensor"
                    )
                to_encode.append(i)
        if not to_encode or encoder is None:
            return Encoded(vectors, CLIENT)
        try:
            outcomes = await self._batchers[digest].submit_all(
                [contents[i] for i in to_encode], deadline=deadline, patient=patient
            )
        except _Flawed as flaw:
            # Which one it was is known only to the batch; find its path by identity.
            index = next(i for i in to_encode if contents[i] is flaw.content)
            kind = "image" if isinstance(flaw.content, Picture) else "tensor"
            raise InvalidRequest.field(f"{paths[index]}.{kind}", str(flaw), reason=flaw.reason) from flaw
        vectors[to_encode] = outcomes
        return Encoded(vectors, encoder.execution_provider)

    def _runner(self, encoder: Encoder) -> Any:
        spec = encoder.manifest.input

        def prepare(content: Content) -> npt.NDArray[Any]:
            if isinstance(content, TensorInput):
                return np.frombuffer(content.data, np.dtype(content.dtype).newbyteorder("<")).reshape(content.shape)
            if not isinstance(content, Picture):
                raise TypeError(f"can't encode a {type(content).__name__}")
            height, width, _ = spec.shape
            return decode_picture(
                content.data,
                height=height,
                width=width,
                color=spec.color or "gray",
                resize=spec.resize,
                limits=self._limits,
            )

        def run(contents: Sequence[Content]) -> Sequence[npt.NDArray[np.float32] | Exception]:
            inputs = np.empty((len(contents), *spec.shape), dtype=spec.dtype)
            results: list[npt.NDArray[np.float32] | Exception] = []
            good: list[int] = []
            for i, content in enumerate(contents):
                try:
                    inputs[len(good)] = prepare(content)
                    good.append(i)
                    results.append(inputs)  # replaced below
                except PictureError as error:
                    results.append(_Flawed(content, error.reason, str(error)))
            if good:
                outputs = encoder.encode(inputs[: len(good)])
                usable = usable_encodings(outputs)
                for i, output, fine in zip(good, outputs, usable, strict=True):
                    results[i] = output if fine else _Flawed(contents[i], "NO_ENCODING", _NO_ENCODING)
            return results

        return run


class _Flawed(Exception):
    def __init__(self, content: Content, reason: str, message: str) -> None:
        super().__init__(message)
        self.content = content
        self.reason = reason


def _check_client_encoding(content: ClientEncoding, path: str, digest: str, dimension: int) -> npt.NDArray[np.float32]:
    if not content.encoder_digest:
        raise InvalidRequest.field(
            f"{path}.encoder_digest", "is required: the digest of the encoder that made it", reason="ENCODING_INVALID"
        )
    if content.encoder_digest != digest:
        raise ForeignEncoding(
            f"{path}: made by encoder {content.encoder_digest[:12]}, but {digest[:12]} is in use here",
            fields=((f"{path}.encoder_digest", f"expected {digest}"),),
            metadata={"expected": digest, "got": content.encoder_digest[:64]},
        )
    if content.values.shape != (dimension,):
        raise InvalidRequest.field(
            f"{path}.values", f"has {content.values.size} values, expected {dimension}", reason="ENCODING_INVALID"
        )
    try:
        checked: npt.NDArray[np.float32] = check_encodings(content.values[np.newaxis], dimension)[0]
        return checked
    except EncodingInvalid as error:
        raise InvalidRequest.field(f"{path}.values", ENCODING_FLAWS[error.reason], reason="ENCODING_INVALID") from error


def _check_tensor(content: TensorInput, path: str, encoder: Encoder) -> None:
    spec = encoder.manifest.input
    if content.dtype != spec.dtype:
        raise InvalidRequest.field(f"{path}.data_type", f"expected {spec.dtype}", reason="TENSOR_INVALID")
    if content.shape != spec.shape:
        raise InvalidRequest.field(
            f"{path}.shape", f"expected {list(spec.shape)}, got {list(content.shape)[:8]}", reason="TENSOR_INVALID"
        )
    itemsize = np.dtype(spec.dtype).itemsize
    expected = math.prod(spec.shape) * itemsize
    if len(content.data) != expected:
        raise InvalidRequest.field(
            f"{path}.data", f"expected {expected} bytes, got {len(content.data)}", reason="TENSOR_INVALID"
        )
    if spec.dtype == "float32" and not np.isfinite(np.frombuffer(content.data, "<f4")).all():
        raise InvalidRequest.field(f"{path}.data", "has values that are not finite", reason="TENSOR_INVALID")
