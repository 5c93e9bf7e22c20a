"""Messages to plain values and back."""

import asyncio
import base64
from typing import Any

import grpc
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from oneglance.v1 import common_pb2 as pb
from oneglance.v1.gallery_pb2 import Gallery as GalleryMessage
from oneglance.v1.model_pb2 import Model, ModelInput
from oneglance_index import Candidate, Gallery
from oneglance_server.engines.encoder import Encoder
from oneglance_server.errors import InvalidRequest, ThresholdMissing
from oneglance_server.service.content import (
    DEFAULT_PAGE,
    MAX_PAGE,
    ClientEncoding,
    Content,
    Picture,
    Provenance,
    Tau,
    TensorInput,
    check_size,
)
from oneglance_server.service.galleries import GalleryService

_DTYPES = {pb.DATA_TYPE_UINT8: "uint8", pb.DATA_TYPE_FLOAT32: "float32"}
_DATA_TYPES = {name: number for number, name in _DTYPES.items()}
_SOURCES = {
    "model": pb.THRESHOLD_SOURCE_MODEL,
    "gallery": pb.THRESHOLD_SOURCE_GALLERY,
    "request": pb.THRESHOLD_SOURCE_REQUEST,
}


def content_from(example: pb.Example, path: str) -> Content:
    """Raises InvalidRequest when the example holds nothing or an unknown data type."""
    kind = example.WhichOneof("content")
    if kind == "image":
        return Picture(example.image)
    if kind == "encoding":
        encoding = example.encoding
        return ClientEncoding(np.array(encoding.values, dtype=np.float32), encoding.encoder_digest)
    if kind == "tensor":
        tensor = example.tensor
        dtype = _DTYPES.get(tensor.data_type)
        if dtype is None:
            raise InvalidRequest.field(f"{path}.tensor.data_type", "is required", reason="TENSOR_INVALID")
        return TensorInput(dtype, tuple(tensor.shape), tensor.data)
    raise InvalidRequest.field(path, "needs an image, a tensor or an encoding", reason="EMPTY")


def deadline_of(context: grpc.aio.ServicerContext[Any, Any]) -> float | None:
    """The caller's deadline in event loop time."""
    remaining = context.time_remaining()
    return None if remaining is None else asyncio.get_running_loop().time() + remaining


def to_timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e6) * 1000)
    return stamp


def to_threshold(tau: Tau) -> pb.Threshold:
    return pb.Threshold(tau=tau.value, source=_SOURCES[tau.source], id=tau.id, expected_fpir=tau.expected_fpir)


def to_provenance(provenance: Provenance) -> pb.Provenance:
    return pb.Provenance(
        encoder_digest=provenance.encoder_digest,
        execution_provider=provenance.execution_provider,
        index_kind=provenance.index_kind,
        index_device=provenance.index_device,
        exact=provenance.exact,
        gallery_revision=provenance.gallery_revision,
        gallery_size=provenance.gallery_size,
    )


def to_candidate(candidate: Candidate) -> pb.Candidate:
    return pb.Candidate(subject_id=candidate.subject_id, distance=candidate.distance, encoding_id=candidate.encoding_id)


def to_gallery(gallery: Gallery, galleries: GalleryService) -> GalleryMessage:
    try:
        threshold = to_threshold(galleries.tau(gallery, gallery.subjects))
    except ThresholdMissing:
        threshold = None
    return GalleryMessage(
        id=gallery.id,
        description=gallery.description,
        encoder_digest=gallery.encoder_digest,
        dimension=gallery.dimension,
        subject_count=gallery.subjects,
        encoding_count=gallery.encodings,
        revision=gallery.revision,
        create_time=to_timestamp(gallery.created),
        threshold=threshold,
        encoder_loaded=galleries.encoders.by_digest(gallery.encoder_digest) is not None,
    )


def to_model(encoder: Encoder, galleries: GalleryService) -> Model:
    manifest = encoder.manifest
    calibration = manifest.threshold
    threshold = to_threshold(galleries.model_tau(encoder.digest, calibration.gallery_size)) if calibration else None
    return Model(
        name=manifest.name,
        digest=encoder.digest,
        description=manifest.description,
        input=ModelInput(
            kind=manifest.input.kind,
            shape=manifest.input.shape,
            data_type=_DATA_TYPES[manifest.input.dtype],
            color=manifest.input.color or "",
        ),
        dimension=encoder.dimension,
        unit_norm=manifest.output.unit_norm,
        metric=manifest.metric,
        threshold=threshold,
        execution_provider=encoder.execution_provider,
        license=manifest.license,
    )


def page_from(size: int, token: str) -> tuple[int, str | None]:
    """(page size, id to continue after). Raises InvalidRequest."""
    size = check_size("page_size", size, DEFAULT_PAGE, MAX_PAGE)
    if not token:
        return size, None
    try:
        return size, base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise InvalidRequest.field("page_token", "is not one that this server gave") from error


def to_page_token(after: str | None) -> str:
    return "" if after is None else base64.urlsafe_b64encode(after.encode()).decode("ascii")
