"""What becomes of turned photos, without and with the uprightness check, and what the check costs.

    python -m benchmarks.turned MODELS DATA... [--out docs/turned.svg]

MODELS is what ``oneglance-exporter import dlib-faces`` wrote; DATA are zips or folders of PERSON/photo.jpg, all
upright. Every photo comes in its four turns and mirrored, without EXIF, as Enroll takes it with ``--face largest``. A
face is *aligned* when its landmarks lie where those of the upright photo do, turned likewise; else it is junk.
"""

import argparse
import hashlib
import io
import pickle
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.patches
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.faces import Photos, read_photos
from benchmarks.report import table
from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.faces.chips import cut_chip
from oneglance_core.faces.crops import CropRequest, FaceChoice, FaceCrops, FaceError, crop_faces
from oneglance_core.faces.finder import ChipSpec, FaceFinder, Photo, SmallFaces
from oneglance_core.folder import read_model_folder
from oneglance_core.intervals import clopper_pearson
from oneglance_core.pictures import decode_photo
from oneglance_exporter.data.photos import LIMITS
from oneglance_exporter.faces import read_check, read_finder
from oneglance_exporter.runtime import encoder_of

matplotlib.use("svg")
from matplotlib import pyplot as plt

Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

WINDOW = 80.0  # of the detector, pixels
TAUS = (0.2525, 0.36)
MISPLACED = 0.3  # mean distance of the landmarks from where they belong, in distances of the eyes
ORIENTATION = {1: 6, 2: 3, 3: 8}  # EXIF, by quarters that the stored picture is turned counterclockwise
GOOD, JUNK, CALM = "#2f6f8f", "#b3412e", "#cbd2d9"


class Remembering(FaceFinder):
    """A finder that searches each picture once, and keeps what it found in a file."""

    def __init__(self, finder: FaceFinder, file: Path | None) -> None:
        self._finder, self._file = finder, file
        self._known: dict[str, Photo] = pickle.loads(file.read_bytes()) if file and file.is_file() else {}

    def find(
        self, photos: Sequence[Pixels], small_faces: Sequence[SmallFaces], search_pixels: Sequence[int] = ()
    ) -> list[Photo]:
        found = []
        for pixels, small in zip(photos, small_faces, strict=True):
            key = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
            if key not in self._known:
                (self._known[key],) = self._finder.find([pixels], ["when-none"])
            photo = self._known[key]
            # The enlarged photo is searched when the first search has found nothing.
            first_only = small == "never" and photo.smallest_face < WINDOW - 1
            found.append(replace(photo, faces=(), smallest_face=WINDOW) if first_only else photo)
        return found

    def locate(self, photos: Sequence[Pixels], found: Sequence[Photo]) -> list[Photo]:
        return self._finder.locate(photos, found)

    def save(self) -> None:
        if self._file:
            self._file.write_bytes(pickle.dumps(self._known))


class Pipeline:
    """The models in one thread, with the check or without it."""

    def __init__(self, models: Path, remembered: Path | None = None, *, remember: bool = False) -> None:
        encoder = read_model_folder(models / "encoder")
        assert encoder.manifest.alignment is not None
        self.spec = ChipSpec(encoder.manifest.alignment, *encoder.manifest.input.shape[:2])
        self.encode = encoder_of(encoder.model, 1)
        finder = read_finder(models, 1)
        self.finder = Remembering(finder, remembered) if remember else finder
        check = read_check(models, 1)
        if check is None:
            raise SystemExit(f"{models}: no uprightness check in it")
        self.check = check

    def crop(self, photo: bytes, *, checked: bool, upright_only: bool = False) -> FaceCrops | FaceError:
        request = CropRequest(photo, FaceChoice("largest", upright_only=upright_only), self.spec)
        (outcome,) = crop_faces(
            self.finder, self.check if checked else None, [request], LIMITS, lambda stage: nullcontext()
        )
        if not isinstance(outcome, FaceCrops | FaceError):
            raise outcome
        return outcome


