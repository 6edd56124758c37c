"""Write a recipe for an existing model and data of one's own.

    zero2chat new my-recipe --model data/smollm2-135m/model --data chats.jsonl

Rows are read by the stages' own code (`new_inputs.py`), so what a stage would refuse is refused here, before anything
is written. Memory is that of `plan.py`; a CPU is planned as one device with the machine's memory.
"""

from __future__ import annotations

import itertools
import math
import shlex
import statistics
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
_CPU_LENGTH, _CPU_BATCH = 1024, 4  # larger micro-batches need memory and save no time
_CPU_GRPO_STEPS, _GPU_GRPO_STEPS = 20, 200


# ---- settings


def percentile_95(lengths: Sequence[int]) -> int:
    return sorted(lengths)[math.ceil(0.95 * len(lengths)) - 1]


def choose_length(lengths: Sequence[int], context: int, gpu: bool) -> int:
    """Return a `max_length` for 95% of the rows, or for all if the longest are not much longer."""
    most, longest = percentile_95(lengths), max(lengths)
    chosen = longest if longest <= 1.25 * most else most
    if not gpu:
        chosen = min(chosen, max(_CPU_LENGTH, statistics.median_low(lengths)))
    return min(context, 64 * math.ceil(chosen / 64))


def choose_batch(rows: int) -> int:
    """Return the rows of an optimizer step, so that small data still makes some steps."""
    return next((size for size, most in ((8, 1000), (16, 5000), (32, 20_000), (64, 100_000)) if rows < most), 128)


