"""Measure an encoder on pictures it was not trained on; every random choice follows from one seed."""

from dataclasses import asdict, dataclass

import numpy as np

from oneglance_core.measures import equal_error_rate, largest_tau_for_rate
from oneglance_core.trials import Encodings, one_shot_error, pair_distances, search
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.encoder.settings import EvaluateSettings
from oneglance_exporter.encoder.trials import one_shot_trials, open_set
from oneglance_exporter.errors import DataError

_FPIRS = (0.01, 0.10)


@dataclass(frozen=True, slots=True)
class Spread:
    """A share in [0, 1] measured on several random galleries: its mean, lowest and highest."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(float(np.mean(values)), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.mean:.2%}  ({self.low:.2%} to {self.high:.2%})"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Shares in [0, 1], distances squared L2.

    one_shot_error: of ``trials`` within-group trials, ``ways`` subjects each. rank1: every subject
    enrolled from one picture, every other picture a probe. fnir: by target FPIR; half of the subjects
    enrolled from one picture each, all other pictures probes, tau chosen on the very probes it is
    measured on. Both over ``splits`` random galleries, since one gallery's FNIR at a low FPIR hangs
    on a few look-alikes. eer: over all pairs of pictures.
    """

    pictures: int
    subjects: int
    trials: int
    ways: int
    one_shot_error: float
    splits: int
    rank1: Spread
    gallery_size: int
    fnir: dict[float, Spread]
    eer: float
    eer_tau: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.pictures} pictures of {self.subjects} subjects; ranges are over {self.splits} random galleries",
            f"{self.ways}-way one-shot error within groups: {self.one_shot_error:.2%}  ({self.trials} trials)",
            f"rank-1, all {self.subjects} enrolled once: {self.rank1}",
        ]
        for fpir, spread in self.fnir.items():
            lines.append(f"FNIR at FPIR {fpir:.0%}, {self.gallery_size} enrolled once: {spread}")
        lines.append(f"EER over all pairs: {self.eer:.2%}  (tau {self.eer_tau:.4f})")
        return "\n".join(lines)


def evaluate(encodings: Encodings, examples: Examples, settings: EvaluateSettings) -> Evaluation:
    """Measure encodings, float32 [N, D], of ``examples``.

    The lists of trials come from ``one_shot_trials(examples, trials, ways, seed)`` and
    ``open_set(examples, K, seed + i)`` for i below ``splits``; draw them there to measure the same
    through a server. Raises DataError for one subject alone, and when no group has ``ways`` subjects.
    """
    trials, ways, seed = settings.trials, settings.ways, settings.seed
    total = len(examples.subjects)
    if total < 2:
        raise DataError("one subject has no rivals: at least 2 are needed to evaluate, better hundreds")
    half = total // 2
    seeds = range(seed, seed + settings.splits)
    shown = one_shot_trials(examples, trials, ways, seed)
    everybody = [search(encodings, open_set(examples, total, s)).rank1 for s in seeds]
    halves = [search(encodings, open_set(examples, half, s)) for s in seeds]
    eer, eer_tau = equal_error_rate(*pair_distances(encodings, examples.subject_of))
    return Evaluation(
        pictures=len(examples.inputs),
        subjects=total,
        trials=trials,
        ways=ways,
        one_shot_error=one_shot_error(encodings, shown),
        splits=settings.splits,
        rank1=Spread.of(everybody),
        gallery_size=half,
        fnir={
            fpir: Spread.of([found.fnir(largest_tau_for_rate(found.non_mated, fpir)) for found in halves])
            for fpir in _FPIRS
        },
        eer=eer,
        eer_tau=eer_tau,
    )
