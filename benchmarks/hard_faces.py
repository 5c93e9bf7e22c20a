"""Does the uprightness check refuse good faces that are hard? Each face is made hard, its alignment stays.

    python -m benchmarks.hard_faces MODELS DATA...

MODELS is what ``oneglance-exporter import dlib-faces`` wrote; DATA are zips or folders of PERSON/photo.jpg, upright.
Sizes are relative to the distance of the eyes. The last rows show chips that are misaligned, by a roll of so much.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.faces import read_photos
from benchmarks.report import table
from oneglance_core.faces.finder import Face, Photo
from oneglance_exporter.faces import read_check, read_finder

Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Harden = Callable[[Pixels, Points], Pixels]

ROLLS = (10, 15, 20, 25, 30, 40)


def eyes_of(points: Points) -> tuple[Points, Points, float]:
    """Centres of both eyes, the one on the right of the photo first, and their distance."""
    right, left = points[:2].mean(axis=0), points[2:4].mean(axis=0)
    return right, left, float(np.linalg.norm(right - left))


def blurred(radius: float) -> Harden:
    def harden(pixels: Pixels, points: Points) -> Pixels:
        return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius * eyes_of(points)[2])))

    return harden


def shrunk(eye_pixels: float) -> Harden:
    def harden(pixels: Pixels, points: Points) -> Pixels:
        picture, factor = Image.fromarray(pixels), eye_pixels / eyes_of(points)[2]
        size = max(2, round(picture.width * factor)), max(2, round(picture.height * factor))
        return np.asarray(picture.resize(size, Image.Resampling.BOX).resize(picture.size, Image.Resampling.BILINEAR))

    return harden


def lit(factor: float) -> Harden:
    return lambda pixels, points: np.clip(pixels * factor, 0, 255).astype(np.uint8)


def noisy(deviation: float) -> Harden:
    rng = np.random.default_rng(0)
    return lambda pixels, points: np.clip(pixels + rng.normal(0, deviation, pixels.shape), 0, 255).astype(np.uint8)


def masked(pixels: Pixels, points: Points) -> Pixels:
    """A surgical mask: nose, mouth and chin are one light patch."""
    right, left, _ = eyes_of(points)
    across = right - left
    down, middle = np.array([-across[1], across[0]]), (right + left) / 2
    outline = ((-0.95, 0.45), (0.95, 0.45), (0.85, 1.5), (0, 1.9), (-0.85, 1.5))
    corners = [middle + a * across + b * down for a, b in outline]
    picture = Image.fromarray(pixels)
    ImageDraw.Draw(picture).polygon([(float(x), float(y)) for x, y in corners], fill=(180, 200, 220))
    return np.asarray(picture)


def sunglasses(pixels: Pixels, points: Points) -> Pixels:
    right, left, apart = eyes_of(points)
    picture = Image.fromarray(pixels)
    for x, y in (right, left):
        reach = 0.32 * apart
        ImageDraw.Draw(picture).ellipse([x - reach, y - reach, x + reach, y + reach], fill=(10, 10, 10))
    return np.asarray(picture)


def cut_off(at: float) -> Harden:
    """Black from so many eye distances beside the face's middle."""

    def harden(pixels: Pixels, points: Points) -> Pixels:
        right, left, _ = eyes_of(points)
        across = right - left
        edge = (right + left) / 2 + at * across
        y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
        beyond = (x - edge[0]) * across[0] + (y - edge[1]) * across[1] > 0
        return np.where(beyond[..., None], 0, pixels).astype(np.uint8)

    return harden


WAYS: dict[str, Harden] = {
    "as they are": lambda pixels, points: pixels,
    "blurred, Gaussian of 4 % of the eye distance": blurred(0.04),
    "8 %": blurred(0.08),
    "12 %": blurred(0.12),
    "eyes 12 pixels apart": shrunk(12),
    "8 pixels": shrunk(8),
    "6 pixels": shrunk(6),
    "dark, a sixth of the light": lit(1 / 6),
    "overexposed 2.2 times": lit(2.2),
    "noise of 30 levels": noisy(30),
    "a mask": masked,
    "sunglasses": sunglasses,
    "cut off beside the eye": cut_off(0.75),
    "cut off through the eye": cut_off(0.4),
    "half a face": cut_off(0.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, metavar="MODELS")
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA")
    options = parser.parse_args()
    finder, check = read_finder(options.models, 1), read_check(options.models, 1)
    if check is None:
        raise SystemExit(f"{options.models}: no uprightness check in it")
    faces: dict[str, list[tuple[Pixels, Points]]] = {}
    for path in options.data:
        for pixels in read_photos(path).pixels():
            (photo,) = finder.locate([pixels], finder.find([pixels], ["when-none"]))
            if photo.faces:
                faces.setdefault(path.stem, []).append((pixels, np.array(photo.faces[0].points)))

    def refused(pixels: Pixels, points: Points) -> bool:
        face = Face((0, 0, 1, 1), 1.0, tuple((float(x), float(y)) for x, y in points))
        photo = Photo(pixels.shape[1], pixels.shape[0], (face,), 1.0, truncated=False)
        return not check.judge([pixels], [photo])[0].comparable

    rows: list[list[object]] = []
    for name, harden in WAYS.items():
        shares = [np.mean([refused(harden(p, at), at) for p, at in of]) for of in faces.values()]
        rows.append([name, *[f"{share:.1%}" for share in shares]])
    for degrees in ROLLS:
        shares = [np.mean([refused(p, rolled(at, degrees)) for p, at in of]) for of in faces.values()]
        rows.append([f"misaligned by a roll of {degrees} degrees", *[f"{share:.1%}" for share in shares]])
    table("Share of faces that the check refuses", ("faces", *[f"{n}, {len(of)}" for n, of in faces.items()]), rows)


def rolled(points: Points, degrees: float) -> Points:
    turn = complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))
    middle = points.mean(axis=0)
    away = (points - middle) @ (1, 1j) * turn
    placed: Points = np.stack([away.real, away.imag], axis=1) + middle
    return placed


if __name__ == "__main__":
    main()
