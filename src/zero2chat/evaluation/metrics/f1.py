"""F1 of the words that an answer shares with the reference (Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1).

Case, accents and punctuation are ignored. Articles count, in every language alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import evaluate

from zero2chat.core.text import words
from zero2chat.evaluation.metrics import over_rows, text_info


class F1(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return text_info(__doc__)

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        pairs = zip(predictions, references, strict=True)
        return over_rows(self, {"f1": [_f1(words(said, False), words(gold, False)) for said, gold in pairs]})


def _f1(said: Sequence[str], gold: Sequence[str]) -> float:
    if not said or not gold:
        return float(said == gold)
    return 2 * (Counter(said) & Counter(gold)).total() / (len(said) + len(gold))
