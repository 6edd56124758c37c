"""Probing tiny models: what is measured, what is kept for the stage `reward`, and what is refused."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from lab.tiny_lab import run_stage
from stage_fixtures import main
from stage_fixtures import metrics as metrics_of
from transformers import PreTrainedTokenizerBase

from zero2chat.core.runs import read_jsonl
from zero2chat_lab import probe
from zero2chat_lab.probe import best_of_n, kl_of_best_of_n, pieces_of, search

SMALL = {"n": 12, "answers": 4, "max_new_tokens": 8} | {
    f"gibberish_{name}": n for name, n in (("prompts", 6), ("train", 5), ("rounds", 6), ("tries", 4), ("length", 6))
}


def test_the_best_of_n_rises_by_score_and_gibberish_becomes_rejected_answers(
    model_folder: Path, reward_folder: Path, configured: Callable[..., Path], tmp_path: Path
) -> None:
    given = {"model_name_or_path": str(model_folder), "reward_model": str(reward_folder)}
    folder = run_stage("probe", tmp_path / "probe", **given | SMALL)
    metrics = metrics_of(folder)
    lines = read_jsonl(folder / "history.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 4]
    proxies = [line["proxy"] for line in lines]
    assert proxies == sorted(proxies)
    assert [line["kl"] for line in lines] == [kl_of_best_of_n(n) for n in (1, 2, 4)]
    assert metrics["gibberish_rate"]["n"] == 6
    assert metrics["gold_best_of_4"]["n"] == 12
    # The search climbs, so that it ends above what the model says itself.
    assert metrics["gibberish_proxy"]["value"] > metrics["proxy_best_of_1"]["value"]

    pairs = read_jsonl(folder / "gibberish.jsonl")
    assert 5 <= len(pairs) == metrics["gibberish_pairs"]["value"] <= 15
    more = {"datasets": [{"path": str(folder / "gibberish.jsonl")}], "max_steps": 2, "save_steps": 2}
    mended = main("reward", configured("reward", "mended", **more))
    known = metrics_of(mended)["pairs_train"]["value"]
    kept = read_jsonl(mended / "pairs" / "train.jsonl")
    assert len(kept) == known
    assert [{name: pair[name] for name in pairs[0]} for pair in kept[-len(pairs) :]] == pairs


def test_a_text_counts_that_is_loved_above_nine_in_ten_and_worse_than_nine_in_ten() -> None:
    own, tastes = list(range(10)), [0.1, *[0.5] * 9]
    assert probe.loved_and_bad(8.5, own, 0.4, tastes)
    assert not probe.loved_and_bad(8.0, own, 0.4, tastes)  # above eight of ten
    assert not probe.loved_and_bad(8.5, own, 0.5, tastes)  # as bad as most is not worse
    assert not probe.loved_and_bad(8.5, own, 0.0, [0.0] * 4 + [1.0] * 6)


def test_best_of_n_equals_counting_every_draw() -> None:
    values = [0.3, -1.0, 2.0, 0.5, 0.5, 7.0]  # in the judge's order, which need not be theirs
    for n in range(1, len(values) + 1):
        draws = list(itertools.combinations(range(len(values)), n))
        assert best_of_n(values, n) == pytest.approx(sum(values[max(draw)] for draw in draws) / len(draws))
    assert best_of_n([0.5] * 3000, 1500) == pytest.approx(0.5)  # whose binomials no float can hold
    # Answers that the judge cannot tell apart share their gold.
    lines, metrics = probe.follow([[1.0, 1.0, 0.0, 0.0]] * 2, [[0.0, 1.0, 0.5, 0.5]] * 2, 0)
    assert [line["gold"] for line in lines] == [0.5, 0.5, 0.5]
    assert metrics["gold_best_of_4"]["value"] == 0.5


def test_kl_of_best_of_n_is_that_of_its_distribution() -> None:
    # The best of n has the density n F^(n-1) in the rank F: its KL is the integral of that times its logarithm.
    for n in (1, 2, 8):
        ranks = [(i + 0.5) / 200_000 for i in range(200_000)]
        density = [n * rank ** (n - 1) for rank in ranks]
        assert kl_of_best_of_n(n) == pytest.approx(statistics.fmean(d * math.log(d) for d in density), abs=1e-4)


PIECES = ["a", "b", " the", " x", "1"]


def test_it_finds_what_the_judge_loves_for_each_prompt_and_only_ever_climbs() -> None:
    def judge(numbers: Sequence[int], texts: Sequence[str]) -> list[float]:
        pairs = zip(numbers, texts, strict=True)
        return [text.count("the" if number % 2 else "1") - 0.1 * len(text) for number, text in pairs]

    found = search(judge, 4, PIECES, random.Random(0), rounds=60, tries=6, length=5)
    assert [texts[-1] for texts in found] == ["11111", "the the the the the", "11111", "the the the the the"]
    for number, texts in enumerate(found):
        scores = judge([number] * len(texts), texts)
        assert scores == sorted(scores)
        assert len(set(texts)) == len(texts)


def test_pieces_are_texts_that_can_be_read(tokenizer: PreTrainedTokenizerBase) -> None:
    pieces = pieces_of(tokenizer)
    assert len(pieces) > 50
    assert not set(pieces) & set(tokenizer.all_special_tokens)
    assert all(piece.strip() and "\ufffd" not in piece for piece in pieces)
