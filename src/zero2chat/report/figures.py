"""Figures as inline SVG: curves and bars that use the page's colours, light or dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from zero2chat.report.parts import clean, esc, is_rate, short
from zero2chat.report.steps import Metric, Points, Step, finite

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
}
_WIDTH = 5.4  # inches: 389 units of the SVG, about the width of a phone, so that its text is legible there
_POINTS = 300


def _thinned(points: Points) -> Points:
    """Reduce to at most `_POINTS` points, each the mean of its neighbours."""
    size = -(-len(points) // _POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _label(text: str) -> str:
    text = " ".join(clean(text).split())
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


def _figure(figure: Figure, key: str, caption: str, alt: str = "") -> str:
    """Render a figure with its caption. `alt` describes it in words if the caption does not."""
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
    if not lines:
        return ""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        for i, (label, points) in enumerate(lines.items()):
            xs, ys = zip(*_thinned(points), strict=True)
            hue = SERIES[i % len(SERIES)]
            axes.plot(xs, ys, color=hue, lw=1.7, ms=3.2, marker="o" if len(xs) <= 25 else None, label=_label(label))
            if peaks and x != "training step":
                peak = max(zip(xs, ys, strict=True), key=lambda point: point[1])
                if peak[0] != xs[-1]:
                    axes.plot(*peak, color=hue, marker="*", ms=11)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(axis="y")
        axes.tick_params(length=0)
        if x == "training step":
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        if percent:
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}%"))
        if len(lines) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncol=3, handlelength=1.3, columnspacing=1.2)
        return _figure(figure, key, caption, alt)


def length_figure(step: Step) -> str:
    """Plot the length of completions during training."""
    lines = {
        "all": step.curve("completions/mean_length"),
        "ended with the EOS token": step.curve("completions/mean_terminated_length"),
    }
    return curves(f"{step.anchor}-length", "Mean length of completions, in tokens.", lines, "tokens")


def scores_figure(step: Step) -> str:
    """Plot accuracy during training, by task (`tasks_steps`)."""
    found = step.curves("accuracy_.+(?<!_n)(?<!_low)(?<!_high)")
    lines = {key.removeprefix("accuracy_"): points for key, points in found.items()}
    return curves(f"{step.anchor}-scores", "Accuracy during training.", lines, "accuracy", percent=True)


def entropy_figure(step: Step) -> str:
    """Plot the policy's entropy during training."""
    caption = "Entropy of the policy: how much it still explores."
    return curves(f"{step.anchor}-entropy", caption, {"entropy": step.curve("entropy")}, "nats per token")


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
    if not names:
        return ""
    shown = [metric for metrics in groups.values() for name, metric in metrics.items() if name in names]
    rates = all(is_rate(measure or label, metric) for label, metrics in groups.items() for metric in metrics.values())
    thick = 0.8 / len(groups)
    with matplotlib.rc_context(_STYLE):
        height = (0.8 if len(groups) > 1 else 0.5) + len(names) * max(0.42, 0.25 * len(groups))
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        reach = max(finite(m.get("high")) or finite(m["value"]) or 0.0 for m in shown)
        for i, (label, metrics) in enumerate(groups.items()):
            offset = (i - (len(groups) - 1) / 2) * thick
            places = {place + offset: metrics[name] for place, name in enumerate(names) if name in metrics}
            values = [metric["value"] for metric in places.values()]
            hue, name = SERIES[i % len(SERIES)], _label(label.replace("_", " "))
            axes.barh(list(places), values, thick * 0.86, color=hue, alpha=0.8, label=name)
            for at, metric in places.items():
                value, low, high = metric["value"], finite(metric.get("low")), finite(metric.get("high"))
                end = value
                if low is not None and high is not None:
                    spread = [[max(0.0, value - low)], [max(0.0, high - value)]]
                    axes.errorbar(value, at, xerr=spread, color=INK, lw=1, capsize=2)
                    end = max(value, high)
                text = f" {short(measure or label, metric)}"
                axes.annotate(text, (end, at), xytext=(2, 0), textcoords="offset points", va="center", fontsize=8.5)
        axes.set_yticks(range(len(names)), [_label(name) for name in names])
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.set_xlim(0, 1.18 if rates else (reach * 1.2 or 1))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if rates:
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        unit = measure or next(iter(groups))
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda v, _: f"{100 * v:.0f}%" if rates else short(unit, {"value": v}))
        )
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.spines["bottom"].set_visible(False)
        if len(groups) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncol=3, handlelength=1.0, columnspacing=1.2)
        return _figure(figure, key, caption, alt)


