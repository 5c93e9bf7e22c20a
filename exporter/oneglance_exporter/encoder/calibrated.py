"""All that ``calibrate`` writes into an encoder's manifest, from encodings of labelled examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oneglance_core.manifests import Calibration, EncoderManifest, FalsePositives, MateScores, Reliability
from oneglance_core.trials import Encodings
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.encoder.calibrate import Fit, calibrate
from oneglance_exporter.encoder.false_positives import false_positives
from oneglance_exporter.encoder.mates import mate_scores
from oneglance_exporter.encoder.measure import DISTANCE, Measure, by_head
from oneglance_exporter.encoder.pair_fit import reliability
from oneglance_exporter.encoder.random_galleries import RandomGalleries
from oneglance_exporter.encoder.settings import CalibrateSettings
from oneglance_exporter.errors import DataError


@dataclass(frozen=True, slots=True)
class CalibratedHead:
    """What ``calibrate`` found of a pair head: a threshold for 1 - y, whether y is a probability, and the scores."""

    threshold: Calibration
    reliability: Reliability | None
    fit: Fit


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What ``calibrate`` found: what is now in the manifest, and the scores that the threshold was fitted on.

    sets: how many data sets were given. head: of an encoder with a pair head.
    """

    threshold: Calibration
    false_positives: FalsePositives | None
    fit: Fit
    sets: int
    head: CalibratedHead | None = None


def calibrated(
    manifest: EncoderManifest,
    examples: Examples,
    encodings: Encodings,
    paths: Sequence[str],
    described: str,
    settings: CalibrateSettings,
) -> tuple[EncoderManifest, Calibrated]:
    """``manifest`` with a threshold and all that was measured, and what was found.

    encodings: float32 [N, D], of ``examples``, which were read from ``paths``. described: what they are, in words.
    Raises DataError and SettingsError.
    """
    sets = _sets(examples, paths)

    def measured(measure: Measure) -> tuple[Calibration, FalsePositives | None, MateScores | None, Fit]:
        threshold, fit = calibrate(encodings, examples, described, settings, measure)
        random = RandomGalleries(encodings, examples.subject_of, settings.seed, measure)
        found = false_positives(random, described, sets, settings.fpir)
        if len(sets) > 1:  # no single FNIR stands for all: `found` tells it for each
            threshold = threshold.model_copy(update={"fnir": None, "mated_probes": 0})
        mates = mate_scores(random, described)
        return threshold, found, mates, fit

    threshold, found, mates, fit = measured(DISTANCE)
    part = manifest.pair_head
    head = None
    if part is not None:
        of_head = measured(by_head(part.head()))
        reliable = reliability(part.head(), encodings, examples.subject_of, described, settings.seed)
        names_of_head = ("threshold", "false_positives", "mates")
        part = part.model_copy(update={**dict(zip(names_of_head, of_head, strict=False)), "reliability": reliable})
        head = CalibratedHead(of_head[0], reliable, of_head[3])
    changes = {"threshold": threshold, "false_positives": found, "mates": mates, "pair_head": part}
    return manifest.model_copy(update=changes), Calibrated(threshold, found, fit, len(sets), head)


def _sets(examples: Examples, paths: Sequence[str]) -> Mapping[str, Any]:
    """By the name of each data set, the rows of its examples. Raises DataError for one that has none of its own."""
    sources = np.array([next(path for path in paths if file.startswith(f"{Path(path)}: ")) for file in examples.files])
    names = {path: Path(path).name for path in paths}
    if len(set(names.values())) < len(names):
        names = {path: path for path in paths}
    sets = {names[path]: np.flatnonzero(sources == path) for path in paths}
    for name, rows in sets.items():
        if not len(rows):
            raise DataError(f"{name}: all its files are in the other data sets, too")
    return sets
