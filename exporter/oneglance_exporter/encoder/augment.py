"""Make one training example into many: what another hand, another pen, a mirror or noise would have done.

All functions take and return batched tensors; where they don't say otherwise ink, float32 [B, 1, H, W], 0 paper to 1
ink. Pictures are on any device; generators, and what they choose, on the CPU.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

SYMMETRIES = 8  # four quarter turns, each also mirrored


def symmetry(ink: Tensor, which: int) -> Tensor:
    """Turn by ``which % 4`` quarter turns; mirror before if ``which >= 4``. Square pictures only.

    A turned character is another character: training counts each of the eight as a class of its own.
    """
    mirrored = ink.flip(-1) if which >= 4 else ink
    return torch.rot90(mirrored, which % 4, (-2, -1))


@dataclass(frozen=True, slots=True)
class Warp:
    """Where each of B pictures takes its ink from: from coordinates of the result to those of the picture, both in
    [-1, 1].

    matrix: float32 [B, 2, 2] and shift [B, 2], the affine part; knots: [B, 2, 25], what is added at 5 x 5 knots.
    """

    matrix: Tensor
    shift: Tensor
    knots: Tensor

    def of(self, hand: "Warp") -> "Warp":
        """This one, drawn by ``hand``. The bending of the two is added up, as if each moved its ink but little."""
        shift = (self.matrix @ hand.shift[:, :, None])[:, :, 0] + self.shift
        return Warp(self.matrix @ hand.matrix, shift, self.matrix @ hand.knots + self.knots)

    def repeated(self, each: int) -> "Warp":
        """Each of them ``each`` times."""
        return Warp(*(part.repeat_interleave(each, dim=0) for part in (self.matrix, self.shift, self.knots)))

    def __call__(self, ink: Tensor) -> Tensor:
        batch, _, height, width = ink.shape
        factors = torch.cat([self.matrix, self.shift[:, :, None], self.knots], dim=2)  # [B, 2, 28]
        grid = (
            (factors.to(ink.device) @ _warp_basis(height, width, ink.device))
            .reshape(batch, 2, height, width)
            .permute(0, 2, 3, 1)
        )
        return functional.grid_sample(ink, grid, align_corners=False)


def hands(batch: int, generator: torch.Generator) -> Warp:
    """How as many people write one character: a small affine map and a smooth bending each.

    Rotation up to 11 degrees, slant up to 0.2, sides scaled by 0.87 to 1.15, shift up to 5 % of the
    width; the bending moves each of 5 x 5 knots by about 1.4 % of the width (one deviation).
    """
    return _warps(batch, generator, turn=0.2, slant=0.2, sides=(0.87, 1.15), shift=0.1, bend=0.028)


def shapes(classes: int, share: float, generator: torch.Generator) -> Warp:
    """What makes another character of each of as many: a wide warp for ``share`` of them, nothing for the others.

    Rotation up to 29 degrees, slant up to 0.5, sides scaled by 0.62 to 1.1, each knot moved by about 5 % of the width.
    """
    wide = _warps(classes, generator, turn=0.5, slant=0.5, sides=(0.9, 1.6), shift=0.1, bend=0.1)
    changed = torch.rand(classes, generator=generator) < share
    return Warp(
        torch.where(changed[:, None, None], wide.matrix, torch.eye(2)),
        torch.where(changed[:, None], wide.shift, 0.0),
        torch.where(changed[:, None, None], wide.knots, 0.0),
    )


def _warps(
    batch: int,
    generator: torch.Generator,
    turn: float,
    slant: float,
    sides: tuple[float, float],
    shift: float,
    bend: float,
) -> Warp:
    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    angle, slanted = uniform(-turn, turn), uniform(-slant, slant)
    wide, tall = uniform(*sides), uniform(*sides)
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [cos * wide, cos * slanted - sin * tall, uniform(-shift, shift)]
    rows += [sin * wide, sin * slanted + cos * tall, uniform(-shift, shift)]
    affine = torch.stack(rows, dim=1).reshape(batch, 2, 3)
    return Warp(affine[:, :, :2], affine[:, :, 2], bend * torch.randn(batch, 2, 25, generator=generator))


def another_hand(ink: Tensor, generator: torch.Generator, shape: Warp | None = None) -> Tensor:
    """Draw each picture as another hand would: ``hands``, then another pen. ``shape``: a warp of its class, before."""
    hand = hands(len(ink), generator)
    return another_pen((hand if shape is None else shape.of(hand))(ink), generator)


@cache
def _warp_basis(height: int, width: int, device: torch.device) -> Tensor:
    """The functions that a warp is a sum of, float32 [3 + 25, H * W]: x, y, 1, and 5 x 5 cubic bumps."""
    y = (2 * torch.arange(height) + 1) / height - 1
    x = (2 * torch.arange(width) + 1) / width - 1
    plane = torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)])
    knots = torch.eye(25).reshape(1, 25, 5, 5)
    bumps = functional.interpolate(knots, size=(height, width), mode="bicubic", align_corners=True)[0]
    return torch.cat([plane, bumps]).reshape(28, height * width).to(device)


def another_pen(ink: Tensor, generator: torch.Generator) -> Tensor:
    """Thicken a third of the strokes by up to a pixel on each side and thin a sixth by about half one."""
    batch = len(ink)
    choice = torch.rand(batch, generator=generator)
    amount = torch.rand(batch, generator=generator)
    result = ink.clone()
    for chosen, sign, most in ((choice < 1 / 3, 1.0, 1.0), (choice > 5 / 6, -1.0, 0.6)):
        if chosen.any():
            chosen = chosen.to(ink.device)
            some = ink[chosen]
            changed = sign * functional.max_pool2d(sign * some, 3, 1, 1)
            weight = most * amount.to(ink.device)[chosen][:, None, None, None]
            result[chosen] = some + weight * (changed - some)
    return result


def composite(
    first: Tensor, second: Tensor, layout: Tensor, generator: torch.Generator, cut: Tensor | None = None
) -> Tensor:
    """Put two drawings on one paper: each shrunk and moved as ``layout`` says, give or take a little.

    layout: float32 [B, 2, 3], for each of the two parts (center x, center y, size), in [-1, 1]
    coordinates of the paper and as a share of its width. Composites of one class share a layout.
    cut: float32 [3], a line a x + b y = c of the paper: of the first drawing only what lies beyond it is taken, of the
    second only the rest.
    """
    batch, _, height, width = first.shape
    parts = []
    for part, ink in enumerate((first, second)):
        jitter = torch.rand(batch, 3, generator=generator) - 0.5
        x, y, size = (layout[:, part] + jitter * torch.tensor([0.12, 0.12, 0.1])).unbind(1)
        zero = torch.zeros(batch)
        rows = [1 / size, zero, -x / size, zero, 1 / size, -y / size]
        theta = torch.stack(rows, 1).reshape(batch, 2, 3).to(ink.device)
        grid = functional.affine_grid(theta, list(ink.shape), align_corners=False)
        parts.append(functional.grid_sample(ink, grid, align_corners=False))
    if cut is not None:
        x, y = (2 * torch.arange(width) + 1) / width - 1, (2 * torch.arange(height) + 1) / height - 1
        beyond = (cut[0] * x + cut[1] * y[:, None] > cut[2]).to(first.device)
        parts = [parts[0] * beyond, parts[1] * ~beyond]
    return torch.maximum(parts[0], parts[1])


def another_photo(picture: Tensor, generator: torch.Generator) -> Tensor:
    """float32 [B, C, H, W], 0 white to 1 black: mirrored or not, turned, scaled and moved a little, lighter or darker.

    Turned by up to 9 degrees, sides scaled by 0.9 to 1.1, moved by up to 5 % of a side, contrast times 0.8 to 1.2,
    brightness up to 0.1 more or less. What comes in from outside is the edge's colour.
    """
    batch = len(picture)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    angle, size = uniform(-0.15, 0.15), uniform(0.9, 1.1)
    mirror = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    rows = [cos * mirror, -sin, uniform(-0.1, 0.1), sin * mirror, cos, uniform(-0.1, 0.1)]
    theta = torch.stack(rows, dim=1).reshape(batch, 2, 3).to(picture.device)
    grid = functional.affine_grid(theta, list(picture.shape), align_corners=False)
    moved = functional.grid_sample(picture, grid, padding_mode="border", align_corners=False)
    contrast, light = (
        amount[:, None, None, None].to(picture.device) for amount in (uniform(0.8, 1.2), uniform(-0.1, 0.1))
    )
    return ((moved - 0.5) * contrast + 0.5 + light).clamp(0, 1)


def another_array(values: Tensor, generator: torch.Generator) -> Tensor:
    """float32 [B, C, *sizes] of about unit deviation: larger or smaller by up to a tenth, with noise of a tenth."""
    shape = (len(values), *(1 for _ in range(values.ndim - 1)))
    size = 0.9 + 0.2 * torch.rand(shape, generator=generator)
    noise = 0.1 * torch.randn(values.shape, generator=generator)
    return values * size.to(values.device) + noise.to(values.device)
