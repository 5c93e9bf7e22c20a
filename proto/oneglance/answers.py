# Generated from the contract by scripts/answers.py. Do not edit.
"""What the server answers, as frozen dataclasses: ``as_dataclass`` makes them of what the clients return.

The fields are those of the contract. Choices are words, as the clients' arguments are, "" where nothing is said; times
are datetimes with a time zone; lists are tuples, lists of numbers numpy arrays; what is absent is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from oneglance.client.answering import Answer, dataclass_of

from oneglance.v1 import access_pb2
from oneglance.v1 import approximation_pb2
from oneglance.v1 import common_pb2
from oneglance.v1 import detection_pb2
from oneglance.v1 import error_pb2
from oneglance.v1 import face_pb2
from oneglance.v1 import gallery_pb2
from oneglance.v1 import identification_pb2
from oneglance.v1 import mapping_pb2
from oneglance.v1 import model_pb2
from oneglance.v1 import moving_pb2
from oneglance.v1 import server_pb2
from oneglance.v1 import stylization_pb2
from oneglance.v1 import subject_pb2
from oneglance.v1 import succession_pb2

DataType: TypeAlias = Literal["", "uint8", "float32"]
DecidedBy: TypeAlias = Literal["", "distance", "probability"]
Decision: TypeAlias = Literal["", "identified", "unknown", "not-compared"]
DoubtKind: TypeAlias = Literal["", "like-another", "unlike-own"]
DoubtPolicy: TypeAlias = Literal["", "off", "flag", "refuse"]
DriftOf: TypeAlias = Literal["", "strangers", "mates"]
DriftState: TypeAlias = Literal["", "not-watched", "none", "suspected"]
ExactBecause: TypeAlias = Literal["", "device", "few-subjects", "no-threshold-yet", "being-built", "too-few-mates-yet", "alarm"]
Fusion: TypeAlias = Literal["", "nearest", "mean", "margin"]
PictureFormat: TypeAlias = Literal["", "png", "jpeg", "webp"]
QualityPolicy: TypeAlias = Literal["", "off", "standard", "strict"]
ThresholdSource: TypeAlias = Literal["", "model", "gallery", "request", "calibration", "author"]
UnknownReason: TypeAlias = Literal["", "nobody-near", "ambiguous", "taken", "negative"]


@dataclass(frozen=True, kw_only=True, repr=False)
class ApiKey(Answer):
    id: str = ""
    """16 hexadecimal digits."""
    name: str = ""
    create_time: datetime | None = None
    expire_time: datetime | None = None
    """Unset: never."""


@dataclass(frozen=True, kw_only=True, repr=False)
class CreateApiKeyResponse(Answer):
    key: ApiKey | None = None
    secret: str = ""
    """What the caller sends as "authorization: Bearer SECRET". The server keeps only its hash: it is shown this once."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ListApiKeysResponse(Answer):
    keys: tuple[ApiKey, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class RevokeApiKeyResponse(Answer):
    pass


@dataclass(frozen=True, kw_only=True, repr=False)
class Grant(Answer):
    galleries: tuple[str, ...] = ()
    """Patterns of gallery ids, with * and ?."""
    rights: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class GetIdentityResponse(Answer):
    name: str = ""
    """"key:NAME", "cert:NAME", "jwt:NAME" or "anonymous"."""
    groups: tuple[str, ...] = ()
    """"group:NAME", of a token."""
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class Box(Answer):
    """An upright rectangle. It may reach beyond the edges of the photo."""

    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0


@dataclass(frozen=True, kw_only=True, repr=False)
class Point(Answer):
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True, kw_only=True, repr=False)
class FaceQuality(Answer):
    """What can be seen of a face's quality in the aligned face. A gallery's QualityPolicy sets limits on it."""

    sharpness: float = 0.0
    """The first three are of the middle of the aligned face, half its height and width. Standard deviation of the
    Laplacian of the gray levels, 0 to 255."""
    brightness: float = 0.0
    """Mean gray level, 0 to 1."""
    contrast: float = 0.0
    """Standard deviation of the gray levels, 0 to 0.5."""
    roll_degrees: float = 0.0
    """How far the head leans, -180 to 180; 0 is upright, positive leans clockwise."""
    eye_distance: float = 0.0
    """Between the centres of the eyes, in pixels of the photo."""
    alignment_error: float = 0.0
    """Root mean square distance of the landmarks from where the alignment puts them, as a share of eye_distance: about
    0.04 for a face that looks at the camera."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Uprightness(Answer):
    """Whether what was found is an upright, aligned face. One that isn't is neither enrolled nor compared: encodings
    of such finds resemble each other more than those of one person do."""

    score: float = 0.0
    """0 to 1: how much the aligned face looks like one."""
    threshold: float = 0.0
    """Of the check that is loaded."""
    upright: bool = False
    """score >= threshold."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Face(Answer):
    """A face that was found."""

    box: Box | None = None
    score: float = 0.0
    """The detector's score, > 0; the higher the surer."""
    landmarks: tuple[Point, ...] = ()
    """Five: outer and inner corner of the eye on the right of the photo, outer and inner corner of the one on the
    left, bottom of the nose."""
    quality: FaceQuality | None = None
    """Absent when no encoder of faces is loaded, and in errors."""
    uprightness: Uprightness | None = None
    """Absent when no uprightness check is loaded."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Photo(Answer):
    """A photo that faces were searched in."""

    width: int = 0
    height: int = 0
    faces: tuple[Face, ...] = ()
    """Faces found, the largest first; in Identify, left to the results."""
    smallest_face: float = 0.0
    """Side of the smallest face that was searched for: smaller ones were not looked for."""
    faces_truncated: bool = False
    """More were found than the server's max_faces."""
    turn_degrees: int = 0
    """0, 90, 180 or 270: how far the photo was turned clockwise to set its faces upright. Boxes and landmarks are in
    pixels of the photo that came in; roll_degrees is what is left after the turn."""


@dataclass(frozen=True, kw_only=True, repr=False)
class DetectFacesResponse(Answer):
    photos: tuple[Photo, ...] = ()
    """The i-th photo answers the i-th image."""
    detector_digest: str = ""
    """Digests of the models that found the faces and their landmarks."""
    landmarks_digest: str = ""
    execution_provider: str = ""
    """The ONNX Runtime execution provider that really ran the detector."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Threshold(Answer):
    """tau: a subject whose score for the probe is <= tau is "under tau". The score is the distance, but by
    FUSION_MARGIN and with DECIDED_BY_PROBABILITY."""

    tau: float = 0.0
    """Squared L2, >= 0 but by FUSION_MARGIN. Unit-norm encodings lie within [0, 4] of each other. With
    DECIDED_BY_PROBABILITY 1 - probability, in [0, 1]: 0.05 asks for a probability of at least 0.95."""
    source: ThresholdSource = ""
    id: str = ""
    """Names the very value: the calibration's id for MODEL, and where tau follows the gallery what was measured of the
    model, rule of fusion, examples and size that it is for ("5e43a17f0c2d/mean/3x25"); the version for GALLERY and
    CALIBRATION (see ListThresholds); empty for AUTHOR and REQUEST."""
    expected_fpir: float | None = None
    """Estimate of the share of strangers that would be identified as somebody at the gallery's present size, by its
    rule of fusion and with as many examples as its subjects have on average. From the gallery's latest calibration
    it is 1 - (1 - FMR(tau))^K: too high rather than too low when the gallery has grown since, a little too low when
    it has shrunk. Else from what was measured of the model, else from the model's calibration; absent without any.
    Not in the answer to one claim (1:1)."""
    target_fpir: float | None = None
    """The FPIR that tau was fitted to, or follows, for MODEL and CALIBRATION."""
    set_time: datetime | None = None
    """When it was set, for GALLERY and CALIBRATION, and where tau follows the gallery."""
    expected_fpir_low: float | None = None
    """The 95 % interval of expected_fpir, as far as the people tell on whom it was measured: people like those. Absent
    for another tau than that of the gallery's calibration, where this gives the estimate."""
    expected_fpir_high: float | None = None
    expected_fmr: float | None = None
    """In the answer to one claim (1:1): estimate of the share of wrong claims that would be accepted, and its
    interval."""
    expected_fmr_low: float | None = None
    expected_fmr_high: float | None = None
    version: int = 0
    """Its number among all that the gallery has had (see ListThresholds): for GALLERY and CALIBRATION, and for MODEL
    where tau follows the gallery. 0 for any other, and in the answer to one claim (1:1) whose tau follows: there
    `id` tells all."""


