"""A histogram of two sets of distances, with the threshold, as inline SVG. The page's CSS gives the colours."""

from collections.abc import Sequence
from math import floor, isfinite, log10

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 760, 350
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 66, 52
_BINS = 48


def histogram(mated: Sequence[float], non_mated: Sequence[float], tau: float, labels: tuple[str, str]) -> Markup:
    """Both sets, each in percent of its own size, over squared L2; ``tau`` as a line. ``labels``: names of the sets.

    Infinite distances (a mate outside the candidate list) are not drawn, but count in the size.
    """
    finite = [value for value in (*mated, *non_mated) if isfinite(value)]
    high = _round_up(max([*finite, tau * 1.1, 1e-6]))
    edges = np.linspace(0, high, _BINS + 1)
    shares = [100 * np.histogram(values, edges)[0] / max(1, len(values)) for values in (mated, non_mated)]
    top = _round_up(max(float(share.max()) for share in shares) or 1.0)

    def x(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * value / high

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top

    parts = [
        Markup('<svg class="histogram" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            WIDTH, HEIGHT, f"Histogram of distances: {labels[0]}; {labels[1]}; tau at {tau:.4f}"
        )
    ]
    for tick in _ticks(top):
        parts.append(_line(_LEFT, y(tick), WIDTH - _RIGHT, y(tick), "grid"))
        parts.append(_text(_LEFT - 8, y(tick) + 4, f"{tick:g} %", "tick end"))
    for tick in _ticks(high):
        parts.append(_line(x(tick), y(0), x(tick), y(0) + 5, "axis"))
        parts.append(_text(x(tick), y(0) + 19, f"{tick:g}", "tick middle"))
    for share, name in zip(shares, ("mated", "strangers"), strict=True):
        outline = f"M{x(0):.1f} {y(0):.1f}" + "".join(
            f"V{y(float(value)):.1f}H{x(float(edge)):.1f}" for value, edge in zip(share, edges[1:], strict=True)
        )
        parts.append(Markup('<path class="area {}" d="{}V{}Z"/>').format(name, outline, f"{y(0):.1f}"))
    parts.append(_line(_LEFT, y(0), WIDTH - _RIGHT, y(0), "axis"))
    parts.append(_line(x(tau), _TOP - 20, x(tau), y(0), "tau"))
    left_of_it = x(tau) > WIDTH * 0.8
    parts.append(
        _text(x(tau) + (-7 if left_of_it else 7), _TOP - 10, f"τ = {tau:.4f}", "tau-label" + " end" * left_of_it)
    )
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 10, "distance, squared L2", "label middle"))
    for i, name in enumerate(("mated", "strangers")):
        left = _LEFT + i * (WIDTH - _LEFT - _RIGHT) / 2
        parts.append(Markup('<rect class="area {}" x="{}" y="8" width="13" height="13" rx="2"/>').format(name, left))
        parts.append(_text(left + 20, 19, labels[i], "label"))
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def _ticks(high: float) -> list[float]:
    """About five round numbers from 0 to ``high``."""
    step = _round_up(high / 6, (1, 2, 2.5, 5, 10))
    return [round(i * step, 10) for i in range(floor(high / step + 1e-9) + 1)]


def _round_up(value: float, steps: Sequence[float] = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)) -> float:
    """The smallest of ``steps`` times a power of ten that is at least ``value``; ``value`` > 0."""
    power = 10.0 ** floor(log10(value))
    factor = next((step for step in steps if step * power >= value * (1 - 1e-9)), 10)
    return float(f"{factor * power:.6g}")


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    numbers = [f"{value:.1f}" for value in (x1, y1, x2, y2)]
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, *numbers)


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(kind, f"{x:.1f}", f"{y:.1f}", text)
