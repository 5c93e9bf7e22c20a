"""Good photos made worse in steps: smaller, blurred, dark, bright, flat, turned, covered. Encoded once, kept in a file.

    python -m benchmarks.degraded MODELS DATA... --out FILE.npz [--photos 4]

Of each person of DATA at most ``--photos`` photos are taken, the largest face of each, cut out with its surroundings.
``benchmarks.quality`` reads the file.
"""

import argparse
import io
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from benchmarks.faces import Photos, read_photos
from oneglance_core.faces.chips import gray
from oneglance_core.faces.crops import CropRequest, FaceChoice, FaceCrops, crop_faces
from oneglance_core.faces.finder import ChipSpec, Face, FaceFinder, FaceSearch
from oneglance_core.faces.quality import Quality
from oneglance_core.folder import model_folders, read_any_model_folder
from oneglance_core.manifests import DetectorManifest, EncoderManifest
from oneglance_exporter.data.photos import LIMITS
from oneglance_exporter.runtime import encoder_of, session_of

Pixels = npt.NDArray[np.uint8]
AROUND = 1.1  # face widths kept on each side of a face's centre
NOISE = 2.0  # levels, one deviation: what a sensor adds to a dark picture
GRAY = (96, 96, 96)
FIGURES = tuple(Quality.__dataclass_fields__)

# The steps of each series, from good to bad; as ``degrade`` reads them.
SERIES: dict[str, tuple[float, ...]] = {
    "clean": (0,),
    "size": (30, 24, 19, 15, 12, 9.5, 7.5, 6),
    "blur": (0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28),
    "dark": (0.5, 0.25, 0.12, 0.06, 0.03),
    "bright": (1.5, 2, 3, 4.5, 7),
    "flat": (0.5, 0.25, 0.12, 0.06, 0.03),
    "roll": (10, 20, 30, 45, 60, 75, 90),
    "below": (0.25, 0.4, 0.5, 0.6),
    "side": (0.2, 0.35, 0.5),
    "eyes": (0.12, 0.25, 0.35),
}
MEANING = {
    "size": "pixels between the eyes",
    "blur": "deviation of the blur, of the eye distance",
    "dark": "light that is left",
    "bright": "times the light, clipped",
    "flat": "contrast that is left",
    "roll": "degrees of roll",
    "below": "share covered from below",
    "side": "share covered from the side",
    "eyes": "share covered about the eyes",
}


def degrade(photo: Pixels, face: Face, series: str, step: float, rng: np.random.Generator) -> Pixels:
    """The photo uint8 [H, W, 3] made worse. ``face``: in its pixels, with landmarks."""
    points = np.array(face.points)
    eyes = points[:4].mean(axis=0)
    distance = float(np.hypot(*(points[:2].mean(axis=0) - points[2:4].mean(axis=0))))
    picture = Image.fromarray(photo)
    x, y, width, height = face.box
    if series == "size":
        scale = min(1.0, step / distance)
        size = max(8, round(picture.width * scale)), max(8, round(picture.height * scale))
        return np.asarray(picture.resize(size, Image.Resampling.BOX))
    if series == "blur":
        return np.asarray(picture.filter(ImageFilter.GaussianBlur(step * distance)))
    if series == "roll":
        return np.asarray(picture.rotate(-step, Image.Resampling.BILINEAR, expand=True, fillcolor=GRAY))
    if series in ("below", "side", "eyes"):
        low_y, high_y = {
            "below": (y + height * (1 - step), y + height * 1.2),
            "side": (y - height * 0.2, y + height * 1.2),
            "eyes": (eyes[1] - height * step / 2, eyes[1] + height * step / 2),
        }[series]
        low_x, high_x = (x - width * 0.1, x + width * step) if series == "side" else (x - width * 0.1, x + width * 1.1)
        covered = photo.copy()
        covered[max(0, round(low_y)) : max(0, round(high_y)), max(0, round(low_x)) : max(0, round(high_x))] = GRAY
        return covered
    level = photo.astype(np.float64)
    if series == "dark":
        level = level * step + rng.normal(0, NOISE, level.shape)
    elif series == "bright":
        level = level * step
    elif series == "flat":
        level = 128 + (level - 128) * step + rng.normal(0, NOISE, level.shape)
    return np.clip(np.round(level), 0, 255).astype(np.uint8)


