"""Answers as text for people, and as JSON for programs."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from oneglance.client.errors import OneglanceError
from oneglance.v1.access_pb2 import ApiKey, CreateApiKeyResponse, GetIdentityResponse
from oneglance.v1.approximation_pb2 import CheckedProbes
from oneglance.v1.common_pb2 import (
    DECIDED_BY_PROBABILITY,
    Breach,
    Calibration,
    Candidate,
    Provenance,
    Threshold,
)
from oneglance.v1.detection_pb2 import DetectFacesResponse
from oneglance.v1.error_pb2 import Error, FieldViolation
from oneglance.v1.face_pb2 import Face, Photo
from oneglance.v1.gallery_pb2 import (
    DRIFT_STATE_SUSPECTED,
    CalibrateResponse,
    CreateBackupResponse,
    DeleteGalleryResponse,
    DriftWatch,
    FillFromCropsResponse,
    Gallery,
    GetMoveResponse,
    ThresholdVersion,
)
from oneglance.v1.identification_pb2 import (
    DECISION_NOT_COMPARED,
    DECISION_UNKNOWN,
    UNKNOWN_REASON_AMBIGUOUS,
    UNKNOWN_REASON_NEGATIVE,
    EncodeResponse,
    IdentifyResponse,
    IdentifyResult,
    IdentifyStreamResponse,
    ListLookAlikesResponse,
    VerifyResponse,
)
from oneglance.v1.mapping_pb2 import FillByMapResponse
from oneglance.v1.model_pb2 import DescribeModelResponse, Model, PairHead
from oneglance.v1.server_pb2 import GetServerResponse
from oneglance.v1.stylization_pb2 import Style, StylizedPicture
from oneglance.v1.subject_pb2 import (
    AddNegativeResponse,
    CountSubjectsResponse,
    DeletedSubject,
    DeleteEncodingResponse,
    DeleteNegativeResponse,
    DeleteSubjectResponse,
    DeleteSubjectsResponse,
    EncodingRecord,
    EnrollResponse,
    ExpiredSubject,
    MergeSubjectsResponse,
    MoveEncodingResponse,
    RenameSubjectResponse,
    Retention,
    SetRetentionResponse,
    Subject,
    UpdateLabelsResponse,
)
from oneglance.v1.succession_pb2 import LeftSubject, LiveComparison
from oneglance_apps.picture_formats import format_name
from oneglance_apps.text import (
    breach,
    counted,
    distance,
    doubt,
    doubt_policy_name,
    drift_name,
    exact_because,
    fusion_name,
    ids,
    index_name,
    joined,
    model_name,
    neighbour,
    policy_name,
    probability,
    short_digest,
    source_name,
)
from oneglance_core.printable import printable


def as_json(message: Message) -> str:
    """One line of JSON: field names as in the .proto, enums by name."""
    return MessageToJson(
        message, preserving_proto_field_name=True, indent=None, always_print_fields_with_no_presence=True
    )


def as_text(message: Message) -> str:
    """A line, or a few lines, for people."""
    return _TEXTS[type(message)](message)


def error_message(error: OneglanceError) -> Error:
    """The message that the server sent as ``error``."""
    return Error(
        code=error.code.value[0],
        message=error.message,
        reason=error.reason,
        field_violations=[FieldViolation(field=field, description=text) for field, text in error.field_violations],
        metadata=error.metadata,
        photo=error.photo,
        breaches=error.breaches,
        doubts=error.doubts,
    )


def _threshold(threshold: Threshold) -> str:
    if not threshold.source:
        return "tau not set"
    text = f"tau {distance(threshold.tau)} from the {source_name(threshold)}"
    names = [threshold.id] if threshold.id else []
    if threshold.version and threshold.id != str(threshold.version):
        names.append(f"version {threshold.version}")
    text += f" ({', '.join(names)})" if names else ""
    if threshold.HasField("expected_fpir"):
        text += f", expected FPIR about {threshold.expected_fpir:.2%}"
        if threshold.HasField("expected_fpir_high"):
            text += f" ({threshold.expected_fpir_low:.2%} to {threshold.expected_fpir_high:.2%})"
    if threshold.HasField("expected_fmr"):
        text += f", expected FMR about {threshold.expected_fmr:.2%}"
    return text


def _calibration(c: Calibration) -> str:
    fnir = f"FNIR {c.fnir:.2%}" if c.HasField("fnir") else "FNIR not measured"
    return (
        f"tau {distance(c.tau)} for FPIR {c.target_fpir:.2%} at {c.gallery_size} enrolled: "
        f"measured FPIR {c.fpir:.2%} (95 %: {c.fpir_low:.2%} to {c.fpir_high:.2%}), {fnir}; "
        f"{c.non_mated_probes} pictures of strangers, {c.mated_probes} of subjects" + (f"; {c.data}" if c.data else "")
    )


def _calibrated(r: CalibrateResponse) -> str:
    lines = [_calibration(r.calibration)]
    if r.skipped:
        reasons = Counter(skipped.error.reason for skipped in r.skipped)
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        more = f"; these are the first of {r.skipped_count:,}" if r.skipped_count > len(r.skipped) else ""
        lines.append(f"skipped: {listed}{more}")
    return "\n".join([*lines, f"in force: {_threshold(r.threshold)}"])


def _threshold_version(v: ThresholdVersion) -> str:
    when = f" {v.set_time.ToJsonString()}" if v.HasField("set_time") else ""
    if v.HasField("subject_count"):
        when += f" at {counted(v.subject_count, 'subject')}, {counted(v.encoding_count, 'encoding')}"
    what = _threshold(v.threshold) if v.HasField("threshold") else "cleared"
    return f"{v.version}{when}: {what}" + (f"\n  {_calibration(v.calibration)}" if v.HasField("calibration") else "")


def _candidates(candidates: Iterable[Candidate]) -> str:
    found = (
        f"{c.subject_id} {_measured(c)}{' (mapped)' if c.mapped else ''}{_nearer(c)}{_labels(c.labels)}"
        for c in candidates
    )
    return "  ".join(found) or "nobody enrolled"


def _labels(labels: Mapping[str, str]) -> str:
    return "".join(f" {printable(key)}={printable(value)}" for key, value in sorted(labels.items()))


def _nearer(found: Candidate | VerifyResponse) -> str:
    """That a negative is nearer, if one is."""
    return f" (not: {distance(found.negative.distance)} from a negative)" if found.HasField("negative") else ""


def _measured(found: Candidate | VerifyResponse) -> str:
    """The distance, the probability, and the score where that is what was compared with tau."""
    told = [f"probability {probability(found.probability)}"] if found.HasField("probability") else []
    told += [f"score {distance(found.score)}"] if found.HasField("score") else []
    return distance(found.distance) + (f" ({', '.join(told)})" if told else "")


def _provenance(p: Provenance) -> str:
    by = f" on {p.execution_provider}" if p.execution_provider else ""  # nothing was encoded
    return (
        f"encoder {short_digest(p.encoder_digest)}{by}; {index_name(p)}; "
        f"revision {p.gallery_revision}, {counted(p.gallery_size, 'subject')}{_mapped(p)}"
    )


def _mapped(told: Provenance | Gallery) -> str:
    """What of a gallery is mapped, and what that costs; empty where nothing is."""
    if not told.HasField("mapped"):
        return ""
    mapped, loss = told.mapped, told.mapped.loss
    outdated = f", {mapped.outdated_count} of them by an earlier map: run fill-by-map" if mapped.outdated_count else ""
    return (
        f"\n  MAPPED: {counted(mapped.subject_count, 'subject')} with encodings of another encoder, mapped{outdated}."
        f" Of their probes {loss.fnir:.2%} are missed, {loss.true_fnir:.2%} would be by encodings of this encoder"
        f" (FNIR, measured on {counted(loss.probe_count, 'probe')}): enroll them again"
    )


def _filled_by_map(r: FillByMapResponse) -> str:
    if not r.HasField("loss"):
        refused = f"; {r.refused_count} can't be, and are left" if r.refused_count else ""
        ended = "" if r.finished else "; not finished: run it again"
        return f"{counted(r.mapped_count, 'subject')} mapped{refused}{ended}"
    loss = r.loss
    return (
        f"map ({loss.kind}) fitted on {counted(loss.fitted_pair_count, 'pair')} of"
        f" {counted(loss.fitted_subject_count, 'subject')}; measured on {counted(loss.probe_count, 'probe')} of"
        f" {counted(loss.measured_subject_count, 'other subject')}, tau {distance(loss.tau)}:\n"
        f"  missed (FNIR): {loss.fnir:.2%} with mapped encodings, {loss.true_fnir:.2%} with true ones\n"
        f"  taken for another where their own subject isn't enrolled: {loss.let_in_count:,} with mapped encodings,"
        f" {loss.true_let_in_count:,} with true ones\n"
        f"{counted(r.subject_count, 'subject')} to be mapped"
    )


def _gallery(g: Gallery) -> str:
    loaded = "" if g.encoder_loaded else " (not loaded)"
    negatives = f", {counted(g.negative_count, 'negative')}" if g.negative_count else ""
    gap = f", least gap {distance(g.least_gap)}" if g.least_gap else ""
    drift = "".join(f"\n  drift suspected since {one.since.ToJsonString()}: {one.advice}" for one in _suspected(g))
    decided_by = ", decided by probability" if g.decided_by == DECIDED_BY_PROBABILITY else ""
    crops = ", keeps crops of pictures" if g.keep_crops else ""
    return (
        f"{g.id}: {counted(g.subject_count, 'subject')}, {counted(g.encoding_count, 'encoding')} "
        f"of {g.dimension} numbers, revision {g.revision}, "
        f"encoder {short_digest(g.encoder_digest)}{loaded}, by {fusion_name(g.fusion)}{decided_by}, "
        f"{_threshold(g.threshold)}, "
        f"quality policy {policy_name(g.quality_policy)}, doubt policy {doubt_policy_name(g.doubt_policy)}"
        f"{gap}{negatives}{crops}, drift: {drift_name(g.drift.state)}{drift}{_approximation(g)}{_move(g)}{_mapped(g)}"
    )


def _move(g: Gallery) -> str:
    """Its part in a move to another encoder; empty where it has none."""
    if not g.HasField("move"):
        return ""
    other = g.move.other_gallery_id
    if not g.move.answers:
        return f"\n  waits to {'take again' if g.move.origin else 'take'} the place of {other}"
    if g.move.HasField("cut_over_time"):
        return (
            f"\n  answers since {g.move.cut_over_time.ToJsonString()} in the place of {other}, which waits (roll-back)"
        )
    return f"\n  moves to another encoder: {other} waits to take its place (get-move)"


def _moving(r: GetMoveResponse) -> str:
    lacking = f", {r.lacking_negatives_count} lack negatives" if r.lacking_negatives_count else ""
    fewer = f", {r.fewer_encodings_count} have fewer encodings there" if r.fewer_encodings_count else ""
    mapped = f", {r.mapped_count} only mapped (list-left)" if r.mapped_count else ""
    crops = f" ({r.with_crops_count} with crops: fill-from-crops)" if r.with_crops_count else ""
    left = f"{counted(r.left_count, 'subject')} left to be moved{crops}{lacking}{fewer}{mapped}"
    return f"{_gallery(r.gallery)}\n{_gallery(r.waiting)}\n{left}{_compared(r.comparison)}"


def _left(one: LeftSubject) -> str:
    told = [word for word, told in (("fewer negatives", one.lacks_negatives), ("only mapped", one.mapped)) if told]
    return one.subject_id + (f": {', '.join(told)}" if told else "")


def _filled(r: FillFromCropsResponse) -> str:
    changed = f", {r.changed_count} changed meanwhile" if r.changed_count else ""
    refused = "".join(
        f"\n  {one.subject_id}{f', encoding {one.encoding_id}' if one.encoding_id else ''}: {one.error.message}"
        for one in r.refused
    )
    return f"{counted(r.moved_count, 'subject')} moved{changed}{refused}"


def _compared(c: LiveComparison) -> str:
    if not c.probes:
        return ""
    return (
        f"\n{counted(c.probes, 'live probe')} by both: {c.decided_otherwise:,} decided otherwise,"
        f" {c.same_nearest / c.probes:.2%} with the same nearest subject;"
        f" {c.seconds * 1000:.0f} and {c.waiting_seconds * 1000:.0f} ms a call"
    )


def _approximation(g: Gallery) -> str:
    """What its answers may lose, and how they come about; empty where they may lose nothing."""
    if not g.HasField("approximation"):
        return ""
    state = g.approximation_state
    if state.approximate:
        now = f"approximate up to tau {distance(state.tau)}, about {state.share_read:.2%} of the encodings are read"
    else:
        now = f"exact for now ({exact_because(state.because)})"
    back = ", else exact" if g.approximation.exact_on_alarm else ""
    return (
        f"\n  at least {100 * g.approximation.mates_found:.10g} % of mates found{back}: {now}; "
        f"searched exactly, too: {_checked(state.known, 'known probe')}, {_checked(state.strangers, 'stranger')}"
        f"{'; ALARM: more is lost than may be' if state.alarm else ''}"
    )


def _checked(checked: CheckedProbes, noun: str) -> str:
    return f"{counted(checked.probes, noun)} ({checked.differing:,} decided otherwise)"


def _suspected(g: Gallery) -> list[DriftWatch]:
    return [one for one in g.drift.watches if one.state == DRIFT_STATE_SUSPECTED]


def _look_alikes(r: ListLookAlikesResponse) -> str:
    lines = [f"{pair.subject_id}  {pair.other_subject_id}  {distance(pair.distance)}" for pair in r.pairs]
    lines += [f"  {name} has more look-alikes than were looked at" for name in r.truncated_subject_ids]
    return "\n".join([*lines, f"pairs within {distance(r.within)}: {len(r.pairs)}", f"  {_provenance(r.provenance)}"])


def _backup(r: CreateBackupResponse) -> str:
    lines = [
        f"  {one.gallery_id}: revision {one.revision}, {counted(one.subject_count, 'subject')}" for one in r.galleries
    ]
    return "\n".join([f"{r.size_bytes:,} bytes, checked, as of {r.create_time.ToJsonString()}", *lines])


def _receipt(
    deleted: DeleteGalleryResponse | DeleteEncodingResponse | DeleteSubjectResponse | DeletedSubject,
) -> str:
    return f"\nreceipt: {deleted.receipt}" if deleted.receipt else ""


def _retention(kept: Retention) -> str:
    until = f"  until {kept.expire_time.ToJsonString()}" if kept.HasField("expire_time") else ""
    purpose = f"  for {printable(kept.purpose)}" if kept.purpose else ""
    return until + purpose + (f"  by consent {printable(kept.consent)}" if kept.consent else "")


def _subject(s: Subject) -> str:
    negatives = f", {ids('negative', [n.id for n in s.negatives])}" if s.negatives else ""
    encodings = ids("encoding", list(map(_encoding, s.encodings)))
    mapped = " (mapped)" if s.mapped else ""
    return f"{s.id}: {encodings}{mapped}{negatives}{_labels(s.labels)}{_retention(s.retention)}"


def _encoding(one: EncodingRecord) -> str:
    named = [f"key {_shortened(printable(one.key))}"] if one.key else []
    named += [f"from {printable(one.source)}"] if one.source else []
    return one.id + (f" ({', '.join(named)})" if named else "")


def _counts(r: CountSubjectsResponse) -> str:
    lines = [f"  {printable(one.value) or 'empty'}: {one.subjects}" for one in r.values]
    lines += [f"  other values: {r.others}"] if r.others else []
    lines += [f"  without: {r.without}"] if r.without else []
    return "\n".join([f"{counted(r.subjects, 'subject')}, revision {r.gallery_revision}", *lines])


def _moved(ids: Mapping[str, str]) -> str:
    return ", ".join(f"{former} is {new} now" for former, new in sorted(ids.items(), key=lambda one: int(one[1])))


def _deleted_many(r: DeleteSubjectsResponse) -> str:
    lines = [
        f"{one.subject_id}: deleted, {counted(one.encodings, 'encoding')} with it{_receipt(one)}" for one in r.deleted
    ]
    return "\n".join([*lines, f"deleted: {len(r.deleted)}, remaining: {r.remaining}, revision {r.gallery_revision}"])


def _enrolled(r: EnrollResponse) -> str:
    how = "already answered" if r.replayed else "new subject" if r.created else "known subject"
    faces = "".join(f"\n  {_face(face)}" for face in r.faces)
    revision = r.provenance.gallery_revision
    others = f"\n  nearest other subject: {neighbour(r.nearest_other)}" if r.HasField("nearest_other") else ""
    doubts = "".join(f"\n  doubtful: {doubt(one)}" for one in r.doubts)
    return (
        f"{r.subject_id}: {how}, {ids('encoding', r.encoding_ids)}, revision {revision}{faces}{others}"
        f"{_breaches(r.breaches)}{doubts}"
    )


def _verified(r: VerifyResponse) -> str:
    compared = r.score if r.HasField("score") else r.distance
    sign = "<=" if compared <= r.threshold.tau else ">"
    decision = f"{'same' if r.same else 'different'}: d {_measured(r)} {sign} {_threshold(r.threshold)}"
    mapped = f" (mapped){_mapped(r.provenance)}" if r.mapped else _mapped(r.provenance)
    return decision + _nearer(r) + mapped + _breaches(r.breaches)


def _breaches(found: Iterable[Breach]) -> str:
    """A line each."""
    return "".join(f"\n  doubtful: {one.field}: {breach(one)}" for one in found)


def _face(face: Face) -> str:
    box = face.box
    text = f"face {box.width:.0f} x {box.height:.0f} at ({box.x:.0f}, {box.y:.0f}), score {face.score:.2f}"
    if face.HasField("uprightness") and not face.uprightness.upright:
        text += f", not upright and aligned ({face.uprightness.score:.3f})"
    if face.HasField("quality"):
        text += f", sharpness {face.quality.sharpness:.1f}, roll {face.quality.roll_degrees:+.0f} degrees"
    return text


def _photo(photo: Photo) -> str:
    if not photo.faces:
        return f"no face in {photo.width} x {photo.height}; searched from {photo.smallest_face:.0f} pixels"
    more = " and more" if photo.faces_truncated else ""
    more += f", the photo turned by {photo.turn_degrees} degrees" if photo.turn_degrees else ""
    return f"faces: {len(photo.faces)}{more}" + "".join(f"\n  {_face(face)}" for face in photo.faces)


def _identified(r: IdentifyResponse) -> str:
    lines = []
    probes = sorted({*r.photos, *(result.probe_index for result in r.results)})
    for probe in probes:
        found = [result for result in r.results if result.probe_index == probe]
        if r.photos and len(probes) > 1:
            lines.append(f"probes[{probe}]:")
        if not found:
            lines.append(_photo(r.photos[probe]))
        lines.extend(map(_result, found))
        if probe in r.photos and r.photos[probe].faces_truncated:
            lines.append("  and more faces, not looked at")
        elif probe in r.photos and found:
            lines.append(f"  faces below {r.photos[probe].smallest_face:.0f} pixels were not looked for")
        if probe in r.photos and (turn := r.photos[probe].turn_degrees):
            lines.append(f"  the photo was turned by {turn} degrees")
    return "\n".join([*lines, f"  {_threshold(r.threshold)}", f"  {_provenance(r.provenance)}"])


_DECISIONS = {DECISION_UNKNOWN: "unknown", DECISION_NOT_COMPARED: "not compared"}


def _result(result: IdentifyResult) -> str:
    decision = _DECISIONS.get(result.decision, result.subject_id)
    if result.unknown_reason == UNKNOWN_REASON_AMBIGUOUS:
        decision += f": {result.nearest_subject_id} or {result.next_subject_id}, {distance(result.gap)} apart"
    if result.HasField("taken"):
        decision += f": another face is nearer to {result.taken.subject_id} (result {result.taken.result_index + 1})"
    if result.unknown_reason == UNKNOWN_REASON_NEGATIVE:
        decision += ": whoever is near has a negative that is nearer"
    where = f"  ({_face(result.face)})" if result.HasField("face") else ""
    lines = [f"{decision}{where}"]
    if result.decision != DECISION_NOT_COMPARED:
        lines.append(f"  nearest: {_candidates(result.candidates)}")
    if result.matches:
        lines.append(f"  under tau: {_candidates(result.matches)}{' and more' if result.matches_truncated else ''}")
    return "\n".join(lines) + _breaches(result.breaches)


def _model(m: Model) -> str:
    if m.kind == "stylizer":
        return f"{model_name(m)}: stylizer, on {m.execution_provider}"
    if m.kind != "encoder":
        return f"{model_name(m)}: {m.kind} of faces, on {m.execution_provider}"
    shape = " x ".join(map(str, m.input.shape))
    return (
        f"{model_name(m)}: {m.input.kind} {shape} {m.input.color} -> {m.dimension}, {m.metric}, "
        f"on {m.execution_provider}, {_threshold(m.threshold)}"
        + (_pair_head(m.pair_head) if m.HasField("pair_head") else "")
    )


def _pair_head(head: PairHead) -> str:
    if not head.HasField("calibration_error"):
        return f", pair head {head.form}, its probabilities not measured"
    return f", pair head {head.form}, off by {head.calibration_error:.2%} on {head.data}"


def _encodings(r: EncodeResponse) -> str:
    rows = "\n".join(
        f"{short_digest(e.encoder_digest)} [{len(e.values)}]: {' '.join(f'{v:+.3f}' for v in e.values[:6])} ..."
        for e in r.encodings
    )
    return rows + _breaches(r.breaches)


def _style(s: Style) -> str:
    stylizer = f"stylizer {s.stylizer} {short_digest(s.stylizer_digest)}{', kept by create-style' if s.kept else ''}"
    return f"{s.name}: {joined(s.title, joined(s.source, s.license, separator=', '), stylizer)}"


def _stylized(p: StylizedPicture) -> str:
    tiles = f"{p.tiles} tiles, " if p.tiles > 1 else ""
    stylizer = f"stylizer {short_digest(p.stylizer_digest)} on {p.execution_provider}"
    return f"{p.width} x {p.height} {format_name(p.format)}, {tiles}by {stylizer}"


def _item(r: Any, outcome: str) -> str:
    return f"{r.index}: " + (f"refused: {r.error.message}" if r.HasField("error") else as_text(getattr(r, outcome)))


def _shortened(key: str) -> str:
    """A digest says as much by its beginning; --json has all of it."""
    kind, colon, digest = key.partition(":")
    return f"{kind}:{digest[:12]}…" if colon and kind == "sha256" else key


def _api_key(key: ApiKey) -> str:
    ends = f", until {key.expire_time.ToJsonString()}" if key.HasField("expire_time") else ""
    return f"{key.id}  key:{key.name}, made {key.create_time.ToJsonString()}{ends}"


def _identity(r: GetIdentityResponse) -> str:
    grants = [
        f"  may {', '.join(one.rights)}" + (f" in {', '.join(one.galleries)}" if one.galleries else "")
        for one in r.grants
    ]
    return "\n".join([" ".join([r.name, *r.groups]), *(grants or ["  nothing is granted to it"])])


def _server(r: GetServerResponse) -> str:
    limits = [f"  {field.name.replace('_', ' ')}: at most {value:,}" for field, value in r.limits.ListFields()]
    about = f"oneglance {r.version}, schema {r.schema_version}, searches on {r.device}"
    return "\n".join([about, "  " + " ".join(r.capabilities), *limits])


_TEXTS: dict[type[Message], Callable[[Any], str]] = {
    ApiKey: _api_key,
    CreateApiKeyResponse: lambda r: f"{_api_key(r.key)}\n{r.secret}\nshown this once: keep it where it can't be read",
    GetIdentityResponse: _identity,
    GetServerResponse: _server,
    Gallery: _gallery,
    CreateBackupResponse: _backup,
    DeleteGalleryResponse: lambda r: f"deleted, {counted(r.deleted_subjects, 'subject')} with it{_receipt(r)}",
    GetMoveResponse: _moving,
    FillFromCropsResponse: _filled,
    FillByMapResponse: _filled_by_map,
    LeftSubject: _left,
    Threshold: _threshold,
    CalibrateResponse: _calibrated,
    ThresholdVersion: _threshold_version,
    EnrollResponse: _enrolled,
    Subject: _subject,
    DeleteEncodingResponse: lambda r: f"deleted{', the subject with it' if r.subject_deleted else ''}{_receipt(r)}",
    DeleteSubjectResponse: lambda r: (
        f"deleted, {counted(r.deleted_encodings, 'encoding')} with it, revision {r.gallery_revision}{_receipt(r)}"
    ),
    CountSubjectsResponse: _counts,
    DeleteSubjectsResponse: _deleted_many,
    RenameSubjectResponse: lambda r: f"renamed, revision {r.gallery_revision}",
    UpdateLabelsResponse: lambda r: f"set, revision {r.gallery_revision}",
    MergeSubjectsResponse: lambda r: f"merged, encoding {_moved(r.encoding_ids)}, revision {r.gallery_revision}",
    MoveEncodingResponse: lambda r: (
        f"moved, encoding {_moved(r.encoding_ids)}{', the subject is gone' if r.subject_deleted else ''},"
        f" revision {r.gallery_revision}"
    ),
    SetRetentionResponse: lambda r: f"set, revision {r.gallery_revision}",
    ExpiredSubject: lambda one: f"{one.gallery_id}  {one.subject_id}{_retention(one.retention)}",
    AddNegativeResponse: lambda r: f"negative id {r.negative_id}, revision {r.provenance.gallery_revision}",
    DeleteNegativeResponse: lambda r: f"deleted, revision {r.gallery_revision}",
    VerifyResponse: _verified,
    IdentifyResponse: _identified,
    ListLookAlikesResponse: _look_alikes,
    IdentifyStreamResponse: lambda r: _item(r, "response"),
    EncodeResponse: _encodings,
    DetectFacesResponse: lambda r: "\n".join(map(_photo, r.photos)),
    Style: _style,
    StylizedPicture: _stylized,
    Model: _model,
    DescribeModelResponse: lambda r: f"{_model(r.model)}\n{r.manifest_json}",
}
