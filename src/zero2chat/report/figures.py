"""Figures as inline SVG: curves and bars that use the page's colours, light or dark."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter, StrMethodFormatter

from zero2chat.report.parts import esc, is_rate, lacks, short, to_text
from zero2chat.report.steps import Metric, Points, StepResult, bounds

INK, SOFT, RULE = "#1d2329", "#5d6873", "#dde2e7"
SERIES = ("#2b6cb0", "#c2571a", "#2f855a", "#8a4fb5", "#b7791f", "#c53a6b", "#3a8f9e", "#6b7280")
# The colours of the light page. In the SVG each becomes a CSS variable, which the dark page overrides.
_VARIABLES = {INK: "ink", SOFT: "soft", RULE: "rule"} | {hue: f"c{i}" for i, hue in enumerate(SERIES, start=1)}
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "zero2chat",  # the same figure always has the same ids
    "text.parse_math": False,  # a task named "$x" is not a formula
    "font.size": 9.5,
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
    "legend.handlelength": 1.2,
    "legend.columnspacing": 1.2,
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
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _label(text: str) -> str:
    text = " ".join(to_text(text).split())
    return text if len(text) <= 26 else text[:25] + "…"


def _svg(figure: Figure, key: str, alt: str) -> str:
    """Render the figure as `<svg>`. Its ids start with `key`, which must be unique on the page."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that matplotlib's font lacks are drawn with the reader's font
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r'\bid="([^"]*)"', rf'id="{key}-\1"', text)
    text = re.sub(r"url\(#([^)]*)\)", rf"url(#{key}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]*)"', rf'href="#{key}-\1"', text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    for hue, variable in _VARIABLES.items():
        text = text.replace(f": {hue}", f": var(--{variable})")
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None
    inner = text[text.index(">") + 1 :].strip()
    return f'<svg {view[0]} role="img" aria-label="{esc(alt)}">\n{inner}\n'


def drawn(key: str, caption: str, draw: Callable[[Axes], None], height: float = 3.0, alt: str = "") -> str:
    """Return a figure with its caption, drawn by `draw`. `alt` describes it in words if the caption does not.

    Several labelled series get a legend. The height is in inches.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncol=3)
        return f"<figure>\n{_svg(figure, key, alt or caption)}<figcaption>{esc(caption)}</figcaption></figure>\n"


def as_file(figure: str) -> str:
    """Return a figure of the page as a standalone SVG file, in the light page's colours."""
    start = figure.index("<svg ") + len("<svg ")
    body = figure.index(">", start) + 1
    colours = "".join(f"--{variable}: {hue};" for hue, variable in _VARIABLES.items())
    style = f"<style>svg {{ {colours} background: #ffffff; font-family: sans-serif; }}</style>"
    end = figure.index("</svg>") + len("</svg>")
    return f'<svg xmlns="http://www.w3.org/2000/svg" {figure[start:body]}\n{style}{figure[body:end]}\n'


def curves(
    key: str,
    caption: str,
    lines: Mapping[str, Points],
    y: str,
    *,
    x: str = "training step",
    percent: bool = False,
    peaks: bool = True,
    alt: str = "",
) -> str:
    """Plot lines over training steps, or over `x`. `lines` is label → points. Returns "" without points.

    If `x` is not the training step, a line's highest point is marked unless it is the last, because over-optimization
    begins there. `peaks=False` disables the mark.
    """
    lines = {label: points for label, points in lines.items() if points}

    def draw(axes: Axes) -> None:
        for i, (label, points) in enumerate(lines.items()):
            xs, ys = zip(*_thinned(points), strict=True)
            hue = SERIES[i % len(SERIES)]
            axes.plot(xs, ys, color=hue, lw=1.7, ms=3.2, marker="o" if len(xs) <= 25 else None, label=_label(label))
            if peaks and x != "training step":
                peak = max(zip(xs, ys, strict=True), key=lambda point: point[1])
                if peak[0] != xs[-1]:
                    axes.plot(*peak, color=hue, marker="*", ms=11)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(axis="y")
        if x == "training step":
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        if percent:
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1, 0))

    return drawn(key, caption, draw, alt=alt) if lines else ""


