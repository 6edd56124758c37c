"""Mixtures of experts: which weights hold experts, how many experts a token uses, and how evenly tokens are routed.

transformers keeps a layer's experts in parameters of (experts, rows, columns), and computes them with one grouped
product, on CPUs too. Importing this module makes autocast apply to that product.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

# Names of the number of experts per token, in the configs of transformers
_PER_TOKEN = ("num_experts_per_tok", "top_k_experts", "moe_topk", "moe_top_k")


def whole_shape(parameter: nn.Parameter) -> tuple[int, ...]:
    """Return the shape of the whole parameter. With ZeRO-3, only DeepSpeed knows it."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def stacked(module: nn.Module) -> list[nn.Parameter]:
    """Return the module's own parameters that hold a matrix per expert."""
    experts = getattr(module, "num_experts", None)
    shapes = ((p, whole_shape(p)) for p in module.parameters(recurse=False))
    return [p for p, shape in shapes if experts and len(shape) == 3 and shape[0] == experts]


def expert_stacks(model: nn.Module) -> list[nn.Module]:
    """Return each layer's module with experts, first layer first; an empty list for a dense model."""
    return [module for module in model.modules() if stacked(module)]


def experts_per_token(config: PreTrainedConfig) -> int | None:
    """Return how many experts a token uses in each layer; None if the config does not say."""
    c = config.get_text_config()
    return next((n for name in _PER_TOKEN if (n := getattr(c, name, None)) is not None), None)


def idle_count(model: PreTrainedModel) -> int:
    """Count the parameters that a token does not use: in each layer, those of the experts it is not routed to."""
    per_token = experts_per_token(model.config)
    if per_token is None:
        return 0
    shapes = [whole_shape(p) for module in expert_stacks(model) for p in stacked(module)]
    return sum(max(0, experts - per_token) * rows * columns for experts, rows, columns in shapes)


def reload(model: PreTrainedModel, folder: str) -> None:
    """Load a model folder, whose files have one matrix per expert, into a model with stacked experts."""
    model.load_state_dict(type(model).from_pretrained(folder, dtype=model.dtype).state_dict())


class _Cast:
    """A module with its tensors in another precision."""

    def __init__(self, module: nn.Module, dtype: torch.dtype):
        self._module, self._dtype = module, dtype

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return value.to(self._dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def grouped_in_autocast(module: nn.Module, hidden_states: torch.Tensor, *routing: torch.Tensor) -> torch.Tensor:
    """transformers' `grouped_mm`, computed in bf16 under bf16 autocast: fp32 experts would otherwise stay in fp32."""
    kind = hidden_states.device.type
    if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16:
        return grouped_mm_experts_forward(_Cast(module, torch.bfloat16), hidden_states, *routing)
    return grouped_mm_experts_forward(module, hidden_states, *routing)


ALL_EXPERTS_FUNCTIONS["grouped_mm"] = grouped_in_autocast


class ExpertLoads:
    """Counts the tokens that each expert of a model gets, in training (or else in evaluation) mode."""

    def __init__(self, model: PreTrainedModel):
        self.training = True
        self.stacks = expert_stacks(model)
        self.counts = [torch.zeros(int(stack.num_experts), dtype=torch.int64) for stack in self.stacks]
        self.per_token = 1
        for i, stack in enumerate(self.stacks):
            stack.register_forward_pre_hook(functools.partial(self._count, i), with_kwargs=True)

    def _count(self, i: int, stack: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if stack.training != self.training:
            return
        chosen = named["top_k_index"] if "top_k_index" in named else given[1]  # (tokens, experts per token)
        self.per_token = chosen.shape[-1]
        ids = chosen.detach().flatten()
        self.counts[i] = self.counts[i].to(ids.device).scatter_add(0, ids, torch.ones_like(ids))

    def take(self, accelerator: Any) -> list[list[float]]:
        """Return, per layer, each expert's share of the tokens since the last call, over all processes.

        Every process must call this. With equal loads each share is experts per token / experts. Empty without tokens.
        """
        counted = [accelerator.reduce(count.to(accelerator.device), "sum").tolist() for count in self.counts]
        self.counts = [torch.zeros_like(count) for count in self.counts]
        return [[n * self.per_token / sum(layer) for n in layer] for layer in counted if sum(layer)]
