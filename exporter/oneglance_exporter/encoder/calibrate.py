"""Fit tau for a target FPIR at K enrolled subjects, on pictures of subjects never trained on.

Many random splits: K subjects are enrolled from one picture each; one other picture of each is a mated
probe, one picture of each subject left over is a non-mated one. Tau is the largest distance at which
the share of non-mated probes that find anybody, over all splits, is at most the target.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.calibration import INTERVAL, fmr_curve, interval
from oneglance_core.manifests import Calibration
from oneglance_core.measures import Answers, Encodings, answers, det_point, pair_distances
from oneglance_exporter.data import Pictures
from oneglance_exporter.encoder.trials import open_set
from oneglance_exporter.errors import DataError, SettingsError


@dataclass(frozen=True, slots=True)
class Fit:
    """Pooled answers of all splits. subjects: int64 [strangers], each stranger's own subject."""

    answers: Answers
    subjects: npt.NDArray[np.int64]


def fit_splits(
    encodings: Encodings, pictures: Pictures, gallery_size: int | None, splits: int, seed: int
) -> tuple[Fit, int]:
    """Search the probes of ``splits`` random galleries. Returns the pooled answers and K.

    K is half of the subjects if ``gallery_size`` is None. Raises SettingsError, or DataError with
    fewer than 4 subjects.
    """
    total = len(pictures.subjects)
    if total < 4:
        raise DataError(f"{total} subjects are too few to calibrate on: at least 4, better hundreds")
    size = total // 2 if gallery_size is None else gallery_size
    if not 1 <= size < total:
        raise SettingsError(f"--gallery-size must leave strangers: 1 to {total - 1}, got {size}")
    if splits < 1:
        raise SettingsError(f"--splits must be at least 1, got {splits}")
    parts, subjects = [], []
    for i in range(splits):
        split = open_set(pictures, size, seed=seed + i, probes_per_subject=1)
        parts.append(answers(encodings, split))
        subjects.append(pictures.subject_of[split.strangers])
    pooled = Answers(
        right=np.concatenate([part.right for part in parts]),
        mated=np.concatenate([part.mated for part in parts]),
        strangers=np.concatenate([part.strangers for part in parts]),
    )
    return Fit(pooled, np.concatenate(subjects)), size


def calibrate(
    encodings: Encodings,
    pictures: Pictures,
    target_fpir: float,
    data: str,
    gallery_size: int | None = None,
    splits: int = 200,
    seed: int = 0,
) -> tuple[Calibration, Fit]:
    """A Calibration for the manifest, and the answers it was fitted on.

    encodings: float32 [N, D], of ``pictures``; data: what they are, in words.
    The FPIR is measured on the pictures tau was fitted on, so it sits just below the target by
    construction: its interval, over subjects, is what says how far to trust it.
    Raises SettingsError for a target outside (0, 1).
    """
    if not 0 < target_fpir < 1:
        raise SettingsError(f"--fpir must be above 0 and below 1, got {target_fpir}")
    fit, size = fit_splits(encodings, pictures, gallery_size, splits, seed)
    point = det_point(fit.answers, target_fpir)
    tau, fpir, fnir = point.tau, point.fpir, point.fnir
    low, high = interval(fit.answers.strangers <= tau, fit.subjects)
    _, non_mated = pair_distances(encodings, pictures.subject_of)
    calibration = Calibration(
        tau=tau,
        target_fpir=target_fpir,
        gallery_size=size,
        fpir=fpir,
        fpir_low=low,
        fpir_high=high,
        fnir=fnir,
        non_mated_probes=len(fit.answers.strangers),
        mated_probes=len(fit.answers.mated),
        data=data,
        method=(
            f"{splits} random splits (seed {seed}) of {len(pictures.subjects)} subjects: {size} enrolled from "
            "one picture each, one other picture of each as mated probe, one picture of each remaining subject "
            f"as non-mated probe; tau and its FPIR from the same splits; interval: {INTERVAL}"
        ),
        fmr_curve=fmr_curve(non_mated),
    )
    return calibration, fit
