"""Measure how far subjects' own probes are from them, by rule of fusion, number of examples and size of the gallery."""

import numpy as np

from oneglance_core.manifests import MateScores, MatesOfSize
from oneglance_exporter.encoder.false_positives import LEAST_PEOPLE
from oneglance_exporter.encoder.random_galleries import EXAMPLES, RandomGalleries

SHARES = (0.01, 0.02, 0.05, *(round(0.1 * i, 1) for i in range(1, 10)), 0.95, 0.98, 0.99)
SIZES = (2, 5, 25, 100, 400)
_LEAST_SUBJECTS = 5  # with a picture to spare


def mate_scores(random: RandomGalleries, data: str) -> MateScores | None:
    """Of the pictures in such galleries; None where too few subjects have more than one."""
    members = random.members
    galleries = []
    for examples in EXAMPLES:
        able = random.able(examples + 1)
        for size in SIZES if able >= max(_LEAST_SUBJECTS, LEAST_PEOPLE) else ():
            if size > len(members) / 2:
                continue
            for fusion, scores in random.scores(examples, size).items():
                hits = scores.mated[np.isfinite(scores.mated)]
                found = np.quantile(hits, SHARES).round(random.measure.decimals)
                galleries.append(
                    MatesOfSize(fusion=fusion, examples=examples, gallery_size=size, scores=tuple(found.tolist()))
                )
    if not galleries:
        return None
    return MateScores(data=data, people=len(members), shares=SHARES, galleries=tuple(galleries))
