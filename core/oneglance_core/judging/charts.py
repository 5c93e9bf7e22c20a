"""Charts as inline SVG. The page's CSS gives the colours: ``c0`` to ``c5`` are those of series, in order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 560, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 14, 48
_LEGEND_LINE = 20
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """label: what it shows. percent: values are shares, written in percent. log: of a logarithmic scale."""

    label: str
    low: float
    high: float
    log: bool = False
    percent: bool = True

    def place(self, value: float) -> float:
        """In [0, 1]; what lies outside is drawn at the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            factors = (1, 2, 5) if len(powers) <= 3 else (1,)
            found = [factor * 10.0**power for power in powers for factor in factors]
        else:
            rough = (self.high - self.low) / 6
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))
            first = math.ceil(self.low / step - 1e-9)
            found = [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [tick for tick in found if self.low * (1 - 1e-9) <= tick <= self.high * (1 + 1e-9)]

    def text(self, value: float) -> str:
        return f"{100 * value:.4g} %" if self.percent else f"{value:,.4g}"


@dataclass(frozen=True, slots=True)
class Line:
    """points: [(x, y)], x rises. band: [(x, low, high)] about it. number: of the colour. dots: marks at the points."""

    name: str
    points: Sequence[Point]
    number: int
    band: Sequence[tuple[float, float, float]] = ()
    dashed: bool = False
    dots: bool = False


def chart(title: str, x: Axis, y: Axis, lines: Sequence[Line]) -> Markup:
    """Lines over two axes, with a legend below the plot. title: for who can't see it."""
    bottom = HEIGHT - _BOTTOM
    height = HEIGHT + _LEGEND_LINE * math.ceil(len(lines) / 2)

    def across(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * x.place(value)

    def up(value: float) -> float:
        return bottom - (bottom - _TOP) * y.place(value)

    parts = [Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, height, title)]
    for tick in y.ticks():
        parts.append(_line(_LEFT, up(tick), WIDTH - _RIGHT, up(tick), "grid"))
        parts.append(_text(_LEFT - 8, up(tick) + 4, y.text(tick), "tick end"))
    for tick in x.ticks():
        parts.append(_line(across(tick), _TOP, across(tick), bottom, "grid"))
        parts.append(_text(across(tick), bottom + 18, x.text(tick), "tick middle"))
    parts.append(_line(_LEFT, bottom, WIDTH - _RIGHT, bottom, "axis"))
    parts.append(_line(_LEFT, _TOP, _LEFT, bottom, "axis"))
    for line in lines:
        if line.band:
            edge = [(across(at), up(high)) for at, _, high in line.band]
            edge += [(across(at), up(low)) for at, low, _ in reversed(line.band)]
            parts.append(Markup('<path class="band c{}" d="{}Z"/>').format(line.number, _path(edge)))
        drawn = [(across(a), up(b)) for a, b in line.points]
        kind = f"line c{line.number}" + " dashed" * line.dashed
        parts.append(Markup('<path class="{}" d="{}"/>').format(kind, _path(drawn)))
        if line.dots:
            for (left, top), (a, b) in zip(drawn, line.points, strict=True):
                parts.append(
                    Markup('<circle class="dot c{}" cx="{:.1f}" cy="{:.1f}" r="3.4"><title>{}</title></circle>').format(
                        line.number, left, top, f"{line.name}: {x.text(a)}, {y.text(b)}"
                    )
                )
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 9, x.label, "label middle"))
    parts.append(
        Markup('<text class="label middle" transform="translate(13 {}) rotate(-90)">{}</text>').format(
            (_TOP + bottom) // 2, y.label
        )
    )
    for i, line in enumerate(lines):
        left, top = _LEFT + (i % 2) * (WIDTH - _LEFT) / 2, HEIGHT + 8 + _LEGEND_LINE * (i // 2)
        kind = f"line c{line.number}" + " dashed" * line.dashed
        parts.append(_line(left, top, left + 20, top, kind))
        parts.append(_text(left + 26, top + 4, line.name, "label"))
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in points) if points else ""


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def _text(left: float, top: float, text: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(kind, left, top, text)
