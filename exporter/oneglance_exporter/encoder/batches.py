"""Batches: P classes x K examples, a pure function of (seed, step).

Most classes of a batch come from few groups, since look-alikes of one alphabet are the negatives that
teach something. Of drawings, a class is a subject in one of eight symmetries; some classes are composites (two
drawings on one paper) and some are invented characters, so that the network meets far more classes
than the data has; BentBatches make more. Of anything else a class is a subject.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from oneglance_core.glyphs import TRAINING_SEEDS, alphabet
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.encoder.augment import (
    SYMMETRIES,
    another_array,
    another_hand,
    another_photo,
    composite,
    shapes,
    symmetry,
)
from oneglance_exporter.encoder.settings import Shares, TrainSettings
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
_OVERLAID, _HALVES = 2, len(_LAYOUTS)
_FARTHEST_CUT = 0.2  # of the line between two halves from the middle, in halves of the width
_ALPHABETS = 256  # of invented characters, with --bent: as many are made, and kept
_GROUPS_PER_BATCH = 2

Rows = npt.NDArray[np.int64]
"""Numbers of examples."""
Prepare = Callable[[Tensor], Tensor]
"""From inputs as served, [B, *sizes, C], to float32 [B, C, *sizes] as the network takes them.

They are left on the device where batches are to be made. Random numbers are the CPU's, whatever the device: so batches
are the same on each, but for rounding.
"""


class Batches(Protocol):
    """``batches(step)`` -> (float32 [P * K, C, *sizes], labels int64 [P * K]).

    classes: how many there are in all. A label is below it, and means the same class in every batch; those of invented
    classes are not, and don't.
    """

    classes: int

    def __call__(self, step: int) -> tuple[Tensor, Tensor]: ...


def batches_of(examples: Examples, settings: TrainSettings, prepare: Prepare) -> Batches:
    """Raises DataError when the data has too few classes."""
    count, each = settings.classes_per_batch, settings.examples_per_class
    if settings.augmentation == "drawing":
        drawings = BentBatches if settings.bent else DrawingBatches
        return drawings(examples, count, each, settings.shares, settings.seed, prepare)
    vary = {"photo": another_photo, "array": another_array}.get(settings.augmentation, lambda values, generator: values)
    return PlainBatches(examples, count, each, settings.seed, prepare, vary)


class PlainBatches:
    """Subjects as they are. ``vary`` makes another example of each. Of too few subjects, all are in every batch."""

    def __init__(
        self,
        examples: Examples,
        classes: int,
        each: int,
        seed: int,
        prepare: Prepare,
        vary: Callable[[Tensor, torch.Generator], Tensor],
    ) -> None:
        self.classes = len(examples.subjects)
        self._examples, self._each, self._seed, self._prepare, self._vary = examples, each, seed, prepare, vary
        self._of_batch = min(classes, self.classes)
        self._members = examples.members()
        self._subjects_of = [np.flatnonzero(examples.group_of == g) for g in range(len(examples.groups))]

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self._seed, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        groups = [rng.permutation(self._subjects_of[g]) for g in rng.permutation(len(self._subjects_of))]
        most = math.ceil(self._of_batch / min(_GROUPS_PER_BATCH, len(groups)))
        # Some of each of few groups first; what is missing then, of all.
        queue = np.concatenate([*(subjects[:most] for subjects in groups), *(subjects[most:] for subjects in groups)])
        chosen = queue[: self._of_batch]
        rows = np.concatenate([chosen_examples(rng, self._members[subject], self._each) for subject in chosen])
        inputs = self._prepare(torch.from_numpy(self._examples.inputs[rows]))
        return self._vary(inputs, generator), torch.from_numpy(chosen).repeat_interleave(self._each)


class DrawingBatches:
    """Ink float32 [P * K, 1, H, W] of square gray pictures. The arguments are those of TrainSettings."""

    def __init__(
        self, examples: Examples, classes: int, each: int, shares: Shares, seed: int, prepare: Prepare
    ) -> None:
        self.procedural, self.composites = round(shares.procedural * classes), round(shares.composite * classes)
        self.plain = classes - self.procedural - self.composites
        self.classes = SYMMETRIES * len(examples.subjects)
        if self.plain > self.classes:
            raise DataError(
                f"{len(examples.subjects)} subjects can't fill {self.plain} classes of a batch; "
                "lower --classes-per-batch"
            )
        self._inputs, self._each, self._seed, self._prepare = examples.inputs, each, seed, prepare
        self._members = examples.members()
        self._subjects_of = [np.flatnonzero(examples.group_of == g) for g in range(len(examples.groups))]

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self._seed, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        plain, labels = self._plain(rng)
        parts = plain + self._composites(rng, generator) + self._procedural(rng)
        ink = self._drawn(torch.cat(parts), generator)
        labels += range(self.classes, self.classes + len(ink) // self._each - len(labels))
        return ink, torch.tensor(labels).repeat_interleave(self._each)

    def _drawn(self, ink: Tensor, generator: torch.Generator) -> Tensor:
        return another_hand(ink, generator)

    def _rows_by(self, rng: np.random.Generator) -> Callable[[int], Rows]:
        """How the examples are chosen of each of some subjects of a group."""
        return partial(self._rows, rng)

    def _plain(self, rng: np.random.Generator) -> tuple[list[Tensor], list[int]]:
        """Subjects of few groups, each group under one symmetry, until ``self.plain`` classes are had; their labels."""
        parts: list[Tensor] = []
        labels: list[int] = []
        missing = self.plain
        # Every group in a random symmetry, then again in another: no class comes twice.
        turns = rng.permuted(np.tile(np.arange(SYMMETRIES), (len(self._subjects_of), 1)), axis=1)
        queue = [(g, int(turns[g, i])) for i in range(SYMMETRIES) for g in rng.permutation(len(turns))]
        most = math.ceil(self.plain / min(_GROUPS_PER_BATCH, len(self._subjects_of)))
        for group, which in queue:
            subjects = rng.permutation(self._subjects_of[group])[: min(most, missing)]
            rows = self._rows_by(rng)
            if len(subjects):
                parts.append(symmetry(self._pictures(rows(int(s)) for s in subjects), which))
            labels += [int(s) * SYMMETRIES + which for s in subjects]
            missing -= len(subjects)
            most = max(most, missing)
            if missing == 0:
                break
        return parts, labels

    def _composites(self, rng: np.random.Generator, generator: torch.Generator) -> list[Tensor]:
        """Pairs out of a handful of subjects, so that many classes share one of their halves."""
        if not self.composites:
            return []
        handful = max(2, math.ceil(math.sqrt(2 * self.composites)))
        few = rng.choice(len(self._members), min(handful, len(self._members)), replace=False)
        pairs = [(a, b, kind) for kind in range(len(_LAYOUTS)) for a in few for b in few]
        layout_first = int(rng.integers(len(_LAYOUTS)))
        # An overlay of (a, b) looks like one of (b, a): keep one of the two.
        pairs = [p for p in pairs if p[2] != 2 or p[0] < p[1]]
        pairs = [pairs[i] for i in rng.permutation(len(pairs))]
        pairs.sort(key=lambda pair: pair[2] != layout_first)
        chosen = [pairs[i % len(pairs)] for i in range(self.composites)]
        first = self._pictures(self._rows(rng, a) for a, _, _ in chosen)
        second = self._pictures(self._rows(rng, b) for _, b, _ in chosen)
        layout = torch.from_numpy(_LAYOUTS[[kind for _, _, kind in chosen]])
        both = composite(first, second, layout.repeat_interleave(self._each, dim=0), generator)
        return [symmetry(both, int(rng.integers(SYMMETRIES)))]

    def _procedural(self, rng: np.random.Generator) -> list[Tensor]:
        if not self.procedural:
            return []
        size = self._inputs.shape[1]
        seed = int(rng.integers(TRAINING_SEEDS.start, TRAINING_SEEDS.stop))
        drawn = alphabet(seed, self.procedural, self._each, size)
        return [self._prepare(torch.from_numpy(subject.drawings[..., None])) for subject in drawn]

    def _rows(self, rng: np.random.Generator, subject: int) -> Rows:
        """K examples of one subject; some repeat when it has fewer than K."""
        return chosen_examples(rng, self._members[subject], self._each)

    def _pictures(self, rows: Iterable[Rows]) -> Tensor:
        """Of all of them, float32 [N, 1, H, W]."""
        return self._prepare(torch.from_numpy(self._inputs[np.concatenate(list(rows))]))


class BentBatches(DrawingBatches):
    """With ``--bent``: more characters are made of those there are.

    Some classes, of whatever kind, are bent, all their drawings alike. Composites are of a half of each, too. Of the
    subjects of a group the examples have the same places, since those of one place are often by one drawer: so who
    wrote tells nothing of what is written. Of the invented characters there are so many alphabets, in any symmetry.
    """

    def __init__(
        self, examples: Examples, classes: int, each: int, shares: Shares, seed: int, prepare: Prepare
    ) -> None:
        super().__init__(examples, classes, each, shares, seed, prepare)
        self._bent = shares.bent
        self._invented: dict[int, Tensor] = {}  # by number, uint8 [characters * K, H, W, 1]

    def _drawn(self, ink: Tensor, generator: torch.Generator) -> Tensor:
        classes = len(ink) // self._each
        return another_hand(ink, generator, shapes(classes, self._bent, generator).repeated(self._each))

    def _rows_by(self, rng: np.random.Generator) -> Callable[[int], Rows]:
        places = self._places(rng)
        return lambda subject: self._rows_at(rng, subject, places)

    def _composites(self, rng: np.random.Generator, generator: torch.Generator) -> list[Tensor]:
        """As those of DrawingBatches; of one kind, if there are enough pairs."""
        if not self.composites:
            return []
        handful = math.ceil(math.sqrt(2 * self.composites)) + 1
        few = rng.choice(len(self._members), min(handful, len(self._members)), replace=False)
        kinds = rng.permutation(len(_LAYOUTS) + 1)
        pairs = [(kind, a, b) for kind in kinds for a, b in rng.permutation(_pairs(few, kind))]
        chosen = [pairs[i % len(pairs)] for i in range(self.composites)]
        places, cut, which = self._places(rng), _cut(rng), int(rng.integers(SYMMETRIES))
        made = []
        for kind in dict.fromkeys(kind for kind, _, _ in chosen):
            own = [(a, b) for of_kind, a, b in chosen if of_kind == kind]
            first = self._pictures(self._rows_at(rng, a, places) for a, _ in own)
            second = self._pictures(self._rows_at(rng, b, places) for _, b in own)
            halves = kind == _HALVES
            layout = torch.from_numpy(_LAYOUTS[_OVERLAID if halves else kind]).expand(len(first), 2, 3)
            both = composite(first, second, layout, generator, cut if halves else None)
            made.append(symmetry(both, which))
        return made

    def _procedural(self, rng: np.random.Generator) -> list[Tensor]:
        if not self.procedural:
            return []
        number, which = int(rng.integers(_ALPHABETS)), int(rng.integers(SYMMETRIES))
        if number not in self._invented:
            drawn = alphabet(TRAINING_SEEDS.start + number, self.procedural, self._each, self._inputs.shape[1])
            self._invented[number] = torch.cat([torch.from_numpy(one.drawings[..., None]) for one in drawn])
        return [symmetry(self._prepare(self._invented[number]), which)]

    def _places(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return rng.permutation(max(map(len, self._members)))

    def _rows_at(self, rng: np.random.Generator, subject: int, places: npt.NDArray[np.int64]) -> Rows:
        """As _rows, but the first of ``places`` that the subject has, if it has K."""
        members = self._members[subject]
        rows = members[places[places < len(members)][: self._each]]
        return rows if len(rows) == self._each else self._rows(rng, subject)


def chosen_examples(rng: np.random.Generator, members: Rows, each: int) -> Rows:
    """``each`` of a subject's examples, drawn at random; some repeat when it has fewer."""
    return rng.choice(members, each, replace=len(members) < each)


def _pairs(few: npt.NDArray[np.int64], kind: int) -> list[tuple[int, int]]:
    """Of subjects, for a kind of composite: no two look alike."""
    if kind == _OVERLAID:  # that of (a, b) looks like that of (b, a)
        return [(a, b) for i, a in enumerate(few) for b in few[i + 1 :]]
    if kind == _HALVES:  # two halves of one are that one
        return [(a, b) for a in few for b in few if a != b]
    return [(a, b) for a in few for b in few]


def _cut(rng: np.random.Generator) -> Tensor:
    """A line near the middle, in any direction: (a, b, c) of a x + b y = c."""
    angle = 2 * math.pi * rng.random()
    return torch.tensor([math.cos(angle), math.sin(angle), _FARTHEST_CUT * (2 * rng.random() - 1)])
