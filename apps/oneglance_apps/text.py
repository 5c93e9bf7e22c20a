"""Numbers and facts of answers as text, the same in every app."""

from collections.abc import Sequence

from oneglance.v1.approximation_pb2 import ExactBecause
from oneglance.v1.common_pb2 import (
    DOUBT_KIND_LIKE_ANOTHER,
    Breach,
    Candidate,
    Doubt,
    DoubtPolicy,
    Fusion,
    Neighbour,
    Provenance,
    Threshold,
    ThresholdSource,
)
from oneglance.v1.face_pb2 import QualityPolicy
from oneglance.v1.gallery_pb2 import DriftState
from oneglance.v1.model_pb2 import Model


def counted(number: int, noun: str) -> str:
    """``1 face``, ``1,200 faces``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def ids(noun: str, found: Sequence[str]) -> str:
    """``encoding id 5``, ``encoding ids 5, 6``: never to be taken for a count."""
    return f"{noun} id{'s' * (len(found) != 1)} {', '.join(found) or 'none'}"


def distance(value: float) -> str:
    """A squared L2 distance or a tau, with four decimals: ``0.2540``."""
    return f"{value:.4f}"


def probability(value: float) -> str:
    """Of a pair head: ``97.1 %``; with as many digits more as it is near to 0 or 100 %."""
    return f"{100 * value:.{_digits(min(value, 1 - value))}f} %"


def _digits(share: float) -> int:
    return 1 if share >= 0.001 else 3 if share >= 0.00001 else 5


def fusion_name(fusion: Fusion.ValueType) -> str:
    """``nearest``, ``mean`` or ``margin``; servers older than the field have no other than the first."""
    return Fusion.Name(fusion).removeprefix("FUSION_").lower() if fusion else "nearest"


def nobody_under(fusion: Fusion.ValueType) -> float:
    """A tau that nobody is under, by that rule of fusion: scores by margin may be below 0."""
    return -1e9 if fusion == Fusion.FUSION_MARGIN else 0.0


def score(candidate: Candidate) -> float:
    """What is compared with tau: the distance, unless the answer has another score."""
    return candidate.score if candidate.HasField("score") else candidate.distance


def nearest_given(candidates: Sequence[Candidate]) -> Candidate | None:
    """The first candidate that the probe can be given: that has no nearer negative."""
    return next((one for one in candidates if not one.HasField("negative")), None)


def breach(found: Breach) -> str:
    """``sharpness 1.2, at least 3``."""
    below = found.HasField("least") and not found.value >= found.least
    bound = f"at least {found.least:g}" if below else f"at most {found.most:g}"
    return f"{found.figure} {found.value:.3g}, {bound}"


def neighbour(found: Neighbour) -> str:
    """``ada, 0.4512``: the nearest other subject."""
    return f"{found.subject_id}, {distance(found.distance)}"


def doubt(found: Doubt) -> str:
    """``examples[0] is 0.0000 from ada (within 0.2540): the same person under two names?``."""
    if found.kind == DOUBT_KIND_LIKE_ANOTHER:
        words = f"from {found.subject_id} (within {distance(found.limit)}): the same person under two names?"
    else:
        words = f"from the others of {found.subject_id} (beyond {distance(found.limit)}): two people under one name?"
    return f"{found.field} is {distance(found.distance)} {words}"


def doubt_policy_name(policy: DoubtPolicy.ValueType) -> str:
    """``off``, ``flag`` or ``refuse``; ``unspecified`` of a server that knows no such policies."""
    return DoubtPolicy.Name(policy).removeprefix("DOUBT_POLICY_").lower()


def policy_name(policy: QualityPolicy.ValueType) -> str:
    """``off``, ``standard`` or ``strict``; ``unspecified`` of a server that knows no policies."""
    return QualityPolicy.Name(policy).removeprefix("QUALITY_POLICY_").lower()


def drift_name(state: DriftState.ValueType) -> str:
    """``not watched``, ``none`` or ``suspected``; ``unspecified`` of a server that watches nothing."""
    return DriftState.Name(state).removeprefix("DRIFT_STATE_").lower().replace("_", " ")


def exact_because(why: ExactBecause.ValueType) -> str:
    """``being built``; ``unspecified`` where nothing is told."""
    return ExactBecause.Name(why).removeprefix("EXACT_BECAUSE_").lower().replace("_", " ")


def short_digest(digest: str) -> str:
    """The first 12 characters: enough for people to tell models apart."""
    return digest[:12]


def source_name(threshold: Threshold) -> str:
    """Where a threshold comes from: ``model``, ``gallery``, ``calibration`` or ``author``."""
    return ThresholdSource.Name(threshold.source).removeprefix("THRESHOLD_SOURCE_").lower()


def index_name(provenance: Provenance) -> str:
    """``flat on cpu, exact``; ``no index`` when none was searched."""
    if not provenance.index_kind:
        return "no index"
    return f"{provenance.index_kind} on {provenance.index_device}, {'exact' if provenance.exact else 'approximate'}"


def model_name(model: Model) -> str:
    """Name and short digest."""
    return f"{model.name} {short_digest(model.digest)}"


def is_encoder(model: Model) -> bool:
    """Servers older than the field ``kind`` leave it empty; all their models are encoders."""
    return model.kind in ("", "encoder")


def joined(*parts: str, separator: str = "; ") -> str:
    """The parts that are not empty."""
    return separator.join(filter(None, parts))
