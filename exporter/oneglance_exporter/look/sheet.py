"""The sheet: of each layer some units, of each unit the nine patches that excite it most; as one PNG or HTML file."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from oneglance_core.files import replacing
from oneglance_exporter.look.receptive_fields import Layer

_GAP, _SPACE, _TEXT = 2, 14, 13  # pixels: between tiles, between units, of letters
_UNITS_IN_A_ROW = 8
_BEHIND = (222, 222, 222)


@dataclass(frozen=True, slots=True)
class Unit:
    """tiles: of the patches, the strongest first. strongest: the unit's output there. files: the examples."""

    number: int
    tiles: Sequence[Image.Image]
    strongest: float
    files: Sequence[str]


@dataclass(frozen=True, slots=True)
class LayerSheet:
    layer: Layer
    units: Sequence[Unit]

    @property
    def title(self) -> str:
        size, stride = ("x".join(map(str, sizes)) for sizes in (self.layer.size, self.layer.stride))
        return f"{self.layer.name}: {self.layer.kind}, {self.layer.channels} units that see {size} every {stride}"


def block(tiles: Sequence[Image.Image]) -> Image.Image:
    """Up to nine tiles of one size, three in a row."""
    width, height = tiles[0].size
    picture = Image.new("RGB", (3 * (width + _GAP) - _GAP, 3 * (height + _GAP) - _GAP), _BEHIND)
    for i, tile in enumerate(tiles):
        picture.paste(tile, (i % 3 * (width + _GAP), i // 3 * (height + _GAP)))
    return picture


def png(sheets: Sequence[LayerSheet], title: str) -> Image.Image:
    """All layers on one picture, from the input on."""
    font = ImageFont.load_default(_TEXT)
    rows = []
    for sheet in sheets:
        for start in range(0, len(sheet.units), _UNITS_IN_A_ROW):
            rows.append((sheet.title if not start else "", sheet.units[start : start + _UNITS_IN_A_ROW]))
    line = _TEXT + 6
    sizes = [block(units[0].tiles).size for _, units in rows]
    width = max(len(units) * (w + _SPACE) for (_, units), (w, _) in zip(rows, sizes, strict=True)) + _SPACE
    drawn = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    width = max(width, *(int(drawn.textlength(text, font)) + 2 * _SPACE for text in (title, *(row[0] for row in rows))))
    height = line + _SPACE + sum(h + 2 * line + _SPACE for _, h in sizes)
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_SPACE, _SPACE // 2), title, "black", font)
    top = line + _SPACE
    for (text, units), (w, h) in zip(rows, sizes, strict=True):
        draw.text((_SPACE, top), text, "black", font)
        for i, unit in enumerate(units):
            left = _SPACE + i * (w + _SPACE)
            draw.text((left, top + line), f"{unit.number}: {unit.strongest:.3g}", (90, 90, 90), font)
            picture.paste(block(unit.tiles), (left, top + 2 * line))
        top += h + 2 * line + _SPACE
    return picture


def page(sheets: Sequence[LayerSheet], title: str) -> str:
    """The same as one HTML file without anything beside it; the examples' names are told by the mouse."""
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title>"
        "<style>body{font:15px sans-serif;margin:2em}figure{display:inline-block;margin:0 1em 1em 0}"
        "figcaption{color:#555;font-size:13px}h2{font-size:17px}</style>"
        f"<h1>{html.escape(title)}</h1>"
    ]
    for sheet in sheets:
        parts.append(f"<h2>{html.escape(sheet.title)}</h2>")
        for unit in sheet.units:
            buffer = io.BytesIO()
            block(unit.tiles).save(buffer, "PNG")
            data = base64.b64encode(buffer.getvalue()).decode()
            files = html.escape("\n".join(unit.files))
            parts.append(
                f'<figure><img alt="unit {unit.number}" title="{files}" src="data:image/png;base64,{data}">'
                f"<figcaption>{unit.number}: {unit.strongest:.3g}</figcaption></figure>"
            )
    return "\n".join(parts)


def write(sheets: Sequence[LayerSheet], title: str, out: Path) -> None:
    """As ``out`` ends: .png or .html. Raises OSError."""
    with replacing(out) as fresh:
        if out.suffix.lower() == ".html":
            fresh.write_text(page(sheets, title), encoding="utf-8")
        else:
            png(sheets, title).save(fresh, "PNG", optimize=True)
