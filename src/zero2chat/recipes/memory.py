"""Estimate the training memory of a rank in bytes, part by part, for each accelerate config.

Weights, gradients and optimizer are counted from the model's dimensions (Rajbhandari et al. 2020, arXiv:1910.02054,
section 3), DeepSpeed's buffers from its defaults. A layer's saved activations are measured with forward passes of one
and of two layers on fake tensors, so they are correct for every architecture, without weights or a GPU.
`benchmarks/plan_memory.py` measures the accuracy.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations import moe
from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE

from zero2chat.models.training_job import FSDP, Model, Work

# The shipped accelerate configs, with least communication first, and the ZeRO stage of each.
STAGES: dict[str, int] = {"single_gpu": 0, "ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3, "multi_node": 3}
# DeepSpeed's defaults, in numbers of weights: its reduce_bucket_size, and for ZeRO-3 how many stay gathered
# (stage3_max_live_parameters) and are stepped at once (sub_group_size).
_BUCKET, _LIVE, _SUB_GROUP = 5e8, 1e9, 1e9
_TILE = 32_768  # tokens of the vocabulary that TRL's head processes at once
# Tiles that are live together in the head's backward pass on a CPU, where no fused kernel computes in place: TRL's
# `_backward_tile` has eight in fp32, and a mask.
_CPU_TILES = 8.25


@contextlib.contextmanager
def _grouped_products() -> Iterator[None]:
    """Context in which experts are computed by transformers' grouped product: unlike torch's, its fake takes fp32."""
    usable = moe._can_use_grouped_mm
    moe._can_use_grouped_mm = lambda *_: False
    try:
        yield
    finally:
        moe._can_use_grouped_mm = usable


@functools.cache
def _kept(shape: str, layers: int, rows: int, dtype: torch.dtype, autocast: bool, lora: str | None) -> int:
    """Return the bytes that a forward pass of `layers` layers over (rows, 64) tokens keeps for the backward pass."""
    fields = json.loads(shape) | {"num_hidden_layers": layers, "vocab_size": 8, "pad_token_id": None}
    fields |= {"bos_token_id": None, "eos_token_id": None, "use_cache": False}
    fields.pop("layer_types", None)  # it lists all layers
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    found: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        found[storage._cdata] = storage  # count a tensor that two operations keep once
        return tensor

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        if lora is not None:
            from peft import LoraConfig, get_peft_model

            model = get_peft_model(model, LoraConfig(**json.loads(lora))).get_base_model()
    body = model.base_model
    with FakeTensorMode():  # on a CPU, so that autocast casts as on a GPU
        state = {
            name: torch.empty(t.shape, dtype=t.dtype, requires_grad=t.requires_grad)
            for name, t in (*body.named_parameters(), *body.named_buffers())
        }
        ids = torch.zeros(rows, 64, dtype=torch.long)
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=autocast),
            _grouped_products(),
        ):
            torch.func.functional_call(body, state, kwargs={"input_ids": ids})
    return sum(storage.nbytes() for storage in found.values())


def layer_bytes(model: Model, dtype: torch.dtype, autocast: bool) -> tuple[float, float]:
    """Return the bytes per token kept for the backward pass by (a layer, everything except layers and head)."""
    shape, lora = model.shape
    more = (dtype, autocast, lora)
    # Use the difference per row: other memory, such as bf16 copies of the weights, does not grow with the rows.
    one, two = (_kept(shape, layers, 2, *more) - _kept(shape, layers, 1, *more) for layers in (1, 2))
    return (two - one) / 64, (2 * one - two) / 64


def activations(
    model: Model, work: Work, batch: int, dtype: torch.dtype, autocast: bool, cpu: bool = False
) -> dict[str, float]:
    """Return, for `per_device_train_batch_size` `batch`, the saved `activations`, and what is added at the peak:
    `logits` in the head, or the recomputation of one layer."""
    c = model.config.get_text_config()
    tokens = batch * work.rows * work.length
    layer, rest = layer_bytes(model, dtype, autocast)
    size = dtype.itemsize
    if work.checkpointing:
        kept = work.bodies * tokens * (c.num_hidden_layers * c.hidden_size * size + rest)
        again = tokens * layer
    else:
        kept, again = work.bodies * tokens * (c.num_hidden_layers * layer + rest), 0.0
    scored = batch * work.rows * (work.scored or work.length)
    head = 0.0
    if work.head == "whole":
        head = scored * c.vocab_size * 4.0 * work.copies
    elif work.head == "tiles":
        # Gradients of the head and of its input in fp32, and a tile of logits in fp32.
        tile = 4.0 * min(scored, TOKEN_CHUNK_SIZE) * min(_TILE, c.vocab_size)
        head = 8.0 * scored * c.hidden_size + (_CPU_TILES if cpu else 1.0) * tile
        head += 0.0 if model.lora is not None else 4.0 * c.vocab_size * c.hidden_size
    return {"activations": kept + max(0.0, again - head), "logits": head}


def per_rank(
    model: Model, work: Work, batch: int, launch: str, ranks: int, cpu: bool = False, accumulates: bool = True
) -> dict[str, float]:
    """Return the bytes of each part on one of `ranks` ranks; they add up to the peak. `launch` is an accelerate config.

    `copies` are further copies of weights: autocast's in bf16, or those gathered by ZeRO-3 and FSDP. `cpu`: on CPUs, in
    fp32 with gloo; DeepSpeed's buffers are resident only where they are written to. `accumulates`: gradients of earlier
    micro-batches are kept.
    """
    stage, sharded = STAGES.get(launch, 0), launch == FSDP
    deepspeed = stage > 0
    n, share = model.trained, 1 / ranks
    weights = gradients = float(sum(g.count * g.size for g in model.groups))
    optimizer = float(sum(g.count * g.moments * g.moment for g in model.groups))
    in_fp32 = sum(g.count for g in model.groups if g.size == 4 and g.copied)
    parts = {"copies": 0.0, "buffers": 0.0}
    early = late = 0.0
    if deepspeed:
        size = 4 if cpu else 2
        frozen = model.frozen / 2 if model.size == 4 and not cpu else model.frozen
        weights = (size * (n + model.readers) + frozen) * (share if stage == 3 else 1.0)
        gradients = size * n * (1.0 if stage == 1 else share)
        optimizer = sum(g.count * 4 * (1 + g.moments) for g in model.groups) * share
        filled = size * min(n, _BUCKET)
        if stage == 3:
            parts["copies"] = size * min(n + frozen / size, _LIVE)
            parts["buffers"] = filled if cpu else size * _BUCKET
            # A second copy of the bucket, in the order of the ranks, made by gloo.
            late = max(filled * (2 if cpu else 1), 4 * min(n * share, _SUB_GROUP))
        else:
            early = 0.0 if cpu else size * _BUCKET
            late = max(early or filled, filled) + filled
            late = max(late, (size + 4) * n * share)
        if n > _BUCKET:  # the bucket is filled and flushed before the first layers' backward pass
            early += filled
        dtype, autocast = (torch.float32 if cpu else torch.bfloat16), False
    else:
        weights += model.frozen + model.readers * model.size
        dtype, autocast = (torch.float32 if model.size == 4 else torch.bfloat16), not cpu
        if sharded:
            c = model.config.get_text_config()
            weights, gradients, optimizer = (part * share for part in (weights, gradients, optimizer))
            trained, layer = (part / max(1, c.num_hidden_layers) for part in (n, n + model.frozen / model.size))
            # Two layers and the embeddings in bf16, the fp32 gradients of one of them, and the models that only read,
            # which TRL shards as one piece.
            parts["copies"] = 2 * (2 * layer + 2 * c.vocab_size * c.hidden_size + model.readers) + 4 * trained
        else:
            if autocast:
                parts["copies"] = 2.0 * in_fp32 + (model.frozen / 2 if model.size == 4 else 0.0)
            parts["buffers"] = gradients if ranks > 1 else 0.0  # DDP's buckets
    if model.folded:
        layer = model.folded / model.config.get_text_config().num_hidden_layers
        if autocast and model.size == 4:  # the copies are in fp32, and what is kept of them counts as autocast's
            parts["copies"] += (2 + 4) * layer  # gradients of one layer's
        else:
            parts["copies"] += dtype.itemsize * ((layer if work.checkpointing else model.folded) + layer)
    at_work = activations(model, work, batch, dtype, autocast, cpu)
    if not deepspeed and not accumulates:
        # Each step frees the gradients, and the backward pass frees activations while it makes the next ones.
        gradients = max(0.0, gradients - sum(at_work.values()))
    # When gradients are reduced, activations and gathered weights are already freed.
    parts["buffers"] += max(early, late - sum(at_work.values()) - parts["copies"])
    return {"weights": weights, "gradients": gradients, "optimizer": optimizer, **parts, **at_work}
