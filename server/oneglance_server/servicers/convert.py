"""Messages to plain values and back."""

import asyncio
import base64
import math
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from oneglance.defaults import MAX_PAGE_SIZE, PAGE_SIZE
from oneglance.v1 import common_pb2 as pb
from oneglance.v1 import face_pb2 as face_pb
from oneglance.v1.face_pb2 import FaceSelector
from oneglance.v1.gallery_pb2 import Gallery as GalleryMessage
from oneglance.v1.model_pb2 import Model, ModelInput
from oneglance_core.faces.finder import Face, Photo, SmallFaces
from oneglance_core.manifests import Calibration
from oneglance_index import Candidate, Gallery
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.loaded_model import LoadedModel
from oneglance_server.engines.photos import Selector
from oneglance_server.errors import InvalidRequest, ThresholdMissing
from oneglance_server.service.content import (
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
_SMALL_FACES: dict[int, SmallFaces] = {
    face_pb.SMALL_FACES_UNSPECIFIED: "when-none",
    face_pb.SMALL_FACES_WHEN_NONE: "when-none",
    face_pb.SMALL_FACES_ALWAYS: "always",
    face_pb.SMALL_FACES_NEVER: "never",
}
_SOURCES = {
    "model": pb.THRESHOLD_SOURCE_MODEL,
    "gallery": pb.THRESHOLD_SOURCE_GALLERY,
    "request": pb.THRESHOLD_SOURCE_REQUEST,
    "calibration": pb.THRESHOLD_SOURCE_CALIBRATION,
    "author": pb.THRESHOLD_SOURCE_AUTHOR,
}


def content_from(example: pb.Example, path: str) -> Content:
    """Raises InvalidRequest when the example holds nothing or an unknown data type."""
    kind = example.WhichOneof("content")
    if kind == "image":
        return Picture(example.image, selector_from(example.face, f"{path}.face"))
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


def selector_from(selector: FaceSelector, path: str) -> Selector:
    """Raises InvalidRequest for a box that is none, or a value this version doesn't know."""
    small_faces = small_faces_from(selector.small_faces, f"{path}.small_faces")
    which = selector.WhichOneof("which")
    if which == "box":
        box = (selector.box.x, selector.box.y, selector.box.width, selector.box.height)
        if not all(map(math.isfinite, box)) or box[2] <= 0 or box[3] <= 0:
            raise InvalidRequest.field(f"{path}.box", "needs finite numbers, width and height above 0")
        return Selector("box", box, small_faces)
    if which == "largest" and selector.largest:
        return Selector("largest", None, small_faces)
    if which == "aligned" and selector.aligned:
        return Selector("aligned")
    if which is not None:
        raise InvalidRequest.field(f"{path}.{which}", "must be true when it is given")
    return Selector("unset", None, small_faces)


def small_faces_from(value: int, path: str) -> SmallFaces:
    found = _SMALL_FACES.get(value)
    if found is None:
        raise InvalidRequest.field(path, f"unknown value {value}")
    return found


def to_face(face: Face | None) -> face_pb.Face | None:
    if face is None:
        return None
    x, y, width, height = face.box
    quality = face.quality
    return face_pb.Face(
        box=face_pb.Box(x=x, y=y, width=width, height=height),
        score=face.score,
        landmarks=[face_pb.Point(x=x, y=y) for x, y in face.points],
        quality=face_pb.FaceQuality(
            sharpness=quality.sharpness,
            brightness=quality.brightness,
            contrast=quality.contrast,
            roll_degrees=quality.roll_degrees,
        )
        if quality
        else None,
    )


def to_faces(faces: Sequence[Face | None]) -> list[face_pb.Face]:
    """All of them, or none unless all come from photos."""
    found = [message for face in faces if (message := to_face(face))]
    return found if len(found) == len(faces) else []


def to_photo(photo: Photo, *, with_faces: bool = True, limit: int | None = None) -> face_pb.Photo:
    """``limit``: faces to list, the largest first."""
    faces = photo.faces[:limit] if with_faces else ()
    return face_pb.Photo(
        width=photo.width,
        height=photo.height,
        faces=[message for face in faces if (message := to_face(face))],
        smallest_face=photo.smallest_face,
        faces_truncated=photo.truncated or (with_faces and len(faces) < len(photo.faces)),
    )


def deadline_of(context: grpc.aio.ServicerContext[Any, Any]) -> float | None:
    """The caller's deadline in event loop time."""
    remaining = context.time_remaining()
    return None if remaining is None else asyncio.get_running_loop().time() + remaining


def to_timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e6) * 1000)
    return stamp


def to_threshold(tau: Tau) -> pb.Threshold:
    return pb.Threshold(
        tau=tau.value,
        source=_SOURCES[tau.source],
        id=tau.id,
        expected_fpir=tau.expected_fpir,
        target_fpir=tau.target_fpir,
        set_time=None if tau.set_time is None else to_timestamp(tau.set_time),
    )


def to_calibration(calibration: Calibration) -> pb.Calibration:
    return pb.Calibration(id=calibration.id, **calibration.model_dump(exclude={"fmr_curve"}))


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


def to_model(model: LoadedModel[Any], galleries: GalleryService) -> Model:
    manifest = model.manifest
    message = Model(
        name=manifest.name,
        digest=model.digest,
        description=manifest.description,
        execution_provider=model.execution_provider,
        license=manifest.license,
        kind=manifest.kind,
    )
    encoder = galleries.encoders.by_digest(model.digest)
    if encoder is not None:
        message.MergeFrom(_encoder_part(encoder, galleries))
    return message


def _encoder_part(encoder: Encoder, galleries: GalleryService) -> Model:
    """What only encoders have."""
    manifest = encoder.manifest
    calibration = manifest.threshold
    try:
        size = calibration.gallery_size if calibration else 0
        threshold = to_threshold(galleries.model_tau(encoder.digest, size))
    except ThresholdMissing:
        threshold = None
    return Model(
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
        takes_photos=encoder.takes_photos,
    )


def page_from(size: int, token: str) -> tuple[int, str | None]:
    """(page size, id to continue after). Raises InvalidRequest."""
    size = check_size("page_size", size, PAGE_SIZE, MAX_PAGE_SIZE)
    if not token:
        return size, None
    try:
        return size, base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise InvalidRequest.field("page_token", "is not one that this server gave") from error


def to_page_token(after: str | None) -> str:
    return "" if after is None else base64.urlsafe_b64encode(after.encode()).decode("ascii")
