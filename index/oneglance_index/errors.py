"""Everything the index package raises for a caller to handle.

    GalleryError
    ├── GalleryNotFound        no gallery has this id
    ├── GalleryExists          a gallery has this id already
    ├── GalleryUnfinished      the gallery is being imported, and answers nobody yet
    ├── ImportConflict         another import into this gallery is under way, or this one is elsewhere
    ├── ImportRefused          what is imported can't be, or isn't whole
    ├── MoveNotFound           the gallery doesn't move to another encoder
    ├── MoveConflict           the gallery moves already, or this is no time for that step
    ├── MoveIncomplete         subjects are left to be moved
    ├── SubjectNotMoving       the subject isn't in the gallery whose place this one is to take
    ├── GalleryWaits           what becomes of subjects is said to the gallery that answers, not to the one that waits
    ├── HoldsMapped            some of the gallery's encodings are mapped ones, which don't go elsewhere
    ├── SubjectNotFound        the gallery holds no subject of this id
    ├── SubjectExists          enroll with on_existing="fail" met an enrolled subject
    ├── EncodingNotFound       the subject holds no encoding of this id
    ├── EncodingKeyExists      the subject holds an encoding that its owner calls so
    ├── SameSubject            a subject is to be merged into itself, or an encoding moved to the one that has it
    ├── NegativeOfTheOther     what is to go to a subject is one of its negatives, or the other way round
    ├── NegativeNotFound       the subject holds no negative of this id
    ├── NegativeEnrolled       the negative is enrolled as an encoding of the subject
    ├── DoubtfulEnrollment     an enrollment that is to be refused when it is doubtful
    │   ├── LikeAnother        an example is near another subject
    │   └── UnlikeOwn          an example is far from the others of its subject
    ├── NeighbourGone          a neighbour that an enrollment names was deleted since it was found; search again
    ├── RequestConflict        this request id was used before, with other content
    ├── EncoderMismatch        encodings of another encoder than the gallery's
    ├── FusionChanged          a threshold for another rule of fusion than the gallery's, to be set or compared with
    ├── DecidedByChanged       a threshold for something else than what decides in the gallery
    ├── RulesConflict          a rule of fusion that can't go with what decides
    ├── DimensionMismatch      vectors of another dimension than the gallery's
    ├── EncodingInvalid        a vector that has no usable distance: NaN, infinite, zero, or huge
    ├── GenerationUnsupported  a kind of index or a fusion rule that this version doesn't have
    ├── LimitExceeded          more than a stated limit allows
    ├── OutOfMemory            there is not enough memory for it now; nothing was changed
    ├── WriteQueueFull         too much waits to be written; nothing was changed
    ├── IndexOutOfStep         the gallery's index missed a write and is being rebuilt; try again
    ├── StoreError             the durable store cannot do it; nothing was acknowledged
    │   ├── StoreBusy          another process keeps the database locked; try again
    │   ├── StoreLocked        another process has this data directory open
    │   ├── StoreMissing       the database is gone, an older copy, or another store's
    │   ├── StoreGone          the data directory was removed or replaced while it was open
    │   ├── MasterKeyMissing   the master key can't be read from where it is said to be
    │   ├── MasterKeyWrong     the master key isn't the one that the store's keys are encrypted with
    │   ├── StoreDamaged       the database file is not one, or is broken
    │   ├── StoreTooNew        a later version wrote this data directory
    │   ├── StoreFull          the disk (or a quota) is full
    │   ├── StoreIOError       reading or writing failed otherwise
    │   └── StoreClosed        the store was closed, or is closing
    ├── BackupExists           there is a file of this name already
    ├── ReceiptInvalid         not a receipt of a deletion, or not signed with this key
    ├── TrailInvalid           not an export of an audit trail, nor a head or a key of one
    ├── EngineUnavailable      the engine that keeps the galleries' rows doesn't answer now; try again
    ├── EngineUnsupported      what the engine that keeps the galleries' rows can't do
    └── DeviceUnavailable      the device asked for cannot be used
        └── DeviceLost         the device worked, and fails for good now; only a restart can bring it back

The classes carry fields; the message is made from them, and nobody has to parse it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oneglance_index.records import Doubt


class GalleryError(Exception):
    """The root of the tree."""


class GalleryNotFound(GalleryError):
    def __init__(self, gallery_id: str) -> None:
        super().__init__(f"no gallery {gallery_id!r}")
        self.gallery_id = gallery_id


class GalleryExists(GalleryError):
    def __init__(self, gallery_id: str) -> None:
        super().__init__(f"gallery {gallery_id!r} exists already")
        self.gallery_id = gallery_id


class GalleryUnfinished(GalleryError):
    def __init__(self, gallery_id: str) -> None:
        super().__init__(
            f"gallery {gallery_id!r} is being imported and answers nobody yet: go on with the import, or delete it"
        )
        self.gallery_id = gallery_id


class ImportConflict(GalleryError):
    """`reason` says what is in the way."""

    def __init__(self, gallery_id: str, reason: str) -> None:
        super().__init__(f"gallery {gallery_id!r}: {reason}")
        self.gallery_id = gallery_id
        self.reason = reason


class ImportRefused(GalleryError):
    """`field` is where it stands, as "subjects[3].id"; "" where it is none in particular."""

    def __init__(self, gallery_id: str, field: str, reason: str) -> None:
        super().__init__(f"not imported into gallery {gallery_id!r}: {field}{': ' if field else ''}{reason}")
        self.gallery_id = gallery_id
        self.field = field
        self.reason = reason


class MoveNotFound(GalleryError):
    def __init__(self, gallery_id: str) -> None:
        super().__init__(f"gallery {gallery_id!r} doesn't move to another encoder: start that first")
        self.gallery_id = gallery_id


class MoveConflict(GalleryError):
    """`reason` says what is in the way."""

    def __init__(self, gallery_id: str, reason: str) -> None:
        super().__init__(f"gallery {gallery_id!r}: {reason}")
        self.gallery_id = gallery_id
        self.reason = reason


class MoveIncomplete(GalleryError):
    """`left` subjects aren't in the gallery that is to answer, `without_negatives` more lack negatives there."""

    def __init__(self, gallery_id: str, left: int, without_negatives: int) -> None:
        super().__init__(
            f"gallery {gallery_id!r}: {left} subjects are left to be moved, {without_negatives} lack negatives:"
            " enroll them in the gallery that waits, or leave them"
        )
        self.gallery_id = gallery_id
        self.left = left
        self.without_negatives = without_negatives


