"""Draws the two of the bundled stylizer's styles that are our own: scripts/draw_styles.py DIR.

mosaic: glass in lead. ink: an engraving's hatching. Equal pictures on every run.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Grid = npt.NDArray[np.float64]
_HEIGHT, _WIDTH = 480, 640


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in (("mosaic", mosaic), ("ink", ink)):
        picture = np.clip(draw(np.random.default_rng(7)), 0, 1)
        image = Image.fromarray((picture * 255 + 0.5).astype(np.uint8))
        # Drawn twice as large: lines get smooth edges.
        image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS).save(out / f"{name}.png")


def mosaic(random: np.random.Generator) -> Grid:
    """Cells around points that repel each other; colours that drift over the picture; dark lead between."""
    y, x = _places()
    points = random.uniform((0, 0), (_HEIGHT, _WIDTH), (420, 2))
    for _ in range(6):  # Lloyd's relaxation
        nearest, _ = _two_nearest(y[::8, ::8], x[::8, ::8], points)
        for i in range(len(points)):
            mine = nearest[0] == i
            if mine.any():
                points[i] = y[::8, ::8][mine].mean(), x[::8, ::8][mine].mean()
    nearest, distance = _two_nearest(y, x, points)
    palette = np.array(
        [
            (0.75, 0.1, 0.12),
            (0.95, 0.62, 0.1),
            (0.98, 0.86, 0.3),
            (0.1, 0.45, 0.25),
            (0.05, 0.3, 0.65),
            (0.35, 0.1, 0.5),
        ]
    )
    drift = _smooth(random, 5)[points[:, 0].astype(int) * 2, points[:, 1].astype(int) * 2]
    chosen = (drift * 9 + random.uniform(0, 1.6, len(points))).astype(int) % len(palette)
    glass = palette[chosen] * random.uniform(0.75, 1.15, (len(points), 1))
    lit = 1.12 - 0.35 * (distance[0] / 16)[..., None]
    lead = np.clip((distance[1] - distance[0] - 1.2) / 1.0, 0, 1)[..., None]
    picture: Grid = glass[nearest[0]] * lit * lead + np.array((0.06, 0.05, 0.05)) * (1 - lead)
    return picture


def ink(random: np.random.Generator) -> Grid:
    """Three directions of hatching, each beginning where the tone is darker; lines swell with the tone."""
    y, x = _places()
    tone = _smooth(random, 4)
    waver = 5 * _smooth(random, 6)
    dark: Grid = np.zeros_like(tone)
    for angle, begins in ((0.5, 0.12), (-0.65, 0.42), (1.5, 0.68)):
        across = np.cos(angle) * y + np.sin(angle) * x + waver
        phase = np.abs((across / 4.6) % 1 - 0.5) * 2  # 0 in the middle of a line
        width = np.clip((tone - begins) * 1.5, 0, 0.8)
        dark = np.maximum(dark, np.clip((width - phase) * 3 + 0.5, 0, 1) * (width > 0))
    paper = np.array((0.96, 0.93, 0.85)) + 0.015 * random.standard_normal((*tone.shape, 1))
    return paper * (1 - dark[..., None]) + np.array((0.09, 0.1, 0.2)) * dark[..., None]


def _places() -> tuple[Grid, Grid]:
    """y and x of each pixel, at twice the size."""
    y, x = np.mgrid[: 2 * _HEIGHT, : 2 * _WIDTH] / 2
    return y, x


def _smooth(random: np.random.Generator, waves: int) -> Grid:
    """Random hills of a few waves across the picture, in [0, 1]."""
    y, x = _places()
    hills = np.zeros_like(y)
    for _ in range(14):
        fy, fx = random.uniform(-waves, waves, 2) / np.array((_HEIGHT, _WIDTH)) * 2 * np.pi
        hills += random.uniform(0.4, 1) * np.sin(fy * y + fx * x + random.uniform(0, 2 * np.pi))
    scaled: Grid = (hills - hills.min()) / (hills.max() - hills.min())
    return scaled


def _two_nearest(y: Grid, x: Grid, points: Grid) -> tuple[npt.NDArray[np.int64], Grid]:
    """The two nearest of ``points`` [P, 2] to each place: index and distance, [2, H, W]."""
    index = np.zeros((2, *y.shape), np.int64)
    best = np.full((2, *y.shape), np.inf)
    for i, (py, px) in enumerate(points):
        away = np.hypot(y - py, x - px)
        first, second = away < best[0], (away >= best[0]) & (away < best[1])
        index[1], best[1] = (
            np.where(first, index[0], np.where(second, i, index[1])),
            np.where(first, best[0], np.where(second, away, best[1])),
        )
        index[0], best[0] = np.where(first, i, index[0]), np.where(first, away, best[0])
    return index, best


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for mosaic.png and ink.png")
    main(parser.parse_args().out)
