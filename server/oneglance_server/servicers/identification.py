"""oneglance.v1.IdentificationService."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from oneglance.v1 import identification_pb2 as pb
from oneglance.v1.common_pb2 import Encoding
from oneglance.v1.error_pb2 import Error
from oneglance.v1.identification_pb2_grpc import IdentificationServiceServicer
from oneglance_core.defaults import VERIFY_FMR
from oneglance_server.calls import Call
from oneglance_server.errors import InvalidRequest
from oneglance_server.service.content import MAX_PROBES, Identification, check_count
from oneglance_server.service.services import ReadinessGate
from oneglance_server.servicers.answers import (
    to_breaches,
    to_candidate,
    to_face,
    to_faces,
    to_negative,
    to_page_token,
    to_photo,
    to_provenance,
    to_score,
    to_threshold,
)
from oneglance_server.servicers.encoded import answer, with_part
from oneglance_server.servicers.receiving import Incoming
from oneglance_server.servicers.requests import call_of, content_from, contents_from, filter_from, page_from
from oneglance_server.servicers.streams import in_order

_LISTED_ON_THE_LOOP = 2000  # candidates: a few milliseconds
_VALUES_ON_THE_LOOP = 65_536  # of encodings: 2 ms
Context = grpc.aio.ServicerContext[Any, Any]


class IdentificationServicer(IdentificationServiceServicer):
    def __init__(self, gate: ReadinessGate, stream_window: int) -> None:
        self._gate = gate
        self._window = stream_window

    async def Verify(self, request: pb.VerifyRequest, context: Context) -> pb.VerifyResponse:
        service = self._gate.services.identification
        tau = request.tau if request.HasField("tau") else None
        target_fmr = request.target_fmr if request.HasField("target_fmr") else VERIFY_FMR
        call = call_of(context)
        claim = request.WhichOneof("claim")
        if claim is None:
            raise InvalidRequest.field("claim", "give a subject_id or another example", reason="EMPTY")
        probe = content_from(request.probe, "probe")
        if claim == "subject_id":
            answer = await service.verify(
                call, request.gallery_id, request.subject_id, probe, tau=tau, target_fmr=target_fmr
            )
        else:
            other = content_from(request.other, "other")
            answer = await service.compare(
                call, request.gallery_id, request.encoder, probe, other, tau=tau, target_fmr=target_fmr
            )
        return pb.VerifyResponse(
            same=answer.same,
            distance=answer.distance,
            score=to_score(answer.distance, answer.score),
            encoding_id=answer.encoding_id,
            threshold=to_threshold(answer.tau),
            provenance=to_provenance(answer.provenance),
            face=to_face(answer.faces[0]),
            other_face=to_face(answer.faces[1]) if len(answer.faces) > 1 else None,
            breaches=to_breaches(answer.breaches),
            negative=to_negative(answer.negative),
            probability=answer.probability,
            mapped=answer.mapped,
        )

    async def Identify(  # type: ignore[override]
        self, request: pb.IdentifyRequest, context: Context
    ) -> pb.IdentifyResponse | bytes:
        return await self._identify(call_of(context), request)

    async def IdentifyStream(  # type: ignore[override]  # the interceptor makes it an Incoming
        self, request_iterator: Incoming[pb.IdentifyStreamRequest], context: Context
    ) -> AsyncIterator[pb.IdentifyStreamResponse | bytes]:
        _ = self._gate.services  # refuse the whole stream while loading
        call = call_of(context, patient=True)

        async def handle(request: pb.IdentifyStreamRequest) -> pb.IdentifyResponse | bytes:
            return await self._identify(call, request.request)

        async for index, outcome in in_order(call, request_iterator, handle, self._window):
            if isinstance(outcome, Error):
                yield pb.IdentifyStreamResponse(index=index, error=outcome)
            elif isinstance(outcome, bytes):
                yield with_part(pb.IdentifyStreamResponse(index=index), "response", outcome)
            else:
                yield pb.IdentifyStreamResponse(index=index, response=outcome)

    async def Encode(  # type: ignore[override]
        self, request: pb.EncodeRequest, context: Context
    ) -> pb.EncodeResponse | bytes:
        service = self._gate.services.identification
        check_count("examples", request.examples, MAX_PROBES)
        contents = await contents_from(request.examples, "examples")
        encoded, provenance, breached = await service.encode(call_of(context), request.encoder, contents)
        digest = provenance.encoder_digest
        return await answer(
            lambda: pb.EncodeResponse(
                encodings=[Encoding(values=row, encoder_digest=digest) for row in encoded.vectors.tolist()],
                provenance=to_provenance(provenance),
                faces=to_faces(encoded.faces),
                breaches=to_breaches(breached),
            ),
            large=encoded.vectors.size > _VALUES_ON_THE_LOOP,
        )

    async def ListLookAlikes(  # type: ignore[override]
        self, request: pb.ListLookAlikesRequest, context: Context
    ) -> pb.ListLookAlikesResponse | bytes:
        service = self._gate.services.look_alikes
        within = request.within if request.HasField("within") else None
        size, after = page_from(request.page_size, request.page_token)
        found = await service.page(call_of(context), request.gallery_id, within, size, after)
        return await answer(
            lambda: pb.ListLookAlikesResponse(
                pairs=[
                    pb.LookAlikes(
                        subject_id=pair.subject_id,
                        other_subject_id=pair.other_subject_id,
                        distance=pair.distance,
                        encoding_id=pair.encoding_id,
                        other_encoding_id=pair.other_encoding_id,
                    )
                    for pair in found.pairs
                ],
                next_page_token=to_page_token(found.next_after),
                within=found.within,
                truncated_subject_ids=found.truncated,
                provenance=to_provenance(found.provenance),
            ),
            large=len(found.pairs) > _LISTED_ON_THE_LOOP,
        )

    async def _identify(self, call: Call, request: pb.IdentifyRequest) -> pb.IdentifyResponse | bytes:
        service = self._gate.services.identification
        check_count("probes", request.probes, MAX_PROBES)
        found = await service.identify(
            call,
            request.gallery_id,
            await contents_from(request.probes, "probes"),
            max_candidates=request.max_candidates,
            tau=request.tau if request.HasField("tau") else None,
            all_matches=request.all_matches,
            least_gap=request.least_gap if request.HasField("least_gap") else None,
            one_face_each=request.one_face_each,
            among=filter_from(request.filter),
            with_labels=request.with_labels,
            exact=request.exact,
        )
        return await answer(
            lambda: pb.IdentifyResponse(
                results=map(_to_result, found.answers),
                threshold=to_threshold(found.tau),
                provenance=to_provenance(found.provenance),
                photos={i: to_photo(photo, with_faces=False) for i, photo in found.photos.items()},
            ),
            large=sum(1 + len(one.candidates) + len(one.matches) for one in found.answers) > _LISTED_ON_THE_LOOP,
        )


def _decision(answer: Identification) -> pb.Decision.ValueType:
    if not answer.compared:
        return pb.DECISION_NOT_COMPARED
    return pb.DECISION_UNKNOWN if answer.identified is None else pb.DECISION_IDENTIFIED


def _unknown_reason(answer: Identification) -> pb.UnknownReason.ValueType:
    if answer.identified is not None or not answer.compared:
        return pb.UNKNOWN_REASON_UNSPECIFIED
    if answer.taken_by is not None:
        return pb.UNKNOWN_REASON_TAKEN
    if answer.withheld:
        return pb.UNKNOWN_REASON_NEGATIVE
    return pb.UNKNOWN_REASON_AMBIGUOUS if answer.ambiguous else pb.UNKNOWN_REASON_NOBODY_NEAR


def _to_result(answer: Identification) -> pb.IdentifyResult:
    gap, taken_by = answer.gap, answer.taken_by
    return pb.IdentifyResult(
        decision=_decision(answer),
        subject_id=answer.identified or "",
        candidates=map(to_candidate, answer.candidates),
        matches=map(to_candidate, answer.matches),
        matches_truncated=answer.matches_truncated,
        probe_index=answer.probe,
        face=to_face(answer.face),
        unknown_reason=_unknown_reason(answer),
        gap=gap,
        nearest_subject_id="" if gap is None else answer.nearest[0].subject_id,
        next_subject_id="" if gap is None else answer.nearest[1].subject_id,
        breaches=to_breaches(answer.breaches),
        taken=None if taken_by is None else pb.Taken(subject_id=answer.nearest[0].subject_id, result_index=taken_by),
    )
