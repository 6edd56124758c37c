"""Pieces of HTML that the sections share: escaped text, numbers with intervals, cards, tables, pictures."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from zero2chat.core.text import printable
from zero2chat.report.steps import Metric, StepResult, bounds, finite

_RATE = re.compile(
    r"(?!.*learning_rate).*(?:^|_)(?:accuracy|precision|rate|mfu)(?:_|$)|pass_at_\d+(?:_|$)"
    r"|constant(?:_|$)|noise_ceiling$|needless_calls$|declined_within_reach$|(?:expert_share|distinct)_(?:min|max|before|after)$"
)
_LONG = 12  # rows of a table, or answers; more of them are folded

# ---- text


def to_text(value: Any) -> str:
    """Convert any value to text. Control and invisible characters, which can hide text on a page, are removed."""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def esc(value: Any, limit: int | None = None) -> str:
    """Escape text from outside (a model, a file, a user) for HTML, truncated to `limit` characters."""
    text = to_text(value)
    if limit is not None and len(text) > limit:
        text = text[:limit].rstrip() + " …"
    return html.escape(text)


def spoken(text: Any, limit: int | None = None) -> str:
    """Escape a model's text for HTML, thoughts in small type; if no text is left, return a remark."""
    shown = esc(re.sub(r"<think>\s*</think>\s*", "", to_text(text)), limit)
    thought = r"(?s)&lt;think&gt;\s*(.*?)\s*(?:&lt;/think&gt;\s*|$)"
    return re.sub(thought, r"<small>thought: \1</small>\n", shown).rstrip() or "<i>nothing</i>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of trusted HTML."""
    return f'<p class="{kind}">{text}</p>\n' if kind else f"<p>{text}</p>\n"


def picture(svg: str, caption: str, alt: str = "") -> str:
    """Embed an SVG file as an image, which can neither run scripts nor load files. `alt` describes the image in words
    if the caption does not. Returns "" without an SVG."""
    if not svg:
        return ""
    image = (
        f'<img alt="{esc(alt or caption)}" src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}">'
    )
    return f"<figure>{image}<figcaption>{esc(caption)}</figcaption></figure>\n"


# ---- numbers


def is_rate(name: str, metric: Metric) -> bool:
    """Return whether a metric is shown in percent."""
    value = finite(metric["value"])
    return bool(_RATE.match(name) or "count" in metric) and value is not None and 0 <= value <= 1


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
    """Format a metric's value for reading: `83.0%`, `12.3 MB`, `3.3 million`, `4 min`, `1.43`. The name `points` stands
    for the change of a rate: `+2.0 points`."""
    value = finite(metric["value"])
    if value is None or isinstance(metric["value"], bool):
        return esc(metric["value"])
    if is_rate(name, metric) or name == "points":
        return f"{100 * value:+.1f} points" if name == "points" else f"{100 * value:.1f}%"
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
    if name == "points":
        return f"{100 * low:+.1f} to {100 * high:+.1f}"
    low = max(0.0, low) if name.startswith("thought_tokens_") else low
    if is_rate(name, metric):
        return f"{100 * low:.1f}–{100 * high:.1f}%"
    return f"{exact(low)} to {exact(high)}" if low < 0 else f"{exact(low)}–{exact(high)}"


def small_print(name: str, metric: Metric) -> str:
    """Format the details that a metric has, such as `95%: 80.0–86.0% · n = 500 · 3 contaminated · 3 seeds`."""
    parts = [f"95%: {between}"] if (between := interval(name, metric)) else []
    if metric.get("n") is not None:
        parts.append((f"{exact(metric['count'])} of " if "count" in metric else "n = ") + exact(metric["n"]))
    for key in ("contaminated", "left_out"):
        if metric.get(key) is not None:
            parts.append(f"{exact(metric[key])} {key.replace('_', ' ')}")
    if (metric.get("seeds") or 1) > 1:
        parts.append(f"{metric['seeds']} seeds")
    return " · ".join(parts)


# ---- cards and tables


def cards(step: StepResult, names: Mapping[str, str]) -> str:
    """Return the step's metrics in `names` (metric → label) in large type, with their details."""
    text = ""
    for name, metric in ((name, step.metrics[name]) for name in names if name in step.metrics):
        details = f"<small>{below}</small>" if (below := small_print(name, metric)) else ""
        text += f'<div class="card"><b>{short(name, metric)}</b><span>{esc(names[name])}</span>{details}</div>'
    return f'<div class="cards">{text}</div>\n' if text else ""


def cell(name: str, metric: Metric | None) -> str:
    """Return a table cell's HTML: the value, and below it details in small type; "" without a metric."""
    if metric is None:
        return ""
    details = small_print(name, metric)
    return short(name, metric) + (f"<br><small>{details}</small>" if details else "")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of HTML cells; the first column names the row."""
    top = "".join(f"<th>{text}</th>" for text in head)
    body = "".join(
        f"<tr><th>{row[0]}</th>" + "".join(f"<td>{text}</td>" for text in row[1:]) + "</tr>\n" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>\n'


def metrics_table(step: StepResult) -> str:
    """Return a table of all metrics of the step with their details."""
    changes = {f"change_{name.removeprefix('accuracy_')}": "points" for name in step.metrics}
    kinds = ((name, changes.get(name, name), metric) for name, metric in step.metrics.items())
    rows = (
        (f"<code>{esc(name)}</code>", short(kind, metric), small_print(kind, metric)) for name, kind, metric in kinds
    )
    return table(("metric", "value", ""), rows)


def folded(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>\n{content}</details>\n"


def beginning(parts: Sequence[Any], show: Callable[[Sequence[Any]], str]) -> str:
    """Return the HTML of the first parts, such as a table's rows, and that of the others folded."""
    rest = parts[_LONG:]
    return show(parts[:_LONG]) + (folded(f"{len(rest)} more", show(rest)) if rest else "")
