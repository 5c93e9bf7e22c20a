"""Fit tau for a target FPIR at K enrolled subjects, on pictures of subjects never trained on.

Many random splits: K subjects are enrolled from one picture each; one other picture of each is a mated
probe, one picture of each subject left over is a non-mated one. Tau is the largest distance at which
the share of non-mated probes that find anybody, over all splits, is at most the target.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.calibration import INTERVAL
from oneglance_core.intervals import interval
from oneglance_core.manifests import Calibration
from oneglance_core.measures import Scores, fmr_curve, matches, tau_for_rate
from oneglance_core.trials import Encodings, pair_distances, search
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.encoder.measure import DISTANCE, Measure
from oneglance_exporter.encoder.settings import CalibrateSettings
from oneglance_exporter.encoder.trials import open_set
from oneglance_exporter.errors import DataError, SettingsError


@dataclass(frozen=True, slots=True)
class Fit:
    """Scores of all splits as one. subjects: int64, of each non-mated probe, whose it is."""

    scores: Scores
    subjects: npt.NDArray[np.int64]


def fit_splits(
    encodings: Encodings, examples: Examples, settings: CalibrateSettings, measure: Measure = DISTANCE
) -> tuple[Fit, int]:
    """Search the probes of ``settings.splits`` random galleries. Returns the pooled scores and K.

    Raises SettingsError when K leaves no strangers, DataError with fewer than 4 subjects or one picture of each only.
    """
    total = len(examples.subjects)
    if total < 4:
        raise DataError(f"{total} subjects are too few to calibrate on: at least 4, better hundreds")
    size = total // 2 if settings.gallery_size is None else settings.gallery_size
    if size >= total:
        raise SettingsError(f"--gallery-size must leave strangers: 1 to {total - 1}, got {size}")
    parts, subjects = [], []
    for i in range(settings.splits):
        split = open_set(examples, size, seed=settings.seed + i, probes_per_subject=1)
        parts.append(search(encodings, split, measure.pairwise))
        subjects.append(examples.subject_of[split.strangers])
    scores = Scores.pooled(parts)
    if not len(scores.mated):
        raise DataError("no subject has two pictures: one to enroll, one to probe")
    return Fit(scores, np.concatenate(subjects)), size


def calibrate(
    encodings: Encodings, examples: Examples, data: str, settings: CalibrateSettings, measure: Measure = DISTANCE
) -> tuple[Calibration, Fit]:
    """A Calibration for the manifest, and the scores it was fitted on.

    encodings: float32 [N, D], of ``examples``; data: what they are, in words.
    The FPIR is measured on the pictures tau was fitted on, so it sits just below the target by
    construction: its interval, over subjects, is what says how far to trust it.
    Raises as ``fit_splits``.
    """
    fit, size = fit_splits(encodings, examples, settings, measure)
    tau = tau_for_rate(fit.scores.non_mated, settings.fpir)
    low, high = interval(matches(fit.scores.non_mated, tau), fit.subjects)
    _, non_mated = pair_distances(encodings, examples.subject_of, measure.pairwise)
    calibration = Calibration(
        decided_by=measure.decided_by,
        tau=tau,
        target_fpir=settings.fpir,
        gallery_size=size,
        fpir=fit.scores.fpir(tau),
        fpir_low=low,
        fpir_high=high,
        fnir=fit.scores.fnir(tau),
        non_mated_probes=len(fit.scores.non_mated),
        mated_probes=len(fit.scores.mated),
        data=data,
        method=(
            f"{settings.splits} random splits (seed {settings.seed}) of {len(examples.subjects)} subjects: {size} "
            "enrolled from one picture each, one other picture of each as mated probe, one picture of each remaining "
            f"subject as non-mated probe; tau and its FPIR from the same splits; interval: {INTERVAL}"
        ),
        fmr_curve=fmr_curve(non_mated),
    )
    return calibration, fit
