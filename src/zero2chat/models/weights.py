"""Read a model's weights at each rollout in the form that `fast_generate` uses: fused, and with LoRA added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM, PreTrainedModel, Qwen3ForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

_MODELS = (Qwen3ForCausalLM, LlamaForCausalLM)
# RoPE types whose angles do not depend on the text's length.
_ROPE = ("default", "linear", "llama3", "yarn")


class Layer(NamedTuple):
    qkv: Callable[[torch.Tensor], torch.Tensor]
    o: Callable[[torch.Tensor], torch.Tensor]
    gate_up: Callable[[torch.Tensor], torch.Tensor]
    down: Callable[[torch.Tensor], torch.Tensor]
    norm1: torch.Tensor
    norm2: torch.Tensor
    qk_norm: torch.Tensor | None  # (query and key heads, head dim)


def is_supported(model: PreTrainedModel) -> bool:
    """Whether `fast_sample` knows the model's architecture."""
    config = model.config
    return (
        type(model) in _MODELS
        and config.hidden_act == "silu"
        and config.rope_parameters["rope_type"] in _ROPE
        and all(kind == "full_attention" for kind in getattr(config, "layer_types", None) or ())
    )


class NotReadable(Exception):
    """A weight is not a single dense tensor: it is sharded, quantized, or wrapped by an unsupported adapter."""


def _whole(weight: torch.Tensor, dims: int) -> torch.Tensor:
    # ZeRO-3 leaves an empty tensor, FSDP a flat one or a DTensor, and device maps one without data.
    if type(weight.data) is not torch.Tensor or weight.dim() != dims or not weight.numel() or weight.is_meta:
        raise NotReadable
    return weight.detach()


# Check by type: an adapter's wrapper has a `weight` too, that of the wrapped module.
def read_table(module: nn.Module) -> torch.Tensor:
    if type(module) is not nn.Embedding:
        raise NotReadable
    return _whole(module.weight, 2)


def read_norm(module: nn.Module) -> torch.Tensor:
    if type(module) not in (Qwen3RMSNorm, LlamaRMSNorm):
        raise NotReadable
    return _whole(module.weight, 1)


def read_layer(layer: Any, heads: int, kv_heads: int, rows: int) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    qk_norm = None
    if hasattr(attention, "q_norm"):
        q, k = read_norm(attention.q_norm), read_norm(attention.k_norm)
        qk_norm = torch.cat([q.expand(heads, -1), k.expand(kv_heads, -1)])
    return Layer(
        read_linear([attention.q_proj, attention.k_proj, attention.v_proj], rows),
        read_linear([attention.o_proj], rows),
        read_linear([mlp.gate_proj, mlp.up_proj], rows),
        read_linear([mlp.down_proj], rows),
        read_norm(layer.input_layernorm),
        read_norm(layer.post_attention_layernorm),
        qk_norm,
    )


def read_linear(modules: list[nn.Module], rows: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Fuse several layers with the same input into one matrix product."""
    weights, biases = zip(*map(_dense, modules), strict=True)
    weight = torch.cat(weights) if len(weights) > 1 else weights[0]
    bias = None
    if any(b is not None for b in biases):
        parts = [w.new_zeros(len(w)) if b is None else b for w, b in zip(weights, biases, strict=True)]
        bias = torch.cat(parts)
    if rows > 1 and weight.dtype is torch.float32 and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        # As torch.compile does for linear layers on a CPU: oneDNN with a prepacked weight. `F.linear` uses MKL, which
        # takes twice as long on processors that it is not tuned for.
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return lambda x: F.linear(x, weight, bias)


def _dense(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return a layer's weight and bias, with the active LoRA matrices added to the weight."""
    if type(module) is nn.Linear:
        return _whole(module.weight, 2), None if module.bias is None else _whole(module.bias, 1)
    from peft.tuners.lora import Linear

    if type(module) is not Linear or module.lora_variant or any(module.lora_bias.values()):
        raise NotReadable
    weight, bias = _dense(module.base_layer)  # `get_base_layer` would pass over nested adapters
    for name in module.active_adapters:
        if name in module.lora_A and not module.disable_adapters and not module.merged:
            weight = weight + module.get_delta_weight(name).to(weight.dtype)
    return weight, bias
