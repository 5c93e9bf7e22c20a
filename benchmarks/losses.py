"""Which loss, and which triplets, teach most in the same time? Encoders of drawings, from first weights to the measure.

    python -m benchmarks.losses OMNIGLOT --kept DIR [--cpu-seconds 90] [--seeds 3] [--out docs/losses.svg]

OMNIGLOT is the folder with images_background_small1.zip, images_background_small2.zip and images_validation.zip. Each
cell trains the same network, with a fifth of the usual work a picture, so that a short time has many steps. Each gets
the same batches and the same processor time (of this process: waiting costs nothing). It learns the background
alphabets alone: characters as they were drawn, in eight symmetries, without invented, composed or bent ones, since
ArcFace must know each class. It is measured by d on the validation alphabets: 20-way one-shot error within an alphabet,
EER, and FNIR over 20 random galleries of half of the characters, examples fused by their mean.

Every cell is a run and a JSON file in DIR. Stopped at any moment, the command goes on where it was; what is done is not
done again. --only prints and draws what is there.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.galleries import fnirs
from benchmarks.report import table
from oneglance_core.files import replacing
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.reading import read_examples
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.encoder.evaluate import evaluate
from oneglance_exporter.encoder.network import INPUT, encode
from oneglance_exporter.encoder.settings import EvaluateSettings, TrainSettings
from oneglance_exporter.encoder.train import resume, train
from oneglance_exporter.training.checkpoint import CHECKPOINT_FILE

matplotlib.use("svg")
from matplotlib import pyplot as plt

TRAINED = ("images_background_small1.zip", "images_background_small2.zip")
MEASURED = "images_validation.zip"
WIDTHS = (12, 24, 48, 64)
UNTRAINED = "none, untrained"
TRIPLETS = ("random", "semi-hard", "batch-hard")
LOSSES = (
    *(("triplet", mining) for mining in TRIPLETS),
    *((loss, "") for loss in ("contrastive", "difference", "chi-square", "arcface")),
)
EXAMPLES = (1, 3, 5)
FPIRS = (0.01, 0.1)
INK, CALM, ALARM, GRASS = "#1f2933", "#2f6f8f", "#b3412e", "#5b8c5a"
COLOURS = {"random": ALARM, "semi-hard": CALM, "batch-hard": GRASS}


@dataclass(frozen=True, slots=True)
class Cell:
    """loss, mining: of the training; cpu_seconds: it had; epoch_seconds: for as many pictures as there are. error: the
    20-way one-shot error; fnir: by "examples at FPIR", mean over the galleries. active: the shares of the triplets that
    were active, from the first step to the last."""

    loss: str
    mining: str
    seed: int
    cpu_seconds: float
    steps: int
    epoch_seconds: float
    error: float
    eer: float
    fnir: dict[str, float]
    active: list[float]

    @property
    def name(self) -> str:
        return f"{self.loss}, {self.mining}" if self.mining else self.loss


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the data and the cells are, and how long each may learn."""

    data: Path
    kept: Path
    cpu_seconds: float
    measured: Examples

    def cell(self, loss: str, mining: str, seed: int) -> Cell:
        """The one that is kept, or a new one."""
        kind = "untrained" if loss == UNTRAINED else f"{loss}-{mining}".rstrip("-")
        name = f"{kind}-{self.cpu_seconds:g}s-{seed}"
        file = self.kept / f"{name}.json"
        if not file.exists():
            made = self._made(loss, mining, seed, self.kept / name)
            with replacing(file) as out:
                out.write_text(json.dumps(asdict(made), indent=1) + "\n")
        return Cell(**json.loads(file.read_text()))

    def _made(self, loss: str, mining: str, seed: int, run: Path) -> Cell:
        if loss == UNTRAINED:
            settings = _settings(self.data, seed, steps=1, learning_rate=1e-12)
        else:
            kind: dict[str, Any] = {"loss": loss, **({"mining": mining} if mining else {})}
            settings = _settings(self.data, seed, seconds=self.cpu_seconds, **kind)
        if (run / CHECKPOINT_FILE).exists():
            state = resume(run, {}, _silent, clock=time.process_time)
        else:
            state = train(settings, run, "python -m benchmarks.losses", _silent, clock=time.process_time)
        pictures = settings.classes_per_batch * settings.examples_per_class
        encodings = encode(state.encoder(), self.measured.inputs)
        shown = evaluate(encodings, self.measured, EvaluateSettings(splits=1))
        rates = fnirs(encodings, self.measured.subject_of, examples=EXAMPLES)
        return Cell(
            loss,
            mining,
            seed,
            state.elapsed_seconds,
            state.step,
            state.elapsed_seconds / (state.step * pictures / _trained_on(run)),
            shown.one_shot_error,
            shown.eer,
            {f"{n} at {fpir:g}": float(np.mean(rates[n, "mean", fpir])) for n in EXAMPLES for fpir in FPIRS},
            _active(run, state) if mining else [],
        )


def _settings(data: Path, seed: int, **own: Any) -> TrainSettings:
    paths = tuple(str(data / name) for name in TRAINED)
    same: dict[str, Any] = {"widths": WIDTHS, "procedural": 0.0, "composite": 0.0, "checkpoint_seconds": 20.0}
    return TrainSettings(data=paths, seed=seed, **same, **own)