@dataclass(frozen=True, kw_only=True, repr=False)
class DriftWatch(Answer):
    """One kind of probe that is watched."""

    of: DriftOf = ""
    state: DriftState = ""
    probes: int = 0
    """Probes that were counted since the watch, or its present window, began."""
    since: datetime | None = None
    """With SUSPECTED: when it first was."""
    advice: str = ""
    """With SUSPECTED, for people: what was seen, what it means and what to do."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Drift(Answer):
    """What the probes of Identify and IdentifyStream tell of what the gallery was calibrated on, by its own
    calibration or else by the model's. Counts only are kept, in memory: a restart, another calibration, another
    rule of fusion and a gallery that is much larger begin anew. Only exact answers count (Provenance.exact).
    docs/operations.md tells how it is tested, and how often it is wrong."""

    state: DriftState = ""
    """Of all that are watched, the worst."""
    watches: tuple[DriftWatch, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class Approximation(Answer):
    """What the answers of Identify and IdentifyStream in a gallery may lose, so that searches read a part of it only.
    All else is exact: see IdentifyRequest.exact."""

    mates_found: float = 0.0
    """Of the probes that exact search gives a subject under tau, the share that gets the same answer at least; above
    0.5 and at most 0.9995. The others are told that they are UNKNOWN, or are given the next nearest subject under
    tau. The index tunes itself on the gallery's own encodings and on live probes to hold it, and those that are
    searched exactly, too, show whether it is held."""
    exact_on_alarm: bool = False
    """Once they show that it isn't held, answers are exact again. Else searches read more."""


@dataclass(frozen=True, kw_only=True, repr=False)
class CheckedProbes(Answer):
    """Live probes that were searched exactly, too, in the background."""

    probes: int = 0
    differing: int = 0
    """For how many the nearest subject under tau by exact search was another one than in the answer, or nobody was in
    it."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ApproximationState(Answer):
    """How answers in a gallery come about now, and what the probes say that were searched exactly, too. Counts are in
    memory: a restart begins anew."""

    approximate: bool = False
    """Searches read a part of the gallery only. False: answers are exact."""
    because: ExactBecause = ""
    """Why they are, although they needn't be. UNSPECIFIED where they aren't."""
    tau: float | None = None
    """Up to this threshold the index is tuned: searches beyond it are exact. Absent before it is tuned."""
    share_read: float = 0.0
    """Of the enrolled encodings, about which share is compared with a probe, in (0, 1]."""
    recent_count: int = 0
    """Encodings that came since the index was built: every probe is compared with each of them besides."""
    known: CheckedProbes | None = None
    """Probes that match by exact search."""
    strangers: CheckedProbes | None = None
    """Probes that don't."""
    alarms: int = 0
    """How often they showed that more was lost than may be."""
    alarm: bool = False
    """Enough known probes since the last one haven't shown yet that the share is held again."""


@dataclass(frozen=True, kw_only=True, repr=False)
class GalleryMove(Answer):
    """One of the two galleries of a move to another encoder: the origin, or its successor. One of the two answers
    under the name that moves, the other one waits."""

    other_gallery_id: str = ""
    """The other one, as it is called now."""
    answers: bool = False
    """This one answers. False: it waits."""
    origin: bool = False
    """This one is the origin. False: it is the successor."""
    start_time: datetime | None = None
    cut_over_time: datetime | None = None
    """Since when the successor answers. Absent where the origin does."""
    compare_share: float = 0.0
    """Of the calls of Identify with pictures, sounds or tensors that the one that answers gets, the share that the
    other one is asked, too, to compare the two: 0 to 1."""


@dataclass(frozen=True, kw_only=True, repr=False)
class MapLoss(Answer):
    """What a map from the encodings of one encoder to those of another costs: measured before anything was mapped,
    with subjects that both galleries of the move had two or more examples of and that the map was not fitted on.
    One example of each was enrolled, mapped, and for comparison by the true encoding of the same example; the
    others were the probes, by their true encodings."""

    kind: str = ""
    """"ridge": linear regression; "procrustes": a turn, a scale and a shift. Cross-validation chose it."""
    from_encoder_digest: str = ""
    """Of the encoder whose encodings are mapped."""
    fitted_subject_count: int = 0
    """What it was fitted on: pairs of encodings of the same example by both encoders, and of how many subjects."""
    fitted_pair_count: int = 0
    measured_subject_count: int = 0
    """How many subjects it was measured with."""
    tau: float = 0.0
    """At which tau: the successor's, for as many subjects as the gallery has."""
    probe_count: int = 0
    fnir: float = 0.0
    """Share of the probes that were not identified as their subject (FNIR), with mapped encodings and with true ones."""
    true_fnir: float = 0.0
    missed_count: int = 0
    """The same, as numbers of probes."""
    true_missed_count: int = 0
    let_in_count: int = 0
    """Probes that matched another subject where their own wasn't enrolled, with mapped encodings and with true ones."""
    true_let_in_count: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class Mapped(Answer):
    """That some of a gallery's subjects have encodings that no encoder made: a map made them of another encoder's
    (FillByMap). Such a subject is found worse than others."""

    subject_count: int = 0
    outdated_count: int = 0
    """Of these, those that an earlier map made, whose loss isn't the one told: FillByMap ended midway. Call it again."""
    loss: MapLoss | None = None
    """Of the newest map."""
    fit_time: datetime | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Gallery(Answer):
    id: str = ""
    description: str = ""
    encoder_digest: str = ""
    """The encoder all of its encodings come from."""
    dimension: int = 0
    """Length of an encoding."""
    subject_count: int = 0
    encoding_count: int = 0
    revision: int = 0
    """Grows by one with every change."""
    create_time: datetime | None = None
    threshold: Threshold | None = None
    """Absent when neither gallery nor model has one."""
    encoder_loaded: bool = False
    """False when the encoder is not among the loaded models: only encodings can then be enrolled or compared."""
    fusion: Fusion = ""
    """Never UNSPECIFIED. NEAREST in galleries made before there were others."""
    target_fpir: float | None = None
    """Without a threshold of its own, tau follows the gallery's size so that the FPIR to expect is this, if its model
    was measured for that. Absent in galleries made before tau could follow: the model's one tau applies."""
    quality_policy: QualityPolicy = ""
    """Never UNSPECIFIED. OFF in galleries made before there were policies."""
    least_gap: float = 0.0
    """What IdentifyRequest.least_gap is where a request has none; 0: none is asked for."""
    drift: Drift | None = None
    """Whether strangers and subjects still look as they did when the model, or the gallery, was calibrated."""
    doubt_policy: DoubtPolicy = ""
    """Never UNSPECIFIED. OFF in galleries made before there were such policies."""
    negative_count: int = 0
    """Negatives of its subjects (SubjectService.AddNegative)."""
    decided_by: DecidedBy = ""
    """Never UNSPECIFIED. DISTANCE in galleries made before there was a choice."""
    uid: str = ""
    """This very gallery's: one that is made anew under the same id has another."""
    unfinished: bool = False
    """It is being imported, and answers nobody until that is done."""
    approximation: Approximation | None = None
    """What its answers may lose. Absent: nothing, they are exact."""
    approximation_state: ApproximationState | None = None
    """How they come about. Absent where they may lose nothing."""
    move: GalleryMove | None = None
    """Its part in a move to another encoder. Absent where it has none."""
    mapped: Mapped | None = None
    """What of it is mapped. Absent: all its encodings are its encoder's own."""
    keep_crops: bool = False
    """With each encoding that it makes of a picture it keeps a crop of that, to move to another encoder by
    (FillFromCrops)."""


