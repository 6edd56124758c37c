"""Write a recipe for an existing model and the user's own data.

    zero2chat new my-recipe --model data/smollm2-135m/model --data chats.jsonl

Each stage's own `prepare` reads the rows, so invalid rows are refused before anything is written. `plan.py` estimates
memory, and treats a CPU as one device with the machine's memory.
"""

from __future__ import annotations

import bisect
import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from zero2chat import stages
from zero2chat.core.errors import UserError
from zero2chat.core.text import on_terminal
from zero2chat.data.prompts import load_problems
from zero2chat.data.sources import Source
from zero2chat.hub.modelfile import default_system, is_chatml
from zero2chat.hub.push import HTTP_ERROR
from zero2chat.models.hardware import Gpu, parameter_count
from zero2chat.models.loading import context_length, is_hub_name, load_model
from zero2chat.recipes.own_files import Part, assign, choose_evaluation, read_names, without_dots
from zero2chat.recipes.plan import find_gpu, plan_step
from zero2chat.recipes.recipe import FILE, Step
from zero2chat.rewards import read_rewards

_TEMPLATES = tuple(f"chat_templates/{name}.jinja" for name in ("chatml", "llama3", "gemma"))  # tried in this order
_MARKS = ("####", "\\boxed", "<answer>")  # of a final answer
# Of a CPU's free memory, so much more must be there than is estimated: glibc keeps memory that was freed
_CPU_MEMORY = 1.7

_LORA = {"use_peft": True, "lora_r": 16, "lora_alpha": 32, "lora_target_modules": "all-linear"}
_METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "LoRA": _LORA,
    "QLoRA": {"load_in_4bit": True, "use_bnb_nested_quant": True, **_LORA, "optim": "paged_adamw_32bit"},
}
_SIZES = (100_000_000, 300_000_000)  # parameters below which larger learning rates are used
# Learning rates of this repository's recipes by size, smallest first, of full fine-tuning and of LoRA
_RATES = {
    "sft": ((1e-3, 1e-4, 2e-5), (1e-3, 5e-4, 2e-4)),
    "dpo": ((1e-4, 1e-5, 1e-6), (1e-4, 1e-4, 5e-6)),
    "grpo": ((1e-4, 1e-5, 1e-6), (1e-4, 1e-4, 1e-5)),
}
_STEPS, _EPOCHS = 100, 20  # of SFT on few rows: at least so many steps, at most so many epochs
_WHY = f"The learning rate follows from the model's size. Few rows get epochs for {_STEPS} steps: at most {_EPOCHS}."
_FULL_ON_CPU = 50_000_000  # larger models get LoRA on a CPU: it needs two thirds of the time
_CPU_LENGTH, _CPU_BATCH = 1024, 4  # larger micro-batches need memory and save no time


@dataclass(frozen=True)
class Base:
    """The model to train, the chat template to set (None: the model's own), and the device: a GPU or the CPU."""

    path: str
    template: str | None
    context: int
    parameters: int
    device: Gpu
    gpu: bool
    system: str  # that the model's own template adds to a conversation without a system prompt; "" if none


# ---- rows, and the model that reads them


