"""Calls to the server, with their times: enroll, fit the threshold, identify, verify."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from time import monotonic, perf_counter

import numpy as np

from oneglance import Client, enroll_request, identify_request
from oneglance.v1.common_pb2 import THRESHOLD_SOURCE_MODEL, Provenance, Threshold
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED, DECISION_NOT_COMPARED, IdentifyResult
from oneglance_apps.demo.collection import Stranger, Subject
from oneglance_apps.demo.errors import DemoError
from oneglance_apps.demo.measure import Candidate, Figures, Outcome, Share, share
from oneglance_apps.demo.pictures import Picture
from oneglance_core.defaults import MAX_CANDIDATES
from oneglance_core.measures import matches, tau_for_rate

GALLERY = "demo"
WARM_UP_CALLS = 5
ACCEPT_BREACHES = False  # a picture that is not good enough is told of as refused

Progress = Callable[[int, int], None]
Probe = tuple[Picture, str, str | None]
"""A picture, the id of whom it shows, and the id of its mate: the same if enrolled, else None."""


@dataclass(frozen=True)
class Enrollment:
    """The enrolled subjects, and the server's messages for the refused ones. Enrolled means: on disk."""

    subjects: tuple[Subject, ...]
    refused: tuple[str, ...]
    seconds: float

    @property
    def ms_each(self) -> float:
        return 1000 * self.seconds / max(1, len(self.subjects))


@dataclass(frozen=True)
class Identification:
    """Outcomes in the order of the probes, messages of refusals, threshold and provenance of the last answer."""

    outcomes: tuple[Outcome, ...]
    refused: tuple[str, ...]
    seconds: float
    threshold: Threshold
    provenance: Provenance

    @property
    def figures(self) -> Figures:
        mated = tuple(outcome for outcome in self.outcomes if outcome.mate is not None)
        non_mated = tuple(outcome for outcome in self.outcomes if outcome.mate is None)
        return Figures(mated, non_mated, self.threshold.tau)


@dataclass(frozen=True)
class Verification:
    """1:1 at ``tau``. of_pairs: the model's, for single pairs; else the gallery's, calibrated for 1:K. mated,
    non_mated: the share of those pairs that were decided to be the same."""

    tau: float
    of_pairs: bool
    mated: Share
    non_mated: Share


def enroll_all(client: Client, subjects: Sequence[Subject], progress: Progress) -> Enrollment:
    """Enroll every subject from its picture, over one stream. Raises DemoError if the server refuses all."""
    requests = [
        enroll_request(GALLERY, subject.id, [subject.enrolled_from.example()], accept_breaches=ACCEPT_BREACHES)
        for subject in subjects
    ]
    taken: list[Subject] = []
    refused: list[str] = []
    begun = monotonic()
    for subject, answer in zip(subjects, client.bulk_enroll(requests), strict=True):
        if answer.HasField("error"):
            refused.append(f"{subject.enrolled_from.caption}: {answer.error.message}")
        else:
            faces = answer.enrolled.faces
            enrolled_from = subject.enrolled_from.of_face(faces[0]) if faces else subject.enrolled_from
            taken.append(replace(subject, enrolled_from=enrolled_from))
        progress(answer.index + 1, len(subjects))
    if not taken:
        raise DemoError("the server refused everybody:\n" + "\n".join(refused[:5]))
    return Enrollment(tuple(taken), tuple(refused), monotonic() - begun)


def identify_all(client: Client, probes: Sequence[Probe], enrolled: int, progress: Progress) -> Identification:
    """Identify every probe, over one stream, with distances to all ``enrolled`` subjects (the nearest 1,000)."""
    depth = min(enrolled, MAX_CANDIDATES)
    requests = (identify_request(GALLERY, [probe.example()], max_candidates=depth) for probe, _, _ in probes)
    outcomes: list[Outcome] = []
    refused: list[str] = []
    threshold, provenance = Threshold(), Provenance()
    begun = monotonic()
    for probe, answer in zip(probes, client.identify_stream(requests), strict=True):
        if answer.HasField("error"):
            refused.append(f"{probe[0].caption}: {answer.error.message}")
        elif not answer.response.results:
            refused.append(f"{probe[0].caption}: no face is found")
        elif answer.response.results[0].decision == DECISION_NOT_COMPARED:
            refused.append(f"{probe[0].caption}: no upright face is found")
        else:
            outcomes.append(_outcome(probe, answer.response.results[0]))
            threshold, provenance = answer.response.threshold, answer.response.provenance
        progress(answer.index + 1, len(probes))
    if not outcomes:
        raise DemoError("the server refused every probe:\n" + "\n".join(refused[:5]))
    return Identification(tuple(outcomes), tuple(refused), monotonic() - begun, threshold, provenance)


