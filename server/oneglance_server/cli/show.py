"""Answers for people and for programs."""

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from oneglance.client.errors import OneglanceError
from oneglance.v1.common_pb2 import Candidate, Provenance, Threshold, ThresholdSource
from oneglance.v1.error_pb2 import Error, FieldViolation
from oneglance.v1.gallery_pb2 import DeleteGalleryResponse, Gallery
from oneglance.v1.identification_pb2 import (
    DECISION_IDENTIFIED,
    EncodeResponse,
    IdentifyResponse,
    IdentifyStreamResponse,
    VerifyResponse,
)
from oneglance.v1.model_pb2 import DescribeModelResponse, Model
from oneglance.v1.subject_pb2 import (
    BulkEnrollResponse,
    DeleteEncodingResponse,
    DeleteSubjectResponse,
    EnrollResponse,
    Subject,
)


def as_json(message: Message) -> str:
    """One line of JSON, field names as in the .proto, enums by name."""
    return MessageToJson(
        message, preserving_proto_field_name=True, indent=None, always_print_fields_with_no_presence=True
    )


def as_text(message: Message) -> str:
    """A few words for a person."""
    return _TEXTS[type(message)](message)


def error_message(error: OneglanceError) -> Error:
    """The message that ``error`` came as."""
    return Error(
        code=error.code.value[0],
        message=error.message,
        reason=error.reason,
        field_violations=[FieldViolation(field=field, description=text) for field, text in error.field_violations],
        metadata=error.metadata,
    )


def _threshold(threshold: Threshold) -> str:
    if not threshold.source:
        return "tau not set"
    source = ThresholdSource.Name(threshold.source).removeprefix("THRESHOLD_SOURCE_").lower()
    text = f"tau {threshold.tau:.4f} from the {source}" + (f" ({threshold.id})" if threshold.id else "")
    if threshold.HasField("expected_fpir"):
        text += f", expected FPIR at most {threshold.expected_fpir:.2%}"
    return text


def _candidates(candidates: Iterable[Candidate]) -> str:
    return "  ".join(f"{c.subject_id} {c.distance:.4f}" for c in candidates) or "nobody enrolled"


def _provenance(p: Provenance) -> str:
    where = (
        f"{p.index_kind} on {p.index_device}, {'exact' if p.exact else 'approximate'}" if p.index_kind else "no index"
    )
    return (
        f"encoder {p.encoder_digest[:12]} on {p.execution_provider}; {where}; "
        f"revision {p.gallery_revision}, {p.gallery_size} subjects"
    )


def _gallery(g: Gallery) -> str:
    loaded = "" if g.encoder_loaded else " (not loaded)"
    return (
        f"{g.id}: {g.subject_count} subjects, {g.encoding_count} encodings of {g.dimension}, revision {g.revision}, "
        f"encoder {g.encoder_digest[:12]}{loaded}, {_threshold(g.threshold)}"
    )


def _subject(s: Subject) -> str:
    labels = "".join(f" {key}={value}" for key, value in sorted(s.labels.items()))
    return f"{s.id}: encodings {', '.join(e.id for e in s.encodings)}{labels}"


def _enrolled(r: EnrollResponse) -> str:
    how = "already answered" if r.replayed else "new subject" if r.created else "known subject"
    return f"{r.subject_id}: {how}, encodings {', '.join(r.encoding_ids)}, revision {r.provenance.gallery_revision}"


def _verified(r: VerifyResponse) -> str:
    sign = "<=" if r.same else ">"
    return f"{'same' if r.same else 'different'}: d {r.distance:.4f} {sign} {_threshold(r.threshold)}"


def _identified(r: IdentifyResponse) -> str:
    lines = []
    for result in r.results:
        decision = result.subject_id if result.decision == DECISION_IDENTIFIED else "unknown"
        lines.append(f"{decision}\n  nearest: {_candidates(result.candidates)}")
        if result.matches:
            more = " and more" if result.matches_truncated else ""
            lines.append(f"  under tau: {_candidates(result.matches)}{more}")
    return "\n".join([*lines, f"  {_threshold(r.threshold)}", f"  {_provenance(r.provenance)}"])


def _model(m: Model) -> str:
    shape = " x ".join(map(str, m.input.shape))
    return (
        f"{m.name} {m.digest[:12]}: {m.input.kind} {shape} {m.input.color} -> {m.dimension}, {m.metric}, "
        f"on {m.execution_provider}, {_threshold(m.threshold)}"
    )


def _encodings(r: EncodeResponse) -> str:
    return "\n".join(
        f"{e.encoder_digest[:12]} [{len(e.values)}]: {' '.join(f'{v:+.3f}' for v in e.values[:6])} ..."
        for e in r.encodings
    )


def _item(r: Any, outcome: str) -> str:
    return f"{r.index}: " + (f"refused: {r.error.message}" if r.HasField("error") else as_text(getattr(r, outcome)))


_TEXTS: dict[type[Message], Callable[[Any], str]] = {
    Gallery: _gallery,
    DeleteGalleryResponse: lambda r: f"deleted, {r.deleted_subjects} subjects with it",
    Threshold: _threshold,
    EnrollResponse: _enrolled,
    BulkEnrollResponse: lambda r: _item(r, "enrolled"),
    Subject: _subject,
    DeleteEncodingResponse: lambda r: "deleted" + (", the subject with it" if r.subject_deleted else ""),
    DeleteSubjectResponse: lambda r: f"deleted, encodings: {r.deleted_encodings}, revision {r.gallery_revision}",
    VerifyResponse: _verified,
    IdentifyResponse: _identified,
    IdentifyStreamResponse: lambda r: _item(r, "response"),
    EncodeResponse: _encodings,
    Model: _model,
    DescribeModelResponse: lambda r: f"{_model(r.model)}\n{r.manifest_json}",
}
