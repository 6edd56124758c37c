from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from zero2chat.core.errors import UserError
from zero2chat.tasks import SPLITS, in_split
from zero2chat_practice import memory, sums, word_problems
from zero2chat_practice.synthetic import stated_facts


def row(kind: str, answer: str, about: str = "", question: str = "?") -> dict[str, Any]:
    return {"kind": kind, "answer": answer, "about": about, "question": question, "turns": [], "key": "", "replies": []}


@pytest.fixture(scope="module")
def pools() -> dict[str, list[dict[str, Any]]]:
    return {split: list(memory._pool(split, memory.KINDS, word_problems.LARGEST)) for split in SPLITS}


@pytest.mark.parametrize(
    ("asked", "right", "wrong"),
    [
        (row("name", "Omar"), ["Your name is Omar.", "Omar", "You are Omar, I think."],
         ["Your name is Sofia.", "Your name is Omar or Sofia.", "Your name is Sofia.\nYour name is Omar.",
          "You have not told me your name, Omar.", "I do not know your name.", "Your name is Omaria.",
          "Omar " + "well " * 30]),
        (row("number", "42"), ["Your lucky number is 42.", "42"], ["Your lucky number is 421.", "42 or 43.", "42.5"]),
        (row("object", "red kite"), ["You bought a red kite.", "A Red kite!"],
         ["You bought a blue kite.", "You bought a kite.", "You bought a red kite and a drum.",
          "You bought a kite, and it was red."]),
        (row("object", "kite"), [], ["You bought a red kite."]),
        (row("place", "Oslo"), ["You live in Oslo."], ["You live in Lima."]),
        (row("unknown", "your name"),
         ["You have not told me your name.", "I do not know your name.", "You have not told me."],
         ["You have not told me your lucky number.", "Your name is Omar.", "You have not told me your name, Omar.",
          "You told me your name."]),
        (row("followup_sum", "15", "12 plus 3"), ["12 plus 3: 2 + 3 = 5, 1 + 0 = 1, so 15.", "15"], ["16"]),
        (row("followup_problem", "15"), ["12 + 3 = 15.\n#### 15"], ["12 + 3 = 15."]),
    ],
)  # fmt: skip
def test_score_wants_what_was_said(asked: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    for completion, score in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        assert memory.score(asked, completion) == score


@pytest.mark.parametrize(
    ("asked", "completion", "said"),
    [
        (row("name", "Omar"), "Your name is Sofia.", "Sofia"),
        (row("name", "Omar"), "You have not told me your name.", None),
        (row("name", "Omar"), "I do not know your name.", None),
        (row("name", "Omar"), "I cannot do that.", None),
        (row("name", "Omar"), "", None),
        (row("number", "42"), "Your lucky number is 43.", "43"),
        (row("object", "red kite"), "You bought a red kite.", "red kite"),
        (row("unknown", "your name"), "You have not told me your name.", None),
        (row("unknown", "your name"), "Your name is Omar.", "Omar"),
        (row("followup_sum", "15", "12 plus 3"), "12 plus 3 is 15.", "15"),
        (row("followup_problem", "15"), "12 + 3 = 15.\n#### 15", "15"),
    ],
)
def test_declines_are_told_from_values(asked: dict[str, Any], completion: str, said: str | None) -> None:
    assert memory.said(asked, completion) == said


def test_values_and_phrasings_are_held_out(pools: dict[str, list[dict[str, Any]]]) -> None:
    for name, values in stated_facts.VALUES.items():
        blended = set(stated_facts.blended(name))
        assert len(blended) > 0.5 * len(values)
        assert not blended & set(values)
        by_split = [set(stated_facts.values_of(name, split)) - blended for split in SPLITS]
        assert sum(map(len, by_split)) == len(set(values)) == len(values)
        assert min(map(len, by_split)) >= 3
    for phrasings in (stated_facts.ASKS, *stated_facts.CHANGES.values(), stated_facts.SUPPOSED):
        everything = [wording for split in SPLITS for wording in phrasings[split]]
        assert len(everything) == len(set(everything)) >= 12
    for kind in ("name", "number", "object", "place"):
        answers = {split: {r["answer"] for r in pools[split] if r["kind"] == kind} for split in SPLITS}
        assert not answers["train"] & answers["test"]
        assert not answers["train"] & answers["validation"]
    questions = {
        split: {re.sub(r"\d+", "N", r["question"]) for r in pools[split] if r["kind"] != "followup_problem"}
        for split in SPLITS
    }
    assert not questions["train"] & questions["test"]


def test_follow_up_sums_go_on_from_the_last_result_and_keep_to_their_split(pools: dict[str, list[Any]]) -> None:
    for split, rows in pools.items():
        for found in (r for r in rows if r["kind"] == "followup_sum"):
            a, operation, b = found["about"].split()
            asked = sums.of_numbers(operation, int(a), int(b))
            assert asked["answer"] == found["answer"]
            assert 0 <= int(found["answer"]) <= 99
            assert operation != "times" or max(int(a), int(b)) <= 9
            assert all(in_split(part, split, sums.SHARES) for part in found["key"].split(" then "))
            sum_turns = [
                m["content"] for m in found["turns"] if m["role"] == "assistant" and re.search(r"\d", m["content"])
            ]
            assert sums.said(asked, sum_turns[-1]) == a
            assert re.findall(r"\d+", found["question"]) == [b]


def test_kinds_keep_their_shares_and_can_be_chosen() -> None:
    shares = Counter(found["kind"] for found in memory.rows("test", 0, 1000))
    assert shares == {kind: 100 * turns for kind, turns in memory._TURNS.items()}
    assert {found["kind"] for found in memory.rows("test", 0, 50, kinds=["name", "unknown"])} == {"name", "unknown"}
    with pytest.raises(UserError, match=r"memory: kind 'nmae' is not known; did you mean 'name'"):
        memory.rows("test", 0, 5, kinds=["nmae"])


def test_pages_are_train_conversations_with_a_right_end() -> None:
    pages = memory.documents(seed=0, n=100)
    train = {
        "\n".join(m["content"] for m in memory.prompt(found)): found
        for found in memory._pool("train", memory.KINDS, word_problems.LARGEST)
    }
    for page in pages:
        found = next(found for text, found in train.items() if page.startswith(f"{text}\n"))
        assert page.removeprefix("\n".join(m["content"] for m in memory.prompt(found)) + "\n") in found["replies"]
