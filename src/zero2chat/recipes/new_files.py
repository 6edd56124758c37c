"""The files that `zero2chat new` writes: a commented YAML for each step, `recipe.yaml` and the README."""

from __future__ import annotations

import math
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zero2chat.recipes.new_exam import Exam
from zero2chat.recipes.new_inputs import Base, Machine, Part, lengths_of
from zero2chat.recipes.recipe import Step

_DOES = {
    "sft": "fine-tunes on {n:,} conversations ({method}), loss on the assistant's tokens only",
    "dpo": "trains on {n:,} preference pairs with DPO ({method}), and measures the accuracy on held-out ones",
    "grpo": "optimizes completions for {n:,} prompts against the rewards with GRPO ({method})",
}


PUBLISH_NOTES = {
    "export": "Written to the folder `exported` of the run.",
    "private": "Only you can see the repository. Set it to false to publish the model, and its `license`.",
}


def _command(step: Step) -> str:
    """Return the command that runs the step, in any folder. The accelerate config is in `recipe.yaml`."""
    return shlex.join(["zero2chat", "run", str(step.config.parent), "--only", step.name])


def step_yaml(step: Step, notes: Mapping[str, str]) -> str:
    """Return a step's YAML: the launch command, and each setting below its note."""
    lines = [f"# {_command(step)}"]
    if step.settings.get("load_in_4bit"):
        lines.append('# Needs bitsandbytes: pip install "zero2chat[qlora]"')
    for key, value in step.settings.items():
        if key in notes:
            lines += textwrap.wrap(notes[key], 120, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        lines.append(yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=1000).rstrip())
    return "\n".join(lines) + "\n"


def recipe_yaml(folder: Path, steps: Sequence[Step], title: str) -> str:
    lines = [f"# zero2chat run {shlex.quote(str(folder))}", "steps:"]
    for step in steps:
        lines += [f"  - name: {step.name}", f"    stage: {step.stage}", f"    config: {step.config.name}"]
        lines += [f"    accelerate_config: {step.accelerate_config}"] if step.accelerate_config != "cpu" else []
        if step.stage == "publish" and any(other.name == "after" for other in steps):
            lines.append("    after: [after]  # the model card has its scores")
    title = yaml.safe_dump({"title": title}, allow_unicode=True, width=1000, default_flow_style=True).strip()
    lines += ["  - name: report", "    stage: report", f"    set: {title}"]
    return "\n".join(lines) + "\n"


def page(
    folder: Path, base: Base, parts: Sequence[Part], steps: Sequence[Step], exam: Exam | None, machine: Machine
) -> str:
    """Return the README, in the form of the recipes' pages."""
    name, run, gpu = folder.name, shlex.quote(str(folder)), shlex.quote(machine.name.lower())
    does = {part.stage: _DOES[part.stage].format(n=part.trained, method=part.method) for part in parts}
    reads = {part.stage: part.paths for part in parts}
    minutes = {part.stage: f"{math.ceil(part.minutes)}, estimated" for part in parts}
    rows = []
    for step in steps:
        model = step.settings["model_name_or_path"]
        inputs = [Path(model).name if model.startswith("runs/") else model, *reads.get(step.stage, [])]
        what = does.get(step.stage) or f"evaluates the model {step.name} training"
        what = _publishes(step.settings) if step.stage == "publish" else what
        read = ", ".join(f"`{path}`" for path in inputs)
        rows.append(f"| `{step.name}` | {what} | {read} | {minutes.get(step.stage, '–')} | `{_command(step)}` |")
    rows.append(
        f"| `report` | writes `runs/{name}/report.html` | all steps | – | `zero2chat run {run} --only report` |"
    )
    data = [f"{', '.join(f'`{path}`' for path in part.paths)} ({part.format}): {lengths_of(part)}." for part in parts]
    data.append(f"Evaluated on {exam.says}." if exam else "`dpo` measures its accuracy on held-out pairs.")
    minutes_of_all = duration(sum(part.minutes for part in parts))
    cost = f"{minutes_of_all} of training, estimated from FLOPs at an MFU of {machine.mfu:.0%}"
    cost += ", without the time to generate completions" if "grpo" in does else ""
    trained = next(step for step in reversed(steps) if step.stage in does)
    # The Hub refuses other letters, `--` and `..`
    repo = re.sub(r"([^A-Za-z0-9_.]|\.{2,})+", "-", name)[:96].strip("-.") or "model"
    model = shlex.quote(str(trained.folder))
    merge = " --merge" if trained.settings.get("use_peft") and not trained.settings.get("merge_adapter") else ""
    published = next((step.settings for step in steps if step.stage == "publish"), {})
    lines = [
        f"# {name}",
        "",
        f"Trains `{base.path}` ({base.parameters:,} parameters) with {', '.join(does)} on your own data"
        f"{', and evaluates it before and after' if exam else ''}. `zero2chat new` wrote this recipe; edit it as you "
        "like.",
        "",
        "## Command",
        "",
        "```bash",
        *([f"zero2chat plan {run} --gpu {gpu} --gpus {machine.ranks}"] if machine.gpu else []),
        f"zero2chat run {run}",
        "```",
        "",
        "## Needs",
        "",
        f"- **Hardware**: {machine.room}; the training takes {max(part.memory for part in parts):.1f} GB, estimated.",
        f"- **Data**: {' '.join(data)}",
        f"- **Cost**: {cost}.",
        "",
        f"Chat template: {base.why}.",
        "",
        "## Steps",
        "",
        f"Each step writes to `runs/{name}/<step>`.",
        "",
        "| step | what it does | reads | minutes | command |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "## Expected scores",
        "",
        "Not measured yet." + (" In `after`, `change_…` is the mean paired difference from `before`." if exam else ""),
        "",
        "## Use it",
        "",
        "```bash",
        f"zero2chat preview --config {shlex.quote(str(folder / f'{parts[0].stage}.yaml'))}",
        f"zero2chat chat {model}",
        *([] if published.get("export") else [f"zero2chat export {model}{merge} --gguf q8_0"]),
        *([] if published.get("repo") else [f"zero2chat push {model} --repo {repo} --dry-run"]),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _publishes(settings: Mapping[str, Any]) -> str:
    export, repo = settings.get("export"), settings.get("repo")
    found = [f"exports the model ({'merged' if export == 'merged' else f'GGUF, {export}'})"] if export else []
    found += [f"pushes {'it' if export else 'the model'} to the Hub as `{repo}`"] if repo else []
    return " and ".join(found)


def duration(minutes: float) -> str:
    if minutes > 100:
        return f"{minutes / 60:.1f} hours"
    return "1 minute" if minutes <= 1 else f"{math.ceil(minutes)} minutes"
