"""The exceptions that calls raise.

::

    OneglanceError                  any failed call
    +-- InvalidArgumentError        the request is wrong; field_violations say where
    +-- NotFoundError               no such gallery, subject, encoding or model
    +-- AlreadyExistsError          the id is taken
    +-- FailedPreconditionError     another encoder, an encoder that is not loaded, no threshold
    |   +-- ClientStateError        the client was closed, or an AsyncClient is used in a second event loop
    +-- AbortedError                the request id was used before, with other content
    +-- ResourceExhaustedError      a queue, the memory or the disk is full, or the message is too large
    +-- DeadlineExceededError       no answer within the timeout
    +-- UnauthenticatedError        no credential, or one that isn't good
    +-- PermissionDeniedError       the caller lacks a right
    +-- UnavailableError            no server answers, or it can't at the moment (loading, draining, locked): retry
    +-- InternalError               everything else: a bug, or a broken connection
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import grpc

from oneglance.v1.common_pb2 import Breach, Doubt
from oneglance.v1.error_pb2 import Error
from oneglance.v1.face_pb2 import Photo

DETAIL_KEY = "oneglance-error-bin"
RETRY_AFTER = "retry_after_ms"


class OneglanceError(Exception):
    """A call that failed.

    Attributes:
        code: gRPC status.
        reason: UPPER_SNAKE_CASE, stable (docs/errors.md); empty when no server answered.
        field_violations: (field path, description) pairs.
        metadata: values that belong to the reason.
        photo: the faces of a photo that has none, or several where one is needed; else None.
        breaches: figures of an example that is refused for being outside their limits.
        doubts: why an enrollment is doubtful that is refused for that.
    """

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        field_violations: Sequence[tuple[str, str]] = (),
        metadata: Mapping[str, str] | None = None,
        photo: Photo | None = None,
        breaches: Sequence[Breach] = (),
        doubts: Sequence[Doubt] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.reason = reason
        self.field_violations = tuple(field_violations)
        self.metadata = dict(metadata or {})
        self.photo = photo
        self.breaches = tuple(breaches)
        self.doubts = tuple(doubts)

    def __str__(self) -> str:
        reason = f" [{self.reason}]" if self.reason else ""
        fields = "".join(f"\n  {field}: {text}" for field, text in self.field_violations)
        return f"{self.code.name}{reason}: {self.message}{fields}"


class InvalidArgumentError(OneglanceError):
    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFoundError(OneglanceError):
    code = grpc.StatusCode.NOT_FOUND


class AlreadyExistsError(OneglanceError):
    code = grpc.StatusCode.ALREADY_EXISTS


class FailedPreconditionError(OneglanceError):
    code = grpc.StatusCode.FAILED_PRECONDITION


class ClientStateError(FailedPreconditionError):
    """Nothing was sent, or the call was cut off. ``reason``: CLIENT_CLOSED or CLIENT_OF_ANOTHER_LOOP."""


class AbortedError(OneglanceError):
    code = grpc.StatusCode.ABORTED


class ResourceExhaustedError(OneglanceError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class DeadlineExceededError(OneglanceError):
    code = grpc.StatusCode.DEADLINE_EXCEEDED


class UnauthenticatedError(OneglanceError):
    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDeniedError(OneglanceError):
    code = grpc.StatusCode.PERMISSION_DENIED


class UnavailableError(OneglanceError):
    code = grpc.StatusCode.UNAVAILABLE


class InternalError(OneglanceError):
    code = grpc.StatusCode.INTERNAL


_BY_CODE = {kind.code: kind for kind in OneglanceError.__subclasses__()}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def from_error(error: Error) -> OneglanceError:
    """The exception for an ``oneglance.v1.Error``: failed items of a stream contain one."""
    code = _BY_NUMBER.get(error.code, grpc.StatusCode.UNKNOWN)
    return _BY_CODE.get(code, InternalError)(
        error.message,
        code=code,
        reason=error.reason,
        field_violations=[(v.field, v.description) for v in error.field_violations],
        metadata=error.metadata,
        photo=error.photo if error.HasField("photo") else None,
        breaches=error.breaches,
        doubts=error.doubts,
    )


def retry_after(error: grpc.RpcError, attempt: int) -> float | None:
    """Seconds after which a refused call may be sent again, the ``attempt``-th time, from 0; None: it was not refused
    for a full queue. They grow, and differ by chance, so that those who were refused together don't come together."""
    detail = _detail(error)
    hint = detail.metadata.get(RETRY_AFTER) if detail else None
    if hint is None or not hint.isdecimal():
        return None
    return int(hint) / 1000 * 2.0 ** min(attempt, 5) * random.uniform(0.5, 1.5)


def raise_from(error: grpc.RpcError) -> NoReturn:
    """Raise ``error`` as OneglanceError, with ``error`` as its cause."""
    call: Any = error
    detail = _detail(error)
    if detail is not None:
        raise from_error(detail) from error
    code = call.code()
    raise _BY_CODE.get(code, InternalError)(call.details() or code.name, code=code) from error


def _detail(error: grpc.RpcError) -> Error | None:
    call: Any = error
    for key, value in call.trailing_metadata() or ():
        if key == DETAIL_KEY:
            return Error.FromString(value)
    return None
