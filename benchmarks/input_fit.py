"""Drawings made worse in steps, and photos, given to an encoder of drawings: what its limits refuse, and what it costs.

    python -m benchmarks.input_fit MODEL DRAWINGS [--photos DATA...]

DRAWINGS were not trained on. Every subject is enrolled from its first drawing; two others, made worse, are the probes.
refused: outside the limits of the manifest. rank-1: whose mate is the nearest. named: within tau of anybody.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from benchmarks.faces import read_photos
from benchmarks.report import table
from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.folder import read_model_folder
from oneglance_core.input_figures import input_figures
from oneglance_core.limits import breaches
from oneglance_core.pictures import encoder_input
from oneglance_exporter.data.photos import LIMITS
from oneglance_exporter.data.reading import read_examples
from oneglance_exporter.runtime import encoder_of

Levels = npt.NDArray[np.float64]
RNG = np.random.default_rng(0)
PROBES = (5, 9)  # which drawings of a subject


def _filtered(levels: Levels, kind: ImageFilter.Filter) -> Levels:
    return np.asarray(Image.fromarray(levels.astype(np.uint8)).filter(kind), np.float64)


def _smaller(levels: Levels, share: float) -> Levels:
    side = round(share * len(levels))
    paper = Image.new("L", levels.shape[::-1], 255)
    small = Image.fromarray(levels.astype(np.uint8)).resize((side, side), Image.Resampling.BOX)
    paper.paste(small, ((len(levels) - side) // 2,) * 2)
    return np.asarray(paper, np.float64)


SHADE = np.linspace(0, 1, 105)
WORSE: dict[str, Callable[[Levels], Levels]] = {
    "as it is": lambda x: x,
    "paper at 90 % of white": lambda x: 0.9 * x,
    "paper at 80 %": lambda x: 0.8 * x,
    "paper at 50 %": lambda x: 0.5 * x,
    "shade of 20 % across": lambda x: x * (1 - 0.2 * SHADE),
    "shade of 40 %": lambda x: x * (1 - 0.4 * SHADE),
    "half the ink": lambda x: 255 - (255 - x) * 0.5,
    "30 % of the ink": lambda x: 255 - (255 - x) * 0.3,
    "15 % of the ink": lambda x: 255 - (255 - x) * 0.15,
    "noise of 15 levels": lambda x: x + RNG.normal(0, 15, x.shape),
    "noise of 30": lambda x: x + RNG.normal(0, 30, x.shape),
    "noise of 60": lambda x: x + RNG.normal(0, 60, x.shape),
    "blur of 1 pixel": lambda x: _filtered(x, ImageFilter.GaussianBlur(1)),
    "blur of 2": lambda x: _filtered(x, ImageFilter.GaussianBlur(2)),
    "blur of 4": lambda x: _filtered(x, ImageFilter.GaussianBlur(4)),
    "strokes 2 pixels thicker": lambda x: _filtered(x, ImageFilter.MinFilter(3)),
    "strokes 2 pixels thinner": lambda x: _filtered(x, ImageFilter.MaxFilter(3)),
    "two thirds of the size": lambda x: _smaller(x, 2 / 3),
    "a third of the size": lambda x: _smaller(x, 1 / 3),
    "light on dark": lambda x: 255 - x,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("drawings", type=Path, metavar="DRAWINGS")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], metavar="DATA")
    options = parser.parse_args()
    folder = read_model_folder(options.model)
    manifest = folder.manifest
    if manifest.made_for is None or manifest.threshold is None:
        raise SystemExit(f"{options.model}: neither measured (measure-input) nor calibrated")
    limits, tau = manifest.made_for.limits, manifest.threshold.tau
    encode = encoder_of(folder.model, 1)
    pictures = read_examples([options.drawings], manifest.input)
    members = pictures.members()
    enrolled = encode(np.stack([pictures.inputs[one[0]] for one in members]))
    probes = np.stack([pictures.inputs[one[i]] for one in members for i in PROBES])
    mates = np.repeat(np.arange(len(members)), len(PROBES))

    def row(name: str, inputs: npt.NDArray[np.uint8], mate: npt.NDArray[np.int64] | None) -> tuple[object, ...]:
        refused = np.mean([bool(breaches(input_figures(one), limits)) for one in inputs])
        distance = pairwise_squared_l2(encode(inputs), enrolled)
        rank_one = "" if mate is None else f"{(distance.argmin(axis=1) == mate).mean():.1%}"
        return name, f"{refused:.1%}", rank_one, f"{(distance.min(axis=1) <= tau).mean():.1%}"

    rows = []
    for name, worse in WORSE.items():
        levels = np.stack([worse(one[..., 0].astype(np.float64)) for one in probes])
        rows.append(row(name, np.clip(np.round(levels), 0, 255).astype(np.uint8)[..., None], mates))
    for path in options.photos:
        photos = read_photos(path)
        inputs = np.stack([encoder_input(data, manifest.input, LIMITS) for data in photos.data])
        rows.append(row(f"photos of {photos.name}", inputs, None))
    table(f"{manifest.name} on {options.drawings.name}", ("drawings", "refused", "rank-1", "named"), rows)


if __name__ == "__main__":
    main()
