"""Contact sheets: pictures in a grid, a row per photo and a column per style."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw

from oneglance_exporter.perceptual.pictures import Rgb, to_pictures, to_tensor
from oneglance_exporter.stylizer.network import Stylizer

_GAP, _HEAD = 6, 18  # pixels


def grid(rows: Sequence[Sequence[Rgb]], titles: Sequence[str]) -> Image.Image:
    """Pictures uint8 [H, W, 3] in rows, one title per column. A column is as wide as its widest picture."""
    widths = [max(row[i].shape[1] for row in rows) for i in range(len(titles))]
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    size = sum(widths) + _GAP * (len(widths) + 1), sum(heights) + _GAP * (len(heights) + 1) + _HEAD
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    top = _GAP + _HEAD
    for row, height in zip(rows, heights, strict=True):
        left = _GAP
        for picture, width, title in zip(row, widths, titles, strict=True):
            if top == _GAP + _HEAD:
                draw.text((left, _GAP), title, fill="black")
            sheet.paste(Image.fromarray(picture), (left, top))
            left += width + _GAP
        top += height + _GAP
    return sheet


@torch.no_grad()
def stylize(model: Stylizer, photo: Rgb, style: int) -> Rgb:
    """A photo uint8 [H, W, 3], sides multiples of 4, in one style."""
    device = model.keep.device
    weights = torch.eye(model.styles, device=device)[style : style + 1]
    stylized: Rgb = to_pictures(model(to_tensor(photo).to(device), weights))[0]
    return stylized


def contact_sheet(model: Stylizer, names: Sequence[str], photos: Sequence[Rgb]) -> Image.Image:
    """A row per photo: itself, and in each style."""
    rows = [[photo, *(stylize(model, photo, i) for i in range(len(names)))] for photo in photos]
    return grid(rows, ["photo", *names])
