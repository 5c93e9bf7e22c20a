"""What a threshold costs, as charts: ECharts options."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from oneglance_apps.console.words import Words
from oneglance_core.measures import DetPoint

# Readable on light and dark backgrounds.
MATED, STRANGERS, SOFT = "#2a8fa5", "#d4691f", "#8b8478"
_PERCENT = "(share) => `${+(100 * share).toPrecision(3)} %`"


def det_options(
    points: Sequence[DetPoint],
    now: tuple[float, float] | None,
    tau: float | None,
    floors: tuple[float, float],
    say: Words,
) -> dict[str, Any]:
    """ECharts options of a DET curve on logarithmic axes.

    now: FPIR and FNIR at the present ``tau``, which are marked; None: no mark.
    floors: where rates of 0, which have no logarithm, are drawn: half a probe.
    """

    def place(fpir: float, fnir: float) -> list[float]:
        return [max(fpir, floors[0]), max(fnir, floors[1])]

    options = _chart(say("chart.fpir"), say("chart.fnir"))
    for axis, floor in (("xAxis", floors[0]), ("yAxis", floors[1])):
        options[axis] |= {"type": "log", "min": floor, "max": 1}
    options["yAxis"]["axisLabel"] = options["xAxis"]["axisLabel"] = {"color": SOFT, ":formatter": _PERCENT}
    options["series"] = [
        {
            "type": "line",
            "data": [place(point.fpir, point.fnir) for point in points],
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


def rate_options(points: Sequence[DetPoint], tau: float | None) -> dict[str, Any]:
    """ECharts options of FPIR and FNIR over tau, with a mark at the present ``tau``."""
    options = _chart("τ", "")
    # The rates stay as they are beyond the last distance.
    points = [*points, replace(points[-1], tau=max(points[-1].tau, 1.2 * (tau or 0), 1e-6))]
    options["xAxis"] |= {"type": "value", "min": 0}
    options["yAxis"] |= {"type": "value", "min": 0, "max": 1, "axisLabel": {"color": SOFT, ":formatter": _PERCENT}}
    options["legend"] = {"top": 0, "right": 12, "icon": "roundRect", "textStyle": {"color": SOFT}}
    options["series"] = [
        {
            "type": "line",
            "step": "end",
            "name": name,
            "data": [[point.tau, rate] for point, rate in zip(points, rates, strict=True)],
            "showSymbol": False,
            "color": color,
            "lineStyle": {"width": 2},
        }
        for name, rates, color in (
            ("FPIR", [point.fpir for point in points], STRANGERS),
            ("FNIR", [point.fnir for point in points], MATED),
        )
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
