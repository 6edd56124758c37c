"""Pieces of HTML that the sections share: escaped text, numbers with intervals, cards, tables, pictures."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from zero2chat.core.text import public
from zero2chat.report.steps import Metric, StepResult, bounds, finite

_RATE = re.compile(
    r"(?!.*learning_rate).*(?:^|_)(?:accuracy|rate|mfu)(?:_|$)|pass_at_\d+(?:_|$)"
    r"|constant(?:_|$)|needless_calls$|declined_within_reach$|expert_share_(?:min|max)$"
)
# Control characters are shown as Unicode's pictures of them, or as �; newline and tab are kept. This includes
# characters that change the text's direction, with which web pages can hide text.
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
_CONTROLS |= dict.fromkeys(
    [*range(0x80, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xE0000, 0xE0080)], 0xFFFD
)


# ---- text


def to_text(value: Any) -> str:
    """Convert any value to text that can be written to any file."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.translate(_CONTROLS).encode("utf-8", "replace").decode()


def esc(value: Any, limit: int | None = None) -> str:
    """Escape text from outside (a model, a file, a user) for HTML, truncated to `limit` characters."""
    text = to_text(value)
    if limit is not None and len(text) > limit:
        text = text[:limit].rstrip() + " …"
    return html.escape(text)


def spoken(text: Any, limit: int | None = None) -> str:
    """Escape what a model wrote; if it wrote nothing, say so."""
    return esc(text, limit) or "<i>nothing</i>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of trusted HTML."""
    return f'<p class="{kind}">{text}</p>\n' if kind else f"<p>{text}</p>\n"


def quote(source: str, text: str) -> str:
    """Return quoted text with its source above it. Both are HTML."""
    return f'<blockquote class="said"><cite>{source}</cite>{text}</blockquote>\n'


def lacks(file: str, what: str) -> str:
    """Return a note that replaces something that could not be shown."""
    return paragraph(f"The run has no <code>{file}</code>, so {what} not shown.", "note")


def picture(svg: str, caption: str, alt: str = "") -> str:
    """Embed an SVG file as an image, which can neither run scripts nor load files. `alt` describes it in words if the
    caption does not. Returns "" without an SVG."""
    if not svg:
        return ""
    data = base64.b64encode(svg.encode()).decode()
    image = f'<img alt="{esc(alt or caption)}" src="data:image/svg+xml;base64,{data}">'
    return f"<figure>{image}<figcaption>{esc(caption)}</figcaption></figure>\n"


# ---- numbers


def is_rate(name: str, metric: Metric) -> bool:
    """Return whether a metric is shown in percent."""
    value = finite(metric["value"])
    return bool(_RATE.match(name)) and value is not None and 0 <= value <= 1


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _scaled(value: float, units: Sequence[str]) -> str:
    size, unit = float(value), 0
    while abs(size) >= 999.5 and unit < len(units) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g}{units[unit]}"


def exact(value: Any) -> str:
    """Format a number as `12,345` or `1.4312`; return other values as text."""
    number = finite(value)
    if number is None or isinstance(value, bool):
        return esc(value)
    if isinstance(number, int) or (number.is_integer() and abs(number) < 1e15):
        return f"{number:,.0f}"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def short(name: str, metric: Metric) -> str:
    """Format a metric's value for reading: `83.0%`, `12.3 MB`, `3.3 million`, `4 min`, `1.43`."""
    value = finite(metric["value"])
    if value is None or isinstance(metric["value"], bool):
        return esc(metric["value"])
    if is_rate(name, metric):
        return f"{100 * value:.1f}%"
    if name == "seconds":
        return duration(value)
    if name.startswith("bytes_") and not name.startswith("bytes_per_"):
        return _scaled(value, (" bytes", " kB", " MB", " GB", " TB"))
    if abs(value) >= 1e6:
        return _scaled(value, ("", " thousand", " million", " billion", " trillion"))
    return exact(value)


