"""An oneglance.v1 server for photos without face weights: a "face" is a coloured square on white.

Its box is the square, its encoding the colour as a unit vector, so distances are known beforehand: 0 for the same hue,
2 for pure red against pure green. Everything is kept in memory. What the console needs of the contract is here:
galleries, thresholds with their versions, subjects, Identify and Enroll from photos, Encode, Calibrate; and, from
fake_stylizer, Stylize.
"""

import io
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from oneglance.client.errors import DETAIL_KEY
from oneglance.v1 import (
    gallery_pb2,
    gallery_pb2_grpc,
    identification_pb2,
    identification_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    subject_pb2,
    subject_pb2_grpc,
)
from oneglance.v1.common_pb2 import (
    DOUBT_KIND_LIKE_ANOTHER,
    THRESHOLD_SOURCE_AUTHOR,
    THRESHOLD_SOURCE_CALIBRATION,
    THRESHOLD_SOURCE_GALLERY,
    Calibration,
    Candidate,
    Encoding,
    Example,
    NearerNegative,
    Neighbour,
    Provenance,
    Threshold,
)
from oneglance.v1.error_pb2 import Error, FieldViolation
from oneglance.v1.face_pb2 import QUALITY_POLICY_STANDARD, Box, Face, FaceQuality, Photo, Point
from oneglance.v1.stylization_pb2_grpc import add_StylizationServiceServicer_to_server
from oneglance.v1.succession_pb2 import GalleryMove
from tests.apps.console.fake_stylizer import FakeStylizer
from tests.waiting import PATIENCE_SECONDS

DIGEST = "fa" * 32
AUTHOR_TAU = 0.36
SMALLEST = 12
Vector = npt.NDArray[np.float64]


def photo(*colours: tuple[int, int, int], size: tuple[int, int] = (320, 200), format: str = "PNG") -> bytes:
    """A picture of one square face of 60 pixels per colour, from left to right."""
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for i, colour in enumerate(colours):
        draw.rectangle((20 + 90 * i, 50, 79 + 90 * i, 109), fill=colour)
    buffer = io.BytesIO()
    picture.save(buffer, format)
    return buffer.getvalue()


def encode_colour(colour: npt.ArrayLike) -> Vector:
    vector = np.asarray(colour, dtype=np.float64)
    unit: Vector = vector / np.linalg.norm(vector)
    return unit


@dataclass
class _Gallery:
    id: str
    description: str
    subjects: dict[str, subject_pb2.Subject] = field(default_factory=dict)
    vectors: dict[str, list[tuple[str, Vector]]] = field(default_factory=dict)
    negatives: dict[str, list[tuple[str, Vector]]] = field(default_factory=dict)
    versions: list[gallery_pb2.ThresholdVersion] = field(default_factory=list)
    revision: int = 0
    policy: int = QUALITY_POLICY_STANDARD
    move: GalleryMove | None = None

    @property
    def threshold(self) -> Threshold:
        if self.versions and self.versions[-1].HasField("threshold"):
            return self.versions[-1].threshold
        return Threshold(tau=AUTHOR_TAU, source=THRESHOLD_SOURCE_AUTHOR)

    def set(self, threshold: Threshold | None, calibration: Calibration | None = None) -> None:
        version = gallery_pb2.ThresholdVersion(version=len(self.versions) + 1, calibration=calibration)
        version.set_time.GetCurrentTime()
        if threshold:
            threshold.id = str(version.version)
            version.threshold.CopyFrom(threshold)
        self.versions.append(version)
        self.revision += 1

    def add(self, subject_id: str, vector: Vector, encoding_id: str) -> None:
        created = subject_id not in self.subjects
        subject = self.subjects.setdefault(subject_id, subject_pb2.Subject(id=subject_id))
        subject.encodings.add(id=encoding_id).create_time.GetCurrentTime()
        if created:
            subject.create_time.GetCurrentTime()
        subject.update_time.GetCurrentTime()
        self.vectors.setdefault(subject_id, []).append((encoding_id, vector))
        self.revision += 1

    def message(self) -> gallery_pb2.Gallery:
        return gallery_pb2.Gallery(
            id=self.id,
            description=self.description,
            encoder_digest=DIGEST,
            dimension=3,
            subject_count=len(self.subjects),
            encoding_count=sum(map(len, self.vectors.values())),
            revision=self.revision,
            threshold=self.threshold,
            encoder_loaded=True,
            quality_policy=self.policy,  # type: ignore[arg-type]  # an int on the wire
            move=self.move,
        )


