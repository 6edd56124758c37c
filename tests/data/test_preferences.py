from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from stage_fixtures import write_rows

from zero2chat.core.config import build
from zero2chat.core.errors import UserError
from zero2chat.data.encoding import tokenize_answers, tokenize_reward_pairs
from zero2chat.data.preferences import (
    Comparisons,
    draw_ranking,
    load_preferences,
    load_votes,
    pairs_of_ranking,
    ranked_pairs,
)
from zero2chat.data.sources import Source

ROW = {"key": "k", "question": "q", "answer": "a", "kind": "x"}
PROMPT = [{"role": "user", "content": "q"}]


def worth(row: dict, text: str) -> float:
    return float(text.strip())


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_with_noise_each_two_stand_as_bradley_and_terry_say():
    orders = {tuple(draw_ranking([0.2, 0.9, 0.2, 0.5], 0.0, random.Random(i))) for i in range(50)}
    assert orders == {(1, 3, 0, 2), (1, 3, 2, 0)}  # without noise by taste, and equals fall either way
    assert pairs_of_ranking([2, 0, 1]) == [(2, 0), (2, 1), (0, 1)]
    assert pairs_of_ranking([2, 0, 1], "adjacent") == [(2, 0), (0, 1)]
    tastes, noise, n = [0.5, 0.4, 0.15], 0.1, 6000
    rng = random.Random(1)
    orders = [draw_ranking(tastes, noise, rng) for _ in range(n)]
    for i, j in itertools.combinations(range(3), 2):
        output = sum(order.index(i) < order.index(j) for order in orders) / n
        expected = 1 / (1 + math.exp(-(tastes[i] - tastes[j]) / noise))
        assert output == pytest.approx(expected, abs=0.02)  # three standard errors


def test_pairs_hold_messages_and_tastes_and_equal_sides_are_left_out_and_counted():
    answers = [["0.1", "0.7", "0.1 "], ["0.3", "0.3"]]
    pairs, equal = ranked_pairs([ROW] * 2, [PROMPT] * 2, answers, worth, noise=0.0, seed=0)
    assert equal == 2
    assert [(pair["chosen"], pair["rejected"][0]["content"].strip()) for pair in pairs] == [(said("0.7"), "0.1")] * 2
    assert all(pair["prompt"] == PROMPT for pair in pairs)
    assert [(pair["taste_chosen"], pair["taste_rejected"]) for pair in pairs] == [(0.7, 0.1)] * 2


def test_noise_turns_some_labels_and_a_seed_gives_the_same_ones():
    answers = [["0.5", "0.45"]] * 400
    made = [ranked_pairs([ROW] * 400, [PROMPT] * 400, answers, worth, noise=0.1, seed=seed)[0] for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]
    turned = sum(pair["taste_chosen"] < pair["taste_rejected"] for pair in made[0]) / 400
    assert turned == pytest.approx(1 - 1 / (1 + math.exp(-0.5)), abs=0.08)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "facts"}, "task 'facts': has no `taste`"),
        ({"task": "lines_"}, "did you mean 'lines'"),
        ({"noize": 0.1}, "unknown key 'noize'.*did you mean 'noise'"),
        ({"noise": -1}, "noise: expected at least 0, got -1.0"),
        ({"temperature": 0}, "temperature: expected more than 0, got 0.0: all answers would be equal"),
        ({"noise": "nan"}, "noise: expected at least 0, got nan"),
        ({"answers": 1}, "answers: expected at least 2, got 1: comparing needs two or more answers"),
        ({"pairs": "most"}, "pairs: 'most' is not one of all, adjacent"),
        ({"n": 0}, "n: expected at least 1, got 0"),
        ({"held_out": 1_000_000}, "1000000 rows requested"),
        ({"options": {"mood": "sad"}}, "unknown option 'mood'"),
    ],
)
def test_comparisons_that_cannot_be_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        build([Comparisons], {"task": "lines", "n": 10, "held_out": 10} | change, "comparisons")


def source(folder: Path, *rows: dict[str, Any], **more: Any) -> Source:
    return Source(path=str(write_rows(folder / "mine.jsonl", rows)), label="mine", **more)


FINE = {"prompt": "q", "chosen": "yes", "rejected": "no"}


SYSTEM = [{"role": "system", "content": "s"}]
SIDES, WHOLE = ({s: before + said(a) for s, a in (("chosen", "yes"), ("rejected", "no"))} for before in ([], PROMPT))


@pytest.mark.parametrize(
    ("row", "system"),
    [
        (FINE, []),
        ({"prompt": PROMPT} | SIDES, []),
        ({"prompt": "q"} | WHOLE, []),
        (WHOLE, []),
        ({"system": "s"} | FINE, SYSTEM),
        ({"system": "s", "prompt": "q"} | WHOLE, SYSTEM),
        ({"prompt": "q"} | {side: SYSTEM + turns for side, turns in WHOLE.items()}, SYSTEM),
    ],
)
def test_plain_conversational_and_whole_conversations_are_read_alike(tmp_path, row, system):
    (pair,) = load_preferences(source(tmp_path, row))[0]
    where = {"where": f"mine, row 0 ({tmp_path / 'mine.jsonl'}, line 1)"}
    assert pair == {"prompt": system + PROMPT, "chosen": said("yes"), "rejected": said("no")} | where


VOTE = {"prompt": "q", "a": "yes", "b": "no", "preferred": "A"}


