"""The section of reward models: accuracy on held-out preference pairs, calibration, and pairs with scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from zero2chat.report.figures import SERIES, SOFT, bars, charts, drawn, history_curves, note
from zero2chat.report.parts import cards, esc, exact, examples, paragraph, table
from zero2chat.report.steps import StepResult, finite

TITLE = "Learning what people like"
KEY = {
    "accuracy": "accuracy on held-out preference pairs",
    "accuracy_length": "accuracy of preferring the longer answer",
    "noise_ceiling": "of the noisy labels are correct (ceiling)",
    "calibration_error": "calibration error",
    "pairs_seen": "training pairs used",
}
STORY = (
    "Many tasks have no single correct answer, only better and worse ones. Writing good answers is hard for people; "
    "choosing the better of two is easy. The reward model learns from many such comparisons to score any answer, and "
    "can then judge more answers than people ever could."
)
CHANCE_LOSS = "Loss (chance: ln 2 ≈ 0.69)."
Sample = Mapping[str, Any]
_BARS = {
    "accuracy": "the reward model",
    "accuracy_length": "longer answer",
    "noise_ceiling": "the noisy labels",
    "accuracy_noisy": "model, by noisy labels",
}


def _reliability(step: StepResult) -> list[Mapping[str, Any]]:
    """Return the last bins of the history: `sure`, `right`, `n`."""
    found = [line["reliability"] for line in step.history if isinstance(line.get("reliability"), list)]
    bins = found[-1] if found else []
    return [
        b for b in bins if isinstance(b, dict) and all(finite(b.get(k)) is not None for k in ("sure", "right", "n"))
    ]


def reliability_figure(step: StepResult) -> str:
    """Plot accuracy over confidence; a calibrated model is on the diagonal. Returns "" without bins."""
    bins = _reliability(step)

    def draw(axes: Axes) -> None:
        largest, sure, right = max(b["n"] for b in bins), [b["sure"] for b in bins], [b["right"] for b in bins]
        axes.plot([0.5, 1], [0.5, 1], color=SOFT, lw=1, ls="--")
        axes.plot(sure, right, color=SERIES[0], lw=1.2)
        axes.scatter(sure, right, s=[15 + 120 * b["n"] / largest for b in bins], color=SERIES[0], zorder=3)
        for b in bins:
            note(axes, exact(b["n"]), (b["sure"], b["right"]), 0, -14, ha="center")
        axes.set(xlabel="predicted probability", ylabel="accuracy")
        axes.set_xlim(0.48, 1.02)
        axes.set_ylim(min(0.4, min(right) - 0.08), 1.04)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, 0))
        axes.grid()

    caption = "Reliability diagram: on the dashed line the model is perfectly calibrated. Numbers count pairs."
    return drawn(f"{step.anchor}-reliability", caption, draw) if bins else ""


def accuracy_bars(step: StepResult, labels: Mapping[str, str]) -> str:
    """Plot accuracies of one step on held-out pairs. `labels` is metric → label."""
    measured = {label: step.metrics[name] for name, label in labels.items() if step.value(name) is not None}
    caption = "Accuracy on held-out pairs, with 95% intervals."
    return bars(f"{step.anchor}-accuracy", caption, list(measured), {"accuracy": measured}, measure="accuracy")


def pairs_table(step: StepResult, given: Callable[[Sample, str], list[str]], what: str, about: str) -> str:
    """Return the first held-out pairs as a table: the chosen and the rejected answer, each with its `given` values.

    `given` takes a sample and "chosen" or "rejected"; `what` names the values, and the sentence `about` explains them.
    """

    def cell(sample: Sample, text: str, side: str) -> str:
        return f"{esc(sample.get(text, ''), 300)}<br><small>{' · '.join(given(sample, side))}</small>"

    def show(samples: Sequence[Sample]) -> str:
        each = {str(sample.get("prompt")) + str(sample.get("completion")): sample for sample in samples}
        first = list(each.values())[:3]
        sides = [(cell(s, "completion", "chosen"), cell(s, "rejected", "rejected")) for s in first]
        rows = ((esc(s.get("prompt", ""), 300), *both) for s, both in zip(first, sides, strict=True))
        return table(("prompt", "chosen", "rejected"), rows)

    return examples(step, f"Pairs and their {what}", show, f"The first held-out pairs; not cherry-picked. {about}")


def _given(sample: Mapping[str, Any], side: str) -> list[str]:
    found = {name: finite(sample.get(f"{name}_{side}")) for name in ("score", "taste")}
    return [f"{name} {value:.2f}" for name, value in found.items() if value is not None]


def _people(step: StepResult) -> str:
    """Return who compared the answers, according to the settings, and how many comparisons training used."""
    made = step.settings.get("comparisons")
    if isinstance(made, dict):
        who = (
            f"The people here are simulated: the hidden taste of the task {made.get('task')}, with noise of "
            f"{made.get('noise', 0)}, ranked {made.get('answers', 2)} answers to each of {made.get('n')} prompts."
        )
    else:
        who = "The preference pairs come from the files and datasets in the settings."
    met, known = step.value("pairs_seen"), step.value("pairs_train")
    some = met is not None and known is not None and met < known
    return who + (f" Of {known:,.0f} comparisons, training used {met:,.0f}." if some else "")


def section(step: StepResult) -> str:
    caption = "Accuracy on training pairs during training."
    figures = charts(
        step,
        accuracy_bars(step, _BARS),
        reliability_figure(step),
        history_curves(step, "loss", CHANCE_LOSS, "loss"),
        history_curves(step, "train-accuracy", caption, "accuracy", {"training": "accuracy"}, percent=True),
    )
    text = paragraph(STORY, "story") + paragraph(esc(_people(step))) + cards(step, KEY) + figures
    return text + pairs_table(step, _given, "scores", "A score of 0.8 means: better than four in five answers.")