@dataclass(frozen=True)
class Seen:
    """What became of one photo: refused for a reason, or accepted, aligned or not, with this encoding."""

    reason: str = ""
    aligned: bool = False
    encoding: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Shot:
    """One photo in one of its turns. quarters: counterclockwise."""

    person: int
    mirrored: bool
    quarters: int
    before: Seen
    after: Seen


def stored(pixels: Pixels, orientation: int | None = None) -> bytes:
    """A file without loss; ``orientation``: what its EXIF says."""
    buffer = io.BytesIO()
    if orientation is None:
        Image.fromarray(pixels).save(buffer, "BMP")
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1, exif=exif)
    return buffer.getvalue()


def shots(pipeline: Pipeline, photos: Photos) -> Iterator[Shot]:
    """Every photo as it is and mirrored, in its four turns."""
    for person, pixels in zip(photos.person.tolist(), photos.pixels(), strict=True):
        for mirrored in (False, True):
            upright = pixels[:, ::-1] if mirrored else pixels
            place: Points | None = None
            for quarters in range(4):
                photo = stored(np.ascontiguousarray(np.rot90(upright, quarters)))
                found = pipeline.crop(photo, checked=False)
                if quarters == 0 and isinstance(found, FaceCrops):
                    place = np.array(found.photo.faces[0].points)
                where = None if place is None else turned(place, upright.shape[0], upright.shape[1], quarters)
                before = seen(pipeline, found, where)
                if isinstance(found, FaceCrops):
                    (judged,) = pipeline.check.judge([decode_photo(photo, LIMITS)], [found.photo])
                    if judged.faces[0].comparable:
                        yield Shot(person, mirrored, quarters, before, before)
                        continue
                yield Shot(
                    person, mirrored, quarters, before, seen(pipeline, pipeline.crop(photo, checked=True), where)
                )


def turned(points: Points, height: int, width: int, quarters: int) -> Points:
    """Points of a picture, in the picture turned counterclockwise."""
    for _ in range(quarters):
        points = np.stack([points[:, 1], width - 1 - points[:, 0]], axis=1)
        height, width = width, height
    return points


def seen(pipeline: Pipeline, outcome: FaceCrops | FaceError, where: Points | None) -> Seen:
    if isinstance(outcome, FaceError):
        return Seen(outcome.reason)
    points = np.array(outcome.photo.faces[0].points)
    aligned = False
    if where is not None:
        eyes = float(np.linalg.norm(where[:2].mean(axis=0) - where[2:4].mean(axis=0)))
        aligned = bool(np.linalg.norm(points - where, axis=1).mean() < MISPLACED * eyes)
    return Seen("", aligned, pipeline.encode(outcome.chips)[0])


def misidentified(looks: Sequence[tuple[int, Seen]], tau: float) -> int:
    """Of the probes, how many lie within tau of somebody else because one of the two is junk: each photo is the probe
    once, and enrolled for all others."""
    kept = [(person, one.encoding, one.aligned) for person, one in looks if one.encoding is not None]
    encodings = np.stack([encoding for _, encoding, _ in kept])
    person = np.array([one[0] for one in kept])
    junk = np.array([not one[2] for one in kept])
    near = pairwise_squared_l2(encodings, encodings) <= tau
    near &= person[:, None] != person
    near &= junk[:, None] | junk
    return int(near.any(axis=1).sum())


def row(name: str, when: str, looks: Sequence[tuple[int, Seen]]) -> list[object]:
    only = [one for _, one in looks]
    falsely = misidentified(looks, TAUS[0])
    bound = clopper_pearson(falsely, len(looks))[1]
    return [
        name,
        when,
        len(only),
        sum(one.aligned for one in only),
        sum(not one.reason and not one.aligned for one in only),
        sum(one.reason == "FACE_NOT_FOUND" for one in only),
        sum(one.reason == "FACE_NOT_UPRIGHT" for one in only),
        f"{falsely} (at most {bound:.2%})",
        misidentified(looks, TAUS[1]),
    ]


