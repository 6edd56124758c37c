"""Write a recipe for an existing model and data of one's own.

    zero2chat new my-recipe --model data/smollm2-135m/model --data chats.jsonl

Rows are read by the stages' own code (`new_inputs.py`), so what a stage would refuse is refused here, before anything
is written. Memory and time are those of `plan.py`; a CPU is planned as one device with the machine's memory.
"""

from __future__ import annotations

import math
import shlex
import shutil
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from zero2chat import stages
from zero2chat.core.errors import UserError
from zero2chat.recipes.new_inputs import Base, Machine, Part, assign, choose_evaluation, find_machine, open_base
from zero2chat.recipes.plan import GB, RESERVE, plan_step
from zero2chat.recipes.recipe import FILE, Step

_LORA = {"use_peft": True, "lora_r": 16, "lora_alpha": 32, "lora_target_modules": "all-linear"}
_METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "LoRA": _LORA,
    "QLoRA": {"load_in_4bit": True, "use_bnb_nested_quant": True, **_LORA, "optim": "paged_adamw_32bit"},
}
_SMALL = 300_000_000  # parameters below which the larger learning rate is used
# Learning rates of this repository's recipes: (full, full of a small model, LoRA, LoRA of a small model)
_RATES = {
    "sft": (2e-5, 1e-4, 2e-4, 5e-4),
    "dpo": (1e-6, 1e-5, 5e-6, 1e-4),
    "grpo": (1e-6, 1e-5, 1e-5, 1e-4),
}
_FULL_ON_CPU = 50_000_000  # larger models get LoRA on a CPU: it needs two thirds of the time
_CPU_MINUTES, _MOST_EPOCHS = 15.0, 3  # a step on a CPU gets as many epochs as fit
_CPU_LENGTH = 1024
_CPU_TOKENS = 2048  # of a micro-batch; more need memory and save no time
_CPU_GRPO_STEPS, _GPU_GRPO_STEPS = 20, 200


# ---- settings


def choose_length(lengths: Sequence[int], context: int, gpu: bool) -> int:
    """Return a `max_length` for 95% of the rows, or for all if the longest are not much longer."""
    ordered = sorted(lengths)
    most, longest = ordered[math.ceil(0.95 * len(ordered)) - 1], ordered[-1]
    chosen = longest if longest <= 1.25 * most else most
    if not gpu:
        chosen = min(chosen, max(_CPU_LENGTH, statistics.median_low(ordered)))
    return min(context, 64 * math.ceil(chosen / 64))


def choose_batch(rows: int) -> int:
    """Return the rows of an optimizer step, so that small data still makes some steps."""
    return next((size for size, most in ((8, 1000), (16, 5000), (32, 20_000), (64, 100_000)) if rows < most), 128)


