"""Metrics that compare texts: `BY_ROW` gives a score for each answer, `TOGETHER` one for all answers.

ROUGE and F1 count the words of every script. The package `rouge_score` keeps only a to z and 0 to 9.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import evaluate
import sacrebleu

from zero2chat.core.text import words
from zero2chat.evaluation.metrics import text_info


def exact_match(said: str, gold: str) -> dict[str, float]:
    """1 if the answer equals the reference, apart from case and spaces."""
    return {"exact_match": float(_plain(said) == _plain(gold))}


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def f1(said: str, gold: str) -> dict[str, float]:
    """F1 of the words that both share (Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1).

    Case, accents and punctuation are ignored. Articles count, in every language alike.
    """
    a, b = words(said, False), words(gold, False)
    return {"f1": _overlap(a, b) if a and b else float(a == b)}


def rouge(said: str, gold: str) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L, as F1 without stemming (Lin 2004)."""
    a, b = words(said, False), words(gold, False)
    in_order = _common_subsequence(a, b)
    return {
        "rouge1": _overlap(a, b),
        "rouge2": _overlap(list(pairwise(a)), list(pairwise(b))),
        "rougeL": 2 * in_order / (len(a) + len(b)) if in_order else 0.0,
    }


def _overlap(a: Sequence[Any], b: Sequence[Any]) -> float:
    common = (Counter(a) & Counter(b)).total()
    return 2 * common / (len(a) + len(b)) if common else 0.0


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = row
        row = [0]
        for j, other in enumerate(b):
            row.append(before[j] + 1 if word == other else max(row[j], before[j + 1]))
    return row[-1]


BY_ROW: dict[str, Callable[[str, str], dict[str, float]]] = {"exact_match": exact_match, "f1": f1, "rouge": rouge}
# From 0 to 100, with sacrebleu's default settings: BLEU (Post 2018, arXiv:1804.08771) and chrF2 (Popović 2015).
TOGETHER: dict[str, Callable[..., Any]] = {"bleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf}


class TextMetric(evaluate.Metric):
    """A metric of this file, by its name."""

    def __init__(self, key: str):
        self.key = key
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return text_info()

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        if self.key in TOGETHER:
            return {self.key: TOGETHER[self.key](list(predictions), [list(references)]).score}
        rows = [BY_ROW[self.key](said, gold) for said, gold in zip(predictions, references, strict=True)]
        return {name: [row[name] for row in rows] for name in rows[0]}
