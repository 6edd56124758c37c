from __future__ import annotations

import hashlib
import itertools
import json
import random
import re

import pytest

from zero2chat.core.errors import UserError
from zero2chat.tasks import SPLITS, load
from zero2chat_practice import lines

SEA = lines._made((("sea at night", "sea", "at night"), "Write a {what} about the {subject}.", "line"))
FINE = "The salty sea murmurs at night by the old wall like a sleeping lizard."


def test_score_asks_for_one_whole_line_on_the_topic_in_its_setting() -> None:
    right = [FINE, "I like the seas of the night!", "Is it the sea at night?"]
    wrong = [
        "the sea is there at night.",
        "The sea is there at night",
        "The sea is there.",
        "The season is here at night.",
        "The sea at night.\nThe sea at night.",
        "Night sea.",
        "Write a line about the sea at night.",
        "Please: write a line about the sea at night!",
        "The sea at night " + "is blue and " * 20 + "green.",
    ]
    for text, score in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        assert lines.score(SEA, text) == score


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


# ---- the default rows, and further subjects and requests

# Of rows, demonstrations and documents as commit 29633be made them: published figures depend on them.
DEFAULT = "5ff89dcbab82f4a21e05ccc1dc8b1ac2f781460ff6e4212cacee4808bf11a67a"
SPLITS_OF = {
    "sft": [("train", "more"), ("validation", "more"), ("test", "more")],
    "ppo": [("train", "ppo")],
    "validation": [("validation", "new")],
    "exam": [("test", "new")],
}
HAS = [place for places in SPLITS_OF.values() for place in places] + [(split, "known") for split in SPLITS]


def test_rows_demonstrations_and_documents_of_the_defaults_are_what_they_always_were() -> None:
    made: list[object] = []
    for split in SPLITS:
        for seed in (0, 3):
            rows = lines.rows(split, seed, 400)
            made.append([rows, [lines.demonstration(row, random.Random(f"{seed} {i}")) for i, row in enumerate(rows)]])
    made += [lines.documents(0, 200), lines.documents(3, 200)]
    assert hashlib.sha256(json.dumps(made).encode()).hexdigest() == DEFAULT


def test_blended_topics_are_no_words_of_any_list_and_are_asked_for_in_training_alone() -> None:
    rows = lines.rows("train", 0, 3000, subjects="blended", typed=True)
    topics = {row["topic"] for row in rows}
    assert len(topics) > 1000
    assert not topics & {*lines._TOPICS, *lines._MORE_TOPICS}
    assert all(lines.score(row, lines.demonstration(row, random.Random(i))) == 1.0 for i, row in enumerate(rows[:500]))
    with pytest.raises(UserError, match="'blended' has no rows in split 'test': use train"):
        lines.rows("test", 0, 5, subjects="blended")


@pytest.mark.parametrize("typed", [False, True])
def test_no_training_row_or_page_names_a_topic_of_another_group(typed: bool) -> None:
    seen = {
        group: {row["topic"] for split, subjects in places for row in lines.rows(split, 0, 900, subjects, typed=typed)}
        for group, places in SPLITS_OF.items()
    }
    for one, other in itertools.combinations(seen.values(), 2):
        assert not one & other
    assert not set.union(*seen.values()) & set(lines._TOPICS)
    pages = " ".join(lines.documents(seed=0, n=2000, subjects="more"))
    words = set(re.findall("[a-z]+", pages.lower()))
    read = {topic for topic in [*lines._MORE_TOPICS, *lines._TOPICS] if {topic, f"{topic}s", f"{topic}es"} & words}
    assert read == {topic for topic in lines._MORE_TOPICS if lines._group(topic) == "sft"} | set(lines._TOPICS)


@pytest.mark.parametrize("typed", [False, True])
def test_keys_and_questions_of_a_split_are_in_no_other(typed: bool) -> None:
    splits: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split, subjects in HAS:
        for row in lines.rows(split, 0, 900, subjects=subjects, typed=typed):
            splits[split] |= {row["key"], row["question"]}
    for one, other in itertools.combinations(splits.values(), 2):
        assert not one & other


BARE = lines._made((("sea", "sea", ""), "can you write a {what} about the {subject}?", "line"))


def test_without_a_setting_the_topic_is_enough() -> None:
    right = ["The salty sea murmurs like a sleeping lizard.", "The salty seas murmur.", "I think about the sea."]
    wrong = [
        "The salty dog murmurs like a sleeping lizard.",
        "The season is here.",
        "The sea.",
        "A line about the sea.",
        "Can you write a line about the sea?",
    ]
    for text, score in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        assert lines.score(BARE, text) == score


@pytest.mark.parametrize(
    ("split", "subjects", "says"),
    [
        ("train", "knwon", r"lines: subjects 'knwon' is not known; did you mean 'known'\?"),
        ("train", "new", r"'new' has no rows in split 'train': use validation or test, or other subjects"),
        ("test", "ppo", r"'ppo' has no rows in split 'test': use train, or other subjects"),
        ("validation", "ppo", r"'ppo' has no rows in split 'validation': use train, or other subjects"),
        ("tets", "new", r"split 'tets' is not known; did you mean 'test'\?"),
    ],
)
def test_subjects_that_a_split_does_not_have_are_the_users_mistake(split: str, subjects: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load("lines").rows(split, 0, 5, subjects=subjects)


def test_too_many_typed_rows_and_pages_about_held_out_topics_are_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"1000000 rows requested, but only \d+ distinct rows exist"):
        lines.rows("test", 0, 1_000_000, typed=True)
    with pytest.raises(UserError, match="too few requests of each kind for 9000 rows"):
        lines.rows("test", 0, 9000, typed=True)
    with pytest.raises(UserError, match="lines: documents: subjects 'ppo' is not known"):
        lines.documents(0, 5, subjects="ppo")
