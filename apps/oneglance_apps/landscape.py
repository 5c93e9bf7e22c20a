"""A picture to stylize: an evening by the sea, drawn with formulas. Needs only numpy."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 3.0, 2.0  # of the scene, in the units of all coordinates below; y goes down
HORIZON = 1.12
SUN = (1.92, 0.80)
_OVERSAMPLING = 2
_SEED = 7


def landscape(height: int = 480) -> Pixels:
    """Sun, clouds, mountains, sea, a boat and a hill with trees: uint8 [height, 1.5 * height, 3]; always the same."""
    rows = height * _OVERSAMPLING
    y, x = np.mgrid[0:rows, 0 : rows * 3 // 2] * (HEIGHT / rows) + HEIGHT / rows / 2
    random = np.random.default_rng(_SEED)
    picture = _sky(x, y, random)
    for distance, base, rise in ((1.0, 0.98, 0.34), (0.6, 1.06, 0.24), (0.3, 1.11, 0.12)):
        ridge = base - rise * _ridge(x[0], random, 1.1 + distance)
        haze = np.array([0.46, 0.42, 0.55]) * distance + np.array([0.16, 0.24, 0.33]) * (1 - distance)
        light = 0.06 * np.clip(1 - np.abs(x - SUN[0]) / 1.2, 0, 1)[..., np.newaxis] * np.array([1.0, 0.6, 0.2])
        folds = 0.10 * (_noise(x * 3, y * 7, random) - 0.5)[..., np.newaxis] * (1.2 - distance)
        picture = np.where((y > ridge[np.newaxis])[..., np.newaxis], haze + light + folds, picture)
    picture = np.where((y > HORIZON)[..., np.newaxis], _sea(x, y, random), picture)
    picture = _boat(picture, x, y)
    picture = _near_hill(picture, x, y, random)
    small = picture.reshape(height, _OVERSAMPLING, -1, _OVERSAMPLING, 3).mean(axis=(1, 3))
    pixels: Pixels = (np.clip(small, 0, 1) * 255).round().astype(np.uint8)
    return pixels


def png(pixels: Pixels) -> bytes:
    """Encode uint8 [H, W, 3] as PNG."""
    height, width, _ = pixels.shape
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0)))  # each row begins with its filter type, 0: none
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 6)),
        (b"IEND", b""),
    )
    packed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _sky(x: Floats, y: Floats, random: np.random.Generator) -> Floats:
    stops = (0.0, 0.45, 0.8, HORIZON)
    colours = ((0.11, 0.22, 0.44), (0.36, 0.45, 0.62), (0.93, 0.66, 0.45), (0.99, 0.80, 0.50))
    sky = _gradient(y, stops, colours)
    far = np.hypot(x - SUN[0], y - SUN[1])
    sky += np.exp(-((far / 0.55) ** 2))[..., np.newaxis] * np.array([0.22, 0.13, 0.0])
    bank = _noise(x * 1.1 + y * 0.3, y * 5.5, random) * (0.55 + 0.45 * _noise(x * 0.6, y * 1.5, random))
    cloud = _step(bank, 0.36, 0.52) * _step(y, 1.05, 0.65) * 0.85
    lit = np.clip(1.1 - far / 1.3, 0, 1)[..., np.newaxis]
    colour = np.array([0.50, 0.44, 0.55]) * (1 - lit) + np.array([1.0, 0.70, 0.52]) * lit
    colour = colour + 0.35 * (bank - 0.45)[..., np.newaxis]
    sky = _over(sky, colour, cloud)
    return _over(sky, np.array([1.0, 0.95, 0.78]), _step(far, 0.125, 0.115))


def _sea(x: Floats, y: Floats, random: np.random.Generator) -> Floats:
    depth = np.clip((y - HORIZON) / (HEIGHT - HORIZON), 1e-3, 1)
    sea = _gradient(depth, (0.0, 0.25, 1.0), ((0.80, 0.62, 0.48), (0.28, 0.40, 0.52), (0.05, 0.20, 0.30)))
    # Near waves are wider.
    waves = _noise(x * 5 / (0.15 + depth), 26 * np.log(depth + 0.06), random)
    sea += 0.16 * (waves - 0.5)[..., np.newaxis]
    path = np.exp(-(((x - SUN[0]) / (0.10 + 0.32 * depth)) ** 2)) * _step(waves, 0.42, 0.62)
    return _over(sea, np.array([1.0, 0.86, 0.58]), path * (1 - 0.55 * depth))


def _boat(picture: Floats, x: Floats, y: Floats) -> Floats:
    left, water = 1.12, 1.42
    shadow = _step(np.abs(x - left - 0.02 * np.sin(40 * y)), 0.17, 0.05) * _step(np.abs(y - water - 0.09), 0.10, 0.02)
    picture = _over(picture, np.array([0.10, 0.16, 0.22]), 0.55 * shadow)
    hull = (y > water - 0.055) & (y < water) & (np.abs(x - left) < 0.175 - 0.9 * (y - water + 0.055))
    picture = _over(picture, np.array([0.36, 0.13, 0.11]), hull)
    picture = _over(picture, np.array([0.93, 0.88, 0.78]), hull & (y < water - 0.04))
    mast = (np.abs(x - left) < 0.006) & (y > water - 0.50) & (y < water - 0.05)
    picture = _over(picture, np.array([0.22, 0.16, 0.13]), mast)
    main = _inside(x, y, (left + 0.014, water - 0.48), (left + 0.014, water - 0.08), (left + 0.20, water - 0.085))
    jib = _inside(x, y, (left - 0.016, water - 0.44), (left - 0.016, water - 0.09), (left - 0.155, water - 0.075))
    picture = _over(picture, np.array([0.97, 0.92, 0.80]), main)
    return _over(picture, np.array([0.85, 0.36, 0.26]), jib)


def _near_hill(picture: Floats, x: Floats, y: Floats, random: np.random.Generator) -> Floats:
    top = 1.98 - 0.62 * np.exp(-(((x - 0.05) / 0.75) ** 2)) - 0.30 * np.exp(-(((x - 3.1) / 0.6) ** 2))
    grass = _noise(x * 30, y * 9 - x * 6, random)
    top = top - 0.02 * grass
    green = np.array([0.14, 0.22, 0.13]) + 0.22 * (grass - 0.25)[..., np.newaxis] * np.array([0.9, 1.0, 0.35])
    green = green + 0.10 * np.exp(-(((y - top) / 0.05) ** 2))[..., np.newaxis] * np.array([1.0, 0.7, 0.3])
    picture = _over(picture, green, y > top)
    for foot, tall, lean in ((0.20, 0.95, 0.03), (0.52, 0.62, -0.02), (2.86, 0.66, -0.03)):
        picture = _tree(picture, x, y, (foot, float(np.interp(foot, x[0], top.min(axis=0)))), tall, lean, random)
    return picture


def _tree(
    picture: Floats,
    x: Floats,
    y: Floats,
    foot: tuple[float, float],
    tall: float,
    lean: float,
    random: np.random.Generator,
) -> Floats:
    up = np.clip((foot[1] + 0.04 - y) / tall, -1, 2)  # 0 at the foot, 1 at the top
    middle = foot[0] + lean * up**2
    trunk = (np.abs(x - middle) < 0.016 * tall * (1.5 - up)) & (up > 0) & (up < 0.85)
    picture = _over(picture, np.array([0.20, 0.12, 0.10]), trunk)
    leaves = _noise(x * 14, y * 14, random)
    wide = np.interp(up, (0.2, 0.4, 0.7, 1.05), (0.02, 0.23, 0.19, 0.02)) * tall
    crown = 1 - np.abs(x - middle) / wide + 1.9 * (leaves - 0.5)
    crown = np.where((up > 0.2) & (up < 1.05), crown, -1.0)
    side = np.clip((x - middle) / (0.25 * tall) * np.sign(SUN[0] - foot[0]) + 0.35, 0, 1)[..., np.newaxis]
    colour = np.array([0.09, 0.17, 0.12]) * (1 - side) + np.array([0.47, 0.38, 0.15]) * side
    return _over(picture, colour + 0.45 * (leaves - 0.5)[..., np.newaxis], _step(crown, 0.10, 0.25))


def _gradient(at: Floats, stops: Sequence[float], colours: Sequence[tuple[float, float, float]]) -> Floats:
    return np.stack([np.interp(at, stops, channel) for channel in zip(*colours, strict=True)], axis=-1)


def _over(picture: Floats, colour: Floats, share: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> Floats:
    """Blend ``colour`` over the picture with weight ``share`` [H, W], in [0, 1]."""
    alpha = share[..., np.newaxis].astype(np.float64)
    return picture * (1 - alpha) + colour * alpha


def _step(value: Floats, none: float, all: float) -> Floats:
    """Smooth step from 0 at ``none`` to 1 at ``all``; either may be the larger."""
    t = np.clip((value - none) / (all - none), 0, 1)
    smooth: Floats = t * t * (3 - 2 * t)
    return smooth


def _inside(x: Floats, y: Floats, *corners: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Whether each point lies in the triangle of ``corners``."""
    turns = [
        (x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)
        for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True)
    ]
    inside: npt.NDArray[np.bool_] = np.all([t >= 0 for t in turns], axis=0) | np.all([t <= 0 for t in turns], axis=0)
    return inside