@dataclass(frozen=True, kw_only=True, repr=False)
class CreateGalleryResponse(Answer):
    gallery: Gallery | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class GetGalleryResponse(Answer):
    gallery: Gallery | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class ListGalleriesResponse(Answer):
    galleries: tuple[Gallery, ...] = ()
    next_page_token: str = ""
    """Empty on the last page."""


@dataclass(frozen=True, kw_only=True, repr=False)
class DeleteGalleryResponse(Answer):
    deleted_subjects: int = 0
    receipt: str = ""
    """Signed: what was deleted, when, and until when copies may still have it. `oneglance verify-receipt` reads it."""


@dataclass(frozen=True, kw_only=True, repr=False)
class RotateKeyResponse(Answer):
    pass


@dataclass(frozen=True, kw_only=True, repr=False)
class BackedUpGallery(Answer):
    gallery_id: str = ""
    revision: int = 0
    subject_count: int = 0
    encoding_count: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class CreateBackupResponse(Answer):
    size_bytes: int = 0
    create_time: datetime | None = None
    """All that was answered before is in it."""
    galleries: tuple[BackedUpGallery, ...] = ()
    """By id, as they are in it."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Calibration(Answer):
    """The evidence for a fitted tau (ISO/IEC 19795-1)."""

    id: str = ""
    """12 hex digits that change whenever the calibration does."""
    tau: float = 0.0
    target_fpir: float = 0.0
    """The FPIR asked for."""
    gallery_size: int = 0
    """Subjects enrolled when it was fitted."""
    fpir: float = 0.0
    """Measured at tau on the probes it was fitted on, with a 95 % interval."""
    fpir_low: float = 0.0
    fpir_high: float = 0.0
    fnir: float | None = None
    """Share of mated probes whose mate was not the nearest subject under tau; absent without mated probes."""
    non_mated_probes: int = 0
    mated_probes: int = 0
    data: str = ""
    """What the probes were, in words."""
    method: str = ""
    """How it was fitted, in words."""
    fusion: Fusion = ""
    """The rule whose scores tau was fitted on."""
    decided_by: DecidedBy = ""
    """What these were: distances or probabilities."""


@dataclass(frozen=True, kw_only=True, repr=False)
class GetThresholdResponse(Answer):
    threshold: Threshold | None = None
    calibration: Calibration | None = None
    """The evidence, when it comes from a calibration, the gallery's or the model's."""


@dataclass(frozen=True, kw_only=True, repr=False)
class SetThresholdResponse(Answer):
    threshold: Threshold | None = None
    """Absent when cleared and the model has none."""


@dataclass(frozen=True, kw_only=True, repr=False)
class SetFusionResponse(Answer):
    gallery: Gallery | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class FieldViolation(Answer):
    """One field that can't be accepted."""

    field: str = ""
    """Path in the request: `probes[2].image`."""
    description: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class Breach(Answer):
    """A figure of an example that is outside its limit: of a face's quality (FaceQuality, by the gallery's
    QualityPolicy), or of an encoder's input (Model.input_limits); or the `uprightness` of a picture or tensor that
    is said to be an aligned face."""

    field: str = ""
    """Path of the example in the request: `probes[2].image`."""
    figure: str = ""
    """Name of the figure: a field of FaceQuality, a figure of Model.input_limits, or `uprightness`."""
    value: float = 0.0
    least: float | None = None
    """What was asked for: at least, at most, or both."""
    most: float | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Doubt(Answer):
    """Why an example is enrolled in doubt, or not at all."""

    kind: DoubtKind = ""
    field: str = ""
    """The example in the request: `examples[2]`."""
    subject_id: str = ""
    """For LIKE_ANOTHER the other subject, for UNLIKE_OWN the one that is enrolled."""
    distance: float = 0.0
    """Squared L2 to that subject's nearest encoding, the example's own left out; whatever the gallery's rule of
    fusion."""
    limit: float = 0.0
    """What the distance is held against."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Error(Answer):
    """Why a call, or one item of a stream, was refused. A failed call carries it in the trailing metadata
    `oneglance-error-bin`, and the same facts as google.rpc.Status with ErrorInfo and BadRequest in
    `grpc-status-details-bin`. A failed item of a stream carries it in place of its result; the stream goes on."""

    code: int = 0
    """google.rpc.Code, the same as the gRPC status."""
    message: str = ""
    """For people."""
    reason: str = ""
    """For programs: UPPER_SNAKE_CASE, stable. docs/errors.md lists them all."""
    field_violations: tuple[FieldViolation, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    """Values that belong to the reason: limits, ids."""
    photo: Photo | None = None
    """Of a photo with no face, several, or one that isn't upright where one is needed: what was seen, at most 32 faces
    of it."""
    breaches: tuple[Breach, ...] = ()
    """With QUALITY_TOO_LOW and INPUT_UNFIT: the figures outside their limits."""
    doubts: tuple[Doubt, ...] = ()
    """With LIKE_ANOTHER and UNLIKE_OWN: what is doubtful about the enrollment, the first 8."""


@dataclass(frozen=True, kw_only=True, repr=False)
class SkippedProbe(Answer):
    """A probe that was left out."""

    index: int = 0
    """Position among the probes, from 0."""
    error: Error | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class CalibrateResponse(Answer):
    threshold: Threshold | None = None
    """What is in force now."""
    calibration: Calibration | None = None
    skipped: tuple[SkippedProbe, ...] = ()
    """The first 1,000."""
    skipped_count: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class SetDecidedByResponse(Answer):
    gallery: Gallery | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class SetQualityPolicyResponse(Answer):
    gallery: Gallery | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class SetLeastGapResponse(Answer):
    gallery: Gallery | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class SetApproximationResponse(Answer):
    gallery: Gallery | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class SetDoubtPolicyResponse(Answer):
    gallery: Gallery | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class SetKeepCropsResponse(Answer):
    gallery: Gallery | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class ThresholdVersion(Answer):
    version: int = 0
    """Counts from 1. Of more than 1,000 moves the oldest are left out whose tau and id a newer one has, too."""
    threshold: Threshold | None = None
    """Absent when this version cleared the gallery's own."""
    calibration: Calibration | None = None
    set_time: datetime | None = None
    subject_count: int | None = None
    """The gallery's size when it was set, or moved. Absent in versions from before that was kept."""
    encoding_count: int | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class ListThresholdsResponse(Answer):
    versions: tuple[ThresholdVersion, ...] = ()
    next_page_token: str = ""
    """Empty on the last page."""


