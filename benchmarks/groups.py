"""Group photos composed from single ones: which faces each setting of the search finds, and what it costs.

    python -m benchmarks.groups MODELS DATA... [--photos 20]

Faces are cut out of DATA with their surroundings, brought to sizes from 20 to 200 pixels, and laid on a canvas of
960 x 720 without touching. ``mixed``: all sizes in one photo; ``near``: one size in a photo. The photos of DATA
themselves are the portraits, whose cost must not grow. One thread, in this process: decode and search, no encoding.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.degraded import Finder
from benchmarks.faces import read_photos
from benchmarks.report import table
from oneglance_core.faces.finder import Photo, SmallFaces, search_again
from oneglance_core.faces.turns import Box

Pixels = npt.NDArray[np.uint8]
CANVAS = 720, 960
SIZES = (20, 28, 40, 57, 80, 113, 160, 200)
SETTINGS: tuple[tuple[str, SmallFaces, int], ...] = (
    ("never", "never", 40),
    ("when-none", "when-none", 40),
    ("when-wide (default of Identify)", "when-wide", 40),
    ("always", "always", 40),
    ("when-wide, min_face 20", "when-wide", 20),
)
MARGIN = 0.35  # of the face's side, kept around it
OVERLAP = 0.4  # intersection over union from which a face is found


def cut_outs(finder: Finder, photos: list[Pixels]) -> list[tuple[Pixels, float]]:
    """Faces with their surroundings, uint8 [H, W, 3], and the side of the face in each."""
    found = []
    for photo in photos:
        (seen,) = finder.finders[40].find([photo], ["never"])
        if not seen.faces:
            continue
        x, y, width, height = seen.faces[0].box
        left, top = max(0, int(x - MARGIN * width)), max(0, int(y - MARGIN * height))
        part = photo[top : int(y + (1 + MARGIN) * height), left : int(x + (1 + MARGIN) * width)]
        found.append((np.ascontiguousarray(part), width))
    return found


def compose(
    cuts: list[tuple[Pixels, float]], sizes: list[float], rng: np.random.Generator
) -> tuple[Pixels, list[tuple[float, Box]]]:
    """A photo of faces of ``sizes``, the largest first, as many as find room; size and box of each."""
    ramp = np.linspace(70, 150, CANVAS[0])[:, None, None] + rng.normal(0, 4, (*CANVAS, 3))
    canvas = np.clip(ramp, 0, 255).astype(np.uint8)
    taken: list[tuple[int, int, int, int]] = []
    faces = []
    for size in sorted(sizes, reverse=True):
        part, side = cuts[rng.integers(len(cuts))]
        scale = size / side
        height, width = max(1, round(part.shape[0] * scale)), max(1, round(part.shape[1] * scale))
        small = np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BOX))
        for _ in range(200):
            x, y = int(rng.integers(0, CANVAS[1] - width)), int(rng.integers(0, CANVAS[0] - height))
            if all(x + width < a or a + c < x or y + height < b or b + d < y for a, b, c, d in taken):
                canvas[y : y + height, x : x + width] = small
                taken.append((x, y, width, height))
                faces.append((size, (x + (width - size) / 2, y + (height - size) / 2, size, size)))
                break
    return canvas, faces


def search(finder: Finder, photo: Pixels, small_faces: SmallFaces, min_face: int) -> tuple[Photo, float]:
    """What is found, and the seconds of processor time it took."""
    began = time.process_time()
    (seen,) = finder.finders[min_face].find([photo], [small_faces])
    return seen, time.process_time() - began


def overlap(a: Box, b: Box) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, metavar="MODELS")
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA")
    parser.add_argument("--photos", type=int, default=20, metavar="N")
    options = parser.parse_args()
    finder = Finder(options.models)
    sets = [read_photos(path) for path in options.data]
    singles = [photo for one in sets for photo in one.pixels()]
    rng = np.random.default_rng(0)
    cuts = cut_outs(finder, singles)
    groups = [("mixed", *compose(cuts, [size for size in SIZES for _ in range(2)], rng)) for _ in range(options.photos)]
    groups += [("near", *compose(cuts, [size] * 6, rng)) for size in SIZES for _ in range(max(1, options.photos // 8))]
    portraits = [singles[i] for i in rng.permutation(len(singles))[: options.photos]]
    rows: dict[str, list[tuple[object, ...]]] = {"mixed": [], "near": []}
    costs: list[tuple[object, ...]] = []
    found: dict[tuple[str, str, float], list[bool]] = {}
    seconds: dict[tuple[str, str], list[float]] = {}
    for kind, photo, faces in [*groups, *(("portrait", photo, []) for photo in portraits)]:
        once, took = search(finder, photo, "never", 40)
        twice = {least: search(finder, photo, "always", least) for least in {least for _, _, least in SETTINGS}}
        for name, small_faces, least in SETTINGS:
            widths = [face.box[2] for face in once.faces]
            again = search_again(small_faces, widths, min(photo.shape[:2]))
            seen, cost = twice[least] if again else (once, took)
            seconds.setdefault((name, kind), []).append(cost)
            for size, box in faces:
                hit = any(overlap(face.box, box) >= OVERLAP for face in seen.faces)
                found.setdefault((name, kind, size), []).append(hit)
    for name, _, _ in SETTINGS:
        for kind, listed in rows.items():
            listed.append((name, *(f"{np.mean(found[name, kind, size]):.0%}" for size in SIZES)))
        kinds = ("portrait", "mixed", "near")
        costs.append((name, *(f"{1000 * np.median(seconds[name, kind]):.0f}" for kind in kinds)))
    header = ("small_faces", *(f"{size} px" for size in SIZES))
    table(f"Faces found, {options.photos} photos of 16 faces, two of each size", header, rows["mixed"])
    table("Faces found, photos of six faces of one size", header, rows["near"])
    table("Milliseconds of one core for the search", ("small_faces", "a portrait", "mixed", "near"), costs)


if __name__ == "__main__":
    main()
