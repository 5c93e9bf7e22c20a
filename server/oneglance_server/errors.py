"""Everything the server refuses, as the rules see it; servicers/status.py gives each its gRPC status.

::

    ServiceError
    +-- InvalidRequest      a field can't be accepted; ``fields`` say where and why
    +-- ModelNotFound       no loaded model has that name or digest
    +-- ForeignEncoding     an encoding made by another encoder than the gallery's
    +-- EncoderNotLoaded    pictures or tensors for a gallery whose encoder is not loaded
    +-- DetectorNotLoaded   photos, but no model that finds faces and their landmarks is loaded
    +-- StylizerNotLoaded   a picture to stylize, but no stylizer is loaded
    +-- StyleNotFound       the stylizer has no such style
    +-- StyleExists         a style of that name is there already
    +-- StylesBusy          the file of styles can't be changed now
    +-- ThresholdMissing    neither request, gallery nor model has a tau
    +-- PairsMissing        too few encodings of the same examples by both encoders to map one to the other
    +-- CannotCalibrate     too few strangers for the target, an empty gallery; ``reason`` says which
    +-- BackupsOff          there is no folder for backups
    +-- Overloaded          a queue is full, or too many bytes under way; nothing was done
    |   +-- QuotaExceeded   the caller has used what the policy gives it
    +-- StreamIdle          a stream sends nothing and has nothing under way, or reads no answers, or gives way
    +-- DeadlinePassed      the caller's deadline passed while the work was queued
    +-- NotServing          the server is loading or draining
    +-- Unauthenticated     no credential, or one that isn't good
    +-- PermissionDenied    the caller lacks a right
    +-- ApiKeyNotFound      there is no API key of that id
    +-- ApiKeysBusy         the file of API keys can't be changed now
    +-- AccessOff           the server has no policy: it knows no callers
    +-- AuditFailed         the audit trail can't be written, and the server is to answer nothing without

    StartupError            the server can't start as configured; the message says what to change
"""

from collections.abc import Mapping

# In the metadata of Overloaded: milliseconds after which there may be room.
RETRY_AFTER = "retry_after_ms"


class StartupError(Exception):
    """Raised before serving: a device, model, port or data directory that can't be used."""


class ServiceError(Exception):
    """A request that is refused.

    Attributes:
        reason: UPPER_SNAKE_CASE, stable, listed in docs/errors.md.
        fields: (path in the request, description) pairs.
        metadata: values that belong to the reason.
        photo: what was seen of a photo that is refused for its faces, a core Photo.
        breaches: the figures that an example is refused for, as service/breaches.py has them.
    """

    reason = "INTERNAL"
    photo: object | None = None
    breaches: tuple[object, ...] = ()

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        fields: tuple[tuple[str, str], ...] = (),
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason or self.reason
        self.fields = fields
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}


class InvalidRequest(ServiceError):
    reason = "INVALID_REQUEST"

    @classmethod
    def field(cls, path: str, description: str, reason: str | None = None, **metadata: object) -> "InvalidRequest":
        """One bad field."""
        return cls(f"{path}: {description}", reason=reason, fields=((path, description),), metadata=metadata)


class ModelNotFound(ServiceError):
    reason = "MODEL_NOT_FOUND"


class ForeignEncoding(ServiceError):
    reason = "ENCODER_MISMATCH"


class EncoderNotLoaded(ServiceError):
    reason = "ENCODER_NOT_LOADED"


class DetectorNotLoaded(ServiceError):
    reason = "DETECTOR_NOT_LOADED"


class StylizerNotLoaded(ServiceError):
    reason = "STYLIZER_NOT_LOADED"


class StyleNotFound(ServiceError):
    reason = "STYLE_NOT_FOUND"


class StyleExists(ServiceError):
    reason = "STYLE_EXISTS"


class StylesBusy(ServiceError):
    reason = "STYLES_BUSY"


class ThresholdMissing(ServiceError):
    reason = "THRESHOLD_MISSING"


class PairsMissing(ServiceError):
    reason = "PAIRS_MISSING"


class CannotCalibrate(ServiceError):
    """Always with a reason of its own: GALLERY_EMPTY, FUSION_CHANGED, DECIDED_BY_CHANGED, TOO_FEW_STRANGERS,
    TARGET_UNREACHABLE."""


class BackupsOff(ServiceError):
    reason = "BACKUPS_OFF"


class Overloaded(ServiceError):
    reason = "QUEUE_FULL"

    @classmethod
    def for_want_of_memory(cls, queue: str) -> "Overloaded":
        """Not the picture's fault: there was not enough memory for it now."""
        return cls("not enough memory for this picture now", metadata={"queue": queue})


class QuotaExceeded(Overloaded):
    reason = "QUOTA_EXCEEDED"


class StreamIdle(ServiceError):
    reason = "STREAM_IDLE"


class DeadlinePassed(ServiceError):
    reason = "DEADLINE_PASSED"


class NotServing(ServiceError):
    reason = "NOT_SERVING"


class Unauthenticated(ServiceError):
    reason = "UNAUTHENTICATED"


class PermissionDenied(ServiceError):
    reason = "PERMISSION_DENIED"


class ApiKeyNotFound(ServiceError):
    reason = "API_KEY_NOT_FOUND"


class ApiKeysBusy(ServiceError):
    """``cause`` names files: it is for the server's log, and for who calls without a server."""

    reason = "API_KEYS_BUSY"

    def __init__(self, cause: Exception) -> None:
        super().__init__("the file of API keys can't be read or written now; the server's log says why")
        self.cause = cause


class AccessOff(ServiceError):
    reason = "ACCESS_OFF"


class AuditFailed(ServiceError):
    reason = "AUDIT_FAILED"
