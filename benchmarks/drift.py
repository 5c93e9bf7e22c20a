"""What the drift alarm says, and after how many probes, when other probes come than the gallery was calibrated on.

    oneglance-exporter encode --model MODEL --data DATA --out DATA.npz
    python -m benchmarks.degraded MODELS DATA --out worse.npz
    python -m benchmarks.drift DATA.npz ... [--degraded worse.npz]... [--build NAME=FOLDER]... [--halvings 10]

The people of all files are split in two halves, at random, several times over. What is measured on one half is what the
alarm goes by; of the other half, half are enrolled from one picture each. Probes are drawn at random with replacement,
strangers' and mates' in equal numbers. They come as they are, as ``--degraded`` has them, as another build of the
encoder gives them (FOLDER has files of the same names), or with noise added to their encodings. Last, each file's
people come to what was measured on all other files. The server's own watch counts them.
"""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import structlog

from benchmarks.report import table
from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.fusion import Fusion
from oneglance_exporter.encoder.false_positives import false_positives
from oneglance_exporter.encoder.mates import mate_scores
from oneglance_exporter.encoder.random_galleries import RandomGalleries
from oneglance_index import Candidate, Found, Gallery, Generation
from oneglance_server.calls import Call, Caller
from oneglance_server.service.drift import DriftWatches
from oneglance_server.service.thresholds import Thresholds

Encodings = npt.NDArray[np.float32]
PROBES = 4000
STEP = 10  # probes between two looks
FUSION: Fusion = "mean"
NOISES = (0.1, 0.2, 0.4)  # of an encoding's length
SHOWN = ("blur", "dark", "bright", "size")  # of benchmarks.degraded
CALL = Call(Caller("benchmark"))
See = Callable[[npt.NDArray[np.float64]], dict[str, str]]
Alarms = dict[str, tuple[int, str] | None]


@dataclass(frozen=True)
class People:
    """encodings float32 [N, D]; whose each is: ``FILE/NAME``."""

    encodings: Encodings
    names: npt.NDArray[np.str_]

    def of(self, names: Sequence[str]) -> "People":
        rows = np.flatnonzero(np.isin(self.names, names))
        return People(self.encodings[rows], self.names[rows])


def read(paths: Sequence[Path]) -> People:
    parts, names = [], []
    for path in paths:
        with np.load(path) as file:
            found = ~np.isnan(file["encodings"]).any(axis=1)
            parts.append(file["encodings"][found])
            names.append(np.array([f"{path.stem}/{name}" for name in file["subjects"][found]]))
    return People(np.concatenate(parts), np.concatenate(names))


def read_degraded(paths: Sequence[Path]) -> dict[tuple[str, float], People]:
    """By series and step, of all files; pictures in which no face was found are left out."""
    files = [np.load(path) for path in paths]
    series, steps, encodings, people = (
        np.concatenate([file[name] for file in files]) for name in ("series", "steps", "encodings", "people")
    )
    found = ~np.isnan(encodings).any(axis=1)
    keys = dict.fromkeys(zip(series.tolist(), steps.tolist(), strict=True))
    return {
        key: People(encodings[rows], people[rows])
        for key in keys
        if len(rows := np.flatnonzero(found & (series == key[0]) & (steps == key[1])))
    }


class Measured:
    """What was measured on people, as a server has it of a model."""

    def __init__(self, people: People) -> None:
        subject_of = np.unique(people.names, return_inverse=True)[1]
        random = RandomGalleries(people.encodings, subject_of)
        curves = false_positives(random, "", {}, 0.01)
        manifest = SimpleNamespace(threshold=None, author_threshold=None, false_positives=curves, pair_head=None)
        mates = mate_scores(random, "")
        self._mates = {("e", "distance"): mates} if mates else {}
        self._thresholds = Thresholds([cast(Any, SimpleNamespace(digest="e", manifest=manifest))])

    def watch(self, size: int) -> See:
        """A fresh watch of a gallery of ``size``: takes scores, and tells its states."""
        active = Generation("e", 1, "flat", FUSION, "active", None, 0, None, None, 0, None, 0.0)
        gallery = Gallery("g", "", active, 0.01, None, None, None, 0.0, 0, size, size)
        watches = DriftWatches(self._thresholds, self._mates, lambda *_: None)

        def see(scores: npt.NDArray[np.float64]) -> dict[str, str]:
            near = tuple((Candidate("s", "", score, score),) for score in scores.tolist())
            watches.saw(CALL, gallery, Found(near, (), (), 0, size, size, True, "flat", "cpu"), len(near))
            return {one.of: one.advice or one.state for one in watches.of(gallery)}

        return see


