"""What the check learns from: faces cut as they should be, and everything else that a detector may hand on.

Both kinds are drawn from *canvases*: faces cut upright with four times the area of a chip around them. A canvas sampled
at its centre gives a good chip; turned, shifted or scaled it gives a bad one.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from oneglance_core.faces.chips import cut_chip, gray
from oneglance_core.glyphs import TRAINING_SEEDS, alphabet
from oneglance_exporter.uprightness.network import ALIGNMENT, SIDE

Pixels = npt.NDArray[np.uint8]
CANVAS = 128  # pixels; its middle half is the chip
FILLS = 3  # canvases of one face: beyond the photo's edge is black, the edge's colour, or the photo mirrored

# Shares of the bad chips.
_TURNED, _UPSIDE_DOWN, _SHIFTED, _SCALED, _JUNK, _DRAWN = 0.32, 0.18, 0.12, 0.08, 0.18, 0.08  # the rest is flat

# How far above the chip's middle the eyes are, as a share of half its side.
_EYES = float(np.mean([y for _, y in ALIGNMENT.template[:4]])) / ((SIDE - 1) / 2) - 1


def canvases(photo: Pixels, points: npt.ArrayLike) -> Pixels:
    """uint8 [FILLS, CANVAS, CANVAS] of a face in a photo uint8 [H, W, 3]; points: its five landmarks."""
    template = (np.array(ALIGNMENT.template) + 0.5) * (CANVAS / 2 / SIDE) - 0.5 + CANVAS / 4
    places: list[tuple[float, float]] = [(float(x), float(y)) for x, y in template]
    side = max(photo.shape[:2])
    cut = []
    for mode in ("constant", "edge", "symmetric"):
        padded = np.pad(photo, [(side, side), (side, side), (0, 0)], mode=mode)
        chip = cut_chip(padded, np.asarray(points, np.float64) + side, places, CANVAS, CANVAS)
        cut.append(gray(chip))
    return np.stack(cut)


@dataclass(frozen=True, slots=True)
class Faces:
    """``good``: canvases of faces found in upright photos, uint8 [G, FILLS, CANVAS, CANVAS]. ``junk``: of whatever was
    found in the same photos turned, [J, FILLS, CANVAS, CANVAS]."""

    good: Pixels
    junk: Pixels


class Samples:
    """Batches, each a function of (seed, step) only. Half of a batch is good."""

    def __init__(self, faces: Faces, batch: int, seed: int) -> None:
        self._good, self._junk = torch.from_numpy(faces.good), torch.from_numpy(faces.junk)
        self._drawings = torch.from_numpy(_drawings())
        self._batch, self._seed = batch, seed

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Chips float32 [N, 1, SIDE, SIDE], levels of 0 to 255, and whether each is good, float32 [N]."""
        draw = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        good = self._batch // 2
        bad = self._batch - good
        counts = [int(bad * share) for share in (_TURNED, _UPSIDE_DOWN, _SHIFTED, _SCALED, _JUNK, _DRAWN)]
        if not len(self._junk):
            counts[0], counts[4] = counts[0] + counts[4], 0
        turned, upside_down, shifted, scaled, junk, drawn = counts
        chips = [
            _chips(draw, _pick(draw, canvases, count), *placed(draw, count))
            for canvases, placed, count in (
                (self._good, _aligned, good),
                (self._good, _turned, turned),
                (self._good, _upside_down, upside_down),
                (self._good, _shifted, shifted),
                (self._good, _scaled, scaled),
                (self._junk, _aligned, junk),
                (self._drawings, _anyhow, drawn),
            )
            if count
        ]
        chips.append(torch.full((bad - sum(counts), 1, SIDE, SIDE), 128.0))
        labels = torch.zeros(self._batch)
        labels[:good] = 1
        return _seen(draw, torch.cat(chips)), labels


def _pick(draw: torch.Generator, canvases: Tensor, count: int) -> Tensor:
    """[count, CANVAS, CANVAS] of [F, FILLS, CANVAS, CANVAS]."""
    return canvases.flatten(0, 1)[torch.randint(len(canvases) * canvases.shape[1], (count,), generator=draw)]


