"""Draws the bundled stylizer's styles that are our own: scripts/draw_styles.py DIR.

Each is a scene of hills, a sun and water, painted in one manner: oil, dots, woodblock, watercolor, tesserae, pencil,
facets. Equal pictures on every run. styles.toml, beside this script, lists them for the training.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Grid = npt.NDArray[np.float64]
_HEIGHT, _WIDTH = 960, 1280  # drawn at twice the size: lines get smooth edges
_Rgb = tuple[float, float, float]


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in STYLES.items():
        picture = draw(np.random.default_rng(7))
        picture.resize((_WIDTH // 2, _HEIGHT // 2), Image.Resampling.LANCZOS).save(out / f"{name}.png")


def oil(random: np.random.Generator) -> Image.Image:
    """Thick strokes that follow the forms, each of several bristles."""
    scene = _scene(random, _OIL)
    flow = _flow(random, scene, turns=1.3)
    picture = _image(scene)
    for count, length, width in ((1500, 130, 40), (5200, 95, 24), (6500, 60, 13)):
        _strokes(random, picture, scene, flow, count, length, width, bristles=5, shade=0.16, hue=0.07)
    return picture


def dots(random: np.random.Generator) -> Image.Image:
    """Dots of purer colours than what they show, side by side."""
    scene = _scene(random, _DOTS)
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), (236, 226, 200))
    draw = ImageDraw.Draw(picture)
    for size, count in ((11, 26_000), (8, 30_000)):
        ys, xs = random.uniform(0, _HEIGHT, count), random.uniform(0, _WIDTH, count)
        for y, x in zip(ys, xs, strict=True):
            colour = scene[int(y), int(x)]
            grey = colour.mean()
            pure = grey + (colour - grey) * random.uniform(1.2, 1.9) + random.normal(0, 0.09, 3)
            if random.random() < 0.16:  # its opposite, for the eye to mix
                pure = grey - (colour - grey) * 0.9 + 0.08
            r = size * random.uniform(0.7, 1.15)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=_bytes(pure))
    return picture


def woodblock(random: np.random.Generator) -> Image.Image:
    """Few flat colours that fade, dark contours, waves of parallel lines, the grain of wood."""
    scene = _scene(random, _WOODBLOCK)
    y, x = _places()
    tone = scene.mean(2) + 0.05 * (_smooth(random, 14) - 0.5)
    levels = np.clip((tone * 7).astype(int), 0, 6)
    ramp = np.array(
        [
            (18, 32, 62),
            (28, 60, 110),
            (60, 108, 150),
            (126, 158, 164),
            (196, 190, 160),
            (226, 208, 168),
            (242, 232, 206),
        ]
    )
    flat = ramp[levels] / 255
    warm = (scene[..., 0] - scene[..., 2]) > 0.2
    flat[warm] = 0.35 * flat[warm] + 0.65 * np.array((0.80, 0.40, 0.26))
    fade = _smooth(random, 3)[..., None]
    flat = flat * (0.86 + 0.2 * fade)
    grain = 0.012 * np.sin(y * 0.5 + 9 * _smooth(random, 3) + 0.6 * np.sin(x * 0.01))
    edges = _edges(levels) | _edges(warm.astype(int))
    dark = np.asarray(Image.fromarray((edges * 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(5))) / 255
    # Parallel waves in the darker parts.
    wave = np.sin((y + 16 * np.sin(x / 46 + 5 * _smooth(random, 2))) * 2 * np.pi / 24)
    lines = ((wave > 0.80) & (tone < 0.46)) * 0.55
    ink = np.maximum(dark, lines)[..., None]
    return _image((flat + grain[..., None]) * (1 - ink) + np.array((0.08, 0.11, 0.2)) * ink)


def watercolor(random: np.random.Generator) -> Image.Image:
    """Washes that run into each other, darker at their rims, on rough paper."""
    scene = _scene(random, _WATERCOLOR)
    paper = 0.97 + 0.02 * random.standard_normal((_HEIGHT, _WIDTH))
    rough = np.asarray(_grey(paper - 0.5).filter(ImageFilter.GaussianBlur(1.6))) / 255 + 0.5
    light = np.ones((_HEIGHT, _WIDTH, 3))
    y, x = _places()
    for i in range(150):
        cy, cx = random.uniform(0, _HEIGHT), random.uniform(0, _WIDTH)
        radius = random.uniform(40, 190) if i < 90 else random.uniform(16, 60)
        wobble = 0.0
        angle = np.arctan2(y - cy, x - cx)
        for k in range(2, 9):
            wobble = wobble + random.normal(0, 0.16 / k**0.7) * np.sin(k * angle + random.uniform(0, 6.3))
        away = np.hypot((y - cy) * 1.35, x - cx) / radius - 1 - wobble
        inside = np.clip(-away * 14, 0, 1)
        rim = np.exp(-((away + 0.03) ** 2) / 0.0016) * 0.45
        pigment = 1 - np.clip(scene[min(_HEIGHT - 1, int(cy)), min(_WIDTH - 1, int(cx))] * 1.06, 0, 1)
        much = (inside * (0.30 + 0.25 * _cheap(random, y, x)) + rim) * random.uniform(0.5, 0.95)
        light *= 1 - np.clip(much, 0, 1)[..., None] * pigment
    soft = np.asarray(_image(scene).filter(ImageFilter.GaussianBlur(14)), np.float64) / 255
    light *= 0.45 + 0.55 * soft
    return _image(np.clip(light, 0, 1) ** 0.8 * (0.96 + 0.014 * (rough - rough.mean()) / rough.std())[..., None])


def tesserae(random: np.random.Generator) -> Image.Image:
    """Small stones set in rows that follow the forms, mortar between."""
    scene = _scene(random, _TESSERAE)
    flow = _flow(random, scene, turns=0.8)
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), (196, 184, 160))
    draw = ImageDraw.Draw(picture)
    taken = np.zeros((_HEIGHT, _WIDTH), bool)
    side = 19
    order = [(y, x) for y in range(4, _HEIGHT - 4, 5) for x in range(4, _WIDTH - 4, 5)]
    for i in random.permutation(len(order)):
        y, x = order[i]
        half = side / 2 * random.uniform(0.86, 1.1)
        r = int(half * 0.98)
        if taken[max(0, y - r) : y + r, max(0, x - r) : x + r].any():
            continue
        taken[max(0, y - r) : y + r, max(0, x - r) : x + r] = True
        a = flow[y, x] + random.normal(0, 0.07)
        c, s = np.cos(a) * half, np.sin(a) * half
        corners = [(x + c * u - s * v, y + s * u + c * v) for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        colour = scene[y, x] * random.uniform(0.78, 1.14) + random.normal(0, 0.03, 3)
        draw.polygon(corners, fill=_bytes(colour))
        draw.line(corners[:3], fill=_bytes(colour * 1.12 + 0.05), width=2)
    return picture


def pencil(random: np.random.Generator) -> Image.Image:
    """Graphite: strokes laid closer and in more directions where it is darker."""
    scene = _scene(random, _PENCIL).mean(2)
    tone = 1 - np.clip((scene - scene.min()) / (scene.max() - scene.min()), 0, 1)
    flow = _flow(random, np.repeat(scene[..., None], 3, 2), turns=0.5)
    dark = np.zeros((_HEIGHT, _WIDTH))
    for begins, turn, count in ((0.1, 0.6, 9000), (0.35, 0.75, 9000), (0.55, -0.7, 9000), (0.75, 1.5, 7000)):
        layer = Image.new("L", (_WIDTH, _HEIGHT))
        draw = ImageDraw.Draw(layer)
        for y, x in random.uniform((0, 0), (_HEIGHT, _WIDTH), (count, 2)):
            t = tone[int(y), int(x)]
            if t < begins or random.random() > (t - begins) * 2.2 + 0.12:
                continue
            a = turn + 0.35 * np.sin(flow[int(y), int(x)]) + random.normal(0, 0.06)
            length = random.uniform(18, 52)
            dx, dy = np.cos(a) * length / 2, np.sin(a) * length / 2
            draw.line(
                (x - dx, y - dy, x + dx, y + dy), fill=int(random.uniform(80, 190)), width=int(random.integers(2, 5))
            )
        dark = 1 - (1 - dark) * (1 - np.asarray(layer, np.float64) / 255 * 0.75)
    contour = np.asarray(_grey(np.clip(_slope(scene) * 16, 0, 1)).filter(ImageFilter.GaussianBlur(1))) / 255
    tooth = (
        np.asarray(_grey(0.5 + 0.18 * random.standard_normal((_HEIGHT, _WIDTH))).filter(ImageFilter.GaussianBlur(1.5)))
        / 255
    )
    dark = np.clip(np.maximum(dark, 0.85 * contour) * (0.72 + 0.6 * tooth), 0, 0.93)[..., None]
    return _image(np.array((0.965, 0.955, 0.93)) * (1 - dark) + np.array((0.13, 0.13, 0.145)) * dark)


def facets(random: np.random.Generator) -> Image.Image:
    """Planes of one colour each between straight lines, shaded towards an edge: after the cubists."""
    scene = _scene(random, _FACETS)[::2, ::2]
    y, x = (grid[::2, ::2] for grid in _places())
    plane = np.zeros(y.shape, np.int64)
    sizes = [plane.size]
    for new in range(1, 260):  # cut the largest plane in two
        largest = int(np.argmax(sizes))
        ys, xs = np.nonzero(plane == largest)
        at, angle = random.integers(len(ys)), random.normal(0.9, 0.75)
        off = (ys - ys[at]) * np.cos(angle) + (xs - xs[at]) * np.sin(angle) > 0
        plane[ys[off], xs[off]] = new
        sizes[largest] = int((~off).sum())
        sizes.append(int(off.sum()))
    picture = np.zeros((*y.shape, 3))
    for number in range(len(sizes)):
        inside = plane == number
        if not inside.any():
            continue
        colour = np.median(scene[inside], 0) * random.uniform(0.72, 1.22) + random.normal(0, 0.03, 3)
        angle = random.uniform(0, 2 * np.pi)
        along = y[inside] * np.sin(angle) + x[inside] * np.cos(angle)
        shade = (along - along.min()) / max(1.0, float(np.ptp(along)))
        picture[inside] = colour * (0.7 + 0.5 * shade)[:, None]
    line = (
        np.asarray(_grey(_edges(plane).astype(float)).filter(ImageFilter.GaussianBlur(0.8)), np.float64)[..., None]
        / 255
    )
    picture = picture * (1 - 0.8 * line) + 0.025 * random.standard_normal((*y.shape, 1))
    return _image(picture).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)


# Palettes: sky above, sky below, sun, far hills, near hills, water, light on water, accents.
_OIL = (
    (0.16, 0.36, 0.66),
    (0.95, 0.72, 0.36),
    (1.0, 0.93, 0.6),
    (0.32, 0.36, 0.6),
    (0.2, 0.45, 0.22),
    (0.1, 0.3, 0.52),
    (0.98, 0.8, 0.45),
    (0.8, 0.25, 0.16),
)
_DOTS = (
    (0.45, 0.62, 0.86),
    (0.98, 0.86, 0.66),
    (1.0, 0.92, 0.55),
    (0.55, 0.5, 0.74),
    (0.4, 0.6, 0.28),
    (0.3, 0.52, 0.7),
    (0.98, 0.9, 0.66),
    (0.86, 0.42, 0.3),
)
_WOODBLOCK = (
    (0.3, 0.45, 0.62),
    (0.95, 0.88, 0.74),
    (0.86, 0.4, 0.3),
    (0.5, 0.56, 0.6),
    (0.25, 0.34, 0.3),
    (0.12, 0.24, 0.46),
    (0.9, 0.88, 0.8),
    (0.7, 0.36, 0.22),
)
_WATERCOLOR = (
    (0.5, 0.7, 0.86),
    (0.98, 0.9, 0.82),
    (1.0, 0.85, 0.5),
    (0.62, 0.62, 0.8),
    (0.42, 0.6, 0.4),
    (0.36, 0.58, 0.7),
    (0.96, 0.95, 0.9),
    (0.85, 0.4, 0.4),
)
_TESSERAE = (
    (0.15, 0.38, 0.6),
    (0.88, 0.74, 0.45),
    (0.96, 0.8, 0.3),
    (0.45, 0.3, 0.28),
    (0.3, 0.42, 0.26),
    (0.1, 0.32, 0.42),
    (0.92, 0.86, 0.68),
    (0.66, 0.2, 0.14),
)
_PENCIL = (
    (0.75, 0.75, 0.75),
    (0.95, 0.95, 0.95),
    (1.0, 1.0, 1.0),
    (0.6, 0.6, 0.6),
    (0.25, 0.25, 0.25),
    (0.4, 0.4, 0.4),
    (0.98, 0.98, 0.98),
    (0.08, 0.08, 0.08),
)
_FACETS = (
    (0.4, 0.47, 0.52),
    (0.86, 0.76, 0.58),
    (0.94, 0.84, 0.6),
    (0.55, 0.44, 0.34),
    (0.32, 0.38, 0.3),
    (0.24, 0.32, 0.4),
    (0.9, 0.84, 0.7),
    (0.68, 0.34, 0.2),
)


def _scene(random: np.random.Generator, palette: tuple[_Rgb, ...]) -> Grid:
    """[H, W, 3] in [0, 1]: a sky with clouds and a sun, ridges, water with light on it, and houses."""
    y, x = _places()
    high, low, sun, far, near, water, glint, accent = (np.array(colour) for colour in palette)
    share = (y / _HEIGHT)[..., None]
    scene = high * (1 - np.clip(share * 2, 0, 1)) + low * np.clip(share * 2, 0, 1)
    clouds = np.clip(_smooth(random, 5) * 2.2 - 1.15, 0, 1)[..., None]
    scene = scene * (1 - 0.75 * clouds) + (0.35 * low + 0.65) * 0.75 * clouds
    away = np.hypot(y - 0.2 * _HEIGHT, x - 0.68 * _WIDTH)
    glow = np.exp(-away / 150)[..., None] * 0.7
    scene = scene * (1 - glow) + sun * glow
    scene[away < 62] = sun
    for i in range(5):
        t = i / 4
        ridge = _HEIGHT * (0.38 + 0.09 * i) + _ridge(random, x[0], 90 - 12 * i)
        below = y > ridge[None]
        shade = 0.82 + 0.5 * _smooth(random, 7)[..., None] - 0.0006 * (y - ridge[None])[..., None]
        scene = np.where(below[..., None], (far * (1 - t) + near * t) * shade, scene)
    shore = _HEIGHT * 0.8 + 20 * np.sin(x / 170) + 12 * _smooth(random, 3)
    ripple = np.clip(np.sin((y + 9 * np.sin(x / 60)) / (3 + np.maximum(y - 0.75 * _HEIGHT, 0) / 30)) * 1.4 - 0.5, 0, 1)
    lit = (ripple * np.exp(-np.abs(x - 0.68 * _WIDTH) / 300))[..., None]
    wet = water * (1.15 - 0.5 * np.clip((y - 0.8 * _HEIGHT) / 300, 0, 1))[..., None] * (1 - lit) + glint * lit
    scene = np.where((y > shore)[..., None], wet, scene)
    for _ in range(26):  # houses, with a light side and a roof
        hy, hx = _HEIGHT * random.uniform(0.55, 0.77), random.uniform(0, _WIDTH)
        size = random.uniform(14, 40)
        wall = (np.abs(x - hx) < size) & (np.abs(y - hy) < size * 0.7)
        roof = (y > hy - size * 1.5) & (y < hy - size * 0.6) & (np.abs(x - hx) < (y - hy + size * 1.6) * 1.3)
        scene[wall] = (0.3 * low + 0.6) * np.where(x[wall] > hx, 0.72, 1.0)[:, None]
        scene[roof] = accent * random.uniform(0.8, 1.15)
    for _ in range(34):  # trees
        ty, tx, size = _HEIGHT * random.uniform(0.5, 0.8), random.uniform(0, _WIDTH), random.uniform(14, 46)
        tree = np.hypot((y - ty) / 1.7, x - tx) < size * (0.8 + 0.4 * _cheap(random, y, x))
        scene[tree] = near * random.uniform(0.45, 1.0) * np.clip(1.15 - (x[tree] - tx) / size * 0.35, 0.6, 1.5)[:, None]
    made: Grid = np.clip(scene, 0, 1)
    return made


def _flow(random: np.random.Generator, scene: Grid, turns: float) -> Grid:
    """The direction of strokes, radians: along edges where there are some, else along slow whirls."""
    grey = np.asarray(_grey(scene.mean(2)).filter(ImageFilter.GaussianBlur(9)), np.float64) / 255
    dy, dx = np.gradient(grey)
    whirl = (_smooth(random, 3) - 0.5) * 2 * np.pi * turns
    strong = np.clip(np.hypot(dy, dx) * 220, 0, 1)
    along = np.arctan2(dx, -dy)
    # As double angles: a stroke has no head.
    s = strong * np.sin(2 * along) + (1 - strong) * np.sin(2 * whirl)
    c = strong * np.cos(2 * along) + (1 - strong) * np.cos(2 * whirl)
    made: Grid = np.arctan2(s, c) / 2
    return made


def _strokes(
    random: np.random.Generator,
    picture: Image.Image,
    scene: Grid,
    flow: Grid,
    count: int,
    length: float,
    width: float,
    bristles: int,
    shade: float,
    hue: float,
) -> None:
    draw = ImageDraw.Draw(picture)
    for y, x in random.uniform((0, 0), (_HEIGHT, _WIDTH), (count, 2)):
        colour = scene[int(y), int(x)] * (1 + random.normal(0, shade)) + random.normal(0, hue, 3)
        path, py, px = [], y, x
        before = None
        for _ in range(int(length * random.uniform(0.6, 1.2) / 8)):
            if not (0 <= py < _HEIGHT and 0 <= px < _WIDTH):
                break
            a = flow[int(py), int(px)]
            if before is not None and np.cos(a - before) < 0:
                a += np.pi
            before = a
            path.append((py, px, a))
            py, px = py + 8 * np.sin(a), px + 8 * np.cos(a)
        if len(path) < 2:
            continue
        for b in range(bristles):
            at = (b + 0.5) / bristles - 0.5
            tone = colour * (1 + random.normal(0, 0.1) + 0.18 * at)  # lit from one side
            line = [(px - np.sin(a) * at * width, py + np.cos(a) * at * width) for py, px, a in path]
            draw.line(line, fill=_bytes(tone), width=max(2, round(width / bristles * 1.5)), joint="curve")


def _places() -> tuple[Grid, Grid]:
    y, x = np.mgrid[:_HEIGHT, :_WIDTH].astype(np.float64)
    return y, x


def _ridge(random: np.random.Generator, x: Grid, height: float) -> Grid:
    line = np.zeros_like(x)
    for k in range(1, 24):
        line += random.normal(0, 1) / k**1.05 * np.sin(2 * np.pi * k * x / _WIDTH * 1.3 + random.uniform(0, 6.3))
    return line * height * 0.55


def _cheap(random: np.random.Generator, y: Grid, x: Grid) -> Grid:
    """Hills of two waves, in [0, 1]."""
    fy, fx, gy, gx = random.uniform(-0.06, 0.06, 4)
    first = np.sin(fy * y + fx * x + random.uniform(0, 6))
    second = np.sin(gy * y + gx * x + random.uniform(0, 6))
    hills: Grid = 0.5 + 0.25 * first + 0.25 * second
    return hills


def _smooth(random: np.random.Generator, waves: int) -> Grid:
    """Random hills of a few waves across the picture, in [0, 1]."""
    y, x = _places()
    hills = np.zeros_like(y)
    for _ in range(10):
        fy, fx = random.uniform(-waves, waves, 2) / np.array((_HEIGHT, _WIDTH)) * 2 * np.pi
        hills += random.uniform(0.4, 1) * np.sin(fy * y + fx * x + random.uniform(0, 2 * np.pi))
    made: Grid = (hills - hills.min()) / (hills.max() - hills.min())
    return made


def _edges(levels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    edges = np.zeros(levels.shape, bool)
    edges[1:] |= levels[1:] != levels[:-1]
    edges[:, 1:] |= levels[:, 1:] != levels[:, :-1]
    return edges


def _slope(grey: Grid) -> Grid:
    made: Grid = np.hypot(*np.gradient(grey))
    return made


def _image(picture: Grid) -> Image.Image:
    return Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))


def _grey(picture: Grid) -> Image.Image:
    return Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))


def _bytes(colour: Grid) -> tuple[int, ...]:
    return tuple(int(part) for part in np.clip(colour, 0, 1) * 255 + 0.5)


STYLES: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "oil": oil,
    "dots": dots,
    "woodblock": woodblock,
    "watercolor": watercolor,
    "tesserae": tesserae,
    "pencil": pencil,
    "facets": facets,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the pictures")
    main(parser.parse_args().out)
