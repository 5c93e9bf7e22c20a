"""Does a head that is learned on some people's faces help with others? Judged by a paired test, help or harm.

    python -m benchmarks.face_transfer MODELS DATA... [--out FOLDER] [--heads linear] [--seeds 3] [--steps 600]

MODELS is what ``oneglance-exporter import dlib-faces`` wrote; DATA are zips or folders of PERSON/photo.jpg. The largest
face of each photo is aligned once. For each seed the people of each set are split in two halves at random. A head is
trained on the encodings of the first halves (of one set, or of all) with ``train encoder --base``, exported, and
compared with the encoder as it is on the second halves, and on all people of the sets that it saw nobody of.
``--out`` keeps the aligned faces and the model folders. The tables are printed after each seed.
"""

import argparse
import csv
import io
import re
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.report import table
from oneglance_core.folder import read_model_folder
from oneglance_core.judging.compare import Difference, compare
from oneglance_core.judging.judge import Judgement, judge
from oneglance_core.judging.labelled import LabelledEncodings
from oneglance_exporter.api import export, train
from oneglance_exporter.data.files import labelled_files
from oneglance_exporter.encoder.encoded import Reading
from oneglance_exporter.encoder.judged import read_source
from oneglance_exporter.faces import bringing_faces

HEADS: dict[str, dict[str, Any]] = {
    "linear": {},
    "hidden layer of 256": {"hidden": 256},
}
DIMENSION = 128
SPLITS, REPLICATES = 5, 200  # of each judgement
ALL = "all"
FIGURES = {
    "EER": "EER",
    "FNIR at FPIR 1 %, half of them enrolled from one photo": r"FNIR at FPIR 1 %, \d+ enrolled from 1 each, by mean",
}

Faces = dict[str, list[Path]]
"""Aligned faces, by person."""


def aligned(models: Path, data: Path, folder: Path) -> Faces:
    """The largest face of each photo as a PNG in ``folder``/PERSON, of those in whom one is found."""
    done = folder / "done"
    if not done.exists():
        bring = bringing_faces(read_model_folder(models / "encoder"), models, threads=1)
        for number, file in enumerate(labelled_files([data])):
            content = file.read()
            face = bring(content)
            if face is not None:
                place = folder / file.subject.replace("/", "-")
                place.mkdir(parents=True, exist_ok=True)
                picture = io.BytesIO()
                Image.fromarray(face).save(picture, "PNG")
                (place / f"{number:05d}.png").write_bytes(picture.getvalue())
        done.touch()
    found = {place.name: sorted(place.iterdir()) for place in sorted(folder.iterdir()) if place.is_dir()}
    return {person: files for person, files in found.items() if len(files) > 1}


def listed(path: Path, sets: dict[str, Faces]) -> Path:
    """A CSV of these people, as ``--data`` takes it."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label"))
        for name, faces in sets.items():
            rows.writerows((one.resolve(), f"{name}/{person}") for person, files in faces.items() for one in files)
    return path


def halves(faces: Faces, seed: int) -> tuple[Faces, Faces]:
    order = np.random.default_rng(seed).permutation(sorted(faces))
    first = set(order[: len(order) // 2].tolist())
    return (
        {person: files for person, files in faces.items() if person in first},
        {person: files for person, files in faces.items() if person not in first},
    )


def judged_on(trained: str, sets: dict[str, Faces], others: dict[str, Faces]) -> dict[str, set[str]]:
    """Who a head is judged on that was trained on first halves of ``trained``; ``others``: the second halves."""
    found = {}
    for name, faces in sets.items():
        seen = trained in (name, ALL)
        chosen = others[name] if seen else faces
        found[f"{name}, {'other half' if seen else 'everybody'}"] = {f"{name}/{person}" for person in chosen}
    if trained == ALL:
        found["all, other halves"] = set().union(*found.values())
    return found


def encodings(model: Path, faces: Path) -> LabelledEncodings:
    return read_source(Reading(model, [faces], aligned=True), print, lambda done, words: None).people


def judged(people: LabelledEncodings, chosen: set[str], seed: int) -> Judgement:
    inside = [people.subjects[subject] in chosen for subject in people.subject_of]
    return judge(people.rows(np.flatnonzero(inside)), splits=SPLITS, replicates=REPLICATES, seed=seed)


def told(found: Sequence[Difference]) -> tuple[str, str, str, str]:
    """As it is, with the head, the difference in points with the interval of each seed, and what to think of it."""
    first, second = (100 * np.mean([getattr(one, side).value for one in found]) for side in ("first", "second"))
    each = "; ".join(
        f"{100 * one.difference.value:+.2f} ({100 * one.difference.low:+.2f} to {100 * one.difference.high:+.2f})"
        for one in found
    )
    harm, help_ = (sum(one.certain and sign * one.difference.value > 0 for one in found) for sign in (1, -1))
    verdict = ", ".join(f"{word} {count}" for word, count in (("harm", harm), ("help", help_)) if count)
    return f"{first:.2f} %", f"{second:.2f} %", each, verdict or "neither"


def tell(found: dict[tuple[str, str, str, str], list[Difference]], seeds: int) -> None:
    """A table of each figure, of as many halvings as were judged."""
    for figure in FIGURES:
        table(
            f"{figure} of faces: dlib's encoder as it is, and with a head, {seeds} random halves",
            ("trained on", "head", "judged on", "as it is", "with the head", "difference, points", "certain"),
            [
                (trained, head, which, *told(differences))
                for (one, head, trained, which), differences in found.items()
                if one == figure
            ],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, metavar="MODELS")
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA")
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS), metavar="HEAD")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--steps", type=int, default=600, metavar="N")
    options = parser.parse_args()
    with nullcontext(options.out) if options.out else tempfile.TemporaryDirectory() as place:
        out, base = Path(place), options.models / "encoder"
        sets = {path.stem: aligned(options.models, path, out / "aligned" / path.stem) for path in options.data}
        for name, faces in sets.items():
            print(f"{name}: {len(faces)} people, {sum(map(len, faces.values()))} faces")
        everybody = listed(out / "everybody.csv", sets)
        plain = encodings(base, everybody)
        found: dict[tuple[str, str, str, str], list[Difference]] = {}
        for seed in range(options.seeds):
            split = {name: halves(faces, seed) for name, faces in sets.items()}
            firsts, others = ({name: half[side] for name, half in split.items()} for side in (0, 1))
            as_is: dict[str, Judgement] = {}
            for trained in [*sets, ALL]:
                people = listed(out / "train.csv", firsts if trained == ALL else {trained: firsts[trained]})
                for head, settings in ((head, HEADS[head]) for head in options.heads):
                    run = out / "runs" / f"{trained}-{head}-{seed}".replace(" ", "-").replace(",", "")
                    model = out / "models" / run.name
                    if not model.exists():
                        limits: dict[str, Any] = {"dimension": DIMENSION, "steps": options.steps, "seed": seed}
                        train(people, run, base=str(base), aligned=True, **limits, **settings)
                        export(run, model, f"head-{seed}")
                    with_head = encodings(model, everybody)
                    for which, chosen in judged_on(trained, sets, others).items():
                        if which not in as_is:
                            as_is[which] = judged(plain, chosen, seed)
                        for one in compare(as_is[which], judged(with_head, chosen, seed)).differences:
                            for figure, pattern in FIGURES.items():
                                if re.fullmatch(pattern, one.name):
                                    found.setdefault((figure, head, trained, which), []).append(one)
                    print(f"{run.name}: judged", flush=True)
            tell(found, seed + 1)


if __name__ == "__main__":
    main()
