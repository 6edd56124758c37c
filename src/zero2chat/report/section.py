"""Declare a stage's section of the report: title, story, main metrics, figures and samples.

    section=Section(
        title="Studying worked examples",
        story="A textbook also has worked examples: a problem and an expert's solution. …",
        metrics={"accuracy": "accuracy, mean over tasks", "tokens": "training tokens"},
        figures=(Curve("Loss on the assistant's turns.", "loss", {"training": "loss", "held-out": "eval_loss"}),),
        scores=True,
    )

A declaration stands at the end of its stage's file. matplotlib is imported when a figure is drawn, and nothing here
imports torch. What cannot be declared is a function: `extra`, `together`, or the points of a `Curve`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from zero2chat.report.parts import cards, lacks, paragraph, picture
from zero2chat.report.samples import Answers, Samples, SampleTable
from zero2chat.report.scores import score_tables
from zero2chat.report.steps import Points, StepResult

# Label → regular expression of whole names (history keys, or metrics). A `{}` in a label stands for the text of the
# expression's groups. A single expression is short for `{"{}": expression}`.
Names = str | Mapping[str, str]


def select(known: Iterable[str], names: Names) -> dict[str, str]:
    """Return label → name for the known names that match, in order, numbers ascending. The first label that fits
    gets a name."""
    left, found = list(known), dict[str, str]()
    for label, pattern in ({"{}": names} if isinstance(names, str) else names).items():
        matches = {name: match for name in left if (match := re.fullmatch(pattern, name))}
        texts = {name: " ".join(filter(None, match.groups())) for name, match in matches.items()}
        is_number = all(text.isdigit() for text in texts.values())
        for name in sorted(texts, key=lambda name: int(texts[name])) if is_number else texts:
            found.setdefault(label.format(texts[name]).strip() or "all", name)
        left = [name for name in left if name not in texts]
    return found


@dataclass(frozen=True)
class Curve:
    """Lines over training steps. `lines` selects history keys, or computes label → points, with `x` their axis.

    `peaks` marks each line's highest point, unless it is the last, with a star.
    """

    caption: str
    unit: str  # label of the y-axis
    lines: Names | Callable[[StepResult], Mapping[str, Points]]
    x: str = "training step"
    percent: bool = False
    peaks: bool = False

    def draw(self, step: StepResult) -> str:
        """Return the figure as SVG, or "" if the step has no points for it."""
        from zero2chat.report.plots import curves

        if callable(self.lines):
            lines = self.lines(step)
        else:
            keys = dict.fromkeys(key for line in step.history for key in line)
            lines = {label: step.curve(key) for label, key in select(keys, self.lines).items()}
        return curves(lines, self.unit, x=self.x, percent=self.percent, peaks=self.peaks)


@dataclass(frozen=True)
class Bars:
    """Metrics with their intervals: one row per label, and in each row one bar per group. `groups` is group → names.

    `measure` is a metric name that determines the format of values, such as percent for rates; by default it is each
    group's name. `dots` suits values without a natural zero.
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
    """A stage's section. `metrics` is metric → label: the first one that a step has is its main result.

    `extra` returns HTML below the figures and must escape what it quotes. `together` returns title and HTML of a
    section over all steps of a recipe, or None. With `leads`, the page's header shows the metrics of this stage's
    steps only.
    """

    title: str
    story: str
    metrics: Mapping[str, str] | Callable[[StepResult], Mapping[str, str]] = field(default_factory=dict)
    figures: Sequence[Curve | Bars] = ()
    scores: bool = False  # the step's metrics have scores by task, in tables of their own
    samples: Samples | None = field(default_factory=Answers)
    extra: Callable[[StepResult], str] | None = None
    together: Callable[[Sequence[StepResult]], tuple[str, str] | None] | None = None
    leads: bool = False

    def main_metrics(self, step: StepResult) -> Mapping[str, str]:
        """Return metric → label for this step."""
        return self.metrics(step) if callable(self.metrics) else self.metrics

    def render(self, step: StepResult) -> str:
        """Return the section's HTML, below its heading."""
        text = paragraph(self.story, "story") + cards(step, self.main_metrics(step)) + self._figures(step)
        text += self.extra(step) if self.extra else ""
        text += score_tables(step) if self.scores else ""
        return text + (self.samples.render(step) if self.samples else "")

    def _figures(self, step: StepResult) -> str:
        drawn = [picture(figure.draw(step), figure.caption) for figure in self.figures]
        text = f'<div class="gallery">\n{"".join(drawn)}</div>\n' if any(drawn) else ""
        logged = any(isinstance(figure, Curve) and not callable(figure.lines) for figure in self.figures)
        return text + (lacks("history.jsonl", "the curves are") if logged and not step.history else "")


# ---- figures of several stages

REWARDS = Curve("Training reward, by reward function.", "mean reward", r"rewards/(.+)/mean")
LENGTHS = Curve(
    "Mean length of completions, in tokens.",
    "tokens",
    {"all": "completions/mean_length", "ended with the EOS token": "completions/mean_terminated_length"},
)
ENTROPY = Curve("The entropy of the policy shows how much it still explores.", "nats per token", "entropy")
ACCURACIES = Curve(
    "Accuracy during training.", "accuracy", r"accuracy_(.+)(?<!_n)(?<!_low)(?<!_high)", percent=True
)  # of `tasks_steps`
LOSSES = {"training": "loss", "held-out {}": "(?:eval|val)_(?:(.+)_)?loss"}
ANSWERED = {  # metric → label, of stages whose models answer questions
    "accuracy": "accuracy, mean over tasks",
    "accuracy_sampled": "accuracy when sampled",
    "stop_rate": "of answers end with the EOS token",
}

# ---- of preference stages

PREFERRED = {
    "accuracy": "accuracy on held-out preference pairs",
    "accuracy_before": "of pairs: chosen answer more likely before training",
    "accuracy_length": "accuracy of preferring the longer answer",
    "margin": "mean implicit reward margin, chosen minus rejected",
    "chosen_change": "nats: change of log-probability, chosen",
    "rejected_change": "nats: change of log-probability, rejected",
}
PAIR_LOSS = Curve("Loss (chance: ln 2 ≈ 0.69).", "loss", "loss")
IMPLICIT_REWARDS = Curve(
    "Implicit rewards in training: chosen, rejected, and their margin.",
    "implicit reward",
    {"chosen": "rewards/chosen", "rejected": "rewards/rejected", "margin": "rewards/margins"},
)


def accuracy_bars(rows: Mapping[str, str]) -> Bars:
    """Return the figure of accuracies on held-out pairs; `rows` is label → metric."""
    return Bars("Accuracy on held-out pairs, with 95% intervals.", {"accuracy": rows}, "accuracy")


PREFERENCES = accuracy_bars(
    {"implicit reward": "accuracy", "before training": "accuracy_before", "longer answer": "accuracy_length"}
)


def pair_rows(title: str, about: str, *values: str) -> SampleTable:
    """Return the first held-out pairs as a table; `values` are keys such as `score`, of `score_chosen`."""
    columns = {"prompt": "prompt"}
    for side, text in (("chosen", "completion"), ("rejected", "rejected")):
        columns |= {side: text} | {f"{value}, {side}": f"{value}_{side}" for value in values}
    return SampleTable(title, f"The first held-out pairs; not cherry-picked. {about}", columns=columns, n=3)
