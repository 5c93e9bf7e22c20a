"""The figure of benchmarks.soak."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from benchmarks.traffic import Calls

if TYPE_CHECKING:
    from benchmarks.soak import Phase

matplotlib.use("svg")
from matplotlib import pyplot as plt

WINDOW_SECONDS = 5.0
INK, CALM, ALARM = "#1f2933", "#2f6f8f", "#b3412e"


def draw(phases: "Sequence[Phase]", memory: Sequence[tuple[float, int]], calls: Calls, out: Path) -> None:
    """Above: the honest callers' p99; below: memory. Attacks are shaded."""
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "oneglance", "text.color": INK})
    figure, (above, below) = plt.subplots(2, 1, figsize=(10.5, 5.4), sharex=True, layout="constrained")
    zero = phases[0].start
    good = calls.of(ok=True)
    edges = np.arange(zero, phases[-1].end, WINDOW_SECONDS)
    slices = [good.between(edge, edge + WINDOW_SECONDS) for edge in edges]
    minutes = (edges - zero) / 60
    above.plot(minutes, [one.ms(99) for one in slices], color=ALARM, lw=1, label=f"p99 of {WINDOW_SECONDS:.0f} s")
    above.plot(minutes, [one.ms(50) for one in slices], color=CALM, lw=1, label="p50")
    quiet = good.between(phases[0].start, phases[0].end).ms(99)
    above.axhline(3 * quiet, color=INK, lw=0.8, ls="--", label="3 times the quiet p99")
    above.set(yscale="log", ylabel="honest callers, ms")
    below.plot([(when - zero) / 60 for when, _ in memory], [size / 1e6 for _, size in memory], color=INK, lw=1)
    below.set(xlabel="minutes", ylabel="server's memory, MB", ylim=(0, None))
    for phase in phases:
        if phase.name.startswith("quiet"):
            continue
        start, end = (phase.start - zero) / 60, (phase.end - zero) / 60
        for axis in (above, below):
            axis.axvspan(start, end, color=ALARM, alpha=0.1, lw=0)
        below.text((start + end) / 2, below.get_ylim()[1], phase.name, rotation=60, fontsize=7, va="bottom")
    for axis in (above, below):
        axis.grid(color="#e4e7eb", lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    above.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    figure.savefig(out, metadata={"Date": None})
    plt.close(figure)
