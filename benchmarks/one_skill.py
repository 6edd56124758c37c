"""Does one model for all skills lose accuracy? Compares models of one skill each with the assistant.

    python benchmarks/one_skill.py [--skills letters search word_problems] [--json]

Needs `runs/assistant`. Each model starts from the assistant's pretrained model and trains only on one skill's rows of
the assistant's mixture, for as many steps as they take of its training. Then both are tested on the same test rows. The
assistant is the final one, after PPO and GRPO. About five minutes per skill on two cores; finished runs are reused.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from zero2chat.core.errors import exit_on_mistake
from zero2chat.recipes.recipe import Step, load_recipe
from zero2chat.recipes.runner import environment

RUNS = Path("runs/one_skill")
ASSISTANT = Path("runs/assistant")
# The labels of each skill's rows in the mixture, and of its test rows.
SKILLS = {
    "letters": (("spelling", "spelling_typed"), ("spelling", "spelling_typed")),
    "search": (("facts_search", "not_found"), ("facts_search", "not_found")),
    "word_problems": (("word_problems", "word_problems_tools"), ("word_problems",)),
}


def label(source: Mapping[str, Any]) -> str:
    return str(source.get("label", source["task"]))


def run(step: Step, folder: Path, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics of one of the assistant's steps with other settings."""
    command = replace(step, overrides={**step.overrides, "output_dir": str(folder), **settings}).command()
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run([str(program), *command[1:]], env=environment(step), stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"one_skill: {folder} failed: see its output above")
    metrics: dict[str, dict[str, Any]] = json.loads((folder / "metrics.json").read_text())
    return metrics


def measure(skill: str, steps: Mapping[str, Step]) -> list[dict[str, Any]]:
    """One row per test of the skill: both accuracies, and the assistant's minus the other's with its interval."""
    studied, asked = SKILLS[skill]
    sft, exam = steps["sft"].settings, steps["evaluate"].settings
    rows = [source for source in sft["datasets"] if label(source) in studied]
    share = sum(source["n"] for source in rows) / sum(source["n"] for source in sft["datasets"])
    alone = RUNS / skill / "sft"
    run(steps["sft"], alone, {"datasets": rows, "max_steps": max(1, round(sft["max_steps"] * share))})
    tasks = [task for task in exam["tasks"] if label(task) in asked]
    found = run(
        steps["evaluate"],
        RUNS / skill / "evaluate",
        {
            "model_name_or_path": str(alone),
            "compare_to": str(ASSISTANT / "evaluate"),
            "tasks": tasks,
            "questions": [],
            "question_tools": False,
        },
    )
    whole = json.loads((ASSISTANT / "evaluate" / "metrics.json").read_text())
    table = []
    for name in asked:
        change = found[f"change_{name}"]  # of the model of one skill, from the assistant
        table.append(
            {
                "skill": skill,
                "exam": name,
                "n": found[f"accuracy_{name}"]["n"],
                "alone": found[f"accuracy_{name}"]["value"],
                "assistant": whole[f"accuracy_{name}"]["value"],
                "less": [round(-change[key], 4) for key in ("value", "high", "low")],
            }
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skills", nargs="+", default=list(SKILLS), choices=list(SKILLS))
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    if not (ASSISTANT / "evaluate" / "metrics.json").exists():
        raise SystemExit("one_skill: runs/assistant/evaluate is missing: run `zero2chat run recipes/assistant` first")
    steps = {step.name: step for step in load_recipe("recipes/assistant")}
    table = [row for skill in args.skills for row in measure(skill, steps)]

    print(f"{'skill':<14} {'test':<16} {'n':>4}  {'alone':>6}  {'assistant':>9}  assistant - alone (95%)")
    for row in table:
        less, low, high = row["less"]
        print(
            f"{row['skill']:<14} {row['exam']:<16} {row['n']:>4}  {row['alone']:6.3f}  {row['assistant']:9.3f}  "
            f"{less:+.3f} ({low:+.3f} to {high:+.3f})"
        )
    if args.json:
        print(json.dumps(table))


if __name__ == "__main__":
    with exit_on_mistake():
        main()
