"""Many subjects whose encodings the caller made, between messages and values; off the event loop, for they are many."""

import hashlib
from collections.abc import Mapping, Sequence

from oneglance.v1 import subject_pb2 as pb
from oneglance_core.names import composed
from oneglance_index import Enrolled
from oneglance_server.offload import off_loop
from oneglance_server.service.encoded_enrollment import EncodedSubject, EncodedSubjects, Outcome
from oneglance_server.servicers.requests import doubt_policy_from, on_existing_from
from oneglance_server.servicers.streams import error_of


def encoded_from(message: pb.EncodedSubjects) -> EncodedSubjects:
    """Raises InvalidRequest."""
    on_existing = on_existing_from(message.on_existing, "encoded.on_existing")
    policy = doubt_policy_from(message.doubt_policy, "encoded.doubt_policy") if message.doubt_policy else None
    common = repr((composed(message.gallery_id), message.encoder_digest, on_existing)).encode()
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
    """SHA-256 of what is asked for, however its names are spelled."""
    asked = pb.EncodedSubject(
        subject_id=composed(one.subject_id), values=one.values, labels=composed_labels(one.labels)
    )
    return hashlib.sha256(common + asked.SerializeToString(deterministic=True)).digest()


def composed_labels(labels: Mapping[str, str]) -> dict[str, str]:
    return {composed(key): composed(value) for key, value in labels.items()}


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
