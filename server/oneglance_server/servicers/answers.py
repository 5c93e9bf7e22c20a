"""Plain values to messages: what answers are made of."""

import base64
from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from oneglance.v1 import common_pb2 as pb
from oneglance.v1 import face_pb2 as face_pb
from oneglance.v1 import gallery_pb2 as gallery_pb
from oneglance.v1.gallery_pb2 import Drift, DriftWatch
from oneglance.v1.gallery_pb2 import Gallery as GalleryMessage
from oneglance.v1.mapping_pb2 import MapLoss as MapLossMessage
from oneglance.v1.mapping_pb2 import Mapped as MappedMessage
from oneglance.v1.succession_pb2 import GalleryMove, LiveComparison
from oneglance_core.faces.finder import Face, Photo
from oneglance_core.faces.quality import QualityPolicy
from oneglance_core.manifests import Calibration
from oneglance_index import Backup, Candidate, Doubt, DoubtKind, MapLoss, Mapped, Move, NearerNegative, Neighbour
from oneglance_server.service.comparing import Comparison
from oneglance_server.service.content import Breached, Provenance, Tau
from oneglance_server.service.doubts import DoubtPolicy
from oneglance_server.service.drift import DriftFound
from oneglance_server.service.galleries import GalleryState
from oneglance_server.servicers.approximations import to_approximation, to_approximation_state

_SOURCES = {
    "model": pb.THRESHOLD_SOURCE_MODEL,
    "gallery": pb.THRESHOLD_SOURCE_GALLERY,
    "request": pb.THRESHOLD_SOURCE_REQUEST,
    "calibration": pb.THRESHOLD_SOURCE_CALIBRATION,
    "author": pb.THRESHOLD_SOURCE_AUTHOR,
}
_POLICIES: dict[QualityPolicy, face_pb.QualityPolicy.ValueType] = {
    "off": face_pb.QUALITY_POLICY_OFF,
    "standard": face_pb.QUALITY_POLICY_STANDARD,
    "strict": face_pb.QUALITY_POLICY_STRICT,
}
_DOUBT_POLICIES: dict[DoubtPolicy, pb.DoubtPolicy.ValueType] = {
    "off": pb.DOUBT_POLICY_OFF,
    "flag": pb.DOUBT_POLICY_FLAG,
    "refuse": pb.DOUBT_POLICY_REFUSE,
}
_DOUBTS: dict[DoubtKind, pb.DoubtKind.ValueType] = {
    "like_another": pb.DOUBT_KIND_LIKE_ANOTHER,
    "unlike_own": pb.DOUBT_KIND_UNLIKE_OWN,
}

_DRIFT_STATES = {
    "not_watched": gallery_pb.DRIFT_STATE_NOT_WATCHED,
    "none": gallery_pb.DRIFT_STATE_NONE,
    "suspected": gallery_pb.DRIFT_STATE_SUSPECTED,
}
_DRIFT_OF = {"strangers": gallery_pb.DRIFT_OF_STRANGERS, "mates": gallery_pb.DRIFT_OF_MATES}


def to_face(face: Face | None) -> face_pb.Face | None:
    if face is None:
        return None
    x, y, width, height = face.box
    quality, uprightness = face.quality, face.uprightness
    return face_pb.Face(
        box=face_pb.Box(x=x, y=y, width=width, height=height),
        score=face.score,
        landmarks=[face_pb.Point(x=x, y=y) for x, y in face.points],
        quality=face_pb.FaceQuality(
            sharpness=quality.sharpness,
            brightness=quality.brightness,
            contrast=quality.contrast,
            roll_degrees=quality.roll_degrees,
            eye_distance=quality.eye_distance,
            alignment_error=quality.alignment_error,
        )
        if quality
        else None,
        uprightness=face_pb.Uprightness(
            score=uprightness.score, threshold=uprightness.threshold, upright=uprightness.enough
        )
        if uprightness
        else None,
    )


def to_faces(faces: Sequence[Face | None]) -> list[face_pb.Face]:
    """All of them, or none unless all come from photos."""
    found = [message for face in faces if (message := to_face(face))]
    return found if len(found) == len(faces) else []