def points(
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
    if not numbers:
        return ""
    above = [number for number in numbers if number > 0]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        for i, (label, line) in enumerate(lines.items()):
            hue, found = SERIES[i % len(SERIES)], sorted(line, key=lambda point: point[0])
            xs, ys = [number for number, _ in found], [metric["value"] for _, metric in found]
            ends = [(finite(metric.get("low")), finite(metric.get("high"))) for _, metric in found]
            spread = [
                [0.0 if low is None else max(0.0, value - low) for value, (low, _) in zip(ys, ends, strict=True)],
                [0.0 if high is None else max(0.0, high - value) for value, (_, high) in zip(ys, ends, strict=True)],
            ]
            axes.errorbar(xs, ys, yerr=spread, color=hue, lw=1.7, marker="o", ms=4.5, elinewidth=1, capsize=2)
            axes.plot([], [], color=hue, lw=1.7, marker="o", ms=4.5, label=_label(label))
            for number, metric in found:
                text, place = short(measure, metric), (number, finite(metric.get("high")) or metric["value"])
                axes.annotate(
                    text, place, xytext=(0, 6), textcoords="offset points", ha="center", color=hue, fontsize=8.5
                )
        if above and above[-1] >= 10 * above[0]:
            axes.set_xscale("symlog", linthresh=above[0], linscale=0.5)
        axes.set_xticks(numbers, [f"{number:,g}" for number in numbers])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.margins(x=0.09, y=0.16)
        if all(is_rate(measure, metric) for line in lines.values() for _, metric in line):
            axes.set_ylim(-0.02, 1.12)
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}%"))
        if len(lines) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncol=3, handlelength=1.3, columnspacing=1.2)
        return _figure(figure, key, caption, alt)


def dots(
    key: str, caption: str, names: Sequence[str], groups: Mapping[str, Mapping[str, Metric]], alt: str = ""
) -> str:
    """Plot values without a natural zero, such as ratings, with intervals: one row per name, one dot per group.

    `groups` is label → name → metric.
    """
    names = [name for name in names if any(name in metrics for metrics in groups.values())]
    if not names:
        return ""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.9 + 0.42 * len(names)), layout="constrained")
        axes = figure.subplots()
        for i, (label, metrics) in enumerate(groups.items()):
            hue = SERIES[i % len(SERIES)]
            for k, name in enumerate(name for name in names if name in metrics):
                metric, at = metrics[name], names.index(name) + 0.22 * (i - (len(groups) - 1) / 2)
                value, low, high = metric["value"], finite(metric.get("low")), finite(metric.get("high"))
                if low is not None and high is not None:
                    axes.plot([low, high], [at, at], color=hue, lw=1.6, alpha=0.7)
                axes.plot([value], [at], "o", color=hue, ms=5, label=None if k else _label(label))
                axes.annotate(
                    f"{value:.0f}", (value, at), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=8
                )
        axes.set_yticks(range(len(names)), [_label(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["bottom"].set_visible(False)
        if len(groups) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncol=3, handlelength=1.0, columnspacing=1.2)
        return _figure(figure, key, caption, alt)


def gallery(*figures: str, small: bool = False) -> str:
    """Arrange figures side by side if there is room: two per row, or three small ones."""
    found = [figure for figure in figures if figure]
    return f'<div class="gallery{" small" if small else ""}">\n{"".join(found)}</div>\n' if found else ""
