"""Messages to plain values: what requests are made of."""

import asyncio
import base64
import math
import re
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import grpc
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from oneglance.defaults import MAX_PAGE_SIZE, PAGE_SIZE
from oneglance.v1 import common_pb2 as pb
from oneglance.v1 import face_pb2 as face_pb
from oneglance.v1 import subject_pb2 as subject_pb
from oneglance.v1.face_pb2 import FaceSelector
from oneglance_core.defaults import MAX_SEARCH_PIXELS
from oneglance_core.faces.crops import FaceChoice
from oneglance_core.faces.finder import SmallFaces
from oneglance_core.faces.quality import QualityPolicy
from oneglance_core.fusion import DecidedBy, Fusion
from oneglance_index import OnExisting, SubjectFilter
from oneglance_server.calls import Call, Caller, caller_at
from oneglance_server.errors import InvalidRequest
from oneglance_server.offload import off_loop
from oneglance_server.service.content import (
    ClientEncoding,
    Content,
    Picture,
    Sound,
    Tensor,
    check_filter,
    check_size,
)
from oneglance_server.service.doubts import DoubtPolicy

_ON_EXISTING: dict[int, OnExisting] = {
    subject_pb.ON_EXISTING_UNSPECIFIED: "add",
    subject_pb.ON_EXISTING_ADD: "add",
    subject_pb.ON_EXISTING_REPLACE: "replace",
    subject_pb.ON_EXISTING_FAIL: "fail",
}
_YEAR_10000 = 253_402_300_800.0  # seconds since the epoch
_READ_ON_THE_LOOP = 16_384  # values of encodings: about 1 ms,
_EXAMPLES_ON_THE_LOOP = 128  # and so many examples less
_DTYPES = {pb.DATA_TYPE_UINT8: "uint8", pb.DATA_TYPE_FLOAT32: "float32"}
_FUSIONS: dict[int, Fusion] = {
    pb.FUSION_NEAREST: "nearest",
    pb.FUSION_MEAN: "mean",
    pb.FUSION_MARGIN: "margin",
}
_DECIDED_BY: dict[int, DecidedBy] = {
    pb.DECIDED_BY_DISTANCE: "distance",
    pb.DECIDED_BY_PROBABILITY: "probability",
}
_SMALL_FACES: dict[int, SmallFaces | None] = {
    face_pb.SMALL_FACES_UNSPECIFIED: None,
    face_pb.SMALL_FACES_WHEN_NONE: "when-none",
    face_pb.SMALL_FACES_ALWAYS: "always",
    face_pb.SMALL_FACES_NEVER: "never",
    face_pb.SMALL_FACES_WHEN_WIDE: "when-wide",
}
_POLICIES: dict[int, QualityPolicy] = {
    face_pb.QUALITY_POLICY_OFF: "off",
    face_pb.QUALITY_POLICY_STANDARD: "standard",
    face_pb.QUALITY_POLICY_STRICT: "strict",
}
_DOUBT_POLICIES: dict[int, DoubtPolicy] = {
    pb.DOUBT_POLICY_OFF: "off",
    pb.DOUBT_POLICY_FLAG: "flag",
    pb.DOUBT_POLICY_REFUSE: "refuse",
}


# Who makes the call that the current task carries out; None: the server knows no callers.
calling: ContextVar[Caller | None] = ContextVar("calling", default=None)


def call_of(context: grpc.aio.ServicerContext[Any, Any], *, patient: bool = False) -> Call:
    """Who calls, and until when. ``patient``: a stream, whose items wait for room in the queues."""
    remaining = context.time_remaining()
    deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
    return Call(calling.get() or caller_at(context.peer()), deadline, patient)


async def contents_from(examples: Sequence[pb.Example], path: str) -> list[Content]:
    """``path`` names the field that they are in. Raises InvalidRequest for the first that can't be read."""
    values = sum(len(example.encoding.values) for example in examples) if len(examples) > 1 else 0
    return await off_loop(
        lambda: [content_from(example, f"{path}[{i}]") for i, example in enumerate(examples)],
        when=values > _READ_ON_THE_LOOP or len(examples) > _EXAMPLES_ON_THE_LOOP,
    )


def content_from(example: pb.Example, path: str) -> Content:
    """Raises InvalidRequest when the example holds nothing or an unknown data type."""
    kind = example.WhichOneof("content")
    if kind == "image":
        return Picture(f"{path}.image", example.image, choice_from(example.face, f"{path}.face"))
    if kind == "sound":
        return Sound(f"{path}.sound", example.sound)
    if kind == "encoding":
        encoding = example.encoding
        return ClientEncoding(f"{path}.encoding", np.array(encoding.values, dtype=np.float32), encoding.encoder_digest)
    if kind == "tensor":
        tensor = example.tensor
        dtype = _DTYPES.get(tensor.data_type)
        if dtype is None:
            raise InvalidRequest.field(f"{path}.tensor.data_type", "is required", reason="TENSOR_INVALID")
        return Tensor(f"{path}.tensor", dtype, tuple(tensor.shape), tensor.data)
    raise InvalidRequest.field(path, "needs an image, a sound, a tensor or an encoding", reason="EMPTY")


