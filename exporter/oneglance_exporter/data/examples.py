"""Labelled examples: what an encoder is trained, calibrated and measured on."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Inputs = npt.NDArray[Any]
"""Encoder inputs: uint8 or float32 [N, *shape], as InputSpec declares them; images have 0 for black."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled encoder inputs, sorted by subject and file name.

    inputs: N over all subjects; they may lie in a file on the disk (numpy.memmap).
    files: where each of the N was read, "source: file".
    """

    inputs: Inputs
    subject_of: npt.NDArray[np.int64]  # [N], index into subjects, never falling
    subjects: tuple[str, ...]
    group_of: npt.NDArray[np.int64]  # [len(subjects)], index into groups
    groups: tuple[str, ...]
    files: tuple[str, ...] = ()

    def members(self) -> list[npt.NDArray[np.int64]]:
        """Indices of each subject's examples: ``members()[s]`` is int64 [examples of s]."""
        starts = np.searchsorted(self.subject_of, np.arange(len(self.subjects) + 1))
        return [np.arange(start, end) for start, end in pairwise(starts)]
