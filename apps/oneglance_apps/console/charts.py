"""What a threshold costs: rates from distances, and their charts as ECharts options."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

# On light and dark alike.
MATED, STRANGERS, SOFT = "#2a8fa5", "#d4691f", "#8b8478"
_PERCENT = "(share) => `${+(100 * share).toPrecision(3)} %`"


def rates(tau: float, strangers: Sequence[float], mates: Sequence[float]) -> tuple[float, float]:
    """FPIR and FNIR at ``tau``."""
    return bisect_right(strangers, tau) / len(strangers), 1 - bisect_right(mates, tau) / len(mates)


def det_points(
    strangers: Sequence[float], mates: Sequence[float], at_most: int = 400
) -> list[tuple[float, float, float]]:
    """(tau, FPIR, FNIR) at every distance that changes either, rising; thinned to about ``at_most``.

    Both sorted: each stranger's distance to its nearest subject, and each mated probe's to its mate, infinite where
    somebody else was nearer. Neither empty.
    """
    taus = sorted({0.0, *strangers, *mates} - {math.inf})
    step = math.ceil(len(taus) / at_most)
    return [(tau, *rates(tau, strangers, mates)) for tau in sorted({*taus[::step], taus[-1]})]


def det_options(
    points: Sequence[tuple[float, float, float]],
    now: tuple[float, float] | None,
    tau: float | None,
    floors: tuple[float, float],
) -> dict[str, Any]:
    """ECharts options of a DET curve on logarithmic axes, with the present tau marked at ``now`` (FPIR, FNIR).

    Rates of 0 have no logarithm and are drawn at ``floors``, half a probe.
    """

    def place(fpir: float, fnir: float) -> list[float]:
        return [max(fpir, floors[0]), max(fnir, floors[1])]

    options = _chart("strangers let in (FPIR)", "enrolled not identified (FNIR)")
    for axis, floor in (("xAxis", floors[0]), ("yAxis", floors[1])):
        options[axis] |= {"type": "log", "min": floor, "max": 1}
    options["yAxis"]["axisLabel"] = options["xAxis"]["axisLabel"] = {"color": SOFT, ":formatter": _PERCENT}
    options["series"] = [
        {
            "type": "line",
            "data": [place(fpir, fnir) for _, fpir, fnir in points],
            "showSymbol": False,
            "lineStyle": {"color": MATED, "width": 2},
        },
        {
            "type": "scatter",
            "data": [place(*now)] if now else [],
            "symbolSize": 12,
            "itemStyle": {"color": STRANGERS},
            "label": {
                "show": True,
                "formatter": f"τ {tau or 0:.4f}",
                "position": "top",
                "color": STRANGERS,
                "fontSize": 13,
            },
        },
    ]
    return options


def rate_options(points: Sequence[tuple[float, float, float]], tau: float | None) -> dict[str, Any]:
    """ECharts options of FPIR and FNIR over tau, with the present one marked."""
    options = _chart("τ", "")
    # The rates stay as they are beyond the last distance.
    end = max(points[-1][0], 1.2 * (tau or 0), 1e-6)
    points = [*points, (end, *points[-1][1:])]
    options["xAxis"] |= {"type": "value", "min": 0}
    options["yAxis"] |= {"type": "value", "min": 0, "max": 1, "axisLabel": {"color": SOFT, ":formatter": _PERCENT}}
    options["legend"] = {"top": 0, "right": 12, "icon": "roundRect", "textStyle": {"color": SOFT}}
    options["series"] = [
        {
            "type": "line",
            "step": "end",
            "name": name,
            "data": [[point[0], point[column]] for point in points],
            "showSymbol": False,
            "color": color,
            "lineStyle": {"width": 2},
        }
        for name, column, color in (("FPIR", 1, STRANGERS), ("FNIR", 2, MATED))
    ]
    if tau is not None:
        options["series"][0]["markLine"] = {
            "symbol": "none",
            "silent": True,
            "data": [{"xAxis": tau}],
            "lineStyle": {"color": SOFT},
            "label": {"formatter": f"τ {tau:.4f}", "color": SOFT, "align": "left"},
        }
    return options


def _chart(x: str, y: str) -> dict[str, Any]:
    axis = {
        "nameLocation": "middle",
        "nameTextStyle": {"color": SOFT},
        "axisLabel": {"color": SOFT},
        "axisLine": {"show": True, "lineStyle": {"color": SOFT}},
        "splitLine": {"lineStyle": {"color": SOFT, "opacity": 0.25}},
    }
    return {
        "animation": False,
        "grid": {"left": 64, "right": 24, "top": 30, "bottom": 46},
        "xAxis": {**axis, "name": x, "nameGap": 28},
        "yAxis": {**axis, "name": y, "nameGap": 48},
    }
