"""The figure of benchmarks.overload."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

if TYPE_CHECKING:
    from benchmarks.overload import Point

matplotlib.use("svg")
from matplotlib import pyplot as plt

INK, COLOURS = "#1f2933", {"before": "#b3412e", "now": "#2f6f8f"}
PANELS = (
    ("accepted", "answered OK, of capacity", "linear"),
    ("p99", "p99 of the accepted, ms", "log"),
    ("refused", "refused after (p99), ms", "log"),
)


def draw(points: "Sequence[Point]", out: Path) -> None:
    """A row for each kind of work, a column for each figure; dotted: with deadlines."""
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "oneglance", "text.color": INK})
    works = list(dict.fromkeys(point.work for point in points))
    figure, axes = plt.subplots(
        len(works), len(PANELS), figsize=(10.5, 3.1 * len(works)), layout="constrained", squeeze=False
    )
    for work, line in zip(works, axes, strict=True):
        for (kind, title, scale), axis in zip(PANELS, line, strict=True):
            _panel(axis, kind, [point for point in points if point.work == work])
            axis.set(title=f"{work}: {title}", yscale=scale, xscale="log", xlabel="load, times capacity")
            axis.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
            axis.minorticks_off()
            axis.grid(color="#e4e7eb", lw=0.6)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(out, metadata={"Date": None})
    plt.close(figure)


def _panel(axis: Any, kind: str, points: "Sequence[Point]") -> None:
    for side in dict.fromkeys(point.side for point in points):
        for deadlines in (False, True):
            mine = [point for point in points if point.side == side and bool(point.deadline_ms) == deadlines]
            values = {
                "accepted": [point.accepted / point.idle.capacity for point in mine],
                "p99": [point.p99_ms for point in mine],
                "refused": [point.refused_p99_ms for point in mine],
            }[kind]
            label = side + (", with deadlines" if deadlines else "")
            axis.plot(
                [point.factor for point in mine], values, "o:" if deadlines else "o-", color=COLOURS[side], ms=4,
                label=label,
            )  # fmt: skip
        if kind == "p99":
            axis.axhline(3 * mine[0].idle.p99_ms, color=COLOURS[side], lw=0.8, ls="--")  # three times idle's
    if kind == "accepted":
        axis.set_ylim(bottom=0)
