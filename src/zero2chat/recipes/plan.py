"""Estimate parameters, FLOPs, memory and time of a recipe's training steps, without running them.

    zero2chat plan recipes/chat/qwen3-0.6b.yaml --gpu h100

Nothing is measured. FLOPs, memory and steps are computed from the settings (`training_cost.py`), and tokens/s from the
FLOPs and an assumed MFU. Without `max_steps`, the steps follow from the epochs and the rows of tasks and local files.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from zero2chat.core.config import build
from zero2chat.core.errors import UserError, nearest
from zero2chat.data.rows import first_rows, load_table, local_files
from zero2chat.data.sources import Source
from zero2chat.models.hardware import GPUS, Gpu
from zero2chat.models.training_job import FSDP
from zero2chat.recipes.recipe import Step, load_recipe
from zero2chat.recipes.training_cost import peaks, read_job
from zero2chat.trainers.start import share_batch

RESERVE = 0.1  # share of a GPU's memory for the CUDA context, library workspaces and fragmentation
GB = 1e9


def count_rows(step: Step, steps: Sequence[Step] = ()) -> dict[str, int] | None:
    """Count the `rows` that a step trains on, and those that are `held_out` or `left_out`. If the base model or a file
    is not here, `rows` are those before any are left out. None if settings and local files do not determine the rows:
    on the Hub, in a mixture, packed, or chosen or compared by a model. None if `max_steps` is set."""
    args, training, *_ = step.arguments()
    entries = step.settings.get("datasets") or ()
    sources = [build([Source], entry, f"{step.config}: datasets")[0] for entry in entries]
    unknown = any(map(step.settings.get, ("packing", "pass_rate", "comparisons")))
    if training.max_steps > 0 or unknown or any(one.fraction for one in sources):
        return None
    counts, unused = [], 0
    with contextlib.suppress(UserError):  # no such file here
        for one in sources:
            if one.task is None and not local_files(one):
                return None
            counts.append(len(first_rows(load_table(one), one.n)) if one.task is None else one.n or 0)
            if one.split != "train" and one.task is None:
                unused += len(load_table(replace(one, split="train"))) - counts[-1]
    if not counts or len(counts) < len(sources):
        return None
    settings, makers = step.settings, {str(one.folder): one.settings for one in steps}
    while made := makers.get(str(settings.get("model_name_or_path"))):
        settings = settings | {key: made.get(key) for key in ("model_name_or_path", "chat_template_path")}
    prepare, is_here = step.declared.prepare, Path(str(settings.get("model_name_or_path"))).is_dir()
    if prepare and is_here and not any(one.task for one in sources) and settings.get("join", 1) == 1:
        with contextlib.suppress(UserError):
            rows = prepare(*step.declared.build(settings, str(step.config)))
            held_out = len(rows.validation or ()) + len(getattr(rows, "held_out", ()))
            left_out = max(0, sum(counts) - rows.n - held_out)  # a pair gives `kto` two rows
            return {"rows": rows.n, "held_out": unused + held_out, "left_out": left_out}
    share = getattr(args, "test_fraction", None) or getattr(args, "validation_fraction", None) or 0.0
    return {"rows": round(sum(counts) * (1 - share)), "held_out": unused + round(sum(counts) * share)}


def plan_step(
    step: Step,
    steps: Sequence[Step],
    gpu: Gpu,
    gpus: int,
    mfu: float,
    prompt: int | None = None,
    rows: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Plan one step on `gpus` GPUs; `prompt` is as in `read_job`, `rows` as in `count_rows`. Memory
    is in GB, for each accelerate config that fits this number of GPUs, cheapest first.

    Raises `UserError` as `read_job` does, and for a batch size that cannot be divided among the ranks.
    """
    job, args, training = read_job(step, steps, prompt)
    try:
        batch, accumulation = share_batch(training, args.global_batch_size, gpus)
    except UserError as error:
        raise UserError(f"{step.config}: {error}: change --gpus or `global_batch_size`") from error
    share = batch * accumulation
    tokens = share * gpus * job.sequences * job.length
    count = training.max_steps if training.max_steps > 0 else None
    counted: dict[str, Any] = {}
    if count is None and rows is not None:
        counted = {**rows, "epochs": training.num_train_epochs}
        each = getattr(training, "num_generations", None) or 1  # completions of a prompt
        count = math.ceil(math.ceil(rows["rows"] * each / (share * gpus)) * training.num_train_epochs)
    speed = gpus * mfu * gpu.peak / job.flops
    hours = math.inf if count is None else count * tokens / speed / 3600
    if (minutes := getattr(args, "max_minutes", None)) is not None:
        hours = minutes / 60 if job.rollout else min(hours, minutes / 60)  # `hours` are without generation
    sampled = share * job.rollout
    sizes = [size for size in range(1, share + 1) if share % size == 0]
    memory = {}
    for launch in ["single_gpu"] if gpus == 1 else ["ddp", "zero1", "zero2", "zero3", FSDP]:
        if launch not in job.refused:
            parts = {size: peaks(job, size, sampled, launch, gpus, gpu) for size in sizes}
            fitting = [size for size, part in parts.items() if part["peak"] <= (1 - RESERVE) * gpu.memory]
            in_gb = {name: size / GB for name, size in parts[batch].items()}
            memory[launch] = in_gb | {"fits": batch in fitting, "largest_micro_batch": max(fitting, default=0)}
    return {
        "parameters": job.parameters,
        "active": job.active,
        "trained": job.trained,
        "flops_per_token": job.flops,
        "sequence": job.length,
        "sequence_is": job.length_is,
        "unit": job.unit,
        "sides": job.sequences,
        "global_batch_size": share * gpus,
        "micro_batch": batch,
        "accumulation": accumulation,
        "tokens_per_step": tokens,
        **counted,
        "steps": count,
        "tokens_per_second": speed,
        "hours": None if math.isinf(hours) else hours,
        "memory": memory,
        "config": next((launch for launch, parts in memory.items() if parts["fits"]), "none fits"),
    }


