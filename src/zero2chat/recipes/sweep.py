"""Sweep: run a recipe for each combination of settings and each seed, and compare a step's metrics.

    zero2chat sweep recipes/mine --set sft.learning_rate=1e-4,3e-4 --seeds 3

Only steps that the metrics depend on run. Those that read a changed setting run once for each combination, in
`runs/mine/sweep/<combination>/`; the others are shared.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from zero2chat.core import stats
from zero2chat.core.errors import UserError, nearest
from zero2chat.core.fingerprints import digest
from zero2chat.core.runs import write_atomically
from zero2chat.evaluation.scores import changes_between
from zero2chat.recipes import graph, runner
from zero2chat.recipes.recipe import Step, load_recipe, read_recipe, require_known
from zero2chat.report.parts import is_rate
from zero2chat.report.plots import bars
from zero2chat.report.steps import StepResult, bounds, read_step

_ROWS = 12  # of the table, if no metric is named


def sweep(
    recipe: str,
    values: Sequence[str],
    seeds: int,
    metric: str | None,
    restart: str | None,
    accelerate_config: str | None,
    dry_run: bool,
) -> dict[str, Any]:
    """Run the steps that are not done, and write `table.md` and `plot.svg`. Returns their folder and the table's rows,
    with what `run` returns. A step that fails ends the sweep, and the same command resumes it."""
    keys, combinations = _combinations(values or _written(recipe))
    steps: dict[str, Step] = {}
    for folder, (_, chosen) in combinations.items():
        loaded = load_recipe(recipe, chosen, accelerate_config)
        step, name = _measured(loaded, metric)
        for other in chosen:
            if step not in graph.following(loaded, other):
                raise UserError(f"--set {other}.…: {step.name} does not depend on this step: set another --metric")
        needed = [*graph.preceding(loaded, [step]), step]
        again = graph.following(needed, *chosen)
        shared = [one for one in needed if one not in again and one.name not in steps]
        for one in (*shared, *again):
            one.arguments()  # report a mistake in the last combination now, not after hours
        steps |= {one.name: one for one in shared}
        steps |= {one.name: one for one in graph.copy_to(again, f"sweep/{folder}")}
    everything = [*steps.values(), *graph.further_seeds([*steps.values()], seeds)]
    if restart:
        runner.run_steps(recipe, everything, runner.choose(everything, None, restart, None)[1], True, dry_run)
    made = runner.run_steps(recipe, everything, everything, False, dry_run)
    if dry_run:
        return made
    folders = {one.name: one.folder for one in everything}
    found = {
        label: [read_step(folders[one], 1) for one in graph.in_seeds(everything, f"sweep/{folder}/{step.name}")]
        for folder, (label, _) in combinations.items()
    }
    rows = [_row(one, label, found) for one in ([name] if name else _main(found)) for label in found]
    place, table, first = step.folder.parent / "sweep" / _file_name(keys), _table(keys, rows), rows[0]["metric"]
    shown = {row["combination"]: row for row in rows if row["metric"] == first}
    place.mkdir(parents=True, exist_ok=True)
    write_atomically(place / "table.md", f"{table}\n![{first}, with 95% intervals](plot.svg)\n")
    write_atomically(place / "plot.svg", bars({first: shown}, dots=not is_rate(first, rows[0])))
    return made | {"folder": str(place), "table": table, "rows": rows}


# ---- combinations


def _written(recipe: str) -> list[str]:
    """Return the recipe's own `sweep: {STEP.KEY: [A, B]}` as options."""
    where, content = read_recipe(recipe)
    entries = content.get("sweep", {})
    if not isinstance(entries, dict) or not all(isinstance(some, list) for some in entries.values()):
        raise UserError(f"{where}: sweep: expected lists of values, such as sft.learning_rate: [1e-4, 3e-4]")
    return [f"{key}={json.dumps(some, ensure_ascii=False, default=str)[1:-1]}" for key, some in entries.items()]


