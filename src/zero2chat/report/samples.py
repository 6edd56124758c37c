"""Show a step's samples in its section: as questions and answers, or as a table.

Samples are from models and files: every text in them is escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zero2chat.report.parts import beginning, esc, exact, paragraph, spoken, table, to_text
from zero2chat.report.steps import StepResult, finite

Sample = Mapping[str, Any]
_WHY = {"wrong": "score too low", "cut": "truncated"}  # other reasons for a rejection are shown as they are


@dataclass(frozen=True)
class Answers:
    """Shows the first `most` questions and answers of each task at the last step, below a title and a remark. A longer
    text is cut after so many `characters`.

    If the same questions were asked at an earlier training step, the first answer is shown next to the last.
    """

    title: str = "Questions and answers"
    about: str = ""
    most: int = 4
    characters: int = 900

    def render(self, step: StepResult) -> str:
        """Return the HTML of all samples; "" if there are none."""
        about = paragraph(self.about, "aside") if self.about else ""
        return f"<h3>{self.title}</h3>\n{about}{self.show(step)}" if step.samples else ""

    def show(self, step: StepResult) -> str:
        """Return the HTML of the samples."""
        by_step = list(step.samples_by_step().values())
        early = {to_text(sample.get("prompt")): sample for sample in by_step[0]} if len(by_step) > 1 else {}
        most = 20 if step.stage == "evaluate" and step.settings.get("datasets") else self.most
        count, shown = Counter[str](), list[str]()
        for sample in by_step[-1]:
            task = to_text(sample.get("task", ""))
            count[task] += 1
            if count[task] <= most:
                shown.append(_answer(sample, early.get(to_text(sample.get("prompt"))), self.characters))
        first = paragraph(f"The first {most} of each task, in order; not cherry-picked.", "aside")
        return first + beginning(shown, lambda some: f'<div class="answers">{"".join(some)}</div>\n')


def mark(sample: Sample) -> tuple[str, str]:
    """Return (CSS class, HTML) of the verdict on an answer; ("", "") without a verdict.

    Only a task's own score says what is correct (or what it `means`). If a reward or metric scored, `by` names it.
    """
    score = value = finite(sample.get("score"))
    yes, no = sample.get("means") or ("correct", "wrong")
    words = (f"✓ {esc(yes)}", f"✗ {esc(no)}", f"◐ {score:.2f}" if score is not None else "")
    said = f"{esc(sample['by'])} {exact(score)}" if "by" in sample and score is not None else ""
    if "won" in sample:
        value, words = finite(sample["won"]), ("better", "worse", "as good")
    elif "kept" in sample:
        why = esc(_WHY.get(str(sample.get("why")), sample.get("why")))
        value, words = float(bool(sample["kept"])), ("kept", f"rejected: {why}", "")
    elif said:
        value = None
    if value is None:
        return "", said
    kind, word = ("right", words[0]) if value >= 1 else ("wrong", words[1]) if value <= 0 else ("partly", words[2])
    return kind, " · ".join(filter(None, (word, said)))


def _answer(sample: Sample, before: Sample | None, characters: int) -> str:
    kind, text = mark(sample)
    rows = [("asked", sample.get("prompt", ""))]
    if before is not None:
        rows.append((f"at step {before.get('step')}", before.get("completion", "")))
    rows.append(("answered", sample.get("completion", "")))
    if "other" in sample:
        rows.append(("other model", sample["other"]))
    if sample.get("answer") not in (None, ""):
        rows.append(("expected", sample["answer"]))
    lines = "".join(
        f'<dt>{esc(label)}</dt><dd class="{label.split()[0]}">{spoken(said, characters)}</dd>' for label, said in rows
    )
    task = f"<span>{esc(sample['task'])}</span>" if sample.get("task") else ""
    return f'<article class="answer {kind}"><header><b>{text}</b>{task}</header><dl>{lines}</dl></article>\n'


def group_part(step: StepResult) -> str:
    """Return a table of one group of completions, with each completion's rewards and advantage; "" without a group."""
    group = next((line["group"] for line in reversed(step.history) if isinstance(line.get("group"), Mapping)), None)
    if group is None:
        return ""
    rewards = {str(name): values for name, values in group["rewards"].items()}
    rows = [
        (_written(text), *(exact(values[i]) for values in rewards.values()), f"{group['advantages'][i]:+.2f}")
        for i, text in enumerate(group["completion"])
    ]
    about = (
        "The completions of one prompt in the last rollout. A completion's advantage is its reward minus the group's "
        "mean, usually over the standard deviation. Above 0 it becomes more likely, below 0 less likely."
    )
    asked = f'<blockquote class="said">{_written(group["prompt"][0])}</blockquote>\n'
    shown = table(("completion", *(esc(name).replace("_", "_<wbr>") for name in rewards), "advantage"), rows)
    return f"<h3>One group</h3>\n{paragraph(about, 'aside')}{asked}{shown}"


def _written(text: Any) -> str:
    """Return a prompt's last message, or a completion's messages, as HTML."""
    messages = text if isinstance(text, list) else [{"content": text}]
    shown = messages[-1:] if messages and messages[-1].get("role") == "user" else messages
    parts = [to_text(part) for one in shown for part in (one.get("content"), one.get("tool_calls")) if part]
    return f'<span class="said">{spoken(chr(10).join(parts), 600)}</span>'


@dataclass(frozen=True)
class SampleTable(Answers):
    """A table of samples: `columns` is heading → key of a sample. A column without a value is left out.

    The table has the first `n` samples, or, with `spread`, `n` samples at equal distances, such as over training steps.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    n: int = 6
    spread: bool = False

    def show(self, step: StepResult) -> str:
        samples = list({to_text([s.get(key) for key in self.columns.values()]): s for s in step.samples}.values())
        last, n = len(samples) - 1, min(len(samples), self.n)
        samples = [samples[round(i * last / max(n - 1, 1)) if self.spread else i] for i in range(n)]
        columns = {k: v for k, v in self.columns.items() if any(s.get(v) not in (None, "") for s in samples)}
        rows = [[_value(sample.get(key, "")) for key in columns.values()] for sample in samples]
        return table([esc(head) for head in columns], rows) if columns else ""


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and finite(value) is not None else value and spoken(value, 400)
