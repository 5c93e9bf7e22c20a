"""Photos end to end, through the running server, against face_recognition (dlib) on the same photos in the same run.

    python -m benchmarks.faces MODELS DATA... [--what accuracy,speed] [--rival-python PYTHON]...

MODELS is what ``oneglance-exporter import dlib-faces`` wrote; DATA are zips or folders of PERSON/photo.jpg. A photo
counts with its largest face; one without any that was found is a miss, whoever it shows. ``--rival-python``: further
Pythons whose dlib was built otherwise (with a BLAS, say).
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load import ENCODE, IDENTIFY, Load, drive
from benchmarks.report import table
from oneglance import Client, encoding, photo
from oneglance.client.requests import tensor
from oneglance.v1.identification_pb2 import EncodeRequest, IdentifyRequest
from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.folder import model_folders, read_any_model_folder
from oneglance_core.measures import Scores, equal_error_rate, largest_tau_for_rate, match_rate, to_mate
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.session import Runtime
from tests.running import ServerProcess

SPLITS = 200
FPIRS = (0.01, 0.001)
SECONDS = 8.0
ROUNDS = 3
METRICS = "127.0.0.1:19464"
RIVAL = Path(__file__).parent / "face_rival.py"
PICTURES = (".jpg", ".jpeg", ".png", ".pgm")


@dataclass(frozen=True)
class Photos:
    """Photos of people: the bytes of each file, whose it is, and the names."""

    name: str
    data: list[bytes]
    person: npt.NDArray[np.int64]
    people: list[str]

    def pixels(self) -> list[npt.NDArray[np.uint8]]:
        return [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in self.data]


def read_photos(path: Path) -> Photos:
    """A zip or a folder of PERSON/photo files, in order of name."""
    if path.is_dir():
        files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*")}
    else:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    kept = sorted(name for name in files if name.lower().endswith(PICTURES))
    owner = [PurePosixPath(name).parent.name for name in kept]
    people = sorted(set(owner))
    return Photos(path.stem, [files[name] for name in kept], np.array([people.index(o) for o in owner]), people)


@dataclass(frozen=True)
class Figures:
    """Shares in [0, 1]. A photo without a face that was found is a miss."""

    missed: int
    rank1: float
    eer: float
    fnir: tuple[float, ...]


def figures(encodings: npt.NDArray[np.floating], person: npt.NDArray[np.int64]) -> Figures:
    """One photo per person enrolled, in turn; EER over all pairs; FNIR over random halves of the people."""
    found = ~np.isnan(encodings).any(axis=1)
    distance = np.full((len(person), len(person)), np.inf)
    distance[np.ix_(found, found)] = pairwise_squared_l2(encodings[found], encodings[found])
    members = [np.flatnonzero(person == p) for p in range(person.max() + 1)]

    right = []
    for turn in range(min(map(len, members))):
        enrolled = np.array([photos[turn] for photos in members])
        probes = np.setdiff1d(np.arange(len(person)), enrolled)
        right.append(to_mate(distance[np.ix_(probes, enrolled)], person[probes]))

    upper = np.triu_indices(len(person), 1)
    same = person[upper[0]] == person[upper[1]]
    eer, _ = equal_error_rate(distance[upper][same], distance[upper][~same])

    parts = []
    rng = np.random.default_rng(0)
    for _ in range(SPLITS):
        order = rng.permutation(len(members))
        inside, outside = order[: len(members) // 2], order[len(members) // 2 :]
        enrolled = np.array([rng.choice(members[p]) for p in inside])
        others = [np.setdiff1d(members[p], enrolled) for p in inside]
        mates = np.repeat(np.arange(len(inside)), [len(photos) for photos in others])
        strangers = np.concatenate([members[p] for p in outside])
        parts.append(
            Scores(
                mated=to_mate(distance[np.ix_(np.concatenate(others), enrolled)], mates),
                non_mated=distance[np.ix_(strangers, enrolled)].min(axis=1),
            )
        )
    scores = Scores.pooled(parts)
    return Figures(
        missed=int((~found).sum()),
        rank1=match_rate(np.concatenate(right), np.inf),
        eer=eer,
        fnir=tuple(scores.fnir(largest_tau_for_rate(scores.non_mated, fpir)) for fpir in FPIRS),
    )


def served_encodings(client: Client, photos: Photos) -> npt.NDArray[np.float64]:
    """Encode, photo by photo, largest face: float64 [N, 128], NaN where the server finds no face."""
    rows = []
    for data in photos.data:
        try:
            (one,) = client.encode(photo(data, "largest")).encodings
            rows.append(np.array(one.values))
        except Exception as error:
            if getattr(error, "reason", "") not in ("FACE_NOT_FOUND", "FACE_NOT_UPRIGHT"):
                raise
            rows.append(np.full(128, np.nan))
    return np.array(rows)


def check_decisions(client: Client, photos: Photos, encodings: npt.NDArray[np.float64]) -> float:
    """Share of photos whose nearest subject, by Identify on the photo itself, is the one that the distances name."""
    first = np.array([np.flatnonzero(photos.person == p)[0] for p in range(len(photos.people))])
    gallery = f"{photos.name} once"
    client.create_gallery(gallery)
    digest = client.get_gallery(gallery).encoder_digest
    for i in first:
        client.enroll(gallery, photos.people[photos.person[i]], encoding(encodings[i], digest))
    agree = []
    for i, data in enumerate(photos.data):
        results = client.identify(gallery, photo(data, "largest"), max_candidates=1).results
        if np.isnan(encodings[i]).any():
            agree.append(not results)
            continue
        nearest = photos.people[int(pairwise_squared_l2(encodings[i : i + 1], encodings[first]).argmin())]
        agree.append(bool(results[0].candidates) and results[0].candidates[0].subject_id == nearest)
    return float(np.mean(agree))


def rival(python: str, task: str, weights: Path, argument: object, pixels: Sequence[npt.NDArray[np.uint8]]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photos.npz"
        np.savez(path, *pixels)
        command = [python, str(RIVAL), task, str(weights), str(argument), str(path)]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def accuracy(models: Path, weights: Path, sets: Sequence[Photos]) -> None:
    rows: list[tuple[object, ...]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder) / "d", models=models, log_level="error") as s,
    ):
        client = Client(s.address, timeout_seconds=120)
        for photos in sets:
            served = served_encodings(client, photos)
            out = Path(folder) / "rival.npz"
            rival(sys.executable, "encode", weights, out, photos.pixels())
            for name, encodings in (("oneglance", served), ("face_recognition", np.load(out)["encodings"])):
                got = figures(encodings, photos.person)
                rows.append(
                    (photos.name, name, len(photos.people), len(photos.data), got.missed, f"{got.rank1:.4f}",
                     f"{got.eer:.4f}", *(f"{rate:.4f}" for rate in got.fnir))
                )  # fmt: skip
            agreed = check_decisions(client, photos, served)
            print(f"{photos.name}: Identify on the photos names the same nearest subject for {agreed:.1%} of them")
        client.close()
    table(
        "Accuracy from photos, one enrolled photo per person",
        ("data", "by", "people", "photos", "no face found", "rank-1", "EER", *(f"FNIR at FPIR {f:.1%}" for f in FPIRS)),
        rows,
    )


def stage_ms() -> dict[str, float]:
    """Mean milliseconds of each stage of the photo pipeline, from the server's own metrics."""
    with urlopen(f"http://{METRICS}/metrics") as answer:
        text = answer.read().decode()
    totals: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        if family.name == "oneglance_stage_seconds":
            for sample in family.samples:
                totals[sample.labels["stage"], sample.name.rpartition("_")[2]] = sample.value
    return {stage: 1000 * total / totals[stage, "count"] for (stage, kind), total in totals.items() if kind == "sum"}