class SubjectNotMoving(GalleryError):
    def __init__(self, gallery_id: str, subject_id: str, other_id: str) -> None:
        super().__init__(
            f"subject {subject_id!r} isn't enrolled in gallery {other_id!r}, and gallery {gallery_id!r} waits to take"
            f" its place: enroll it in {other_id!r}"
        )
        self.gallery_id = gallery_id
        self.subject_id = subject_id
        self.other_gallery_id = other_id


class SubjectChanged(GalleryError):
    """Not what it was when its crops were read: read them again."""

    def __init__(self, gallery_id: str, subject_id: str) -> None:
        super().__init__(f"subject {subject_id!r} changed while it was to be moved to gallery {gallery_id!r}")
        self.gallery_id = gallery_id
        self.subject_id = subject_id


class GalleryWaits(GalleryError):
    def __init__(self, gallery_id: str, other_id: str) -> None:
        super().__init__(
            f"gallery {gallery_id!r} waits to take the place of {other_id!r}: what becomes of that one's subjects"
            " becomes of its own"
        )
        self.gallery_id = gallery_id
        self.other_gallery_id = other_id


class HoldsMapped(GalleryError):
    def __init__(self, gallery_id: str, subjects: int) -> None:
        super().__init__(
            f"gallery {gallery_id!r} holds {subjects} subjects with mapped encodings, which are not exported: enroll"
            " these again, or delete them"
        )
        self.gallery_id = gallery_id
        self.subjects = subjects


class SubjectNotFound(GalleryError):
    def __init__(self, gallery_id: str, subject_id: str) -> None:
        super().__init__(f"no subject {subject_id!r} in gallery {gallery_id!r}")
        self.gallery_id = gallery_id
        self.subject_id = subject_id


class SubjectExists(GalleryError):
    def __init__(self, gallery_id: str, subject_id: str) -> None:
        super().__init__(f"subject {subject_id!r} is enrolled in gallery {gallery_id!r} already")
        self.gallery_id = gallery_id
        self.subject_id = subject_id


class EncodingNotFound(GalleryError):
    def __init__(self, gallery_id: str, subject_id: str, encoding_id: str) -> None:
        super().__init__(f"subject {subject_id!r} in gallery {gallery_id!r} has no encoding {encoding_id!r}")
        self.gallery_id = gallery_id
        self.subject_id = subject_id
        self.encoding_id = encoding_id


class EncodingKeyExists(GalleryError):
    def __init__(self, gallery_id: str, subject_id: str, encoding_key: str) -> None:
        super().__init__(
            f"subject {subject_id!r} in gallery {gallery_id!r} has an encoding with the key {encoding_key!r} already"
        )
        self.gallery_id = gallery_id
        self.subject_id = subject_id
        self.encoding_key = encoding_key


