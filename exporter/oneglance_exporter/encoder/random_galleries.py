"""Random galleries of labelled pictures: so many subjects, each enrolled from so many of its pictures, and probes."""

import numpy as np

from oneglance_core.fusion import Fusion
from oneglance_core.measures import Indices, Scores
from oneglance_core.trials import Encodings, search_fused
from oneglance_exporter.encoder.measure import DISTANCE, Measure

EXAMPLES = (1, 2, 3, 5)
FEWEST_GALLERIES, MOST_GALLERIES = 100, 400  # for each size and number of examples; within these,
_PROBES = 10_000  # so many of strangers


class RandomGalleries:
    """Of pictures, float32 [N, D]: who probes such galleries, and with which scores. Each kind is searched once.

    encodings, subject_of: of subjects that the encoder was not trained on. members: of each subject, its rows.
    """

    def __init__(self, encodings: Encodings, subject_of: Indices, seed: int = 0, measure: Measure = DISTANCE) -> None:
        self.encodings, self.subject_of, self.seed, self.measure = encodings, subject_of, seed, measure
        self.members = [np.flatnonzero(subject_of == subject) for subject in np.unique(subject_of)]
        self._found: dict[tuple[int, int], dict[Fusion, Scores]] = {}

    def of_rows(self, rows: Indices, seed: int) -> "RandomGalleries":
        """Of these pictures alone."""
        return RandomGalleries(self.encodings[rows], self.subject_of[rows], seed, self.measure)

    def able(self, examples: int) -> int:
        """How many subjects have so many pictures."""
        return sum(len(own) >= examples for own in self.members)

    def scores(self, examples: int, size: int) -> dict[Fusion, Scores]:
        """By rule of fusion, of strangers and mates in many galleries of so many subjects and examples together."""
        kind = examples, size
        if kind not in self._found:
            self._found[kind] = self._searched(examples, size)
        return self._found[kind]

    def _searched(self, examples: int, size: int) -> dict[Fusion, Scores]:
        rng = np.random.default_rng((self.seed, examples, size))
        parts: dict[Fusion, list[Scores]] = {fusion: [] for fusion in self.measure.rules}
        probes = galleries = 0
        while galleries < FEWEST_GALLERIES or (probes < _PROBES and galleries < MOST_GALLERIES):
            shown = [rng.permutation(self.members[i]) for i in rng.permutation(len(self.members))]
            able = [own for own in shown if len(own) >= examples][:size]
            enrolled = {id(own) for own in able}
            strangers = np.array([own[0] for own in shown if id(own) not in enrolled])
            subjects = [(own[:examples], own[examples : examples + 1]) for own in able]
            found = search_fused(self.encodings, subjects, strangers, self.measure.pairwise, self.measure.rules)
            for fusion, scores in found:
                parts[fusion].append(scores)
            probes += len(strangers)
            galleries += 1
        return {fusion: Scores.pooled(own) for fusion, own in parts.items()}
