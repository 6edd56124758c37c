"""Pieces of HTML that the sections share: escaped text, numbers with intervals, cards, tables, answers."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from zero2chat.core.text import public
from zero2chat.report.steps import Metric, StepResult, bounds, finite

_RATE = re.compile(
    r"(?!.*learning_rate).*(?:^|_)(?:accuracy|rate|mfu)(?:_|$)|pass_at_\d+(?:_|$)"
    r"|constant(?:_|$)|needless_calls$|declined_within_reach$|expert_share_(?:min|max)$"
)
_SHOWN, _MORE = 3, 20  # answers of a task: open, and folded
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


def change(metric: Metric) -> str:
    """Format a difference of two rates with its interval: `+3.2 points (+1.0 to +5.4)`."""
    if (value := finite(metric["value"])) is None:
        return esc(metric["value"])
    ends = bounds(metric)
    between = f" ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})" if ends else ""
    return f"{100 * value:+.1f} points{between}"


def small_print(name: str, metric: Metric) -> str:
    """Format the metric's details: `95%: 80.0–86.0% · n = 500 · 3 contaminated · 3 seeds`, as far as it has them."""
    parts = [f"95%: {between}"] if (between := interval(name, metric)) else []
    if metric.get("n") is not None:
        parts.append(f"n = {exact(metric['n'])}")
    if metric.get("contaminated") is not None:
        parts.append(f"{exact(metric['contaminated'])} contaminated")
    if (metric.get("seeds") or 1) > 1:
        parts.append(f"{metric['seeds']} seeds")
    return " · ".join(parts)


def with_interval(name: str, metric: Metric | None) -> str:
    """Return the cell of a table: the value, and its interval below in small type; "" without a metric."""
    return f"{short(name, metric)}<br><small>{interval(name, metric)}</small>" if metric else ""


def with_details(name: str, metric: Metric) -> str:
    """Return the cell of a table: the value, and its details below in small type."""
    small = small_print(name, metric)
    return short(name, metric) + (f"<br><small>{small}</small>" if small else "")


# ---- cards and tables


def card(label: str, value: str, below: str = "") -> str:
    """Return one number in large type. All three arguments are HTML."""
    small = f"<small>{below}</small>" if below else ""
    return f'<div class="card"><b>{value}</b><span>{label}</span>{small}</div>'


def metric_card(name: str, metric: Metric, label: str, below: str = "") -> str:
    below = " · ".join(filter(None, (below, small_print(name, metric))))
    return card(esc(label), short(name, metric), below)


def cards(step: StepResult, names: Mapping[str, str]) -> str:
    """Return cards for the metrics in `names` (metric → label) that the step has."""
    found = [metric_card(name, step.metrics[name], label) for name, label in names.items() if name in step.metrics]
    return f'<div class="cards">{"".join(found)}</div>\n' if found else ""


def opening(step: StepResult, story: str, names: Mapping[str, str]) -> str:
    """Return what a section begins with: its story, and cards for the metrics in `names`."""
    return paragraph(story, "story") + cards(step, names)


def headline(step: StepResult, names: Mapping[str, str]) -> tuple[str, str] | None:
    """Return (metric, label) of a step's main metric: the first of `names` that it has, overall or for one task."""
    for name, label in names.items():
        if name in step.metrics:
            return name, label
        for longer in step.metrics:
            if longer.startswith(name + "_"):
                return longer, f"{label}, {longer.removeprefix(name + '_')}"
    return None


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of HTML cells; the first column names the row."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(
        f"<tr><th>{row[0]}</th>" + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>\n" for row in rows
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


# ---- samples


def examples(step: StepResult, title: str, show: Callable[[Sequence[Mapping[str, Any]]], str], about: str = "") -> str:
    """Return `show` of the step's samples below a title and the remark `about`, or a note that it has none."""
    if not step.samples:
        return f"<h3>{title}</h3>\n" + lacks("samples.jsonl", "its samples are")
    return f"<h3>{title}</h3>\n" + (paragraph(about, "aside") if about else "") + show(step.samples)


def mark(score: Any) -> tuple[str, str]:
    """Return (CSS class, text) for a score between 0 and 1."""
    value = finite(score)
    if value is None:
        return "unscored", "not scored"
    if value >= 1:
        return "right", "✓ correct"
    return ("wrong", "✗ wrong") if value <= 0 else ("partly", f"◐ {value:.2f}")


def _compared(won: Any) -> tuple[str, str]:
    """Return (CSS class, text) for an answer that won against another (1), lost (0), or tied."""
    value = finite(won)
    return ("right", "better") if value == 1 else ("wrong", "worse") if value == 0 else ("partly", "as good")


def _answer(sample: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    kind, text = _compared(sample["won"]) if "won" in sample else mark(sample.get("score"))
    rows = [("asked", sample.get("prompt", ""))]
    if before is not None:
        rows.append((f"at step {before.get('step')}", before.get("completion", "")))
    rows.append(("answered", sample.get("completion", "")))
    if "other" in sample:
        rows.append(("other model", sample["other"]))
    if sample.get("answer") not in (None, ""):
        rows.append(("expected", sample["answer"]))
    lines = "".join(
        f'<dt>{esc(label)}</dt><dd class="{label.split()[0]}">{spoken(said, 900)}</dd>' for label, said in rows
    )
    task = f"<span>{esc(sample['task'])}</span>" if sample.get("task") else ""
    return f'<article class="answer {kind}"><header><b>{text}</b>{task}</header><dl>{lines}</dl></article>\n'


def answers(step: StepResult, title: str = "Questions and answers") -> str:
    """Return the last questions and answers: the first `_SHOWN` of each task open, up to `_MORE` folded.

    If the same questions were asked at an earlier training step, the first answer is shown next to the last.
    """
    return examples(step, title, lambda _: _answers(list(step.samples_by_step().values())))


def _answers(by_step: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    early = {to_text(sample.get("prompt")): sample for sample in by_step[0]} if len(by_step) > 1 else {}
    count: Counter[str] = Counter()
    top: list[str] = []
    rest: list[str] = []
    for sample in by_step[-1]:
        task = to_text(sample.get("task", ""))
        count[task] += 1
        (top if count[task] <= _SHOWN else rest).append(_answer(sample, early.get(to_text(sample.get("prompt")))))
    about = f"The first {_SHOWN} of each task, in order; not cherry-picked." if rest else "All saved samples, in order."
    text = paragraph(about, "aside") + f'<div class="answers">{"".join(top)}</div>\n'
    if rest:
        label = f"{min(_MORE, len(rest))} more" + (f" of {len(rest)}" if len(rest) > _MORE else "")
        text += folded(label, f'<div class="answers">{"".join(rest[:_MORE])}</div>\n')
    return text


def decontaminated(metrics: Mapping[str, Metric]) -> str:
    """Return how many documents were removed because they contain an evaluation question; "" if not checked."""
    found = metrics.get("decontaminated")
    if found is None or finite(found["value"]) is None:
        return ""
    of = f" of {short('documents', {'value': found['n']})}" if "n" in found else ""
    return paragraph(
        f"Removed as contaminated with evaluation questions: {short('documents', found)}{of} documents.", "aside"
    )
