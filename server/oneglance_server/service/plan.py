"""What has to be done to get encodings of a request's contents. Every field is checked here, before any work."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from oneglance_core.faces.crops import CropRequest, FaceChoice
from oneglance_core.faces.finder import ChipSpec, SmallFaces
from oneglance_core.manifests import InputSpec
from oneglance_core.pair_head import LEAST_POSITIVE
from oneglance_index import MAX_CROP_BYTES, EncodingInvalid, check_encodings
from oneglance_server.engines.encoder import Encoder
from oneglance_server.errors import EncoderNotLoaded, ForeignEncoding, InvalidRequest, ServiceError
from oneglance_server.service.content import ClientEncoding, Content, Picture, Sound, Tensor, check_unit
from oneglance_server.service.encoders import where_bundled

Vectors = npt.NDArray[np.float32]
ENCODING_FLAWS = {
    "not_finite": "has values that are not finite",
    "zero": "is all zero",
    "too_large": "has values too large to compare",
}


@dataclass(frozen=True, slots=True)
class Space:
    """Where encodings are wanted: float32 [``dimension``] as encoder ``digest`` makes them."""

    digest: str
    dimension: int


def make_plan(
    contents: Sequence[Content], space: Space, encoder: Encoder | None, faces: Literal["all", "only"]
) -> tuple[Vectors, dict[int, CropRequest]]:
    """float32 [n, D], of the contents that are encodings already, in their order; and what must be searched for faces,
    by position. The encoder takes the others as they are.

    ``encoder``: that of the space, None when it isn't loaded. ``faces``: of photos that don't say which.

    Raises InvalidRequest for the first bad content, ForeignEncoding, EncoderNotLoaded.
    """
    given: list[ClientEncoding] = []
    photos: dict[int, CropRequest] = {}
    try:
        for i, content in enumerate(contents):
            if isinstance(content, ClientEncoding):
                _check_encoding(content, space)
                given.append(content)
            elif encoder is None:
                raise encoder_missing(content, space)
            elif isinstance(content, Tensor):
                _check_tensor(content, encoder)
            elif isinstance(content, Sound):
                if encoder.manifest.input.sound is None:
                    raise InvalidRequest.field(content.path, f"this encoder takes a {encoder.manifest.input.kind}")
            elif encoder.manifest.input.kind != "image":
                raise InvalidRequest.field(content.path, f"this encoder takes {_taken(encoder)}")
            elif encoder.takes_photos and content.face.which != "aligned":
                photos[i] = CropRequest(
                    content.data,
                    _resolved(content.face, faces),
                    chip_of(encoder),
                    face_required=faces == "only",
                    crop_bytes=MAX_CROP_BYTES if isinstance(content, Picture) and content.keep else 0,
                )
    except ServiceError:
        _vectors(given, space, encoder)  # should one of those before be bad, it is the first to tell of
        raise
    return _vectors(given, space, encoder), photos


def encoder_missing(content: Content, space: Space) -> EncoderNotLoaded:
    error = encoder_unknown(space.digest, "only encodings can be compared")
    return EncoderNotLoaded(f"{example_of(content)}: {error}", metadata=error.metadata)


def encoder_unknown(digest: str, so: str) -> EncoderNotLoaded:
    return EncoderNotLoaded(
        f"the gallery's encoder {digest[:12]} is not loaded here{where_bundled(digest)}; {so}",
        metadata={"encoder_digest": digest},
    )


def _taken(encoder: Encoder) -> str:
    spec = encoder.manifest.input
    return f"a {spec.kind}: send a {'sound, or a ' if spec.sound else ''}tensor"


def _resolved(choice: FaceChoice, faces: Literal["all", "only"]) -> FaceChoice:
    """What a photo says of its face, and the call of what it leaves open."""
    which = faces if choice.which == "unset" else choice.which
    return replace(choice, which=which, small_faces=choice.small_faces or default_small_faces(which))


def default_small_faces(which: str) -> SmallFaces:
    """Small faces are looked for where every face is wanted, or that in a box, which may be a small one."""
    return "when-wide" if which in ("all", "box") else "when-none"


def chip_of(encoder: Encoder) -> ChipSpec | None:
    """What the encoder wants a face brought to; None unless it takes photos."""
    if encoder.manifest.alignment is None:
        return None
    height, width, _ = encoder.manifest.input.shape
    return ChipSpec(encoder.manifest.alignment, height, width)


def example_of(content: Content) -> str:
    """The path of the example or probe that the content is in."""
    return content.path.rpartition(".")[0]


def _check_encoding(content: ClientEncoding, space: Space) -> None:
    path = content.path
    check_maker(path, content.encoder_digest, space.digest)
    if content.values.shape != (space.dimension,):
        raise InvalidRequest.field(
            f"{path}.values", f"has {content.values.size} values, expected {space.dimension}", reason="ENCODING_INVALID"
        )


def check_maker(path: str, given: str, digest: str) -> None:
    """That encodings are of the encoder that is in use. Raises InvalidRequest, ForeignEncoding."""
    if not given:
        raise InvalidRequest.field(
            f"{path}.encoder_digest", "is required: the digest of the encoder that made it", reason="ENCODING_INVALID"
        )
    if given != digest:
        raise ForeignEncoding(
            f"{path}: made by encoder {given[:12]}, but {digest[:12]} is in use here",
            fields=((f"{path}.encoder_digest", f"expected {digest}"),),
            metadata={"expected": digest, "got": given[:64]},
        )


def _vectors(given: Sequence[ClientEncoding], space: Space, encoder: Encoder | None) -> Vectors:
    """float32 [n, D]. Raises InvalidRequest for the first that can't be one of the encoder's."""
    if not given:
        return np.empty((0, space.dimension), np.float32)
    stacked = np.concatenate([content.values for content in given]).reshape(-1, space.dimension)
    check_points([f"{content.path}.values" for content in given], stacked, encoder)
    return stacked


def check_points(paths: Sequence[str], points: Vectors, encoder: Encoder | None) -> None:
    """Encodings that a caller made, float32 [n, D], and where each stands in the request. ``encoder``: that which made
    them, None when it isn't loaded. Raises InvalidRequest for the first that can't be one of its encodings."""
    try:
        check_encodings(points, points.shape[1])
    except EncodingInvalid as error:
        raise InvalidRequest.field(paths[error.row], ENCODING_FLAWS[error.reason], reason="ENCODING_INVALID") from error
    if encoder is None:
        return
    head = encoder.pair_head
    if head is not None and head.form == "chi-square" and points.min() < LEAST_POSITIVE:
        raise InvalidRequest.field(
            paths[int(np.argmax(points.min(axis=1) < LEAST_POSITIVE))],
            "has values below 0: this encoder gives none, and its pair head can't compare them",
            reason="ENCODING_INVALID",
        )
    if encoder.manifest.output.unit_norm:
        check_unit(paths, points)


def _can_be_fitted(shape: Sequence[int], spec: InputSpec) -> bool:
    """Whether an array of this shape can be brought to the encoder's. An image's pixels are sent as they are."""
    return (
        spec.kind != "image"
        and spec.fit == "pad"
        and len(shape) == len(spec.shape)
        and min(shape) >= 1
        and shape[-1] == spec.shape[-1]
    )


def _check_tensor(content: Tensor, encoder: Encoder) -> None:
    spec, path = encoder.manifest.input, content.path
    if content.dtype != spec.dtype:
        raise InvalidRequest.field(f"{path}.data_type", f"expected {spec.dtype}", reason="TENSOR_INVALID")
    if content.shape != spec.shape and not _can_be_fitted(content.shape, spec):
        sizes = f"{list(spec.shape)}, or other sizes of as many channels" if spec.fit == "pad" else list(spec.shape)
        raise InvalidRequest.field(
            f"{path}.shape", f"expected {sizes}, got {list(content.shape)[:8]}", reason="TENSOR_INVALID"
        )
    expected = math.prod(content.shape) * np.dtype(spec.dtype).itemsize
    if len(content.data) != expected:
        raise InvalidRequest.field(
            f"{path}.data", f"expected {expected} bytes, got {len(content.data)}", reason="TENSOR_INVALID"
        )
    if spec.dtype == "float32" and not np.isfinite(np.frombuffer(content.data, "<f4")).all():
        raise InvalidRequest.field(f"{path}.data", "has values that are not finite", reason="TENSOR_INVALID")
