"""Merge an adapter at the end of its training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zero2chat.core.errors import UserError
from zero2chat.models.adapters import merged
from zero2chat.models.chat_template import end_turn
from zero2chat.models.hardware import is_fsdp

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments
    from trl import ModelConfig

    from zero2chat.core.runs import Run


def check_merge(merge: bool, model_args: ModelConfig, training: TrainingArguments) -> None:
    """Raise `UserError` if a training run asks for a merge that is not possible."""
    if merge and not model_args.use_peft:
        raise UserError("merge_adapter: there is no adapter without use_peft: remove it, or set use_peft")
    if merge and (training.deepspeed_plugin is not None or is_fsdp(training.fsdp)):
        raise UserError("merge_adapter: sharded weights are not merged: use ddp.yaml, or `zero2chat export --merge`")


def merge_trained(trained: Any, model: PreTrainedModel, tokenizer: Any, run: Run) -> PreTrainedModel:
    """Return the whole model with the adapter of `trained` merged in, on the CPU.

    `model` is the model given to the trainer, whose generation config has the stop tokens.
    """
    adapter = run.folder / "_adapter"  # an ordinary adapter folder
    for part in (trained, model.generation_config, tokenizer):
        part.save_pretrained(adapter)
    whole = merged(adapter)  # from the base model's own weights, not its 4-bit ones
    end_turn(whole, tokenizer)
    return whole
