"""Merge an adapter at the end of its training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zero2chat.models.adapters import merged
from zero2chat.models.chat_template import end_turn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from zero2chat.core.runs import Run


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
