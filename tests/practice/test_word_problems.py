from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import pytest

from zero2chat import tasks
from zero2chat.tasks import score_number
from zero2chat_practice import word_problems
from zero2chat_practice.synthetic import FOLDER, read_all, read_texts

SOURCES = ("stories", "composed", "topics")


@pytest.mark.parametrize("folder", SOURCES)
def test_no_two_entries_of_a_folder_have_one_name(folder: str) -> None:
    names = [name for file in (FOLDER / folder).glob("*.yaml") for name in read_texts(f"{folder}/{file.stem}")]
    assert len(names) == len(set(names)) == len(read_all(folder))


def test_every_calculation_of_a_worked_solution_is_right_and_the_last_is_the_answer() -> None:
    rng = random.Random(0)
    for row in word_problems.rows("train", seed=0, n=1500):
        text = word_problems.demonstration(row, rng)
        sums = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", text)
        assert len(sums) == row["level"]
        for left, operator, right, result in sums:
            assert int(left) == {"+": int(result) - int(right), "-": int(result) + int(right)}.get(
                operator, int(result) // int(right) if operator == "*" else int(result) * int(right)
            )
            assert 1 <= int(result) <= 99
        assert sums[-1][3] == row["answer"]
        assert text.endswith(f"\n#### {row['answer']}")
        assert word_problems.demonstration(row, rng, "bare") == f"#### {row['answer']}"


def test_a_flawed_solution_slips_once_goes_on_from_there_and_scores_zero() -> None:
    rng = random.Random(0)
    for row in word_problems.rows("train", seed=0, n=500):
        text = word_problems.demonstration(row, rng, "flawed")
        wrong = [
            (left, operator, right)
            for left, operator, right, result in re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", text)
            if word_problems.results_of([f"{left} {operator} {right}"]) != [int(result)]
        ]
        assert len(wrong) == 1, text
        assert re.search(r"\n#### \d+$", text)
        assert word_problems.score(row, text) == 0.0


def test_levels_choose_the_number_of_steps_and_mix_evenly() -> None:
    assert {row["level"] for row in word_problems.rows("test", 0, 100, levels=[2])} == {2}
    counts = Counter(row["level"] for row in word_problems.rows("train", 0, 1500))
    assert counts == pytest.approx({1: 500, 2: 500, 3: 500}, abs=80)


def test_there_are_many_stories_and_many_ways_to_tell_each() -> None:
    told = {name: [one for one in word_problems.stories() if one.source == name] for name in SOURCES}
    assert len(told["stories"]) >= 150
    assert min(len(story.texts) for story in told["stories"]) >= 6
    assert len({story["kind"] for story in read_all("stories").values()}) >= 12
    texts = [text for stories in told.values() for story in stories for text in story.texts]
    assert len({_skeleton(text) for text in texts}) > 0.99 * len(texts) > 3500
    of_topic: dict[str, set[str]] = {}
    for story in told["topics"]:
        of_topic.setdefault(story.name, set()).add(next(iter(story.steps)).split()[1])
    assert sum(len(operators) >= 3 for operators in of_topic.values()) > 0.9 * len(of_topic)


def _skeleton(text: str) -> str:
    """Return a text without its slots, numbers, case and punctuation."""
    return " ".join(re.findall("[a-z]+", re.sub(r"\{[^}]*\}|\[|\]", "", text.lower())))


def test_no_story_no_text_and_no_calculation_of_a_test_row_is_in_training() -> None:
    by_split = {split: word_problems.rows(split, 0, n, largest=20) for split, n in (("train", 6000), ("test", 400))}
    for column in ("key", "question"):
        train, test = ({row[column] for row in by_split[split]} for split in ("train", "test"))
        assert not train & test
    for story in word_problems.stories():
        texts = [story.of(split) for split in ("train", "validation", "test")]
        assert sorted(itertools.chain(*texts)) == sorted(story.texts)
        assert story.source == "composed" or sum(map(bool, texts)) == 1
    printed = {step for row in by_split["train"] for step in _equations(row)}
    for row in by_split["test"]:
        assert _equations(row) - printed, row


@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluation_with_small_numbers_has_many_pairs_and_no_frequent_answer(split: str) -> None:
    rows = word_problems.rows(split, 1, 500, largest=20)
    assert len({pair for row in rows for pair in word_problems._held_out(row["steps"])}) >= 25
    assert max(Counter(row["answer"] for row in rows).values()) < 0.12 * len(rows)


