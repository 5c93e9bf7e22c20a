"""What a gallery's answers may lose, and how they come about: messages to plain values and back."""

from oneglance.v1 import approximation_pb2 as pb
from oneglance_index import Approximation, ApproximationState, Checked
from oneglance_server.errors import InvalidRequest


def approximation_from(message: pb.Approximation, path: str) -> Approximation:
    """Raises InvalidRequest."""
    try:
        return Approximation(message.mates_found, message.exact_on_alarm)
    except ValueError:
        raise InvalidRequest.field(
            f"{path}.mates_found", f"must be above 0.5 and at most 0.9995, got {message.mates_found:g}"
        ) from None


def to_approximation(approximation: Approximation | None) -> pb.Approximation | None:
    if approximation is None:
        return None
    return pb.Approximation(mates_found=approximation.mates_found, exact_on_alarm=approximation.exact_on_alarm)


def to_approximation_state(state: ApproximationState | None) -> pb.ApproximationState | None:
    if state is None:
        return None
    return pb.ApproximationState(
        approximate=state.answers == "approximate",
        because=pb.ExactBecause.Value(f"EXACT_BECAUSE_{(state.because or 'unspecified').upper().replace(' ', '_')}"),
        tau=state.tau,
        share_read=state.share_read,
        recent_count=state.recent,
        known=_to_checked(state.known),
        strangers=_to_checked(state.strangers),
        alarms=state.alarms,
        alarm=state.alarm,
    )


def _to_checked(checked: Checked) -> pb.CheckedProbes:
    return pb.CheckedProbes(probes=checked.probes, differing=checked.differing)