def find_gpu(name: str) -> tuple[str, Gpu]:
    """Find a GPU by name, ignoring case. Raises `UserError` for an unknown GPU."""
    known = {key.lower(): key for key in GPUS}
    if name.lower() not in known:
        raise UserError(f"--gpu {name}: no such GPU in the table{nearest(name.lower(), list(known))}")
    return known[name.lower()], GPUS[known[name.lower()]]


def plan(recipe: str, gpu: str, gpus: int = 1, mfu: float = 0.4, price: float | None = None) -> dict[str, Any]:
    """Plan each training step. `price` is that of one GPU for an hour. The totals `hours` and `cost` are None if the
    hours of a step, or the price, are unknown.

    Raises `UserError` for an invalid recipe, GPU or number, and if no step trains.
    """
    name, card = find_gpu(gpu)
    if gpus < 1:
        raise UserError(f"--gpus {gpus}: expected 1 or more")
    if not 0 < mfu <= 1:
        raise UserError(f"--mfu {mfu}: expected a number above 0, at most 1")
    if price is not None and not price > 0:
        raise UserError(f"--price {price}: expected a number above 0")
    steps = load_recipe(recipe)
    training = [step for step in steps if step.trains]
    if not training:
        raise UserError(f"{recipe}: no training steps: there is nothing to plan")
    plans = {step.name: plan_step(step, steps, card, gpus, mfu, rows=count_rows(step, steps)) for step in training}
    of_steps = [one["hours"] for one in plans.values()]
    hours = None if None in of_steps else sum(of_steps)
    cost = None if hours is None or price is None else hours * gpus * price
    about = {"recipe": recipe, "gpu": name, "gpu_memory": card.memory / GB, "gpus": gpus, "mfu": mfu}
    return about | {"reserve": RESERVE, "steps": plans, "hours": hours, "price": price, "cost": cost}


def show(made: dict[str, Any], console: Console) -> None:
    """Print each step's figures, its memory under each accelerate config, and the plan's assumptions."""
    lines = [
        f"{made['recipe']} with {made['gpus']} × {made['gpu']} of {made['gpu_memory']:.0f} GB, in bf16, at "
        f"{made['mfu']:.0%} MFU. Estimates, not measurements.",
        "Assumed: each sequence has the length `sequence`; steps without `max_steps` follow from all rows and epochs; "
        "hours exclude loading, evaluating and generating completions.",
        f"Memory is in GB per rank; {made['reserve']:.0%} stays free.",
    ]
    console.print(*lines, sep="\n", soft_wrap=True)
    for name, step in made["steps"].items():
        figures, memory = Table.grid(padding=(0, 2)), Table("", *step["memory"], box=None, pad_edge=False)
        for key, value in step.items():
            if key != "memory":
                label = "rows for training" if key == "rows" else key.replace("_", " ")
                figures.add_row(*(_time(value) if key == "hours" else (label, _text(value))))
        for part in next(iter(step["memory"].values()), {}):
            memory.add_row(part.replace("_", " "), *(_text(parts[part]) for parts in step["memory"].values()))
        console.print(f"\n[bold]{name}[/bold]", figures, memory, sep="\n")
    console.print(f"\ntotal {': '.join(_time(made['hours']))}, without start-up and evaluation")
    price = "add --price, of one GPU for an hour"
    if made["price"] is not None:
        price = f"{_text(made['cost'], least=1)} at {made['price']:g} per GPU and hour"
    console.print(f"total cost: {price}", soft_wrap=True)


def _time(hours: float | None) -> tuple[str, str]:
    """Return the unit and the number: minutes if they are few."""
    return ("hours", _text(hours)) if hours is None or hours >= 0.1 else ("minutes", _text(hours * 60, least=1))


def _text(value: Any, least: int = 0) -> str:
    if value is None:
        return "not known: set max_steps"
    if isinstance(value, bool | str):
        return value if isinstance(value, str) else "yes" if value else "no"
    digits = 2 if isinstance(value, float) and value < 1000 else 0
    return f"under {least}" if value < least else f"{value:,.{digits}f}"