def test_no_text_of_evaluation_is_nearly_one_of_training() -> None:
    train, *others = (
        [
            (text, set(re.findall("[a-z]+", text.lower())))
            for story in word_problems.stories()
            for text in story.of(split)
        ]
        for split in ("train", "validation", "test")
    )
    for text, words in itertools.chain(*others):
        near = max(train, key=lambda one: len(words & one[1]) / len(words | one[1]))
        assert len(words & near[1]) <= 0.75 * len(words | near[1]), (text, near[0])


def _equations(row: tasks.Row) -> set[str]:
    return set(re.findall(r"\d+ [-+*/] \d+ = \d+", word_problems.demonstration(row, random.Random(0))))


def _numbers(row: tasks.Row) -> list[int]:
    results = word_problems.results_of(row["steps"])
    return results + [int(part) for step in row["steps"] for part in step.split() if part.isdigit()]


@pytest.mark.parametrize("largest", [20, 37, 99])
def test_no_number_is_above_the_largest_in_rows_and_pages(largest: int) -> None:
    for split in ("train", "validation", "test"):
        rows = word_problems.rows(split, seed=0, n=500, largest=largest)
        assert max(max(_numbers(row)) for row in rows) <= largest
        assert {row["level"] for row in rows} == {1, 2, 3}
    pages = word_problems.documents(seed=0, n=200, largest=largest)
    assert max(int(n) for page in pages for n in re.findall(r"\d+", page.split("\n", 1)[1])) <= largest


def test_pages_hold_worked_train_problems_and_never_one_of_test() -> None:
    pages = word_problems.documents(seed=0, n=300)
    assert len(pages) == len(set(pages)) == 300
    text = "\n".join(pages)
    drawn = [row for level in (1, 2, 3) for row in word_problems._draw("train", 0, 1200, [level], 99, plain=True)]
    trained = {row["question"] for row in drawn}
    blocks = [block.split("\n")[0] for page in pages for block in page.split("\n\n")[1:]]
    questions = [question for question in blocks if question]
    assert len(questions) >= 400
    sums = re.findall(r"^(\d+) ([-+*/]) (\d+) = (\d+)\.$", text, flags=re.MULTILINE)
    assert len(sums) >= 1000
    right = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}
    assert all(right[op](int(a), int(b)) == int(c) and (op != "/" or int(a) % int(b) == 0) for a, op, b, c in sums)
    assert set(questions) <= trained
    solutions = "\n".join(block.partition("\n")[2] for page in pages for block in page.split("\n\n")[1:])
    closings = re.findall(r"answer is \d+\.|Answer: \d+\.|^#### \d+$", solutions, flags=re.MULTILINE)
    assert len(closings) == len(questions)
    assert 0.4 < sum(closing.startswith("####") for closing in closings) / len(closings) < 0.6


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("Tom has 3 boxes of 4 marbles. How many marbles does Tom have?", "Tom has 12 marbles."),
        ("How many red pens do I have if I had 20 and lost 8?", "You have 12 red pens."),
        ("how many bananas are left on the tree", "12 bananas are left."),
        ("How many scouts are there on 3 rafts of 4?", "There are 12 scouts."),
        ("He ate 12 of them. How many did he eat?", "The answer is 12."),
        ("How many comic books did Eva read?", "12 comic books."),
        ("How old is the dog?", "12 years old."),
        ("A pen costs 3 dollars. How much do 4 pens cost?", "12 dollars."),
        ("A pen costs 3 dollars and 2 cents. How much do 4 cost?", "The answer is 12."),
        ("One ticket is $3. What do four cost?", "$12."),
        ("What is twice 6?", "The answer is 12."),
    ],
)
def test_a_short_answer_is_in_the_words_of_the_question(question, sentence):
    assert word_problems.short_answer(question, "12") == sentence
    assert word_problems.short_answer(question, "1") == ("$1." if "$" in question else "The answer is 1.")


def test_every_short_answer_and_thought_is_right_by_its_score():
    rng = random.Random(0)
    for row in word_problems.rows("train", 0, 300, largest=20):
        short, thought = (word_problems.demonstration(row, rng, style) for style in ("short", "thought"))
        assert thought.endswith(f"</think>{short}")
        assert score_number(row, short) == word_problems.score(row, short) == 1
        assert len(short.split()) <= 12
