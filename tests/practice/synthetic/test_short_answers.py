from __future__ import annotations

import random

import pytest

from zero2chat.tasks import score_number
from zero2chat_practice import word_problems
from zero2chat_practice.synthetic.short_answers import short_answer


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
    assert short_answer(question, "12") == sentence
    assert short_answer(question, "1") == ("$1." if "$" in question else "The answer is 1.")


def test_every_short_answer_and_thought_is_right_by_its_score():
    rng = random.Random(0)
    for row in word_problems.rows("train", 0, 300, largest=20):
        short, thought = (word_problems.demonstration(row, rng, style) for style in ("short", "thought"))
        assert thought.endswith(f"</think>{short}")
        assert score_number(row, short) == word_problems.score(row, short) == 1
        assert len(short.split()) <= 12