def to_photo(photo: Photo, *, with_faces: bool = True, limit: int | None = None) -> face_pb.Photo:
    """``limit``: faces to list, the largest first."""
    faces = photo.faces[:limit] if with_faces else ()
    return face_pb.Photo(
        width=photo.width,
        height=photo.height,
        faces=[message for face in faces if (message := to_face(face))],
        smallest_face=photo.smallest_face,
        faces_truncated=photo.truncated or (with_faces and len(faces) < len(photo.faces)),
        turn_degrees=photo.turn_degrees,
    )


def to_breaches(found: Iterable[Breached]) -> list[pb.Breach]:
    return [
        pb.Breach(
            field=one.path,
            figure=one.breach.limit.figure,
            value=one.breach.value,
            least=one.breach.limit.least,
            most=one.breach.limit.most,
        )
        for one in found
    ]


def to_doubts(found: Iterable[Doubt]) -> list[pb.Doubt]:
    return [
        pb.Doubt(
            kind=_DOUBTS[one.kind],
            field=_example(one.example),
            subject_id=one.subject_id,
            distance=one.distance,
            limit=one.limit,
        )
        for one in found
    ]


def to_neighbour(found: Neighbour | None) -> pb.Neighbour | None:
    if found is None:
        return None
    return pb.Neighbour(subject_id=found.subject_id, distance=found.distance, field=_example(found.example))


def _example(position: int) -> str:
    return f"examples[{position}]"


def to_negative(found: NearerNegative | None) -> pb.NearerNegative | None:
    return None if found is None else pb.NearerNegative(id=found.id, distance=found.distance)


def to_backup(made: Backup) -> gallery_pb.CreateBackupResponse:
    return gallery_pb.CreateBackupResponse(
        size_bytes=made.size,
        create_time=to_timestamp(made.created),
        galleries=(
            gallery_pb.BackedUpGallery(
                gallery_id=gallery.id,
                revision=gallery.revision,
                subject_count=gallery.subjects,
                encoding_count=gallery.encodings,
            )
            for gallery in made.galleries
        ),
    )


def to_timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e6) * 1000)
    return stamp


def to_threshold(tau: Tau) -> pb.Threshold:
    return pb.Threshold(
        tau=tau.value,
        source=_SOURCES[tau.source],
        id=tau.id,
        expected_fpir=tau.fpir.value if tau.fpir else None,
        expected_fpir_low=tau.fpir.low if tau.fpir else None,
        expected_fpir_high=tau.fpir.high if tau.fpir else None,
        expected_fmr=tau.fmr.value if tau.fmr else None,
        expected_fmr_low=tau.fmr.low if tau.fmr else None,
        expected_fmr_high=tau.fmr.high if tau.fmr else None,
        target_fpir=tau.target_fpir,
        set_time=None if tau.set_time is None else to_timestamp(tau.set_time),
        version=tau.version,
    )


def to_calibration(calibration: Calibration) -> pb.Calibration:
    fields = calibration.model_dump(exclude={"fmr_curve", "fusion", "decided_by"})
    fusion, decided_by = to_fusion(calibration.fusion), to_decided_by(calibration.decided_by)
    return pb.Calibration(id=calibration.id, fusion=fusion, decided_by=decided_by, **fields)


def to_fusion(fusion: str) -> pb.Fusion.ValueType:
    return pb.Fusion.Value(f"FUSION_{fusion.upper()}")


def to_decided_by(decided_by: str) -> pb.DecidedBy.ValueType:
    return pb.DecidedBy.Value(f"DECIDED_BY_{decided_by.upper()}")


def to_score(distance: float, score: float) -> float | None:
    """None where it is the distance."""
    return None if score == distance else score


def to_provenance(provenance: Provenance) -> pb.Provenance:
    return pb.Provenance(
        encoder_digest=provenance.encoder_digest,
        execution_provider=provenance.execution_provider,
        index_kind=provenance.index_kind,
        index_device=provenance.index_device,
        exact=provenance.exact,
        gallery_revision=provenance.gallery_revision,
        gallery_size=provenance.gallery_size,
        filtered_size=provenance.filtered_size,
        gallery_uid=provenance.gallery_uid,
        unchecked=provenance.unchecked,
        mapped=to_mapped(provenance.mapped),
    )