@dataclass(frozen=True, kw_only=True, repr=False)
class MovedGallery(Answer):
    """The settings of a gallery, its sizes, and its revision."""

    description: str = ""
    encoder_digest: str = ""
    dimension: int = 0
    kind: str = ""
    """"flat": answers are exact; else what they may lose, as "approximate:0.999" or
    "approximate:0.999:exact-on-alarm"."""
    fusion: str = ""
    target_fpir: float | None = None
    quality_policy: str | None = None
    doubt_policy: str | None = None
    decided_by: str = ""
    least_gap: float = 0.0
    tau: float | None = None
    """The gallery's own; absent where it has none, or one follows its size."""
    threshold_version: int = 0
    """Of the newest threshold."""
    create_seconds: float = 0.0
    generation_seconds: float = 0.0
    revision: int = 0
    subject_count: int = 0
    encoding_count: int = 0
    unit_norm: bool | None = None
    """Whether encodings have unit length, as far as the server knows: its encoder is loaded."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ExportBegun(Answer):
    gallery_uid: str = ""
    gallery: MovedGallery | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class MovedEncoding(Answer):
    number: int = 0
    """Rises with each encoding that was enrolled; to be imported they count from 0 over the whole gallery."""
    create_seconds: float = 0.0
    key: str = ""
    source: str = ""
    values: bytes = b""


@dataclass(frozen=True, kw_only=True, repr=False)
class MovedSubject(Answer):
    """A subject, its encodings and its negatives, oldest first."""

    number: int = 0
    """Rises with each subject that was enrolled."""
    version: int = 0
    """Another one after each change of the subject. Import ignores it."""
    id: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    create_seconds: float = 0.0
    update_seconds: float = 0.0
    expire_seconds: float | None = None
    purpose: str = ""
    consent: str = ""
    encodings: tuple[MovedEncoding, ...] = ()
    negatives: tuple[MovedEncoding, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class MovedSubjects(Answer):
    subjects: tuple[MovedSubject, ...] = ()
    """At most 1,024."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ExportGone(Answer):
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class MovedThreshold(Answer):
    """A threshold that the gallery has had, as it was kept."""

    version: int = 0
    tau: float | None = None
    calibration: str | None = None
    """The evidence, as JSON."""
    set_seconds: float | None = None
    followed: str | None = None
    """Of one that followed the gallery's size: what it was made for."""
    target_fpir: float | None = None
    subject_count: int | None = None
    encoding_count: int | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class MovedThresholds(Answer):
    thresholds: tuple[MovedThreshold, ...] = ()
    """At most 1,024, the oldest first."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ExportGalleryResponse(Answer):
    begun: ExportBegun | None = None
    """The first message: the gallery as it is now."""
    subjects: MovedSubjects | None = None
    """They take the place of those of the same number."""
    gone: ExportGone | None = None
    """Deleted since they came."""
    thresholds: MovedThresholds | None = None
    done: MovedGallery | None = None
    """The last message: all that came, and was known before, is the gallery as it was at this revision."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ImportGalleryResponse(Answer):
    subject_count: int = 0
    """Subjects that are durable. The first answer comes to the settings: where to go on."""
    finished: bool = False
    """With the last answer, after the client's end of the stream: it answers now."""


@dataclass(frozen=True, kw_only=True, repr=False)
class StartMoveResponse(Answer):
    successor: Gallery | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class LiveComparison(Answer):
    """What the probes tell that both galleries of a move were asked. Counts are in memory: a restart, a cut-over and a
    roll-back begin anew."""

    probes: int = 0
    """Probes, or faces of one, that both galleries decided about."""
    decided_otherwise: int = 0
    """Of these, the two decisions are another subject, or unknown by one only."""
    same_nearest: int = 0
    """Of these, the nearest subject is the same by both, or there is none."""
    seconds: float = 0.0
    """How long a call took by each, from its pictures to its decisions, on average."""
    waiting_seconds: float = 0.0
    dropped: int = 0
    """Calls that weren't compared since the server was busy, or the gallery that waits could not answer."""


@dataclass(frozen=True, kw_only=True, repr=False)
class GetMoveResponse(Answer):
    gallery: Gallery | None = None
    """The one that answers."""
    waiting: Gallery | None = None
    """The one that waits."""
    left_count: int = 0
    """Subjects of `gallery` that aren't in `waiting`."""
    lacking_negatives_count: int = 0
    """Subjects in both that have fewer negatives in `waiting`."""
    fewer_encodings_count: int = 0
    """Subjects in both that have fewer encodings in `waiting`. They are not left."""
    comparison: LiveComparison | None = None
    mapped_count: int = 0
    """Subjects that have mapped encodings in the successor. They are not left, but not really moved either."""
    with_crops_count: int = 0
    """Of the subjects that are left, those with crops, which FillFromCrops can move."""


@dataclass(frozen=True, kw_only=True, repr=False)
class LeftSubject(Answer):
    """A subject that is left to be moved: it isn't in the gallery that waits, or as told here."""

    subject_id: str = ""
    lacks_negatives: bool = False
    """It is in the gallery that waits, but has fewer negatives there."""
    mapped: bool = False
    """It is in the successor with mapped encodings only (FillByMap), so not really moved. CutOver doesn't wait for it."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ListLeftResponse(Answer):
    subjects: tuple[LeftSubject, ...] = ()
    next_page_token: str = ""
    """Empty on the last page."""


@dataclass(frozen=True, kw_only=True, repr=False)
class FillByMapResponse(Answer):
    """The first answer has the loss; those that follow tell how far it has come."""

    loss: MapLoss | None = None
    mapped_count: int = 0
    """Subjects that have mapped encodings by this map now, of this call."""
    subject_count: int = 0
    """Subjects that were to be mapped, about, when the call began."""
    refused_count: int = 0
    """Subjects that can't be mapped: nothing usable comes of their encodings. They are left."""
    finished: bool = False
    """With the last answer: nobody else is left that can be mapped. Never with dry_run."""


@dataclass(frozen=True, kw_only=True, repr=False)
class RefusedCrop(Answer):
    """An encoding that can't be made again of the crop that is kept of it."""

    subject_id: str = ""
    encoding_id: str = ""
    """In the gallery that answers. Empty where the subject can't be enrolled with what was made."""
    error: Error | None = None
    """CROP_MISSING where none is kept; FACE_NOT_FOUND and the like where the encoder refuses it."""


@dataclass(frozen=True, kw_only=True, repr=False)
class FillFromCropsResponse(Answer):
    moved_count: int = 0
    """Subjects that were moved by this call."""
    changed_count: int = 0
    """Subjects that changed while they were to be moved, and are left: ask again from the beginning."""
    refused: tuple[RefusedCrop, ...] = ()
    """What could not be made again."""
    next_page_token: str = ""
    """Empty once all were looked at."""


@dataclass(frozen=True, kw_only=True, repr=False)
class CutOverResponse(Answer):
    gallery: Gallery | None = None
    """As it answers now."""


@dataclass(frozen=True, kw_only=True, repr=False)
class RollBackResponse(Answer):
    gallery: Gallery | None = None
    """As it answers now."""


