"""Estimate parameters, FLOPs, memory and time of a recipe's training steps, without running them.

    zero2chat plan recipes/chat-qwen3-0.6b --gpu h100

Nothing is measured: FLOPs, memory (`memory.py`) and steps follow from the settings (`training_cost.py`), tokens/s from
the FLOPs and an MFU that is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from zero2chat.core.errors import UserError, nearest
from zero2chat.models.hardware import GPUS, Gpu
from zero2chat.models.training_job import FSDP
from zero2chat.recipes.memory import peaks
from zero2chat.recipes.recipe import Step, load_recipe
from zero2chat.recipes.training_cost import read_job
from zero2chat.trainers.start import share_batch

RESERVE = 0.1  # share of a GPU's memory for the CUDA context, library workspaces and fragmentation
GB = 1e9


def _candidates(gpus: int, nodes: int) -> list[str]:
    """Return the shipped accelerate configs for this number of GPUs and nodes, cheapest first."""
    if nodes > 1:
        return ["multi_node"]
    return ["single_gpu"] if gpus == 1 else ["ddp", "zero1", "zero2", "zero3", FSDP]


def plan_step(
    step: Step, steps: Sequence[Step], gpu: Gpu, gpus: int, nodes: int, mfu: float, prompt: int | None = None
) -> dict[str, Any]:
    """Plan one step on `nodes` nodes of `gpus` GPUs; `prompt` is that of `read_job`. Memory is in GB.

    Raises `UserError` as `read_job` does, and for a batch size that cannot be divided among the ranks.
    """
    job, args, training = read_job(step, steps, prompt)
    ranks = gpus * nodes
    try:
        batch, accumulation = share_batch(training, args.global_batch_size, ranks)
    except UserError as error:
        raise UserError(f"{step.config}: {error}: change --gpus or `global_batch_size`") from error
    share = batch * accumulation
    tokens = share * ranks * job.sequences * job.length
    count = training.max_steps if training.max_steps > 0 else None
    if count is None and job.rows is not None:
        count = math.ceil(math.ceil(job.rows / (share * ranks)) * training.num_train_epochs)
    speed = ranks * mfu * gpu.peak / job.flops
    hours = math.inf if count is None else count * tokens / speed / 3600
    if (minutes := getattr(args, "max_minutes", None)) is not None:
        hours = minutes / 60 if job.rollout else min(hours, minutes / 60)  # `hours` are without generation
    sampled = share * job.rollout
    memory = {}
    for launch in _candidates(gpus, nodes):
        if launch not in job.refused:
            parts = {size: peaks(job, size, sampled, launch, ranks, gpu) for size in _divisors(share)}
            fitting = [size for size, part in parts.items() if part["peak"] <= (1 - RESERVE) * gpu.memory]
            in_gb = {name: size / GB for name, size in parts[batch].items()}
            memory[launch] = in_gb | {"fits": batch in fitting, "largest_micro_batch": max(fitting, default=0)}
    return {
        "stage": step.stage,
        "parameters": job.parameters,
        "active": job.active,
        "trained": job.trained,
        "flops_per_token": job.flops,
        "sequence": job.length,
        "sequence_is": job.length_is,
        "unit": job.unit,
        "sides": job.sequences,
        "global_batch_size": share * ranks,
        "micro_batch": batch,
        "accumulation": accumulation,
        "tokens_per_step": tokens,
        "steps": count,
        "tokens_per_second": speed,
        "hours": None if math.isinf(hours) else hours,
        "memory": memory,
        "config": next((launch for launch, parts in memory.items() if parts["fits"]), None),
        "samples": job.rollout > 0,
    }


def _divisors(n: int) -> list[int]:
    return [size for size in range(1, n + 1) if n % size == 0]


def find_gpu(name: str) -> tuple[str, Gpu]:
    """Find a GPU by name, ignoring case. Raises `UserError` if the table lacks it."""
    known = {key.lower(): key for key in GPUS}
    if name.lower() not in known:
        raise UserError(f"--gpu {name}: no such GPU in the table{nearest(name.lower(), list(known))}")
    return known[name.lower()], GPUS[known[name.lower()]]


def plan(recipe: str, gpu: str, gpus: int = 1, nodes: int = 1, mfu: float = 0.4) -> dict[str, Any]:
    """Plan each training step; the total of hours is None if that of a step is unknown.

    Raises `UserError` for an invalid recipe, GPU or number, and if no step trains.
    """
    name, card = find_gpu(gpu)
    for flag, value in (("--gpus", gpus), ("--nodes", nodes)):
        if value < 1:
            raise UserError(f"{flag} {value}: expected 1 or more")
    if not 0 < mfu <= 1:
        raise UserError(f"--mfu {mfu}: expected a number above 0, at most 1")
    steps = load_recipe(recipe)
    training = [step for step in steps if step.trains]
    if not training:
        raise UserError(f"{recipe}: no training steps: there is nothing to plan")
    found = {step.name: plan_step(step, steps, card, gpus, nodes, mfu) for step in training}
    hours = [one["hours"] for one in found.values()]
    about = {"recipe": recipe, "gpu": name, "gpu_memory": card.memory / GB, "gpus": gpus, "nodes": nodes, "mfu": mfu}
    return about | {"reserve": RESERVE, "steps": found, "hours": None if None in hours else sum(hours)}


def show(made: dict[str, Any], console: Console) -> None:
    """Print the plan step by step, with its assumptions."""
    machines = f" on each of {made['nodes']} machines" if made["nodes"] > 1 else ""
    lines = [
        f"{made['recipe']} with {made['gpus']} × {made['gpu']} of {made['gpu_memory']:.0f} GB{machines}, in "
        "bf16. These are estimates, not measurements.",
        f"{made['reserve']:.0%} of the memory stays free. batch: the largest per_device_train_batch_size that fits.",
    ]
    console.print(*lines, sep="\n", soft_wrap=True)
    for name, step in made["steps"].items():
        console.print(f"\n[bold]{name}[/bold]", *_lines(step, made["mfu"]), sep="\n  ", soft_wrap=True)
        console.print(_table(step["memory"]))
    if len(made["steps"]) > 1 and made["hours"] is not None:
        console.print(f"\ntotal: {made['hours']:,.2f} hours")


def _lines(step: dict[str, Any], mfu: float) -> list[str]:
    active = "" if step["active"] == step["parameters"] else f", {step['active']:,} active per token"
    trained = "" if step["trained"] >= step["parameters"] else f", {step['trained']:,} trained"
    sides = f"{step['sides']} × " if step["sides"] > 1 else ""
    steps = "steps not known: set max_steps" if step["steps"] is None else f"{step['steps']:,} steps"
    hours = "hours not known" if step["hours"] is None else f"{step['hours']:,.2f} hours"
    hours += ", excluding the time to generate and score completions" if step["samples"] else ""
    fits = f"{step['config']} is the cheapest config that fits" if step["config"] else "no shipped config fits"
    return [
        f"{step['parameters']:,} parameters{active}{trained}; {step['flops_per_token'] / 1e9:,.2f} GFLOPs per token",
        f"{step['global_batch_size']:,} {step['unit']} of {sides}{step['sequence']:,} tokens, at most "
        f"({step['sequence_is']}): {step['tokens_per_step']:,} per step; {steps}",
        f"{step['tokens_per_second']:,.0f} tokens/s at an MFU of {mfu:.0%}: {hours}",
        f"{fits}, micro-batch {step['micro_batch']}, gradient accumulation {step['accumulation']}",
    ]


def _table(memory: dict[str, dict[str, Any]]) -> Table:
    """Return the parts of a rank's memory in GB: a row for each accelerate config."""
    parts = [part for part in next(iter(memory.values()), {}) if any(found[part] for found in memory.values())]
    parts = [part for part in parts if part not in ("learning", "fits", "largest_micro_batch")]
    short = {"gradients": "grads", "optimizer": "optim", "activations": "acts"}
    table = Table("GB per rank", box=None, padding=(0, 1, 0, 0))
    for part in (*parts, "batch"):
        table.add_column(short.get(part, part), justify="right")
    for launch, found in memory.items():
        cells = [f"{found[part]:.2f}" for part in parts]
        table.add_row(launch, *cells, f"{found['largest_micro_batch']:,}", style="" if found["fits"] else "dim")
    return table