def exif_kept(photos: Photos) -> tuple[int, int]:
    """Of turned photos whose EXIF says so, how many are decoded to the upright one; and how many there were."""
    equal = [
        np.array_equal(decode_photo(stored(np.ascontiguousarray(np.rot90(pixels, quarters)), tag), LIMITS), pixels)
        for pixels in photos.pixels()
        for quarters, tag in ORIENTATION.items()
    ]
    return sum(equal), len(equal)


def cohort_rows(found: dict[str, list[Shot]]) -> list[list[object]]:
    """The other way to refuse: by the distance to the nearest encoding of junk, taken from the first data set."""
    cohort = np.stack([e for name in list(found)[:1] for e in _encodings(found[name], aligned=False)])
    rows: list[list[object]] = []
    for name in list(found)[1:]:
        good = pairwise_squared_l2(np.stack(_encodings(found[name], aligned=True)), cohort).min(axis=1)
        junk = pairwise_squared_l2(np.stack(_encodings(found[name], aligned=False)), cohort).min(axis=1)
        limit = float(np.quantile(good, 0.01))
        rows.append([name, len(cohort), f"{limit:.3f}", f"{np.mean(junk < limit):.1%} of {len(junk)}"])
    return rows


def _encodings(of: Sequence[Shot], *, aligned: bool) -> list[npt.NDArray[np.float32]]:
    return [
        shot.before.encoding
        for shot in of
        if shot.before.encoding is not None and shot.before.aligned == aligned and aligned == (shot.quarters == 0)
    ]


