"""Measure how often strangers are let in, by rule of fusion, number of examples and size of the gallery.

For each size and number of examples, random galleries: so many subjects, each enrolled from so many of its pictures;
one picture of each other subject is a stranger's probe. What is pooled over them gives the FPIR at any tau.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from oneglance_core.expectation import Expectation
from oneglance_core.intervals import clopper_pearson
from oneglance_core.manifests import Evidence, FalsePositives, Galleries
from oneglance_core.measures import Distances, Indices, Scores, largest_tau_for_rate
from oneglance_exporter.encoder.random_galleries import EXAMPLES, FEWEST_GALLERIES, MOST_GALLERIES, RandomGalleries

SIZES = (1, 2, 5, 10, 25, 50, 100, 200, 400, 800)
LEVELS = tuple(float(f"{level:.3g}") for level in np.geomspace(1e-4, 0.9, 32))
LEAST_PEOPLE = 4
_LEAST_STRANGERS = 0.4  # of all people: fewer tell too little of a larger gallery
_DECIMALS = 5


def false_positives(
    random: RandomGalleries, data: str, sets: Mapping[str, Indices], target_fpir: float
) -> FalsePositives | None:
    """Of the pictures in such galleries; None for fewer than 4 subjects.

    sets: the data sets that the pictures come from, each with its rows. Each is also measured apart, half of its
    subjects enrolled, at the tau that ``target_fpir`` then has.
    """
    members, decimals = random.members, random.measure.decimals
    if len(members) < LEAST_PEOPLE:
        return None
    galleries = [
        Galleries(fusion=fusion, examples=examples, gallery_size=size, taus=_taus(scores, decimals))
        for examples in EXAMPLES
        for size in SIZES
        if size <= (1 - _LEAST_STRANGERS) * random.able(examples)
        for fusion, scores in random.scores(examples, size).items()
    ]
    bounds = [clopper_pearson(level * len(members), len(members)) for level in LEVELS]
    measured = FalsePositives(
        data=data,
        method=(
            f"random galleries (seed {random.seed}) of {len(members)} subjects, {FEWEST_GALLERIES} to "
            f"{MOST_GALLERIES} for each size and number of examples, one probe of each stranger; interval: 95 % "
            "Clopper-Pearson, all pictures of a person counting as one"
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
        for one in _evidence(random.of_rows(rows, random.seed + 1), name, expectation, target_fpir)
    ]
    return measured.model_copy(update={"evidence": tuple(evidence)})


def _evidence(random: RandomGalleries, data: str, expectation: Expectation, target_fpir: float) -> Iterator[Evidence]:
    people = len(random.members)
    size = people // 2
    for examples in EXAMPLES if people >= LEAST_PEOPLE else ():
        if random.able(examples + 1) < size:
            continue
        for fusion, scores in random.scores(examples, size).items():
            tau = round(expectation.tau(target_fpir, fusion, examples, size), random.measure.decimals)
            yield Evidence(
                data=data,
                people=people,
                fusion=fusion,
                examples=examples,
                gallery_size=size,
                target_fpir=target_fpir,
                tau=tau,
                fpir=round(scores.fpir(tau), _DECIMALS),
                fnir=round(scores.fnir(tau), _DECIMALS),
            )


def _taus(scores: Scores, decimals: int) -> tuple[float, ...]:
    return tuple(round(_tau(scores.non_mated, level), decimals) for level in LEVELS)


def _tau(non_mated: Distances, level: float) -> float:
    return min(largest_tau_for_rate(non_mated, level), float(non_mated.max()))
