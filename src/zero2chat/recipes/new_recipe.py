"""Write a recipe for an existing model and data of one's own.

    zero2chat new my-recipe --model data/smollm2-135m/model --data chats.jsonl

Model, chat template and rows are read by the stages' own code, so what a stage would refuse is refused here, before
anything is written. Memory and time are those of `plan.py`; a CPU is planned as one device with the machine's memory.
"""

from __future__ import annotations

import math
import shlex
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from zero2chat import stages
from zero2chat.core.errors import UserError
from zero2chat.hub.export import require_packages
from zero2chat.hub.push import check_names
from zero2chat.recipes.new_exam import Exam, choose_exam
from zero2chat.recipes.new_files import PUBLISH_NOTES, duration, page, recipe_yaml, step_yaml
from zero2chat.recipes.new_inputs import Base, Machine, Part, assign, find_machine, lengths_of, measure, open_base
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


# ---- what is chosen


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


def _ways(machine: Machine, parameters: int) -> list[tuple[str, bool]]:
    """Return (method, gradient checkpointing), in the order in which they are tried."""
    if machine.gpu:
        return [(method, True) for method in _METHODS]
    methods = ("full", "LoRA") if parameters < _FULL_ON_CPU else ("LoRA",)
    return [(method, again) for method in methods for again in (False, True)]


def choose(part: Part, base: Base, folder: Path, before: Sequence[Step], machine: Machine, followed: bool) -> Step:
    """Choose length, method, batch and epochs so that the step fits the machine, and return the step.

    Raises `UserError` if no method fits, even with a length that only half of the rows have.
    """
    settings: dict[str, Any] = {"output_dir": f"runs/{folder.name}/{part.stage}"}
    settings["model_name_or_path"] = str(before[-1].folder) if before else base.path
    if base.template and not before:
        settings["chat_template_path"] = base.template
        why = base.why.partition("; ")[2]
        part.notes["chat_template_path"] = f"{why[0].upper()}{why[1:]}."
    settings["datasets"] = part.sources()
    if part.dropped:
        part.notes["datasets"] = f"{'; '.join(part.dropped.values())}."
    batch = choose_batch(part.trained) if part.stage != "grpo" else 64 if machine.gpu else 32
    step: Step | None = None
    for length in _lengths(part, base, machine):
        for method, again in _ways(machine, base.parameters):
            made = settings | _of_stage(part, length, machine) | _METHODS[method]
            if method != "full" and machine.gpu:
                made["dtype"] = "bfloat16"
            if method != "full" and part.stage != "dpo" and followed:
                made["merge_adapter"] = True
            if method == "full" and part.stage == "dpo":
                made["precompute_ref_log_probs"] = True
            made |= {"global_batch_size": batch, "per_device_train_batch_size": 1, "gradient_checkpointing": again}
            step = Step(part.stage, part.stage, folder / f"{part.stage}.yaml", (), "cpu", {}, made)
            planned = _plan(part, step, before, machine)
            if planned["config"]:
                _finish(part, step, planned, base, before, machine, method, length)
                return step
    assert step is not None
    least = machine.memory * min(found["peak"] for found in _plan(part, step, before, machine)["memory"].values())
    free = machine.memory * (1 - RESERVE) * machine.device.memory / GB
    raise UserError(
        f"{base.path}: {base.parameters / 1e9:.2g} billion parameters do not fit {machine.room}: {part.stage} with "
        f"{method} and rows of {length} tokens needs {least:.1f} GB of {free:.1f}: "
        "give a smaller model, or a larger --gpu"
    )


def _plan(part: Part, step: Step, before: Sequence[Step], machine: Machine) -> dict[str, Any]:
    prompt = max(part.lengths) if part.stage == "grpo" else None
    return plan_step(step, [*before, step], machine.device, machine.ranks, 1, machine.mfu, None, prompt)


