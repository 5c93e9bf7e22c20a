"""FPIR and rank-1 against the number enrolled: measured by a running server's answers, and predicted from pairs.

    python -m benchmarks.size DATA [--model MODEL_DIR] [--splits 3] [--out docs/size.svg]

DATA is a folder or zip of .../SUBJECT/picture that the encoder wasn't trained on. Galleries grow: further subjects are
enrolled, from one picture each, and all probes are identified again. tau is that of an FMR over all pairs. The same is
computed from the encodings by ``oneglance_core.judging``; the two must be equal.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.report import table
from oneglance import Client, encoding, enroll_request, identify_request
from oneglance.v1.common_pb2 import Encoding
from oneglance_core.folder import read_model_folder
from oneglance_core.judging.galleries import FMRS, Draw, draw
from oneglance_core.judging.judge import Judgement, judge
from oneglance_core.judging.labelled import LabelledEncodings
from oneglance_core.measures import Indices, largest_tau_for_rate, match_rate
from oneglance_exporter.encoder.encoded import Reading
from oneglance_exporter.encoder.judged import read_source
from oneglance_server.settings import BUNDLED_MODEL
from tests.running import ServerProcess

matplotlib.use("svg")
from matplotlib import pyplot as plt

INK, SOFT, COLORS = "#1f2933", "#9aa5b1", ("#2f6f8f", "#b3412e")
PROBES_PER_CALL = 64

Counts = dict[tuple[str, int], tuple[int, int]]
"""By figure and K: how many probes hit, and how many there are."""


class Served:
    """A server that holds galleries of ``people``, whose encodings it is sent. A subject's id is its number."""

    def __init__(self, client: Client, people: LabelledEncodings, digest: str) -> None:
        self.client, self.people, self.digest = client, people, digest

    def enroll(self, gallery: str, drawn: Draw, places: range) -> None:
        items = (
            enroll_request(gallery, str(drawn.order[place]), [self._encoding(int(drawn.enrolled[place, 0]))])
            for place in places
        )
        for answer in self.client.bulk_enroll(items):
            if answer.HasField("error"):
                raise RuntimeError(answer.error.message)

    def nearest(self, gallery: str, rows: Indices) -> list[tuple[int, float]]:
        """Of each probe the nearest subject, and its distance."""
        requests = (
            identify_request(
                gallery, [self._encoding(int(row)) for row in rows[start : start + PROBES_PER_CALL]], max_candidates=1
            )
            for start in range(0, len(rows), PROBES_PER_CALL)
        )
        return [
            (int(result.candidates[0].subject_id), result.candidates[0].distance)
            for answer in self.client.identify_stream(requests)
            for result in answer.response.results
        ]

    def _encoding(self, row: int) -> Encoding:
        return encoding(self.people.encodings[row], self.digest)


def measure(served: Served, judgement: Judgement) -> Counts:
    people = served.people
    counts: Counts = {}
    taus = {fmr: largest_tau_for_rate(judgement.pairs.non_mated, fmr) for fmr in FMRS}
    half = judgement.galleries.open_size
    for seed in range(judgement.splits):
        drawn = draw(people, 1, judgement.seed + seed)
        gallery, enrolled = f"draw {seed}", 0
        served.client.create_gallery(gallery)
        for size in [one.gallery_size for one in judgement.galleries.by_size]:
            served.enroll(gallery, drawn, range(enrolled, size))
            enrolled = size
            mated = np.flatnonzero(drawn.probe & (drawn.place < size))
            found = [subject for subject, _ in served.nearest(gallery, mated)]
            right = (np.array(found) == people.subject_of[mated]).tolist()
            add(counts, ("rank-1", size), right)
            if size <= half:
                strangers = np.flatnonzero(drawn.place >= half)
                distances = [distance for _, distance in served.nearest(gallery, strangers)]
                for fmr, tau in taus.items():
                    add(counts, (f"FPIR at FMR {fmr:.1%}", size), [distance <= tau for distance in distances])
            print(f"{gallery}: {size} enrolled", flush=True)
    return counts


def add(counts: Counts, key: tuple[str, int], hits: list[bool]) -> None:
    before = counts.get(key, (0, 0))
    counts[key] = before[0] + sum(hits), before[1] + len(hits)


