from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from zero2chat.core.errors import UserError
from zero2chat.data.preferences import (
    draw_ranking,
    load_preferences,
    load_votes,
    pairs_of_ranking,
    ranked_pairs,
    read_comparisons,
)
from zero2chat.data.sources import Source

ROW = {"key": "k", "question": "q", "answer": "a", "kind": "x"}
PROMPT = [{"role": "user", "content": "q"}]


def worth(row: dict, text: str) -> float:
    return float(text.strip())


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


# ---- rankings


def test_without_noise_the_order_is_that_of_taste_and_equals_fall_either_way() -> None:
    rng = random.Random(0)
    orders = {tuple(draw_ranking([0.2, 0.9, 0.2, 0.5], 0.0, rng)) for _ in range(50)}
    assert orders == {(1, 3, 0, 2), (1, 3, 2, 0)}


def test_with_noise_each_two_stand_as_bradley_and_terry_say() -> None:
    tastes, noise, n = [0.5, 0.4, 0.15], 0.1, 6000
    rng = random.Random(1)
    orders = [draw_ranking(tastes, noise, rng) for _ in range(n)]
    for i, j in itertools.combinations(range(3), 2):
        found = sum(order.index(i) < order.index(j) for order in orders) / n
        expected = 1 / (1 + math.exp(-(tastes[i] - tastes[j]) / noise))
        assert found == pytest.approx(expected, abs=0.02)  # three standard errors


def test_a_ranking_gives_all_its_pairs_or_its_neighbours_the_better_one_first() -> None:
    assert pairs_of_ranking([2, 0, 1]) == [(2, 0), (2, 1), (0, 1)]
    assert pairs_of_ranking([2, 0, 1], "adjacent") == [(2, 0), (0, 1)]


def test_pairs_hold_messages_and_tastes_and_equal_sides_are_left_out_and_counted() -> None:
    answers = [["0.1", "0.7", "0.1 "], ["0.3", "0.3"]]
    pairs, equal = ranked_pairs([ROW] * 2, [PROMPT] * 2, answers, worth, noise=0.0, seed=0)
    assert equal == 2
    assert [(pair["chosen"], pair["rejected"][0]["content"].strip()) for pair in pairs] == [(said("0.7"), "0.1")] * 2
    assert all(pair["prompt"] == PROMPT for pair in pairs)
    assert [(pair["taste_chosen"], pair["taste_rejected"]) for pair in pairs] == [(0.7, 0.1)] * 2


def test_noise_turns_some_labels_and_a_seed_gives_the_same_ones() -> None:
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
        ({"answers": 1}, "answers: expected at least 2, got 1: too few to compare"),
        ({"pairs": "most"}, "pairs: 'most' is not one of all, adjacent"),
        ({"n": 0}, "n: expected at least 1, got 0"),
        ({"held_out": 1_000_000}, "1000000 rows asked for"),
        ({"options": {"mood": "sad"}}, "unknown option 'mood'"),
    ],
)
def test_comparisons_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_comparisons({"task": "lines", "n": 10, "held_out": 10} | change)


# ---- datasets


def source(folder: Path, *rows: dict[str, Any], **more: Any) -> Source:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(path=str(path), label="mine", **more)


def test_plain_conversational_and_whole_conversations_are_read_alike(tmp_path: Path) -> None:
    expected = {"prompt": PROMPT, "chosen": said("yes"), "rejected": said("no")}
    for row in (
        {"prompt": "q", "chosen": "yes", "rejected": "no"},
        {"prompt": PROMPT, "chosen": said("yes"), "rejected": said("no")},
        {"prompt": "q", "chosen": PROMPT + said("yes"), "rejected": PROMPT + said("no")},
        {"chosen": PROMPT + said("yes"), "rejected": PROMPT + said("no")},
    ):
        where = {"where": f"mine, row 0 ({tmp_path / 'mine.jsonl'}, line 1)"}
        assert list(load_preferences(source(tmp_path, row))[0]) == [expected | where]


