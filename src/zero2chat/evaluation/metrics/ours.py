"""Metrics of answers: comparisons of texts, and the perplexity of the reference answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import evaluate
import sacrebleu
import torch
from datasets import Features, Value
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core.errors import UserError
from zero2chat.core.text import words
from zero2chat.inference.generate import encode_prompts
from zero2chat.inference.tool_format import Tools
from zero2chat.models.loading import context_length
from zero2chat.models.tokenization import plain_ids


def exact_match(said: str, gold: str) -> float:
    """Return 1 if the answer equals the reference, apart from case and spaces, otherwise 0."""
    a, b = (" ".join(text.split()).casefold() for text in (said, gold))
    return float(a == b)


def f1(said: str, gold: str) -> float:
    """Return the F1 score of the words shared by answer and reference (Rajpurkar et al. 2016, arXiv:1606.05250, 6.1).

    Case, accents and punctuation are ignored. Articles count as words, in every language.
    """
    a, b = words(said, False), words(gold, False)
    common = (Counter(a) & Counter(b)).total()
    return 2 * common / (len(a) + len(b)) if a or b else 1.0


BY_ROW: dict[str, Callable[[str, str], float]] = {"exact_match": exact_match, "f1": f1}
# From 0 to 100, with sacrebleu's default settings: BLEU (Post 2018, arXiv:1804.08771) and chrF2 (Popović 2015).
TOGETHER: dict[str, Callable[..., Any]] = {"bleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf}


class TextMetric(evaluate.Metric):
    """A metric of this file, by name. Those in `BY_ROW` score each answer; those in `TOGETHER` score all together."""

    def __init__(self, key: str):
        self.key = key
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        features = Features({"predictions": Value("string"), "references": Value("string")})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        if self.key in TOGETHER:
            return {self.key: TOGETHER[self.key](list(predictions), [list(references)]).score}
        return {self.key: list(map(BY_ROW[self.key], predictions, references))}


class Perplexity(TextMetric):
    """Perplexity of the reference answers, given their prompts, under the model that gave the predictions.

    Perplexity is exp(mean loss) over the tokens of all reference answers, without their end-of-turn tokens.
    """

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