class FakeServer(
    gallery_pb2_grpc.GalleryServiceServicer,
    subject_pb2_grpc.SubjectServiceServicer,
    identification_pb2_grpc.IdentificationServiceServicer,
    model_pb2_grpc.ModelServiceServicer,
):
    """``with FakeServer() as server``: serves on ``server.address``."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self.slow: dict[str, threading.Event] = {}  # gallery: answered for only once that is set
        self.galleries: dict[str, _Gallery] = {}
        self.stylizer = FakeStylizer()
        self.finds_points = True  # has a landmark finder
        self.reads_styles = False  # has a reader of styles
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._grpc = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 64 << 20)])
        gallery_pb2_grpc.add_GalleryServiceServicer_to_server(self, self._grpc)
        subject_pb2_grpc.add_SubjectServiceServicer_to_server(self, self._grpc)
        identification_pb2_grpc.add_IdentificationServiceServicer_to_server(self, self._grpc)
        model_pb2_grpc.add_ModelServiceServicer_to_server(self, self._grpc)
        add_StylizationServiceServicer_to_server(self.stylizer, self._grpc)
        self.address = f"127.0.0.1:{self._grpc.add_insecure_port(address)}"

    def __enter__(self) -> "FakeServer":
        self._grpc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._grpc.stop(None).wait()

    def make(self, gallery_id: str, **subjects: tuple[int, int, int]) -> None:
        """Enroll subjects by colour, in a gallery that is made when it is missing."""
        gallery = self.galleries.setdefault(gallery_id, _Gallery(gallery_id, ""))
        for name, colour in subjects.items():
            gallery.add(name, encode_colour(colour), f"e{next(self._ids)}")

    # Models and galleries

    def ListModels(self, request: Any, context: Any) -> model_pb2.ListModelsResponse:
        faces = model_pb2.Model(name="colour-faces", digest=DIGEST, dimension=3, kind="encoder", takes_photos=True)
        finder = model_pb2.Model(name="square-finder", digest="fb" * 32, kind="detector")
        points = model_pb2.Model(name="square-points", digest="f8" * 32, kind="landmarks")
        reader = model_pb2.Model(name="mean-reader", digest="f9" * 32, kind="style-reader")
        return model_pb2.ListModelsResponse(
            models=[faces, finder, *([points] if self.finds_points else []), *([reader] if self.reads_styles else [])]
        )

    def CreateGallery(self, request: Any, context: Any) -> gallery_pb2.CreateGalleryResponse:
        if request.gallery_id in self.galleries:
            _abort(context, grpc.StatusCode.ALREADY_EXISTS, "GALLERY_EXISTS", f"gallery {request.gallery_id!r} exists")
        gallery = self.galleries[request.gallery_id] = _Gallery(request.gallery_id, request.description)
        gallery.policy = request.quality_policy or gallery.policy
        return gallery_pb2.CreateGalleryResponse(gallery=gallery.message())

    def GetGallery(self, request: Any, context: Any) -> gallery_pb2.GetGalleryResponse:
        if request.gallery_id in self.slow:
            self.slow[request.gallery_id].wait(2 * PATIENCE_SECONDS)
        return gallery_pb2.GetGalleryResponse(gallery=self._gallery(request, context).message())

    def GetMove(self, request: Any, context: Any) -> gallery_pb2.GetMoveResponse:
        one = self._gallery(request, context)
        assert one.move is not None
        other = self.galleries[one.move.other_gallery_id]
        answers, waits = (one, other) if one.move.answers else (other, one)
        left = answers.subjects.keys() - waits.subjects.keys()
        return gallery_pb2.GetMoveResponse(gallery=answers.message(), waiting=waits.message(), left_count=len(left))

    def ListGalleries(self, request: Any, context: Any) -> gallery_pb2.ListGalleriesResponse:
        return gallery_pb2.ListGalleriesResponse(galleries=[g.message() for _, g in sorted(self.galleries.items())])

    def DeleteGallery(self, request: Any, context: Any) -> gallery_pb2.DeleteGalleryResponse:
        self._gallery(request, context)
        return gallery_pb2.DeleteGalleryResponse(deleted_subjects=len(self.galleries.pop(request.gallery_id).subjects))

    def SetThreshold(self, request: Any, context: Any) -> gallery_pb2.SetThresholdResponse:
        gallery = self._gallery(request, context)
        if request.tau < 0:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "TAU_INVALID", "tau: must be finite and >= 0")
        by_hand = Threshold(tau=request.tau, source=THRESHOLD_SOURCE_GALLERY) if request.HasField("tau") else None
        gallery.set(by_hand)
        return gallery_pb2.SetThresholdResponse(threshold=gallery.threshold)

    def SetQualityPolicy(self, request: Any, context: Any) -> gallery_pb2.SetQualityPolicyResponse:
        gallery = self._gallery(request, context)
        gallery.policy = request.quality_policy
        gallery.revision += 1
        return gallery_pb2.SetQualityPolicyResponse(gallery=gallery.message())

    def ListThresholds(self, request: Any, context: Any) -> gallery_pb2.ListThresholdsResponse:
        return gallery_pb2.ListThresholdsResponse(versions=self._gallery(request, context).versions[::-1])

    def Calibrate(self, requests: Iterator[Any], context: Any) -> gallery_pb2.CalibrateResponse:
        settings = next(requests).settings
        gallery = self._gallery(settings, context)
        probes = [(request.probe, _nearest(gallery, _vector(request.probe.example.encoding))) for request in requests]
        strangers = sorted(nearest.distance for probe, nearest in probes if not probe.mated)
        if not strangers:
            _abort(context, grpc.StatusCode.FAILED_PRECONDITION, "TOO_FEW_PROBES", "0 strangers are too few")
        let_in = int(settings.target_fpir * len(strangers))
        tau = strangers[let_in] * 0.999
        mated = [(probe.subject, nearest) for probe, nearest in probes if probe.mated]
        missed = sum(nearest.subject_id != subject or nearest.distance > tau for subject, nearest in mated)
        fitted = Calibration(
            tau=tau,
            target_fpir=settings.target_fpir,
            gallery_size=len(gallery.subjects),
            fpir=let_in / len(strangers),
            fpir_high=min(1.0, (let_in + 3) / len(strangers)),
            fnir=missed / len(mated) if mated else None,
            non_mated_probes=len(strangers),
            mated_probes=len(mated),
            data=settings.data,
        )
        if not settings.dry_run:
            gallery.set(
                Threshold(tau=tau, source=THRESHOLD_SOURCE_CALIBRATION, expected_fpir=0.01, target_fpir=0.01), fitted
            )
        return gallery_pb2.CalibrateResponse(threshold=gallery.threshold, calibration=fitted)

    # Subjects

    def Enroll(self, request: Any, context: Any) -> subject_pb2.EnrollResponse:
        gallery = self._gallery(request, context)
        if not request.subject_id or request.subject_id != request.subject_id.strip():
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "ID_INVALID", "subject_id: must not be empty")
        vectors = [_chosen(example, context) for example in request.examples]
        answer = subject_pb2.EnrollResponse(subject_id=request.subject_id)
        others = [one for one in _candidates(gallery, vectors[0]) if one.subject_id != request.subject_id]
        if others:
            near = Neighbour(subject_id=others[0].subject_id, distance=others[0].distance, field="examples[0]")
            answer.nearest_other.CopyFrom(near)
            if near.distance <= AUTHOR_TAU:
                answer.doubts.add(
                    kind=DOUBT_KIND_LIKE_ANOTHER,
                    field=near.field,
                    subject_id=near.subject_id,
                    distance=near.distance,
                    limit=AUTHOR_TAU,
                )
        with self._lock:
            created = request.subject_id not in gallery.subjects
            for vector in vectors:
                gallery.add(request.subject_id, vector, f"e{next(self._ids)}")
            gallery.subjects[request.subject_id].labels.update(request.labels)
        answer.created = created
        return answer

    def AddNegative(self, request: Any, context: Any) -> subject_pb2.AddNegativeResponse:
        self.GetSubject(request, context)
        gallery = self.galleries[request.gallery_id]
        number = f"n{next(self._ids)}"
        with self._lock:
            gallery.negatives.setdefault(request.subject_id, []).append((number, _chosen(request.example, context)))
            gallery.subjects[request.subject_id].negatives.add(id=number)
            gallery.revision += 1
        return subject_pb2.AddNegativeResponse(negative_id=number)

    def GetSubject(self, request: Any, context: Any) -> subject_pb2.GetSubjectResponse:
        gallery = self._gallery(request, context)
        if request.subject_id not in gallery.subjects:
            _abort(context, grpc.StatusCode.NOT_FOUND, "SUBJECT_NOT_FOUND", f"no subject {request.subject_id!r}")
        return subject_pb2.GetSubjectResponse(subject=gallery.subjects[request.subject_id])

    def _found(self, request: Any, context: Any) -> list[str]:
        wanted = request.filter
        return sorted(
            id
            for id, subject in self._gallery(request, context).subjects.items()
            if id.startswith(wanted.id_prefix) and wanted.labels.items() <= subject.labels.items()
        )

    def ListSubjects(self, request: Any, context: Any) -> subject_pb2.ListSubjectsResponse:
        rest = [id for id in self._found(request, context) if id > request.page_token]
        page, more = rest[: request.page_size], rest[request.page_size :]
        subjects = self.galleries[request.gallery_id].subjects
        return subject_pb2.ListSubjectsResponse(
            subjects=[subjects[id] for id in page], next_page_token=page[-1] if more else ""
        )

    def CountSubjects(self, request: Any, context: Any) -> subject_pb2.CountSubjectsResponse:
        return subject_pb2.CountSubjectsResponse(subjects=len(self._found(request, context)))

    def MergeSubjects(self, request: Any, context: Any) -> subject_pb2.MergeSubjectsResponse:
        self.GetSubject(request, context)
        gallery = self.galleries[request.gallery_id]
        with self._lock:
            gone, into = gallery.subjects.pop(request.subject_id), gallery.subjects[request.into_subject_id]
            into.encodings.extend(gone.encodings)
            gallery.vectors[request.into_subject_id] += gallery.vectors.pop(request.subject_id)
            gallery.revision += 1
        return subject_pb2.MergeSubjectsResponse(gallery_revision=gallery.revision)

    def DeleteSubject(self, request: Any, context: Any) -> subject_pb2.DeleteSubjectResponse:
        self.GetSubject(request, context)
        gallery = self.galleries[request.gallery_id]
        with self._lock:
            del gallery.subjects[request.subject_id]
            gone = gallery.vectors.pop(request.subject_id)
            gallery.revision += 1
        return subject_pb2.DeleteSubjectResponse(deleted_encodings=len(gone), gallery_revision=gallery.revision)

    def DeleteEncoding(self, request: Any, context: Any) -> subject_pb2.DeleteEncodingResponse:
        self.GetSubject(request, context)
        gallery = self.galleries[request.gallery_id]
        with self._lock:
            subject = gallery.subjects[request.subject_id]
            left = [one for one in subject.encodings if one.id != request.encoding_id]
            del subject.encodings[:]
            subject.encodings.extend(left)
            gallery.vectors[request.subject_id] = [
                one for one in gallery.vectors[request.subject_id] if one[0] != request.encoding_id
            ]
            if not left:
                del gallery.subjects[request.subject_id], gallery.vectors[request.subject_id]
            gallery.revision += 1
        return subject_pb2.DeleteEncodingResponse(subject_deleted=not left, gallery_revision=gallery.revision)

    def RenameSubject(self, request: Any, context: Any) -> subject_pb2.RenameSubjectResponse:
        self.GetSubject(request, context)
        gallery = self.galleries[request.gallery_id]
        with self._lock:
            subject = gallery.subjects.pop(request.subject_id)
            subject.id = request.new_subject_id
            gallery.subjects[request.new_subject_id] = subject
            gallery.vectors[request.new_subject_id] = gallery.vectors.pop(request.subject_id)
            gallery.revision += 1
        return subject_pb2.RenameSubjectResponse(gallery_revision=gallery.revision)

    def UpdateLabels(self, request: Any, context: Any) -> subject_pb2.UpdateLabelsResponse:
        self.GetSubject(request, context)
        labels = self.galleries[request.gallery_id].subjects[request.subject_id].labels
        for key in request.remove:
            labels.pop(key, None)
        labels.update(request.labels)
        return subject_pb2.UpdateLabelsResponse()

    # Comparison

    def Identify(self, request: Any, context: Any) -> identification_pb2.IdentifyResponse:
        gallery = self._gallery(request, context)
        threshold = Threshold(tau=request.tau) if request.HasField("tau") else gallery.threshold
        answer = identification_pb2.IdentifyResponse(
            threshold=threshold,
            provenance=Provenance(
                encoder_digest=DIGEST,
                execution_provider="FakeExecutionProvider",
                gallery_revision=gallery.revision,
                gallery_size=len(gallery.subjects),
            ),
        )
        for index, probe in enumerate(request.probes):
            if probe.HasField("encoding"):
                found: list[tuple[Face | None, Vector]] = [(None, _vector(probe.encoding))]
            else:
                faces, seen = _find(probe.image, context)
                found = list(faces)
                del seen.faces[:]
                answer.photos[index].CopyFrom(seen)
            for face, vector in found:
                candidates = _candidates(gallery, vector)[: request.max_candidates or 5]
                given = [one for one in candidates if not one.HasField("negative")]
                known = bool(given) and given[0].distance <= threshold.tau
                answer.results.add(
                    decision=identification_pb2.DECISION_IDENTIFIED if known else identification_pb2.DECISION_UNKNOWN,
                    subject_id=given[0].subject_id if known else "",
                    candidates=candidates,
                    probe_index=index,
                    face=face,
                )
        return answer

    def Encode(self, request: Any, context: Any) -> identification_pb2.EncodeResponse:
        vectors = [_chosen(example, context) for example in request.examples]
        return identification_pb2.EncodeResponse(
            encodings=[Encoding(values=vector.tolist(), encoder_digest=DIGEST) for vector in vectors]
        )

    def _gallery(self, request: Any, context: Any) -> _Gallery:
        if request.gallery_id not in self.galleries:
            _abort(context, grpc.StatusCode.NOT_FOUND, "GALLERY_NOT_FOUND", f"no gallery {request.gallery_id!r}")
        return self.galleries[request.gallery_id]


def _vector(encoding: Encoding) -> Vector:
    return np.array(encoding.values, dtype=np.float64)


def _candidates(gallery: _Gallery, vector: Vector) -> list[Candidate]:
    """Nearest subjects first."""
    nearest = []
    for subject_id, rows in gallery.vectors.items():
        distance, encoding_id = min((float(((row - vector) ** 2).sum()), id) for id, row in rows)
        candidate = Candidate(subject_id=subject_id, distance=distance, encoding_id=encoding_id)
        negatives = [(float(((row - vector) ** 2).sum()), id) for id, row in gallery.negatives.get(subject_id, ())]
        if negatives and min(negatives)[0] < distance:
            candidate.negative.CopyFrom(NearerNegative(distance=min(negatives)[0], id=min(negatives)[1]))
        nearest.append(candidate)
    return sorted(nearest, key=lambda candidate: (candidate.distance, candidate.subject_id))


def _nearest(gallery: _Gallery, vector: Vector) -> Candidate:
    return (_candidates(gallery, vector) or [Candidate(distance=4.0)])[0]


def _find(image: bytes, context: Any) -> tuple[list[tuple[Face, Vector]], Photo]:
    """Squares of a picture: runs of columns that are not white."""
    try:
        picture = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
    except OSError:
        _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNDECODABLE", "probes[0].image: not a picture")
    ink: npt.NDArray[np.bool_] = np.any(picture < 250, axis=2)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], ink.any(axis=0), [False]))))
    photo = Photo(width=picture.shape[1], height=picture.shape[0], smallest_face=SMALLEST)
    faces = []
    for left, right in edges.reshape(-1, 2).tolist():
        rows = np.flatnonzero(ink[:, left:right].any(axis=1))
        side = right - left
        if side < SMALLEST:
            continue
        top = int(rows[0])
        colour = picture[top + side // 2, left + side // 2]
        marks = ((0.8, 0.35), (0.62, 0.35), (0.2, 0.35), (0.38, 0.35), (0.5, 0.65))
        face = Face(
            box=Box(x=left, y=top, width=side, height=side),
            score=1.0,
            landmarks=[Point(x=left + x * side, y=top + y * side) for x, y in marks],
            quality=FaceQuality(sharpness=20, brightness=0.5, contrast=0.2),
        )
        faces.append((face, encode_colour(colour)))
        photo.faces.append(face)
    return faces, photo


def _chosen(example: Example, context: Any) -> Vector:
    """The one face that the example means."""
    if example.HasField("encoding"):
        return _vector(example.encoding)
    faces, seen = _find(example.image, context)
    which = example.face.WhichOneof("which")
    if not faces:
        _abort(
            context, grpc.StatusCode.INVALID_ARGUMENT, "FACE_NOT_FOUND", "examples[0].image: no face was found", seen
        )
    if which == "box":
        return max(faces, key=lambda found: _overlap(found[0].box, example.face.box))[1]
    if which != "largest" and len(faces) > 1:
        words = f"examples[0].image: {len(faces)} faces were found; say which is meant"
        _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "FACES_SEVERAL", words, seen)
    return faces[0][1]


def _overlap(a: Box, b: Box) -> float:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(0.0, width) * max(0.0, height)


def _abort(context: Any, status: grpc.StatusCode, reason: str, message: str, photo: Photo | None = None) -> NoReturn:
    field, _, description = message.partition(": ")
    violations = [FieldViolation(field=field, description=description)] if description else []
    error = Error(code=status.value[0], message=message, reason=reason, photo=photo, field_violations=violations)
    context.set_trailing_metadata(((DETAIL_KEY, error.SerializeToString()),))
    context.abort(status, message)
    raise AssertionError("abort raises")