def choose_step(part: Part, base: Base, folder: Path, before: Sequence[Step], machine: Machine, followed: bool) -> Step:
    """Choose length, method, batch and epochs so that the step fits the machine, and return the step.

    Raises `UserError` if no method fits.
    """
    if statistics.median_low(part.lengths) > base.context:
        raise UserError(f"{part.paths}: half of the rows have over {base.context} tokens, the model's context")
    settings: dict[str, Any] = {"output_dir": f"runs/{folder.name}/{part.stage}"}
    settings["model_name_or_path"] = str(before[-1].folder) if before else base.path
    settings |= {"chat_template_path": base.template} if base.template and not before else {}
    settings |= {"datasets": part.sources} | _of_stage(part, base, machine.gpu) | {"per_device_train_batch_size": 1}
    prompt = max(part.lengths) if part.stage == "grpo" else None
    methods = list(_METHODS) if machine.gpu else ["LoRA"] if base.parameters >= _FULL_ON_CPU else ["full", "LoRA"]
    for method, again in itertools.product(methods, (True,) if machine.gpu else (False, True)):
        made = settings | {"gradient_checkpointing": again} | _METHODS[method]
        if method == "full":
            made |= {"precompute_ref_log_probs": True} if part.stage == "dpo" else {}
        else:
            made |= {"dtype": "bfloat16"} if machine.gpu else {}
            made |= {"merge_adapter": True} if part.stage != "dpo" and followed else {}
        step = Step(part.stage, part.stage, folder / f"{part.stage}.yaml", (), "cpu", {}, made)
        plan = plan_step(step, [*before, step], machine.device, machine.ranks, 1, 0.4, prompt)
        if launch := plan["config"]:
            break
    else:
        needed = min(memory["peak"] for memory in plan["memory"].values())
        raise UserError(
            f"{base.path}: {base.parameters / 1e9:.2g} billion parameters do not fit {machine.label}: {part.stage} "
            f"with {method} needs {needed:.1f} GB, and {RESERVE:.0%} stay free: give a smaller model, or a larger --gpu"
        )
    memory = plan["memory"][launch]
    made["per_device_train_batch_size"] = min(memory["largest_micro_batch"], 32 if machine.gpu else _CPU_BATCH)
    step.accelerate_config = launch if machine.gpu else "cpu"
    batches = math.ceil(part.trained / made["global_batch_size"])
    steps = made.get("max_steps") or batches * made["num_train_epochs"]
    made |= {
        "learning_rate": _RATES[part.stage][0 if method == "full" else 2 :][base.parameters < _SMALL],
        "lr_scheduler_type": "constant_with_warmup" if part.stage == "grpo" else "cosine",
        "warmup_steps": max(1, steps // 20),
        "logging_steps": max(1, steps // 50),
        "save_strategy": "steps",
        "save_steps": max(1, math.ceil(steps / 4)),
        "save_total_limit": 2,
        "disable_tqdm": True,
        "seed": 0,
    }
    rows = f"{len(part.lengths):,} {part.unit}, 95% of at most {percentile_95(part.lengths):,} tokens"
    part.summary = {"rows": rows, "method": method, "gigabytes": memory["peak"]}
    part.summary["accelerate_config"] = step.accelerate_config
    return step


def _of_stage(part: Part, base: Base, gpu: bool) -> dict[str, Any]:
    """Return batch, length and duration, and the settings that only this stage has."""
    if part.stage == "grpo":
        batch, length = 64 if gpu else 32, min(512 if gpu else 128, base.context - max(part.lengths))
        steps = max(1, min(part.trained * 8 // batch, _GPU_GRPO_STEPS if gpu else _CPU_GRPO_STEPS))
        own: dict[str, Any] = {
            "num_generations": 8,
            "max_completion_length": length,
            "global_batch_size": batch,
            "max_steps": steps,
        }
        return own | part.settings | {"log_completions": True, "num_completions_to_print": 2}
    length = choose_length(part.lengths, base.context, gpu)
    own = {"max_length": length, "train_sampling_strategy": "group_by_length"}
    own |= {"overlong": "drop"} if max(part.lengths) > length else {}
    own |= {"beta": 0.1, "eval_batch_size": 8 if gpu else 2} if part.stage == "dpo" else {}
    epochs = 3 if gpu and part.trained < 10_000 and part.stage == "sft" else 1
    return own | part.settings | {"global_batch_size": choose_batch(part.trained), "num_train_epochs": epochs}


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


def _yaml(settings: Any, *comments: str) -> str:
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=1000)
    return "".join(f"# {comment}\n" for comment in comments) + text


def _files(folder: Path, steps: Sequence[Step], title: str, summary: Sequence[str]) -> dict[str, str]:
    """Return the texts of the recipe and of its steps' YAMLs."""
    run = f"zero2chat run {shlex.quote(str(folder))}"
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
    files = {FILE: _yaml({"steps": listed}, run, *summary)}
    return files | {step.config.name: _yaml(step.settings, f"{run} --only {step.name}") for step in steps}


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
    entry = choose_evaluation(parts, held_out, 500 if machine.gpu else 100)
    made: list[Step] = []
    for i, part in enumerate(parts):
        made.append(choose_step(part, base, folder, made, machine, followed=i + 1 < len(parts)))
    template = base.template or "the model's own"
    summary = [
        f"Model: {model}, {base.parameters:,} parameters, chat template: {template}. Planned for {machine.label}"
    ]
    for part in parts:
        method = f"{part.summary['method']}, {part.summary['gigabytes']:.1f} GB per device at a micro-batch of 1"
        summary.append(f"{part.stage} on {part.paths}: {part.summary['rows']}; {part.dropped}{method}")
    if entry is not None:
        made = _with_evaluation(made, entry, base, folder, machine.gpu)
        summary.append(f"before and after evaluate on {entry['path']}, {entry['split']}")
    files = _files(folder, made, f"{model} on {', '.join(Path(path).name for path in data)}", summary)
    if not dry_run:
        try:
            folder.mkdir()
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    figures = {part.stage: part.summary for part in parts}
    return {"recipe": recipe, "written": not dry_run, "summary": summary, "steps": figures, "files": files}


def show(made: Mapping[str, Any], console: Console) -> None:
    """Print what was seen and chosen, and the files or their names."""
    lines = list(made["summary"])
    if made["written"]:
        run = f"zero2chat run {shlex.quote(made['recipe'])}"
        lines.append(f"wrote {made['recipe']}: {', '.join(made['files'])}. Run it: {run}")
    else:
        lines += [f"\n==> {made['recipe']}/{name} <==\n{text.rstrip()}" for name, text in made["files"].items()]
    console.print(Text("\n".join(lines)), soft_wrap=True)