@dataclass(frozen=True)
class Variant:
    """A way to run oneglance: model folders, and settings of the server."""

    label: str
    models: str
    settings: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """LABEL=MODELS[,setting=value]..."""
        label, _, rest = text.partition("=")
        models, *settings = rest.split(",")
        return cls(label, models, dict(setting.split("=", 1) for setting in settings))


def speed(variants: Sequence[Variant], weights: Path, photos: Photos, pythons: Sequence[str]) -> None:
    pixels = photos.pixels()
    requests = [IdentifyRequest(gallery_id="people", probes=[photo(d, "largest")]) for d in photos.data]
    ours: dict[tuple[str, int], list[Load]] = {}
    theirs: dict[tuple[str, int], list[float]] = {}
    stages: dict[str, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for variant in variants:
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                server = stack.enter_context(
                    ServerProcess(folder, models=variant.models, log_level="error", metrics=METRICS, **variant.settings)
                )
                enroll_each(server.address, photos)
                for calls in (1, 16):
                    load = drive(server.address, IDENTIFY, requests, in_flight=calls, seconds=SECONDS, go_on=True)
                    ours.setdefault((variant.label, calls), []).append(load)
                    if calls == 1:
                        stages[f"oneglance, {variant.label}"] = stage_ms()
        for python in pythons:
            one = json.loads(rival(python, "speed", weights, SECONDS, pixels))
            theirs.setdefault((python, 1), []).append(one["per_second"])
            stages[f"face_recognition, {label(python)}"] = one["stage_ms"]
            theirs.setdefault((python, 2), []).append(two_at_once(python, weights, pixels))
    rates = {key: statistics.median(load.per_second for load in loads) for key, loads in ours.items()}
    rival_rates = {key: statistics.median(found) for key, found in theirs.items()}
    table(
        f"Photos per second, end to end, {photos.name}",
        (
            "who",
            "photos/s",
            "p50 ms",
            "refused",
            *(f"times {label(python)}, {n} process{'es' if n > 1 else ''}" for python, n in rival_rates),
        ),
        [
            (
                f"oneglance, {name}, {calls} in flight",
                rate,
                statistics.median(load.p50_ms for load in ours[name, calls]),
                sum(load.refused for load in ours[name, calls]),
                *(rate / other for other in rival_rates.values()),
            )
            for (name, calls), rate in rates.items()
        ],
    )
    print()
    for (python, processes), rate in rival_rates.items():
        print(f"face_recognition, {label(python)}, {processes} process(es): {rate:.1f} photos/s")
    names = sorted({stage for took in stages.values() for stage in took})
    table(
        "Milliseconds a photo, by stage, one photo at a time",
        ("who", *names),
        [(who, *(took.get(stage, "") for stage in names)) for who, took in stages.items()],
    )


def enroll_each(address: str, photos: Photos) -> None:
    """Everybody's first photo, in the gallery ``people``."""
    with Client(address, timeout_seconds=120) as client:
        client.create_gallery("people")
        for p, name in enumerate(photos.people):
            client.enroll("people", name, photo(photos.data[int(np.flatnonzero(photos.person == p)[0])], "largest"))


def two_at_once(python: str, weights: Path, pixels: Sequence[npt.NDArray[np.uint8]]) -> float:
    """Two processes side by side: what face_recognition makes of two cores."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photos.npz"
        np.savez(path, *pixels)
        command = [python, str(RIVAL), "speed", str(weights), str(SECONDS), str(path)]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        return float(sum(json.loads(process.communicate()[0])["per_second"] for process in both))


def label(python: str) -> str:
    return "dlib-bin" if python == sys.executable else f"dlib of {Path(python).parents[2].name}"


def encoder_speed(models: Path) -> None:
    """Aligned faces through the server against bare ONNX Runtime on as many threads."""
    (folder,) = [f for p in model_folders(models) if (f := read_any_model_folder(p)).manifest.kind == "encoder"]
    encoder = Encoder(folder, Runtime("cpu", 1, 1))
    shape = encoder.manifest.input.shape
    chips = np.random.default_rng(0).integers(0, 256, (64, *shape), dtype=np.uint8)
    from benchmarks.encode import bare

    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory() as data, ServerProcess(Path(data), models=models, log_level="error") as server:
        for calls, per_call in ((1, 1), (16, 1), (64, 1), (8, 16)):
            sent = [
                EncodeRequest(examples=[tensor(chip) for chip in chips[i : i + per_call]])
                for i in range(0, 64, per_call)
            ]
            rates, bares, refused = [], [], 0
            for _ in range(ROUNDS):
                bares.append(bare(encoder, chips, 2, SECONDS / 2))
                load = drive(server.address, ENCODE, sent, in_flight=calls, seconds=SECONDS / 2, go_on=True)
                refused += load.refused
                rates.append(load.per_second * per_call)
            raw, rate = statistics.median(bares), statistics.median(rates)
            rows.append((calls, per_call, raw, rate, rate / raw, refused))
    table(
        "The face encoder through the server against bare ONNX Runtime, two workers of one thread each",
        ("calls in flight", "faces a call", "bare faces/s", "served faces/s", "ratio", "refused"),
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, metavar="MODELS")
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA")
    parser.add_argument("--what", default="accuracy,speed,encoder", help="[%(default)s]")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="LABEL=MODELS[,SETTING=VALUE]...",
        help="also measure its speed",
    )
    parser.add_argument("--rival-python", action="append", default=[], metavar="PYTHON")
    options = parser.parse_args()
    from oneglance_exporter.imports.dlib_faces import installed_weights

    weights, _ = installed_weights()
    sets = [read_photos(path) for path in options.data]
    what = options.what.split(",")
    if "accuracy" in what:
        accuracy(options.models, weights, sets)
    if "speed" in what:
        variants = [Variant("float32", str(options.models), {}), *map(Variant.parse, options.variant)]
        speed(variants, weights, sets[0], [sys.executable, *options.rival_python])
    if "encoder" in what:
        encoder_speed(options.models)


if __name__ == "__main__":
    main()
