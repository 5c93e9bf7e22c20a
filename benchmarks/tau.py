"""Does a calibrated tau hold on people who were not used to fit it? A figure, against dlib's published 0.36.

    python -m benchmarks.tau MODELS DATA [--out docs/tau.svg]

Every photo is encoded by the running server (Encode, largest face). The people of DATA are split in two halves, many
times over. tau is fitted on one half, as `oneglance-exporter calibrate` does: K of them enrolled from one photo, the
others strangers. On the other half the same K are enrolled and the others come as strangers: the share that is let in,
and the share of enrolled people who are missed, are what the figure shows.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt

from benchmarks.faces import Photos, read_photos, served_encodings
from benchmarks.report import table
from oneglance import Client
from oneglance_core.measures import Scores, det_curve
from oneglance_core.trials import search
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.encoder.calibrate import calibrate, fit_splits
from oneglance_exporter.encoder.settings import CalibrateSettings
from oneglance_exporter.encoder.trials import open_set
from tests.running import ServerProcess

matplotlib.use("svg")
from matplotlib import pyplot as plt

AUTHORS = 0.36  # dlib's 0.6, squared
TARGETS = (0.01, 0.02, 0.05, 0.1, 0.2)
HALVES = 40
GALLERIES = 40
INK, CALM, ALARM = "#1f2933", "#2f6f8f", "#b3412e"


@dataclass(frozen=True)
class Trial:
    """On people not used to fit tau: the FPIR and FNIR, per target, and at the author's tau."""

    fpir: dict[float, float]
    fnir: dict[float, float]
    authors_fpir: float
    authors_fnir: float


def of_people(photos: Photos, people: npt.NDArray[np.int64]) -> tuple[Examples, npt.NDArray[np.int64]]:
    """The photos of some people as the exporter's Examples (without the pixels), and their rows."""
    rows = np.flatnonzero(np.isin(photos.person, people))
    number = {person: i for i, person in enumerate(sorted(people.tolist()))}
    subject_of = np.array([number[person] for person in photos.person[rows].tolist()])
    order = np.argsort(subject_of, kind="stable")
    names = tuple(photos.people[person] for person in sorted(people.tolist()))
    group_of = np.zeros(len(names), np.int64)
    return Examples(np.empty((len(rows), 1, 1, 1), np.uint8), subject_of[order], names, group_of, ("",)), rows[order]


def pooled(encodings: npt.NDArray[np.float32], pictures: Examples, size: int, seed: int) -> Scores:
    """Everybody's other photos against many random galleries of ``size``."""
    return Scores.pooled([search(encodings, open_set(pictures, size, seed=seed + i)) for i in range(GALLERIES)])


