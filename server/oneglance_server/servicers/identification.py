"""oneglance.v1.IdentificationService."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import grpc

from oneglance.v1 import identification_pb2 as pb
from oneglance.v1.common_pb2 import Encoding
from oneglance.v1.error_pb2 import Error
from oneglance.v1.identification_pb2_grpc import IdentificationServiceServicer
from oneglance_server.errors import InvalidRequest
from oneglance_server.service.content import MAX_PROBES, Identification, check_count
from oneglance_server.service.services import Door
from oneglance_server.servicers.budget import Budget
from oneglance_server.servicers.convert import (
    content_from,
    deadline_of,
    to_candidate,
    to_face,
    to_faces,
    to_photo,
    to_provenance,
    to_threshold,
)
from oneglance_server.servicers.streams import in_order

_LISTED_ON_THE_LOOP = 2000
Context = grpc.aio.ServicerContext[Any, Any]


class IdentificationServicer(IdentificationServiceServicer):
    def __init__(self, door: Door, stream_window: int, budget: Budget) -> None:
        self._door = door
        self._window = stream_window
        self._budget = budget

    async def Verify(self, request: pb.VerifyRequest, context: Context) -> pb.VerifyResponse:
        service = self._door.services.identification
        tau = request.tau if request.HasField("tau") else None
        deadline = deadline_of(context)
        claim = request.WhichOneof("claim")
        if claim is None:
            raise InvalidRequest.field("claim", "give a subject_id or another example", reason="EMPTY")
        probe = content_from(request.probe, "probe")
        if claim == "subject_id":
            answer = await service.verify(request.gallery_id, request.subject_id, probe, tau=tau, deadline=deadline)
        else:
            other = content_from(request.other, "other")
            answer = await service.compare(
                request.gallery_id, request.encoder, probe, other, tau=tau, deadline=deadline
            )
        return pb.VerifyResponse(
            same=answer.same,
            distance=answer.distance,
            encoding_id=answer.encoding_id,
            threshold=to_threshold(answer.tau),
            provenance=to_provenance(answer.provenance),
            face=to_face(answer.faces[0]),
            other_face=to_face(answer.faces[1]) if len(answer.faces) > 1 else None,
        )

    async def Identify(self, request: pb.IdentifyRequest, context: Context) -> pb.IdentifyResponse:
        return await self._identify(request, deadline_of(context), patient=False)

    async def IdentifyStream(
        self, request_iterator: AsyncIterable[pb.IdentifyStreamRequest], context: Context
    ) -> AsyncIterator[pb.IdentifyStreamResponse]:
        _ = self._door.services  # refuse the whole stream while loading
        deadline = deadline_of(context)

        async def handle(request: pb.IdentifyStreamRequest) -> pb.IdentifyResponse:
            return await self._identify(request.request, deadline, patient=True)

        async for index, outcome in in_order(request_iterator, handle, self._window, self._budget):
            if isinstance(outcome, Error):
                yield pb.IdentifyStreamResponse(index=index, error=outcome)
            else:
                yield pb.IdentifyStreamResponse(index=index, response=outcome)

    async def Encode(self, request: pb.EncodeRequest, context: Context) -> pb.EncodeResponse:
        service = self._door.services.identification
        check_count("examples", request.examples, MAX_PROBES)
        contents = [content_from(e, f"examples[{i}]") for i, e in enumerate(request.examples)]
        encoded, provenance = await service.encode(request.encoder, contents, deadline=deadline_of(context))
        digest = provenance.encoder_digest
        return pb.EncodeResponse(
            encodings=[Encoding(values=row.tolist(), encoder_digest=digest) for row in encoded.vectors],
            provenance=to_provenance(provenance),
            faces=to_faces(encoded.faces),
        )

    async def _identify(
        self, request: pb.IdentifyRequest, deadline: float | None, *, patient: bool
    ) -> pb.IdentifyResponse:
        service = self._door.services.identification
        check_count("probes", request.probes, MAX_PROBES)
        found = await service.identify(
            request.gallery_id,
            [content_from(e, f"probes[{i}]") for i, e in enumerate(request.probes)],
            max_candidates=request.max_candidates,
            tau=request.tau if request.HasField("tau") else None,
            all_matches=request.all_matches,
            deadline=deadline,
            patient=patient,
        )
        answers = found.answers
        listed = sum(len(answer.candidates) + len(answer.matches) for answer in answers)
        if listed > _LISTED_ON_THE_LOOP:  # would hold up everybody else's calls
            results = await asyncio.get_running_loop().run_in_executor(None, lambda: list(map(_to_result, answers)))
        else:
            results = list(map(_to_result, answers))
        return pb.IdentifyResponse(
            results=results,
            threshold=to_threshold(found.tau),
            provenance=to_provenance(found.provenance),
            photos={i: to_photo(photo, with_faces=False) for i, photo in found.photos.items()},
        )


def _to_result(answer: Identification) -> pb.IdentifyResult:
    known = answer.identified is not None
    return pb.IdentifyResult(
        decision=pb.DECISION_IDENTIFIED if known else pb.DECISION_UNKNOWN,
        subject_id=answer.identified or "",
        candidates=map(to_candidate, answer.candidates),
        matches=map(to_candidate, answer.matches),
        matches_truncated=answer.matches_truncated,
        probe_index=answer.probe,
        face=to_face(answer.face),
    )
