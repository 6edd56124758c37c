"""Draw curves and bars with matplotlib, as standalone SVG files.

A page embeds each file as an image: figures cannot act on the page, and their ids cannot collide.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter, StrMethodFormatter

from zero2chat.report.parts import is_rate, short, to_text
from zero2chat.report.steps import Metric, Points, bounds

_STYLE = Path(__file__).with_name("plots.mplstyle")
_WIDTH = 5.4  # inches: 389 units of the SVG, about the width of a phone, so that its text is legible there
_POINTS = 300
_GROUPS = {"constant": "best constant answer"}


def _thinned(points: Points) -> Points:
    """Reduce a curve to at most `_POINTS` points, each the mean of neighbouring points."""
    size = -(-len(points) // _POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _label(text: str) -> str:
    text = " ".join(to_text(text).split())
    return text if len(text) <= 26 else text[:25] + "…"


def _svg(draw: Callable[[Axes], None], height: float = 3.0) -> str:
    """Return the figure that `draw` draws, `height` inches high. Several labelled series get a legend."""
    buffer = io.StringIO()
    with matplotlib.style.context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that matplotlib's font lacks are drawn with the reader's font
        figure = Figure(figsize=(_WIDTH, height))
        axes = figure.subplots()
        draw(axes)
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncol=3)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def curves(lines: Mapping[str, Points], y: str, x: str = "training step", *, percent: bool = False) -> str:
    """Plot label → points, over training steps or over `x`. Returns "" without points."""
    lines = {label: points for label, points in lines.items() if points}

    def draw(axes: Axes) -> None:
        for label, points in lines.items():
            xs, ys = zip(*_thinned(points), strict=True)
            axes.plot(xs, ys, lw=1.7, ms=3.2, marker="o" if len(xs) <= 25 else None, label=_label(label))
        axes.set(xlabel=x, ylabel=y)
        axes.grid(axis="y")
        if x == "training step":
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        if percent:
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1, 0))

    return _svg(draw) if lines else ""


def _reach(metrics: Sequence[Metric]) -> np.ndarray:
    """Return how far intervals reach below and above values, in `errorbar`'s format; NaN for no interval."""
    reach = [(m["value"] - ends[0], ends[1] - m["value"]) if (ends := bounds(m)) else (math.nan,) * 2 for m in metrics]
    return np.maximum(0.0, reach).T


def bars(groups: Mapping[str, Mapping[str, Metric]], measure: str = "", *, dots: bool = False) -> str:
    """Plot group → name → metric with 95% intervals: one row per name, with one bar per group that has the metric.

    `measure` is the metric name that determines the format of values (rates in percent, bytes in MB); by default it is
    the first group's label. With `dots`, values are dots, which suits scales without a natural zero. Without metrics,
    returns "".
    """
    groups = {group: metrics for group, metrics in groups.items() if metrics}
    measure = measure or next(iter(groups), "")
    names = list(dict.fromkeys(name for metrics in groups.values() for name in metrics))
    thick = 0.8 / max(len(groups), 1)

    def draw(axes: Axes) -> None:
        for i, (group, metrics) in enumerate(groups.items()):
            hue, label, shown = f"C{i}", _label(_GROUPS.get(group, group).replace("_", " ")), list(metrics.values())
            at = [names.index(name) + (i - (len(groups) - 1) / 2) * thick for name in metrics]
            values = [metric["value"] for metric in shown]
            if not dots:
                axes.barh(at, values, thick * 0.86, color=hue, alpha=0.7)
            fmt = "o" if dots else "none"
            axes.errorbar(values, at, xerr=_reach(shown), fmt=fmt, color=hue, elinewidth=1, ms=5, label=label)
            for place, metric in zip(at, shown, strict=True):
                right = max([metric["value"], *(bounds(metric) or ())])
                axes.annotate(f"  {short(measure, metric)}", (right, place), fontsize=8.5, va="center")
        axes.set_yticks(range(len(names)), [_label(name) for name in names])
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.grid(axis="x")
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.18)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(measure, {"value": value})))
        if all(is_rate(measure, metric) for metrics in groups.values() for metric in metrics.values()) and not dots:
            axes.set_xlim(0, 1.18)
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1])

    height = (0.8 if len(groups) > 1 else 0.5) + len(names) * max(0.42, 0.25 * len(groups))
    return _svg(draw, height) if names else ""
