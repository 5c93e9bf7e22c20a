"""The pair head of an encoder, as a manifest holds it."""

import hashlib
import itertools
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from oneglance_core.manifests.arrays import Array
from oneglance_core.manifests.calibration import Calibration
from oneglance_core.manifests.false_positives import FalsePositives
from oneglance_core.manifests.mates import MateScores
from oneglance_core.manifests.part import ModelFolderError, Part
from oneglance_core.pair_head import LEAST_POSITIVE, PairHead, probabilities_of

TOLERANCE = 1e-5  # of a probability


class ReliabilityBin(Part):
    """Pairs whose y lies in (low, high]: their number, their mean y, and the share of them that is mated."""

    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    pairs: int = Field(ge=1)
    predicted: float = Field(ge=0, le=1)
    mated: float = Field(ge=0, le=1)


class Reliability(Part):
    """Whether y is a probability: measured on ``mated_pairs`` and ``non_mated_pairs`` of ``data``, each kind having
    half the weight.

    error: the expected calibration error, the mean of |predicted - mated| over all pairs. log_loss: in nats; 0.693 for
    a head that knows nothing. slope, offset: sigma(slope x + offset) would be the most likely of all in place of
    sigma(x); 1 and 0 where nothing could be better, a slope below 1 where y is too sure of itself.
    """

    data: str
    method: str
    mated_pairs: int = Field(ge=1)
    non_mated_pairs: int = Field(ge=1)
    error: float = Field(ge=0, le=1)
    log_loss: float = Field(ge=0)
    slope: float
    offset: float
    bins: tuple[ReliabilityBin, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(second.low < first.high for first, second in itertools.pairwise(self.bins)):
            raise ValueError("bins must rise")
        return self


class PairHeadPart(Part):
    """A PairHead, float32; the digest of the encoder covers it. The rest is measured: see ``calibrate``.

    probabilities: y of the first parity vector's encoding with each of them, as the framework of the training has it.
    threshold, false_positives, mates: as those of the encoder, for scores 1 - y in place of distances.
    """

    form: Literal["difference", "chi-square"]
    weights: Array
    bias: float
    probabilities: tuple[float, ...] = Field(min_length=1)
    reliability: Reliability | None = None
    threshold: Calibration | None = None
    false_positives: FalsePositives | None = None
    mates: MateScores | None = None

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.weights.dtype != "float32" or len(self.weights.shape) != 1:
            raise ValueError(f"weights: float32 of one axis, not {self.weights.dtype} {list(self.weights.shape)}")
        if not np.isfinite(self.weights.unpack()).all():
            raise ValueError("weights: must be finite")
        if self.threshold is not None and self.threshold.decided_by != "probability":
            raise ValueError("threshold: must be for probabilities")
        return self

    def head(self) -> PairHead:
        return PairHead(self.form, self.weights.unpack().astype(np.float64), self.bias)

    def contract(self) -> dict[str, Any]:
        """What of it a model's digest covers."""
        weights = self.weights.unpack().astype("<f4").tobytes()
        return {"form": self.form, "weights": hashlib.sha256(weights).hexdigest(), "bias": self.bias}

    def check(self, encodings: npt.NDArray[np.float32]) -> None:
        """Raise ModelFolderError unless the head gives its probabilities for the parity vectors' encodings [n, D], and
        can be asked about them."""
        if self.form == "chi-square" and encodings.min(initial=0.0) < LEAST_POSITIVE:
            raise ModelFolderError(
                f"pair_head: chi-square is for encodings that are never negative; those of the parity vectors are down "
                f"to {encodings.min():.3g}"
            )
        found = probabilities_of(self.head().logits(encodings[:1], encodings))
        if found.shape != (len(self.probabilities),) or not np.abs(found - self.probabilities).max() <= TOLERANCE:
            raise ModelFolderError(
                "pair_head: gives other probabilities for the parity vectors than those it came with"
            )
