"""A threshold is fitted on one half of the rows and measured on the other."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stage_fixtures import write_rows

from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.inference.session import Sampling
from zero2chat.tasks import place
from zero2chat_lab.calibrate import Judged, calibrate, scaled, threshold_for
from zero2chat_lab.questions import DECLINED, RIGHT, WRONG, Question, questions_of


def row(key: str, verdict: str, sure: float, agreement: float | None = None) -> Judged:
    question = Question("mine", [{"role": "user", "content": key}], "yes")
    return Judged(key, place(key) < 0.5, question, "yes", verdict, sure, agreement)


def some_rows(n: int = 400, seed: int = 0) -> list[Judged]:
    """Right answers are surer than wrong ones; by agreement they cannot be told apart."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        right = rng.random() < 0.5
        sure = rng.uniform(0.5, 1) if right else rng.uniform(0.2, 0.7)
        rows.append(row(f"q{i}", RIGHT if right else WRONG, sure, rng.random()))
    return rows


def test_half_of_the_rows_fit_and_the_others_are_measured() -> None:
    rows = some_rows()
    metrics = calibrate(rows, keep=0.9)
    fit, held = ([one for one in rows if one.fits == fits] for fits in (True, False))
    assert (metrics["questions_fitted"]["value"], metrics["questions"]["value"]) == (len(fit), len(held))
    assert 0.4 < len(fit) / len(rows) < 0.6
    assert metrics["threshold"]["n"] == sum(one.verdict == RIGHT for one in fit)
    assert metrics["threshold"]["value"] == pytest.approx(0.55, abs=0.03)
    threshold = metrics["threshold"]["value"]
    kept = [one.confidence >= threshold for one in held if one.verdict == RIGHT]
    assert metrics["right_kept_rate"] == stats.rate(sum(kept), len(kept), 0)
    declined = [one.confidence < threshold for one in held if one.verdict == WRONG]
    assert metrics["wrong_declined_rate"] == stats.rate(sum(declined), len(declined), 0)
    assert metrics["wrong_declined_rate"]["low"] > 0.5 > metrics["wrong_declined_rate_agreement"]["value"]
    assert metrics["selective_accuracy"]["value"] > metrics["accuracy"]["value"] + 0.1
    assert metrics["auroc"]["value"] > 0.85
    assert metrics["auroc_agreement"]["low"] < 0.5 < metrics["auroc_agreement"]["high"]

    other = [one if one.fits else one._replace(confidence=0.1) for one in rows]
    assert calibrate(other, keep=0.9)["threshold"] == metrics["threshold"]


def test_what_declines_already_is_neither_right_nor_wrong_nor_given() -> None:
    rows = some_rows()
    more = [row(f"d{i}", DECLINED, 0.99, 1.0) for i in range(200)]
    before, after = calibrate(rows, 0.9), calibrate(rows + more, 0.9)
    for name in ("threshold", "right_kept_rate", "wrong_declined_rate", "selective_accuracy", "auroc"):
        assert after[name] == before[name]
    assert after["coverage"]["value"] < before["coverage"]["value"]


def test_rows_of_one_key_are_in_one_half_and_resampled_together() -> None:
    rows = some_rows(200)
    twins = calibrate([one for one in rows for _ in range(4)], 0.9)
    alone = calibrate(rows, 0.9)
    assert twins["right_kept_rate"]["n"] == 4 * alone["right_kept_rate"]["n"]
    width = [found["wrong_declined_rate"]["high"] - found["wrong_declined_rate"]["low"] for found in (twins, alone)]
    assert width[0] == pytest.approx(width[1], rel=0.3)  # four times the rows, but not four times the evidence


def test_new_right_answers_are_kept_as_often_as_wanted() -> None:
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(3000):
        *fit, new = rng.random(16).tolist()
        kept.append(new >= threshold_for(fit, keep=0.8))
    # Exactly, 3 of 16 equally likely ranks are below the third lowest of fifteen: 0.8125.
    assert 0.79 < np.mean(kept) < 0.835
    assert threshold_for([0.1234567, 0.5], keep=0.5) == 0.123456
    Sampling(abstain_below=threshold_for([1.0, 1.0], keep=0.5))  # `--abstain-below` takes it


@pytest.mark.parametrize(("n", "keep"), [(0, 0.9), (8, 0.9), (3, 0.8)])
def test_too_few_right_answers_are_an_error(n: int, keep: float) -> None:
    fewest = round(1 / (1 - keep)) - 1
    with pytest.raises(UserError, match=f"only {n} right answers to fit .*, but keep {keep} needs at least {fewest}"):
        threshold_for([0.5] * n, keep)
    threshold_for([0.5] * fewest, keep)


def test_scaling_corrects_overconfidence() -> None:
    rng = random.Random(0)
    sure = [rng.uniform(0.6, 1) for _ in range(4000)]
    right = [rng.random() < value**4 for value in sure]
    fitted = scaled(sure[:2000], right[:2000])

    def error(values: Sequence[float]) -> float:
        return stats.calibration_error(stats.reliability(values, right[2000:]))

    assert error(sure[2000:]) > 0.2
    assert error([fitted(value) for value in sure[2000:]]) < 0.04
    assert fitted(0.0) < 1e-3
    assert math.isfinite(scaled([0.5, 0.5], [True, True])(1.0))


def test_rows_of_a_file_need_a_reference_answer(tmp_path: Path) -> None:
    def written(*rows: dict[str, Any]) -> list[dict[str, str]]:
        return [{"path": str(write_rows(tmp_path / "held_out.jsonl", rows))}]

    ((key, question),) = questions_of(written({"question": "Capital of France?", "answer": "Paris"}))
    assert (key, question.answer, question.task) == ("Capital of France?", "Paris", None)
    with pytest.raises(UserError, match="held_out: no reference answers: add a column `answer`"):
        questions_of(written({"prompt": "Hello!"}))
    asked = {"prompt": "Capital of France?", "answer": "Paris"}
    with pytest.raises(UserError, match="held_out: questions use no tools: remove the column `tools`"):
        questions_of(written(asked | {"tools": [{"name": "search"}]}))
    with pytest.raises(UserError, match="held_out: the questions are asked without tools: remove `tools`"):
        questions_of([written(asked)[0] | {"tools": True}])
    keyed = questions_of([{"task": "facts", "n": 30, "split": "validation"}])
    assert {key for key, _ in keyed} == {f"facts {question.row['key']}" for _, question in keyed}
