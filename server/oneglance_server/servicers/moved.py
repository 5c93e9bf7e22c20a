"""Galleries on their way, between messages and values."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, get_args

import numpy as np

from oneglance.v1 import moving_pb2 as pb
from oneglance_core.faces.quality import QualityPolicy
from oneglance_core.fusion import DecidedBy, Fusion
from oneglance_core.manifests import MAX_DIMENSION, Calibration
from oneglance_index import (
    Gallery,
    Generation,
    MovedEncoding,
    MovedSubject,
    Note,
    Retention,
    ThresholdVersion,
    approximation_of,
    kind_of,
)
from oneglance_server.errors import InvalidRequest
from oneglance_server.service.content import MAX_MOVED, check_tau
from oneglance_server.service.doubts import DoubtPolicy
from oneglance_server.service.following import MadeFor

_INVALID = "IMPORT_INVALID"
_CHUNK_BYTES = 1 << 20
_NAMES: dict[str, tuple[str, ...]] = {
    "fusion": get_args(Fusion),
    "decided_by": get_args(DecidedBy),
    "quality_policy": get_args(QualityPolicy),
    "doubt_policy": get_args(DoubtPolicy),
}
_OPTIONAL = ("quality_policy", "doubt_policy")
T = TypeVar("T")


def chunks(items: Sequence[T], size_of: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """For a message each: of about a mebibyte, a single larger one alone."""
    start = size = 0
    for place, one in enumerate(items):
        its = size_of(one)
        if place > start and (size + its > _CHUNK_BYTES or place - start == MAX_MOVED):
            yield items[start:place]
            start, size = place, 0
        size += its
    if start < len(items):
        yield items[start:]


def to_moved_gallery(gallery: Gallery, unit_norm: bool | None) -> pb.MovedGallery:
    active = gallery.active
    return pb.MovedGallery(
        description=gallery.description,
        encoder_digest=active.encoder_digest,
        dimension=active.dimension,
        kind=active.kind,
        fusion=active.fusion,
        target_fpir=gallery.target_fpir,
        quality_policy=active.quality,
        doubt_policy=active.doubt,
        decided_by=active.decided_by,
        least_gap=active.least_gap,
        tau=active.threshold,
        threshold_version=active.threshold_revision,
        create_seconds=gallery.created,
        generation_seconds=active.created,
        revision=gallery.revision,
        subject_count=gallery.subjects,
        encoding_count=gallery.encodings,
        unit_norm=unit_norm,
    )


def moved_gallery_from(message: pb.MovedGallery, path: str) -> Gallery:
    """Raises InvalidRequest."""
    one = message
    for name in ("dimension", "threshold_version", "revision", "subject_count", "encoding_count"):
        least = 1 if name == "dimension" else 0
        if not least <= getattr(one, name) <= 1 << 40:
            raise InvalidRequest.field(
                f"{path}.{name}", f"must be at least {least}, got {getattr(one, name)}", _INVALID
            )
    for name in ("least_gap", "create_seconds", "generation_seconds"):
        _check_seconds(f"{path}.{name}", getattr(one, name))
    if one.dimension > MAX_DIMENSION:
        raise InvalidRequest.field(f"{path}.dimension", f"at most {MAX_DIMENSION}, got {one.dimension}", _INVALID)
    for name, known in _NAMES.items():
        if (value := getattr(one, name)) not in known and (value or name not in _OPTIONAL):
            raise InvalidRequest.field(f"{path}.{name}", f"must be one of {', '.join(known)}, got {value!r}", _INVALID)
    try:
        approximation = approximation_of(one.kind)
    except ValueError:
        kinds = "flat, approximate:SHARE or approximate:SHARE:exact-on-alarm, SHARE above 0.5 and at most 0.9995"
        raise InvalidRequest.field(f"{path}.kind", f"must be {kinds}, got {one.kind!r}", _INVALID) from None
    if not re.fullmatch("[0-9a-f]{64}", one.encoder_digest):
        raise InvalidRequest.field(f"{path}.encoder_digest", "must be 64 hexadecimal digits", _INVALID)
    if one.HasField("tau"):
        check_tau(f"{path}.tau", one.tau, one.fusion, one.decided_by)
    if one.HasField("target_fpir") and not 0 < one.target_fpir < 1:
        raise InvalidRequest.field(f"{path}.target_fpir", "must be between 0 and 1", _INVALID)
    active = Generation(
        encoder_digest=one.encoder_digest,
        dimension=one.dimension,
        kind=kind_of(approximation),
        fusion=one.fusion,
        state="active",
        threshold=one.tau if one.HasField("tau") else None,
        threshold_revision=one.threshold_version,
        threshold_since=None,
        calibration=None,
        calibration_revision=0,
        quality=one.quality_policy if one.HasField("quality_policy") else None,
        created=one.generation_seconds,
        least_gap=one.least_gap,
        doubt=one.doubt_policy if one.HasField("doubt_policy") else None,
        decided_by=one.decided_by,
    )
    return Gallery(
        id="",
        description=one.description,
        active=active,
        target_fpir=one.target_fpir if one.HasField("target_fpir") else None,
        policies=None,
        rights=None,
        retention=None,
        created=one.create_seconds,
        revision=one.revision,
        subjects=one.subject_count,
        encodings=one.encoding_count,
    )


def to_moved_subject(one: MovedSubject) -> pb.MovedSubject:
    return pb.MovedSubject(
        number=one.number,
        version=one.version,
        id=one.id,
        labels=one.labels,
        create_seconds=one.created,
        update_seconds=one.updated,
        expire_seconds=one.retention.expires,
        purpose=one.retention.purpose or "",
        consent=one.retention.consent or "",
        encodings=map(_to_encoding, one.encodings),
        negatives=map(_to_encoding, one.negatives),
    )


def _to_encoding(one: MovedEncoding) -> pb.MovedEncoding:
    values = one.vector.astype("<f4", copy=False).tobytes()
    note = one.note
    return pb.MovedEncoding(
        number=one.number, create_seconds=one.created, key=note.key, source=note.source, values=values
    )


def moved_subject_from(one: pb.MovedSubject, path: str) -> MovedSubject:
    """Raises InvalidRequest."""
    for name in ("create_seconds", "update_seconds", "expire_seconds"):
        _check_seconds(f"{path}.{name}", getattr(one, name))
    expires = one.expire_seconds if one.HasField("expire_seconds") else None
    return MovedSubject(
        *(one.number, one.version, one.id, dict(one.labels), one.create_seconds, one.update_seconds),
        Retention(expires, one.purpose or None, one.consent or None),
        tuple(_encoding_from(each, f"{path}.encodings[{place}]") for place, each in enumerate(one.encodings)),
        tuple(_encoding_from(each, f"{path}.negatives[{place}]") for place, each in enumerate(one.negatives)),
    )


def _encoding_from(one: pb.MovedEncoding, path: str) -> MovedEncoding:
    if len(one.values) % 4 or not one.values:
        raise InvalidRequest.field(f"{path}.values", f"{len(one.values)} bytes are no float32 numbers", _INVALID)
    _check_seconds(f"{path}.create_seconds", one.create_seconds)
    vector = np.frombuffer(one.values, "<f4").astype(np.float32, copy=False)
    return MovedEncoding(one.number, one.create_seconds, vector, Note(one.key, one.source))


def _check_seconds(path: str, seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidRequest.field(path, f"must be finite and >= 0, got {seconds}", _INVALID)


def to_moved_threshold(one: ThresholdVersion) -> pb.MovedThreshold:
    return pb.MovedThreshold(
        version=one.version,
        tau=one.threshold,
        calibration=one.calibration,
        set_seconds=one.since,
        followed=one.followed,
        target_fpir=one.target_fpir,
        subject_count=one.subjects,
        encoding_count=one.encodings,
    )


def moved_threshold_from(one: pb.MovedThreshold, path: str) -> ThresholdVersion:
    """Raises InvalidRequest."""
    for name in ("tau", "set_seconds", "target_fpir"):
        if not math.isfinite(getattr(one, name)):
            raise InvalidRequest.field(f"{path}.{name}", "must be finite", _INVALID)
    for name in ("set_seconds", "subject_count", "encoding_count"):
        if getattr(one, name) < 0:
            raise InvalidRequest.field(f"{path}.{name}", "must be >= 0", _INVALID)
    try:
        if one.HasField("calibration"):
            Calibration.model_validate_json(one.calibration)
        if one.HasField("followed"):
            MadeFor.parse(one.followed)
    except ValueError:
        raise InvalidRequest.field(
            path, "calibration, or what it followed, isn't as a gallery keeps it", _INVALID
        ) from None
    if not one.HasField("tau") and one.HasField("followed"):
        raise InvalidRequest.field(f"{path}.tau", "is required of one that followed", _INVALID)
    if one.version < 1:
        raise InvalidRequest.field(f"{path}.version", f"counts from 1, got {one.version}", _INVALID)

    return ThresholdVersion(
        one.version,
        one.tau if one.HasField("tau") else None,
        one.calibration if one.HasField("calibration") else None,
        one.set_seconds if one.HasField("set_seconds") else None,
        one.followed if one.HasField("followed") else None,
        one.target_fpir if one.HasField("target_fpir") else None,
        one.subject_count if one.HasField("subject_count") else None,
        one.encoding_count if one.HasField("encoding_count") else None,
    )
