"""Declare a stage's section of the report: title, story, main metrics, figures and samples.

    section=Section(
        title="Studying worked examples",
        story="The model is trained on conversations in which an assistant answers well. …",
        metrics={"accuracy": "accuracy, mean over tasks", "tokens": "training tokens"},
        figures=(Curve("Loss on the assistant's turns.", "loss", {"training": "loss", "held-out": "eval_loss"}),),
        )

A declaration stands at the end of its stage's file. matplotlib is imported when a figure is drawn, and nothing here
imports torch. Anything that cannot be declared is a function: `extra`, or the `lines` of a `Curve`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from zero2chat.report.parts import cards, paragraph, picture
from zero2chat.report.samples import Answers
from zero2chat.report.steps import Points, StepResult

# Label → regular expression of whole names (history keys, or metrics). A `{}` in a label stands for the text of the
# expression's groups. A single expression is short for `{"{}": expression}`.
Names = str | Mapping[str, str]


def select(known: Iterable[str], names: Names) -> dict[str, str]:
    """Return label → name for the known names that match: in the order of the labels, with numbers ascending. A name
    gets the first label that matches."""
    left, selected = list(known), dict[str, str]()
    for label, pattern in ({"{}": names} if isinstance(names, str) else names).items():
        matches = {name: match for name in left if (match := re.fullmatch(pattern, name))}
        texts = {name: " ".join(filter(None, match.groups())) for name, match in matches.items()}
        is_number = all(text.isdigit() for text in texts.values())
        for name in sorted(texts, key=lambda name: int(texts[name])) if is_number else texts:
            selected.setdefault(label.format(texts[name]).strip() or "all", name)
        left = [name for name in left if name not in texts]
    return selected


@dataclass(frozen=True)
class Curve:
    """Plots lines of the history over training steps, or over the history key `over`. `x` is the axis' label.

    `lines` selects history keys, or computes label → points. `root` takes the square root of the key `over`: rewards
    are plotted over the root of the KL (Gao et al. 2022, arXiv:2210.10760).
    """

    caption: str
    unit: str  # label of the y-axis
    lines: Names | Callable[[StepResult], Mapping[str, Points]]
    x: str = "training step"
    over: str = "step"
    root: bool = False
    percent: bool = False

    def points(self, step: StepResult) -> Mapping[str, Points]:
        """Return label → points of a step."""
        if callable(self.lines):
            return self.lines(step)
        keys = dict.fromkeys(key for line in step.history for key in line)
        lines = {label: step.curve(key, self.over) for label, key in select(keys, self.lines).items()}
        root = (lambda x: math.sqrt(max(x, 0.0))) if self.root else float
        return {label: [(root(x), y) for x, y in points] for label, points in lines.items()}

    def draw(self, *steps: StepResult) -> str:
        """Return the figure as SVG, with one line per step if there are several; "" without points."""
        from zero2chat.report.plots import curves

        named = {f"{label}, {step.name}": points for step in steps for label, points in self.points(step).items()}
        lines = named if len(steps) > 1 else self.points(steps[0])
        return curves(lines, self.unit, self.x, percent=self.percent)


@dataclass(frozen=True)
class Bars:
    """Metrics with their intervals: one row per label, and in each row one bar per group. `groups` is group → names.

    `measure` is a metric name that determines the format of values, such as percent for rates; by default it is the
    first group's name. `dots` suits values without a natural zero.
    """

    caption: str
    groups: Mapping[str, Names]
    measure: str = ""
    dots: bool = False

    def draw(self, step: StepResult) -> str:
        """Return the figure as SVG, or "" if the step has none of the metrics."""
        from zero2chat.report.plots import bars

        measured = [name for name in step.metrics if step.value(name) is not None]
        groups = {
            group: {label: step.metrics[name] for label, name in select(measured, names).items()}
            for group, names in self.groups.items()
        }
        return bars(groups, self.measure, dots=self.dots)


@dataclass(frozen=True)
class Section:
    """A stage's section. `metrics` is metric → label: the first metric that a step has is its main result.

    `story` must be true of anybody's run. `textbook` continues it in a report of a recipe that trains a model from
    random weights: there the corpus is the model's textbook, and the later stages are its exercises.

    `extra` returns HTML below the figures and must escape what it quotes. If a recipe has several steps of this stage,
    `together` draws them in one figure, headed `together_title`."""

    title: str
    story: str
    textbook: str = ""
    metrics: Mapping[str, str] | Callable[[StepResult], Mapping[str, str]] = field(default_factory=dict)
    figures: Sequence[Curve | Bars] = ()
    samples: Answers | None = field(default_factory=Answers)
    extra: Callable[[StepResult], str] | None = None
    together: Curve | None = None
    together_title: str = ""

    def main_metrics(self, step: StepResult) -> Mapping[str, str]:
        """Return metric → label for this step."""
        return self.metrics(step) if callable(self.metrics) else self.metrics

    def render(self, step: StepResult, from_scratch: bool = False) -> str:
        """Return the section's HTML, below its heading. `from_scratch`: the recipe's model began as random weights."""
        pictures = "".join(picture(figure.draw(step), figure.caption) for figure in self.figures)
        story = f"{self.story} {self.textbook}".strip() if from_scratch else self.story
        text = paragraph(story, "story") + cards(step, self.main_metrics(step))
        text += f'<div class="gallery">\n{pictures}</div>\n' if pictures else ""
        text += self.extra(step) if self.extra else ""
        return text + (self.samples.render(step) if self.samples else "")

    @property
    def scores(self) -> bool:
        """Whether the stage's steps have scores by task, to compare with other steps' scores."""
        return TASK_SCORES in self.figures


CONSTANT = (
    "The best constant answer is the score of giving the same, best answer to every question. At 100%, one answer is "
    "right for all questions of the task, such as declining all of them."
)
# `accuracy_sampled_sums` is pass@1 on `sums`, if scores are 0 or 1; `accuracy_sampled` alone is the mean over tasks.
TASK_SCORES = Bars(
    f"Scores by task, with 95% intervals. No test question occurs in a task's training rows. {CONSTANT}",
    {
        kind: rf"{kind}_(?!sampled$|sampled_)(.+)"
        for kind in ("accuracy", "accuracy_sampled", "pass_at_8", "tool_call_rate", "constant")
    },
)