def history_curves(
    step: StepResult, name: str, caption: str, y: str, lines: Mapping[str, str] | None = None, **options: Any
) -> str:
    """Plot a step's history over training steps: the key `name`, or `lines`, label → key. `options` are `curves`'."""
    points = {label: step.curve(key) for label, key in (lines or {y: name}).items()}
    return curves(f"{step.anchor}-{name}", caption, points, y, **options)


def reward_figure(step: StepResult) -> str:
    """Plot each reward during training, by reward function or model."""
    found = step.curves("rewards/.+/mean")
    lines = {key.removeprefix("rewards/").removesuffix("/mean"): points for key, points in found.items()}
    return curves(f"{step.anchor}-reward", "Training reward, by reward function.", lines, "mean reward")


def length_figure(step: StepResult) -> str:
    """Plot the length of completions during training."""
    lines = {"all": "completions/mean_length", "ended with the EOS token": "completions/mean_terminated_length"}
    return history_curves(step, "length", "Mean length of completions, in tokens.", "tokens", lines)


def scores_figure(step: StepResult) -> str:
    """Plot accuracy during training, by task (`tasks_steps`)."""
    found = step.curves("accuracy_.+(?<!_n)(?<!_low)(?<!_high)")
    lines = {key.removeprefix("accuracy_"): points for key, points in found.items()}
    return curves(f"{step.anchor}-scores", "Accuracy during training.", lines, "accuracy", percent=True)


def entropy_figure(step: StepResult) -> str:
    """Plot the policy's entropy during training."""
    caption = "The entropy of the policy shows how much it still explores."
    return history_curves(step, "entropy", caption, "nats per token")


def _spread(metrics: Sequence[Metric]) -> np.ndarray:
    """Return how far the intervals reach below and above their values, as `errorbar` takes them; NaN without one."""
    reach = [(m["value"] - ends[0], ends[1] - m["value"]) if (ends := bounds(m)) else (math.nan,) * 2 for m in metrics]
    return np.maximum(0.0, reach).T


def _top(metric: Metric) -> float:
    return max([metric["value"], *(bounds(metric) or ())])


def note(axes: Axes, text: str, at: tuple[float, float], right: float, up: float, **style: Any) -> None:
    """Write a text beside a point, moved to the right and up by so many points of type."""
    axes.annotate(text, at, xytext=(right, up), textcoords="offset points", **{"fontsize": 8.5} | style)


def _rows(
    axes: Axes, names: Sequence[str], groups: Mapping[str, Mapping[str, Metric]], apart: float
) -> Iterator[tuple[str, str, list[float], list[Metric]]]:
    """Label one row per name, the first on top. Yield each group: its colour, label, places, and metrics there.

    In a row, the groups are `apart`.
    """
    axes.set_yticks(range(len(names)), [_label(name) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.spines["bottom"].set_visible(False)
    for i, (label, metrics) in enumerate(groups.items()):
        offset = (i - (len(groups) - 1) / 2) * apart
        places = {place + offset: metrics[name] for place, name in enumerate(names) if name in metrics}
        yield SERIES[i % len(SERIES)], label, list(places), list(places.values())


def bars(
    key: str,
    caption: str,
    names: Sequence[str],
    groups: Mapping[str, Mapping[str, Metric]],
    measure: str = "",
    alt: str = "",
) -> str:
    """Plot bars with 95% intervals: one row per name, with one bar per group that has the metric.

    `groups` is label → name → metric. `measure` is the metric name that determines the format of values (rates in
    percent, bytes in MB); by default it is each group's label.
    """
    names = [name for name in names if any(name in metrics for metrics in groups.values())]
    shown = {(label, name): metrics[name] for label, metrics in groups.items() for name in names if name in metrics}

    def draw(axes: Axes) -> None:
        thick = 0.8 / len(groups)
        for hue, label, places, metrics in _rows(axes, names, groups, thick):
            values, name = [metric["value"] for metric in metrics], _label(label.replace("_", " "))
            style = {"color": hue, "alpha": 0.8, "error_kw": {"color": INK, "ecolor": INK, "elinewidth": 1}}
            axes.barh(places, values, thick * 0.86, xerr=_spread(metrics), label=name, **style)
            for at, metric in zip(places, metrics, strict=True):
                note(axes, f" {short(measure or label, metric)}", (_top(metric), at), 2, 0, va="center")
        if all(is_rate(measure or label, metric) for (label, _), metric in shown.items()):
            axes.set_xlim(0, 1.18)
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
            axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
        else:
            unit = measure or next(iter(groups))
            axes.set_xlim(0, max(map(_top, shown.values())) * 1.2 or 1)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(unit, {"value": value})))

    height = (0.8 if len(groups) > 1 else 0.5) + len(names) * max(0.42, 0.25 * len(groups))
    return drawn(key, caption, draw, height, alt) if names else ""