def trial(encodings: npt.NDArray[np.float32], photos: Photos, seed: int) -> Trial:
    order = np.random.default_rng(seed).permutation(len(photos.people))
    fitted, fit_rows = of_people(photos, order[: len(order) // 2])
    held, held_rows = of_people(photos, order[len(order) // 2 :])
    size = len(held.subjects) // 2
    unseen = pooled(encodings[held_rows], held, size, seed)
    fpir, fnir = {}, {}
    for target in TARGETS:
        found, _ = calibrate(
            encodings[fit_rows],
            fitted,
            "held-out experiment",
            CalibrateSettings(fpir=target, gallery_size=size, seed=seed),
        )
        fpir[target], fnir[target] = unseen.fpir(found.tau), unseen.fnir(found.tau)
    return Trial(fpir, fnir, unseen.fpir(AUTHORS), unseen.fnir(AUTHORS))


def draw(trials: list[Trial], everybody: Scores, name: str, size: int, out: Path) -> None:
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "oneglance", "text.color": INK})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.3), layout="constrained")
    means = [np.mean([t.fpir[target] for t in trials]) for target in TARGETS]
    lows, highs = np.percentile([[t.fpir[target] for target in TARGETS] for t in trials], [10, 90], axis=0)
    authors = float(np.mean([t.authors_fpir for t in trials]))
    left.plot([0.005, 0.4], [0.005, 0.4], color="#9aa5b1", lw=1, ls="--", label="as asked for")
    left.fill_between(TARGETS, np.maximum(lows, 1e-4), highs, color=CALM, alpha=0.2, lw=0, label="80 % of the halves")
    left.plot(TARGETS, means, "o-", color=CALM, label="calibrated on other people")
    left.axhline(authors, color=ALARM, lw=1.5, label=f"dlib's 0.36: {authors:.0%}")
    left.set(
        xscale="log", yscale="log", xlim=(0.008, 0.25), ylim=(0.002, 0.6),
        xlabel="FPIR asked for", ylabel="strangers let in (FPIR), people not fitted on",
        title=f"{name}: does tau hold? K = {size}",
    )  # fmt: skip
    curve = det_curve(everybody)
    right.plot([point.fpir for point in curve], [point.fnir for point in curve], color=INK, lw=1.5)
    label = f"dlib's 0.36: FPIR {everybody.fpir(AUTHORS):.0%}, FNIR {everybody.fnir(AUTHORS):.2%}"
    right.axvline(everybody.fpir(AUTHORS), color=ALARM, lw=1.5, label=label)
    for target, marker in ((0.01, "o"), (0.05, "^")):
        x = float(np.mean([t.fpir[target] for t in trials]))
        y = float(np.mean([t.fnir[target] for t in trials]))
        right.plot(x, y, marker, color=CALM, label=f"calibrated to {target:.0%} on other people")
    right.set(
        xscale="log", yscale="log", xlim=(0.002, 1), ylim=(3e-4, 0.3),
        xlabel="strangers let in (FPIR)", ylabel="known people missed (FNIR)", title="What it costs (DET)",
    )  # fmt: skip
    for axis in (left, right):
        axis.grid(color="#e4e7eb", lw=0.6)
        axis.legend(frameon=False, fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        for which in (axis.xaxis, axis.yaxis):
            which.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=None))
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, metavar="MODELS")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--out", type=Path, default=Path("docs/tau.svg"), metavar="FILE.svg")
    options = parser.parse_args()
    photos = read_photos(options.data)
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder), models=options.models, log_level="error") as server,
        Client(server.address) as client,
    ):
        encodings = served_encodings(client, photos).astype(np.float32)
    found = ~np.isnan(encodings).any(axis=1)
    photos = Photos(photos.name, [], photos.person[found], photos.people)
    encodings = encodings[found]
    trials = [trial(encodings, photos, seed) for seed in range(HALVES)]
    whole, rows = of_people(photos, np.arange(len(photos.people)))
    size = len(photos.people) // 4
    everybody = pooled(encodings[rows], whole, size, 0)
    draw(trials, everybody, photos.name, size, options.out)
    fit, half = fit_splits(encodings[rows], whole, CalibrateSettings(splits=200))
    print(f"{photos.name}: dlib's 0.36 lets {fit.scores.fpir(AUTHORS):.1%} of strangers in at K = {half}")
    table(
        f"tau fitted on half of {photos.name}'s people, tried on the other half, {HALVES} times, K = {size}",
        ("tau", "FPIR asked for", "FPIR", "10th to 90th percentile", "FNIR"),
        [
            ("calibrated", f"{target:.0%}", f"{np.mean([t.fpir[target] for t in trials]):.2%}",
             "{:.2%} to {:.2%}".format(*np.percentile([t.fpir[target] for t in trials], [10, 90])),
             f"{np.mean([t.fnir[target] for t in trials]):.2%}")
            for target in TARGETS
        ] + [
            ("dlib's 0.36", "", f"{np.mean([t.authors_fpir for t in trials]):.2%}",
             "{:.2%} to {:.2%}".format(*np.percentile([t.authors_fpir for t in trials], [10, 90])),
             f"{np.mean([t.authors_fnir for t in trials]):.2%}")
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