class SameSubject(GalleryError):
    def __init__(self, gallery_id: str, subject_id: str) -> None:
        super().__init__(f"both are subject {subject_id!r} in gallery {gallery_id!r}")
        self.gallery_id = gallery_id
        self.subject_id = subject_id


class NegativeOfTheOther(GalleryError):
    def __init__(self, gallery_id: str, subject_id: str, negative_id: str, other_subject_id: str) -> None:
        super().__init__(
            f"negative {negative_id!r} of subject {subject_id!r} in gallery {gallery_id!r} is an encoding of subject"
            f" {other_subject_id!r}: delete the negative first if both are one"
        )
        self.gallery_id = gallery_id
        self.subject_id = subject_id
        self.negative_id = negative_id
        self.other_subject_id = other_subject_id


class NegativeNotFound(GalleryError):
    def __init__(self, gallery_id: str, subject_id: str, negative_id: str) -> None:
        super().__init__(f"subject {subject_id!r} in gallery {gallery_id!r} has no negative {negative_id!r}")
        self.gallery_id = gallery_id
        self.subject_id = subject_id
        self.negative_id = negative_id


class NegativeEnrolled(GalleryError):
    def __init__(self, gallery_id: str, subject_id: str, encoding_id: str) -> None:
        super().__init__(
            f"this very example is enrolled as subject {subject_id!r} in gallery {gallery_id!r}:"
            f" delete its encoding {encoding_id!r} instead"
        )
        self.gallery_id = gallery_id
        self.subject_id = subject_id
        self.encoding_id = encoding_id


class DoubtfulEnrollment(GalleryError):
    """`doubts` are all of this enrollment, `subject_id` is whom it was for. `other_subject_id` (of LikeAnother),
    `distance` and `distance_limit` are of the gravest doubt of the kind that the class is named for."""

    def __init__(self, gallery_id: str, subject_id: str, text: str, gravest: Doubt, doubts: Sequence[Doubt]) -> None:
        super().__init__(f"not enrolled in gallery {gallery_id!r}: {text}")
        self.gallery_id = gallery_id
        self.subject_id = subject_id
        self.distance = gravest.distance
        self.distance_limit = gravest.limit
        self.doubts = tuple(doubts)


class LikeAnother(DoubtfulEnrollment):
    def __init__(self, gallery_id: str, subject_id: str, doubts: Sequence[Doubt]) -> None:
        one = min((doubt for doubt in doubts if doubt.kind == "like_another"), key=lambda doubt: doubt.distance)
        other = f"subject {one.subject_id!r}" if one.subject_id else "another subject"
        text = (
            f"example {one.example + 1} of {subject_id!r} is {one.distance:.4f} from {other}, which"
            f" is within {one.limit:.4f}: the same person under two names, or a look-alike"
        )
        super().__init__(gallery_id, subject_id, text, one, doubts)
        self.other_subject_id = one.subject_id


class UnlikeOwn(DoubtfulEnrollment):
    def __init__(self, gallery_id: str, subject_id: str, doubts: Sequence[Doubt]) -> None:
        one = max((doubt for doubt in doubts if doubt.kind == "unlike_own"), key=lambda doubt: doubt.distance)
        text = (
            f"example {one.example + 1} is {one.distance:.4f} from the nearest other one of {subject_id!r}, which is"
            f" beyond {one.limit:.4f}: two people under one name?"
        )
        super().__init__(gallery_id, subject_id, text, one, doubts)


class NeighbourGone(GalleryError):
    def __init__(self, gallery_id: str) -> None:
        super().__init__(f"a neighbour found in gallery {gallery_id!r} is gone: search again")
        self.gallery_id = gallery_id


class RequestConflict(GalleryError):
    def __init__(self, gallery_id: str, request_id: str) -> None:
        super().__init__(f"request {request_id!r} was made before in gallery {gallery_id!r}, with other content")
        self.gallery_id = gallery_id
        self.request_id = request_id


class EncoderMismatch(GalleryError):
    def __init__(self, gallery_id: str, expected: str, got: str) -> None:
        super().__init__(f"gallery {gallery_id!r} holds encodings of encoder {expected[:12]}, these are of {got[:12]}")
        self.gallery_id = gallery_id
        self.expected = expected
        self.got = got


class FusionChanged(GalleryError):
    def __init__(self, gallery_id: str, expected: str, got: str) -> None:
        super().__init__(f"gallery {gallery_id!r} compares by {got} meanwhile, the threshold was made for {expected}")
        self.gallery_id = gallery_id
        self.expected = expected
        self.got = got


class DecidedByChanged(GalleryError):
    def __init__(self, gallery_id: str, expected: str, got: str) -> None:
        super().__init__(f"gallery {gallery_id!r} decides by {got} meanwhile, the threshold was made for {expected}")
        self.gallery_id = gallery_id
        self.expected = expected
        self.got = got


