"""Whether a model can be kept from reading the document before, in windows with several documents."""

from __future__ import annotations

import inspect

import torch
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled


@torch.no_grad()
def masks_documents(model: PreTrainedModel) -> bool:
    """Whether positions that restart end attention. The states of a recurrent layer go on to the next document.

    A model with weights is tried: of two windows that differ in their first document, the second must be the same.
    """
    body = model.base_model
    if "position_ids" not in inspect.signature(body.forward).parameters or model._is_stateful:
        return False
    plain = model.config._attn_implementation in ("eager", "sdpa")  # others may need an accelerator
    if not plain or model.device.type == "meta" or is_deepspeed_zero3_enabled():
        return True
    ids, positions = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 1]]), torch.tensor([[0, 1, 2, 0]] * 2)
    training = model.training
    first, second = model.eval().base_model(ids, position_ids=positions, use_cache=False).last_hidden_state[:, -1]
    model.train(training)
    return bool((first - second).abs().max() <= 1e-4 * first.abs().max())
