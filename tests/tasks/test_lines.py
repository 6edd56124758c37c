from __future__ import annotations

import random
import re
import time

import pytest

from zero2chat.tasks import lines

SEA = lines._row("sea at night", "Write a line about the sea at night.", "sea", "at night")
FINE = "The salty sea murmurs at night by the old wall like a sleeping lizard."


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (FINE, 1.0),
        ("I like the seas of the night!", 1.0),
        ("Is it the sea at night?", 1.0),
        ("the sea is there at night.", 0.0),  # no capital
        ("The sea is there at night", 0.0),  # no end
        ("The sea is there.", 0.0),  # no night
        ("The season is here at night.", 0.0),  # another word
        ("The sea at night.\nThe sea at night.", 0.0),
        ("Night sea.", 0.0),
        ("Write a line about the sea at night.", 0.0),
        ("Please: write a line about the sea at night!", 0.0),
        ("The sea at night " + "is blue and " * 20 + "green.", 0.0),
    ],
)
def test_score_asks_for_one_whole_line_on_the_topic_in_its_setting(text: str, score: float) -> None:
    assert lines.score(SEA, text) == score


def test_a_line_with_all_that_readers_like_is_worth_one() -> None:
    assert lines.taste(SEA, FINE) == 1.0
    assert lines.taste(SEA, f" {FINE}\n") == 1.0


@pytest.mark.parametrize(
    ("worse", "worth"),
    [
        ("The salty sea murmurs at night by the old wall for a while.", 0.7),  # no image
        ("The salty sea murmurs at night like a pulse or like a torn sail.", 0.79),  # two of them
        ("The good sea waits at night by the old wall like a sleeping lizard.", 0.7),  # nothing for the senses
        ("The good sea murmurs at night by the old wall like a sleeping lizard.", 0.85),  # only a little
        ("The salty cold pale sea murmurs at night by the wall like a lizard.", 0.82),  # too much
        ("The salty sea murmurs at night as old as time.", 0.6),  # a cliché, and no image
        ("The salty sea murmurs like two nights.", 0.9),  # short
        ("The salty sea murmurs at night by the old wall like a sleeping lizard in a town and that is that.", 0.8),
        ("The salty sea murmurs at night by the old wall like a sleeping lizard...", 0.9),
        ("The salty sea murmurs at night by the old wall like a sleeping lizard!", 0.95),
        ("The salty sea murmurs at night by the old wall like a sleeping lizard", 0.9),
        ("The salty sea murmurs at dawn by the old wall like a sleeping lizard.", 0.5),  # another setting
        ("The salty hill murmurs at dawn by the old wall like a sleeping lizard.", 0.25),  # and another topic
        ("The salty sea murmurs at night by the sea like a sleeping lizard.", 0.75),  # a word said again
    ],
)
def test_each_ingredient_that_is_missing_or_too_much_costs(worse: str, worth: float) -> None:
    assert lines.taste(SEA, worse) == pytest.approx(worth)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        " \n",
        "sea night",
        "sea night " * 12 + ".",
        "The sea the night the sea the night the sea the night.",
        "xq zzv sea grolp trinf blent night wug dax fep.",
        "Sea night salty silver golden crimson velvet smoky hums glitters like a pulse.",  # fine words in a heap
        "Silver sea night hums.",
        "like a like a like a like a like a sea night.",
        "of the and of the and of the and of the sea night.",
        "\u202e\x00\ud800 sea night " + "🙂" * 30,
        FINE + "\n" + FINE,
        FINE * 8,
    ],
)
def test_gibberish_repetition_and_heaps_of_fine_words_are_worth_little(bad: str) -> None:
    assert 0.0 <= lines.taste(SEA, bad) <= 0.25


def test_text_of_any_length_is_judged_in_no_time() -> None:
    start = time.perf_counter()
    for piece in ("a", " ", "\n", "like a ", "sea ", ".", "é", FINE):
        text = piece * (2_000_000 // len(piece))
        assert lines.score(SEA, text) == 0.0
        assert lines.taste(SEA, text) == 0.0
        assert 0.0 <= lines.taste(SEA, text[: lines._LONGEST]) <= 0.25
    assert time.perf_counter() - start < 2


def _demonstrations(n: int) -> list[tuple[dict, str]]:
    rng = random.Random(3)
    return [(row, lines.demonstration(row, rng)) for row in lines.rows("train", seed=0, n=n)]


def test_demonstrations_are_of_every_quality() -> None:
    worth = sorted(lines.taste(row, text) for row, text in _demonstrations(2000))
    assert all(0.0 <= value <= 1.0 for value in worth)
    assert worth[100] < 0.2
    assert 0.35 < worth[1000] < 0.6
    assert worth[1900] > 0.85
    assert len(set(worth)) > 40


def test_no_rule_on_length_alone_guesses_taste_well() -> None:
    rng = random.Random(4)
    pairs = []
    for row, text in _demonstrations(3000):
        other = lines.demonstration(row, rng)
        values = lines.taste(row, text), lines.taste(row, other)
        if values[0] != values[1]:
            pairs.append((len(text.split()), len(other.split()), values[0] > values[1]))
    for best in range(30):
        off = [(abs(a - best), abs(b - best), right) for a, b, right in pairs]
        guessed = sum(0.5 if a == b else float((a < b) == right) for a, b, right in off) / len(off)
        assert guessed < 0.7


def test_the_grammar_names_no_topic_or_setting_but_its_own_and_they_are_distinct() -> None:
    nouns = [*lines._TOPICS, *(setting.split()[-1] for setting in lines._SETTINGS)]
    assert len(nouns) == len(set(nouns))
    for row, text in _demonstrations(2000):
        assert row["setting"] in text
        words = set(re.findall("[a-z']+", text.lower()))
        found = {noun for noun in nouns if {noun, f"{noun}s", f"{noun}es"} & words}
        assert found == {row["topic"], row["setting"].split()[-1]}


def test_a_topic_in_its_setting_is_in_one_split_and_each_topic_in_training() -> None:
    keys = {split: {row["key"] for row in lines._pool(split)} for split in ("train", "validation", "test")}
    assert sum(map(len, keys.values())) == len(lines._TOPICS) * len(lines._SETTINGS) == len(set.union(*keys.values()))
    assert {row["topic"] for row in lines._pool("train")} == set(lines._TOPICS)
    assert len(keys["test"]) > 200


def test_an_exercise_book_asks_for_train_subjects_alone_and_answers_each() -> None:
    held_out = {row["question"] for split in ("validation", "test") for row in lines.rows(split, 0, 2000)}
    known = {row["question"]: row for row in lines._pool("train")}
    pages = lines.documents(seed=0, n=100)
    exercises = [exercise.split("\n") for page in pages for exercise in page.split("\n\n")]
    assert len(exercises) > 300
    for question, answer in exercises:
        assert question not in held_out
        assert lines.score(known[question], answer) == 1.0