def filter_from(message: pb.SubjectFilter) -> SubjectFilter:
    """Raises InvalidRequest."""
    return check_filter(message.labels, message.id_prefix)


def choice_from(selector: FaceSelector, path: str) -> FaceChoice:
    """Raises InvalidRequest for a box that is none, or a value this version doesn't know."""
    small_faces = small_faces_from(selector.small_faces, f"{path}.small_faces")
    if not 0 <= selector.search_pixels <= MAX_SEARCH_PIXELS:
        raise InvalidRequest.field(f"{path}.search_pixels", f"must be 0 to {MAX_SEARCH_PIXELS:,}")
    how = small_faces, selector.upright_only, selector.search_pixels
    which = selector.WhichOneof("which")
    if which == "box":
        box = (selector.box.x, selector.box.y, selector.box.width, selector.box.height)
        if not all(map(math.isfinite, box)) or box[2] <= 0 or box[3] <= 0:
            raise InvalidRequest.field(f"{path}.box", "needs finite numbers, width and height above 0")
        return FaceChoice("box", box, *how)
    if which == "largest" and selector.largest:
        return FaceChoice("largest", None, *how)
    if which == "aligned" and selector.aligned:
        return FaceChoice("aligned")
    if which is not None:
        raise InvalidRequest.field(f"{path}.{which}", "must be true when it is given")
    return FaceChoice("unset", None, *how)


def small_faces_from(value: int, path: str) -> SmallFaces | None:
    """None: up to the call. Raises InvalidRequest for a value this version doesn't know."""
    if value not in _SMALL_FACES:
        raise InvalidRequest.field(path, f"unknown value {value}")
    return _SMALL_FACES[value]


def policy_from(value: int, path: str) -> QualityPolicy:
    """Raises InvalidRequest for UNSPECIFIED, and a value this version doesn't know."""
    found = _POLICIES.get(value)
    if found is None:
        raise InvalidRequest.field(path, f"must be OFF, STANDARD or STRICT, got {value}")
    return found


def doubt_policy_from(value: int, path: str) -> DoubtPolicy:
    """Raises InvalidRequest for UNSPECIFIED, and a value this version doesn't know."""
    found = _DOUBT_POLICIES.get(value)
    if found is None:
        raise InvalidRequest.field(path, f"must be OFF, FLAG or REFUSE, got {value}")
    return found


def fusion_from(value: int, path: str, unspecified: Fusion | None = None) -> Fusion:
    """A rule of fusion; ``unspecified`` where the request has none, if that may be. Raises InvalidRequest."""
    found = _FUSIONS.get(value, unspecified if value == pb.FUSION_UNSPECIFIED else None)
    if found is None:
        raise InvalidRequest.field(path, f"unknown value {value}" if value else "is required")
    return found


def seconds_from(time: Timestamp, path: str) -> float:
    """Seconds since the epoch. Raises InvalidRequest for a time before it, or beyond the year 9999."""
    seconds = time.seconds + time.nanos / 1e9
    if not (0 <= seconds <= _YEAR_10000 and 0 <= time.nanos < 1e9):
        raise InvalidRequest.field(path, "must lie between 1970 and 9999")
    return seconds


def decided_by_from(value: int, path: str, unspecified: DecidedBy | None = None) -> DecidedBy:
    """What decides; ``unspecified`` where the request has none, if that may be. Raises InvalidRequest."""
    found = _DECIDED_BY.get(value, unspecified if value == pb.DECIDED_BY_UNSPECIFIED else None)
    if found is None:
        raise InvalidRequest.field(path, f"unknown value {value}" if value else "is required")
    return found


def on_existing_from(value: int, path: str) -> OnExisting:
    """Raises InvalidRequest."""
    found = _ON_EXISTING.get(value)
    if found is None:
        raise InvalidRequest.field(path, f"unknown value {value}")
    return found


def page_from(size: int, token: str) -> tuple[int, str | None]:
    """(page size, id to continue after). Raises InvalidRequest."""
    size = check_size("page_size", size, PAGE_SIZE, MAX_PAGE_SIZE)
    if not token:
        return size, None
    try:
        return size, base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise _forged() from error


def version_from(after: str | None) -> int | None:
    """The version of a threshold to continue after, of what page_from gave. Raises InvalidRequest."""
    if after is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", after, re.ASCII):
        raise _forged()
    return int(after)


def expired_from(after: str | None) -> tuple[float, int] | None:
    """Time and number of a subject whose time is over, to continue after, of what page_from gave. Raises
    InvalidRequest."""
    if after is None:
        return None
    expires, _, number = after.partition("/")
    if not re.fullmatch(r"[0-9.e+]{1,32}", expires, re.ASCII) or not re.fullmatch(r"[0-9]{1,18}", number, re.ASCII):
        raise _forged()
    try:
        return float(expires), int(number)
    except ValueError:
        raise _forged() from None


def _forged() -> InvalidRequest:
    return InvalidRequest.field("page_token", "is not one that this server gave")
