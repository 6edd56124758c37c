"""The search finds texts with high scores, guided by the judge alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from zero2chat_lab.probe import pieces_of, search

PIECES = ["a", "b", " the", " x", "1"]


def test_it_finds_what_the_judge_loves_for_each_prompt_and_only_ever_climbs() -> None:
    def judge(numbers: Sequence[int], texts: Sequence[str]) -> list[float]:
        return [
            text.count("the" if number % 2 else "1") - 0.1 * len(text)
            for number, text in zip(numbers, texts, strict=True)
        ]

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
