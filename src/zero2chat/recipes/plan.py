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
from zero2chat.models.loading import head_width
from zero2chat.models.training_job import FSDP, SHARDED, Job
from zero2chat.recipes.memory import STAGES, per_rank
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


def _memory(job: Job, batch: int, share: int, sampled: float, launch: str, ranks: int, gpu: Gpu) -> dict[str, float]:
    """Return GB per rank: parts that add up to `learning`; `sampling` of `sampled` rows; and `peak`. A rank processes
    its `share` of the global batch `batch` at a time."""
    parts = per_rank(job.model, job.work, batch, launch, ranks, accumulates=batch < share)
    sampling = 0.0
    always = parts["weights"] + parts["gradients"] + parts["optimizer"]
    if job.vllm is not None:
        reserved, sleeps = job.vllm
        sampling = always + reserved * gpu.memory
        if not sleeps:
            parts["vllm"] = reserved * gpu.memory
    elif sampled:
        c = job.model.config.get_text_config()
        size = 2 if STAGES.get(launch) or launch == FSDP else job.model.size
        if size == 4 and job.copied_to_sample is not None:
            size = 2
            always += 2.0 * job.copied_to_sample
        heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
        keys_and_values = 2.0 * c.num_hidden_layers * heads * head_width(c) * size
        gathered = 2.0 * job.parameters if launch in SHARDED else 0.0
        sampling = always + gathered + sampled * job.work.length * keys_and_values
    learning = sum(parts.values())
    found = {**parts, "learning": learning, "sampling": sampling, "peak": max(learning, sampling)}
    return {name: size / GB for name, size in found.items()}


def _largest(job: Job, share: int, sampled: float, launch: str, ranks: int, gpu: Gpu) -> int:
    """Return the largest per_device_train_batch_size that fits, or 0 if none does."""

    def fits(batch: int) -> bool:
        return _memory(job, batch, share, sampled, launch, ranks, gpu)["peak"] <= _room(gpu)

    # A rank's whole share can fit where less does not, because only less accumulates gradients.
    low, high = (share, 2 * share) if fits(share) else (0, 1)
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _room(gpu: Gpu) -> float:
    return (1 - RESERVE) * gpu.memory / GB


def plan_step(
    step: Step, steps: Sequence[Step], gpu: Gpu, gpus: int, nodes: int, mfu: float, prompt: int | None = None
) -> dict[str, Any]:
    """Plan one step on `nodes` nodes of `gpus` GPUs; `prompt` is that of `read_job`. Raises `UserError` as `read_job`
    does, and for a batch size that cannot be divided among the ranks."""
    job, args, training = read_job(step, steps, prompt)
    ranks = gpus * nodes
    try:
        batch, accumulation = share_batch(training, args.global_batch_size, ranks)
    except UserError as error:
        raise UserError(f"{step.config}: {error}: change --gpus or `global_batch_size`") from error
    share = batch * accumulation
    tokens = share * ranks * job.work.rows * job.work.length
    count = training.max_steps if training.max_steps > 0 else None
    if count is None and job.rows is not None:
        count = math.ceil(math.ceil(job.rows / (share * ranks)) * training.num_train_epochs)
    speed = ranks * mfu * gpu.peak / job.flops
    hours = None if count is None else count * tokens / speed / 3600
    minutes = getattr(args, "max_minutes", None)
    if minutes is not None and hours is not None and 60 * hours < minutes and not job.rollout:
        minutes = None  # max_steps ends it before
    sampled = share * job.rollout
    if job.sampled_at_once is not None:
        sampled = min(sampled, job.sampled_at_once)
    memory = {}
    for launch in _candidates(gpus, nodes):
        if launch not in job.refused:
            found = _memory(job, batch, share, sampled, launch, ranks, gpu)
            largest = _largest(job, share, sampled, launch, ranks, gpu)
            memory[launch] = {**found, "fits": found["peak"] <= _room(gpu), "largest_micro_batch": largest}
    return {
        "stage": step.stage,
        "parameters": job.parameters,
        "active": job.active,
        "trained": job.model.trained,
        "flops_per_token": job.flops,
        "sequence": job.work.length,
        "sequence_is": job.length,
        "unit": job.unit,
        "sides": job.work.rows,
        "global_batch_size": share * ranks,
        "micro_batch": batch,
        "accumulation": accumulation,
        "tokens_per_step": tokens,
        "steps": count,
        "tokens_per_second": speed,
        "max_minutes": minutes,
        "hours": hours if minutes is None else minutes / 60,
        "dtype": job.dtype,
        "trains_16_bits": job.trains_16_bits,
        "memory": memory,
        "config": next((launch for launch, found in memory.items() if found["fits"]), None),
        "samples": job.rollout > 0,
    }


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
        console.print(f"\n[bold]{name}[/bold]", *_lines(step, made), sep="\n  ", soft_wrap=True)
        console.print(_table(step["memory"]))
    if len(made["steps"]) > 1 and made["hours"] is not None:
        console.print(f"\ntotal: {_short(made['hours'])} hours")