def interval(name: str, metric: Metric) -> str:
    """Format the metric's interval as `80.0–86.0%`, or "" if it has none."""
    if (ends := bounds(metric)) is None:
        return ""
    low, high = ends
    return f"{100 * low:.1f}–{100 * high:.1f}%" if is_rate(name, metric) else f"{exact(low)}–{exact(high)}"


def small_print(name: str, metric: Metric) -> str:
    """Format the metric's details: `95%: 80.0–86.0% · n = 500 · 3 contaminated · 3 seeds`, as far as it has them."""
    parts = [f"95%: {between}"] if (between := interval(name, metric)) else []
    if metric.get("n") is not None:
        parts.append(f"n = {exact(metric['n'])}")
    for key in ("contaminated", "left_out"):
        if metric.get(key) is not None:
            parts.append(f"{exact(metric[key])} {key.replace('_', ' ')}")
    if (metric.get("seeds") or 1) > 1:
        parts.append(f"{metric['seeds']} seeds")
    return " · ".join(parts)


def change(step: StepResult, name: str) -> str:
    """Format a metric's change from the evaluation `compare_to`: `+3.2 points (-1.0 to +7.4) since evaluate_sft`.

    Returns "" if it was not compared. Changes of other scores than accuracies are not in points.
    """
    task = name.removeprefix("accuracy_")
    metric = step.metrics.get(f"change_{name}") or step.metrics.get(f"change_{task}")
    if metric is None or finite(metric["value"]) is None:
        return ""
    points = name.startswith("accuracy")
    scale, form, unit = (100, "+.1f", " points") if points else (1, "+.3g", "")
    ends = bounds(metric)
    between = f" ({format(scale * ends[0], form)} to {format(scale * ends[1], form)})" if ends else ""
    since = esc(PurePath(to_text(step.settings.get("compare_to", ""))).name or "the evaluation before")
    return f"{format(scale * metric['value'], form)}{unit}{between} since {since}"


# ---- cards and tables


def card(label: str, value: str, below: str = "") -> str:
    """Return one number in large type. All three arguments are HTML."""
    small = f"<small>{below}</small>" if below else ""
    return f'<div class="card"><b>{value}</b><span>{label}</span>{small}</div>'


def metric_card(name: str, metric: Metric, label: str, below: str = "") -> str:
    """Return a card of a metric; `below` is HTML in front of its details."""
    return card(esc(label), short(name, metric), " · ".join(filter(None, (below, small_print(name, metric)))))


def cards(step: StepResult, names: Mapping[str, str]) -> str:
    """Return cards for the metrics in `names` (metric → label) that the step has."""
    measured = {name: label for name, label in names.items() if name in step.metrics}
    shown = [metric_card(name, step.metrics[name], label, change(step, name)) for name, label in measured.items()]
    return f'<div class="cards">{"".join(shown)}</div>\n' if shown else ""


def cell(name: str, metric: Metric | None, *more: str) -> str:
    """Return the cell of a table: the value, and its details and `more` below in small type; "" without a metric."""
    if metric is None:
        return ""
    return "<br>".join([short(name, metric), *(f"<small>{s}</small>" for s in (small_print(name, metric), *more) if s)])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of HTML cells; the first column names the row."""
    top = "".join(f"<th>{text}</th>" for text in head)
    body = "".join(
        f"<tr><th>{row[0]}</th>" + "".join(f"<td>{text}</td>" for text in row[1:]) + "</tr>\n" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>\n'


def metrics_table(step: StepResult) -> str:
    """Return a table of all metrics of the step with interval, rows and seed."""
    rows = (
        (
            f"<code>{esc(name)}</code>",
            short(name, metric) if is_rate(name, metric) or name == "seconds" else exact(metric["value"]),
            interval(name, metric),
            *("" if metric.get(key) is None else exact(metric[key]) for key in ("n", "seed")),
        )
        for name, metric in step.metrics.items()
    )
    return table(("metric", "value", "95% interval", "n", "seed"), rows)


def settings_table(step: StepResult) -> str:
    rows = [(f"<code>{esc(key)}</code>", esc(public(value), 400)) for key, value in sorted(step.settings.items())]
    return table(("setting", "value"), rows)


def folded(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>\n{content}</details>\n"
