"""The section of evaluation: scores by task with intervals, the best constant answers, and sample completions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import answers, cards, change, esc, exact, paragraph, short, small_print, table, to_text
from zero2chat.report.steps import Metric, StepResult

TITLE = "The exam"
KEY = {
    "accuracy": "accuracy, mean over tasks",
    "accuracy_sampled": "accuracy when sampled",
    "pass_at_1": "pass@1",
    "pass_at_8": "pass@8",
    "tool_call_rate": "of answers call a tool",
    "win_rate": "win rate against the other model",
    "needless_calls": "of answers call a tool although none is needed",
    "declined_within_reach": "abstention rate on answerable questions",
    "stop_rate": "of answers end with the EOS token",
    "bytes_model": "model weights",
}
_KINDS = ("accuracy", "accuracy_sampled", "pass_at_1", "pass_at_8", "tool_call_rate")
STORY = (
    "Evaluation. The project's tasks ask held-out questions that their training rows do not contain. A score on a few "
    "hundred questions is noisy, so each is shown with its 95% interval: about 95 of a hundred such intervals contain "
    "the true score. The best constant answer is the score of giving the same, best answer to every question."
)


_MINOR = ("needless_calls", "declined_within_reach", "stop_rate", "bytes_model")


def _own(step: StepResult) -> list[tuple[str, str]]:
    """Return (score, label) of each metric of the user's own data, the chosen scores before the stop rate."""
    entries = step.settings.get("datasets")
    found = []
    for entry in entries if isinstance(entries, list) else []:
        files = entry.get("data_files") or entry.get("path")
        label = str(entry.get("label") or PurePath(to_text(files[0] if isinstance(files, list) else files)).stem)
        found += [(score, label) for score in step.named(rf"(?!change_)(.+)_{re.escape(label)}")]
    return sorted(found, key=lambda pair: pair[0] == "stop_rate")


def key(step: StepResult) -> dict[str, str]:
    """Return metric → label, the main ones first: of tasks, then of the user's own data."""
    own = {f"{score}_{label}": f"{KEY.get(score, score)}, {label}" for score, label in _own(step)}
    return {name: text for name, text in KEY.items() if name not in _MINOR} | own | {name: KEY[name] for name in _MINOR}


def scores(step: StepResult) -> dict[str, dict[str, Metric]]:
    """Return kind of score (and `tool_call_rate`, the share that calls a tool) → task → metric, if measured."""
    # `accuracy_sampled_sums` is the sampled accuracy on `sums`; `accuracy_sampled` alone is the mean over tasks.
    found = {kind: step.named(rf"{kind}_(?!sampled$|sampled_)(.+)") for kind in _KINDS}
    return {kind: metrics for kind, metrics in found.items() if metrics}


def constants(step: StepResult) -> dict[str, Metric]:
    """Return task → score of the best constant answer."""
    return step.named("constant_(.+)")


def beside(step: StepResult, task: str) -> list[str]:
    """Return the text below a task's accuracy: the best constant answer, and the change from another evaluation."""
    found = []
    if metric := constants(step).get(task):
        found.append(f"best constant answer {short('constant', metric)}")
    if metric := step.named("change_(.+)").get(task):
        since = esc(PurePath(to_text(step.settings.get("compare_to", ""))).name or "the evaluation before")
        found.append(f"{change(metric)} since {since}")
    return found


def score_figure(step: StepResult) -> str:
    """Plot a bar per task and kind of score; "" if none was measured."""
    kinds = {kind: metrics for kind, metrics in scores(step).items() if kind != "tool_call_rate"}
    tasks = list(dict.fromkeys(task for metrics in kinds.values() for task in metrics))
    return bars(f"{step.anchor}-tasks", "Accuracy by task, with 95% intervals.", tasks, kinds)


def score_table(step: StepResult) -> str:
    """Return a table with one row per task and one column per kind of score."""
    kinds = scores(step)
    tasks = dict.fromkeys(task for metrics in kinds.values() for task in metrics)

    def cell(kind: str, task: str) -> str:
        if (metric := kinds[kind].get(task)) is None:
            return ""
        below = [line for line in small_print(kind, metric).removeprefix("95%: ").split(" · ") if line]
        below += beside(step, task) if kind == "accuracy" else []
        return "<br>".join([short(kind, metric), *(f"<small>{line}</small>" for line in below)])

    head = ("task", *(kind.replace("_", " ") for kind in kinds))
    return table(head, ((esc(task), *(cell(kind, task) for kind in kinds)) for task in tasks))


