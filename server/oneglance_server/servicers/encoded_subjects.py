"""Many subjects whose encodings the caller made, between messages and values; off the event loop, for they are many."""

import hashlib
from collections.abc import Sequence

from oneglance.v1 import subject_pb2 as pb
from oneglance_index import Enrolled
from oneglance_server.offload import off_loop
from oneglance_server.service.encoded_enrollment import EncodedSubject, EncodedSubjects, Outcome
from oneglance_server.servicers.requests import doubt_policy_from, on_existing_from
from oneglance_server.servicers.streams import error_of


def encoded_from(message: pb.EncodedSubjects) -> EncodedSubjects:
    """Raises InvalidRequest."""
    on_existing = on_existing_from(message.on_existing, "encoded.on_existing")
    policy = doubt_policy_from(message.doubt_policy, "encoded.doubt_policy") if message.doubt_policy else None
    common = repr((message.gallery_id, message.encoder_digest, on_existing)).encode()
    return EncodedSubjects(
        message.gallery_id,
        message.encoder_digest,
        [
            EncodedSubject(
                one.subject_id,
                one.values,
                dict(one.labels) if one.labels else {},
                one.request_id,
                _digest(common, one) if one.request_id else b"",
            )
            for one in message.subjects
        ],
        on_existing,
        policy,
    )


def _digest(common: bytes, one: pb.EncodedSubject) -> bytes:
    """Of what is asked for; the request's id is in it, which is the same whenever that is asked for again."""
    return hashlib.sha256(common + one.SerializeToString(deterministic=True)).digest()


async def encoded_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """The answer, serialised."""
    return await off_loop(lambda: pb.EncodedOutcomes(outcomes=map(_to_outcome, outcomes)).SerializeToString())


def _to_outcome(outcome: Outcome) -> pb.EncodedOutcome:
    if not isinstance(outcome, Enrolled):
        return pb.EncodedOutcome(error=error_of(outcome))
    return pb.EncodedOutcome(
        enrolled=pb.EncodedEnrolled(
            encoding_ids=outcome.encoding_ids, created=outcome.created, replayed=outcome.replayed
        )
    )
