"""Draw curves and bars with matplotlib, as SVG files that stand alone.

A page embeds each file as an image, so that nothing in it can act on the page, and ids in two files cannot collide.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter, StrMethodFormatter

from zero2chat.report.parts import is_rate, short, to_text
from zero2chat.report.steps import Metric, Points, bounds

PAPER, INK, SOFT, RULE = "#fdfdfb", "#1d2329", "#5d6873", "#dde2e7"  # as in style.css
SERIES = ("#2b6cb0", "#c2571a", "#2f855a", "#8a4fb5", "#b7791f", "#c53a6b", "#3a8f9e", "#6b7280")
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "zero2chat",  # equal figures are equal files
    "text.parse_math": False,  # a task named "$x" is not a formula
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.facecolor": PAPER,
    "axes.edgecolor": RULE,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "errorbar.capsize": 2,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}
_WIDTH = 5.4  # inches: 389 units of the SVG, about the width of a phone, so that its text is legible there
_POINTS = 300


def _thinned(points: Points) -> Points:
    """Reduce to at most `_POINTS` points, each the mean of its neighbours."""
    size = -(-len(points) // _POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [tuple(sum(values) / len(group) for values in zip(*group, strict=True)) for group in groups]


def _label(text: str) -> str:
    text = " ".join(to_text(text).split())
    return text if len(text) <= 26 else text[:25] + "…"


def _svg(draw: Callable[[Axes], None], height: float = 3.0) -> str:
    """Return the figure that `draw` draws, `height` inches high. Several labelled series get a legend."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that matplotlib's font lacks are drawn with the reader's font
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncol=3)
        figure.savefig(buffer, format="svg", facecolor=PAPER, metadata={"Date": None})
    return buffer.getvalue()


def curves(
    lines: Mapping[str, Points],
    y: str,
    *,
    x: str = "training step",
    percent: bool = False,
    peaks: bool = False,
    ticks: bool = False,
) -> str:
    """Plot label → points, over training steps or over `x`. Returns "" without points.

    A point is (x, y), or (x, y, low, high) with its interval. `peaks` marks each line's highest point, unless it is
    the last, because over-optimization begins there. `ticks` puts a tick at each x, on a logarithmic axis with room for
    0 if they span a factor of ten.
    """
    lines = {label: points for label, points in lines.items() if points}

    def draw(axes: Axes) -> None:
        for i, (label, points) in enumerate(lines.items()):
            xs, ys, *ends = zip(*_thinned(points), strict=True)
            reach = np.abs(np.array(ends) - ys) if ends else None
            few = "o" if len(xs) <= 25 else None
            hue = SERIES[i % len(SERIES)]
            axes.errorbar(xs, ys, yerr=reach, color=hue, lw=1.7, ms=3.2, marker=few, elinewidth=1, label=_label(label))
            peak = max(zip(xs, ys, strict=True), key=lambda point: point[1])
            if peaks and peak[0] != xs[-1]:
                axes.plot(*peak, color=hue, marker="*", ms=11)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(axis="y")
        if x == "training step":
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        numbers = sorted({point[0] for points in lines.values() for point in points}) if ticks else []
        if above := [number for number in numbers if number > 0]:
            if above[-1] >= 10 * above[0]:
                axes.set_xscale("symlog", linthresh=above[0], linscale=0.5)
            axes.set_xticks(numbers, [f"{number:,g}" for number in numbers])
            axes.set_xticks([], minor=True)
        if percent:
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1, 0))

    return _svg(draw) if lines else ""


def _reach(metrics: Sequence[Metric]) -> np.ndarray:
    """Return how far the intervals reach below and above their values, as `errorbar` takes them; NaN without one."""
    reach = [(m["value"] - ends[0], ends[1] - m["value"]) if (ends := bounds(m)) else (math.nan,) * 2 for m in metrics]
    return np.maximum(0.0, reach).T


def bars(groups: Mapping[str, Mapping[str, Metric]], measure: str = "", *, dots: bool = False) -> str:
    """Plot group → name → metric with 95% intervals: one row per name, with one bar per group that has the metric.

    `measure` is the metric name that determines the format of values (rates in percent, bytes in MB); by default it is
    each group's name. With `dots`, values are dots, for scales without a natural zero. Returns "" without metrics.
    """
    groups = {group: metrics for group, metrics in groups.items() if metrics}
    names = list(dict.fromkeys(name for metrics in groups.values() for name in metrics))
    thick = 0.8 / max(len(groups), 1)

    def draw(axes: Axes) -> None:
        for i, (group, metrics) in enumerate(groups.items()):
            hue, label, shown = SERIES[i % len(SERIES)], _label(group.replace("_", " ")), list(metrics.values())
            at = [names.index(name) + (i - (len(groups) - 1) / 2) * thick for name in metrics]
            values: list[float] = [metric["value"] for metric in shown]
            if dots:
                axes.errorbar(values, at, xerr=_reach(shown), fmt="o", color=hue, ms=5, label=label)
            else:
                error: dict[str, Any] = {"ecolor": INK, "elinewidth": 1}
                axes.barh(
                    at, values, thick * 0.86, xerr=_reach(shown), color=hue, alpha=0.8, label=label, error_kw=error
                )
            for place, metric in zip(at, shown, strict=True):
                right = max([metric["value"], *(bounds(metric) or ())])
                axes.annotate(f"  {short(measure or group, metric)}", (right, place), fontsize=8.5, va="center")
        axes.set_yticks(range(len(names)), [_label(name) for name in names])
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.18)
        if not dots and all(
            is_rate(measure or group, m) for group, metrics in groups.items() for m in metrics.values()
        ):
            axes.set_xlim(0, 1.18)
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
            axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
        else:
            unit = measure or next(iter(groups))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(unit, {"value": value})))

    height = (0.8 if len(groups) > 1 else 0.5) + len(names) * max(0.42, 0.25 * len(groups))
    return _svg(draw, height) if names else ""
