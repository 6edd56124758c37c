"""Evaluation: the exam, task by task, with its intervals and the answers given."""

from __future__ import annotations

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import answers, cards, esc, exact, paragraph, short, small_print, table
from zero2chat.report.steps import Metric, Step

TITLE = "The exam"
KEY = {
    "accuracy": "answered right, mean over the tasks",
    "accuracy_sampled": "answered right when sampled",
    "pass_at_1": "right at the first try",
    "pass_at_8": "right in one of eight tries",
    "called": "of answers call a tool",
    "stop_rate": "of answers end by themselves",
    "bytes_model": "of weights",
}
# The longer names first: `accuracy_sampled_sums` is the sampled accuracy on `sums`.
_KINDS = ("accuracy_sampled", "accuracy", "pass_at_1", "pass_at_8", "called")


def scores(step: Step) -> dict[str, dict[str, Metric]]:
    """Kind of score (and `called`, the share that calls a tool) → task → metric, for those that the step measured."""
    found: dict[str, dict[str, Metric]] = {kind: {} for kind in _KINDS}
    for name, metric in step.named("(.+)").items():
        kind = next((kind for kind in _KINDS if name.startswith(kind + "_")), None)
        # `accuracy_sampled` alone is the mean over tasks, not the accuracy on a task "sampled".
        if kind is not None and name not in _KINDS:
            found[kind][name.removeprefix(kind + "_")] = metric
    order = ("accuracy", "accuracy_sampled", "pass_at_1", "pass_at_8", "called")
    return {kind: found[kind] for kind in order if found[kind]}


def score_figure(step: Step) -> str:
    """A bar for each task and kind of score; empty where none was measured."""
    kinds = {kind: metrics for kind, metrics in scores(step).items() if kind != "called"}
    tasks = list(dict.fromkeys(task for metrics in kinds.values() for task in metrics))
    return bars(f"{step.anchor}-tasks", "Answered right, by task, with 95% intervals.", tasks, kinds)


def score_table(step: Step) -> str:
    """A row a task, a column a kind of score."""
    kinds = scores(step)
    tasks = dict.fromkeys(task for metrics in kinds.values() for task in metrics)

    def cell(kind: str, task: str) -> str:
        metric = kinds[kind].get(task)
        if metric is None:
            return ""
        below = [
            f"<small>{line}</small>" for line in small_print(kind, metric).removeprefix("95%: ").split(" · ") if line
        ]
        return "<br>".join([short(kind, metric), *below])

    head = ("task", *(kind.replace("_", " ") for kind in kinds))
    return table(head, ((esc(task), *(cell(kind, task) for kind in kinds)) for task in tasks))


def harness_table(step: Step) -> str:
    """A row a figure of lm-evaluation-harness, `task.metric`; empty where it was not asked."""
    found = step.named(r"(.+\..+)")
    rows = ((esc(name), exact(metric["value"]), small_print(name, metric)) for name, metric in found.items())
    return table(("by lm-evaluation-harness", "score", ""), rows) if found else ""


def section(step: Step) -> str:
    text = paragraph(
        "An exam. The project's own tasks ask questions that their training rows do not have. A score on a few "
        "hundred questions is a little luck too, so each stands with its 95% interval: of a hundred such intervals "
        "about 95 hold the true score.",
        "story",
    )
    if not any("contaminated" in metric for metric in step.metrics.values()):
        text += paragraph("Contamination: not checked. Whether the questions stand in the training text is not known.")
    text += cards(step, KEY) + harness_table(step)
    if scores(step):
        text += gallery(score_figure(step), score_table(step))
    elif not harness_table(step):
        text += paragraph("The step measured no score by task.", "note")
    return text + "<h3>Questions and answers</h3>\n" + answers(step)