def alarms(
    measured: Measured, enrolled: People, mates: People, strangers: People, rng: np.random.Generator, noise: float = 0.0
) -> Alarms:
    """Of strangers and mates: after how many probes of all kinds drift was first suspected, and what was said."""
    see = measured.watch(len(enrolled.names))
    first: Alarms = {"strangers": None, "mates": None}
    for start in range(0, PROBES, STEP):
        kinds = [mates if coin else strangers for coin in rng.integers(2, size=STEP)]
        probes = np.stack([kind.encodings[rng.integers(len(kind.encodings))] for kind in kinds]).astype(np.float64)
        if noise:
            length = np.linalg.norm(probes, axis=1, keepdims=True)
            probes += noise * length * rng.standard_normal(probes.shape) / np.sqrt(probes.shape[1])
        scores = pairwise_squared_l2(probes, enrolled.encodings).min(axis=1)
        for of, said in see(scores).items():
            if first[of] is None and said not in ("none", "not_watched"):
                first[of] = (start + STEP, said)
    return first


def halves(people: People, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    names = rng.permutation(np.unique(people.names)).tolist()
    return names[: len(names) // 2], names[len(names) // 2 :]


def one_each(people: People, rng: np.random.Generator) -> People:
    rows = [rng.choice(np.flatnonzero(people.names == name)) for name in np.unique(people.names)]
    return People(people.encodings[rows], people.names[rows])


def cost(measured: Measured) -> float:
    """Microseconds that one probe takes the watch."""
    see = measured.watch(10)
    scores = np.random.default_rng(0).uniform(0, 1, 64)
    see(scores)
    began = time.process_time()
    for _ in range(200):
        see(scores)
    return 1e6 * (time.process_time() - began) / (200 * len(scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", metavar="FILE.npz")
    parser.add_argument("--degraded", action="append", type=Path, default=[], metavar="FILE.npz")
    parser.add_argument("--build", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--halvings", type=int, default=10, metavar="N")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    people = read(options.data)
    worse = read_degraded(options.degraded) if options.degraded else {}
    builds = {
        name: read([Path(folder) / path.name for path in options.data])
        for name, _, folder in (text.partition("=") for text in options.build)
    }
    found: dict[str, list[Alarms]] = {}
    for seed in range(options.halvings):
        rng = np.random.default_rng(seed)
        first, second = halves(people, rng)
        inside, outside = second[: len(second) // 2], second[len(second) // 2 :]
        measured = Measured(people.of(first))
        enrolled = one_each(people.of(inside), rng)
        known, strange = people.of(inside), people.of(outside)
        found.setdefault("other people of the same kind", []).append(alarms(measured, enrolled, known, strange, rng))
        for (series, step), some in worse.items():
            bad, worse_strange = some.of(inside), some.of(outside)
            if series in SHOWN and len(bad.names) and len(worse_strange.names):
                own = one_each(people.of(np.unique(bad.names).tolist()), rng)
                found.setdefault(f"{series} {step:g}", []).append(alarms(measured, own, bad, worse_strange, rng))
        for name, build in builds.items():
            found.setdefault(f"probes by build {name}", []).append(
                alarms(measured, enrolled, build.of(inside), build.of(outside), rng)
            )
        for noise in NOISES:
            found.setdefault(f"noise of {noise:g}", []).append(alarms(measured, enrolled, known, strange, rng, noise))
    files = sorted({name.partition("/")[0] for name in people.names.tolist()})
    for file in files if len(files) > 1 else ():
        own_names = [name for name in np.unique(people.names).tolist() if name.startswith(f"{file}/")]
        others = Measured(people.of([name for name in people.names.tolist() if name not in own_names]))
        for seed in range(options.halvings):
            rng = np.random.default_rng(seed)
            inside, outside = halves(people.of(own_names), rng)
            enrolled = one_each(people.of(inside), rng)
            found.setdefault(f"people of {file}, measured on the others", []).append(
                alarms(others, enrolled, people.of(inside), people.of(outside), rng)
            )
    rows = []
    for case, runs in found.items():
        cells: list[object] = [case]
        for of in ("strangers", "mates"):
            raised = [alarm for one in runs if (alarm := one[of]) is not None]
            said = sorted({text.split(" to ")[0].split(" from ")[0] for _, text in raised})
            after = f"{median(count for count, _ in raised):.0f}" if raised else "-"
            cells += [f"{len(raised)} of {len(runs)}", after, "; ".join(said) or "-"]
        rows.append(cells)
    table(
        f"Drift: alarms within {PROBES} probes, {options.halvings} halvings; {cost(measured):.1f} us a probe",
        ("probes", "of strangers", "after", "says", "of mates", "after", "says"),
        rows,
    )


if __name__ == "__main__":
    main()
