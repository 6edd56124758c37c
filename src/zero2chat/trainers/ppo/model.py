"""A policy and its value head in one module, which share an optimizer, a checkpoint and a forward pass."""

from __future__ import annotations

import copy
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl.trainer.utils import disable_dropout_in_model, entropy_from_logits


def token_scores(
    policy: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor, keep: int, temperature: float, **more: Any
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Return three things for the last `keep` tokens of each row: their log-probabilities at this temperature, (rows,
    keep); the fp32 logits that predict them, (rows, keep, vocabulary); and the model's whole output."""
    # Left-padded rows start at position 0 too, as in `generate`.
    positions = (attention_mask.cumsum(1) - 1).clamp(min=0)
    output = policy(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=positions,
        logits_to_keep=keep + 1,
        use_cache=False,
        **more,
    )
    # A token is predicted at the position before it. (A model without logits_to_keep returns all logits.)
    logits = output.logits[:, -keep - 1 : -1].float() / temperature
    own_logits = logits.gather(-1, input_ids[:, -keep:, None]).squeeze(-1)
    return own_logits - logits.logsumexp(-1), logits, output


# The model API that Trainer, DeepSpeed, TRL and our optimizer use.
_OF_POLICY = {"config", "generation_config", "device", "dtype", "is_gradient_checkpointing"}
_OF_POLICY |= {"gradient_checkpointing_disable", "get_input_embeddings", "get_output_embeddings"}


class PolicyWithValue(nn.Module):
    """The trained module: a policy, and a value head on its last hidden states.

    State dict keys start with `policy.` or `value.`
    """

    def __init__(self, policy: PreTrainedModel):
        super().__init__()
        self.policy, like = policy, next(policy.parameters())
        width = policy.config.get_text_config().hidden_size
        score = nn.Linear(width, 1, bias=False, device=like.device, dtype=like.dtype)
        nn.init.zeros_(score.weight)  # all values are 0 until it is trained
        self.value = nn.ModuleDict({"score": score})

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        keep: int,
        temperature: float,
        with_entropy: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """Return the last `keep` tokens' log-probabilities, values and, if wanted, entropies: each (rows, keep)."""
        logps, logits, output = token_scores(
            self.policy, input_ids, attention_mask, keep, temperature, output_hidden_states=True
        )
        hidden = output.hidden_states[-1][:, -keep - 1 : -1]  # a token's value is foreseen before it
        values = self.score(hidden.to(self.score.weight.dtype)).squeeze(-1).float()
        return (logps, values, entropy_from_logits(logits)) if with_entropy else (logps, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name) if name in _OF_POLICY else super().__getattr__(name)

    @property
    def score(self) -> nn.Module:
        return self.value["score"]

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        self.policy.gradient_checkpointing_enable(**kwargs)
        if is_peft_model(self.policy):
            self.policy.enable_input_require_grads()  # else no gradient would pass the frozen embeddings


def open_models(
    model: PreTrainedModel, peft_config: Any, revision: str
) -> tuple[PolicyWithValue, PreTrainedModel | None]:
    """Return the trained module and the frozen reference. Dropout is off, so that the probability ratio starts at 1.

    With a `peft_config`, the reference is None: the policy without its adapter serves. `revision` is the model's.
    """
    policy: Any = model
    reference: Any = None
    if peft_config is not None:
        from peft import get_peft_model

        # As in TRL's trainers: with ZeRO-3, adapters must have the model's precision.
        policy = get_peft_model(model, peft_config, autocast_adapter_dtype=not is_deepspeed_zero3_enabled())
    elif is_deepspeed_zero3_enabled():  # a copy of a shard is not a model
        reference = load_again(model, revision)
    else:
        reference = copy.deepcopy(model)
    trained = PolicyWithValue(policy)
    disable_dropout_in_model(trained)
    if reference is not None:
        reference.requires_grad_(False).eval()
    return trained, reference


def load_again(model: PreTrainedModel, revision: str) -> PreTrainedModel:
    """Load a second copy of a model, in the same way as the first."""
    attention, path = model.config._attn_implementation, model.config._name_or_path
    return type(model).from_pretrained(
        path, dtype=model.dtype, attn_implementation=attention, revision=revision, use_safetensors=True
    )
