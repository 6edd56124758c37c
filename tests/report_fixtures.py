"""Run folders as the stages write them, small."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from zero2chat.report.steps import StepResult
from zero2chat.stages import load


def _write_run(
    folder: Path,
    stage: str,
    metrics: Mapping[str, Any] | None,
    history: Iterable[Mapping[str, Any]] = (),
    samples: Iterable[Mapping[str, Any]] = (),
    **settings: Any,
) -> Path:
    """A run folder; without metrics an unfinished one. Bare numbers become metrics."""
    folder.mkdir(parents=True)
    fingerprint = {"stage": stage, "settings": {"seed": 0} | settings, "inputs": {}, "versions": {}}
    identity = {"fingerprint": fingerprint, "seconds": 1.0}
    (folder / "run.json").write_text(json.dumps(identity))
    if metrics is not None:
        whole = {name: m if isinstance(m, dict) else {"value": m} for name, m in metrics.items()}
        (folder / "metrics.json").write_text(json.dumps(whole))
    for name, lines in (("history.jsonl", history), ("samples.jsonl", samples)):
        if lines := list(lines):
            (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def rate(value: float, n: int = 100) -> dict[str, Any]:
    """A metric with an interval."""
    return {"value": value, "n": n, "low": round(value - 0.05, 4), "high": round(value + 0.05, 4), "seed": 0}


def _write_recipe(root: Path) -> list[Path]:
    """Finished steps: each stage with a section, `sft` and `evaluate` twice, one without a section."""
    question = {"step": 0, "prompt": "What is 2 + 2?", "completion": "5", "task": "sums", "score": 0.0, "answer": "4"}
    exam = {
        "accuracy": rate(0.7),
        "accuracy_sums": rate(0.6),
        "accuracy_sampled_sums": rate(0.5),
        "pass_at_1_sums": rate(0.5),
        "pass_at_8_sums": rate(0.9),
        "stop_rate": rate(0.95),
        "seconds": 3.0,
    }
    study = {"accuracy": rate(0.6), "accuracy_sums": rate(0.6), "stop_rate": rate(0.9), "conversations": 1200}
    return [
        _write_run(
            root / "corpus",
            "corpus",
            {"documents_train": 900, "bytes_train": 12_345_678, "documents_prose": 900, "bytes_prose": 12_345_678},
            samples=[{"step": 0, "prompt": "prose", "completion": "Fellow citizens"}],
        ),
        _write_run(
            root / "tokenizer",
            "tokenizer",
            {"vocab_size": 512, "bytes_per_token": {"value": 2.5, "n": 9000}, "bytes_per_token_gpt4": 4.0},
            samples=[
                {"step": 0, "prompt": "the end\n", "completion": "", "tokens": ["the", " end", "\n"], "ids": [7, 8, 9]}
            ],
        ),
        _write_run(
            root / "pretrain",
            "pretrain",
            {"val_bits_per_byte": 1.5, "val_bits_per_byte_prose": 1.5, "parameters": 3_300_000, "seconds": 61},
            history=[
                *({"step": s, "loss": 8.0 / (s + 1), "learning_rate": 0.001, "tokens": s * 64} for s in range(8)),
                {"step": 4, "eval_prose_loss": 3.0, "val_bits_per_byte": 1.7},
                {"step": 7, "eval_prose_loss": 2.5, "val_bits_per_byte": 1.5},
            ],
            samples=[
                {"step": 0, "prompt": "The people", "completion": " qzx"},
                {"step": 7, "prompt": "The people", "completion": " of the nation"},
            ],
        ),
        *(
            _write_run(
                root / name,
                "sft",
                study,
                history=[{"step": s, "loss": 2.0 - s / 10} for s in range(5)],
                samples=[question, question | {"step": 4, "completion": "4", "score": 1.0}],
            )
            for name in ("sft", "sft_more")
        ),
        _write_run(root / "polish", "polish", {"shine": 0.25}),
        *(_write_run(root / name, "evaluate", exam, samples=[question]) for name in ("exam_a", "exam_b")),
    ]


def _section_text(step: StepResult) -> str:
    """Return the section of a step, with the text of its pictures in the place of the pictures."""
    section = load(step.stage).section
    assert section is not None
    text = section.render(step)
    return re.sub(r"base64,([\w+/=]+)", lambda found: base64.b64decode(found[1]).decode(), text)


@pytest.fixture
def write_run() -> Callable[..., Path]:
    return _write_run


@pytest.fixture
def section_text() -> Callable[[StepResult], str]:
    return _section_text


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return _write_recipe(tmp_path_factory.mktemp("tiny"))
