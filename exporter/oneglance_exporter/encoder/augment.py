"""Make one training example into many: what another hand, another pen, a mirror or noise would have done.

All functions take and return batched tensors; where they don't say otherwise ink, float32 [B, 1, H, W], 0 paper to 1
ink.
"""

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


def another_hand(ink: Tensor, generator: torch.Generator) -> Tensor:
    """Warp each picture by its own small affine map and smooth bending, then vary the pen.

    Rotation up to 11 degrees, slant up to 0.2, sides scaled by 0.87 to 1.15, shift up to 5 % of the
    width; the bending moves each of 5 x 5 knots by about 1.4 % of the width (one deviation).
    """
    batch, _, height, width = ink.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    angle, slant = uniform(-0.2, 0.2), uniform(-0.2, 0.2)
    wide, tall = uniform(0.87, 1.15), uniform(0.87, 1.15)
    cos, sin = torch.cos(angle), torch.sin(angle)
    # Output coordinates -> input coordinates, as factors of (x, y, 1) and of the 25 knots.
    rows = [cos * wide, cos * slant - sin * tall, uniform(-0.1, 0.1)]
    rows += [sin * wide, sin * slant + cos * tall, uniform(-0.1, 0.1)]
    affine = torch.stack(rows, dim=1).reshape(batch, 2, 3)
    bend = 0.028 * torch.randn(batch, 2, 25, generator=generator)
    grid = torch.cat([affine, bend], dim=2) @ _warp_basis(height, width)  # [B, 2, H * W]
    grid = grid.reshape(batch, 2, height, width).permute(0, 2, 3, 1)
    warped = functional.grid_sample(ink, grid, align_corners=False)
    return another_pen(warped, generator)


@cache
def _warp_basis(height: int, width: int) -> Tensor:
    """The functions that a warp is a sum of, float32 [3 + 25, H * W]: x, y, 1, and 5 x 5 cubic bumps."""
    y = (2 * torch.arange(height) + 1) / height - 1
    x = (2 * torch.arange(width) + 1) / width - 1
    plane = torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)])
    knots = torch.eye(25).reshape(1, 25, 5, 5)
    bumps = functional.interpolate(knots, size=(height, width), mode="bicubic", align_corners=True)[0]
    return torch.cat([plane, bumps]).reshape(28, height * width)


def another_pen(ink: Tensor, generator: torch.Generator) -> Tensor:
    """Thicken a third of the strokes by up to a pixel on each side and thin a sixth by about half one."""
    batch = len(ink)
    choice = torch.rand(batch, generator=generator)
    amount = torch.rand(batch, generator=generator)
    result = ink.clone()
    for chosen, sign, most in ((choice < 1 / 3, 1.0, 1.0), (choice > 5 / 6, -1.0, 0.6)):
        if chosen.any():
            some = ink[chosen]
            changed = sign * functional.max_pool2d(sign * some, 3, 1, 1)
            weight = most * amount[chosen][:, None, None, None]
            result[chosen] = some + weight * (changed - some)
    return result


def composite(first: Tensor, second: Tensor, layout: Tensor, generator: torch.Generator) -> Tensor:
    """Put two drawings on one paper: each shrunk and moved as ``layout`` says, give or take a little.

    layout: float32 [B, 2, 3], for each of the two parts (center x, center y, size), in [-1, 1]
    coordinates of the paper and as a share of its width. Composites of one class share a layout.
    """
    batch = len(first)
    parts = []
    for part, ink in enumerate((first, second)):
        jitter = torch.rand(batch, 3, generator=generator) - 0.5
        x, y, size = (layout[:, part] + jitter * torch.tensor([0.12, 0.12, 0.1])).unbind(1)
        zero = torch.zeros(batch)
        rows = [1 / size, zero, -x / size, zero, 1 / size, -y / size]
        theta = torch.stack(rows, 1).reshape(batch, 2, 3)
        grid = functional.affine_grid(theta, list(ink.shape), align_corners=False)
        parts.append(functional.grid_sample(ink, grid, align_corners=False))
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
    theta = torch.stack(rows, dim=1).reshape(batch, 2, 3)
    grid = functional.affine_grid(theta, list(picture.shape), align_corners=False)
    moved = functional.grid_sample(picture, grid, padding_mode="border", align_corners=False)
    contrast, light = (amount[:, None, None, None] for amount in (uniform(0.8, 1.2), uniform(-0.1, 0.1)))
    return ((moved - 0.5) * contrast + 0.5 + light).clamp(0, 1)


def another_array(values: Tensor, generator: torch.Generator) -> Tensor:
    """float32 [B, C, *sizes] of about unit deviation: larger or smaller by up to a tenth, with noise of a tenth."""
    shape = (len(values), *(1 for _ in range(values.ndim - 1)))
    size = 0.9 + 0.2 * torch.rand(shape, generator=generator)
    return values * size + 0.1 * torch.randn(values.shape, generator=generator)
