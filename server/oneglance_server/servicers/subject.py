"""oneglance.v1.SubjectService."""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import grpc

from oneglance.v1 import subject_pb2 as pb
from oneglance.v1.error_pb2 import Error
from oneglance.v1.subject_pb2_grpc import SubjectServiceServicer
from oneglance_index import OnExisting, Subject
from oneglance_server.errors import InvalidRequest
from oneglance_server.service.content import MAX_EXAMPLES_PER_ENROLL, check_count
from oneglance_server.service.enrollment import Enrollment
from oneglance_server.service.services import Door
from oneglance_server.servicers.budget import Budget
from oneglance_server.servicers.convert import (
    content_from,
    deadline_of,
    page_from,
    to_faces,
    to_page_token,
    to_provenance,
    to_timestamp,
)
from oneglance_server.servicers.streams import Turns, in_order

Context = grpc.aio.ServicerContext[Any, Any]
_ON_EXISTING: dict[int, OnExisting] = {
    pb.ON_EXISTING_UNSPECIFIED: "add",
    pb.ON_EXISTING_ADD: "add",
    pb.ON_EXISTING_REPLACE: "replace",
    pb.ON_EXISTING_FAIL: "fail",
}


class SubjectServicer(SubjectServiceServicer):
    def __init__(self, door: Door, stream_window: int, budget: Budget) -> None:
        self._door = door
        self._window = stream_window
        self._budget = budget

    async def Enroll(self, request: pb.EnrollRequest, context: Context) -> pb.EnrollResponse:
        return await self._enroll(request, deadline_of(context), patient=False)

    async def BulkEnroll(
        self, request_iterator: AsyncIterable[pb.BulkEnrollRequest], context: Context
    ) -> AsyncIterator[pb.BulkEnrollResponse]:
        _ = self._door.services  # refuse the whole stream while loading
        deadline = deadline_of(context)
        turns = Turns()

        async def handle(request: pb.BulkEnrollRequest) -> pb.EnrollResponse:
            async with turns.turn((request.item.gallery_id, request.item.subject_id)):
                return await self._enroll(request.item, deadline, patient=True)

        async for index, outcome in in_order(request_iterator, handle, self._window, self._budget):
            if isinstance(outcome, Error):
                yield pb.BulkEnrollResponse(index=index, error=outcome)
            else:
                yield pb.BulkEnrollResponse(index=index, enrolled=outcome)

    async def GetSubject(self, request: pb.GetSubjectRequest, context: Context) -> pb.GetSubjectResponse:
        subject = await self._door.services.enrollment.get(request.gallery_id, request.subject_id)
        return pb.GetSubjectResponse(subject=_to_subject(subject))

    async def ListSubjects(self, request: pb.ListSubjectsRequest, context: Context) -> pb.ListSubjectsResponse:
        size, after = page_from(request.page_size, request.page_token)
        page = await self._door.services.enrollment.page(request.gallery_id, size, after)
        return pb.ListSubjectsResponse(
            subjects=[_to_subject(subject) for subject in page.subjects],
            next_page_token=to_page_token(page.next_after),
        )

    async def DeleteEncoding(self, request: pb.DeleteEncodingRequest, context: Context) -> pb.DeleteEncodingResponse:
        deleted = await self._door.services.enrollment.delete_encoding(
            request.gallery_id, request.subject_id, request.encoding_id
        )
        return pb.DeleteEncodingResponse(subject_deleted=deleted.subject_deleted, gallery_revision=deleted.revision)

    async def DeleteSubject(self, request: pb.DeleteSubjectRequest, context: Context) -> pb.DeleteSubjectResponse:
        deleted = await self._door.services.enrollment.delete_subject(request.gallery_id, request.subject_id)
        return pb.DeleteSubjectResponse(deleted_encodings=deleted.encodings, gallery_revision=deleted.revision)

    async def _enroll(self, request: pb.EnrollRequest, deadline: float | None, *, patient: bool) -> pb.EnrollResponse:
        check_count("examples", request.examples, MAX_EXAMPLES_PER_ENROLL)
        on_existing = _ON_EXISTING.get(request.on_existing)
        if on_existing is None:
            raise InvalidRequest.field("on_existing", f"unknown value {request.on_existing}")
        enrollment = Enrollment(
            gallery_id=request.gallery_id,
            subject_id=request.subject_id,
            contents=[content_from(e, f"examples[{i}]") for i, e in enumerate(request.examples)],
            labels=dict(request.labels),
            on_existing=on_existing,
            request_id=request.request_id,
            request_digest=_digest(request) if request.request_id else b"",
        )
        enrolled, provenance, faces = await self._door.services.enrollment.enroll(
            enrollment, deadline=deadline, patient=patient
        )
        return pb.EnrollResponse(
            subject_id=enrolled.subject_id,
            encoding_ids=enrolled.encoding_ids,
            created=enrolled.created,
            replayed=enrolled.replayed,
            provenance=to_provenance(provenance),
            faces=to_faces(faces),
        )


def _digest(request: pb.EnrollRequest) -> bytes:
    content = pb.EnrollRequest()
    content.CopyFrom(request)
    content.ClearField("request_id")
    return hashlib.sha256(content.SerializeToString(deterministic=True)).digest()


def _to_subject(subject: Subject) -> pb.Subject:
    return pb.Subject(
        id=subject.id,
        labels=subject.labels,
        encodings=[
            pb.EncodingRecord(id=encoding.id, create_time=to_timestamp(encoding.created))
            for encoding in subject.encodings
        ],
        create_time=to_timestamp(subject.created),
        update_time=to_timestamp(subject.updated),
    )