class Finder:
    """Detector, landmarks and encoder of a folder, in this process."""

    def __init__(self, models: Path) -> None:
        folders = {f.manifest.kind: f for path in model_folders(models) if (f := read_any_model_folder(path))}
        detector = folders["detector"].of(DetectorManifest)
        encoder = folders["encoder"].of(EncoderManifest)
        assert encoder.manifest.alignment is not None
        self.chip = ChipSpec(encoder.manifest.alignment, *encoder.manifest.input.shape[:2])
        detect, locate = session_of(detector.model, 1), session_of(folders["landmarks"].model, 1)
        self.finders = {
            least: FaceFinder(
                lambda canvases: detect.run(["scores"], {"image": canvases})[0],
                detector.manifest,
                lambda inputs: locate.run(["points"], inputs)[0],
                FaceSearch(min_face=least),
            )
            for least in (10, 20, 40)
        }
        self.encode = encoder_of(encoder.model, 1)

    def largest(self, photo: Pixels, min_face: int = 40) -> FaceCrops | None:
        """The largest face of a photo uint8 [H, W, 3] and its chip, or None."""
        file = io.BytesIO()
        Image.fromarray(photo).save(file, "BMP")
        request = CropRequest(file.getvalue(), FaceChoice("largest"), self.chip, face_required=False)
        (found,) = crop_faces(self.finders[min_face], None, [request], LIMITS, lambda stage: nullcontext())
        if isinstance(found, Exception):
            raise found
        return found if len(found.chips) else None


def around(photo: Pixels, face: Face) -> Pixels:
    """The part of a photo about a face."""
    x, y, width, height = face.box
    reach = AROUND * max(width, height)
    left, top = max(0, math.floor(x + width / 2 - reach)), max(0, math.floor(y + height / 2 - reach))
    return photo[top : math.ceil(y + height / 2 + reach), left : math.ceil(x + width / 2 + reach)]


def measure(
    finder: Finder, sets: list[Photos], photos: int, tell: Callable[[str], None]
) -> dict[str, npt.NDArray[Any]]:
    """By name: series and step, person, encodings float32 [N, D] (NaN: no face found), figures float64 [N, F], and gray
    chips uint8 [N, 150, 150]."""
    series, steps, people, encodings, figures, chips = [], [], [], [], [], []
    rng = np.random.default_rng(0)
    for one in sets:
        pictures = one.pixels()
        for person, name in enumerate(one.people):
            chosen = np.flatnonzero(one.person == person)
            for i in chosen[np.linspace(0, len(chosen) - 1, min(photos, len(chosen))).astype(int)]:
                found = finder.largest(pictures[i])
                if found is None:
                    tell(f"{one.name}/{name}: no face in photo {i}")
                    continue
                part = np.ascontiguousarray(around(pictures[i], found.photo.faces[0]))
                again = finder.largest(part)
                if again is None:
                    tell(f"{one.name}/{name}: no face in the cut of photo {i}")
                    continue
                for kind, values in SERIES.items():
                    for step in values:
                        worse = degrade(part, again.photo.faces[0], kind, step, rng)
                        got = finder.largest(np.ascontiguousarray(worse), 10 if kind == "size" else 40)
                        series.append(kind)
                        steps.append(step)
                        people.append(f"{one.name}/{name}")
                        quality = got.photo.faces[0].quality if got else None
                        encodings.append(finder.encode(got.chips[:1])[0] if got else np.full(128, np.nan))
                        figures.append(list(asdict(quality).values()) if quality else [np.nan] * len(FIGURES))
                        chips.append(gray(got.chips[0]) if got else np.zeros((150, 150), np.uint8))
            tell(f"{one.name}/{name}")
    return {
        "series": np.array(series),
        "steps": np.array(steps),
        "people": np.array(people),
        "encodings": np.array(encodings, np.float32),
        "figures": np.array(figures),
        "chips": np.array(chips),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, metavar="MODELS")
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--photos", type=int, default=4, metavar="N")
    options = parser.parse_args()
    sets = [read_photos(path) for path in options.data]
    found = measure(Finder(options.models), sets, options.photos, lambda line: print(line, flush=True))
    np.savez(options.out, allow_pickle=False, **found)


if __name__ == "__main__":
    main()
