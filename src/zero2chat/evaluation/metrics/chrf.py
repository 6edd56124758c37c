"""chrF2 of all answers together, from 0 to 100, by sacrebleu with its default settings (Popović 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evaluate
import sacrebleu

from zero2chat.evaluation.metrics import text_info


class Chrf(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return text_info(__doc__)

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        return {"chrf": sacrebleu.corpus_chrf(list(predictions), [list(references)]).score}
