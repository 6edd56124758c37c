from __future__ import annotations

import re
from collections import Counter

import pytest

from zero2chat.tasks import SPLITS
from zero2chat_practice import memory, sums, word_problems
from zero2chat_practice.synthetic import stated_facts


@pytest.fixture(scope="module")
def pools():
    return {split: list(memory._pool(split, memory.KINDS, word_problems.LARGEST)) for split in SPLITS}


def test_values_and_phrasings_are_held_out(pools):
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


def test_follow_up_sums_go_on_from_the_last_result_and_keep_to_their_split(pools):
    for split, rows in pools.items():
        for found in (r for r in rows if r["kind"] == "followup_sum"):
            a, operation, b = found["about"].split()
            asked = sums.of_numbers(operation, int(a), int(b))
            assert asked["answer"] == found["answer"]
            assert 0 <= int(found["answer"]) <= 99
            assert operation != "times" or max(int(a), int(b)) <= 9
            assert all(sums.belongs(*map(int, part.split()[1:]), split) for part in found["key"].split(" then "))
            replies = [turn["content"] for turn in found["turns"] if turn["role"] == "assistant"]
            assert sums.said(asked, [reply for reply in replies if re.search(r"\d", reply)][-1]) == a
            assert re.findall(r"\d+", found["question"]) == [b]


def test_kinds_keep_their_shares_and_can_be_chosen() -> None:
    shares = Counter(found["kind"] for found in memory.rows("test", 0, 1000))
    assert shares == {kind: 100 * turns for kind, turns in memory._TURNS.items()}
    assert {found["kind"] for found in memory.rows("test", 0, 50, kinds=["name", "unknown"])} == {"name", "unknown"}


def test_pages_are_train_conversations_with_a_right_end() -> None:
    pool = memory._pool("train", memory.KINDS, word_problems.LARGEST)
    train = {"\n".join(m["content"] for m in memory.prompt(found)) + "\n": found for found in pool}
    for page in memory.documents(seed=0, n=100):
        text, found = next((text, found) for text, found in train.items() if page.startswith(text))
        assert page.removeprefix(text) in found["replies"]