def _lengths(part: Part, base: Base, machine: Machine) -> list[int]:
    """Return the lengths to try, longest first: of a completion, or of rows, where each holds half of them."""
    if part.stage == "grpo":
        room = base.context - max(part.lengths)
        if room < 64:
            raise UserError(
                f"{part.paths}: a prompt of {max(part.lengths)} tokens, and the model's context is {base.context}: "
                "remove such rows"
            )
        return [min(512 if machine.gpu else 128, room)]
    half = statistics.median_low(part.lengths)
    if half > base.context:
        raise UserError(f"{part.paths}: half of the rows have over {base.context} tokens, the model's context")
    longest = choose_length(part.lengths, base.context, machine.gpu)
    return [length for length in dict.fromkeys((longest, longest // 2, longest // 4)) if length >= half]


def choose_step(part: Part, base: Base, folder: Path, before: Sequence[Step], machine: Machine, followed: bool) -> Step:
    """Choose length, method, batch and epochs so that the step fits the machine, and return the step.

    Raises `UserError` if no method fits, even with a length that only half of the rows have.
    """
    settings: dict[str, Any] = {"output_dir": f"runs/{folder.name}/{part.stage}"}
    settings["model_name_or_path"] = str(before[-1].folder) if before else base.path
    if base.template and not before:
        settings["chat_template_path"] = base.template
        part.notes["chat_template_path"] = f"{base.why}."
    settings["datasets"] = part.sources
    batch = choose_batch(part.trained) if part.stage != "grpo" else 64 if machine.gpu else 32
    methods = list(_METHODS) if machine.gpu else ["LoRA"] if base.parameters >= _FULL_ON_CPU else ["full", "LoRA"]
    ways = [(method, again) for method in methods for again in ((True,) if machine.gpu else (False, True))]
    peaks: list[float] = []
    for length in _lengths(part, base, machine):
        for method, again in ways:
            made = settings | _of_stage(part, length, machine) | _METHODS[method]
            if method != "full":
                made |= {"dtype": "bfloat16"} if machine.gpu else {}
                made |= {"merge_adapter": True} if part.stage != "dpo" and followed else {}
            elif part.stage == "dpo":
                made["precompute_ref_log_probs"] = True
            made |= {"global_batch_size": batch, "per_device_train_batch_size": 1, "gradient_checkpointing": again}
            step = Step(part.stage, part.stage, folder / f"{part.stage}.yaml", (), "cpu", {}, made)
            planned = _plan(part, step, before, machine)
            if planned["config"]:
                _finish(part, step, planned, before, machine, method, length)
                return step
            peaks += [found["peak"] for found in planned["memory"].values()]
    free = machine.memory * (1 - RESERVE) * machine.device.memory / GB
    raise UserError(
        f"{base.path}: {base.parameters / 1e9:.2g} billion parameters do not fit {machine.label}: {part.stage} with "
        f"{methods[-1]} needs {machine.memory * min(peaks):.1f} GB of {free:.1f}: give a smaller model or larger --gpu"
    )


def _plan(part: Part, step: Step, before: Sequence[Step], machine: Machine) -> dict[str, Any]:
    prompt = max(part.lengths) if part.stage == "grpo" else None
    return plan_step(step, [*before, step], machine.device, machine.ranks, 1, machine.mfu, None, prompt)


def _of_stage(part: Part, length: int, machine: Machine) -> dict[str, Any]:
    """Return the settings that only this stage has. `length` is max_length, or that of a completion."""
    if part.stage == "grpo":
        sampled = {"num_generations": 8, "max_completion_length": length, "temperature": 1.0}
        part.notes["log_completions"] = "Each logged step prints two completions, and keeps all in `completions/`."
        return part.settings | sampled | {"log_completions": True, "num_completions_to_print": 2}
    own: dict[str, Any] = {"max_length": length, "train_sampling_strategy": "group_by_length"}
    own |= {"overlong": "drop"} if max(part.lengths) > length else {}
    if part.stage == "dpo":
        # About 30 held-out pairs of small data, a twentieth of large data
        own |= {"test_fraction": round(min(0.3, max(0.05, 30 / part.trained)), 2), "equal": "drop", "beta": 0.1}
        own["eval_batch_size"] = 8 if machine.gpu else 2
    return own


def _finish(
    part: Part,
    step: Step,
    planned: Mapping[str, Any],
    before: Sequence[Step],
    machine: Machine,
    method: str,
    length: int,
) -> None:
    """Add the step's micro-batch, number of steps and learning rate, and note why they were chosen."""
    launch, settings, batch = planned["config"], step.settings, step.settings["global_batch_size"]
    most = min(batch // machine.ranks, planned["memory"][launch]["largest_micro_batch"], 32)
    if not machine.gpu:
        row = length + (max(part.lengths) if part.stage == "grpo" else 0)
        most = min(most, 8, max(1, _CPU_TOKENS // row))
    settings["per_device_train_batch_size"] = 2 ** int(math.log2(most))
    step.accelerate_config = launch if machine.gpu else "cpu"
    again = _plan(part, step, before, machine)
    memory, rate = machine.memory * again["memory"][launch]["peak"], again["tokens_per_second"] * 60
    if part.stage == "grpo":
        groups = batch // settings["num_generations"]
        count = max(1, min(part.trained // groups, _GPU_GRPO_STEPS if machine.gpu else _CPU_GRPO_STEPS))
        minutes = count * batch * (statistics.mean(part.tokens) + length) / rate
        settings |= {"max_steps": count, "lr_scheduler_type": "constant_with_warmup"}
        why = f"{count} steps of {groups} prompts with {settings['num_generations']} completions each"
    else:
        kept = [n for n, longest in zip(part.tokens, part.lengths, strict=True) if longest <= length]
        over = len(part.lengths) - len(kept)
        rows = max(1, round((len(kept) - part.held_out) * (1 - settings.get("test_fraction", 0.0))))
        epoch = rows * statistics.mean(kept) / rate  # minutes
        epochs = _MOST_EPOCHS if part.trained < 10_000 and part.stage == "sft" else 1
        epochs = epochs if machine.gpu else max(1, min(epochs, int(_CPU_MINUTES / epoch)))
        count, minutes = epochs * math.ceil(rows / batch), epochs * epoch
        settings |= {"num_train_epochs": epochs, "lr_scheduler_type": "cosine"}
        why = f"{epochs} epoch{'s' * (epochs > 1)} of {rows:,} {part.unit} in {count:,} steps"
        part.notes["max_length"] = f"{part.described()}; {over:,} longer than max_length are dropped."
    cost = f"about {_duration(minutes)}{', without generation' if part.stage == 'grpo' else ''}, {memory:.1f} GB"
    part.notes["global_batch_size"] = f"{why}: {cost}, estimated at an MFU of {machine.mfu:.0%}."
    rates = _RATES[part.stage][0 if method == "full" else 2 :]
    settings |= {
        "learning_rate": rates[planned["parameters"] < _SMALL],
        "warmup_steps": max(1, count // 20),
        "weight_decay": 0.0,
        "logging_steps": max(1, count // 50),
        "save_strategy": "steps",
        "save_steps": max(1, math.ceil(count / 4)),
        "save_total_limit": 2,
        "disable_tqdm": True,
        "seed": 0,
    }
    if method != "full":
        needs = "two thirds of the time" if not machine.gpu else f"memory that fits {machine.label}"
        part.notes["use_peft"] = f"{method} needs {needs}; full fine-tuning needs more."
    part.summary = {"data": part.paths, "rows": part.described(), "method": method, "gigabytes": round(memory, 2)}
    part.summary |= {"minutes": round(minutes, 1), "cost": cost, "accelerate_config": step.accelerate_config}


def _duration(minutes: float) -> str:
    if minutes > 100:
        return f"{minutes / 60:.1f} hours"
    return "1 minute" if minutes <= 1 else f"{math.ceil(minutes)} minutes"


# ---- the folder


def _with_evaluation(training: list[Step], entry: dict[str, Any], base: Base, folder: Path, gpu: bool) -> list[Step]:
    """Return the steps with an evaluation of the model before them and one after them."""
    last = training[-1].settings
    steps = []
    for name, model in (("before", base.path), ("after", last["output_dir"])):
        settings: dict[str, Any] = {"output_dir": f"runs/{folder.name}/{name}", "model_name_or_path": model}
        settings |= {"chat_template_path": base.template} if name == "before" and base.template else {}
        settings |= {"compare_to": f"runs/{folder.name}/before"} if name == "after" else {}
        settings |= {"datasets": [entry], "eval_batch_size": 32}
        settings |= {key: last[key] for key in ("dtype", "load_in_4bit") if gpu and key in last}
        stages.load("evaluate").build(settings, f"{folder / name}.yaml")
        launch = "single_gpu" if gpu else "cpu"
        steps.append(Step(name, "evaluate", folder / f"{name}.yaml", (), launch, {}, settings))
    return [steps[0], *training, steps[1]]


def _step_yaml(step: Step, notes: Mapping[str, str]) -> str:
    """Return a step's YAML: the command, and each setting below its note."""
    lines = [f"# {shlex.join(['zero2chat', 'run', str(step.config.parent), '--only', step.name])}"]
    if step.settings.get("load_in_4bit"):
        lines.append('# Needs bitsandbytes: pip install "zero2chat[qlora]"')
    for key, value in step.settings.items():
        lines += textwrap.wrap(notes.get(key, ""), 118, initial_indent="# ", subsequent_indent="# ")
        lines.append(yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=1000).rstrip())
    return "\n".join(lines) + "\n"


def _recipe_yaml(folder: Path, steps: Sequence[Step], title: str) -> str:
    listed: list[dict[str, Any]] = [
        {
            "name": step.name,
            "stage": step.stage,
            "config": step.config.name,
            "accelerate_config": step.accelerate_config,
        }
        for step in steps
    ]
    listed.append({"name": "report", "stage": "report", "set": {"title": title}})
    text = yaml.safe_dump({"steps": listed}, sort_keys=False, allow_unicode=True, width=1000)
    return f"# zero2chat run {shlex.quote(str(folder))}\n{text}"


_PAGE = """# {name}

`zero2chat new` wrote this recipe; edit it as you like. Each step writes to `runs/{name}/<step>`.

{summary}

## Command

```bash
{commands}
```
"""


def _page(folder: Path, parts: Sequence[Part], steps: Sequence[Step], machine: Machine, summary: Sequence[str]) -> str:
    run, last = shlex.quote(str(folder)), next(step for step in reversed(steps) if step.trains)
    model = shlex.quote(str(last.folder))
    merge = " --merge" if last.settings.get("use_peft") and not last.settings.get("merge_adapter") else ""
    commands = [
        *([f"zero2chat plan {run} --gpu {machine.name} --gpus {machine.ranks}"] if machine.gpu else []),
        f"zero2chat preview --config {shlex.quote(str(folder / f'{parts[0].stage}.yaml'))}",
        f"zero2chat run {run}",
        *(f"zero2chat run {run} --only {step.name}" for step in steps),
        f"zero2chat chat {model}",
        f"zero2chat export {model}{merge} --gguf q8_0",
        f"zero2chat push {model} --repo me/my-model --dry-run",
    ]
    listed = "\n".join(f"- {line}" for line in summary)
    return _PAGE.format(name=folder.name, summary=listed, commands="\n".join(commands))


def new(
    recipe: str,
    model: str,
    data: Sequence[str],
    held_out: str | None = None,
    steps: str = "",
    gpu: str | None = None,
    gpus: int | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Write the recipe, unless `dry_run`, and return what was seen and chosen, with the files' texts.

    Raises `UserError`, with nothing written, for a folder that exists and for what the stages would refuse.
    """
    folder = Path(recipe)
    if folder.exists() or Path("runs", folder.name).exists():
        raise UserError(f"{recipe}: exists already, here or in runs/: give another name")
    if not folder.name or not folder.parent.is_dir():
        raise UserError(f"{recipe}: no folder {folder.parent}: create it first")
    if "" in (*data, held_out):
        raise UserError("--data or --eval: the path is empty: give a file, a folder or a Hub dataset")
    if held_out is not None and Path(held_out).resolve() in [Path(path).resolve() for path in data]:
        raise UserError(f"--eval {held_out}: it is trained on: leave --eval out, and the last rows are held out")
    machine = find_machine(gpu, gpus)
    parts = assign(data, [step.strip() for step in steps.split(",") if step.strip()])
    base = open_base(model, parts)
    entry = choose_evaluation(parts, held_out, base, 500 if machine.gpu else 100)
    made: list[Step] = []
    for i, part in enumerate(parts):
        made.append(choose_step(part, base, folder, made, machine, followed=i + 1 < len(parts)))
    summary = [f"Model: `{model}`, {base.parameters:,} parameters, chat template: {base.why}"]
    summary += [f"Planned for {machine.label}"]
    summary += [f"`{p.stage}` on {p.paths}: {p.described()}. {p.summary['method']}, {p.summary['cost']}" for p in parts]
    if entry is not None:
        made = _with_evaluation(made, entry, base, folder, machine.gpu)
        summary += [f"`before` and `after` evaluate on rows that no step trains on: {entry['path']}, {entry['split']}"]
    files = {"README.md": _page(folder, parts, made, machine, summary)}
    files[FILE] = _recipe_yaml(folder, made, f"{model} on {', '.join(Path(path).name for path in data)}")
    notes = {part.stage: part.notes for part in parts}
    files |= {step.config.name: _step_yaml(step, notes.get(step.stage, {})) for step in made}
    if not dry_run:
        _write(folder, files)
    figures = {part.stage: part.summary for part in parts}
    return {"recipe": recipe, "written": not dry_run, "summary": summary, "steps": figures, "files": files}


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Write the folder: with all files, or not at all."""
    try:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error


def show(made: Mapping[str, Any], console: Console) -> None:
    """Print what was seen and chosen, and the files or their names."""
    lines = list(made["summary"])
    if made["written"]:
        run = f"zero2chat run {shlex.quote(made['recipe'])}"
        lines.append(f"wrote {made['recipe']}: {', '.join(made['files'])}. Run it: {run}")
    else:
        lines += [f"\n==> {made['recipe']}/{name} <==\n{text.rstrip()}" for name, text in made["files"].items()]
    console.print(Text("\n".join(lines)), soft_wrap=True)