def draw(found: dict[str, list[Shot]], out: Path) -> None:
    """Bars: what becomes of the turned photos of each data set."""
    figure, axis = plt.subplots(figsize=(8, 0.55 * 2 * len(found) + 1.3), layout="constrained")
    labels: list[str] = []
    for name, of in found.items():
        for when in ("without the check", "with it"):
            looks = [shot.before if when == "without the check" else shot.after for shot in of if shot.quarters]
            parts = (
                sum(look.aligned for look in looks),
                sum(bool(look.reason) for look in looks),
                sum(not look.reason and not look.aligned for look in looks),
            )
            begin = 0.0
            for part, color in zip(parts, (GOOD, CALM, JUNK), strict=True):
                axis.barh(len(labels), part / len(looks), left=begin, color=color, height=0.7)
                begin += part / len(looks)
            labels.append(f"{name}, {when}")
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    axis.set_xlim(0, 1)
    axis.spines[["top", "right"]].set_visible(False)
    handles = [matplotlib.patches.Rectangle((0, 0), 1, 1, color=color) for color in (GOOD, CALM, JUNK)]
    names = ["set upright", "refused", "junk accepted"]
    axis.legend(handles, names, ncols=3, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    figure.savefig(out, metadata={"Date": None})


def stages(pipeline: Pipeline, photos: Sequence[Pixels]) -> list[list[object]]:
    """Milliseconds of each stage of upright photos, medians; all stages of a photo in turn."""
    took: dict[str, list[float]] = {}

    def timed(stage: str, work: Callable[..., Any], *given: Any) -> Any:
        started = time.perf_counter()
        result = work(*given)
        took.setdefault(stage, []).append(1000 * (time.perf_counter() - started))
        return result

    spec = pipeline.spec
    for pixels in photos:
        timed("decode", decode_photo, stored(pixels), LIMITS)
        found = timed("search", pipeline.finder.find, [pixels], ["when-none"])
        located = timed("landmarks", pipeline.finder.locate, [pixels], found)
        timed("check", pipeline.check.judge, [pixels], located)
        points = located[0].faces[0].points
        chip = timed("chip", cut_chip, pixels, points, spec.alignment.template, spec.height, spec.width)
        timed("encode", pipeline.encode, chip[None])
    total = sum(statistics.median(times) for times in took.values())
    return [
        [stage, statistics.median(times), f"{statistics.median(times) / total:.1%}"] for stage, times in took.items()
    ]


def whole(pipeline: Pipeline, photos: Sequence[Pixels]) -> list[list[object]]:
    """Milliseconds from a photo's bytes to its chip, medians, without and with the check in turns."""
    haze = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    nobody = np.asarray(Image.fromarray(haze).resize((640, 480), Image.Resampling.BICUBIC))
    cases = {
        "upright": photos,
        **{f"turned by {90 * k}": [np.ascontiguousarray(np.rot90(p, k)) for p in photos] for k in (1, 2, 3)},
        "nobody in 640 x 480": [nobody] * 5,
    }
    rows: list[list[object]] = []
    for name, pictures in cases.items():
        ways: dict[str, list[float]] = {"without": [], "with": [], "upright_only": []}
        for pixels in pictures:
            data = stored(pixels)
            for way, times in ways.items():
                started = time.perf_counter()
                pipeline.crop(data, checked=way != "without", upright_only=way == "upright_only")
                times.append(1000 * (time.perf_counter() - started))
        base, checked, only = (statistics.median(times) for times in ways.values())
        rows.append([name, base, checked, f"{checked / base - 1:+.0%}", only, f"{only / base - 1:+.0%}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, metavar="MODELS")
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA")
    parser.add_argument("--out", type=Path, default=Path("docs/turned.svg"), metavar="FILE.svg")
    parser.add_argument("--remember", type=Path, metavar="FILE", help="keeps what the detector found for the next run")
    parser.add_argument("--what", default="outcomes,costs", help="[%(default)s]")
    options = parser.parse_args()
    sets = {path.stem: read_photos(path) for path in options.data}
    if "costs" in options.what:
        print_costs(Pipeline(options.models), list(sets.values())[-1])
    if "outcomes" in options.what:
        print_outcomes(Pipeline(options.models, options.remember, remember=True), sets, options.out)


def print_costs(pipeline: Pipeline, photos: Photos) -> None:
    some = photos.pixels()[::5][:20]
    table("An upright photo, stage by stage, one thread", ("stage", "ms", "share"), stages(pipeline, some))
    header = ("photo", "ms without the check", "with it", "", "with upright_only", "")
    table("A photo, from its bytes to its chip, one thread", header, whole(pipeline, some))


def print_outcomes(pipeline: Pipeline, sets: dict[str, Photos], out: Path) -> None:
    found = {name: list(shots(pipeline, photos)) for name, photos in sets.items()}
    if isinstance(pipeline.finder, Remembering):
        pipeline.finder.save()
    rows = []
    for name, of in found.items():
        for what, some in (
            ("upright", [shot for shot in of if not shot.quarters]),
            ("turned", [shot for shot in of if shot.quarters]),
        ):
            rows.append(row(f"{name}, {what}", "without", [(shot.person, shot.before) for shot in some]))
            rows.append(row(f"{name}, {what}", "with", [(shot.person, shot.after) for shot in some]))
    outcomes = (
        "photos", "check", "n", "aligned", "junk accepted", "refused: no face", "refused: not upright",
        f"false identities at {TAUS[0]}", f"at {TAUS[1]}",
    )  # fmt: skip
    table("Photos in four turns, and mirrored, without EXIF", outcomes, rows)
    if len(found) > 1:
        cohort = ("photos", "encodings in the cohort", "limit that refuses 1 % of faces", "junk caught")
        table("Instead of the check: a cohort of junk encodings", cohort, cohort_rows(found))
    equal = [exif_kept(photos) for photos in sets.values()]
    print(f"\nwith EXIF: {sum(e for e, _ in equal)} of {sum(n for _, n in equal)} are decoded upright")
    draw(found, out)


if __name__ == "__main__":
    main()
