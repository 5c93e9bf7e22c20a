"""How fast an encoder is trained, against the same job written plainly in PyTorch and pytorch-metric-learning.

    python -m benchmarks.training_speed [--steps 120] [--threads 1]

Both sides, step by step in turns in one process: P x K examples drawn from the same pictures in memory, the same
network (``ConvNet``), semi-hard triplets of squared L2 with a margin of 0.2, AdamW. The plain side has the library's
own miner and a loop of ten lines. Ours has what a training that can be trusted has, too: the moving average of the
weights, a look at every loss, gradient and weight whether it is finite, the log, the checkpoint.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from torch.nn import functional

from benchmarks.report import table
from oneglance_core.glyphs import alphabet
from oneglance_core.ranges import within
from oneglance_exporter.api import train
from oneglance_exporter.encoder.augment import another_hand
from oneglance_exporter.encoder.network import ConvNet

_MARGIN, _RATE, _DECAY = 0.2, 3e-3, 0.05
_WARMED_UP = 3  # steps that don't count


@dataclass(frozen=True)
class Case:
    """classes x each pictures of side x side in a batch, to ``dimension`` numbers. augment: as --augment says."""

    name: str
    side: int
    classes: int
    each: int
    widths: tuple[int, ...]
    augment: str
    dimension: int = 128


CASES = (
    Case("drawings of 105 x 105, varied as --augment drawing does", 105, 64, 4, (32, 64, 96, 128), "drawing"),
    Case("pictures of 105 x 105 as they are", 105, 64, 4, (32, 64, 96, 128), "none"),
    Case("a small network: 28 x 28, batches of 64", 28, 32, 2, (16, 32), "none"),
)


@dataclass
class Plain:
    """The job in plain PyTorch. inputs: uint8 [N, side, side, 1], sorted by subject; ``each_has`` of each."""

    case: Case
    inputs: npt.NDArray[np.uint8]
    each_has: int
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        side, case = self.case.side, self.case
        shrink = max(1, side // 35)
        self.network = ConvNet(1, (side, side), case.dimension, case.widths, shrink)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        distance = LpDistance(normalize_embeddings=False, p=2, power=2)
        self.miner = TripletMarginMiner(margin=_MARGIN, type_of_triplets="semihard", distance=distance)
        self.loss = TripletMarginLoss(margin=_MARGIN, distance=distance)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=_RATE, weight_decay=_DECAY)
        self.rng = np.random.default_rng(0)
        self.data = torch.from_numpy(self.inputs)

    def step(self) -> None:
        before = time.perf_counter()
        case, subjects = self.case, len(self.inputs) // self.each_has
        chosen = self.rng.choice(subjects, case.classes, replace=False)
        rows = np.concatenate(
            [s * self.each_has + self.rng.choice(self.each_has, case.each, replace=False) for s in chosen]
        )
        ink = (255 - self.data[rows].permute(0, 3, 1, 2).float()) / 255
        if case.augment == "drawing":
            ink = another_hand(ink, torch.Generator().manual_seed(int(rows[0])))
        labels = torch.from_numpy(chosen).repeat_interleave(case.each)
        encodings = functional.normalize(self.network(ink))
        loss: Any = self.loss(encodings, labels, self.miner(encodings, labels))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - before)


def measure(case: Case, steps: int, threads: int) -> tuple[float, float]:
    """Median milliseconds of a step: ours, plain."""
    each_has = 2 * case.each
    inputs, subjects = [], []
    for seed in range(2):
        for number, character in enumerate(alphabet(seed, case.classes, each_has, case.side)):
            inputs.append(character.drawings[..., None])
            subjects += [f"{seed}/{number:03d}"] * each_has
    pictures = np.concatenate(inputs)
    plain = Plain(case, pictures, each_has)
    ours: list[float] = []
    ended = 0.0

    def turn(report: object) -> None:
        """After each step of ours, one of theirs."""
        nonlocal ended
        ours.append(time.perf_counter() - ended)
        plain.step()
        ended = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/all.npz", inputs=pictures, subjects=np.array(subjects))
        settings: dict[str, Any] = {"procedural": 0.0, "composite": 0.0} if case.augment == "drawing" else {}
        train(
            f"{folder}/all.npz",
            Path(folder, "run"),
            size=(case.side, case.side),
            classes_per_batch=case.classes,
            examples_per_class=case.each,
            widths=case.widths,
            dimension=case.dimension,
            augment=case.augment,
            steps=steps,
            threads=threads,
            report=turn,
            **settings,
        )
    return 1000 * statistics.median(ours[_WARMED_UP:]), 1000 * statistics.median(plain.seconds[_WARMED_UP:])


def main() -> None:
    options = argparse.ArgumentParser(description="Training speed against plain PyTorch.")
    options.add_argument("--steps", type=within(int, least=_WARMED_UP + 1), default=120)
    options.add_argument("--threads", type=int, default=1)
    given = options.parse_args()
    rows = []
    for case in CASES:
        ours, plain = measure(case, given.steps, given.threads)
        rows.append([case.name, ours, plain, f"{ours / plain - 1:+.1%}"])
    title = f"A step of training, median of {given.steps}, {given.threads} thread(s), torch {torch.__version__}"
    table(title, ["batch", "ours ms", "plain ms", "overhead"], rows)


if __name__ == "__main__":
    main()
