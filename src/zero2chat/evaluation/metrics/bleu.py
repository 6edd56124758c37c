"""BLEU of all answers together, from 0 to 100, by sacrebleu with its default settings (Post 2018, arXiv:1804.08771)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evaluate
import sacrebleu

from zero2chat.evaluation.metrics import text_info


class Bleu(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return text_info(__doc__)

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        return {"bleu": sacrebleu.corpus_bleu(list(predictions), [list(references)]).score}
