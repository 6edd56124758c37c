"""Bits per byte by source and position, and needles, on tiny models."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab.tiny_lab import run_stage, write_corpus
from stage_fixtures import metrics as metrics_of

from zero2chat import tasks
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import plain_ids
from zero2chat_lab import context
from zero2chat_lab.context import find_needles, read_passages

TEXTS = ["Ada was born in Genoa and works as a baker. " * 40, "Tom is a painter, and he's known for the harbour."]


@pytest.fixture
def measure(model_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    """`measure(**changes)` → metrics of a run of the stage."""
    texts = [*TEXTS, "12 + 30 = 42. " * 60]
    corpus = write_corpus(tmp_path / "corpus", ["people", "people", "sums"], train=texts, test=texts)
    given = {"model_name_or_path": str(model_folder), "dataset": str(corpus), "length": 64}
    return lambda **changes: metrics_of(run_stage("context", tmp_path / "out", **given | changes))


def test_bits_are_those_of_the_model_by_document_and_position(model_folder: Path) -> None:
    model, tokenizer = load_model(model_folder)
    passages = read_passages(model, tokenizer, TEXTS, 64, 2)
    ids = [0, *plain_ids(tokenizer, TEXTS[:1])[0]]
    pieces = [ids[start : start + 65] for start in range(0, len(ids) - 1, 64)]
    assert [len(one.bits) for one in passages if one.document == 0] == [len(piece) - 1 for piece in pieces]
    assert sum(one.sizes.sum() for one in passages if one.document == 0) == len(TEXTS[0].encode())
    for one, piece in zip(passages, pieces, strict=False):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([piece])).logits[0, :-1]
        nats = torch.nn.functional.cross_entropy(logits, torch.tensor(piece[1:]), reduction="none")
        np.testing.assert_allclose(one.bits, nats.numpy() / math.log(2), rtol=1e-3, atol=1e-3)


def test_far_and_near_are_the_halves_of_whole_passages(measure: Callable[..., Any]) -> None:
    metrics = measure(sources=["people"])
    parts = [metrics[f"bits_per_byte_to_{end}"] for end in (16, 32, 48, 64)]
    near, far = metrics["bits_per_byte_near"], metrics["bits_per_byte_far"]
    assert (near["n"], far["n"]) == (sum(one["n"] for one in parts[:2]), sum(one["n"] for one in parts[2:]))
    bits = sum(one["value"] * one["n"] for one in parts[2:])
    assert far["value"] == pytest.approx(bits / far["n"], abs=1e-3)
    assert metrics["far_minus_near"]["value"] == pytest.approx(far["value"] - near["value"], abs=0.05)
    assert "bits_per_byte_sums" not in metrics


def test_needles_and_depths(model_folder: Path, measure: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = load_model(model_folder)
    rows = tasks.load("needle").rows("test", 0, 3)
    for depth, earliest, latest in ((0.0, 0, 1), (0.5, 0.3, 0.6), (1.0, 0.7, 1)):
        found, passages = find_needles(model, tokenizer, TEXTS, 128, depth, rows, 0, 2)
        assert found == [False] * 3  # random weights
        for row, passage in zip(rows, passages, strict=True):
            assert len(passage.ids) == 128
            text = tokenizer.decode(passage.ids, skip_special_tokens=True)
            before, after = text.split(row["needle"])
            assert after.endswith(f"\n\n{row['asked']} {row['answer']}")
            hay = len(before) + len(after.split("\n\n")[0])
            assert earliest <= len(before) / hay <= latest
    monkeypatch.setattr(context, "DEPTHS", (0, 1))
    monkeypatch.setattr(context, "PARTS", 2)
    metrics = measure(needles=2, length=256)
    assert metrics["needle_rate"] | {"seed": 0} == {"value": 0.0, "n": 8, "low": 0.0, "high": 0.3244, "seed": 0}
    assert {"needle_rate_128_at_0", "needle_rate_256_at_100"} <= metrics.keys()
