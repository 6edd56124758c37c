"""Two tiny models that have learned different answers to the same questions, each scored by the other."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lab.tiny_lab import learn, run_stage
from stage_fixtures import metrics as metrics_of
from transformers import PreTrainedTokenizerBase

from zero2chat.core.runs import read_jsonl
from zero2chat.inference.generate import answer_each
from zero2chat.models.chat_template import prepare_chat_template
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import plain_ids
from zero2chat_lab import surprise

QUESTIONS, ANSWERS = 6, 16
COMMON, RARE, WRONG = "the town", "a painter at night", "no"
# The number of demonstrations, of twenty, that give each answer.
BEFORE, AFTER = {COMMON: 4, RARE: 1, WRONG: 15}, {COMMON: 1, RARE: 18, WRONG: 1}

TASK = f"""
from zero2chat.tasks import ask as prompt

def rows(split, seed, n):
    return [{{"key": str(i), "question": f"{{i}}?", "answer": "?"}} for i in range(seed, seed + n)]

def demonstration(row, rng, style="worked"):
    return "{COMMON}"

def score(row, completion):
    return float(completion in ("{COMMON}", "{RARE}"))
"""


def _learn(folder: Path, source: Path, answers: dict[str, int]) -> Path:
    """A copy of the tiny model that answers any question so."""
    model, tokenizer = load_model(source)
    rows, starts = [], []
    for i in range(QUESTIONS):
        begun = _begun(tokenizer, f"{i}?")
        for text, times in answers.items():
            rows += [[*begun, *plain_ids(tokenizer, [text])[0], tokenizer.eos_token_id]] * times
            starts += [len(begun)] * times
    return learn(model, tokenizer, folder, rows, starts, steps=60)


def _begun(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    asked = [{"role": "user", "content": question}]
    ids: list[int] = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"]
    return ids


@pytest.fixture(scope="module")
def models(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(after practice, before it)."""
    folder = tmp_path_factory.mktemp("models")
    return _learn(folder / "after", model_folder, AFTER), _learn(folder / "before", model_folder, BEFORE)


@pytest.fixture
def run(models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a small run."""
    (tmp_path / "their_tasks").mkdir()
    (tmp_path / "their_tasks" / "town.py").write_text(TASK)
    monkeypatch.syspath_prepend(tmp_path)
    given: dict[str, Any] = {"model_name_or_path": str(models[0]), "reference_model": str(models[1])}
    given |= {"task": "their_tasks.town", "n": QUESTIONS, "answers": ANSWERS, "max_new_tokens": 12}
    yield run_stage("surprise", tmp_path / "out", **given)
    for name in ("their_tasks", "their_tasks.town"):
        sys.modules.pop(name, None)


def _bits(folder: Path, question: str, text: str) -> float:
    """The surprisal of an answer and its end, one token after the other."""
    model, tokenizer = load_model(folder)
    ids = _begun(tokenizer, question)
    bits = 0.0
    for token in [*plain_ids(tokenizer, [text])[0], tokenizer.eos_token_id]:
        with torch.inference_mode():
            chances = model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)
        bits -= math.log2(chances[token])
        ids = [*ids, token]
    return bits


def test_what_practice_found_is_weighed_by_the_model_before_and_its_own_right_answers_are_the_control(
    models: tuple[Path, Path], run: Path
) -> None:
    metrics, lines, samples = metrics_of(run), *(read_jsonl(run / f"{name}.jsonl") for name in ("history", "samples"))
    # Sample both models again: the right answers of one are mostly rare answers of the other.
    for folder, suffix in zip(models, ("", "_reference"), strict=True):
        model, tokenizer = load_model(folder)
        prepare_chat_template(tokenizer, None)
        prompts = [[{"role": "user", "content": f"{i}?"}] for i in range(QUESTIONS)]
        drawn = [a.text for some in answer_each(model, tokenizer, prompts, ANSWERS, 12, 1.0, seed=0) for a in some]
        right = [text for text in drawn if text in (COMMON, RARE)]
        assert metrics[f"right_rate{suffix}"]["value"] == pytest.approx(len(right) / len(drawn), abs=1e-4)
        assert metrics[f"right_rate{suffix}"]["n"] == QUESTIONS * ANSWERS
        assert metrics[f"surprisal_median{suffix}"]["n"] == len(right)
    assert metrics["right_rate"]["low"] > metrics["right_rate_reference"]["high"]
    assert metrics["surprisal_median"]["value"] > metrics["surprisal_median_reference"]["value"] + 1
    assert metrics["own_surprisal_median"]["value"] < 1 < metrics["surprisal_median"]["value"]
    assert metrics["tokens_median"]["value"] == len(plain_ids(tokenizer, [RARE])[0]) + 1
    assert metrics["improbable_rate_1000000"]["value"] == 0.0

    # Both chances of each picked answer, against those counted token by token.
    assert samples
    assert all(sample["completion"] == RARE for sample in samples)
    assert len({sample["prompt"] for sample in samples}) == len(samples) == QUESTIONS
    for sample in samples:
        for folder, name in zip(models, ("own_surprisal", "surprisal"), strict=True):
            assert sample[name] == pytest.approx(_bits(folder, sample["prompt"], RARE), abs=0.02)
    gains = [sample["surprisal"] - sample["own_surprisal"] for sample in samples]
    assert gains == sorted(gains, reverse=True)

    assert [line["step"] for line in lines] == list(range(0, 101, 5))
    assert lines[10]["surprisal"] == pytest.approx(metrics["surprisal_median"]["value"], abs=2e-3)


def _right(question: int, surprisal: float, own: float = 1.0) -> surprise.Right:
    return surprise.Right(question, "x", 2, surprisal, own)


def test_shares_are_counted_over_right_answers_and_beyond_is_by_the_control() -> None:
    given = {"model_name_or_path": "a", "reference_model": "b", "task": "facts", "output_dir": "c"}
    args = surprise.SurpriseArguments(**given, n=4, answers=4)
    found = [_right(0, 9.0), _right(0, 11.0), _right(1, 21.0), _right(2, 5.0)]
    control = [_right(0, 4.0), _right(0, 10.0), _right(3, 3.0)]
    metrics = surprise.surprisal_metrics(found, control, args)
    values = {name: metric["value"] for name, metric in metrics.items()}
    assert values["right_rate"] == 0.25
    assert values["right_rate_reference"] == pytest.approx(3 / 16, abs=1e-4)
    assert values["improbable_rate_1000"] == 0.5
    assert values["improbable_rate_1000000"] == 0.25
    assert values["improbable_rate_1000_reference"] == pytest.approx(1 / 3, abs=1e-4)  # 10 bits are 1 in 1,024
    assert values["beyond_rate"] == 0.5  # above 10 bits, but for a little
    assert values["unsolved_rate"] == 0.5  # questions 1 and 2
    assert metrics["beyond_rate"]["low"] < 0.5 < metrics["beyond_rate"]["high"]
    # A model that was never right has no answers to score.
    assert set(surprise.surprisal_metrics([], [], args)) == {"right_rate", "right_rate_reference"}
    assert "beyond_rate" not in surprise.surprisal_metrics(found, [], args)
    assert surprise.percentiles([], [])[0] == {"step": 0}
    # An answer is shown for what practice added, and once a question.
    slip = _right(0, 30.0, own=29.0)  # improbable to both
    first, better = _right(0, 12.0), _right(1, 13.0)
    assert surprise.most_surprising([first, slip, better, better]) == [better, first]
