"""Write a recipe for an existing model and data of one's own.

    zero2chat new my-recipe --model data/smollm2-135m/model --data chats.jsonl

Rows are read by the stages' own code (`new_inputs.py`), so what a stage would refuse is refused here, before anything
is written. Memory and time are those of `plan.py`; a CPU is planned as one device with the machine's memory.
"""

from __future__ import annotations

import itertools
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

from zero2chat.core.errors import UserError
from zero2chat.recipes.new_inputs import Base, Machine, Part, assign, choose_evaluation, find_machine, open_base
from zero2chat.recipes.plan import RESERVE, plan_step
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


def choose_step(part: Part, base: Base, folder: Path, before: Sequence[Step], machine: Machine, followed: bool) -> Step:
    """Choose length, method, batch and epochs so that the step fits the machine, and return the step.

    Raises `UserError` if no method fits.
    """
    longest, grpo = max(part.lengths), part.stage == "grpo"
    length = choose_length(part.lengths, base.context, machine.gpu)  # of rows, or of completions
    if grpo:
        length = min(512 if machine.gpu else 128, base.context - longest)
    if statistics.median_low(part.lengths) > base.context:
        raise UserError(f"{part.paths}: half of the rows have over {base.context} tokens, the model's context")
    settings: dict[str, Any] = {"output_dir": f"runs/{folder.name}/{part.stage}"}
    settings["model_name_or_path"] = str(before[-1].folder) if before else base.path
    settings |= {"chat_template_path": base.template} if base.template and not before else {}
    settings |= {"datasets": part.sources} | _of_stage(part, length, machine.gpu)
    batch = choose_batch(part.trained) if not grpo else 64 if machine.gpu else 32
    settings |= {"global_batch_size": batch, "per_device_train_batch_size": 1}

    def planned(step: Step) -> dict[str, Any]:
        prompt = longest if grpo else None
        return plan_step(step, [*before, step], machine.device, machine.ranks, 1, machine.mfu, prompt)

    methods = list(_METHODS) if machine.gpu else ["LoRA"] if base.parameters >= _FULL_ON_CPU else ["full", "LoRA"]
    for method, again in itertools.product(methods, (True,) if machine.gpu else (False, True)):
        made = settings | {"gradient_checkpointing": again} | _METHODS[method]
        if method == "full":
            made |= {"precompute_ref_log_probs": True} if part.stage == "dpo" else {}
        else:
            made |= {"dtype": "bfloat16"} if machine.gpu else {}
            made |= {"merge_adapter": True} if part.stage != "dpo" and followed else {}
        step = Step(part.stage, part.stage, folder / f"{part.stage}.yaml", (), "cpu", {}, made)
        plan = planned(step)
        if launch := plan["config"]:
            break
    else:
        needed = machine.memory * min(found["peak"] for found in plan["memory"].values())
        raise UserError(
            f"{base.path}: {base.parameters / 1e9:.2g} billion parameters do not fit {machine.label}: {part.stage} "
            f"with {method} needs {needed:.1f} GB, and {RESERVE:.0%} stay free: give a smaller model, or a larger --gpu"
        )
    most = min(batch // machine.ranks, plan["memory"][launch]["largest_micro_batch"], 32)
    if not machine.gpu:
        most = min(most, 8, max(1, _CPU_TOKENS // (length + longest * grpo)))
    made["per_device_train_batch_size"] = 2 ** int(math.log2(most))
    step.accelerate_config = launch if machine.gpu else "cpu"
    memory = machine.memory * planned(step)["memory"][launch]["peak"]
    minutes, steps, why = _duration(part, made, length, plan["tokens_per_second"] * 60, machine.gpu)
    made |= {
        "learning_rate": _RATES[part.stage][0 if method == "full" else 2 :][base.parameters < _SMALL],
        "lr_scheduler_type": "constant_with_warmup" if grpo else "cosine",
        "warmup_steps": max(1, steps // 20),
        "logging_steps": max(1, steps // 50),
        "save_strategy": "steps",
        "save_steps": max(1, math.ceil(steps / 4)),
        "save_total_limit": 2,
        "disable_tqdm": True,
        "seed": 0,
    }
    time = f"{minutes / 60:.1f} hours" if minutes > 100 else f"{math.ceil(minutes)} min"
    cost = f"{method}, about {time}{' without generation' if grpo else ''}, {memory:.1f} GB"
    part.notes["global_batch_size"] = f"{why}: {cost}, estimated at an MFU of {machine.mfu:.0%}."
    part.summary = {"data": part.paths, "rows": part.described(), "method": method, "gigabytes": round(memory, 2)}
    part.summary |= {"minutes": round(minutes, 1), "cost": cost, "accelerate_config": step.accelerate_config}
    return step


def _of_stage(part: Part, length: int, gpu: bool) -> dict[str, Any]:
    """Return the settings that only this stage has. `length` is max_length, or that of a completion."""
    if part.stage == "grpo":
        part.notes["log_completions"] = "Each logged step prints two completions, and keeps all in `completions/`."
        shown = {"log_completions": True, "num_completions_to_print": 2}
        return part.settings | {"num_generations": 8, "max_completion_length": length} | shown
    over = sum(n > length for n in part.lengths)
    part.notes["max_length"] = f"{part.described()}; {over:,} longer than max_length are dropped."
    own = {"max_length": length, "train_sampling_strategy": "group_by_length"} | ({"overlong": "drop"} if over else {})
    own |= {"beta": 0.1, "eval_batch_size": 8 if gpu else 2} if part.stage == "dpo" else {}
    return own | part.settings


def _duration(part: Part, settings: dict[str, Any], length: int, rate: float, gpu: bool) -> tuple[float, int, str]:
    """Set the number of steps or epochs, and return (minutes, steps, a sentence). `rate` is in tokens per minute."""
    batch = settings["global_batch_size"]
    if part.stage == "grpo":
        groups = batch // settings["num_generations"]
        steps = max(1, min(part.trained // groups, _GPU_GRPO_STEPS if gpu else _CPU_GRPO_STEPS))
        settings["max_steps"] = steps
        minutes = steps * batch * (statistics.mean(part.tokens) + length) / rate
        return minutes, steps, f"{steps} steps of {groups} prompts with {settings['num_generations']} completions each"
    kept = [n for n, longest in zip(part.tokens, part.lengths, strict=True) if longest <= length]
    rows = max(1, len(kept) - part.held_out)
    epoch = rows * statistics.mean(kept) / rate
    epochs = _MOST_EPOCHS if part.trained < 10_000 and part.stage == "sft" else 1
    epochs = epochs if gpu else max(1, min(epochs, int(_CPU_MINUTES / epoch)))
    settings["num_train_epochs"] = epochs
    steps = epochs * math.ceil(rows / batch)
    return epochs * epoch, steps, f"{epochs} epoch{'s' * (epochs > 1)} of {rows:,} {part.unit} in {steps:,} steps"


# ---- the folder


def _with_evaluation(training: list[Step], entry: dict[str, Any], base: Base, folder: Path, gpu: bool) -> list[Step]:
    """Return the steps with an evaluation of the model before them and one after them."""
    last, runs = training[-1].settings, f"runs/{folder.name}"
    # The data's other rows may have the same prompts: the evaluation counts them.
    trained = [source for step in training for source in step.settings["datasets"]]
    common = {"datasets": [entry], "contamination": trained, "eval_batch_size": 32}
    common |= {key: last[key] for key in ("dtype", "load_in_4bit") if gpu and key in last}
    before = {"output_dir": f"{runs}/before", "model_name_or_path": base.path} | common
    before |= {"chat_template_path": base.template} if base.template else {}
    after = {"output_dir": f"{runs}/after", "model_name_or_path": last["output_dir"], "compare_to": f"{runs}/before"}
    launch = "single_gpu" if gpu else "cpu"
    first, final = (
        Step(name, "evaluate", folder / f"{name}.yaml", (), launch, {}, settings)
        for name, settings in (("before", before), ("after", after | common))
    )
    first.arguments()  # raises what the stage would refuse
    return [first, *training, final]


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
    listed: list[dict[str, Any]] = [{"name": "report", "stage": "report", "set": {"title": title}}]
    for step in reversed(steps):
        entry = {"name": step.name, "stage": step.stage, "config": step.config.name}
        listed.insert(0, entry | {"accelerate_config": step.accelerate_config})
    text = yaml.safe_dump({"steps": listed}, sort_keys=False, allow_unicode=True, width=1000)
    return f"# zero2chat run {shlex.quote(str(folder))}\n{text}"


def _page(folder: Path, parts: Sequence[Part], steps: Sequence[Step], machine: Machine, summary: Sequence[str]) -> str:
    """Return the README: what was seen and chosen, and the commands."""
    run, last = shlex.quote(str(folder)), next(step for step in reversed(steps) if step.trains)
    model = shlex.quote(str(last.folder))
    merge = " --merge" if last.settings.get("use_peft") and not last.settings.get("merge_adapter") else ""
    commands = [
        *([f"zero2chat plan {run} --gpu {shlex.quote(machine.name)} --gpus {machine.ranks}"] if machine.gpu else []),
        f"zero2chat preview --config {shlex.quote(str(folder / f'{parts[0].stage}.yaml'))}",
        f"zero2chat run {run}",
        *(f"zero2chat run {run} --only {step.name}" for step in steps),
        f"zero2chat chat {model}",
        f"zero2chat export {model}{merge} --gguf q8_0",
        f"zero2chat push {model} --repo me/my-model --dry-run",
    ]
    about = f"`zero2chat new` wrote this recipe; edit it as you like. Each step writes to `runs/{folder.name}/<step>`."
    listed = [f"- {line}" for line in summary]
    return "\n".join([f"# {folder.name}\n", about, "", *listed, "\n## Command\n\n```bash", *commands, "```", ""])


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
    summary += [f"`{part.stage}` on {part.paths}: {part.described()}; {part.summary['cost']}" for part in parts]
    summary += [f"Planned for {machine.label}"]
    if entry is not None:
        made = _with_evaluation(made, entry, base, folder, machine.gpu)
        untrained = ", which no step trains on" if held_out is None else ""
        summary += [f"`before` and `after` evaluate on {entry['path']}, {entry['split']}{untrained}"]
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
        try:
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
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
