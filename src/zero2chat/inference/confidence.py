"""Measure how sure a model is of an answer, by the tokens' probabilities: below a threshold, a model can decline.

The probabilities are the model's own, at temperature 1 and without top-k or top-p, however the answer was sampled.
Longer and shorter answers are comparable, because the confidence is a mean. The stop token is not counted, because a
truncated answer has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REFUSAL = "I do not know."


def confidence(log_probabilities: Sequence[float]) -> float:
    """Return the geometric mean of the tokens' probabilities; 0 for an answer without tokens."""
    return math.exp(sum(log_probabilities) / len(log_probabilities)) if log_probabilities else 0.0


def log_probabilities(model: PreTrainedModel, context: Sequence[int], answer: Sequence[int]) -> list[float]:
    """Return the log-probability of each token of an answer, in nats, given the context and the earlier tokens."""
    import torch

    if not answer:
        return []
    ids = torch.tensor([[*context, *answer]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids[:, :-1], use_cache=False, logits_to_keep=len(answer)).logits[0]
        logps = logits.float().log_softmax(-1).gather(1, ids[0, len(context) :, None])
    values: list[float] = logps[:, 0].tolist()
    return values
