"""Measure how far subjects' own probes are from them, by rule of fusion, number of examples and size of the gallery."""

import numpy as np

from oneglance_core.manifests import MateScores, MatesOfSize
from oneglance_core.measures import Indices
from oneglance_core.trials import Encodings
from oneglance_exporter.encoder.false_positives import EXAMPLES, LEAST_PEOPLE, members_of, pooled_scores
from oneglance_exporter.encoder.measure import DISTANCE, Measure

SHARES = (0.01, 0.02, 0.05, *(round(0.1 * i, 1) for i in range(1, 10)), 0.95, 0.98, 0.99)
SIZES = (2, 5, 25, 100, 400)
_LEAST_SUBJECTS = 5  # with a picture to spare


def mate_scores(
    encodings: Encodings, subject_of: Indices, data: str, seed: int = 0, measure: Measure = DISTANCE
) -> MateScores | None:
    """Of pictures, float32 [N, D], of subjects that the encoder was not trained on; None where too few have more
    than one.

    The galleries and probes are those that false_positives measures.
    """
    members = members_of(subject_of)
    galleries = []
    for examples in EXAMPLES:
        able = sum(len(own) > examples for own in members)
        for size in SIZES if able >= max(_LEAST_SUBJECTS, LEAST_PEOPLE) else ():
            if size > len(members) / 2:
                continue
            for fusion, scores in pooled_scores(encodings, members, examples, size, seed, measure).items():
                hits = scores.mated[np.isfinite(scores.mated)]
                found = np.quantile(hits, SHARES).round(measure.decimals)
                galleries.append(
                    MatesOfSize(fusion=fusion, examples=examples, gallery_size=size, scores=tuple(found.tolist()))
                )
    if not galleries:
        return None
    return MateScores(data=data, people=len(members), shares=SHARES, galleries=tuple(galleries))
