"""Batches for the triplet loss: P classes x K examples, a pure function of (seed, step).

Most classes of a batch come from few groups, since look-alikes of one alphabet are the negatives that
teach something. A class is a subject in one of eight symmetries. Some classes are composites (two
drawings on one paper) and some are invented characters, so that the network meets far more classes
than the data has.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from oneglance_core.glyphs import TRAINING_SEEDS, alphabet
from oneglance_exporter.data import Pictures
from oneglance_exporter.encoder.augment import SYMMETRIES, another_hand, composite, symmetry
from oneglance_exporter.errors import DataError

# Two parts, each (center x, center y, size): beside each other, one above the other, overlaid.
_LAYOUTS = np.array(
    [
        [[-0.42, 0.0, 0.66], [0.42, 0.0, 0.66]],
        [[0.0, -0.42, 0.66], [0.0, 0.42, 0.66]],
        [[0.0, 0.0, 0.95], [0.0, 0.0, 0.95]],
    ],
    dtype=np.float32,
)
_GROUPS_PER_BATCH = 2


class Batches:
    """``batches(step)`` -> (ink float32 [P * K, 1, H, W], labels int64 [P * K]).

    The arguments are those of TrainSettings. Raises DataError when the data has too few classes.
    """

    def __init__(
        self,
        pictures: Pictures,
        classes: int,
        examples: int,
        procedural: float,
        composites: float,
        seed: int,
    ) -> None:
        self.procedural, self.composites = round(procedural * classes), round(composites * classes)
        self.plain = classes - self.procedural - self.composites
        if self.plain > SYMMETRIES * len(pictures.subjects):
            raise DataError(
                f"{len(pictures.subjects)} subjects can't fill {self.plain} classes of a batch; "
                "lower --classes-per-batch"
            )
        self.pictures, self.examples, self.seed = pictures, examples, seed
        self.members = pictures.members()
        self.subjects_of = [np.flatnonzero(pictures.group_of == g) for g in range(len(pictures.groups))]

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        parts = self._plain(rng) + self._composites(rng, generator) + self._procedural(rng)
        ink = another_hand(torch.cat(parts), generator)
        return ink, torch.arange(len(ink) // self.examples).repeat_interleave(self.examples)

    def _plain(self, rng: np.random.Generator) -> list[Tensor]:
        """Subjects of few groups, each group under one symmetry, until ``self.plain`` classes are had."""
        parts, missing = [], self.plain
        # Every group in a random symmetry, then again in another: no class comes twice.
        turns = rng.permuted(np.tile(np.arange(SYMMETRIES), (len(self.subjects_of), 1)), axis=1)
        queue = [(g, int(turns[g, i])) for i in range(SYMMETRIES) for g in rng.permutation(len(turns))]
        most = math.ceil(self.plain / min(_GROUPS_PER_BATCH, len(self.subjects_of)))
        for group, which in queue:
            subjects = rng.permutation(self.subjects_of[group])[: min(most, missing)]
            parts += [symmetry(self._examples(rng, s), which) for s in subjects]
            missing -= len(subjects)
            most = max(most, missing)
            if missing == 0:
                break
        return parts

    def _composites(self, rng: np.random.Generator, generator: torch.Generator) -> list[Tensor]:
        """Pairs out of a handful of subjects, so that many classes share one of their halves."""
        if not self.composites:
            return []
        handful = max(2, math.ceil(math.sqrt(2 * self.composites)))
        few = rng.choice(len(self.members), min(handful, len(self.members)), replace=False)
        pairs = [(a, b, kind) for kind in range(len(_LAYOUTS)) for a in few for b in few]
        layout_first = int(rng.integers(len(_LAYOUTS)))
        # An overlay of (a, b) looks like one of (b, a): keep one of the two.
        pairs = [p for p in pairs if p[2] != 2 or p[0] < p[1]]
        pairs = [pairs[i] for i in rng.permutation(len(pairs))]
        pairs.sort(key=lambda pair: pair[2] != layout_first)
        chosen = [pairs[i % len(pairs)] for i in range(self.composites)]
        first = torch.cat([self._examples(rng, a) for a, _, _ in chosen])
        second = torch.cat([self._examples(rng, b) for _, b, _ in chosen])
        layout = torch.from_numpy(_LAYOUTS[[kind for _, _, kind in chosen]])
        both = composite(first, second, layout.repeat_interleave(self.examples, dim=0), generator)
        return [symmetry(both, int(rng.integers(SYMMETRIES)))]

    def _procedural(self, rng: np.random.Generator) -> list[Tensor]:
        if not self.procedural:
            return []
        size = self.pictures.images.shape[1]
        seed = int(rng.integers(TRAINING_SEEDS.start, TRAINING_SEEDS.stop))
        return [_ink(s.drawings) for s in alphabet(seed, self.procedural, self.examples, size)]

    def _examples(self, rng: np.random.Generator, subject: int) -> Tensor:
        """K pictures of one subject, float32 [K, 1, H, W]; some repeat when it has fewer than K."""
        mine = self.members[subject]
        chosen = rng.choice(mine, self.examples, replace=len(mine) < self.examples)
        return _ink(self.pictures.images[chosen, :, :, 0])


def _ink(pictures: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [B, H, W], 0 black -> float32 [B, 1, H, W], 1 ink."""
    return (255.0 - torch.from_numpy(pictures).to(torch.float32)[:, None]) / 255.0
