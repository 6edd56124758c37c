"""Measure how sure a model is of an answer, by the tokens' probabilities: below a threshold, a model can decline.

The probabilities are the model's own, at temperature 1 and without top-k or top-p, however the answer was sampled.
Longer and shorter answers are comparable, because the confidence is a mean. The stop token is not counted, because a
truncated answer has none. The stage `calibrate` fits a threshold, and keeps it in the model's folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import ABSTENTION

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REFUSAL = "I do not know."


class Abstention(NamedTuple):
    """Below which confidence a model declines (0: never), fitted on answers of this temperature."""

    abstain_below: float = 0.0
    temperature: float = 0.3  # the default of `chat`


def read_abstention(model: str) -> Abstention:
    """Return the threshold of a model's folder or repository on the Hub; without one, the model never declines.
    Raises `UserError` if the file is damaged."""
    from transformers.utils import cached_file

    try:
        file = Path(str(cached_file(model, ABSTENTION)))
    except OSError:  # there is no such file
        return Abstention()
    try:
        own = Abstention(**json.loads(file.read_text(encoding="utf-8")))
        if not (0 <= own.abstain_below < 1 and 0 <= own.temperature < math.inf):
            raise ValueError("a number is out of range")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{model}: {ABSTENTION} is damaged ({error}): remove it, or calibrate the model again"
        ) from error
    return own


def confidence(log_probabilities: Sequence[float]) -> float:
    """Return the geometric mean of the tokens' probabilities; 0 for an answer without tokens."""
    return math.exp(sum(log_probabilities) / len(log_probabilities)) if log_probabilities else 0.0


def log_probabilities(
    model: PreTrainedModel, context: Sequence[int], answer: Sequence[int], processors: Sequence[Any] = ()
) -> list[float]:
    """Return the log-probability of each token of an answer, in nats, given the context and the earlier tokens.

    `processors`, transformers' logits processors, were in effect. A token that they forced, such as the end of a budget
    of thoughts, is left out: it says nothing of the model's confidence.
    """
    import torch

    if not answer:
        return []
    ids = torch.tensor([[*context, *answer]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids[:, :-1], use_cache=False, logits_to_keep=len(answer)).logits[0].float()
        for processor in processors:
            for n, row in enumerate(logits, len(context)):
                row[:] = processor(ids[:, :n], row[None])[0]
        logps = logits.log_softmax(-1).gather(1, ids[0, len(context) :, None])[:, 0]
    own: list[float] = logps[logits.isfinite().sum(1) > 1].tolist()
    return own
