"""Perplexity of the reference answers, after their prompts, under the model that gave the predictions.

It is exp of the mean loss over the tokens of all reference answers, without the end of turn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import evaluate
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core.errors import UserError
from zero2chat.evaluation.metrics import text_info
from zero2chat.inference.generate import encode_prompts
from zero2chat.inference.tool_format import Tools
from zero2chat.models.loading import context_length
from zero2chat.models.tokenization import plain_ids


class Perplexity(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return text_info()

    def use(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[Mapping[str, Any]]],
        tools: Tools | None = None,
        schemas: Sequence[Any] | None = None,
    ) -> None:
        self.model, self.before = model, encode_prompts(tokenizer, prompts, tools, schemas)
        self.tokenizer, self.room = tokenizer, context_length(model)

    @torch.no_grad()
    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        loss, tokens = 0.0, 0
        answers = plain_ids(self.tokenizer, list(references))
        for i, (prompt, answer) in enumerate(zip(self.before, answers, strict=True)):
            if len(prompt) + len(answer) > self.room:
                raise UserError(
                    f"row {i}: perplexity: prompt and reference of {len(prompt) + len(answer)} tokens do not fit the "
                    f"model's context of {self.room}: remove the row"
                )
            if answer:
                ids = torch.tensor([prompt + answer], device=self.model.device)
                logits = self.model(input_ids=ids, use_cache=False, logits_to_keep=len(answer) + 1).logits[0, :-1]
                loss += cross_entropy(logits.float(), ids[0, len(prompt) :], reduction="sum").item()
                tokens += len(answer)
        return {"perplexity": math.exp(loss / tokens)}