@dataclass(frozen=True, kw_only=True, repr=False)
class EndMoveResponse(Answer):
    gallery: Gallery | None = None
    """The one that answers."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Provenance(Answer):
    """What an answer rests on."""

    encoder_digest: str = ""
    """Identity of the encoder (see Model.digest)."""
    execution_provider: str = ""
    """The ONNX Runtime execution provider that really ran the encoder; "client" when encodings came in the request;
    empty when nothing was encoded, because an earlier answer was given again."""
    index_kind: str = ""
    """What was searched: "flat" (all encodings in memory), "ivf" (a part of them, by an index that says which),
    "store" (one subject, by Verify); empty when nothing was."""
    index_device: str = ""
    """Where the index lives: "cpu", "cuda:0"."""
    exact: bool = False
    """True: the answer is the one that comparing every enrolled encoding gives. False: it may lose what
    Gallery.approximation lets it: a subject may be missing that is nearer than those in the answer, and with it a
    match or the decision. Distances, scores and probabilities that are told are exact in both."""
    gallery_revision: int = 0
    """The gallery's revision that the answer reflects. It grows by one with every change. Many probes are compared in
    several scans: each reflects this revision or a later one."""
    gallery_size: int = 0
    """Subjects in the gallery at that revision; 0 where nothing was searched."""
    filtered_size: int | None = None
    """With a filter, for callers with the right "export": how many of them it lets through."""
    gallery_uid: str = ""
    """Whose revision it is (Gallery.uid): a gallery that was made anew under the same id has another."""
    unchecked: bool = False
    """True: the server started a short time ago, and goes on checking that no row of its store was changed, dropped or
    doubled by something else. The encodings that were compared are those that the store counts, and the rows of the
    candidates were checked. Where a row is found to be damaged nothing is answered any more, and health says
    NOT_SERVING."""
    mapped: Mapped | None = None
    """Some subjects of the gallery have mapped encodings, and this is what the map costs. Absent: none has."""


@dataclass(frozen=True, kw_only=True, repr=False)
class NearerNegative(Answer):
    """A negative of a subject (SubjectService.AddNegative) that a probe is nearer to than to each of the subject's
    encodings, by squared L2, whatever the gallery's rule of fusion. Of several, the nearest one; of equally near
    ones the oldest."""

    id: str = ""
    distance: float = 0.0
    """Squared L2 between the probe and the negative."""


@dataclass(frozen=True, kw_only=True, repr=False)
class VerifyResponse(Answer):
    same: bool = False
    """The score is <= tau, and `negative` is absent."""
    distance: float = 0.0
    """Squared L2 to the subject, by the gallery's rule of fusion, or to the other example. Two examples in a gallery
    whose rule is MARGIN are compared with the model's tau."""
    encoding_id: str = ""
    """The subject's nearest encoding; empty where the rule compares with the template, and for two examples."""
    threshold: Threshold | None = None
    provenance: Provenance | None = None
    face: Face | None = None
    """The faces that were compared, when they come from photos."""
    other_face: Face | None = None
    score: float | None = None
    """What is compared with tau, where that is not the distance: for a subject by FUSION_MARGIN, and in a gallery with
    DECIDED_BY_PROBABILITY."""
    breaches: tuple[Breach, ...] = ()
    """Of both examples."""
    negative: NearerNegative | None = None
    """The probe is nearer to this negative of the subject than to the subject: the answer is no, whatever the score."""
    probability: float | None = None
    """See Candidate.probability. Of a subject with several encodings, by the gallery's rule of fusion: of the nearest
    one (the likeliest, where probability decides), or of the template."""
    mapped: bool = False
    """See Candidate.mapped."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Candidate(Answer):
    """A subject near a probe."""

    subject_id: str = ""
    distance: float = 0.0
    """Squared L2 between the probe and the subject, by the gallery's rule of fusion: its nearest encoding, or its
    template."""
    encoding_id: str = ""
    """The nearest encoding; empty where the rule compares with the template."""
    score: float | None = None
    """What is compared with tau, where that is not the distance: by FUSION_MARGIN, and with DECIDED_BY_PROBABILITY."""
    negative: NearerNegative | None = None
    """The probe is nearer to this negative of the subject than to the subject: it is not given the subject."""
    probability: float | None = None
    """That the two whose distance is told, the probe and the encoding or template, are of one subject: by the
    encoder's pair head, if both answers are equally likely before. Absent where the encoder has none, or isn't
    loaded."""
    labels: dict[str, str] = field(default_factory=dict)
    """With IdentifyRequest.with_labels: the subject's."""
    mapped: bool = False
    """The subject's encodings are mapped ones: what this costs tells Provenance.mapped."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Taken(Answer):
    """The subject that a face would have been identified as, and who has it instead."""

    subject_id: str = ""
    result_index: int = 0
    """Position in IdentifyResponse.results of the face that is identified as this subject."""


@dataclass(frozen=True, kw_only=True, repr=False)
class IdentifyResult(Answer):
    decision: Decision = ""
    subject_id: str = ""
    """The identified subject; else empty."""
    candidates: tuple[Candidate, ...] = ()
    """Nearest subjects first, each once, whatever tau and negatives: evidence, not a decision. Longer than
    max_candidates where the first without a nearer negative comes later: it ends with that."""
    matches: tuple[Candidate, ...] = ()
    """With all_matches: every subject under tau, nearest first, at most 10,000, and 50,000 over all probes."""
    matches_truncated: bool = False
    """More than that were under tau."""
    probe_index: int = 0
    """Position of the probe in the request."""
    face: Face | None = None
    """The face, when the probe is a photo."""
    unknown_reason: UnknownReason = ""
    gap: float | None = None
    """By how much the score of the next subject is above that of the nearest, >= 0; absent with fewer than two
    subjects."""
    nearest_subject_id: str = ""
    """The two that the gap lies between, whatever max_candidates is; empty where there is none."""
    next_subject_id: str = ""
    breaches: tuple[Breach, ...] = ()
    """What is outside the limits of the gallery's quality policy or of the encoder's input: the decision is doubtful."""
    taken: Taken | None = None
    """For TAKEN only."""


@dataclass(frozen=True, kw_only=True, repr=False)
class IdentifyResponse(Answer):
    results: tuple[IdentifyResult, ...] = ()
    """In the order of the probes. One for each probe; for a photo given to an encoder of faces, one for each face in
    it, the largest first, and none when it shows none."""
    threshold: Threshold | None = None
    provenance: Provenance | None = None
    photos: dict[int, Photo] = field(default_factory=dict)
    """The photos that faces were searched in, by the position of the probe."""


@dataclass(frozen=True, kw_only=True, repr=False)
class IdentifyStreamResponse(Answer):
    index: int = 0
    """Position of the request in the stream, from 0."""
    response: IdentifyResponse | None = None
    error: Error | None = None


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Encoding(Answer):
    """f(x): a point in the encoder's space. Compared by squared L2."""

    values: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    """Finite, not all zero; as many as the encoder's dimension. On the way in of length 1, within 0.001, where the
    encoder is loaded and makes such (Model.unit_norm)."""
    encoder_digest: str = ""
    """Digest of the encoder that made it. Required on the way in: encodings of another encoder are refused, not
    compared."""


@dataclass(frozen=True, kw_only=True, repr=False)
class EncodeResponse(Answer):
    encodings: tuple[Encoding, ...] = ()
    """The i-th encoding belongs to the i-th example."""
    provenance: Provenance | None = None
    faces: tuple[Face, ...] = ()
    """The face behind each encoding when all came from photos; otherwise empty."""
    breaches: tuple[Breach, ...] = ()
    """What is outside the limits of the encoder's input."""


@dataclass(frozen=True, kw_only=True, repr=False)
class LookAlikes(Answer):
    """Two subjects that look like each other."""

    subject_id: str = ""
    """The first of the two, by id."""
    other_subject_id: str = ""
    distance: float = 0.0
    """Squared L2 between the two by the gallery's rule of fusion: between their nearest encodings, or between their
    templates."""
    encoding_id: str = ""
    """The two encodings that are nearest; empty where the rule compares templates."""
    other_encoding_id: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class ListLookAlikesResponse(Answer):
    pairs: tuple[LookAlikes, ...] = ()
    """The pairs of this page's subjects, each pair once in all pages. By subject_id, then the nearest first."""
    next_page_token: str = ""
    """Empty on the last page."""
    within: float = 0.0
    """The limit that applied."""
    truncated_subject_ids: tuple[str, ...] = ()
    """Subjects of this page that look like so many others (1,000) that only the nearest were looked at."""
    provenance: Provenance | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class ModelInput(Answer):
    """What the encoder takes."""

    kind: str = ""
    """"image", "signal", "plane" or "volume"."""
    shape: tuple[int, ...] = ()
    """Without the batch: [H, W, C], [L, C] or [D, H, W, C]."""
    data_type: DataType = ""
    color: str = ""
    """"gray" or "rgb" for images."""
    fit: str = ""
    """"pad": an array of another size is cut at the end of each axis, or followed by zeros; an image keeps its aspect.
    "crop": an image is cut. Empty: images are stretched, and arrays must have the shape."""
    sample_rate: int = 0
    """Samples a second that sounds are brought to; 0: it takes none."""


@dataclass(frozen=True, kw_only=True, repr=False)
class InputLimit(Answer):
    """A limit on a figure of an encoder's input; docs/model-folder.md tells what the figures are."""

    figure: str = ""
    least: float = 0.0
    most: float = 0.0


