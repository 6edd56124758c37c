"""The section of reward models: accuracy on held-out preference pairs, calibration, and pairs with scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from zero2chat.report.figures import _STYLE, _WIDTH, INK, SERIES, SOFT, _figure, bars, curves, gallery
from zero2chat.report.parts import cards, esc, exact, lacks, paragraph, table
from zero2chat.report.steps import Step, finite

TITLE = "Learning what people like"
KEY = {
    "accuracy": "accuracy on held-out preference pairs",
    "accuracy_length": "accuracy of preferring the longer answer",
    "noise_ceiling": "of the noisy labels are correct (ceiling)",
    "calibration_error": "calibration error",
    "pairs_seen": "training pairs used",
}
_BARS = {
    "accuracy": "the reward model",
    "accuracy_length": "longer answer",
    "noise_ceiling": "the noisy labels",
    "accuracy_noisy": "model, by noisy labels",
}


def _reliability(step: Step) -> list[Mapping[str, Any]]:
    """Return the last bins of the history: `sure`, `right`, `n`."""
    found = [line["reliability"] for line in step.history if isinstance(line.get("reliability"), list)]
    bins = found[-1] if found else []
    return [
        b for b in bins if isinstance(b, dict) and all(finite(b.get(k)) is not None for k in ("sure", "right", "n"))
    ]


def reliability_figure(step: Step) -> str:
    """Plot accuracy over confidence; a calibrated model is on the diagonal. Returns "" without bins."""
    bins = _reliability(step)
    if not bins:
        return ""
    largest = max(b["n"] for b in bins)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.plot([0.5, 1], [0.5, 1], color=SOFT, lw=1, ls="--")
        sure, right = [b["sure"] for b in bins], [b["right"] for b in bins]
        axes.plot(sure, right, color=SERIES[0], lw=1.2)
        axes.scatter(sure, right, s=[15 + 120 * b["n"] / largest for b in bins], color=SERIES[0], zorder=3)
        for b in bins:
            axes.annotate(
                exact(b["n"]),
                (b["sure"], b["right"]),
                xytext=(0, -14),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=INK,
            )
        axes.set_xlabel("predicted probability")
        axes.set_ylabel("accuracy")
        axes.set_xlim(0.48, 1.02)
        axes.set_ylim(min(0.4, min(right) - 0.08), 1.04)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}%"))
        axes.grid()
        axes.tick_params(length=0)
        caption = "Reliability diagram: on the dashed line the model is perfectly calibrated. Numbers count pairs."
        return _figure(figure, f"{step.anchor}-reliability", caption)


def accuracy_bars(step: Step, labels: Mapping[str, str], caption: str) -> str:
    """Plot rates of one step by metric with intervals and labels."""
    measured = {label: step.metrics[name] for name, label in labels.items() if step.value(name) is not None}
    return bars(f"{step.anchor}-accuracy", caption, list(measured), {"accuracy": measured}, measure="accuracy")


def pairs_table(step: Step, given: Callable[[Mapping[str, Any], str], list[str]]) -> str:
    """Return a table of the first held-out pairs: the chosen and the rejected answer, each with its `given` value.

    `given` takes a sample and "chosen" or "rejected".
    """
    samples = {str(sample.get("prompt")) + str(sample.get("completion")): sample for sample in step.samples}

    def cell(sample: Mapping[str, Any], text: str, side: str) -> str:
        return f"{esc(sample.get(text, ''), 300)}<br><small>{' · '.join(given(sample, side))}</small>"

    return table(
        ("prompt", "chosen", "rejected"),
        (
            (
                esc(sample.get("prompt", ""), 300),
                cell(sample, "completion", "chosen"),
                cell(sample, "rejected", "rejected"),
            )
            for sample in list(samples.values())[:3]
        ),
    )


def _given(sample: Mapping[str, Any], side: str) -> list[str]:
    found = {name: finite(sample.get(f"{name}_{side}")) for name in ("score", "taste")}
    return [f"{name} {value:.2f}" for name, value in found.items() if value is not None]


def _people(step: Step) -> str:
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


def section(step: Step) -> str:
    text = paragraph(
        "Many tasks have no single correct answer, only better and worse ones. Writing good answers is hard for "
        "people; choosing the better of two is easy. The reward model learns from many such comparisons to score any "
        "answer, and can then judge more answers than people ever could.",
        "story",
    )
    text += paragraph(esc(_people(step)))
    text += cards(step, KEY)
    text += gallery(
        accuracy_bars(step, _BARS, "Accuracy on held-out pairs, with 95% intervals."),
        reliability_figure(step),
        curves(f"{step.anchor}-loss", "Loss (chance: ln 2 ≈ 0.69).", {"training": step.curve("loss")}, "loss"),
        curves(
            f"{step.anchor}-train-accuracy",
            "Accuracy on training pairs during training.",
            {"training": step.curve("accuracy")},
            "accuracy",
            percent=True,
        ),
    )
    if not step.history:
        text += lacks("history.jsonl", "the loss curve and the reliability diagram are")
    text += "<h3>Pairs and their scores</h3>\n"
    if not step.samples:
        return text + lacks("samples.jsonl", "pairs are")
    story = "The first held-out pairs; not cherry-picked. A score of 0.8 means: better than four in five answers."
    return text + paragraph(story, "aside") + pairs_table(step, _given)
