"""What a new user gets: FPIR and FNIR of galleries as they are by default, and at dlib's 0.36, by the same server.

    oneglance-exporter import dlib-faces --out MODELS
    python -m benchmarks.defaults MODELS DATA... [--galleries 50]

DATA are zips or folders of PERSON/photo.jpg. Every photo is sent to Encode once (the largest face). Half of the people
of a data set are enrolled by default settings, from one photo each or three, all their other photos are mated probes,
all photos of the others a stranger's; so many random galleries together. A photo that can't be encoded is a miss. The
same answers are also decided at 0.36, dlib's 0.6 squared.

The second table asks for other FPIR, too, and for each says tau twice: by what was measured on everybody, as it is
shipped, and by what is measured on the other data sets alone, so that nobody's own photos made it. The third is the
frontier: what FNIR each FPIR costs on the data set at the best tau.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.faces import Photos, read_photos, served_encodings
from benchmarks.report import table
from oneglance import Client, encoding
from oneglance.v1.common_pb2 import Threshold
from oneglance_core.expectation import Expectation
from oneglance_core.folder import model_folders, read_any_model_folder
from oneglance_core.manifests import EncoderManifest
from oneglance_core.measures import Scores, largest_tau_for_rate
from oneglance_exporter.encoder.false_positives import false_positives
from oneglance_exporter.encoder.random_galleries import RandomGalleries
from tests.running import ServerProcess

DLIB = 0.36
ASKED = (0.01, 0.02, 0.03, 0.05)
EXAMPLES = (1, 3)
FRONTIER = (0.001, 0.005, 0.01, 0.02, 0.05)


@dataclass(frozen=True)
class People:
    """encodings: float64 [N, 128], NaN where there is none; person: int64 [N]."""

    name: str
    encodings: npt.NDArray[np.float64]
    person: npt.NDArray[np.int64]

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        missing: npt.NDArray[np.bool_] = np.isnan(self.encodings.sum(axis=1))
        return ~missing


@dataclass(frozen=True)
class Gallery:
    """enrolled: of each person, the photos; mated: int64 [M]; mate: int64 [M], whose they are; strangers: int64 [S]."""

    enrolled: dict[int, npt.NDArray[np.int64]]
    mated: npt.NDArray[np.int64]
    strangers: npt.NDArray[np.int64]


def galleries(people: People, examples: int, count: int) -> Iterator[Gallery]:
    members = [np.flatnonzero(people.person == one) for one in range(people.person.max() + 1)]
    for seed in range(count):
        rng = np.random.default_rng((seed, examples))
        order = rng.permutation(len(members)).tolist()
        able = [one for one in order if people.found[members[one]].sum() > examples][: len(members) // 2]
        enrolled = {one: rng.permutation(members[one][people.found[members[one]]])[:examples] for one in able}
        mated = np.concatenate([np.setdiff1d(members[one], enrolled[one]) for one in able])
        strangers = np.concatenate([members[one] for one in order if one not in enrolled])
        yield Gallery(enrolled, mated, strangers)


@dataclass(frozen=True)
class Decided:
    """Scores of all galleries, and shares of strangers let in and mates missed by the server's own decisions."""

    scores: Scores
    fpir: float
    fnir: float
    threshold: Threshold


def decide(client: Client, people: People, examples: int, count: int) -> Decided:
    parts: list[Scores] = []
    let_in: list[bool] = []
    missed: list[bool] = []
    for i, split in enumerate(galleries(people, examples, count)):
        gallery = f"{people.name} {examples} {i}"
        digest = client.create_gallery(gallery).encoder_digest
        for one, photos in split.enrolled.items():
            client.enroll(gallery, str(one), *(encoding(people.encodings[photo], digest) for photo in photos))
        distances: list[npt.NDArray[np.float64]] = []
        for probes, of_mates in ((split.mated, True), (split.strangers, False)):
            seen = probes[people.found[probes]]
            answer = client.identify(
                gallery, *(encoding(people.encodings[photo], digest) for photo in seen), max_candidates=1
            )
            nearest = np.full(len(probes), np.inf)
            identified = np.full(len(probes), "", object)
            for at, result in zip(np.flatnonzero(people.found[probes]).tolist(), answer.results, strict=True):
                mate = str(people.person[probes[at]])
                best = result.candidates[0]
                nearest[at] = best.distance if best.subject_id == mate or not of_mates else np.inf
                identified[at] = result.subject_id
            distances.append(nearest)
            if of_mates:
                missed += [got != str(people.person[photo]) for got, photo in zip(identified, probes, strict=True)]
            else:
                let_in += [bool(got) for got in identified]
        parts.append(Scores(*distances))
        threshold = answer.threshold
        client.delete_gallery(gallery)
    return Decided(Scores.pooled(parts), float(np.mean(let_in)), float(np.mean(missed)), threshold)


