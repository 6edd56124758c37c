"""What an evaluation writes and prints in addition to its metrics: each row's score, changes since another evaluation,
and the number of questions seen in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl, write_jsonl
from zero2chat.core.stats import Metrics
from zero2chat.data.decontamination import find_seen, read_training_sources, training_texts
from zero2chat.evaluation.comparison import win_rate_name
from zero2chat.evaluation.tasks import Scored, TaskSpec, mean_over_tasks, rate_of, rows_and_prompts
from zero2chat.models.tokenization import split_reasoning

SCORES = "scores.jsonl"  # one line per evaluated row


def write_scores(folder: Path, scored: Sequence[Scored]) -> None:
    """Write `scores.jsonl`, without the answers' text: a line per row, or for own data per row and score."""
    rows = map(asdict, scored)
    write_jsonl(
        folder / SCORES, ({k: v for k, v in row.items() if k != "text" and (k, v) != ("by", "")} for row in rows)
    )


def read_scores(folder: str, rows: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], list[float | None]]:
    """Read another evaluation's scores, by label and scorer. `rows` maps each label to the digests of its rows.

    Raises `UserError` if the folder has no scores or none of these labels, or if a label's rows differ.
    """
    path = Path(folder) / SCORES
    if not path.is_file():
        raise UserError(f"compare_to: {folder}: no {SCORES}: give the run folder of a finished evaluate step")
    groups: dict[tuple[str, str], list[tuple[str, float | None]]] = {}
    try:
        for line in read_jsonl(path):
            score = None if line["score"] is None else float(line["score"])
            groups.setdefault((line["label"], line.get("by", "")), []).append((line["row"], score))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"compare_to: {path} cannot be read ({error}): run its step again") from error
    for (label, _), lines in groups.items():
        if label in rows and [row for row, _ in lines] != list(rows[label]):
            raise UserError(
                f"compare_to: {folder} evaluated '{label}' on other rows: set the same task, n, "
                "seed, split and options in both steps, or use another label"
            )
    scores = {key: [score for _, score in lines] for key, lines in groups.items() if key[0] in rows}
    if not scores:
        raise UserError(f"compare_to: {folder} evaluated none of these tasks: use the same labels in both steps")
    return scores


def changes_since(
    scored: Sequence[Scored], earlier: Mapping[tuple[str, str], Sequence[float | None]], seeds: Mapping[str, int]
) -> Metrics:
    """Return the mean paired difference from another evaluation's scores, as `change_<label>` (for the user's own data,
    `change_<score>_<label>`)."""
    metrics = {}
    for (label, by), before in earlier.items():
        ours = [one for one in scored if (one.label, one.by) == (label, by)]
        pairs = [(a, b.score, b.key) for a, b in zip(before, ours, strict=False) if None not in (a, b.score)]
        if pairs:  # none: this evaluation lacks the score
            old, new, questions = zip(*pairs, strict=True)
            metrics[f"change_{by}_{label}" if by else f"change_{label}"] = stats.change(
                old, new, seeds[label], questions
            )
    return metrics


def changes_between(before: Path, after: Path) -> Metrics:
    """Return the changes of an evaluation's metrics since another one, by metric; none for scores of other rows."""
    scored = [Scored(**{"text": "", **line}) for line in read_jsonl(after / SCORES)]
    kinds = dict.fromkeys((one.label, one.by) for one in scored)
    rows = {label: [one.row for one in scored if (one.label, one.by) == (label, by)] for label, by in kinds}
    try:
        made = changes_since(scored, read_scores(str(before), rows), dict.fromkeys(rows, 0))
    except UserError:
        return {}
    names = {f"change_{by}_{label}" if by else f"change_{label}": f"{by or 'accuracy'}_{label}" for label, by in kinds}
    changes, tasks = {names[key]: one for key, one in made.items()}, [label for label, by in kinds if not by]
    if tasks and all(f"change_{label}" in made for label in tasks):
        changes["accuracy"] = mean_over_tasks([made[f"change_{label}"] for label in tasks])
    return changes


def metrics_over_tasks(scored: Sequence[Scored], specs: Sequence[TaskSpec]) -> Metrics:
    """Return `needless_calls` if a task needs no tool, and `declined_within_reach` if a task is out of reach."""
    labels = {spec.label for spec in specs if spec.needless}
    asked = [one for one in scored if one.label in labels]
    metrics = {"needless_calls": rate_of(asked, lambda one: one.called)} if asked else {}
    declines = {spec.label: wanted for spec in specs if (wanted := tasks.load(spec.task).declines) is not None}
    apart = declines.keys() | {spec.label for spec in specs if spec.declines}
    within = [one for one in scored if one.label not in apart]
    if declines and within:
        declined = next(iter(declines.values()))
        # Declining may be right for some rows of a task, such as what was never said in the conversation.
        metrics["declined_within_reach"] = rate_of(
            within, lambda one: one.score != 1 and declined(split_reasoning(one.text)[1])
        )
    return metrics


# ---- contamination


def scores_of(spec: TaskSpec, metrics: dict[str, dict[str, Any]]) -> list[str]:
    kinds = ("accuracy", "accuracy_sampled", "pass_at_1", f"pass_at_{spec.samples}")
    if spec.against is not None:
        return [win_rate_name(spec)]
    return [name for name in (f"{kind}_{spec.label}" for kind in kinds) if name in metrics]


def questions_of(spec: TaskSpec) -> list[str]:
    return [row["question"] for row in rows_and_prompts(spec)[0]]


def report_contamination(
    metrics: Metrics, groups: Sequence[tuple[list[str], list[str]]], entries: Sequence[Any]
) -> None:
    """Print each group's scores and number of contaminated questions. Adds this number to `metrics`, too."""
    seen = set()
    if entries:
        everything = (question for _, some in groups for question in some)
        seen = find_seen(everything, training_texts(read_training_sources(entries)))
    for names, questions in groups:
        count = sum(question in seen for question in questions)
        said = f"{count} of {len(questions)} questions seen in training" if entries else "not checked"
        for name in names:
            metrics[name] |= {"contaminated": count} if entries else {}
        scores = [f"{name}: {metrics[name]['value']:.3f}" for name in names]
        print("; ".join([*scores, f"contamination: {said}"]), flush=True)


def print_changes(metrics: Metrics, compare_to: str | None) -> None:
    """Print changes and other rates. (`report_contamination` prints scores and win rates.)"""
    for name, metric in metrics.items():
        if name.startswith("change_") or name in ("needless_calls", "declined_within_reach"):
            since = f" since {Path(str(compare_to)).name}" if name.startswith("change_") else ""
            sign = "+" if since else ""
            between = f"{metric['low']:{sign}.3f} to {metric['high']:{sign}.3f}"
            print(f"{name}: {metric['value']:{sign}.3f}{since} (95%: {between}; n = {metric['n']})", flush=True)