def scores_part(step: StepResult) -> str:
    """Return the figure and the table of the scores; "" if none was measured."""
    return gallery(score_figure(step), score_table(step)) if scores(step) else ""


def harness_table(step: StepResult) -> str:
    """Return a table with one row per metric of lm-evaluation-harness, `task.metric`; "" if it was not run."""
    found = step.named(r"(.+\..+)")
    rows = ((esc(name), exact(metric["value"]), small_print(name, metric)) for name, metric in found.items())
    return table(("by lm-evaluation-harness", "score", ""), rows) if found else ""


def win_rates(step: StepResult) -> str:
    """Return a table with one row per comparison with another model; "" if there is no comparison."""
    found = step.named(r"win_rate_?(.*)")
    entries = step.settings.get("tasks")
    against = {
        str(entry.get("label") or str(entry.get("task")).rpartition(".")[2]): PurePath(to_text(entry["against"])).name
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and entry.get("against")
    }
    rows = []
    for name, metric in found.items():
        label = name or "win_rate"
        measured = short("win_rate", metric), small_print("win_rate", metric)
        rows.append((esc(label), esc(against.get(label, "")), *measured))
    return table(("win rate", "against", "wins, a tie counting half", ""), rows) if rows else ""


def own_scores(step: StepResult) -> str:
    """Return a table with one row per score of the user's own data; "" if none was evaluated."""
    rows = []
    for score, label in _own(step):
        metric = step.metrics[f"{score}_{label}"]
        details = [small_print(score, metric), f"{metric['left_out']} left out" if metric.get("left_out") else ""]
        if since := step.metrics.get(f"change_{score}_{label}"):
            before = PurePath(to_text(step.settings.get("compare_to", ""))).name
            ends = f"{since['low']:+.3g} to {since['high']:+.3g}" if "low" in since else ""
            details.append(f"{since['value']:+.3g} ({ends}) since {esc(before)}")
        rows.append((esc(label), esc(score), exact(metric["value"]), " · ".join(filter(None, details))))
    return table(("own data", "score", "", ""), rows) if rows else ""


_FIRST_QUESTIONS = "first questions"  # the task of their samples
_LONGEST = 200  # characters of an answer in the table


def _first_line(sample: dict[str, object]) -> str:
    said = to_text(sample.get("said", sample.get("completion", ""))).strip()
    line = esc(said.splitlines()[0], _LONGEST) if said else "<i>nothing</i>"
    return line + ("<br><small>called a tool</small>" if sample.get("calls") else "")


def together(steps: Sequence[StepResult]) -> tuple[str, str] | None:
    """Return title and table of several evaluations' answers to the same typed questions; None for fewer than two."""
    said = {
        step.name: {
            to_text(sample.get("prompt", "")): _first_line(sample)
            for sample in step.samples
            if sample.get("task") == _FIRST_QUESTIONS
        }
        for step in steps
        if step.stage == "evaluate"
    }
    said = {name: found for name, found in said.items() if found}
    if len(said) < 2:
        return None
    questions = dict.fromkeys(question for found in said.values() for question in found)
    text = paragraph(
        "Questions as a newcomer types them, each in a new conversation, answered greedily by the model of each "
        f"evaluation step. Of a long answer only the first line is shown, up to {_LONGEST} characters.",
        "story",
    )
    rows = ((esc(question), *(found.get(question, "") for found in said.values())) for question in questions)
    return "The same questions after each step", text + table(("question", *map(esc, said)), rows)


def section(step: StepResult) -> str:
    text = paragraph(STORY, "story")
    if not any("contaminated" in metric for metric in step.metrics.values()):
        text += paragraph("Contamination was not checked: the questions may appear in the training data.")
    tables = own_scores(step) + harness_table(step) + win_rates(step) + scores_part(step)
    text += cards(step, key(step)) + (tables or paragraph("The step measured no score per task.", "note"))
    return text + answers(step)