def to_mapped(mapped: Mapped | None) -> MappedMessage | None:
    if mapped is None:
        return None
    return MappedMessage(
        subject_count=mapped.subjects,
        outdated_count=mapped.outdated,
        loss=to_loss(mapped.loss),
        fit_time=to_timestamp(mapped.fitted),
    )


def to_loss(loss: MapLoss) -> MapLossMessage:
    return MapLossMessage(
        kind=loss.kind,
        from_encoder_digest=loss.from_encoder,
        fitted_subject_count=loss.fitted_subjects,
        fitted_pair_count=loss.fitted_pairs,
        measured_subject_count=loss.measured_subjects,
        tau=loss.tau,
        probe_count=loss.probes,
        fnir=loss.missed / loss.probes if loss.probes else 1.0,  # where it is lost: the worst
        true_fnir=loss.missed_true / loss.probes if loss.probes else 1.0,
        missed_count=loss.missed,
        true_missed_count=loss.missed_true,
        let_in_count=loss.let_in,
        true_let_in_count=loss.let_in_true,
    )


def to_candidate(candidate: Candidate) -> pb.Candidate:
    return pb.Candidate(
        subject_id=candidate.subject_id,
        distance=candidate.distance,
        encoding_id=candidate.encoding_id,
        score=to_score(candidate.distance, candidate.score),
        negative=to_negative(candidate.negative),
        probability=candidate.probability,
        labels=candidate.labels,
        mapped=candidate.mapped,
    )


def to_gallery(state: GalleryState) -> GalleryMessage:
    gallery = state.gallery
    return GalleryMessage(
        id=gallery.id,
        description=gallery.description,
        encoder_digest=gallery.active.encoder_digest,
        dimension=gallery.active.dimension,
        subject_count=gallery.subjects,
        encoding_count=gallery.encodings,
        revision=gallery.revision,
        create_time=to_timestamp(gallery.created),
        threshold=to_threshold(state.tau) if state.tau else None,
        encoder_loaded=state.encoder_loaded,
        fusion=to_fusion(gallery.active.fusion),
        target_fpir=gallery.target_fpir,
        quality_policy=_POLICIES[state.quality_policy],
        least_gap=gallery.active.least_gap,
        drift=to_drift(state.drift),
        doubt_policy=_DOUBT_POLICIES[state.doubt_policy],
        negative_count=gallery.negatives,
        decided_by=to_decided_by(gallery.active.decided_by),
        uid=gallery.uid,
        unfinished=gallery.unfinished,
        approximation=to_approximation(state.approximation),
        approximation_state=to_approximation_state(state.approximation_state),
        move=None if gallery.move is None else to_move(gallery.move),
        mapped=to_mapped(gallery.mapped),
        keep_crops=gallery.keep_crops,
    )


def to_move(move: Move) -> GalleryMove:
    return GalleryMove(
        other_gallery_id=move.other,
        answers=move.answers,
        origin=move.origin,
        start_time=to_timestamp(move.started),
        cut_over_time=None if move.cut_over is None else to_timestamp(move.cut_over),
        compare_share=move.compare_share,
    )


def to_comparison(found: Comparison) -> LiveComparison:
    calls = max(1, found.calls)
    return LiveComparison(
        probes=found.probes,
        decided_otherwise=found.otherwise,
        same_nearest=found.same_nearest,
        seconds=found.seconds / calls,
        waiting_seconds=found.waiting_seconds / calls,
        dropped=found.dropped,
    )


def to_drift(found: Sequence[DriftFound]) -> Drift:
    states = [_DRIFT_STATES[one.state] for one in found]
    return Drift(
        state=max(states),
        watches=[
            DriftWatch(
                of=_DRIFT_OF[one.of],
                state=_DRIFT_STATES[one.state],
                probes=one.probes,
                since=None if one.since is None else to_timestamp(one.since),
                advice=one.advice,
            )
            for one in found
        ],
    )


def to_page_token(after: str | None) -> str:
    return "" if after is None else base64.urlsafe_b64encode(after.encode()).decode("ascii")
