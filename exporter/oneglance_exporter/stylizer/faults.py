"""What a stylizer's pictures should not do: stir when the photo moves, grow noise, show a grid, lose light, flash.

What each figure is: ``measure``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from oneglance_exporter.perceptual.pictures import Rgb
from oneglance_exporter.stylizer.deployed import Deployed, Moments

SHIFTS = (1, 2, 3, 5)  # pixels; multiples of 4 would not show a grid
_CELL = 4  # pixels: the longest period of a grid that the network's strides could leave
_NOISE = 4  # standard deviation, of 0..255
_GREYS = (0, 64, 128, 192, 255)
_FADE = np.linspace(1, 0, 25)  # the share of the photo's light in each frame of a fade
Places = npt.NDArray[np.float64]  # [4, 4, 3]: levels, by the place in a cell of 4 x 4 pixels


class Net(Protocol):
    """What paints pictures as ``Deployed`` does."""

    def __call__(self, pictures: Rgb, weights: Sequence[float], moments: Moments | None = None) -> Rgb: ...


@dataclass(frozen=True, slots=True)
class OnGreys:
    """One style on pictures of one grey. light: of 1. grid: levels."""

    light: float
    grid: float


def room_of(photo: Rgb, size: int, multiple: int) -> Rgb:
    """A photo, ``size`` on its longer side, with room to move what is seen of it: uint8 [H + 5, W + 5, 3]."""
    height, width = photo.shape[:2]
    scale = size / max(height, width)
    high, wide = (
        max(4 * multiple, round(side * scale / multiple) * multiple) + max(SHIFTS) for side in (height, width)
    )
    return np.asarray(Image.fromarray(photo).resize((wide, high), Image.Resampling.LANCZOS))


def crop(room: Rgb, y: int, x: int) -> Rgb:
    """What is seen of a room at one place."""
    height, width = (side - max(SHIFTS) for side in room.shape[:2])
    return room[y : y + height, x : x + width]


def shift_of(net: Net, room: Rgb, weights: Sequence[float], moments: Moments | None = None) -> float:
    """The worst of all SHIFTS. moments: instead of each crop's own."""
    stylized = net(crop(room, 0, 0)[np.newaxis], weights, moments)[0]
    moved = ((by, net(crop(room, 0, by)[np.newaxis], weights, moments)[0]) for by in SHIFTS)
    return max(_rmse(stylized[:, by:], picture[:, :-by]) / 255 for by, picture in moved)


def grid_on(net: Deployed, room: Rgb, weights: Sequence[float], moments: Moments | None = None) -> Places:
    """What each place of a cell differs by, of points that come to every place once, as 16 crops begin at the room's
    first 4 x 4 points; all under the given moments, or the first crop's."""
    last = _CELL - 1
    if moments is None:
        moments = net.moments(crop(room, 0, 0)[np.newaxis], weights)
    places = np.zeros((_CELL, _CELL, 3))
    for y in range(_CELL):
        for x in range(_CELL):
            seen = net(crop(room, y, x)[np.newaxis], weights, moments)[0, last - y :, last - x :]
            places += np.roll(_places(seen[: seen.shape[0] - y, : seen.shape[1] - x]), (last - y, last - x), (0, 1))
    return _from_mean(places / _CELL**2)


def largest(grid: Places) -> float:
    """Of what its places differ by."""
    return float(np.abs(grid).max())


def _places(picture: Rgb) -> Places:
    """Mean of each place in cells of 4 x 4."""
    height, width = (side // _CELL for side in picture.shape[:2])
    cells = picture[: height * _CELL, : width * _CELL].reshape(height, _CELL, width, _CELL, 3)
    return cells.mean((0, 2), dtype=np.float64)  # type: ignore[no-any-return]


def _from_mean(places: Places) -> Places:
    found: Places = places - places.mean((0, 1))
    return found


def flash_of(net: Deployed, photo: Rgb, weights: Sequence[float]) -> float:
    """Levels."""
    frames = (np.rint(photo * light).astype(np.uint8) for light in _FADE)
    means = [float(net(frame[np.newaxis], weights).mean()) for frame in frames]
    return max(0.0, float(np.diff(means).max()))


def on_greys(net: Deployed, weights: Sequence[float], size: int) -> OnGreys:
    """Of squares of that side."""
    side = size // net.manifest.multiple * net.manifest.multiple
    pictures = [net(np.full((1, side, side, 3), grey, np.uint8), weights)[0] for grey in _GREYS]
    light = (float(pictures[-1].mean()) - float(pictures[0].mean())) / 255
    return OnGreys(light, max(largest(_from_mean(_places(picture))) for picture in pictures))


def gain_of(net: Deployed, photo: Rgb, stylized: Rgb, weights: Sequence[float]) -> float:
    """A ratio."""
    noise = np.random.default_rng(0).normal(0, _NOISE, photo.shape)
    noisy = np.rint(photo + noise).clip(0, 255).astype(np.uint8)
    return _rmse(net(noisy[np.newaxis], weights)[0], stylized) / _rmse(noisy, photo)


def _rmse(a: Rgb, b: Rgb) -> float:
    return float(np.sqrt(np.square(a.astype(np.float64) - b).mean()))
