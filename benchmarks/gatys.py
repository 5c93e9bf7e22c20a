"""The textbook's optimisation: python -m benchmarks.gatys PHOTO... --styles PAINTING... [--out docs].

Every photo in every style, from noise, by L-BFGS and by Adam: J against evaluations (gatys.svg) and the pictures
(gatys.png). Then seconds per evaluation of J and its gradient, float32 against bf16, in alternation.
"""

import argparse
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.report import table
from oneglance_exporter.gatys.optimize import Result, optimize
from oneglance_exporter.gatys.settings import GatysSettings
from oneglance_exporter.perceptual.pictures import Rgb, read_picture
from oneglance_exporter.stylizer.sheet import grid

BETA, SIZE, EVALUATIONS, TIMED = 6e-4, 256, 100, 8


def run(photo: Rgb, painting: Rgb, **changes: object) -> Result:
    given = {"size": SIZE, "style_size": 400, "iterations": EVALUATIONS, "beta": BETA, "threads": 2, "frames": 0}
    return optimize(photo, painting, GatysSettings(**{**given, **changes}))


def speed(photo: Rgb, painting: Rgb) -> None:
    """Seconds per evaluation; the first ones warm up."""
    rows = []
    for side in (256, 512):
        seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
        for _ in range(3):
            for precision, took in seconds.items():
                curve = run(photo, painting, size=side, precision=precision, iterations=TIMED).curve
                took.append(statistics.median(np.diff([point.seconds for point in curve])[2:]))
        fp32, bf16 = (statistics.median(took) for took in seconds.values())
        rows.append((side, fp32, bf16, fp32 / bf16))
    table(
        "Seconds per evaluation of J and its gradient, two threads", ("longer side, px", "fp32", "bf16", "ratio"), rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--styles", nargs="+", type=Path, required=True)
    parser.add_argument("--curves-only", action="store_true", help="leave the timing out")
    parser.add_argument("--threads", type=int, default=2, help="of the curves")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    photos = [read_picture(path) for path in options.photos]
    paintings = [read_picture(path) for path in options.styles]
    if not options.curves_only:
        speed(photos[0], paintings[0])

    figure, axes = plt.subplots(1, len(paintings), figsize=(4 * len(paintings), 3.2), sharey=True)
    rows = []
    sheet: list[list[Rgb]] = [[read_picture(path, SIZE * 2 // 3)] for path in options.photos]
    for painting, path, axis in zip(paintings, options.styles, np.atleast_1d(axes), strict=True):
        for i, (photo, of) in enumerate(zip(photos, options.photos, strict=True)):
            for optimizer, style in (("lbfgs", "-"), ("adam", ":")):
                done = run(photo, painting, optimizer=optimizer, threads=options.threads)
                at = [point.evaluation for point in done.curve]
                axis.plot(
                    at, [point.total for point in done.curve], style, color=f"C{i}", label=f"{of.stem}, {optimizer}"
                )
                lowest = np.minimum.accumulate([point.total for point in done.curve])
                rows.append(
                    (path.stem, of.stem, optimizer, done.curve[0].total, float(lowest[:50][-1]), float(lowest[-1]),
                     done.measured.content, BETA * done.measured.style)
                )  # fmt: skip
                if optimizer == "lbfgs":
                    sheet[i].append(done.picture)
        axis.set(title=path.stem, xlabel="evaluations of J", yscale="log")
    np.atleast_1d(axes)[0].set_ylabel("J")
    np.atleast_1d(axes)[-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(options.out / "gatys.svg", metadata={"Date": None})
    grid(sheet, ["photo", *(path.stem for path in options.styles)]).save(options.out / "gatys.png", optimize=True)
    table(
        f"J from noise, {SIZE} px, alpha 1, beta {BETA}",
        ("style", "photo", "optimiser", "J at 1", "at 50", f"at {EVALUATIONS}", "of which content", "style"),
        rows,
    )


if __name__ == "__main__":
    main()
