from __future__ import annotations

import re
from collections import Counter

import pytest
from wordings import skeletons

from zero2chat.tasks import SPLITS
from zero2chat_practice import memory, sums, word_problems
from zero2chat_practice.synthetic import read_texts, stated_facts, written_words
from zero2chat_practice.synthetic.grammar import NUMBER_WORDS, frames


@pytest.fixture(scope="module")
def pools():
    return {split: memory._pool(split, memory.KINDS, word_problems.LARGEST) for split in SPLITS}


NOUNS = sorted({fact["of"].lower() for fact in stated_facts.FACTS} - {"", "number"}, key=len, reverse=True)


def skeleton(question):
    """Return the words of a question without those of the facts, values, numbers, greetings, case and punctuation."""
    text = question.lower().replace("'s", " is").replace("'m", " am").replace("n't", " not")
    words = re.findall("[a-z]+", re.sub(rf"\b(?:{'|'.join(NOUNS)})\b", " ", text))
    dropped = {"hi", "hello", "hey", "please", "thanks", *NUMBER_WORDS}
    return " ".join(word for word in words if word not in dropped)


def test_no_frame_of_a_test_row_is_in_training_and_every_kind_has_forty(pools):
    continued = ("followup_problem", "changed_number")  # these have nouns of their stories: their frames are compared
    seen = {
        split: {skeleton(row["question"]) for row in rows if row["kind"] not in continued}
        for split, rows in pools.items()
    }
    assert not sorted(seen["train"] & seen["test"])
    held_out = ("asks", "supposed", "corrections", *stated_facts.TEXTS["changes"], "changed asks")
    for name in (*held_out, "changed plus", "changed minus"):
        by_split = {split: frames(stated_facts.BLOCKS[name], split) for split in SPLITS}
        least = 20 if name in ("corrections", "instead") or "changed" in name else 30
        assert sum(map(len, by_split.values())) >= least, name
        assert all(by_split.values()), name
        train, test = (set().union(*map(skeletons, by_split[split])) for split in ("train", "test"))
        assert not train & test, name
    for kind, facts in stated_facts.OF_KIND.items():
        every = {line for fact in facts for line in (fact["asks"] + stated_facts.TEXTS["asks"]).splitlines()}
        assert len(every) >= 40, kind
    assert sum(len(stated_facts.BLOCKS[name].splitlines()) for name in ("changed plus", "changed minus")) >= 40


def test_an_answer_to_another_question_scores_nothing(pools):
    test = [row for row in pools["test"] if row["kind"] in ("name", "number", "object", "place", "time", "unknown")]
    texts = ["You have not told me your sister's age.", "Your name is Omar.", "You told me that.", "It is 7."]
    for text in texts:
        assert sum(memory.score(row, text) for row in test) < 0.02 * len(test), text
    unknown = [row for row in test if row["kind"] == "unknown"]
    for text in ("You have not told me.", "You haven't told me that.", "I have no idea."):
        assert not any(memory.score(row, text) for row in unknown), text
    for row in test:
        assert all(memory.score(row, reply) for reply in row["replies"])


def test_values_and_phrasings_are_held_out(pools):
    for name, values in stated_facts.VALUES.items():
        blended = set(stated_facts.blended(name))
        assert len(blended) > 0.5 * len(values)
        assert not {word.lower() for word in blended} & written_words()
        by_split = [set(stated_facts.values_of(name, split)) - blended for split in SPLITS]
        assert sum(map(len, by_split)) == len(set(values)) == len(values)
        assert min(map(len, by_split)) >= 3
    for kind in ("name", "number", "object", "place"):
        answers = {split: {r["answer"] for r in pools[split] if r["kind"] == kind} for split in SPLITS}
        assert not answers["train"] & answers["test"]
        assert not answers["train"] & answers["validation"]


def test_follow_up_sums_go_on_from_the_last_result_and_keep_to_their_split(pools):
    for split, rows in pools.items():
        for found in (r for r in rows if r["kind"] in memory._SUMS):
            a, operation, b = found["about"].split()
            asked = sums.of_numbers(operation, int(a), int(b))
            assert asked["answer"] == found["answer"]
            assert 0 <= int(found["answer"]) <= 99
            assert operation != "times" or max(int(a), int(b)) <= 9
            assert sums.belongs(int(a), int(b), split)
            if found["kind"] == "followup_sum" and re.findall(r"\d+", found["question"]) == [b]:
                replies = [turn["content"] for turn in found["turns"] if turn["role"] == "assistant"]
                assert sums.said(asked, [reply for reply in replies if re.search(r"\d", reply)][-1]) == a


def test_sixty_sorts_of_facts_have_eight_statements_and_eight_questions_each() -> None:
    sorts = read_texts("memory_facts")
    assert len(sorts) >= 60
    assert all(len(sort[name].splitlines()) >= 8 for sort in sorts for name in ("tells", "asks"))
    for fact in stated_facts.FACTS:
        assert stated_facts.facts_in(f"You have not told me {fact['what']}.") == {fact["what"]}


def test_a_reply_may_have_words_of_its_fact_that_are_values_too() -> None:
    row = {"kind": "name", "question": "?", "about": "what your sister is called", "answer": "Omar"}
    assert memory.score(row, "Your sister is called Omar.") == 1.0
    assert memory.score(row, "Your brother is called Omar.") == 0.0


def test_changes_may_be_told_before_the_number_is_asked_for(pools) -> None:
    rows = [row for row in pools["train"] if row["kind"] == "changed_number" and not re.search(r"\d", row["question"])]
    assert len(rows) > 1000
    asked = {row["replies"][0] for row in rows if row["replies"][0].count("=") == 2 and ":" not in row["replies"][0]}
    assert any(re.fullmatch(r"(\d+) [+-] \d+ = (\d+), \2 [+-] \d+ = \d+\.", reply) for reply in asked)


def test_kinds_keep_their_shares_and_can_be_chosen() -> None:
    shares = Counter(found["kind"] for found in memory.rows("test", 0, 1600))
    assert shares == {kind: 100 * turns for kind, turns in memory._TURNS.items()}
    assert {found["kind"] for found in memory.rows("test", 0, 50, kinds=["name", "unknown"])} == {"name", "unknown"}


def test_pages_are_train_conversations_with_a_right_end() -> None:
    pool = memory._pool("train", memory.KINDS, word_problems.LARGEST)
    train = {"\n".join(m["content"] for m in memory.prompt(found)) + "\n": found for found in pool}
    for page in memory.documents(seed=0, n=100):
        text, found = next((text, found) for text, found in train.items() if page.startswith(text))
        assert page.removeprefix(text) in found["replies"]
