"""One shot on subjects never trained on: our encoders of signals beside DTW and MiniRocket, the same protocol for all.

    python -m benchmarks.signals [--rivals PYTHON] [--cache DIR] [--folds N] [--sets NAME ...]

The subjects are dealt into folds; each fold is tested once, by an encoder trained on the others. Of each test subject
one example is enrolled, drawn at random, and all others are probes; a hundred times over. rank-1: the share of probes
whose nearest enrolled example is their own subject's. EER: over all pairs of probe and enrolled example. A probe's
time: one thread, batch of one, with the comparisons with all enrolled.

--rivals: a Python that has aeon (`python -m venv`, `pip install aeon`); without it only ours and Euclidean distances.
What they say of a fold is kept in --cache, since DTW takes minutes a fold.
"""

import argparse
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import table
from benchmarks.signal_sets import SignalSet, read_set
from oneglance_core.folder import read_model_folder
from oneglance_core.manifests import InputSpec
from oneglance_core.measures import equal_error_rate
from oneglance_core.windows import joined, windows_of
from oneglance_exporter.api import export, train
from oneglance_exporter.runtime import Encode, encoder_of

NETWORKS = Path(__file__).parents[1] / "examples" / "one_shot" / "networks.py"
REPEATS = 100
FOLDS = {"PigCVP": 4, "JapaneseVowels": 3}
SETTINGS: dict[str, dict[str, Any]] = {
    "PigCVP": {
        "size": (1000,),
        "window_step": 250,
        "network": f"{NETWORKS}:signals",
        "classes_per_batch": 26,
        "steps": 250,
    },
    "JapaneseVowels": {
        "fit": "pad",
        "network": f"{NETWORKS}:words",
        "augment": "none",
        "classes_per_batch": 6,
        "examples_per_class": 12,
        "steps": 1,  # of so few speakers more steps learn what tells just them apart
    },
}
WHITENED = {"PigCVP": None, "JapaneseVowels": 0.4}  # chosen, as the steps, on halves of the speakers trained on
Distances = npt.NDArray[np.float64]