def _chips(draw: torch.Generator, canvases: Tensor, turn: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Sample [N, CANVAS, CANVAS] at a chip that is turned (radians), scaled, and shifted by shares of its side [N, 2].
    Half of them are mirrored."""
    mirror = torch.where(torch.rand(len(turn), generator=draw) < 0.5, -1.0, 1.0)
    stretch = 1 + 0.05 * torch.randn(len(turn), generator=draw).clamp(-2, 2)
    cosine, sine = torch.cos(turn) * scale / 2, torch.sin(turn) * scale / 2
    rows = torch.stack(
        [
            torch.stack([mirror * cosine * stretch, -sine, shift[:, 0]], dim=1),
            torch.stack([mirror * sine * stretch, cosine, shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(rows, [len(turn), 1, SIDE, SIDE], align_corners=False)
    return functional.grid_sample(canvases[:, None].float(), grid, align_corners=False)


def _uniform(draw: torch.Generator, count: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=draw)


def _apart(draw: torch.Generator, count: int, reach: float) -> Tensor:
    return torch.stack([_uniform(draw, count, -reach, reach) for _ in range(2)], dim=1)


def _aligned(draw: torch.Generator, count: int) -> tuple[Tensor, Tensor, Tensor]:
    turn = math.radians(6) * torch.randn(count, generator=draw).clamp(-2, 2)
    return turn, torch.exp(_uniform(draw, count, -0.14, 0.14)), _apart(draw, count, 0.07)


def _turned(draw: torch.Generator, count: int) -> tuple[Tensor, Tensor, Tensor]:
    turn = math.radians(1) * _uniform(draw, count, 32, 328)
    return turn, torch.exp(_uniform(draw, count, -0.5, 0.5)), _apart(draw, count, 0.25)


def _upside_down(draw: torch.Generator, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The eyes in their place all the same, and the forehead below them: what landmarks make of a face on its head."""
    turn = math.radians(1) * _uniform(draw, count, 145, 215)
    scale = torch.exp(_uniform(draw, count, -0.4, 0.5))
    # In a canvas, (-1, -1) to (1, 1), a chip's side is 1: the eyes are at (0, _EYES / 2), and are to be so in the chip.
    shift = torch.stack([torch.sin(turn) * scale, 1 - torch.cos(turn) * scale], dim=1) * _EYES / 2
    return turn, scale, shift + _apart(draw, count, 0.08)


def _shifted(draw: torch.Generator, count: int) -> tuple[Tensor, Tensor, Tensor]:
    away, way = _uniform(draw, count, 0.35, 0.9), _uniform(draw, count, 0, 2 * math.pi)
    shift = torch.stack([away * torch.cos(way), away * torch.sin(way)], dim=1)
    return _uniform(draw, count, -0.5, 0.5), torch.exp(_uniform(draw, count, -0.5, 0.5)), shift


def _scaled(draw: torch.Generator, count: int) -> tuple[Tensor, Tensor, Tensor]:
    large = torch.rand(count, generator=draw) < 0.5
    scale = torch.where(large, _uniform(draw, count, 1.7, 2.4), _uniform(draw, count, 0.25, 0.55))
    return _uniform(draw, count, -0.5, 0.5), scale, _apart(draw, count, 0.25)


def _anyhow(draw: torch.Generator, count: int) -> tuple[Tensor, Tensor, Tensor]:
    return _uniform(draw, count, 0, 2 * math.pi), torch.exp(_uniform(draw, count, -1.5, 0.6)), _apart(draw, count, 0.3)


def _drawings() -> Pixels:
    """Invented characters, uint8 [D, 1, CANVAS, CANVAS]: lines as eyes and mouths have them, in no face's place."""
    subjects = alphabet(TRAINING_SEEDS.start, 60, 2, CANVAS)
    return np.stack([drawing for subject in subjects for drawing in subject.drawings])[:, None]


def _seen(draw: torch.Generator, chips: Tensor) -> Tensor:
    """As poor cameras, lights and masks leave them; the same for good and bad ones."""
    chips = _blurred(draw, chips)
    chips = _covered(draw, chips)
    count = len(chips)
    gamma = torch.exp(_uniform(draw, count, -0.7, 0.7))[:, None, None, None]
    chips = 255 * (chips.clamp(0, 255) / 255) ** gamma
    contrast = torch.exp(_uniform(draw, count, -1.0, 0.2))[:, None, None, None]
    middle = _uniform(draw, count, 60, 190)[:, None, None, None]
    chips = (chips - 128) * contrast + middle
    chips = chips * torch.where(torch.rand(count, generator=draw) < 0.2, 2.2, 1.0)[:, None, None, None]  # overexposed
    # Light from one side.
    place = torch.linspace(-1, 1, SIDE)
    across, down = (_uniform(draw, count, -35, 35)[:, None, None, None] for _ in range(2))
    chips = chips + across * place + down * place[:, None]
    noise = torch.randn(chips.shape, generator=draw) * contrast * _uniform(draw, count, 0, 9)[:, None, None, None]
    return (chips + noise).clamp(0, 255)


def _blurred(draw: torch.Generator, chips: Tensor) -> Tensor:
    """A quarter of them, as if enlarged from 12 to 32 pixels."""
    result = chips.clone()
    for size in (12, 16, 24, 32):
        some = torch.rand(len(chips), generator=draw) < 0.07
        small = functional.interpolate(chips[some], size=size, mode="area")
        result[some] = functional.interpolate(small, size=SIDE, mode="bilinear", align_corners=False)
    return result


def _covered(draw: torch.Generator, chips: Tensor) -> Tensor:
    """A fifth with a mask (the lower part), a tenth with glasses (a band at the eyes), a tenth beyond an edge."""
    result = chips.clone()
    kind = torch.rand(len(chips), generator=draw)
    level = _uniform(draw, len(chips), 0, 255)
    part = torch.rand(len(chips), generator=draw)
    for i in torch.nonzero(kind < 0.4).flatten().tolist():
        size, value = float(part[i]), float(level[i])
        if kind[i] < 0.2:
            result[i, :, int(SIDE * (0.5 + 0.12 * size)) :, 4:-4] = value
        elif kind[i] < 0.3:
            top = int(SIDE * (0.27 + 0.05 * size))
            result[i, :, top : top + SIDE // 6, 8:-8] = value
        else:
            quarter = int(value) % 4
            edge = torch.rot90(result[i], quarter, (1, 2)).clone()
            edge[:, :, : 1 + int(SIDE * 0.3 * size)] = value
            result[i] = torch.rot90(edge, -quarter, (1, 2))
    return result