def _require_hub(model: str) -> None:
    """Raise `UserError` for a Hub name if there is no network. Loading the model would retry for a minute first."""
    if not is_hub_name(model) or isinstance(try_to_load_from_cache(model, "config.json"), str):
        return
    try:
        HfApi().model_info(model, timeout=10)
    except HfHubHTTPError:
        return  # the Hub answers: loading the model says what is wrong
    except (HTTP_ERROR, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{model}: no such folder, and the Hub cannot be reached ({said}): give a folder") from error


def open_base(model: str, parts: Sequence[Part], gpu: str | None, rewards: Sequence[str]) -> Base:
    """Measure the training rows with the first chat template that works for training, and return the model with that
    template. Raises `UserError` with each template's error if none works, such as for rows that a stage refuses."""
    empty, tokenizer = load_model(model, None, weights=False)
    refused: list[UserError] = []
    for template in (None, *_TEMPLATES) if tokenizer.chat_template else _TEMPLATES:  # None: the model's own
        try:
            for part in parts:
                _measure(part, model, template, rewards)
        except UserError as error:
            refused.append(error)
        else:
            device = Gpu(1.0, psutil.virtual_memory().available / _CPU_MEMORY) if gpu is None else find_gpu(gpu)[1]
            system = default_system(tokenizer) if is_chatml(tokenizer) else ""
            return Base(model, template, context_length(empty), parameter_count(empty), device, gpu is not None, system)
    raise UserError("; ".join(dict.fromkeys(map(str, refused))))


def _measure(part: Part, model: str, template: str | None, rewards: Sequence[str]) -> None:
    """Measure the lengths of the part's rows, as the part's stage prepares them."""
    stage = stages.load(part.stage)
    settings: dict[str, Any] = {"output_dir": "runs/new", "model_name_or_path": model, "datasets": part.sources}
    settings |= {"chat_template_path": template} if template else {}
    settings |= {"max_length": None, "overlong": "drop"} if part.stage != "grpo" else {}
    if part.stage == "dpo":  # about 30 held-out pairs of small data, a twentieth of large data
        fraction = round(min(0.3, max(0.05, 30 / sum(part.counts.values()))), 2)
        part.settings = {"test_fraction": fraction, "equal": "drop"}
    if part.stage == "grpo":
        settings["max_completion_length"] = 64  # the length is chosen by those of the prompts
        problems = [row for source in part.sources for row in load_problems(Source(**source))]
        prompts = ["\n".join(turn["content"] for turn in row["prompt"]) for row in problems]
        part.settings["rewards"] = choose_rewards(prompts, [row["answer"] for row in problems])
        chosen = part.settings["rewards"][0]["function"]
        part.settings["rewards"] += [{"function": function} for function in rewards if function != chosen]
    assert stage.prepare is not None
    rows = stage.prepare(*stage.build(settings | part.settings, part.stage))
    part.held_out = len(getattr(rows, "held_out", ())) or part.held_out
    part.lengths = [max(len(side.ids) for side in rows.sides(i)) for i in range(rows.n)] + [*rows.dropped]


def choose_rewards(prompts: Sequence[str], answers: Sequence[str]) -> list[dict[str, Any]]:
    """Return the `rewards` for these problems. If at least half of the prompts or answers mark a final answer, the
    reward compares final answers, otherwise whole texts."""
    marked = [sum(any(mark in text for mark in _MARKS) for text in texts) for texts in (prompts, answers)]
    if 2 * max(marked) >= len(answers):
        return [{"function": "zero2chat.rewards.math.math_answer"}]
    return [{"function": "zero2chat.rewards.exact.exact_match", "options": {"whole": True}}]


# ---- settings


def choose_length(lengths: Sequence[int], context: int, gpu: bool) -> int:
    """Return a `max_length` that fits 95% of the rows, or all rows if the longest is not much longer."""
    most, longest = sorted(lengths)[math.ceil(0.95 * len(lengths)) - 1], max(lengths)
    chosen = longest if longest <= 1.25 * most else most
    if not gpu:
        chosen = min(chosen, max(_CPU_LENGTH, statistics.median_low(lengths)))
    return min(context, 64 * math.ceil(chosen / 64))


def choose_batch(rows: int) -> int:
    """Return the number of rows per optimizer step. Small data gets small batches, for several steps."""
    return next((size for size, most in ((8, 1000), (16, 5000), (32, 20_000), (64, 100_000)) if rows < most), 128)


def choose_step(part: Part, base: Base, folder: Path, before: Sequence[Step], followed: bool) -> tuple[Step, str]:
    """Choose length, method, batch and epochs so that the step fits the device. Returns the step and a summary. Raises
    `UserError` if no method fits."""
    settings: dict[str, Any] = {"output_dir": f"runs/{folder.name}/{part.stage}"}
    settings["model_name_or_path"] = str(before[-1].folder) if before else base.path
    settings |= {"chat_template_path": base.template} if base.template and not before else {}
    settings |= {"datasets": part.sources} | _of_stage(part, base) | {"per_device_train_batch_size": 1}
    prompt = max(part.lengths) if part.stage == "grpo" else None
    for method in _METHODS if base.gpu else ("LoRA",) if base.parameters >= _FULL_ON_CPU else ("full",):
        made = settings | {"gradient_checkpointing": base.gpu} | _METHODS[method]
        if method == "full":
            made |= {"precompute_ref_log_probs": True} if part.stage == "dpo" else {}
        else:
            made |= {"dtype": "bfloat16"} if base.gpu else {}
            made |= {"merge_adapter": True} if part.stage != "dpo" and followed else {}
        step = Step(part.stage, part.stage, folder / f"{part.stage}.yaml", (), "cpu", {}, made)
        memory = plan_step(step, [*before, step], base.device, 1, 0.4, prompt)["memory"]["single_gpu"]
        if memory["fits"]:
            break
    else:
        needs = f"{part.stage} with {method} needs {memory['peak']:.1f} GB"
        raise UserError(f"{base.path}: {needs}, more than is free: give a smaller model, or a larger --gpu")
    made["per_device_train_batch_size"] = min(memory["largest_micro_batch"], 32 if base.gpu else _CPU_BATCH)
    overlong = sum(tokens > made.get("max_length", tokens) for tokens in part.lengths)
    used = len(part.lengths) - overlong
    batches = math.ceil(used / made["global_batch_size"])
    steps = made.get("max_steps") or batches * made["num_train_epochs"]
    made |= {
        "learning_rate": _RATES[part.stage][method != "full"][bisect.bisect(_SIZES, base.parameters)],
        "lr_scheduler_type": "constant_with_warmup" if part.stage == "grpo" else "cosine",
        "warmup_steps": max(1, steps // 20),
        "logging_steps": max(1, steps // 50),
        "save_strategy": "steps",
        "save_steps": max(1, math.ceil(steps / 4)),
        "save_total_limit": 2,
        "disable_tqdm": True,
        "seed": 0,
    }
    left_out = sum(part.counts.values()) - used - part.held_out
    rows = f"{used:,} rows for training, {part.held_out:,} held out, {left_out:,} left out"
    rows += f" ({overlong:,} over max_length {made['max_length']:,})" if overlong else ""
    rows += f"; at most {max(part.lengths):,} tokens"
    cost = f"{method}, {memory['peak']:.1f} GB at a micro-batch of 1"
    n = made.get("num_train_epochs")
    epochs = f"{n} epoch{'s' * (n > 1)}, " if n else ""
    rewards = ", ".join(reward["function"].rpartition(".")[2] for reward in made.get("rewards", ()))
    said = f"{rows}; {cost}; {epochs}{steps:,} steps" + (f"; rewarded by {rewards}" if rewards else "")
    return step, f"{part.stage} on {', '.join(part.counts)}: {said}"


def _of_stage(part: Part, base: Base) -> dict[str, Any]:
    """Return the settings for batch size, length and duration, and the settings that only this stage has."""
    if part.stage == "grpo":
        batch, length = 64 if base.gpu else 32, min(512 if base.gpu else 128, base.context - max(part.lengths))
        steps = max(1, min(len(part.lengths) * 8 // batch, 200 if base.gpu else 20))
        own: dict[str, Any] = {"num_generations": 8, "max_completion_length": length}
        own |= {"global_batch_size": batch, "max_steps": steps}
        return own | part.settings | {"log_completions": True, "num_completions_to_print": 2}
    length = choose_length(part.lengths, base.context, base.gpu)
    own = {"max_length": length, "train_sampling_strategy": "group_by_length"}
    own |= {"overlong": "drop"} if max(part.lengths) > length else {}
    own |= {"beta": 0.1, "eval_batch_size": 8 if base.gpu else 2} if part.stage == "dpo" else {}
    rows = sum(tokens <= length for tokens in part.lengths)
    batch, epochs = choose_batch(rows), 1
    if part.stage == "sft":
        enough = min(_EPOCHS, math.ceil(_STEPS / math.ceil(rows / batch)))
        epochs = max(enough, 3 if base.gpu and rows < 10_000 else 1)
    return own | part.settings | {"global_batch_size": batch, "num_train_epochs": epochs}


# ---- the folder


def _with_evaluation(
    training: list[Step], entry: dict[str, Any], base: Base, folder: Path, given: Sequence[str]
) -> list[Step]:
    """Return the training steps with an evaluation before the first step and one after the last step. Without GRPO, the
    evaluation uses the `given` rewards."""
    last, runs = training[-1].settings, f"runs/{folder.name}"
    rewards = next((step.settings["rewards"] for step in training if step.stage == "grpo"), None)
    entry = entry | ({} if rewards else {"metrics": ["exact_match", "f1", "perplexity"]})
    entry |= {"rewards": rewards or [{"function": function} for function in given]} if rewards or given else {}
    # The data's other rows may have the same prompts: the evaluation counts them.
    trained = [source for step in training for source in step.settings["datasets"]]
    common = {"datasets": [entry], "contamination": trained, "eval_batch_size": 32}
    common |= {key: last[key] for key in ("dtype", "load_in_4bit") if key in last}
    before = {"output_dir": f"{runs}/before", "model_name_or_path": base.path} | common
    before |= {"chat_template_path": base.template} if base.template else {}
    after = {"output_dir": f"{runs}/after", "model_name_or_path": last["output_dir"], "compare_to": f"{runs}/before"}
    first = Step("before", "evaluate", folder / "before.yaml", (), "cpu", {}, before)
    first.arguments()  # raises what the stage would refuse
    return [first, *training, Step("after", "evaluate", folder / "after.yaml", (), "cpu", {}, after | common)]


def _files(folder: Path, steps: Sequence[Step], launch: str, title: str, summary: Sequence[str]) -> dict[str, str]:
    """Return the texts of the recipe and of its steps' YAMLs."""

    def text(settings: Any, *comments: str) -> str:
        written = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=1000)
        return "".join(f"# {comment}\n" for comment in comments) + written

    run = f"zero2chat run {shlex.quote(str(folder))}"
    files, listed = {FILE: ""}, list[dict[str, Any]]()
    for step in steps:
        listed.append({"name": step.name, "stage": step.stage, "config": step.config.name, "accelerate_config": launch})
        files[step.config.name] = text(step.settings, f"{run} --only {step.name}", *[_WHY] * (step.stage == "sft"))
    listed.append({"name": "report", "stage": "report", "set": {"title": title}})
    return files | {FILE: text({"steps": listed}, run, *summary)}


def new(
    recipe: str,
    model: str,
    data: Sequence[str],
    held_out: str | None = None,
    gpu: str | None = None,
    columns: Sequence[str] = (),
    rewards: Sequence[str] = (),
    system: str | None = None,
) -> dict[str, Any]:
    """Write the recipe. Prints a summary of data and settings, and returns the summary and the files' texts. If the
    folder exists, or a stage would refuse the data, raises `UserError` before writing."""
    folder = Path(recipe)
    model, *data = map(without_dots, (model, *data))
    held_out = held_out and without_dots(held_out)
    if folder.exists() or Path("runs", folder.name).exists():
        raise UserError(f"{recipe}: exists already, here or in runs/: give another name")
    if not folder.name or not folder.parent.is_dir():
        raise UserError(f"{recipe}: no folder {folder.parent}: create that folder first")
    if held_out is not None and Path(held_out).resolve() in [Path(path).resolve() for path in data]:
        raise UserError(f"--eval {held_out}: is training data: give another file, or remove --eval")
    named, more = read_names(columns), {"system": system} if system is not None else {}
    _require_hub(model)
    parts = assign(data, held_out, named, more, bool(rewards))
    # First: only training rows are measured.
    evaluated = choose_evaluation(parts, held_out, 500 if gpu else 100, named, more)
    if rewards:
        read_rewards([{"function": function} for function in rewards], alone=True)
    if rewards and evaluated is None and parts[-1].stage != "grpo":
        raise UserError("--reward: neither GRPO nor an evaluation reads these files: remove --reward")
    base = open_base(model, parts, gpu, rewards)
    template = base.template or "the model's own"
    summary = [f"Model: {model}, {base.parameters:,} parameters, chat template: {template}"]
    if base.system and system is None:
        said = f"The model's own chat template adds a system prompt to rows without one, “{base.system.strip()}”"
        said += ", and this recipe's template does not" if base.template else ""
        summary.append(f"{' '.join(said.split())}: --system TEXT sets another")
    summary += {note: None for part in parts for note in part.notes}
    made: list[Step] = []
    for i, part in enumerate(parts):
        step, chosen = choose_step(part, base, folder, made, followed=i + 1 < len(parts))
        made.append(step)
        summary.append(chosen)
    trained = made[-1].folder
    if evaluated is not None:
        made = _with_evaluation(made, evaluated[0], base, folder, rewards)
        summary.append(f"before and after evaluate on {evaluated[1]}")
    launch = "single_gpu" if base.gpu else "cpu"
    files = _files(folder, made, launch, f"{model} on {', '.join(Path(path).name for path in data)}", summary)
    try:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}: give another folder") from error
    following = f"Next: zero2chat run {shlex.quote(recipe)}, then zero2chat chat {shlex.quote(str(trained))}"
    following += f" --system {shlex.quote(system)}" if system else ""
    print("\n".join(map(on_terminal, [*summary, f"wrote {recipe}: {', '.join(files)}", following])))
    return {"recipe": recipe, "summary": summary, "files": files}