def _lines(step: dict[str, Any], made: dict[str, Any]) -> list[str]:
    active = "" if step["active"] == step["parameters"] else f", {step['active']:,} active per token"
    trained = "" if step["trained"] >= step["parameters"] else f", {step['trained']:,} trained"
    sides = f"{step['sides']} × " if step["sides"] > 1 else ""
    steps = "steps not known: set max_steps" if step["steps"] is None else f"{step['steps']:,} steps"
    hours = "hours not known" if step["hours"] is None else f"{_short(step['hours'])} hours"
    if (most := step["max_minutes"]) is not None:
        hours = f"max_minutes ends it after at most {most:g} minute{'s' * (most != 1)}"
    elif step["samples"]:
        hours += ", excluding the time to generate and score completions"
    fits = f"{step['config']} is the cheapest config that fits" if step["config"] else "no shipped config fits"
    lines = [
        f"{step['parameters']:,} parameters{active}{trained}; {step['flops_per_token'] / 1e9:,.2f} GFLOPs per token",
        f"{step['global_batch_size']:,} {step['unit']} of {sides}{step['sequence']:,} tokens, at most "
        f"({step['sequence_is']}): {step['tokens_per_step']:,} per step; {steps}",
        f"{step['tokens_per_second']:,.0f} tokens/s at an MFU of {made['mfu']:.0%}: {hours}",
        f"{fits}, micro-batch {step['micro_batch']}, gradient accumulation {step['accumulation']}",
    ]
    if step["dtype"] != "float32":
        refused = ", which one GPU and DDP refuse to train: set `dtype: float32`, or launch with ZeRO or FSDP"
        lines.append(f"dtype: the weights are loaded in {step['dtype']}{refused * step['trains_16_bits']}")
    return lines


def _short(number: float) -> str:
    return f"{number:,.1f}" if number >= 10 else f"{number:.2g}"


def _table(memory: dict[str, dict[str, Any]]) -> Table:
    """Return the parts of a rank's memory in GB: a row for each accelerate config."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("GB per rank", no_wrap=True)
    parts = [
        part for part in next(iter(memory.values()), {}) if part not in ("learning", "fits", "largest_micro_batch")
    ]
    parts = [part for part in parts if any(found.get(part) for found in memory.values())]
    short = {"gradients": "grads", "optimizer": "optim", "activations": "acts"}
    for part in (*parts, "batch"):
        table.add_column(short.get(part, part), justify="right", no_wrap=True)
    for launch, found in memory.items():
        cells = [f"{size:.1f}" if (size := found.get(part, 0.0)) >= 10 else f"{size:.2f}" for part in parts]
        table.add_row(launch, *cells, f"{found['largest_micro_batch']:,}", style="" if found["fits"] else "dim")
    return table