def _ridge(x: Floats, random: np.random.Generator, frequency: float) -> Floats:
    """Height of mountains: [W], in about [0, 1]."""
    folded = 1 - np.abs(2 * _noise(x[np.newaxis] * frequency, np.full((1, len(x)), 0.5), random)[0] - 1)
    lifted: Floats = (folded - 0.45) / 0.55
    return lifted


def _noise(x: Floats, y: Floats, random: np.random.Generator, octaves: int = 5) -> Floats:
    """Fractal value noise in [0, 1], with details of about 1 unit; constant in blocks of _OVERSAMPLING pixels."""
    shape = x.shape
    if len(x) > 1:
        x, y = x[::_OVERSAMPLING, ::_OVERSAMPLING], y[::_OVERSAMPLING, ::_OVERSAMPLING]
    total, weight, size = np.zeros(x.shape), 0.0, 1.0
    for _ in range(octaves):
        grid = random.random((64, 64))
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        u, v = _step(x - left, 0, 1), _step(y - top, 0, 1)
        corners = [grid[(top + i) % 64, (left + j) % 64] for i in (0, 1) for j in (0, 1)]
        upper, lower = corners[0] * (1 - u) + corners[1] * u, corners[2] * (1 - u) + corners[3] * u
        total += size * (upper * (1 - v) + lower * v)
        weight += size
        x, y, size = 2 * x + 17.3, 2 * y + 5.1, size / 2
    mean: Floats = total / weight
    if len(x) > 1:
        mean = mean.repeat(_OVERSAMPLING, axis=0).repeat(_OVERSAMPLING, axis=1)[: shape[0], : shape[1]]
    return mean
