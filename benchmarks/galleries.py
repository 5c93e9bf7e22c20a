"""FNIR by number of examples and rule of fusion, one random gallery after the other: their mean and their spread.

    oneglance-exporter encode --model MODEL --data DATA --out people.npz
    python -m benchmarks.galleries people.npz ... [--galleries 20] [--size K]

Half of the subjects, or K, are enrolled from 1, 3 and 5 examples, the same ones by each rule; their other pictures are
mated probes, all pictures of the others non-mated ones. tau is the largest that keeps the FPIR in that gallery. One
gallery's FNIR at a low FPIR hangs on a few look-alikes: hence the spread.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.report import table
from oneglance_core.fusion import FUSIONS, Fusion
from oneglance_core.measures import largest_tau_for_rate
from oneglance_core.trials import Encodings, search_fused

EXAMPLES = (1, 3, 5)
FPIRS = (0.01, 0.1)
GALLERIES = 20

Rates = dict[tuple[int, Fusion, float], list[float]]
"""FNIR in [0, 1] of each gallery, by number of examples, rule of fusion, and FPIR."""


def fnirs(
    encodings: Encodings,
    subject_of: npt.NDArray[np.int64],
    size: int | None = None,
    galleries: int = GALLERIES,
    examples: Sequence[int] = EXAMPLES,
) -> Rates:
    """Of random galleries of ``size`` subjects (half of all), gallery i drawn by seed i.

    encodings: float32 [N, D]; subject_of: int64 [N].
    """
    total = int(subject_of.max()) + 1
    members = [np.flatnonzero(subject_of == subject) for subject in range(total)]
    found: Rates = {(count, fusion, fpir): [] for count in examples for fusion in FUSIONS for fpir in FPIRS}
    for seed in range(galleries):
        rng = np.random.default_rng(seed)
        shown = [rng.permutation(own) for own in members]
        order = rng.permutation(total)
        inside, outside = order[: size or total // 2], order[size or total // 2 :]
        strangers = np.concatenate([shown[subject] for subject in outside])
        for count in examples:
            subjects = [(shown[subject][:count], shown[subject][count:]) for subject in inside]
            for fusion, scores in search_fused(encodings, subjects, strangers):
                for fpir in FPIRS:
                    tau = largest_tau_for_rate(scores.non_mated, fpir)
                    found[count, fusion, fpir].append(scores.fnir(tau))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", metavar="FILE.npz")
    parser.add_argument("--galleries", type=int, default=GALLERIES, metavar="N")
    parser.add_argument("--size", type=int, metavar="K")
    options = parser.parse_args()
    rows: list[tuple[object, ...]] = []
    for path in options.data:
        with np.load(path) as file:
            names, subject_of = np.unique(file["subjects"], return_inverse=True)
            rates = fnirs(file["encodings"], subject_of, options.size, options.galleries)
        for (count, fusion, fpir), values in rates.items():
            spread = f"{min(values):.1%} to {max(values):.1%}"
            size = options.size or len(names) // 2
            rows.append((path.stem, size, count, fusion, f"{fpir:.0%}", f"{np.mean(values):.1%}", spread))
    table(
        f"FNIR over {options.galleries} random galleries",
        ("data", "K", "examples", "fusion", "FPIR", "FNIR, mean", "lowest and highest"),
        rows,
    )


if __name__ == "__main__":
    main()
