"""Estimate the training memory of a rank in bytes, part by part, for each accelerate config.

Weights, gradients and optimizer are counted (Rajbhandari et al. 2020, arXiv:1910.02054, section 3), DeepSpeed's buffers
have its default sizes, and the activations of a layer follow from its widths.
"""

from __future__ import annotations

from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE

from zero2chat.models.experts import experts_per_token
from zero2chat.models.hardware import Gpu
from zero2chat.models.loading import head_width
from zero2chat.models.training_job import FSDP, SHARDED, Job

# The shipped accelerate configs, with least communication first, and the ZeRO stage of each.
STAGES: dict[str, int] = {"single_gpu": 0, "ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3, "multi_node": 3}
# DeepSpeed's defaults, in numbers of weights: its reduce_bucket_size, and stage3_max_live_parameters of ZeRO-3.
_BUCKET, _LIVE = 5e8, 1e9
_TILE = 32_768  # tokens of the vocabulary that TRL's head processes at once
_OUTSIDE = 8  # bytes per hidden unit and token that the embedding and the last norm keep


def layer_bytes(job: Job, size: int) -> float:
    """Return the bytes per token that a layer keeps for the backward pass, with weights of `size` bytes.

    The factors are fitted to what forward passes in bf16 kept: within 10% for GPT-2, Llama and Qwen3. Gemma's further
    norms keep a quarter more.
    """
    c = job.config.get_text_config()
    heads = c.num_attention_heads + 2 * (getattr(c, "num_key_value_heads", None) or c.num_attention_heads)
    hidden = c.hidden_size
    inner = getattr(c, "intermediate_size", None) or 1.5 * hidden  # GPT-2's MLP has no gate
    adapters = 24 * hidden + 4 * inner if job.adapter else 0  # copies of what each adapter reads
    if per_token := experts_per_token(c):
        inner = per_token * (getattr(c, "moe_intermediate_size", None) or inner)
        hidden *= 1 + per_token / 4  # the rows that each expert gets, and returns
    return (26 if size == 4 else 16) * hidden + 7 * heads * head_width(c) + 8 * inner + adapters


def activations(job: Job, batch: int, size: int) -> dict[str, float]:
    """Return, for `per_device_train_batch_size` `batch`, the saved `activations`, and what is added at the peak:
    `logits` in the head, or the recomputation of one layer."""
    c = job.config.get_text_config()
    tokens, layer = batch * job.sequences * job.length, layer_bytes(job, size)
    of_a_layer, again = (c.hidden_size * size, tokens * layer) if job.checkpointing else (layer, 0.0)
    kept = tokens * (c.num_hidden_layers * of_a_layer + _OUTSIDE * c.hidden_size)
    scored = batch * job.sequences * (job.scored or job.length)
    head = 0.0
    if job.head == "whole":
        head = scored * c.vocab_size * 4.0 * job.copies
    elif job.head == "tiles":
        # Gradients of the head and of its input in fp32, and a tile of logits in fp32.
        head = 8.0 * scored * c.hidden_size + 4.0 * min(scored, TOKEN_CHUNK_SIZE) * min(_TILE, c.vocab_size)
        head += 0.0 if job.adapter else 4.0 * c.vocab_size * c.hidden_size
    return {"activations": kept + max(0.0, again - head), "logits": head}


def per_rank(job: Job, batch: int, launch: str, ranks: int) -> dict[str, float]:
    """Return the bytes of each part on one of `ranks` ranks while it learns. `launch` is an accelerate config.

    `copies` are further copies of weights: autocast's in bf16, or those gathered by ZeRO-3 and FSDP. `buffers` are for
    communication.
    """
    stage, n, share = STAGES.get(launch, 0), job.trained, 1 / ranks
    copies = buffers = 0.0
    if stage:  # weights in bf16, whose fp32 copies are the optimizer's
        frozen = job.frozen / 2 if job.size == 4 else job.frozen
        weights = (2 * (n + job.readers) + frozen) * (share if stage == 3 else 1)
        gradients, optimizer = 2.0 * n * (1 if stage == 1 else share), (4 * n + job.optimizer) * share
        copies = 2 * min(n + frozen / 2, _LIVE) if stage == 3 else 0.0
        buffers = 2 * (_BUCKET + min(n, _BUCKET))
    else:
        weights, gradients, optimizer = 4 * n + job.frozen + job.readers * job.size, 4.0 * n, job.optimizer
        if launch == FSDP:
            c = job.config.get_text_config()
            weights, gradients, optimizer = weights * share, gradients * share, optimizer * share
            layer = (n + job.frozen / job.size) / c.num_hidden_layers
            # Two layers, the embeddings, and the models that only read, which TRL shards as one piece, in bf16; and the
            # fp32 gradients of one layer.
            copies = 2 * (2 * layer + 2 * c.vocab_size * c.hidden_size + job.readers) + 4 * n / c.num_hidden_layers
        else:
            copies = 2.0 * n + (job.frozen / 2 if job.size == 4 else 0.0)
            buffers = gradients if ranks > 1 else 0.0  # DDP's buckets
    parts = {"weights": weights, "gradients": gradients, "optimizer": optimizer, "copies": copies, "buffers": buffers}
    return parts | activations(job, batch, 2 if stage else job.size)


def peaks(job: Job, batch: int, sampled: float, launch: str, ranks: int, gpu: Gpu) -> dict[str, float]:
    """Return the bytes of each part of a rank, of all while `learning`, while `sampling` so many rows, and at the
    `peak`."""
    parts = per_rank(job, batch, launch, ranks)
    sampling, always = 0.0, parts["weights"] + parts["gradients"] + parts["optimizer"]
    if job.vllm is not None:
        reserved, sleeps = job.vllm
        sampling = always + reserved * gpu.memory
        parts |= {} if sleeps else {"vllm": reserved * gpu.memory}
    elif sampled:
        c = job.config.get_text_config()
        heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
        cached = 4.0 * c.num_hidden_layers * heads * head_width(c)  # a token's keys and values, in bf16
        copied = launch in SHARDED or (job.size == 4 and not STAGES[launch])  # gathered, or a bf16 copy of fp32
        sampling = always + 2.0 * job.parameters * copied + sampled * job.length * cached
    learning = sum(parts.values())
    return {**parts, "learning": learning, "sampling": sampling, "peak": max(learning, sampling)}
