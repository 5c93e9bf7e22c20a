"""The encoder's figures measured through the running server, and the same computed offline with numpy: they must agree.

    python -m benchmarks.accuracy [--model MODEL_DIR] [--trials 20000] DATA...

DATA are folders or zips of pictures that the encoder was not trained on (for Omniglot: the validation alphabets).
Offline means: the same ONNX file in ONNX Runtime, distances and rates in numpy. Through the server means: every
picture travels as PNG, is enrolled or identified over gRPC, and only the answers are looked at.

The 20-way trials need a gallery per alphabet and drawer; a trial's answer is the nearest of its 20 candidates.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.report import table
from oneglance import Client, enroll_request, identify_request
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED, IdentifyRequest, IdentifyResult
from oneglance.v1.subject_pb2 import EnrollRequest
from oneglance_core.folder import read_model_folder
from oneglance_core.measures import Scores, det_point, largest_tau_for_rate, tau_for_rate
from oneglance_core.trials import OneShotTrials, OpenSet
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.reading import read_examples
from oneglance_exporter.encoder.evaluate import evaluate
from oneglance_exporter.encoder.settings import EvaluateSettings
from oneglance_exporter.encoder.trials import one_shot_trials, open_set
from oneglance_exporter.runtime import encoder_of
from oneglance_server.settings import BUNDLED_MODEL
from tests.pictures import png
from tests.running import ServerProcess

PROBES_PER_CALL = 32


class Served:
    """The pictures, as a server knows them: each picture's subject id is its own index."""

    def __init__(self, client: Client, pictures: Examples) -> None:
        self._client = client
        self._png = [png(image) for image in pictures.inputs]

    def enroll(self, gallery: str, enrolled: Sequence[int]) -> None:
        """A gallery with one subject per picture index."""
        self._client.create_gallery(gallery)

        def items() -> Iterator[EnrollRequest]:
            for index in enrolled:
                yield enroll_request(gallery, str(index), [self._png[index]])

        refused = [
            response.error.message for response in self._client.bulk_enroll(items()) if response.HasField("error")
        ]
        if refused:
            raise RuntimeError(refused[0])

    def identify(
        self, gallery: str, probes: Sequence[int], candidates: int, tau: float | None = None
    ) -> list[IdentifyResult]:
        """One result per probe."""

        def requests() -> Iterator[IdentifyRequest]:
            for start in range(0, len(probes), PROBES_PER_CALL):
                part = [self._png[index] for index in probes[start : start + PROBES_PER_CALL]]
                yield identify_request(gallery, part, max_candidates=candidates, tau=tau)

        return [result for answer in self._client.identify_stream(requests()) for result in answer.response.results]

    def scores(self, gallery: str, split: OpenSet) -> Scores:
        """Enroll and probe ``split``; what the server says before any threshold."""
        self.enroll(gallery, split.enrolled.tolist())
        mated = self.identify(gallery, split.mated.tolist(), 1)
        strangers = self.identify(gallery, split.strangers.tolist(), 1)
        mates = split.enrolled[split.mate]
        nearest = [result.candidates[0] for result in mated]
        return Scores(
            mated=np.array(
                [c.distance if int(c.subject_id) == mate else np.inf for c, mate in zip(nearest, mates, strict=True)]
            ),
            non_mated=np.array([result.candidates[0].distance for result in strangers]),
        )

    def decide(self, gallery: str, split: OpenSet) -> tuple[float, float]:
        """(FPIR, FNIR) of the server's own decisions at the gallery's tau."""
        mated = self.identify(gallery, split.mated.tolist(), 1)
        strangers = self.identify(gallery, split.strangers.tolist(), 1)
        mates = split.enrolled[split.mate].astype(str)
        let_in = [result.decision == DECISION_IDENTIFIED for result in strangers]
        missed = [result.subject_id != mate for result, mate in zip(mated, mates, strict=True)]
        return float(np.mean(let_in)), float(np.mean(missed))

    def one_shot_error(self, pictures: Examples, trials: OneShotTrials) -> float:
        """Share of trials whose nearest support picture is of another subject."""
        first = np.searchsorted(pictures.subject_of, np.arange(len(pictures.subjects)))
        drawer = np.arange(len(pictures.inputs)) - first[pictures.subject_of]
        group = pictures.group_of[pictures.subject_of]
        wrong = 0
        by_gallery: dict[tuple[int, int], list[int]] = defaultdict(list)
        for t, support in enumerate(trials.support):
            by_gallery[int(group[support[0]]), int(drawer[support[0]])].append(t)
        for (g, d), members in by_gallery.items():
            gallery = f"group {g} drawer {d}"
            enrolled = np.flatnonzero((group == g) & (drawer == d))
            self.enroll(gallery, enrolled.tolist())
            results = self.identify(gallery, trials.probe[members].tolist(), len(enrolled))
            for t, result in zip(members, results, strict=True):
                support = set(trials.support[t].tolist())
                nearest = next(int(c.subject_id) for c in result.candidates if int(c.subject_id) in support)
                wrong += nearest != trials.support[t, trials.answer[t]]
        return wrong / len(trials.probe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="DATA")
    parser.add_argument("--model", type=Path, default=BUNDLED_MODEL, metavar="MODEL_DIR")
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--splits", type=int, default=5, help="random galleries to average over [%(default)s]")
    options = parser.parse_args()
    folder = read_model_folder(options.model)
    pictures = read_examples(options.data, folder.manifest.input)
    encodings = encoder_of(folder.model, threads=2)(pictures.inputs)
    offline = evaluate(encodings, pictures, EvaluateSettings(trials=options.trials, splits=options.splits))

    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as data_dir,
        ServerProcess(Path(data_dir), models=options.model, unfit_inputs="tell", log_level="error") as server,
        Client(server.address, timeout_seconds=120) as client,
    ):
        served = Served(client, pictures)
        error = served.one_shot_error(pictures, one_shot_trials(pictures, options.trials))
        everybody, halves, decided = [], [], []
        for seed in range(options.splits):
            whole = open_set(pictures, offline.subjects, seed)
            everybody.append(served.scores(f"everybody {seed}", whole).rank1)
            split = open_set(pictures, offline.gallery_size, seed)
            half = served.scores(f"half {seed}", split)
            halves.append(half)
            # The decisions themselves, at the tau that the distances give.
            point = det_point(half, tau_for_rate(half.non_mated, 0.01))
            client.set_threshold(f"half {seed}", point.tau)
            decided.append((point, *served.decide(f"half {seed}", split)))
    seconds = time.perf_counter() - started

    rows: list[tuple[str, float, float]] = [
        (f"{offline.ways}-way one-shot error, {offline.trials:,} trials", offline.one_shot_error, error),
        (f"rank-1, all {offline.subjects} enrolled once", offline.rank1.mean, float(np.mean(everybody))),
    ]
    for fpir, spread in offline.fnir.items():
        mean = float(np.mean([half.fnir(largest_tau_for_rate(half.non_mated, fpir)) for half in halves]))
        rows.append((f"FNIR at FPIR {fpir:.0%}, K = {offline.gallery_size}", spread.mean, mean))
    for name, at in (("FPIR", 1), ("FNIR", 2)):
        expected = float(np.mean([(point.fpir, point.fnir)[at - 1] for point, *_ in decided]))
        rows.append((f"{name} of the decisions at those tau", expected, float(np.mean([d[at] for d in decided]))))
    table(
        f"Accuracy of {folder.manifest.name} {folder.digest[:12]}, offline and through the server, "
        f"means over {options.splits} random galleries",
        ("figure", "offline", "served", "equal"),
        [(name, f"{a:.4f}", f"{b:.4f}", "yes" if abs(a - b) < 1e-9 else f"no: {b - a:+.2e}") for name, a, b in rows],
    )
    print(f"\nEER over all pairs, offline: {offline.eer:.4f}; {seconds:.0f} s through the server")


if __name__ == "__main__":
    main()