@dataclass
class Method:
    """What folds gave. seconds: of one probe."""

    rank_1: list[float] = field(default_factory=list)
    mated: list[npt.NDArray[np.float64]] = field(default_factory=list)
    non_mated: list[npt.NDArray[np.float64]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rivals", help="a Python that has aeon")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "oneglance-signals")
    parser.add_argument("--folds", type=int, help="how many of the folds are tested [all]")
    parser.add_argument("--sets", nargs="+", choices=FOLDS, default=list(FOLDS))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        measure(read_set(name, options.cache), options.rivals, options.folds or FOLDS[name], options.cache)


def measure(signals: SignalSet, rivals: str | None, folds: int, cache: Path) -> None:
    methods: dict[str, Method] = {}
    everybody = np.unique(signals.subjects)
    dealt = np.random.default_rng(0).permutation(everybody)
    for fold in range(folds):
        tested = dealt[fold :: FOLDS[signals.name]]
        rows = np.flatnonzero(np.isin(signals.subjects, tested))
        others = np.flatnonzero(~np.isin(signals.subjects, tested))
        with tempfile.TemporaryDirectory() as place:
            found = {"oneglance": ours(signals, rows, others, Path(place), len(tested))}
            found["Euclidean"] = euclidean(signals, rows, len(tested))
            if rivals:
                kept = cache / f"{signals.name}-{fold}.npz"
                found |= by_aeon(signals, rows, others, rivals, kept, len(tested))
        for method, (distances, seconds) in found.items():
            told = methods.setdefault(method, Method())
            score(told, distances, signals.subjects[rows])
            told.seconds.append(seconds)
            print(f"{signals.name}, fold {fold}, {method}: rank-1 {told.rank_1[-1]:.1%}", flush=True)
    lines = []
    for method, told in methods.items():
        eer, _ = equal_error_rate(np.concatenate(told.mated), np.concatenate(told.non_mated))
        rates = f"{np.mean(told.rank_1):.1%}", f"{min(told.rank_1):.1%} to {max(told.rank_1):.1%}", f"{eer:.1%}"
        lines.append([method, *rates, f"{1000 * np.mean(told.seconds):.2f}"])
    per_fold = len(everybody) / FOLDS[signals.name]
    title = f"{signals.name}: {folds} of {FOLDS[signals.name]} folds, {per_fold:g} unseen subjects each"
    table(title, ["by", "rank-1", "of the folds", "EER", "ms a probe"], lines)


def score(method: Method, distances: Distances, subjects: npt.NDArray[np.int64]) -> None:
    """``distances`` [N, N] between all examples of a fold."""
    rng = np.random.default_rng(1)
    hits = []
    names = np.unique(subjects)
    for _ in range(REPEATS):
        enrolled = np.array([rng.choice(np.flatnonzero(subjects == name)) for name in names])
        probes = np.setdiff1d(np.arange(len(subjects)), enrolled)
        between = distances[np.ix_(probes, enrolled)]
        hits.append(names[between.argmin(axis=1)] == subjects[probes])
        own = subjects[probes][:, np.newaxis] == names
        method.mated.append(between[own])
        method.non_mated.append(between[~own])
    method.rank_1.append(float(np.concatenate(hits).mean()))


def ours(
    signals: SignalSet, rows: npt.NDArray[np.int64], others: npt.NDArray[np.int64], place: Path, enrolled: int
) -> tuple[Distances, float]:
    for row in others:
        folder = place / "data" / str(signals.subjects[row])
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{row:04d}.npy", signals.signals[row])
    settings = {"dimension": 64, "average": 0.98, "learning_rate": 2e-3, **SETTINGS[signals.name]}
    train(place / "data", place / "run", input="signal", **settings)
    export(place / "run", place / "model", "signals", whiten=WHITENED[signals.name])
    model = read_model_folder(place / "model")
    spec, run = model.manifest.input, encoder_of(model.model, threads=1)
    encodings = np.stack([encoded(signals.signals[row], spec, run) for row in rows])
    gallery = encodings[:enrolled]
    begun = perf_counter()
    for row in rows[:20]:
        np.square(encoded(signals.signals[row], spec, run) - gallery).sum(axis=1).argmin()
    seconds = (perf_counter() - begun) / min(20, len(rows))
    return np.square(encodings[:, np.newaxis] - encodings).sum(axis=2).astype(np.float64), seconds


def encoded(signal: npt.NDArray[np.float32], spec: InputSpec, run: Encode) -> npt.NDArray[np.float32]:
    windows = windows_of(signal, spec)
    (encoding,) = joined(run(windows), [len(windows)], unit_norm=True)
    return np.asarray(encoding)


def padded(signals: SignalSet, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """float32 [N, C, L], followed by zeros."""
    longest = max(len(signal) for signal in signals.signals)
    values = np.zeros((len(rows), signals.signals[0].shape[1], longest), np.float32)
    for to, row in zip(values, rows, strict=True):
        to[:, : len(signals.signals[row])] = signals.signals[row].T
    return values


def euclidean(signals: SignalSet, rows: npt.NDArray[np.int64], enrolled: int) -> tuple[Distances, float]:
    flat = padded(signals, rows).reshape(len(rows), -1).astype(np.float64)
    begun = perf_counter()
    for one in flat[:20]:
        np.square(one - flat[:enrolled]).sum(axis=1).argmin()
    seconds = (perf_counter() - begun) / min(20, len(rows))
    squares = np.square(flat).sum(axis=1)
    return np.maximum(0, squares[:, np.newaxis] + squares - 2 * flat @ flat.T), seconds


def by_aeon(
    signals: SignalSet,
    rows: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
    python: str,
    kept: Path,
    enrolled: int,
) -> dict[str, tuple[Distances, float]]:
    if not kept.exists():
        with tempfile.TemporaryDirectory() as place:
            fold, out = Path(place) / "fold.npz", Path(place) / "out.npz"
            lengths = np.array([len(signals.signals[row]) for row in rows])
            np.savez(fold, trained=padded(signals, others), tested=padded(signals, rows), lengths=lengths)
            script = Path(__file__).with_name("signal_rivals.py")
            subprocess.run([python, str(script), str(fold), str(out)], check=True)
            shutil.copy(out, kept)
    with np.load(kept) as found:
        return {
            "1-NN DTW": (found["dtw"], float(found["dtw_seconds"]) * enrolled),
            "MiniRocket, 1-NN": (found["minirocket"], float(found["minirocket_seconds"])),
        }


if __name__ == "__main__":
    main()
