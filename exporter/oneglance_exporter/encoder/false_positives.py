"""Measure how often strangers are let in, by rule of fusion, number of examples and size of the gallery.

For each size and number of examples, random galleries: so many subjects, each enrolled from so many of its pictures;
one picture of each other subject is a stranger's probe. What is pooled over them gives the FPIR at any tau.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from oneglance_core.expectation import Expectation
from oneglance_core.fusion import Fusion
from oneglance_core.intervals import clopper_pearson
from oneglance_core.manifests import Evidence, FalsePositives, Galleries
from oneglance_core.measures import Distances, Indices, Scores, largest_tau_for_rate
from oneglance_core.trials import Encodings, search_fused
from oneglance_exporter.encoder.measure import DISTANCE, Measure

EXAMPLES = (1, 2, 3, 5)
SIZES = (1, 2, 5, 10, 25, 50, 100, 200, 400, 800)
LEVELS = tuple(float(f"{level:.3g}") for level in np.geomspace(1e-4, 0.9, 32))
_FEWEST_GALLERIES, _MOST_GALLERIES = 100, 400  # for each size and number of examples; within these,
_PROBES = 10_000  # so many of strangers
LEAST_PEOPLE = 4
_LEAST_STRANGERS = 0.4  # of all people: fewer tell too little of a larger gallery
_DECIMALS = 5


def false_positives(
    encodings: Encodings,
    subject_of: Indices,
    data: str,
    sets: Mapping[str, Indices],
    target_fpir: float,
    seed: int = 0,
    measure: Measure = DISTANCE,
) -> FalsePositives | None:
    """Of pictures, float32 [N, D], of subjects that the encoder was not trained on; None for fewer than 4 of them.

    sets: the data sets that the pictures come from, each with its rows. Each is also measured apart, half of its
    subjects enrolled, at the tau that ``target_fpir`` then has.
    """
    members = members_of(subject_of)
    if len(members) < LEAST_PEOPLE:
        return None
    galleries = [
        Galleries(fusion=fusion, examples=examples, gallery_size=size, taus=_taus(scores, measure.decimals))
        for examples in EXAMPLES
        for size in SIZES
        if size <= (1 - _LEAST_STRANGERS) * sum(len(own) >= examples for own in members)
        for fusion, scores in pooled_scores(encodings, members, examples, size, seed, measure).items()
    ]
    bounds = [clopper_pearson(level * len(members), len(members)) for level in LEVELS]
    measured = FalsePositives(
        data=data,
        method=(
            f"random galleries (seed {seed}) of {len(members)} subjects, {_FEWEST_GALLERIES} to {_MOST_GALLERIES} for "
            "each size and number of examples, one probe of each stranger; interval: 95 % Clopper-Pearson, all "
            "pictures of a person counting as one"
        ),
        people=len(members),
        levels=LEVELS,
        lows=tuple(round(low, _DECIMALS) for low, _ in bounds),
        highs=tuple(round(high, _DECIMALS) for _, high in bounds),
        galleries=tuple(galleries),
    )
    expectation = Expectation(measured)
    evidence = [
        one
        for name, rows in sets.items()
        for one in _evidence(encodings[rows], subject_of[rows], name, expectation, target_fpir, seed + 1, measure)
    ]
    return measured.model_copy(update={"evidence": tuple(evidence)})


def _evidence(
    encodings: Encodings,
    subject_of: Indices,
    data: str,
    expectation: Expectation,
    target_fpir: float,
    seed: int,
    measure: Measure,
) -> Iterator[Evidence]:
    members = members_of(subject_of)
    size = len(members) // 2
    for examples in EXAMPLES if len(members) >= LEAST_PEOPLE else ():
        if sum(len(own) > examples for own in members) < size:
            continue
        for fusion, scores in pooled_scores(encodings, members, examples, size, seed, measure).items():
            tau = round(expectation.tau(target_fpir, fusion, examples, size), measure.decimals)
            yield Evidence(
                data=data,
                people=len(members),
                fusion=fusion,
                examples=examples,
                gallery_size=size,
                target_fpir=target_fpir,
                tau=tau,
                fpir=round(scores.fpir(tau), _DECIMALS),
                fnir=round(scores.fnir(tau), _DECIMALS),
            )


def members_of(subject_of: Indices) -> list[Indices]:
    return [np.flatnonzero(subject_of == subject) for subject in np.unique(subject_of)]


def pooled_scores(
    encodings: Encodings, members: list[Indices], examples: int, size: int, seed: int, measure: Measure = DISTANCE
) -> dict[Fusion, Scores]:
    """Scores of strangers and mates in random galleries together, by rule of fusion."""
    rng = np.random.default_rng((seed, examples, size))
    parts: dict[Fusion, list[Scores]] = {fusion: [] for fusion in measure.rules}
    probes = galleries = 0
    while galleries < _FEWEST_GALLERIES or (probes < _PROBES and galleries < _MOST_GALLERIES):
        shown = [rng.permutation(members[i]) for i in rng.permutation(len(members))]
        able = [own for own in shown if len(own) >= examples][:size]
        enrolled = {id(own) for own in able}
        strangers = np.array([own[0] for own in shown if id(own) not in enrolled])
        subjects = [(own[:examples], own[examples : examples + 1]) for own in able]
        for fusion, scores in search_fused(encodings, subjects, strangers, measure.pairwise, measure.rules):
            parts[fusion].append(scores)
        probes += len(strangers)
        galleries += 1
    return {fusion: Scores.pooled(own) for fusion, own in parts.items()}


def _taus(scores: Scores, decimals: int) -> tuple[float, ...]:
    return tuple(round(_tau(scores.non_mated, level), decimals) for level in LEVELS)


def _tau(non_mated: Distances, level: float) -> float:
    return min(largest_tau_for_rate(non_mated, level), float(non_mated.max()))
