"""oneglance.v1.SubjectService."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from oneglance.defaults import MAX_PAGE_SIZE
from oneglance.v1 import subject_pb2 as pb
from oneglance.v1.error_pb2 import Error
from oneglance.v1.subject_pb2_grpc import SubjectServiceServicer
from oneglance_core.names import composed
from oneglance_index import Note, Retention, Subject
from oneglance_server.calls import Call
from oneglance_server.offload import off_loop
from oneglance_server.service.content import MAX_EXAMPLES_PER_ENROLL, check_count
from oneglance_server.service.enrollment import Enrollment
from oneglance_server.service.services import ReadinessGate
from oneglance_server.servicers.answers import (
    to_breaches,
    to_doubts,
    to_face,
    to_faces,
    to_neighbour,
    to_page_token,
    to_provenance,
    to_timestamp,
)
from oneglance_server.servicers.encoded import with_part
from oneglance_server.servicers.encoded_subjects import composed_labels, encoded_from, encoded_outcomes
from oneglance_server.servicers.receiving import Incoming
from oneglance_server.servicers.requests import (
    call_of,
    content_from,
    contents_from,
    doubt_policy_from,
    expired_from,
    filter_from,
    on_existing_from,
    page_from,
    seconds_from,
)
from oneglance_server.servicers.streams import KeyedLock, in_order

_MOST_VALUES = 1000  # of a label
_LISTED_ON_THE_LOOP = 2000  # subjects, labels and encodings: a few milliseconds
Context = grpc.aio.ServicerContext[Any, Any]


class SubjectServicer(SubjectServiceServicer):
    def __init__(self, gate: ReadinessGate, stream_window: int) -> None:
        self._gate = gate
        self._window = stream_window

    async def Enroll(self, request: pb.EnrollRequest, context: Context) -> pb.EnrollResponse:
        return await self._enroll(call_of(context), request)

    async def BulkEnroll(  # type: ignore[override]  # the interceptor makes it an Incoming
        self, request_iterator: Incoming[pb.BulkEnrollRequest], context: Context
    ) -> AsyncIterator[pb.BulkEnrollResponse | bytes]:
        _ = self._gate.services  # refuse the whole stream while loading
        call = call_of(context, patient=True)
        subjects = KeyedLock()
        turn = asyncio.Lock()  # of messages with many: carried out in their order

        async def handle(request: pb.BulkEnrollRequest) -> pb.EnrollResponse | bytes:
            if request.HasField("encoded"):
                async with turn:
                    given = await off_loop(lambda: encoded_from(request.encoded))
                    done = await self._gate.services.encoded_enrollment.begin(call, given)
                return await encoded_outcomes(await done)
            async with subjects.hold((composed(request.item.gallery_id), composed(request.item.subject_id))):
                return await self._enroll(call, request.item)

        async for index, outcome in in_order(call, request_iterator, handle, self._window):
            if isinstance(outcome, Error):
                yield pb.BulkEnrollResponse(index=index, error=outcome)
            elif isinstance(outcome, bytes):
                yield with_part(pb.BulkEnrollResponse(index=index), "encoded", outcome)
            else:
                yield pb.BulkEnrollResponse(index=index, enrolled=outcome)

    async def GetSubject(self, request: pb.GetSubjectRequest, context: Context) -> pb.GetSubjectResponse:
        subject = await self._gate.services.enrollment.get(call_of(context), request.gallery_id, request.subject_id)
        return pb.GetSubjectResponse(subject=_to_subject(subject))

    async def ListSubjects(self, request: pb.ListSubjectsRequest, context: Context) -> pb.ListSubjectsResponse:
        size, after = page_from(request.page_size, request.page_token)
        among = filter_from(request.filter)
        page = await self._gate.services.enrollment.page(call_of(context), request.gallery_id, size, after, among)
        listed = sum(1 + len(one.labels) + len(one.encodings) + len(one.negatives) for one in page.subjects)
        subjects = await off_loop(lambda: list(map(_to_subject, page.subjects)), when=listed > _LISTED_ON_THE_LOOP)
        return pb.ListSubjectsResponse(subjects=subjects, next_page_token=to_page_token(page.next_after))

    async def CountSubjects(self, request: pb.CountSubjectsRequest, context: Context) -> pb.CountSubjectsResponse:
        found = await self._gate.services.subjects.count(
            call_of(context), request.gallery_id, request.label, filter_from(request.filter)
        )
        if not request.label:
            return pb.CountSubjectsResponse(subjects=found.subjects, gallery_revision=found.revision)
        most = sorted(found.values.items(), key=lambda one: (-one[1], one[0]))
        return pb.CountSubjectsResponse(
            subjects=found.subjects,
            values=[pb.LabelCount(value=value, subjects=count) for value, count in most[:_MOST_VALUES]],
            without=found.without,
            others=sum(count for _, count in most[_MOST_VALUES:]),
            gallery_revision=found.revision,
        )

    async def RenameSubject(self, request: pb.RenameSubjectRequest, context: Context) -> pb.RenameSubjectResponse:
        after = await self._gate.services.subjects.rename(
            call_of(context), request.gallery_id, request.subject_id, request.new_subject_id
        )
        return pb.RenameSubjectResponse(gallery_revision=after.revision)

    async def UpdateLabels(self, request: pb.UpdateLabelsRequest, context: Context) -> pb.UpdateLabelsResponse:
        after = await self._gate.services.subjects.update_labels(
            *(call_of(context), request.gallery_id, request.subject_id),
            *(dict(request.labels), list(request.remove), request.clear),
        )
        return pb.UpdateLabelsResponse(gallery_revision=after.revision)

    async def MergeSubjects(self, request: pb.MergeSubjectsRequest, context: Context) -> pb.MergeSubjectsResponse:
        moved = await self._gate.services.subjects.merge(
            call_of(context), request.gallery_id, request.subject_id, request.into_subject_id
        )
        return pb.MergeSubjectsResponse(encoding_ids=moved.encoding_ids, gallery_revision=moved.revision)

    async def MoveEncoding(self, request: pb.MoveEncodingRequest, context: Context) -> pb.MoveEncodingResponse:
        moved = await self._gate.services.subjects.move(
            *(call_of(context), request.gallery_id, request.subject_id),
            *(request.encoding_id, request.encoding_key, request.to_subject_id),
        )
        return pb.MoveEncodingResponse(
            encoding_ids=moved.encoding_ids, subject_deleted=moved.subject_deleted, gallery_revision=moved.revision
        )

    async def DeleteSubjects(self, request: pb.DeleteSubjectsRequest, context: Context) -> pb.DeleteSubjectsResponse:
        done = await self._gate.services.subjects.delete_many(
            *(call_of(context), request.gallery_id, filter_from(request.filter)),
            *(request.max_subjects, request.dry_run),
        )
        return pb.DeleteSubjectsResponse(
            deleted=[
                pb.DeletedSubject(subject_id=subject_id, encodings=one.encodings, receipt=one.receipt)
                for subject_id, one in done.deleted.items()
            ],
            remaining=done.remaining,
            gallery_revision=done.revision,
        )

    async def DeleteEncoding(self, request: pb.DeleteEncodingRequest, context: Context) -> pb.DeleteEncodingResponse:
        deleted = await self._gate.services.enrollment.delete_encoding(
            call_of(context), request.gallery_id, request.subject_id, request.encoding_id, request.encoding_key
        )
        return pb.DeleteEncodingResponse(
            subject_deleted=deleted.subject_deleted, gallery_revision=deleted.revision, receipt=deleted.receipt
        )

    async def DeleteSubject(self, request: pb.DeleteSubjectRequest, context: Context) -> pb.DeleteSubjectResponse:
        deleted = await self._gate.services.enrollment.delete_subject(
            call_of(context), request.gallery_id, request.subject_id
        )
        return pb.DeleteSubjectResponse(
            deleted_encodings=deleted.encodings, gallery_revision=deleted.revision, receipt=deleted.receipt
        )

    async def SetRetention(self, request: pb.SetRetentionRequest, context: Context) -> pb.SetRetentionResponse:
        after = await self._gate.services.enrollment.set_retention(
            call_of(context), request.gallery_id, request.subject_id, _retention_from(request.retention)
        )
        return pb.SetRetentionResponse(gallery_revision=after.revision)

    async def ListExpired(self, request: pb.ListExpiredRequest, context: Context) -> pb.ListExpiredResponse:
        at = seconds_from(request.at, "at") if request.HasField("at") else None
        size, token = page_from(request.page_size or MAX_PAGE_SIZE, request.page_token)
        found, last = await self._gate.services.enrollment.expired(call_of(context), at, size, expired_from(token))
        return pb.ListExpiredResponse(
            subjects=[
                pb.ExpiredSubject(
                    gallery_id=one.gallery_id, subject_id=one.subject_id, retention=_to_retention(one.retention)
                )
                for one in found
            ],
            next_page_token=to_page_token(None if last is None else f"{last.retention.expires!r}/{last.number}"),
        )

    async def AddNegative(self, request: pb.AddNegativeRequest, context: Context) -> pb.AddNegativeResponse:
        content = content_from(request.example, "example")
        answer = await self._gate.services.enrollment.add_negative(
            call_of(context), request.gallery_id, request.subject_id, content
        )
        return pb.AddNegativeResponse(
            negative_id=answer.negative.id, provenance=to_provenance(answer.provenance), face=to_face(answer.face)
        )

    async def DeleteNegative(self, request: pb.DeleteNegativeRequest, context: Context) -> pb.DeleteNegativeResponse:
        after = await self._gate.services.enrollment.delete_negative(
            call_of(context), request.gallery_id, request.subject_id, request.negative_id
        )
        return pb.DeleteNegativeResponse(gallery_revision=after.revision)

    async def _enroll(self, call: Call, request: pb.EnrollRequest) -> pb.EnrollResponse:
        check_count("examples", request.examples, MAX_EXAMPLES_PER_ENROLL)
        on_existing = on_existing_from(request.on_existing, "on_existing")
        # Before content_digest takes the request apart.
        accept_breaches = request.accept_breaches
        doubt = doubt_policy_from(request.doubt_policy, "doubt_policy") if request.doubt_policy else None
        retention = _retention_from(request.retention) if request.HasField("retention") else None
        notes = [Note(one.key, one.source) for one in request.examples]
        enrollment = Enrollment(
            gallery_id=request.gallery_id,
            subject_id=request.subject_id,
            contents=await contents_from(request.examples, "examples"),
            labels=dict(request.labels),
            on_existing=on_existing,
            request_id=request.request_id,
            request_digest=await off_loop(lambda: content_digest(request)) if request.request_id else b"",
            accept_breaches=accept_breaches,
            doubt_policy=doubt,
            retention=retention,
            notes=notes,
        )
        answer = await self._gate.services.enrollment.enroll(call, enrollment)
        enrolled = answer.enrolled
        return pb.EnrollResponse(
            subject_id=enrolled.subject_id,
            encoding_ids=enrolled.encoding_ids,
            created=enrolled.created,
            replayed=enrolled.replayed,
            provenance=to_provenance(answer.provenance),
            faces=to_faces(answer.faces),
            breaches=to_breaches(answer.breaches),
            nearest_other=to_neighbour(enrolled.nearest_other),
            doubts=to_doubts(enrolled.doubts),
        )


def content_digest(request: pb.EnrollRequest) -> bytes:
    """SHA-256 of the request's deterministic serialization without its request id, however its names are spelled. Takes
    the request apart.

    One example at a time: to serialize a message holds up all threads, 1 ms per megabyte.
    """
    before = pb.EnrollRequest(gallery_id=composed(request.gallery_id), subject_id=composed(request.subject_id))
    digest = hashlib.sha256(before.SerializeToString(deterministic=True))
    for example in request.examples:
        example.key, example.source = composed(example.key), composed(example.source)
        only = pb.EnrollRequest(examples=[example])
        digest.update(only.SerializeToString(deterministic=True))
    labels = composed_labels(request.labels)
    for field in ("gallery_id", "subject_id", "examples", "request_id", "labels"):
        request.ClearField(field)
    request.labels.update(labels)
    digest.update(request.SerializeToString(deterministic=True))
    return digest.digest()


def _to_subject(subject: Subject) -> pb.Subject:
    return pb.Subject(
        id=subject.id,
        labels=subject.labels,
        encodings=[
            pb.EncodingRecord(
                id=encoding.id,
                create_time=to_timestamp(encoding.created),
                key=encoding.note.key,
                source=encoding.note.source,
            )
            for encoding in subject.encodings
        ],
        negatives=[
            pb.NegativeRecord(id=negative.id, create_time=to_timestamp(negative.created))
            for negative in subject.negatives
        ],
        create_time=to_timestamp(subject.created),
        update_time=to_timestamp(subject.updated),
        retention=None if subject.retention == Retention() else _to_retention(subject.retention),
        mapped=subject.mapped,
    )


def _to_retention(retention: Retention) -> pb.Retention:
    return pb.Retention(
        expire_time=None if retention.expires is None else to_timestamp(retention.expires),
        purpose=retention.purpose or "",
        consent=retention.consent or "",
    )


def _retention_from(message: pb.Retention) -> Retention:
    expires = None
    if message.HasField("expire_time"):
        expires = seconds_from(message.expire_time, "retention.expire_time")
    return Retention(expires, message.purpose or None, message.consent or None)