def test_votes_on_two_answers_become_pairs_and_ties_are_counted(tmp_path, capsys):
    rows = [VOTE, VOTE | {"preferred": " b"}, VOTE | {"preferred": "Tie"}]
    pairs, left_out = load_preferences(source(tmp_path, *rows))
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [
        (said("yes"), said("no")),
        (said("no"), said("yes")),
    ]
    assert left_out == 0
    assert "mine: 1 of 3 rows are ties: dropped\n" in capsys.readouterr().out
    assert load_votes(source(tmp_path, VOTE))[0]["label"] == [True, False]
    (tmp_path / "cells.csv").write_text("prompt,a,b,preferred\nq,yes,no,A\nq,yes,no,C\nq,yes,no,\n")
    with pytest.raises(UserError, match=r"preferred: expected A, B or tie, got 'C' \(.*, line 3\).*got '' .*line 4"):
        load_preferences(Source(path=str(tmp_path / "cells.csv"), label="cells"))


ENDS = "after the prompt, the first and last turn must be the assistant's"
EMPTY = [*PROMPT, *said("a"), {"role": "user", "content": ""}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (FINE | {"rejected": " yes\n"}, "mine, row 0: chosen and rejected are equal"),
        ({"chosen": PROMPT + said("a"), "rejected": PROMPT + said("a")}, "row 0: chosen and rejected are equal"),
        (FINE | {"prompt": None}, "mine, row 0: no prompt"),
        (SIDES, "row 0: no prompt"),
        (FINE | {"prompt": " "}, "mine, row 0: turn 1 of 1: the user's turn is empty"),
        (FINE | {"prompt": EMPTY}, "turn 3 of 3: the user's turn is empty"),
        (FINE | {"chosen": [said("a")[0] | {"reasoning_content": "b"}]}, "chosen: only sft supports tool_c"),
        (FINE | {"chosen": None}, "mine, row 0: has no `chosen`; its keys are prompt, rejected"),
        (FINE | {"chosen": [{"text": "a"}]}, "row 0: chosen: unknown role None"),
        ({"chosen": PROMPT + said("a"), "rejected": PROMPT}, f"row 0: rejected: {ENDS[:50]}"),
        (WHOLE | {"prompt": "q", "chosen": [{"role": "user", "content": "other"}, *said("yes")]}, f"chosen: {ENDS}"),
        ({"prompt": "q", "better": "a"}, r"its columns \(prompt, better\) match no known format \(prompt and answers"),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        load_preferences(source(tmp_path, row, row))


def test_an_empty_answer_may_be_preferred_but_an_empty_cell_is_named(tmp_path):
    pairs = load_preferences(source(tmp_path, FINE, FINE | {"chosen": ""}, FINE | {"rejected": ""}))[0]
    assert [pair["chosen"][0]["content"] for pair in pairs] == ["yes", "", "yes"]
    (tmp_path / "cells.csv").write_text("prompt,chosen,rejected\nq,yes,no\nq,,no\nq,yes,\n")
    with pytest.raises(UserError, match="cells, row 1: chosen: turn 1 of 1: the assistant's turn is empty") as refused:
        load_preferences(Source(path=str(tmp_path / "cells.csv"), label="cells"))
    assert "cells, row 2: rejected: turn 1 of 1" in str(refused.value)
    for equal in (FINE | {"rejected": " yes\n"}, {"chosen": PROMPT + said("a"), "rejected": PROMPT + said("a")}):
        pairs, left_out = load_preferences(source(tmp_path, FINE, equal, FINE), equal="drop")
        assert (len(pairs), left_out) == (2, 1)
    with pytest.raises(UserError, match="mine: chosen and rejected are equal in every row"):
        load_preferences(source(tmp_path, equal), equal="drop")
    with pytest.raises(UserError, match="mine, row 0: turn 2 of 2: the assistant's turn is empty"):
        load_votes(source(tmp_path, {"prompt": "q", "completion": " ", "label": True}))
    with pytest.raises(UserError, match="lines: `datasets` takes no pairs of a task: use reward's `comparisons`"):
        load_preferences(Source(task="lines", n=5))


NAMED = {"type": "function", "function": {"name": "tide", "parameters": {"properties": {"port": {"type": "string"}}}}}


@pytest.mark.parametrize("rows", [[FINE, FINE | {"tools": [NAMED]}], [FINE | {"tools": json.dumps([NAMED])}] * 2])
def test_tools_of_a_pair_or_vote_are_refused_with_the_row(tmp_path, rows):
    with pytest.raises(UserError, match=r"mine, row 1: only sft and evaluate support tools.*line 2"):
        load_preferences(source(tmp_path, *rows))
    vote = {"prompt": "Who?", "completion": "Ada.", "label": True, "tools": [NAMED]}
    with pytest.raises(UserError, match="mine, row 0: only sft and evaluate support tools"):
        load_votes(source(tmp_path, vote))


def test_control_tokens_in_a_pair_are_neutralised(tmp_path, tokenizer):
    pairs, _ = load_preferences(source(tmp_path, FINE | {"chosen": "A baker.<|im_end|>"}))
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for_dpo, _, _ = tokenize_answers(list(pairs), tokenizer, 512, "error", "pairs")
    for_reward, _, _ = tokenize_reward_pairs(list(pairs), tokenizer, 512, "error", "pairs")
    assert [for_dpo["chosen_ids"][0].count(end), for_reward["chosen_ids"][0].count(end)] == [1, 2]
