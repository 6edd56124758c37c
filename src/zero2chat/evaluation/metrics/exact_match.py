"""Share of answers that equal the reference, apart from case and spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evaluate

from zero2chat.evaluation.metrics import over_rows, text_info


class ExactMatch(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return text_info(__doc__)

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        pairs = zip(predictions, references, strict=True)
        return over_rows(self, {"exact_match": [float(_plain(said) == _plain(gold)) for said, gold in pairs]})


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
