"""One table from exceptions to gRPC statuses, and the one place that applies it."""

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from oneglance.v1.error_pb2 import Error, FieldViolation
from oneglance_core.faces.finder import Photo
from oneglance_index import (
    BackupExists,
    DecidedByChanged,
    DeviceLost,
    DimensionMismatch,
    DoubtfulEnrollment,
    EncoderMismatch,
    EncodingInvalid,
    EncodingKeyExists,
    EncodingNotFound,
    EngineUnavailable,
    EngineUnsupported,
    FusionChanged,
    GalleryError,
    GalleryExists,
    GalleryNotFound,
    GalleryUnfinished,
    GalleryWaits,
    GenerationUnsupported,
    HoldsMapped,
    ImportConflict,
    ImportRefused,
    IndexOutOfStep,
    LikeAnother,
    LimitExceeded,
    MasterKeyMissing,
    MasterKeyWrong,
    MoveConflict,
    MoveIncomplete,
    MoveNotFound,
    NegativeEnrolled,
    NegativeNotFound,
    NegativeOfTheOther,
    OutOfMemory,
    RequestConflict,
    RulesConflict,
    SameSubject,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreGone,
    SubjectChanged,
    SubjectExists,
    SubjectNotFound,
    SubjectNotMoving,
    UnlikeOwn,
    WriteQueueFull,
)
from oneglance_server.errors import (
    RETRY_AFTER,
    AccessOff,
    ApiKeyNotFound,
    ApiKeysBusy,
    AuditFailed,
    BackupsOff,
    CannotCalibrate,
    DeadlinePassed,
    DetectorNotLoaded,
    EncoderNotLoaded,
    ForeignEncoding,
    InvalidRequest,
    ModelNotFound,
    NotServing,
    Overloaded,
    PairsMissing,
    PermissionDenied,
    ServiceError,
    StreamIdle,
    StyleExists,
    StyleNotFound,
    StylesBusy,
    StylizerNotLoaded,
    ThresholdMissing,
    Unauthenticated,
)
from oneglance_server.service.content import Breached
from oneglance_server.servicers.answers import to_breaches, to_doubts, to_photo

DOMAIN = "oneglance"
MAX_FACES_IN_ERROR = 32  # trailing metadata has a limit of 8 or 16 kB in most gRPC libraries
MAX_DOUBTS_IN_ERROR = 8
ERROR_KEY = "oneglance-error-bin"
STATUS_KEY = "grpc-status-details-bin"

Code = grpc.StatusCode

