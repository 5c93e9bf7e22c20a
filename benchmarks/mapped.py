"""What it costs to enroll encodings that a map made of another encoder's, in place of pictures.

    oneglance-exporter encode --model OLD --data DATA --out old.npz
    oneglance-exporter encode --model NEW --data DATA --out new.npz
    python -m benchmarks.mapped old.npz new.npz [--fitted 100 200 1000] [--held 200] [--pairs 2] [--draws 5]
    python -m benchmarks.mapped --invented 1400 DATA

In each of several draws, subjects at random are held out: half of them are enrolled from one picture each, and the
others are strangers. Maps are fitted on so many of the other subjects, with so many pictures each. Probes are encoded
by the new encoder. FNIR and FPIR are at the tau where 1 % or 10 % of the strangers match somebody who is enrolled by
the new encoder itself; and FNIR once more at the tau where as many match somebody who is enrolled as told, as a
calibration would set it. The last form writes a folder of invented characters, ten drawings each, for the other ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt

from benchmarks.report import options, table
from oneglance_core.distance import Vectors, pairwise_squared_l2
from oneglance_core.glyphs import alphabet
from oneglance_core.mapping import EncodingMap, fit_map
from oneglance_core.measures import Scores, largest_tau_for_rate, to_mate
from tests.pictures import png

FPIRS = (0.01, 0.1)
AN_ALPHABET, DRAWINGS = 50, 10
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Encodings of the same pictures by both encoders, float32 [N, D1] and [N, D2]; whose each is, int64 [N]."""

    old: Vectors
    new: Vectors
    whose: Indices

    def rows(self, subjects: Indices, most: int) -> Indices:
        """Of these subjects, in order: the first pictures of each."""
        return np.concatenate([np.flatnonzero(self.whose == one)[:most] for one in subjects])


def read(old: Path, new: Path) -> Pairs:
    first, second = np.load(old), np.load(new)
    if list(first["files"]) != list(second["files"]):
        raise SystemExit("the two files are of other pictures")
    return Pairs(first["encodings"], second["encodings"], np.unique(second["subjects"], return_inverse=True)[1])


def scores(enrolled: Vectors, probes: Vectors, own: Indices, strangers: Vectors) -> Scores:
    mated = to_mate(pairwise_squared_l2(probes, enrolled), own)
    return Scores(mated, pairwise_squared_l2(strangers, enrolled).min(axis=1))


def drawn(pairs: Pairs, fitted: Sequence[int], held: int, each: int, seed: int) -> dict[str, tuple[float, ...]]:
    """By how it is enrolled: rank-1; then for each FPIR, at its tau by the new encoder FNIR and FPIR, and FNIR at its
    own."""
    order = np.random.default_rng(seed).permutation(pairs.whose.max() + 1)
    mates, others, rest = order[: held // 2], order[held // 2 : held], order[held:]
    enrolled = pairs.rows(mates, 1)
    probes = np.setdiff1d(pairs.rows(mates, len(pairs.whose)), enrolled)
    own = np.argsort(mates)[np.searchsorted(np.sort(mates), pairs.whose[probes])]
    strangers = pairs.rows(others, len(pairs.whose))

    def measured(made: EncodingMap | None) -> Scores:
        shown = pairs.new[enrolled] if made is None else made(pairs.old[enrolled])
        return scores(shown, pairs.new[probes], own, pairs.new[strangers])

    former = scores(pairs.old[enrolled], pairs.old[probes], own, pairs.old[strangers])
    true = measured(None)
    found = {"former encoder, before the move": _told(former, former), "new encoder, enrolled again": _told(true, true)}
    unit_norm = bool(np.allclose(np.linalg.norm(pairs.new, axis=1), 1, atol=1e-3))
    for count in fitted:
        rows = pairs.rows(rest[:count], each)
        made = fit_map(pairs.old[rows], pairs.new[rows], pairs.whose[rows], unit_norm=unit_norm)
        found[f"mapped, fitted on {count:,} subjects"] = _told(measured(made), true)
    return found


def _told(found: Scores, true: Scores) -> tuple[float, ...]:
    told = [found.rank1]
    for fpir in FPIRS:
        tau, own = (largest_tau_for_rate(one.non_mated, fpir) for one in (true, found))
        told += [found.fnir(tau), found.fpir(tau), found.fnir(own)]
    return tuple(told)


def invent(folder: Path, count: int) -> None:
    made = 0
    while made < count:
        seed = 1000 + made
        for character in alphabet(seed, min(AN_ALPHABET, count - made), DRAWINGS):
            (folder / character.name).mkdir(parents=True)
            for number, drawing in enumerate(character.drawings):
                (folder / character.name / f"{number}.png").write_bytes(png(drawing))
            made += 1


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="old.npz new.npz; or a new folder")
    parser.add_argument("--invented", type=int, default=0, help="characters to draw into the folder")
    parser.add_argument("--fitted", type=int, nargs="+", default=[100, 200, 1000], help="subjects of a map")
    parser.add_argument("--held", type=int, default=200, help="subjects held out")
    parser.add_argument("--pairs", type=int, default=2, help="pictures of each subject that a map is fitted on")
    parser.add_argument("--draws", type=int, default=5)
    o = parser.parse_args()
    if o.invented:
        invent(o.files[0], o.invented)
        return
    pairs = read(*o.files)
    draws = [drawn(pairs, o.fitted, o.held, o.pairs, seed) for seed in range(o.draws)]
    rows = [
        (name, *(100 * mean(one[name][place] for one in draws) for place in range(1 + 3 * len(FPIRS))))
        for name in draws[0]
    ]
    title = f"{o.files[0].stem} to {o.files[1].stem}: {o.held // 2} enrolled, {o.held // 2} strangers, {o.draws} draws"
    header = ["enrolled by", "rank-1 %"]
    for fpir in FPIRS:
        header += [f"FNIR % at FPIR {fpir:.0%}", "FPIR %", "FNIR % at a tau of its own"]
    table(title, header, rows)


if __name__ == "__main__":
    main()