def _combinations(texts: Sequence[str]) -> tuple[list[str], dict[str, tuple[str, dict[str, dict[str, Any]]]]]:
    """Return the keys with several values, and all combinations: folder → (values of these keys, all settings)."""
    choices, combinations = list[list[str]](), dict[str, tuple[str, dict[str, dict[str, Any]]]]()
    for key, equals, text in (text.partition("=") for text in texts):
        if any(one[0].startswith(f"{key}=") for one in choices):
            raise UserError(f"--set {key}: given twice: give all values in one --set, {key}=A,B")
        values = [text]
        with contextlib.suppress(yaml.YAMLError):  # commas in brackets, braces and quotes separate no values
            nodes = yaml.compose(f"[{text}]", yaml.SafeLoader).value  # type: ignore[union-attr]
            values = [text[one.start_mark.index - 1 : one.end_mark.index - 1] for one in nodes] or values
        choices.append([key + equals + value for value in values])
    keys = [some[0].partition("=")[0] for some in choices if len(some) > 1]
    for words in itertools.product(*choices):
        chosen = runner.read_overrides(words)
        settings = sorted(f"{step}.{key}={value}" for step in chosen for key, value in chosen[step].items())
        if (folder := _file_name(settings)) in combinations:
            raise UserError(f"--set {', '.join(words)}: an earlier combination is the same: remove a value")
        label = ", ".join(word.partition("=")[2] for word in words if word.partition("=")[0] in keys)
        combinations[folder] = label, chosen
    if not keys:
        raise UserError("--set: one combination, nothing to compare: give a setting two values, STEP.KEY=A,B")
    return keys, combinations


def _file_name(words: Sequence[str]) -> str:
    text = ",".join(words)
    name = re.sub(r"[^\w.=+,-]+", "_", text, flags=re.ASCII)[:100]
    return name if name == text else f"{name}-{digest(text)[:8]}"


def _measured(steps: Sequence[Step], metric: str | None) -> tuple[Step, str]:
    """Return the step to compare, by default the last that evaluates, and its metric, by default ""."""
    last = next((step.name for step in reversed(steps) if step.stage == "evaluate"), "")
    if not last and metric is None:
        raise UserError("no step evaluates: name what to compare, such as --metric sft.eval_loss")
    name, dot, wanted = (f"{last}." if metric is None else metric).partition(".")
    if not dot or not name:
        raise UserError(f"--metric {metric}: expected STEP.METRIC, such as sft.eval_loss")
    require_known(name, [step.name for step in steps if not step.declared.joins], "--metric", "step")
    return next(step for step in steps if step.name == name), wanted


# ---- results


def _main(found: Mapping[str, Sequence[StepResult]]) -> list[str]:
    """Return the metrics that all have: first accuracies, as many as fit the table."""
    one, *others = itertools.chain(*found.values())
    names = [name for name in one.metrics if all(result.value(name) is not None for result in (one, *others))]
    ends = [name for name in names if bounds(one.metrics[name]) and not name.startswith(("constant_", "change_"))]
    ordered = sorted(ends or names, key=lambda name: (name != "accuracy", not name.startswith("accuracy")))
    return ordered[: max(1, _ROWS // len(found))]


def _row(name: str, label: str, found: Mapping[str, Sequence[StepResult]]) -> dict[str, Any]:
    """Compare a metric, over seeds, with the first combination. The change is paired by seed and, if possible, row."""
    first, results = next(iter(found.values())), found[label]
    for one in results:
        if one.value(name) is None:
            raise UserError(f"--metric: {one.folder} has no number '{name}'{nearest(name, list(one.metrics))}")
    before, after = ([one.metrics[name]["value"] for one in some] for some in (first, results))
    metric = stats.over_seeds([one.metrics[name] for one in results], is_rate(name, results[0].metrics[name]))
    row = {"metric": name, "combination": label, **metric, "seeds": len(after), "change": None}
    row["deviation"] = round(statistics.stdev(after), 4) if len(after) > 1 else None
    if results is not first and any(before + after):  # 0 against 0 is no result: neither model did it even once
        paired = [changes_between(a.folder, b.folder).get(name) for a, b in zip(first, results, strict=True)]
        by_seed = stats.change(before, after) if len(after) > 1 else {"value": round(after[0] - before[0], 4)}
        row["change"] = by_seed if None in paired else stats.over_seeds(paired)  # type: ignore[arg-type]
    return row


def _table(keys: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [["metric", ", ".join(keys), "mean", "deviation", "change (95% interval)", "seeds"], ["---"] * 6]
    for row in rows:
        change, ends = row["change"], bounds(row["change"] or {"value": None})
        shown = "–" if change is None else f"{change['value']:+}" + (f" ({ends[0]:+} to {ends[1]:+})" if ends else "")
        label, deviation = row["combination"].replace("|", "\\|"), "–" if row["deviation"] is None else row["deviation"]
        lines.append([row["metric"], label, row["value"], deviation, shown, row["seeds"]])
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def show(made: Mapping[str, Any], _: Any) -> None:
    if "folder" in made:  # not a dry run
        print(f"\n{made['table']}\n{made['folder']}: table.md, plot.svg")
