"""Many subjects enrolled at once, whose encodings the caller made: checked together, written by one commit."""

import asyncio
import contextvars
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oneglance_index import Enrolled, Gallery, GalleryStore, NewEncodings, OnExisting
from oneglance_server import tracing
from oneglance_server.calls import Call
from oneglance_server.engines.encoder import Encoder
from oneglance_server.errors import InvalidRequest, ServiceError
from oneglance_server.offload import off_loop
from oneglance_server.service.content import (
    MAX_ENCODED,
    MAX_EXAMPLES_PER_ENROLL,
    check_count,
    check_id,
    check_labels,
)
from oneglance_server.service.doubts import DoubtPolicy, doubt_policy_of
from oneglance_server.service.encoders import Encoders
from oneglance_server.service.plan import Vectors, check_maker, check_points

_FLOAT_BYTES = 4
_PATH = "encoded"


@dataclass(frozen=True, slots=True)
class EncodedSubject:
    """``values``: float32, little endian, [n, D]. ``request_digest`` identifies its content, for safe retries."""

    subject_id: str
    values: bytes
    labels: Mapping[str, str]
    request_id: str = ""
    request_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class EncodedSubjects:
    """As of Enrollment. doubt_policy: None: the gallery's."""

    gallery_id: str
    encoder_digest: str
    subjects: Sequence[EncodedSubject]
    on_existing: OnExisting
    doubt_policy: DoubtPolicy | None = None


Outcome = Enrolled | Exception
_Checked = NewEncodings | ServiceError


class EncodedEnrollmentService:
    def __init__(self, store: GalleryStore, encoders: Encoders) -> None:
        self._store = store
        self._encoders = encoders

    async def begin(self, call: Call, given: EncodedSubjects) -> asyncio.Future[Sequence[Outcome]]:
        """What comes of each, once all that are enrolled are durable. When this returns, they are on their way: what is
        begun later comes later.

        Raises what concerns all: InvalidRequest, ForeignEncoding, GalleryNotFound, PermissionDenied, QuotaExceeded.
        """
        call.need("enroll", check_id(f"{_PATH}.gallery_id", given.gallery_id))
        if given.on_existing == "replace":
            call.need("erase", given.gallery_id)
        check_count(f"{_PATH}.subjects", given.subjects, MAX_ENCODED)
        gallery = self._store.known(given.gallery_id)
        active = gallery.active
        check_maker(_PATH, given.encoder_digest, active.encoder_digest)
        _check_doubts(call, gallery, given.doubt_policy)
        encoder = self._encoders.by_digest(active.encoder_digest)
        checked = await off_loop(lambda: _checked(given, active.dimension, encoder))
        good = [one for one in checked if isinstance(one, NewEncodings)]
        call.spend("encodings", sum(len(one.encodings) for one in good))
        enroll = functools.partial(
            self._store.enroll_many,
            given.gallery_id,
            good,
            encoder_digest=active.encoder_digest,
            caller=(call.caller, call.patient),
            patient=call.patient,
        )
        context = contextvars.copy_context()  # it says to the audit trail who is acting
        written = await off_loop(lambda: context.run(enroll))
        return asyncio.ensure_future(_outcomes(checked, asyncio.wrap_future(written)))


async def _outcomes(checked: Sequence[_Checked], written: asyncio.Future[list[Outcome]]) -> Sequence[Outcome]:
    with tracing.span("write"):
        done = iter(await written)
    return [next(done) if isinstance(one, NewEncodings) else one for one in checked]


def _check_doubts(call: Call, gallery: Gallery, asked: DoubtPolicy | None) -> None:
    """Raises InvalidRequest, PermissionDenied."""
    own = doubt_policy_of(gallery)
    if (asked or own) != "off":
        raise InvalidRequest.field(
            f"{_PATH}.doubt_policy",
            f"must be OFF, is {(asked or own).upper()}: many at once are compared with nobody",
            reason="DOUBT_POLICY_INVALID",
        )
    if own != "off":
        call.need("calibrate", gallery.id)  # it is less than the gallery demands


def _checked(given: EncodedSubjects, dimension: int, encoder: Encoder | None) -> list[_Checked]:
    """Of each subject what is to be enrolled, or what is wrong with it."""
    made: list[_Checked] = []
    for place, one in enumerate(given.subjects):
        try:
            made.append(_new(f"{_PATH}.subjects[{place}]", one, given.on_existing, dimension))
        except ServiceError as error:
            made.append(error)
    good = [one.encodings for one in made if isinstance(one, NewEncodings)]
    try:
        if good:
            stacked = np.concatenate(good)
            check_points([""] * len(stacked), stacked, encoder)
    except InvalidRequest:  # one by one, since there are some: which are they?
        return [_with_points_checked(f"{_PATH}.subjects[{i}].values", one, encoder) for i, one in enumerate(made)]
    return made


def _new(path: str, one: EncodedSubject, on_existing: OnExisting, dimension: int) -> NewEncodings:
    """Raises InvalidRequest."""
    return NewEncodings(
        check_id(f"{path}.subject_id", one.subject_id),
        _rows(f"{path}.values", one.values, dimension),
        # Labels left out are kept, unless everything is to be replaced.
        check_labels(one.labels, f"{path}.labels") if one.labels or on_existing == "replace" else None,
        on_existing,
        check_id(f"{path}.request_id", one.request_id) if one.request_id else None,
        one.request_digest,
    )


def _rows(path: str, values: bytes, dimension: int) -> Vectors:
    """float32 [n, D]. Raises InvalidRequest."""
    size = _FLOAT_BYTES * dimension
    if not values or len(values) % size or len(values) > MAX_EXAMPLES_PER_ENROLL * size:
        raise InvalidRequest.field(
            path,
            f"has {len(values)} bytes: 1 to {MAX_EXAMPLES_PER_ENROLL} encodings have {size} each",
            reason="ENCODING_INVALID",
        )
    return np.frombuffer(values, "<f4").reshape(-1, dimension)


def _with_points_checked(path: str, one: _Checked, encoder: Encoder | None) -> _Checked:
    if isinstance(one, NewEncodings):
        try:
            check_points([path] * len(one.encodings), one.encodings, encoder)
        except InvalidRequest as error:
            return error
    return one