def _silent(told: object) -> None:
    pass


def _trained_on(run: Path) -> int:
    """Pictures: lines of the run's list of its data."""
    return sum(1 for _ in (run / "data.csv").open()) - 1


def _active(run: Path, state: EncoderCheckpoint) -> list[float]:
    settings = state.settings
    pictures = settings.classes_per_batch * settings.examples_per_class
    looked_at = pictures * (1 if settings.mining == "batch-hard" else settings.examples_per_class - 1)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["active_triplets"] / looked_at for line in lines]


def draw(cells: Sequence[Cell], cpu_seconds: float, out: Path) -> None:
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "oneglance", "text.color": INK})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.3), layout="constrained")
    names = list(dict.fromkeys(cell.name for cell in cells))
    for row, name in enumerate(names):
        own = [cell for cell in cells if cell.name == name]
        colour = COLOURS.get(own[0].mining, "#9aa5b1")
        left.barh(row, np.mean([cell.error for cell in own]), color=colour, alpha=0.75, height=0.62)
        left.plot([cell.error for cell in own], [row] * len(own), "o", color=INK, ms=3)
    left.axvline(0.95, color="#9aa5b1", lw=1, ls="--")
    left.text(0.945, len(names) - 0.55, "chance", ha="right", va="bottom", color="#52606d", fontsize=9)
    left.set(
        yticks=range(len(names)), yticklabels=names, xlim=(0, 1), ylim=(len(names) - 0.2, -0.7),
        xlabel="20-way one-shot error, alphabets never trained on",
        title=f"After {cpu_seconds:g} s of one core each",
    )  # fmt: skip
    for mining in TRIPLETS:
        for number, cell in enumerate(cell for cell in cells if cell.mining == mining):
            share = np.linspace(0, cell.cpu_seconds, len(cell.active))
            right.plot(share, cell.active, color=COLOURS[mining], lw=1.4, label="" if number else mining)
    right.set(
        xlabel="seconds of one core", ylabel="triplets with L > 0", ylim=(0, 1.02),
        title="Most random triplets soon teach nothing",
    )  # fmt: skip
    right.legend(frameon=False, fontsize=9)
    for axis in (left, right):
        axis.grid(color="#e4e7eb", lw=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    percent = matplotlib.ticker.PercentFormatter(1.0, decimals=0)
    left.xaxis.set_major_formatter(percent)
    right.yaxis.set_major_formatter(percent)
    figure.savefig(out, metadata={"Date": None})


def tell(cells: Sequence[Cell], cpu_seconds: float) -> None:
    rows: list[tuple[object, ...]] = []
    for name in dict.fromkeys(cell.name for cell in cells):
        own = [cell for cell in cells if cell.name == name]
        fnir = [f"{np.mean([cell.fnir[key] for cell in own]):.1%}" for key in own[0].fnir]
        errors = [cell.error for cell in own]
        spread = f" ({min(errors):.1%} to {max(errors):.1%})" if len(own) > 1 else ""
        epoch = "–" if own[0].loss == UNTRAINED else f"{np.mean([cell.epoch_seconds for cell in own]):.1f}"
        eer = f"{np.mean([cell.eer for cell in own]):.1%}"
        rows.append((name, len(own), f"{np.mean(errors):.1%}{spread}", eer, *fnir, epoch))
    columns = [f"{key.split(' at ')[0]} at {float(key.split(' at ')[1]):.0%}" for key in cells[0].fnir]
    table(
        f"{cpu_seconds:g} s of one core each; FNIR: examples at FPIR, K = half of the characters, fused by their mean",
        ("loss", "seeds", "20-way error", "EER", *columns, "s/epoch"),
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="OMNIGLOT")
    parser.add_argument("--kept", type=Path, required=True, metavar="DIR")
    parser.add_argument("--cpu-seconds", type=float, default=90.0, metavar="X")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--out", type=Path, default=Path("docs/losses.svg"), metavar="FILE.svg")
    parser.add_argument("--only", action="store_true", help="train nothing")
    options = parser.parse_args()
    options.kept.mkdir(parents=True, exist_ok=True)
    if options.only:
        files = options.kept.glob(f"*-{options.cpu_seconds:g}s-*.json")
        found = [Cell(**json.loads(file.read_text())) for file in files]
        order = [*LOSSES, (UNTRAINED, "")]
        cells = sorted(found, key=lambda cell: (order.index((cell.loss, cell.mining)), cell.seed))
    else:
        measured = read_examples([options.data / MEASURED], INPUT)
        bench = Bench(options.data, options.kept, options.cpu_seconds, measured)
        cells = []
        for seed in range(options.seeds):
            for loss, mining in (*LOSSES, (UNTRAINED, "")):
                cells.append(bench.cell(loss, mining, seed))
                last = cells[-1]
                print(f"{last.name}, seed {seed}: {last.error:.1%}, {last.steps} steps", flush=True)
    tell(cells, options.cpu_seconds)
    draw(cells, options.cpu_seconds, options.out)


if __name__ == "__main__":
    main()
