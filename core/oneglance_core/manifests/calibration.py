"""Thresholds that a manifest can hold: a calibrated tau with its evidence, and one that the author recommends."""

import hashlib
import itertools

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from oneglance_core.fusion import DecidedBy, Fusion
from oneglance_core.manifests.part import Part, canonical


class Calibration(Part):
    """A threshold tau with the evidence for it (ISO/IEC 19795-1 terms).

    decided_by: what tau is for, distances or probabilities. tau: squared L2, or 1 - y; a subject is under tau when its
    score by the rule ``fusion`` is <= tau. Below 0 by "margin" only.
    target_fpir: the FPIR asked for, at ``gallery_size`` enrolled subjects.
    fpir, fpir_low, fpir_high: measured at tau, with its 95 % interval.
    fnir: share of mated probes whose mate was not the nearest subject under tau; None without mated probes.
    fmr_curve: (distance, share of non-mated pairs at or below it), both rising.
    """

    fusion: Fusion = "nearest"  # before tau, whose range depends on both
    decided_by: DecidedBy = "distance"
    tau: float
    target_fpir: float = Field(gt=0, lt=1)
    gallery_size: int = Field(ge=1)
    fpir: float = Field(ge=0, le=1)
    fpir_low: float = Field(ge=0, le=1)
    fpir_high: float = Field(ge=0, le=1)
    fnir: float | None = Field(None, ge=0, le=1)
    non_mated_probes: int = Field(ge=1)
    mated_probes: int = Field(ge=0)
    data: str
    method: str
    fmr_curve: tuple[tuple[float, float], ...] = ()

    @property
    def id(self) -> str:
        """12 hex digits that change whenever the calibration does."""
        content = self.model_dump(mode="json")
        if self.fusion == "nearest":
            del content["fusion"]  # as it was before there were other rules, so that ids stay
        if self.decided_by == "distance":
            del content["decided_by"]
        return hashlib.sha256(canonical(content)).hexdigest()[:12]

    def fmr(self, tau: float) -> float | None:
        """Share of non-mated pairs at or below ``tau``; None without a curve.

        Below the nearest pair that was seen it is that pair's rate: that there was none is no proof of zero.
        """
        if not self.fmr_curve:
            return None
        distance, rate = np.array(self.fmr_curve, dtype=np.float64).T
        return float(np.interp(tau, distance, rate, left=rate[0], right=1.0))

    @field_validator("tau")
    @classmethod
    def _in_range(cls, tau: float, info: ValidationInfo) -> float:
        if tau < 0 and info.data.get("fusion") != "margin":
            raise ValueError("a threshold on distances is >= 0")
        if tau > 1 and info.data.get("decided_by") == "probability":
            raise ValueError("a threshold on probabilities is <= 1")
        return tau

    @field_validator("fmr_curve")
    @classmethod
    def _rising(cls, curve: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        for (d0, r0), (d1, r1) in itertools.pairwise(curve):
            if d1 <= d0 or r1 < r0 or not 0 <= r0 <= r1 <= 1:
                raise ValueError("fmr_curve must rise in both columns, rates in [0, 1]")
        return curve


class AuthorThreshold(Part):
    """A tau that the model's author recommends; no evidence of ours. Squared L2."""

    tau: float = Field(ge=0)
    source: str