def elsewhere(sets: Sequence[People], one: People) -> Expectation:
    """What would be expected if it were measured on the other data sets alone."""
    others = [other for other in sets if other is not one]
    starts = np.cumsum([0, *(other.person.max() + 1 for other in others)])
    person = np.concatenate([other.person[other.found] + start for other, start in zip(others, starts, strict=False)])
    encodings = np.concatenate([other.encodings[other.found] for other in others]).astype(np.float32)
    made = false_positives(RandomGalleries(encodings, person), "", {}, ASKED[0])
    assert made is not None
    return Expectation(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, metavar="MODELS")
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA")
    parser.add_argument("--galleries", type=int, default=50, metavar="N")
    options = parser.parse_args()
    if len(options.data) < 2:
        parser.error("one data set is told of by the others: at least two")
    (measured,) = [
        model.of(EncoderManifest).manifest.false_positives
        for path in model_folders(options.models)
        if (model := read_any_model_folder(path)).manifest.kind == "encoder"
    ]
    assert measured is not None
    shipped = Expectation(measured)
    served: list[tuple[object, ...]] = []
    held_out: list[tuple[object, ...]] = []
    frontier: list[tuple[object, ...]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder), models=options.models, log_level="error") as server,
        Client(server.address, timeout_seconds=120) as client,
    ):
        photos: list[Photos] = [read_photos(path) for path in options.data]
        sets = [People(one.name, served_encodings(client, one), one.person) for one in photos]
        for people in sets:
            total = int(people.person.max()) + 1
            other = elsewhere(sets, people)
            for examples in EXAMPLES:
                found = decide(client, people, examples, options.galleries)
                tau, scores = found.threshold, found.scores
                head = people.name, total // 2, examples
                served.append(
                    (
                        *head,
                        f"{tau.tau:.3f}",
                        f"{tau.expected_fpir:.1%} ({tau.expected_fpir_low:.1%} to {tau.expected_fpir_high:.1%})",
                        f"{found.fpir:.2%}",
                        f"{found.fnir:.2%}",
                        f"{scores.fpir(DLIB):.2%}",
                        f"{scores.fnir(DLIB):.2%}",
                    )
                )
                for asked in ASKED:
                    cells: list[str] = []
                    for by in (shipped, other):
                        theirs = by.tau(asked, "mean", examples, total // 2)
                        cells += [f"{theirs:.3f}", f"{scores.fpir(theirs):.2%}", f"{scores.fnir(theirs):.2%}"]
                    held_out.append((*head, f"{asked:.0%}", *cells))
                rates = [f"{scores.fnir(largest_tau_for_rate(scores.non_mated, rate)):.2%}" for rate in FRONTIER]
                frontier.append((*head, *rates))
    columns = "data", "enrolled", "photos each"
    table(
        f"By default, {options.galleries} galleries each",
        (*columns, "tau", "FPIR expected", "FPIR", "FNIR", f"FPIR at {DLIB}", f"FNIR at {DLIB}"),
        served,
    )
    rates_at = "tau", "FPIR", "FNIR"
    table("By everybody, and by the other data sets alone", (*columns, "asked", *rates_at, *rates_at), held_out)
    table("FNIR at the best tau for an FPIR of", (*columns, *(f"{rate:.1%}" for rate in FRONTIER)), frontier)


if __name__ == "__main__":
    main()