def _lengths(part: Part, base: Base, machine: Machine) -> list[int]:
    """Return the lengths to try, longest first; each holds at least half of the rows."""
    if part.stage == "grpo":
        room = base.context - max(part.lengths)
        if room < 64:
            raise UserError(
                f"{', '.join(part.paths)}: row {part.lengths.index(max(part.lengths))} has a prompt of "
                f"{max(part.lengths)} tokens, and the model's context is {base.context}: remove such rows"
            )
        return [min(512 if machine.gpu else 128, room)]
    longest = choose_length(part.lengths, base.context, machine.gpu)
    half = statistics.median_low(part.lengths)
    if half > base.context:
        raise UserError(
            f"{', '.join(part.paths)}: half of the rows have over {base.context} tokens, the model's context"
        )
    return sorted({length for length in (longest, longest // 2, longest // 4) if length >= half}, reverse=True)


def _of_stage(part: Part, length: int, machine: Machine) -> dict[str, Any]:
    """Return the settings that only this stage has. `length` is max_length, or that of a completion."""
    if part.stage == "grpo":
        sampled = {"num_generations": 8, "max_completion_length": length, "temperature": 1.0}
        shown = {"log_completions": True, "num_completions_to_print": 2}
        part.notes["log_completions"] = "Each logged step prints two completions, and keeps all in `completions/`."
        return {"rewards": part.settings["rewards"], **sampled, **shown}
    own: dict[str, Any] = {"max_length": length}
    if max(part.lengths) > length or len(part.lengths) < part.n:  # rows that were not measured may be longer
        own["overlong"] = "drop"
    if part.stage == "sft":
        own["packing"] = False
    else:
        # About 30 held-out pairs of small data, a twentieth of large data
        own |= {"test_fraction": round(min(0.3, max(0.05, 30 / part.trained)), 2), "equal": "drop", "beta": 0.1}
        own["eval_batch_size"] = 8 if machine.gpu else 2
    return own | {"train_sampling_strategy": "group_by_length"}


def _finish(
    part: Part,
    step: Step,
    planned: Mapping[str, Any],
    base: Base,
    before: Sequence[Step],
    machine: Machine,
    method: str,
    length: int,
) -> None:
    """Add the step's micro-batch, number of steps and learning rate, and note why they were chosen."""
    launch, settings, notes = planned["config"], step.settings, part.notes
    share = settings["global_batch_size"] // machine.ranks
    most = min(share, planned["memory"][launch]["largest_micro_batch"], 32)
    row = length + (max(part.lengths) if part.stage == "grpo" else 0)
    most = most if machine.gpu else min(most, 8, max(1, _CPU_TOKENS // row))
    settings["per_device_train_batch_size"] = 2 ** int(math.log2(most))
    part.method, part.launch = method, launch if machine.gpu else "cpu"
    step.accelerate_config = part.launch
    again = _plan(part, step, before, machine)
    part.memory = machine.memory * again["memory"][launch]["peak"]
    kept = [
        n for n, longest in zip(part.tokens, part.lengths, strict=True) if part.stage == "grpo" or longest <= length
    ]
    part.over = 1 - len(kept) / len(part.lengths)
    batch, rate = settings["global_batch_size"], again["tokens_per_second"] * 60
    if part.stage == "grpo":
        groups = batch // settings["num_generations"]
        count = max(1, min(part.trained // groups, _GPU_GRPO_STEPS if machine.gpu else _CPU_GRPO_STEPS))
        tokens = count * batch * (statistics.mean(kept) + length)
        settings["max_steps"] = count
        why = f"{count} steps of {groups} prompts with {settings['num_generations']} completions each"
    else:
        rows = round(part.trained * (1 - part.over) * (1 - settings.get("test_fraction", 0.0)))
        epoch = rows * statistics.mean(kept)
        epochs = _MOST_EPOCHS if part.trained < 10_000 and part.stage == "sft" else 1
        epochs = epochs if machine.gpu else max(1, min(epochs, int(_CPU_MINUTES * rate / epoch)))
        count, tokens = epochs * math.ceil(rows / batch), epochs * epoch
        settings["num_train_epochs"] = epochs
        why = f"{epochs} epochs" if epochs > 1 else "One epoch"
        why += f" of {rows:,} {part.unit} in {count:,} steps"
    part.minutes = tokens / rate
    excluded = ", without generation" if part.stage == "grpo" else ""
    notes["global_batch_size"] = (
        f"{why}: about {duration(part.minutes)}{excluded}, estimated from FLOPs at an MFU of {machine.mfu:.0%}. "
        f"Memory: {part.memory:.1f} GB, estimated."
    )
    rates = _RATES[part.stage][0 if method == "full" else 2 :]
    settings |= {
        "learning_rate": rates[base.parameters < _SMALL],
        "lr_scheduler_type": "cosine" if part.stage != "grpo" else "constant_with_warmup",
        "warmup_steps": max(1, count // 20),
        "weight_decay": 0.0,
        "logging_steps": max(1, count // 50),
        "save_strategy": "steps",
        "save_steps": max(1, math.ceil(count / 4)),
        "save_total_limit": 2,
        "disable_tqdm": True,
        "seed": 0,
    }
    if part.stage != "grpo":
        notes["max_length"] = f"{lengths_of(part)}."
    if part.stage == "sft":
        notes["packing"] = (
            "Conversations of similar length share a batch. Packing pays off with FlashAttention on a GPU."
        )
    if method == "LoRA" and not machine.gpu:
        notes["use_peft"] = "LoRA needs two thirds of the time of full fine-tuning."
    elif method != "full":
        notes["load_in_4bit" if method == "QLoRA" else "use_peft"] = (
            f"{method}, because {'LoRA' if method == 'QLoRA' else 'full fine-tuning'} does not fit {machine.room}."
        )


# ---- the folder


def _with_exams(training: list[Step], exam: Exam | None, base: Base, folder: Path, machine: Machine) -> list[Step]:
    """Return the steps with an evaluation of the model before them and one after them."""
    if exam is None:
        return training
    launch = "cpu" if not machine.gpu else "single_gpu" if machine.ranks == 1 else "ddp"
    loads = {key: training[-1].settings[key] for key in ("dtype", "load_in_4bit") if key in training[-1].settings}
    steps = []
    for name, model in (("before", base.path), ("after", str(training[-1].folder))):
        settings: dict[str, Any] = {"output_dir": f"runs/{folder.name}/{name}", "model_name_or_path": model}
        if name == "before" and base.template:
            settings["chat_template_path"] = base.template
        if name == "after":
            settings["compare_to"] = f"runs/{folder.name}/before"
        settings |= {"datasets": [exam.entry], "eval_batch_size": 32} | (loads if machine.gpu else {})
        stages.load("evaluate").build(settings, f"{folder / name}.yaml")
        steps.append(Step(name, "evaluate", folder / f"{name}.yaml", (), launch, {}, settings))
    return [steps[0], *training, steps[1]]


def _publishing(trained: Step, export: str | None, push: str | None, folder: Path) -> list[Step]:
    """Return the step that exports and pushes the trained model, if one of both is asked for."""
    if not (export or push):
        return []
    adapter = trained.settings.get("use_peft") and not trained.settings.get("merge_adapter")
    if export == "merged" and not adapter:
        raise UserError("--export merged: the trained model is whole already: leave it out, or give a type of GGUF")
    settings: dict[str, Any] = {"output_dir": f"runs/{folder.name}/publish", "model_name_or_path": str(trained.folder)}
    settings |= {"export": export} if export else {}
    settings |= {"repo": push, "private": True} if push else {}
    return [Step("publish", "publish", folder / "publish.yaml", (), "cpu", {}, settings)]


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Write the folder at once: it exists with all files, or not at all."""
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name, text in files.items():
                (made / name).write_text(text, encoding="utf-8")
            made.chmod(0o755)
            made.rename(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error


def new(
    recipe: str,
    model: str,
    data: Sequence[str],
    held_out: str | None = None,
    steps: Sequence[str] = (),
    gpu: str | None = None,
    gpus: int | None = None,
    dry_run: bool = False,
    export: str | None = None,
    push: str | None = None,
) -> dict[str, Any]:
    """Write the recipe, unless `dry_run`, and return what was seen and chosen, with the files' texts.

    Raises `UserError`, with nothing written, for a folder that exists and for what the stages would refuse.
    """
    folder = Path(recipe)
    if folder.exists():
        raise UserError(f"{recipe}: exists already: give a new folder, or remove it")
    if not folder.name or not folder.parent.is_dir():
        raise UserError(f"{recipe}: no folder {folder.parent}: create it first")
    if (runs := Path("runs", folder.name)).exists():
        raise UserError(f"{runs}: exists already, and the steps of {recipe} would write there: give another name")
    for option, path in (*(("--data", path) for path in data), ("--eval", held_out)):
        if path == "":
            raise UserError(f'{option} "": the path is empty: give a file, a folder or a Hub dataset')
    if held_out is not None and Path(held_out).resolve() in [Path(path).resolve() for path in data]:
        raise UserError(
            f"--eval {held_out}: it is trained on, so it cannot be held out: leave --eval out, and the "
            "last rows of the data are held out"
        )
    if push:
        check_names(push, None)
    if export not in (None, "merged"):
        require_packages(Path(".gguf"), str(export))
    machine = find_machine(gpu, gpus)
    parts = assign(data, steps)
    base = open_base(model, parts)
    for part in parts:
        measure(part, base)
    exam = choose_exam(parts, held_out, base, *((500, 512) if machine.gpu else (100, 256)))
    training: list[Step] = []
    for i, part in enumerate(parts):
        training.append(choose(part, base, folder, training, machine, followed=i + 1 < len(parts)))
    made = _with_exams(training, exam, base, folder, machine)
    made += _publishing(training[-1], export, push, folder)
    notes = {part.stage: part.notes for part in parts}
    title = f"{model} on {', '.join(Path(path).name for path in data)}"
    files = {"README.md": page(folder, base, parts, made, exam, machine)}
    files[FILE] = recipe_yaml(folder, made, title)
    notes |= {"evaluate": exam.notes if exam else {}, "publish": PUBLISH_NOTES}
    files |= {step.config.name: step_yaml(step, notes[step.stage]) for step in made}
    if not dry_run:
        _write(folder, files)
    return {
        "recipe": recipe,
        "written": not dry_run,
        "model": model,
        "parameters": base.parameters,
        "chat_template": base.why,
        "machine": machine.room,
        "steps": {part.stage: _figures(part, step) for part, step in zip(parts, training, strict=True)},
        "evaluation": exam.says if exam else None,
        "files": files,
    }


def _figures(part: Part, step: Step) -> dict[str, Any]:
    chosen = (
        *("max_length", "max_completion_length", "global_batch_size", "per_device_train_batch_size"),
        *("num_train_epochs", "max_steps", "learning_rate", "gradient_checkpointing"),
    )
    return {
        "data": part.paths,
        "format": part.format,
        "rows": part.n,
        "dropped": "; ".join(part.dropped.values()),
        "lengths": lengths_of(part),
        "method": part.method,
        "accelerate_config": part.launch,
        "gigabytes": round(part.memory, 2),
        "minutes": round(part.minutes, 1),
        **{key: step.settings[key] for key in chosen if key in step.settings},
    }


def show(made: Mapping[str, Any], console: Console) -> None:
    """Print what was seen and chosen, and the files or their names."""
    lines = [
        f"{made['model']}: {made['parameters']:,} parameters; planned for {made['machine']}",
        f"chat template: {made['chat_template']}",
    ]
    for name, step in made["steps"].items():
        limit = "max_length" if "max_length" in step else "max_completion_length"
        lines += [
            f"{name}: {', '.join(step['data'])}, read as {step['format']}",
            *([f"  {step['dropped']}"] if step["dropped"] else []),
            f"  {step['lengths']}",
            f"  {step['method']}, {limit} {step[limit]}, batches of {step['global_batch_size']}, "
            f"{step['accelerate_config']}: {step['gigabytes']:.1f} GB and about {duration(step['minutes'])}"
            f"{' without generation' if name == 'grpo' else ''}, estimated",
        ]
    if made["evaluation"]:
        lines.append(f"evaluated before and after: {made['evaluation']}")
    if made["written"]:
        lines.append(
            f"wrote {made['recipe']}: {', '.join(made['files'])}. Run it: zero2chat run {shlex.quote(made['recipe'])}"
        )
    else:
        lines += [f"\n==> {made['recipe']}/{name} <==\n{text.rstrip()}" for name, text in made["files"].items()]
    console.print(Text("\n".join(lines)), soft_wrap=True)