def dots(
    key: str, caption: str, names: Sequence[str], groups: Mapping[str, Mapping[str, Metric]], alt: str = ""
) -> str:
    """Plot values without a natural zero, such as ratings, with intervals: one row per name, one dot per group.

    `groups` is label → name → metric.
    """
    names = [name for name in names if any(name in metrics for metrics in groups.values())]

    def draw(axes: Axes) -> None:
        for hue, label, places, metrics in _rows(axes, names, groups, 0.22):
            values = [metric["value"] for metric in metrics]
            axes.errorbar(values, places, xerr=_spread(metrics), fmt="o", color=hue, ms=5, label=_label(label))
            for at, value in zip(places, values, strict=True):
                note(axes, f"{value:.0f}", (value, at), 0, 5, ha="center")
        axes.margins(x=0.08)

    return drawn(key, caption, draw, 0.9 + 0.42 * len(names), alt) if names else ""


def metric_curves(
    key: str,
    caption: str,
    lines: Mapping[str, Sequence[tuple[float, Metric]]],
    x: str,
    y: str,
    measure: str,
    alt: str = "",
) -> str:
    """Plot metrics with intervals over a number, such as recall by exposure: `lines` is label → (number, metric).

    The axis has a tick at each number, and is logarithmic if they span a factor of ten, with room for 0. `measure` is
    the metric name that determines the format of values.
    """
    numbers = sorted({number for line in lines.values() for number, _ in line})

    def draw(axes: Axes) -> None:
        for i, (label, line) in enumerate(lines.items()):
            hue, (xs, metrics) = SERIES[i % len(SERIES)], zip(*sorted(line, key=lambda point: point[0]), strict=True)
            ys, style = [metric["value"] for metric in metrics], {"color": hue, "lw": 1.7, "ms": 4.5, "elinewidth": 1}
            axes.errorbar(xs, ys, yerr=_spread(metrics), marker="o", label=_label(label), **style)
            for number, metric in zip(xs, metrics, strict=True):
                note(axes, short(measure, metric), (number, _top(metric)), 0, 6, ha="center", color=hue)
        above = [number for number in numbers if number > 0]
        if above and above[-1] >= 10 * above[0]:
            axes.set_xscale("symlog", linthresh=above[0], linscale=0.5)
        axes.set_xticks(numbers, [f"{number:,g}" for number in numbers])
        axes.set_xticks([], minor=True)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(axis="y")
        axes.margins(x=0.09, y=0.16)
        if all(is_rate(measure, metric) for line in lines.values() for _, metric in line):
            axes.set_ylim(-0.02, 1.12)
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
            axes.yaxis.set_major_formatter(PercentFormatter(1, 0))

    return drawn(key, caption, draw, alt=alt) if numbers else ""


def gallery(*figures: str, small: bool = False) -> str:
    """Arrange figures side by side if there is room: two per row, or three small ones."""
    found = [figure for figure in figures if figure]
    return f'<div class="gallery{" small" if small else ""}">\n{"".join(found)}</div>\n' if found else ""


def charts(step: StepResult, *figures: str) -> str:
    """Arrange the figures of a step's training, with a note if it has no history to draw."""
    return gallery(*figures) + ("" if step.history else lacks("history.jsonl", "the curves are"))
