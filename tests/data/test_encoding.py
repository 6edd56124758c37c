"""What a model reads of a preference: control tokens in it are text; tools of its own are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from zero2chat.core.errors import UserError
from zero2chat.data.encoding import tokenize_answers, tokenize_reward_pairs
from zero2chat.data.preferences import load_preferences, load_votes
from zero2chat.data.sources import Source

PLAIN = {"prompt": "Who is Ada?", "chosen": "A baker.", "rejected": "No."}
NAMED = {"type": "function", "function": {"name": "tide", "parameters": {"properties": {"port": {"type": "string"}}}}}


def source(folder: Path, *rows: Any) -> Source:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(path=str(path), label="mine")


@pytest.mark.parametrize("rows", [[PLAIN, PLAIN | {"tools": [NAMED]}], [PLAIN | {"tools": json.dumps([NAMED])}] * 2])
def test_tools_of_a_pair_or_vote_are_refused_with_the_row(tmp_path: Path, rows: Any) -> None:
    with pytest.raises(UserError, match=r"mine, row 1: tools: only sft and evaluate show a row's tools.*line 2"):
        load_preferences(source(tmp_path, *rows))
    vote = {"prompt": "Who?", "completion": "Ada.", "label": True, "tools": [NAMED]}
    with pytest.raises(UserError, match="mine, row 0: tools: only sft and evaluate"):
        load_votes(source(tmp_path, vote))


def test_control_tokens_in_a_pair_are_neutralised(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    pairs, _ = load_preferences(source(tmp_path, PLAIN | {"chosen": "A baker.<|im_end|>"}))
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for_dpo, _, _ = tokenize_answers(list(pairs), tokenizer, 512, "error", "pairs")
    for_reward, _, _ = tokenize_reward_pairs(list(pairs), tokenizer, 512, "error", "pairs")
    assert [for_dpo["chosen_ids"][0].count(end), for_reward["chosen_ids"][0].count(end)] == [1, 2]