@dataclass(frozen=True)
class ThresholdFit:
    """The fitted τ. fpir: share of the calibration strangers' probes at or below it. strangers: how many."""

    tau: float
    target_fpir: float
    fpir: Share
    strangers: int


def fit_threshold(
    client: Client, strangers: Sequence[Stranger], target_fpir: float, progress: Progress
) -> ThresholdFit:
    """Set the gallery's τ to the largest that lets in at most ``target_fpir`` of the probes of ``strangers``."""
    probes: list[Probe] = [(probe, stranger.id, None) for stranger in strangers for probe in stranger.probes]
    outcomes = identify_all(client, probes, 1, progress).outcomes
    nearest = [outcome.nearest for outcome in outcomes]
    tau = tau_for_rate(nearest, target_fpir)
    client.set_threshold(GALLERY, tau)
    return ThresholdFit(tau, target_fpir, share(matches(nearest, tau)), len(strangers))


def identify_one(client: Client, probe: Probe, enrolled: int) -> Outcome:
    """Identify one probe, with distances to all ``enrolled`` subjects (the nearest 1,000)."""
    answer = client.identify(GALLERY, probe[0].example(), max_candidates=min(max(1, enrolled), MAX_CANDIDATES))
    return _outcome(probe, answer.results[0])


def latencies(client: Client, probes: Iterable[Picture], calls: int, progress: Progress) -> list[float]:
    """Milliseconds of each of ``calls`` Identify calls, one at a time, after a warm-up."""
    pictures = [probe.example() for probe in probes]
    taken: list[float] = []
    for i in range(WARM_UP_CALLS + calls):
        picture = pictures[i % len(pictures)]
        begun = perf_counter()
        client.identify(GALLERY, picture)
        taken.append(1000 * (perf_counter() - begun))
        progress(max(0, i + 1 - WARM_UP_CALLS), calls)
    return taken[WARM_UP_CALLS:]


def verify_pairs(
    client: Client, outcomes: Sequence[Outcome], subject_ids: Sequence[str], pairs: int, seed: int, progress: Progress
) -> Verification:
    """Verify ``pairs`` mated probes against their mate, and as many probes against another subject."""
    rng = np.random.default_rng([seed, 3])
    mated = [outcome for outcome in outcomes if outcome.mate is not None]
    own = [mated[i] for i in rng.permutation(len(mated))[:pairs].tolist()]
    other = [outcomes[i] for i in rng.permutation(len(outcomes))[: len(own)].tolist()]
    claims = [(outcome, outcome.owner) for outcome in own]
    for outcome in other:
        others = [name for name in subject_ids if name != outcome.owner]
        if others:
            claims.append((outcome, others[int(rng.integers(len(others)))]))
    same: list[bool] = []
    tau, of_pairs = 0.0, False
    for i, (outcome, claim) in enumerate(claims, 1):
        answer = client.verify(GALLERY, claim, outcome.probe.example())
        same.append(answer.same)
        tau, of_pairs = answer.threshold.tau, answer.threshold.source == THRESHOLD_SOURCE_MODEL
        progress(i, len(claims))
    return Verification(tau, of_pairs, mated=share(same[: len(own)]), non_mated=share(same[len(own) :]))


def _outcome(probe: Probe, result: IdentifyResult) -> Outcome:
    picture, owner, mate = probe
    return Outcome(
        probe=picture.of_face(result.face) if result.HasField("face") else picture,
        owner=owner,
        mate=mate,
        identified=result.subject_id if result.decision == DECISION_IDENTIFIED else None,
        candidates=tuple(Candidate(c.subject_id, c.distance) for c in result.candidates),
    )