@dataclass(frozen=True, kw_only=True, repr=False)
class PairHead(Answer):
    """Tells how likely two encodings are of one subject: sigma(sum of weights x terms + bias); the manifest has the
    numbers."""

    form: str = ""
    """"difference": the terms are |f_i - f_j|; "chi-square": (f_i - f_j)^2 / (f_i + f_j), 0 where both are 0."""
    calibration_error: float | None = None
    """By how much its probabilities are off on average (expected calibration error), on pairs of subjects that the
    encoder was not trained on, mated ones having half the weight. Absent when nobody measured it: then they are
    numbers between 0 and 1, and not more."""
    data: str = ""
    """What that was measured on."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Model(Answer):
    name: str = ""
    digest: str = ""
    """SHA-256 over the graph and its input and output contract, 64 hex digits. Galleries are bound to it."""
    description: str = ""
    input: ModelInput | None = None
    dimension: int = 0
    """Length of an encoding."""
    unit_norm: bool = False
    metric: str = ""
    """"squared_l2"."""
    threshold: Threshold | None = None
    """The calibrated threshold; absent when the model was not calibrated."""
    execution_provider: str = ""
    """The ONNX Runtime execution provider that really runs it."""
    license: str = ""
    kind: str = ""
    """"encoder", "detector" (finds faces), "landmarks" (finds their points), "uprightness" (checks that they are
    upright) "stylizer" (StylizationService.ListStyles has its styles), or "style-reader" (reads the style of a
    picture). The fields about encodings are set for an encoder only."""
    takes_photos: bool = False
    """True for an encoder of faces: pictures are photos, faces are found and aligned first."""
    input_limits: tuple[InputLimit, ...] = ()
    """What pictures that an encoder is made for look like: limits on figures of its input. Empty when nobody measured
    them. They hold for pictures and tensors given as they are, not for faces found in photos."""
    pair_head: PairHead | None = None
    """Of an encoder that tells probabilities; else absent."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ListModelsResponse(Answer):
    models: tuple[Model, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class DescribeModelResponse(Answer):
    model: Model | None = None
    manifest_json: str = ""
    """The manifest as it stands in the model folder: training, calibration, parity."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ServerLimits(Answer):
    """What a request may hold at most. Beyond it, calls are refused with INVALID_ARGUMENT or RESOURCE_EXHAUSTED."""

    message_bytes: int = 0
    picture_bytes: int = 0
    picture_pixels: int = 0
    """Width x height."""
    call_pixels: int = 0
    """Of all pictures of a call together."""
    sound_bytes: int = 0
    sound_seconds: float = 0.0
    examples_per_enroll: int = 0
    probes: int = 0
    labels: int = 0
    id_characters: int = 0
    encodings_per_subject: int = 0
    candidates: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class GetServerResponse(Answer):
    version: str = ""
    """As "0.1.0"."""
    schema_version: int = 0
    """Of the data directory; docs/keeping.md says what another version can open."""
    device: str = ""
    """What galleries are searched on: "cpu" or "cuda:N"."""
    capabilities: tuple[str, ...] = ()
    """What this server can do, as it was started. Ask for the words that you need, and pass over those you don't know:
    "encode" an encoder is loaded "faces" faces are found in photos: pictures for an encoder of faces may be photos
    "stylize" a stylizer is loaded "stylize:picture" a stylizer for the style of any picture is loaded "calibrate"
    thresholds are fitted to strangers "backup" backups are made (backup_dir is set) "callers" callers are known and
    have rights (there is a policy) "audit" there is an audit trail "fusion:RULE" a rule of fusion that galleries
    may have "picture:FORMAT" a format of pictures, as in "picture:JPEG" "sound:FORMAT" a format of sounds"""
    limits: ServerLimits | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Style(Answer):
    name: str = ""
    """As StyleWeight.style names it."""
    title: str = ""
    """The picture it was learned from, for people."""
    source: str = ""
    """Where that picture comes from, and its terms."""
    license: str = ""
    stylizer: str = ""
    """Name and digest of the stylizer it belongs to."""
    stylizer_digest: str = ""
    kept: bool = False
    """It was made by CreateStyle, and DeleteStyle removes it."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ListStylesResponse(Answer):
    styles: tuple[Style, ...] = ()
    """By stylizer, in the order in which it was trained."""


@dataclass(frozen=True, kw_only=True, repr=False)
class CreateStyleResponse(Answer):
    style: Style | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class DeleteStyleResponse(Answer):
    pass


@dataclass(frozen=True, kw_only=True, repr=False)
class StylizedPicture(Answer):
    image: bytes = b""
    """The encoded picture."""
    format: PictureFormat = ""
    width: int = 0
    """In pixels."""
    height: int = 0
    stylizer_digest: str = ""
    """Digest of the stylizer, and the execution provider that really ran it."""
    execution_provider: str = ""
    tiles: int = 0
    """How many tiles it was cut into; 1 when it was stylized whole."""


@dataclass(frozen=True, kw_only=True, repr=False)
class StylizeResponse(Answer):
    picture: StylizedPicture | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class StylizeStreamResponse(Answer):
    index: int = 0
    """Position of the frame in the stream, from 0."""
    picture: StylizedPicture | None = None
    error: Error | None = None
    dropped: int = 0
    """Frames dropped since the answer before."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Neighbour(Answer):
    """The subject, other than the one that is enrolled, that has the encoding nearest to one of the examples."""

    subject_id: str = ""
    distance: float = 0.0
    """Squared L2 between the example and that encoding, whatever the gallery's rule of fusion."""
    field: str = ""
    """The example in the request: `examples[2]`."""


@dataclass(frozen=True, kw_only=True, repr=False)
class EnrollResponse(Answer):
    subject_id: str = ""
    encoding_ids: tuple[str, ...] = ()
    """One per example, in order."""
    created: bool = False
    """False when the subject was enrolled before."""
    replayed: bool = False
    """True when this is the stored answer to an earlier request of the same id."""
    provenance: Provenance | None = None
    faces: tuple[Face, ...] = ()
    """The face behind each encoding when all came from photos; otherwise empty, and empty in a replayed answer."""
    breaches: tuple[Breach, ...] = ()
    """With accept_breaches: what else would have been refused for. Empty in a replayed answer."""
    nearest_other: Neighbour | None = None
    """Absent with DOUBT_POLICY_OFF, and where no other subject is enrolled. Exact as searches are. Of equally near
    subjects, any."""
    doubts: tuple[Doubt, ...] = ()
    """With DOUBT_POLICY_FLAG: what is doubtful."""


@dataclass(frozen=True, kw_only=True, repr=False)
class EncodedEnrolled(Answer):
    """As in EnrollResponse."""

    encoding_ids: tuple[str, ...] = ()
    created: bool = False
    replayed: bool = False


@dataclass(frozen=True, kw_only=True, repr=False)
class EncodedOutcome(Answer):
    enrolled: EncodedEnrolled | None = None
    error: Error | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class EncodedOutcomes(Answer):
    outcomes: tuple[EncodedOutcome, ...] = ()
    """One per subject, in order. A subject that is refused keeps no other from being enrolled."""


@dataclass(frozen=True, kw_only=True, repr=False)
class BulkEnrollResponse(Answer):
    index: int = 0
    """Position of the message in the stream, from 0."""
    enrolled: EnrollResponse | None = None
    error: Error | None = None
    """With `encoded`: what concerns all of them, and none is enrolled."""
    encoded: EncodedOutcomes | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class EncodingRecord(Answer):
    """An enrolled encoding, without its values."""

    id: str = ""
    create_time: datetime | None = None
    key: str = ""
    """As Example has them."""
    source: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class NegativeRecord(Answer):
    """A negative example of a subject, without its values."""

    id: str = ""
    create_time: datetime | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Retention(Answer):
    """How long a subject may be kept, for what, and by whose consent."""

    expire_time: datetime | None = None
    """Then the subject is deleted, as if by DeleteSubject, within a minute or so. Absent: it isn't."""
    purpose: str = ""
    """Your own words, at most 1,000 characters each."""
    consent: str = ""
    """A reference to the consent."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Subject(Answer):
    id: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    encodings: tuple[EncodingRecord, ...] = ()
    create_time: datetime | None = None
    update_time: datetime | None = None
    negatives: tuple[NegativeRecord, ...] = ()
    retention: Retention | None = None
    mapped: bool = False
    """A map made its encodings of those of another encoder, all of them (GalleryService.FillByMap)."""


@dataclass(frozen=True, kw_only=True, repr=False)
class GetSubjectResponse(Answer):
    subject: Subject | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class ListSubjectsResponse(Answer):
    subjects: tuple[Subject, ...] = ()
    next_page_token: str = ""
    """Empty on the last page."""


@dataclass(frozen=True, kw_only=True, repr=False)
class LabelCount(Answer):
    value: str = ""
    subjects: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class CountSubjectsResponse(Answer):
    subjects: int = 0
    values: tuple[LabelCount, ...] = ()
    """The 1,000 most frequent values, the most frequent first; of equally frequent ones by value."""
    without: int = 0
    """Subjects that don't have the label."""
    others: int = 0
    """Subjects with other values than these."""
    gallery_revision: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class RenameSubjectResponse(Answer):
    gallery_revision: int = 0
    """The gallery's revision afterwards."""


@dataclass(frozen=True, kw_only=True, repr=False)
class UpdateLabelsResponse(Answer):
    gallery_revision: int = 0
    """The gallery's revision afterwards."""


@dataclass(frozen=True, kw_only=True, repr=False)
class MergeSubjectsResponse(Answer):
    encoding_ids: dict[str, str] = field(default_factory=dict)
    """The new ids of the encodings that were moved, by their former ones."""
    gallery_revision: int = 0
    """The gallery's revision afterwards."""


@dataclass(frozen=True, kw_only=True, repr=False)
class MoveEncodingResponse(Answer):
    encoding_ids: dict[str, str] = field(default_factory=dict)
    """The new id, by the former one."""
    subject_deleted: bool = False
    """True when it was the last one, and the subject is gone with it."""
    gallery_revision: int = 0
    """The gallery's revision afterwards."""


@dataclass(frozen=True, kw_only=True, repr=False)
class DeletedSubject(Answer):
    subject_id: str = ""
    encodings: int = 0
    receipt: str = ""
    """As of DeleteSubject."""


@dataclass(frozen=True, kw_only=True, repr=False)
class DeleteSubjectsResponse(Answer):
    deleted: tuple[DeletedSubject, ...] = ()
    remaining: int = 0
    """How many the filter lets through afterwards."""
    gallery_revision: int = 0
    """The gallery's revision afterwards."""


@dataclass(frozen=True, kw_only=True, repr=False)
class DeleteEncodingResponse(Answer):
    subject_deleted: bool = False
    """True when it was the last one, and the subject is gone with it."""
    gallery_revision: int = 0
    """The gallery's revision afterwards."""
    receipt: str = ""
    """Signed: what was deleted, when, and until when copies may still have it. `oneglance verify-receipt` reads it."""


@dataclass(frozen=True, kw_only=True, repr=False)
class DeleteSubjectResponse(Answer):
    deleted_encodings: int = 0
    gallery_revision: int = 0
    """The gallery's revision afterwards."""
    receipt: str = ""
    """Signed: what was deleted, when, and until when copies may still have it. `oneglance verify-receipt` reads it."""


@dataclass(frozen=True, kw_only=True, repr=False)
class SetRetentionResponse(Answer):
    gallery_revision: int = 0
    """The gallery's revision afterwards."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ExpiredSubject(Answer):
    gallery_id: str = ""
    subject_id: str = ""
    retention: Retention | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class ListExpiredResponse(Answer):
    subjects: tuple[ExpiredSubject, ...] = ()
    """At most 1,000."""
    next_page_token: str = ""
    """Empty on the last page."""


@dataclass(frozen=True, kw_only=True, repr=False)
class AddNegativeResponse(Answer):
    negative_id: str = ""
    provenance: Provenance | None = None
    face: Face | None = None
    """The face, when the example is a photo."""


@dataclass(frozen=True, kw_only=True, repr=False)
class DeleteNegativeResponse(Answer):
    gallery_revision: int = 0
    """The gallery's revision afterwards."""


@overload
def as_dataclass(answer: access_pb2.ApiKey) -> ApiKey: ...
@overload
def as_dataclass(answer: access_pb2.CreateApiKeyResponse) -> CreateApiKeyResponse: ...
@overload
def as_dataclass(answer: access_pb2.ListApiKeysResponse) -> ListApiKeysResponse: ...
@overload
def as_dataclass(answer: access_pb2.RevokeApiKeyResponse) -> RevokeApiKeyResponse: ...
@overload
def as_dataclass(answer: access_pb2.Grant) -> Grant: ...
@overload
def as_dataclass(answer: access_pb2.GetIdentityResponse) -> GetIdentityResponse: ...
@overload
def as_dataclass(answer: face_pb2.Box) -> Box: ...
@overload
def as_dataclass(answer: face_pb2.Point) -> Point: ...
@overload
def as_dataclass(answer: face_pb2.FaceQuality) -> FaceQuality: ...
@overload
def as_dataclass(answer: face_pb2.Uprightness) -> Uprightness: ...
@overload
def as_dataclass(answer: face_pb2.Face) -> Face: ...
@overload
def as_dataclass(answer: face_pb2.Photo) -> Photo: ...
@overload
def as_dataclass(answer: detection_pb2.DetectFacesResponse) -> DetectFacesResponse: ...
@overload
def as_dataclass(answer: common_pb2.Threshold) -> Threshold: ...
@overload
def as_dataclass(answer: gallery_pb2.DriftWatch) -> DriftWatch: ...
@overload
def as_dataclass(answer: gallery_pb2.Drift) -> Drift: ...
@overload
def as_dataclass(answer: approximation_pb2.Approximation) -> Approximation: ...
@overload
def as_dataclass(answer: approximation_pb2.CheckedProbes) -> CheckedProbes: ...
@overload
def as_dataclass(answer: approximation_pb2.ApproximationState) -> ApproximationState: ...
@overload
def as_dataclass(answer: succession_pb2.GalleryMove) -> GalleryMove: ...
@overload
def as_dataclass(answer: mapping_pb2.MapLoss) -> MapLoss: ...
@overload
def as_dataclass(answer: mapping_pb2.Mapped) -> Mapped: ...
@overload
def as_dataclass(answer: gallery_pb2.Gallery) -> Gallery: ...
@overload
def as_dataclass(answer: gallery_pb2.CreateGalleryResponse) -> CreateGalleryResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.GetGalleryResponse) -> GetGalleryResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.ListGalleriesResponse) -> ListGalleriesResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.DeleteGalleryResponse) -> DeleteGalleryResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.RotateKeyResponse) -> RotateKeyResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.BackedUpGallery) -> BackedUpGallery: ...
@overload
def as_dataclass(answer: gallery_pb2.CreateBackupResponse) -> CreateBackupResponse: ...
@overload
def as_dataclass(answer: common_pb2.Calibration) -> Calibration: ...
@overload
def as_dataclass(answer: gallery_pb2.GetThresholdResponse) -> GetThresholdResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.SetThresholdResponse) -> SetThresholdResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.SetFusionResponse) -> SetFusionResponse: ...
@overload
def as_dataclass(answer: error_pb2.FieldViolation) -> FieldViolation: ...
@overload
def as_dataclass(answer: common_pb2.Breach) -> Breach: ...
@overload
def as_dataclass(answer: common_pb2.Doubt) -> Doubt: ...
@overload
def as_dataclass(answer: error_pb2.Error) -> Error: ...
@overload
def as_dataclass(answer: gallery_pb2.SkippedProbe) -> SkippedProbe: ...
@overload
def as_dataclass(answer: gallery_pb2.CalibrateResponse) -> CalibrateResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.SetDecidedByResponse) -> SetDecidedByResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.SetQualityPolicyResponse) -> SetQualityPolicyResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.SetLeastGapResponse) -> SetLeastGapResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.SetApproximationResponse) -> SetApproximationResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.SetDoubtPolicyResponse) -> SetDoubtPolicyResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.SetKeepCropsResponse) -> SetKeepCropsResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.ThresholdVersion) -> ThresholdVersion: ...
@overload
def as_dataclass(answer: gallery_pb2.ListThresholdsResponse) -> ListThresholdsResponse: ...
@overload
def as_dataclass(answer: moving_pb2.MovedGallery) -> MovedGallery: ...
@overload
def as_dataclass(answer: moving_pb2.ExportBegun) -> ExportBegun: ...
@overload
def as_dataclass(answer: moving_pb2.MovedEncoding) -> MovedEncoding: ...
@overload
def as_dataclass(answer: moving_pb2.MovedSubject) -> MovedSubject: ...
@overload
def as_dataclass(answer: moving_pb2.MovedSubjects) -> MovedSubjects: ...
@overload
def as_dataclass(answer: moving_pb2.ExportGone) -> ExportGone: ...
@overload
def as_dataclass(answer: moving_pb2.MovedThreshold) -> MovedThreshold: ...
@overload
def as_dataclass(answer: moving_pb2.MovedThresholds) -> MovedThresholds: ...
@overload
def as_dataclass(answer: moving_pb2.ExportGalleryResponse) -> ExportGalleryResponse: ...
@overload
def as_dataclass(answer: moving_pb2.ImportGalleryResponse) -> ImportGalleryResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.StartMoveResponse) -> StartMoveResponse: ...
@overload
def as_dataclass(answer: succession_pb2.LiveComparison) -> LiveComparison: ...
@overload
def as_dataclass(answer: gallery_pb2.GetMoveResponse) -> GetMoveResponse: ...
@overload
def as_dataclass(answer: succession_pb2.LeftSubject) -> LeftSubject: ...
@overload
def as_dataclass(answer: gallery_pb2.ListLeftResponse) -> ListLeftResponse: ...
@overload
def as_dataclass(answer: mapping_pb2.FillByMapResponse) -> FillByMapResponse: ...
@overload
def as_dataclass(answer: succession_pb2.RefusedCrop) -> RefusedCrop: ...
@overload
def as_dataclass(answer: gallery_pb2.FillFromCropsResponse) -> FillFromCropsResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.CutOverResponse) -> CutOverResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.RollBackResponse) -> RollBackResponse: ...
@overload
def as_dataclass(answer: gallery_pb2.EndMoveResponse) -> EndMoveResponse: ...
@overload
def as_dataclass(answer: common_pb2.Provenance) -> Provenance: ...
@overload
def as_dataclass(answer: common_pb2.NearerNegative) -> NearerNegative: ...
@overload
def as_dataclass(answer: identification_pb2.VerifyResponse) -> VerifyResponse: ...
@overload
def as_dataclass(answer: common_pb2.Candidate) -> Candidate: ...
@overload
def as_dataclass(answer: identification_pb2.Taken) -> Taken: ...
@overload
def as_dataclass(answer: identification_pb2.IdentifyResult) -> IdentifyResult: ...
@overload
def as_dataclass(answer: identification_pb2.IdentifyResponse) -> IdentifyResponse: ...
@overload
def as_dataclass(answer: identification_pb2.IdentifyStreamResponse) -> IdentifyStreamResponse: ...
@overload
def as_dataclass(answer: common_pb2.Encoding) -> Encoding: ...
@overload
def as_dataclass(answer: identification_pb2.EncodeResponse) -> EncodeResponse: ...
@overload
def as_dataclass(answer: identification_pb2.LookAlikes) -> LookAlikes: ...
@overload
def as_dataclass(answer: identification_pb2.ListLookAlikesResponse) -> ListLookAlikesResponse: ...
@overload
def as_dataclass(answer: model_pb2.ModelInput) -> ModelInput: ...
@overload
def as_dataclass(answer: model_pb2.InputLimit) -> InputLimit: ...
@overload
def as_dataclass(answer: model_pb2.PairHead) -> PairHead: ...
@overload
def as_dataclass(answer: model_pb2.Model) -> Model: ...
@overload
def as_dataclass(answer: model_pb2.ListModelsResponse) -> ListModelsResponse: ...
@overload
def as_dataclass(answer: model_pb2.DescribeModelResponse) -> DescribeModelResponse: ...
@overload
def as_dataclass(answer: server_pb2.ServerLimits) -> ServerLimits: ...
@overload
def as_dataclass(answer: server_pb2.GetServerResponse) -> GetServerResponse: ...
@overload
def as_dataclass(answer: stylization_pb2.Style) -> Style: ...
@overload
def as_dataclass(answer: stylization_pb2.ListStylesResponse) -> ListStylesResponse: ...
@overload
def as_dataclass(answer: stylization_pb2.CreateStyleResponse) -> CreateStyleResponse: ...
@overload
def as_dataclass(answer: stylization_pb2.DeleteStyleResponse) -> DeleteStyleResponse: ...
@overload
def as_dataclass(answer: stylization_pb2.StylizedPicture) -> StylizedPicture: ...
@overload
def as_dataclass(answer: stylization_pb2.StylizeResponse) -> StylizeResponse: ...
@overload
def as_dataclass(answer: stylization_pb2.StylizeStreamResponse) -> StylizeStreamResponse: ...
@overload
def as_dataclass(answer: common_pb2.Neighbour) -> Neighbour: ...
@overload
def as_dataclass(answer: subject_pb2.EnrollResponse) -> EnrollResponse: ...
@overload
def as_dataclass(answer: subject_pb2.EncodedEnrolled) -> EncodedEnrolled: ...
@overload
def as_dataclass(answer: subject_pb2.EncodedOutcome) -> EncodedOutcome: ...
@overload
def as_dataclass(answer: subject_pb2.EncodedOutcomes) -> EncodedOutcomes: ...
@overload
def as_dataclass(answer: subject_pb2.BulkEnrollResponse) -> BulkEnrollResponse: ...
@overload
def as_dataclass(answer: subject_pb2.EncodingRecord) -> EncodingRecord: ...
@overload
def as_dataclass(answer: subject_pb2.NegativeRecord) -> NegativeRecord: ...
@overload
def as_dataclass(answer: subject_pb2.Retention) -> Retention: ...
@overload
def as_dataclass(answer: subject_pb2.Subject) -> Subject: ...
@overload
def as_dataclass(answer: subject_pb2.GetSubjectResponse) -> GetSubjectResponse: ...
@overload
def as_dataclass(answer: subject_pb2.ListSubjectsResponse) -> ListSubjectsResponse: ...
@overload
def as_dataclass(answer: subject_pb2.LabelCount) -> LabelCount: ...
@overload
def as_dataclass(answer: subject_pb2.CountSubjectsResponse) -> CountSubjectsResponse: ...
@overload
def as_dataclass(answer: subject_pb2.RenameSubjectResponse) -> RenameSubjectResponse: ...
@overload
def as_dataclass(answer: subject_pb2.UpdateLabelsResponse) -> UpdateLabelsResponse: ...
@overload
def as_dataclass(answer: subject_pb2.MergeSubjectsResponse) -> MergeSubjectsResponse: ...
@overload
def as_dataclass(answer: subject_pb2.MoveEncodingResponse) -> MoveEncodingResponse: ...
@overload
def as_dataclass(answer: subject_pb2.DeletedSubject) -> DeletedSubject: ...
@overload
def as_dataclass(answer: subject_pb2.DeleteSubjectsResponse) -> DeleteSubjectsResponse: ...
@overload
def as_dataclass(answer: subject_pb2.DeleteEncodingResponse) -> DeleteEncodingResponse: ...
@overload
def as_dataclass(answer: subject_pb2.DeleteSubjectResponse) -> DeleteSubjectResponse: ...
@overload
def as_dataclass(answer: subject_pb2.SetRetentionResponse) -> SetRetentionResponse: ...
@overload
def as_dataclass(answer: subject_pb2.ExpiredSubject) -> ExpiredSubject: ...
@overload
def as_dataclass(answer: subject_pb2.ListExpiredResponse) -> ListExpiredResponse: ...
@overload
def as_dataclass(answer: subject_pb2.AddNegativeResponse) -> AddNegativeResponse: ...
@overload
def as_dataclass(answer: subject_pb2.DeleteNegativeResponse) -> DeleteNegativeResponse: ...
@overload
def as_dataclass(answer: Message) -> Answer: ...
def as_dataclass(answer: Message) -> Answer:
    """What a method of a client returned, or a part of it, as a frozen dataclass of ``oneglance.answers``, which prints
    readably. Raises TypeError for what no method returns."""
    return dataclass_of(answer, globals())