class RulesConflict(GalleryError):
    """A rule of fusion that can't go with what decides."""

    def __init__(self, gallery_id: str, fusion: str, decided_by: str) -> None:
        super().__init__(f"gallery {gallery_id!r} can't be decided by {decided_by} with the rule of fusion {fusion!r}")
        self.gallery_id = gallery_id
        self.fusion = fusion
        self.decided_by = decided_by


class DimensionMismatch(GalleryError):
    def __init__(self, expected: int, got: tuple[int, ...]) -> None:
        super().__init__(f"expected vectors of dimension {expected}, got an array of shape {got}")
        self.expected = expected
        self.got = got


class EncodingInvalid(GalleryError):
    """`row` is the position of the first bad vector; `reason` is "not_finite", "zero" or "too_large"."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"vector {row} has no usable distance: {reason}")
        self.row = row
        self.reason = reason


class GenerationUnsupported(GalleryError):
    """`what` is "kind of index" or "rule of fusion", `got` is its name, `known` are the names there are here."""

    def __init__(self, gallery_id: str, what: str, got: str, known: tuple[str, ...]) -> None:
        super().__init__(f"gallery {gallery_id!r} needs the {what} {got!r}, this version has {', '.join(known)}")
        self.gallery_id = gallery_id
        self.what = what
        self.got = got
        self.known = known


class LimitExceeded(GalleryError):
    """`limit` names the setting or argument, e.g. "max_encodings_per_subject"."""

    def __init__(self, limit: str, maximum: int, got: int) -> None:
        super().__init__(f"{limit} is {maximum}, got {got}")
        self.limit = limit
        self.maximum = maximum
        self.got = got


class OutOfMemory(GalleryError):
    """`what` says what there was no memory for, e.g. "to answer this search"."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not enough memory {what}")
        self.what = what


class WriteQueueFull(GalleryError):
    """`maximum` is the setting max_queued_bytes; `got` is what the queue would have held with this write, bytes."""

    def __init__(self, maximum: int, got: int) -> None:
        super().__init__(f"at most {maximum} bytes may wait to be written, with this write it were {got}")
        self.maximum = maximum
        self.got = got


class IndexOutOfStep(GalleryError):
    def __init__(self, gallery_id: str) -> None:
        super().__init__(f"the index of gallery {gallery_id!r} is being rebuilt")
        self.gallery_id = gallery_id


class BackupExists(GalleryError):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is a file or folder named {name!r} already")


class TrailInvalid(GalleryError):
    """`reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ReceiptInvalid(GalleryError):
    """`reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StoreError(GalleryError):
    """The durable store cannot do it. `path` is the file or folder concerned."""

    summary = "the store failed"

    def __init__(self, path: Path, detail: str = "") -> None:
        super().__init__(f"{path}: {self.summary}" + (f" ({detail})" if detail else ""))
        self.path = path
        self.detail = detail


class StoreBusy(StoreError):
    summary = "another process keeps the database locked"


class StoreLocked(StoreError):
    summary = "another process has this data directory open"


class StoreMissing(StoreError):
    summary = "the database is missing"


class StoreGone(StoreError):
    summary = "the data directory was removed or replaced while it was open"


class MasterKeyMissing(StoreError):
    summary = "there is no master key"


class MasterKeyWrong(StoreError):
    summary = "this is encrypted with another master key"


class StoreDamaged(StoreError):
    summary = "the database is damaged"


class StoreTooNew(StoreError):
    summary = "a later version of oneglance wrote this store"


class StoreFull(StoreError):
    summary = "the disk is full"


class StoreIOError(StoreError):
    summary = "reading or writing failed"


class StoreClosed(StoreError):
    summary = "the store is closed"


class EngineUnavailable(GalleryError):
    """`engine` is its address; `reason` is what it, or the network, said."""

    def __init__(self, engine: str, reason: str) -> None:
        super().__init__(f"{engine} doesn't answer: {reason}")
        self.engine = engine
        self.reason = reason


class EngineUnsupported(GalleryError):
    """`what` is what can't be done by `engine`."""

    def __init__(self, engine: str, what: str) -> None:
        super().__init__(f"galleries on {engine.partition(':')[0]} don't have this: {what}")
        self.engine = engine
        self.what = what


class DeviceUnavailable(GalleryError):
    """`device` is what was asked for; `reason` names what is missing."""

    def __init__(self, device: str, reason: str) -> None:
        super().__init__(f"device {device!r} cannot be used: {reason}")
        self.device = device
        self.reason = reason


class DeviceLost(DeviceUnavailable):
    """A GPU whose CUDA context is broken: an error that every later call meets, too."""