def rows_of(judgement: Judgement, counts: Counts) -> list[tuple[object, ...]]:
    """Measured by the server, computed, predicted."""
    rows: list[tuple[object, ...]] = []
    for (name, size), (hits, total) in sorted(counts.items()):
        one = next(one for one in judgement.galleries.by_size if one.gallery_size == size)
        if name == "rank-1":
            assert one.rank1 is not None
            figure, predicted = one.rank1, f"{one.independent_rank1:.2%}; {one.simple_rank1:.2%}"
        else:
            assert one.fpir is not None
            figure, rate = one.fpir[next(fmr for fmr in FMRS if name.endswith(f"{fmr:.1%}"))]
            predicted = f"{rate:.2%}"
        served = hits / total
        equal = "yes" if abs(served - figure.value) < 1e-9 else f"no: {served - figure.value:+.2e}"
        rows.append((name, size, f"{served:.2%}", f"{figure.low:.2%} to {figure.high:.2%}", predicted, equal))
    return rows


def figure_of(judgement: Judgement, counts: Counts, name: str, out: Path) -> None:
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "oneglance", "text.color": INK})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.3), layout="constrained")
    sizes = judgement.galleries.by_size
    for fmr, color in zip(FMRS, COLORS, strict=True):
        known = [(one.gallery_size, one.fpir[fmr]) for one in sizes if one.fpir is not None]
        at = [size for size, _ in known]
        share = match_rate(judgement.pairs.non_mated, largest_tau_for_rate(judgement.pairs.non_mated, fmr))
        served = [counts[f"FPIR at FMR {fmr:.1%}", size] for size in at]
        left.plot(
            at, [predicted for _, (_, predicted) in known], "--", color=color, lw=1.2, label=f"1 - (1 - {share:.1%})^K"
        )
        left.fill_between(
            at, [m.low for _, (m, _) in known], [m.high for _, (m, _) in known], color=color, alpha=0.18, lw=0
        )
        left.plot(
            at, [hits / total for hits, total in served], "o-", color=color, ms=4, label=f"served, τ of FMR {fmr:.1%}"
        )
    left.set(
        xscale="log",
        yscale="log",
        xlabel="subjects enrolled, K",
        ylabel="strangers let in (FPIR)",
        title=f"{name}: FPIR",
    )
    at = [one.gallery_size for one in sizes if one.rank1 is not None]
    known_rank1 = [one.rank1 for one in sizes if one.rank1 is not None]
    right.fill_between(
        at, [m.low for m in known_rank1], [m.high for m in known_rank1], color=COLORS[0], alpha=0.18, lw=0
    )
    right.plot(
        at,
        [counts["rank-1", size][0] / counts["rank-1", size][1] for size in at],
        "o-",
        color=COLORS[0],
        ms=4,
        label="served",
    )
    right.plot(
        at, [one.independent_rank1 for one in sizes], "--", color=INK, lw=1.2, label="by the pairs, if independent"
    )
    right.plot(
        at,
        [one.simple_rank1 for one in sizes],
        ":",
        color=COLORS[1],
        lw=1.5,
        label=f"(1 - EER)^K, EER {judgement.pairs.eer.value:.1%}",
    )
    right.set(xscale="log", ylim=(0, 1.02), xlabel="subjects enrolled, K", ylabel="rank-1", title=f"{name}: rank-1")
    for axis in (left, right):
        axis.grid(color="#e4e7eb", lw=0.6)
        axis.legend(frameon=False, fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda share, _: f"{100 * share:g}%"))
        axis.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%d"))
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--model", type=Path, default=BUNDLED_MODEL, metavar="MODEL_DIR")
    parser.add_argument("--splits", type=int, default=3, metavar="N")
    parser.add_argument("--out", type=Path, default=Path("docs/size.svg"), metavar="FILE.svg")
    options = parser.parse_args()
    source = read_source(Reading(options.model, [options.data]), print, lambda done, words: None)
    judgement = judge(source.people, splits=options.splits)
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder), models=options.model, log_level="error") as server,
        Client(server.address, timeout_seconds=120) as client,
    ):
        counts = measure(Served(client, judgement.people, read_model_folder(options.model).digest), judgement)
    figure_of(judgement, counts, options.data.stem, options.out)
    table(
        f"{source.name} on {options.data.stem}, {options.splits} draws: by the server's answers, and from pairs",
        ("figure", "K", "served", "95 % interval", "predicted", "computed is served"),
        rows_of(judgement, counts),
    )


if __name__ == "__main__":
    main()
