"""ROUGE-1, ROUGE-2 and ROUGE-L of each answer, as F1 without stemming (Lin 2004).

Words are those of every script. The package `rouge_score` keeps only a to z and 0 to 9.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import evaluate

from zero2chat.core.text import words
from zero2chat.evaluation.metrics import over_rows, text_info


class Rouge(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return text_info(__doc__)

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        pairs = [(words(said, False), words(gold, False)) for said, gold in zip(predictions, references, strict=True)]
        return over_rows(
            self,
            {
                "rouge1": [_shared(said, gold) for said, gold in pairs],
                "rouge2": [_shared(list(pairwise(said)), list(pairwise(gold))) for said, gold in pairs],
                "rougeL": [_f1(_common_subsequence(said, gold), said, gold) for said, gold in pairs],
            },
        )


def _shared(said: Sequence[Any], gold: Sequence[Any]) -> float:
    return _f1((Counter(said) & Counter(gold)).total(), said, gold)


def _f1(common: int, said: Sequence[Any], gold: Sequence[Any]) -> float:
    return 2 * common / (len(said) + len(gold)) if common else 0.0


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = row
        row = [0]
        for j, other in enumerate(b):
            row.append(before[j] + 1 if word == other else max(row[j], before[j + 1]))
    return row[-1]