def test_a_system_message_beside_the_prompt_or_in_both_conversations_is_part_of_the_prompt(tmp_path: Path) -> None:
    system = [{"role": "system", "content": "s"}]
    for row in (
        {"system": "s", "prompt": "q", "chosen": "yes", "rejected": "no"},
        {"system": "s", "prompt": "q", "chosen": PROMPT + said("yes"), "rejected": PROMPT + said("no")},
        {"prompt": "q", "chosen": system + PROMPT + said("yes"), "rejected": system + PROMPT + said("no")},
    ):
        (pair,) = load_preferences(source(tmp_path, row))[0]
        assert (pair["prompt"], pair["chosen"], pair["rejected"]) == (system + PROMPT, said("yes"), said("no"))
    other = [{"role": "user", "content": "other"}]
    row = {"prompt": "q", "chosen": other + said("yes"), "rejected": PROMPT + said("no")}
    with pytest.raises(UserError, match="chosen: does not begin and end with the assistant's turn, after the prompt"):
        load_preferences(source(tmp_path, row))


FINE = {"prompt": "q", "chosen": "yes", "rejected": "no"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (FINE | {"rejected": "yes"}, "mine, row 1: chosen and rejected are equal"),
        (FINE | {"rejected": " yes\n"}, "mine, row 1: chosen and rejected are equal"),
        (FINE | {"prompt": None}, "mine, row 1: no prompt"),
        (FINE | {"prompt": " "}, "mine, row 1: turn 1 of 1: the user's turn is empty"),
        (
            FINE | {"prompt": [*PROMPT, *said("a"), {"role": "user", "content": ""}]},
            "turn 3 of 3: the user's turn is empty",
        ),
        (
            FINE | {"chosen": [said("a")[0] | {"reasoning_content": "Hm."}]},
            "row 1: chosen: only sft conversations have tool_calls and reasoning_content",
        ),
        (FINE | {"chosen": None}, "mine, row 1: chosen: expected text or a list"),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_preferences(source(tmp_path, FINE, row))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": PROMPT + said("a"), "rejected": PROMPT + said("a")}, "row 0: chosen and rejected are equal"),
        (
            {"chosen": PROMPT + said("a"), "rejected": PROMPT},
            "row 0: rejected: does not begin and end with the assistant's",
        ),
        ({"chosen": said("a"), "rejected": said("b")}, "row 0: no prompt"),
        (
            {"prompt": "q", "better": "a", "worse": "b"},
            r"its columns \(prompt, better, worse\) match no known format: prompt and answers",
        ),
        (
            {"prompt": "q", "chosen": [{"text": "a"}], "rejected": said("b")},
            "row 0: chosen: unknown role None",
        ),
    ],
)
def test_a_dataset_that_holds_no_pairs_is_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_preferences(source(tmp_path, row))


def test_an_empty_answer_may_be_preferred_but_an_empty_cell_is_named(tmp_path: Path) -> None:
    pairs = load_preferences(source(tmp_path, FINE, FINE | {"chosen": ""}, FINE | {"rejected": ""}))[0]
    assert [pair["chosen"][0]["content"] for pair in pairs] == ["yes", "", "yes"]
    (tmp_path / "cells.csv").write_text("prompt,chosen,rejected\nq,yes,no\nq,,no\nq,yes,\n")
    with pytest.raises(UserError, match="cells, row 1: chosen: turn 1 of 1: the assistant's turn is empty") as refused:
        load_preferences(Source(path=str(tmp_path / "cells.csv"), label="cells"))
    assert "cells, row 2: rejected: turn 1 of 1" in str(refused.value)


def test_a_vote_on_an_empty_answer_is_named(tmp_path: Path) -> None:
    row = {"prompt": "q", "completion": " ", "label": True}
    with pytest.raises(UserError, match="mine, row 0: turn 2 of 2: the assistant's turn is empty"):
        load_votes(source(tmp_path, row))


def test_pairs_with_equal_sides_are_left_out_and_counted_if_asked(tmp_path: Path) -> None:
    whole = PROMPT + said("a")
    for equal in (FINE | {"rejected": " yes\n"}, {"chosen": whole, "rejected": whole}):
        pairs, left_out = load_preferences(source(tmp_path, FINE, equal, FINE), equal="drop")
        assert (len(pairs), left_out) == (2, 1)
    with pytest.raises(UserError, match="mine: chosen and rejected are equal in every row"):
        load_preferences(source(tmp_path, equal), equal="drop")


def test_a_task_under_datasets_is_sent_to_comparisons() -> None:
    with pytest.raises(UserError, match="lines: pairs of a task are not read from `datasets`: use `comparisons`"):
        load_preferences(Source(task="lines", n=5))