# The most specific class along an exception's MRO decides. A reason of None is the exception's own.
STATUSES: dict[type[Exception], tuple[Code, str | None]] = {
    InvalidRequest: (Code.INVALID_ARGUMENT, None),
    ModelNotFound: (Code.NOT_FOUND, None),
    EncoderMismatch: (Code.FAILED_PRECONDITION, "ENCODER_MISMATCH"),
    ForeignEncoding: (Code.FAILED_PRECONDITION, None),
    EncoderNotLoaded: (Code.FAILED_PRECONDITION, None),
    DetectorNotLoaded: (Code.FAILED_PRECONDITION, None),
    StylizerNotLoaded: (Code.FAILED_PRECONDITION, None),
    StyleNotFound: (Code.NOT_FOUND, None),
    StyleExists: (Code.ALREADY_EXISTS, None),
    StylesBusy: (Code.UNAVAILABLE, None),
    ThresholdMissing: (Code.FAILED_PRECONDITION, None),
    PairsMissing: (Code.FAILED_PRECONDITION, None),
    BackupsOff: (Code.FAILED_PRECONDITION, None),
    CannotCalibrate: (Code.FAILED_PRECONDITION, None),
    Overloaded: (Code.RESOURCE_EXHAUSTED, None),
    StreamIdle: (Code.ABORTED, None),
    DeadlinePassed: (Code.DEADLINE_EXCEEDED, None),
    NotServing: (Code.UNAVAILABLE, None),
    Unauthenticated: (Code.UNAUTHENTICATED, None),
    PermissionDenied: (Code.PERMISSION_DENIED, None),
    ApiKeyNotFound: (Code.NOT_FOUND, None),
    ApiKeysBusy: (Code.UNAVAILABLE, None),
    AccessOff: (Code.FAILED_PRECONDITION, None),
    AuditFailed: (Code.UNAVAILABLE, None),
    GalleryNotFound: (Code.NOT_FOUND, "GALLERY_NOT_FOUND"),
    BackupExists: (Code.ALREADY_EXISTS, "BACKUP_EXISTS"),
    GalleryExists: (Code.ALREADY_EXISTS, "GALLERY_EXISTS"),
    GalleryUnfinished: (Code.FAILED_PRECONDITION, "GALLERY_UNFINISHED"),
    ImportConflict: (Code.FAILED_PRECONDITION, "IMPORT_CONFLICT"),
    ImportRefused: (Code.INVALID_ARGUMENT, "IMPORT_INVALID"),
    MoveNotFound: (Code.FAILED_PRECONDITION, "NOT_MOVING"),
    MoveConflict: (Code.FAILED_PRECONDITION, "MOVE_CONFLICT"),
    MoveIncomplete: (Code.FAILED_PRECONDITION, "MOVE_INCOMPLETE"),
    HoldsMapped: (Code.FAILED_PRECONDITION, "HOLDS_MAPPED"),
    SubjectNotMoving: (Code.INVALID_ARGUMENT, "SUBJECT_NOT_MOVING"),
    SubjectChanged: (Code.ABORTED, "SUBJECT_CHANGED"),
    GalleryWaits: (Code.FAILED_PRECONDITION, "GALLERY_WAITS"),
    GenerationUnsupported: (Code.FAILED_PRECONDITION, "GENERATION_UNSUPPORTED"),
    SubjectNotFound: (Code.NOT_FOUND, "SUBJECT_NOT_FOUND"),
    SubjectExists: (Code.ALREADY_EXISTS, "SUBJECT_EXISTS"),
    EncodingKeyExists: (Code.ALREADY_EXISTS, "ENCODING_KEY_EXISTS"),
    SameSubject: (Code.INVALID_ARGUMENT, "SAME_SUBJECT"),
    NegativeOfTheOther: (Code.FAILED_PRECONDITION, "NEGATIVE_ENROLLED"),
    EncodingNotFound: (Code.NOT_FOUND, "ENCODING_NOT_FOUND"),
    NegativeNotFound: (Code.NOT_FOUND, "NEGATIVE_NOT_FOUND"),
    NegativeEnrolled: (Code.FAILED_PRECONDITION, "NEGATIVE_ENROLLED"),
    LikeAnother: (Code.ALREADY_EXISTS, "LIKE_ANOTHER"),
    UnlikeOwn: (Code.FAILED_PRECONDITION, "UNLIKE_OWN"),
    RequestConflict: (Code.ABORTED, "REQUEST_CONFLICT"),
    FusionChanged: (Code.FAILED_PRECONDITION, "FUSION_CHANGED"),
    DecidedByChanged: (Code.FAILED_PRECONDITION, "DECIDED_BY_CHANGED"),
    RulesConflict: (Code.INVALID_ARGUMENT, "RULES_CONFLICT"),
    DimensionMismatch: (Code.INVALID_ARGUMENT, "ENCODING_INVALID"),
    EncodingInvalid: (Code.INVALID_ARGUMENT, "ENCODING_INVALID"),
    LimitExceeded: (Code.FAILED_PRECONDITION, "LIMIT_EXCEEDED"),
    OutOfMemory: (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
    WriteQueueFull: (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
    IndexOutOfStep: (Code.UNAVAILABLE, "INDEX_REBUILDING"),
    StoreBusy: (Code.UNAVAILABLE, "STORE_BUSY"),
    StoreFull: (Code.RESOURCE_EXHAUSTED, "STORE_FULL"),
    StoreClosed: (Code.UNAVAILABLE, "NOT_SERVING"),
    StoreGone: (Code.UNAVAILABLE, "STORE_GONE"),
    StoreDamaged: (Code.DATA_LOSS, "STORE_DAMAGED"),
    MasterKeyMissing: (Code.FAILED_PRECONDITION, "MASTER_KEY_MISSING"),
    MasterKeyWrong: (Code.FAILED_PRECONDITION, "MASTER_KEY_WRONG"),
    StoreError: (Code.INTERNAL, "STORE_FAILED"),
    DeviceLost: (Code.UNAVAILABLE, "DEVICE_LOST"),
    EngineUnavailable: (Code.UNAVAILABLE, "ENGINE_UNAVAILABLE"),
    EngineUnsupported: (Code.UNIMPLEMENTED, "ENGINE_UNSUPPORTED"),
    MemoryError: (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
}

# Fields of index errors that a program may want; never paths or other internals.
_PUBLIC_FIELDS = (
    *("gallery_id", "subject_id", "encoding_id", "encoding_key", "negative_id", "request_id", "limit", "maximum"),
    *("other_subject_id", "distance", "distance_limit", "other_gallery_id", "left", "without_negatives"),
)


def status_of(error: BaseException) -> tuple[Code, str] | None:
    """(gRPC status, reason) of an exception that was foreseen; None for a bug."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            code, reason = STATUSES[kind]
            return code, reason or str(getattr(error, "reason", ""))
    return None


def to_error(error: BaseException) -> Error:
    """The ``oneglance.v1.Error`` for an exception; a bug becomes INTERNAL with a fixed text."""
    found = status_of(error)
    if found is None or found[0] is Code.INTERNAL:
        reason = found[1] if found else "INTERNAL"
        return Error(code=Code.INTERNAL.value[0], message="internal error; the server's log has more", reason=reason)
    code, reason = found
    text = "not enough memory for this call now" if isinstance(error, MemoryError) else str(error)
    if isinstance(error, StoreError):
        text = error.summary  # without the path
        if isinstance(error, StoreDamaged) and error.detail:
            text += f" ({error.detail})"
    if isinstance(error, EngineUnavailable):
        text = "the engine that keeps the galleries' rows doesn't answer now; try again"
    if isinstance(error, DeviceLost):
        text = "the GPU fails; the server must be restarted"
    message = Error(code=code.value[0], message=text, reason=reason)
    if isinstance(error, ServiceError):
        message.field_violations.extend(FieldViolation(field=f, description=text) for f, text in error.fields)
        message.metadata.update(error.metadata)
        if isinstance(error.photo, Photo):
            message.photo.CopyFrom(to_photo(error.photo, limit=MAX_FACES_IN_ERROR))
        message.breaches.extend(to_breaches(one for one in error.breaches if isinstance(one, Breached)))
    elif isinstance(error, MemoryError):
        message.metadata["queue"] = "memory"
    elif isinstance(error, GalleryError):
        fields = {name: getattr(error, name) for name in _PUBLIC_FIELDS if hasattr(error, name)}
        message.metadata.update({name: str(value) for name, value in fields.items()})
        if isinstance(error, ImportRefused) and error.field:
            message.field_violations.add(field=error.field, description=error.reason)
        if isinstance(error, SubjectNotMoving):
            message.field_violations.add(field="subject_id", description=text)
        if isinstance(error, DoubtfulEnrollment):
            message.doubts.extend(to_doubts(error.doubts[:MAX_DOUBTS_IN_ERROR]))
    return message


def trailers(error: Error) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries ``error``: ours, and google.rpc.Status for generic clients."""
    details: list[BadRequest | ErrorInfo | RetryInfo] = [
        ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=dict(error.metadata))
    ]
    if error.field_violations:
        violations = [
            BadRequest.FieldViolation(field=v.field, description=v.description) for v in error.field_violations
        ]
        details.append(BadRequest(field_violations=violations))
    if RETRY_AFTER in error.metadata:
        wait = RetryInfo()
        wait.retry_delay.FromMilliseconds(int(error.metadata[RETRY_AFTER]))
        details.append(wait)
    status = Status(code=error.code, message=error.message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return (ERROR_KEY, error.SerializeToString()), (STATUS_KEY, status.SerializeToString())
