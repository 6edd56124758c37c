from __future__ import annotations

import itertools
import random
import re

import pytest

from zero2chat.tasks import SPLITS, Row
from zero2chat_practice import lines
from zero2chat_practice.synthetic import grammar

SEA = {"question": "Write a line about the sea at night.", "topic": "sea", "setting": "at night"}
FINE = "The salty sea murmurs at night by the old wall like a sleeping lizard."


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


def test_demonstrations_are_of_every_quality() -> None:
    rng = random.Random(3)
    worth = sorted(lines.taste(row, lines.demonstration(row, rng)) for row in lines.rows("train", seed=0, n=2000))
    assert all(0.0 <= value <= 1.0 for value in worth)
    assert worth[100] < 0.2
    assert 0.35 < worth[1000] < 0.6
    assert worth[1900] > 0.85
    assert len(set(worth)) > 40


# ---- the default rows, and further subjects and requests

SPLITS_OF = {
    "sft": [("train", "more"), ("validation", "more"), ("test", "more")],
    "ppo": [("train", "ppo")],
    "validation": [("validation", "new")],
    "test": [("test", "new")],
}
HAS = [place for places in SPLITS_OF.values() for place in places] + [(split, "known") for split in SPLITS]


def test_blended_topics_are_no_words_of_any_list_and_are_asked_for_in_training_alone() -> None:
    rows = lines.rows("train", 0, 3000, subjects="blended", typed=True)
    topics = {row["topic"] for row in rows}
    assert len(topics) > 1000
    assert not topics & {*lines._TOPICS, *lines._MORE_TOPICS}
    assert all(lines.score(row, lines.demonstration(row, random.Random(i))) == 1.0 for i, row in enumerate(rows[:500]))


@pytest.mark.parametrize("typed", [False, True])
def test_no_training_row_or_page_names_a_topic_of_another_group(typed: bool) -> None:
    seen = {
        group: {row["topic"] for split, subjects in places for row in lines.rows(split, 0, 900, subjects, typed=typed)}
        for group, places in SPLITS_OF.items()
    }
    for one, other in itertools.combinations(seen.values(), 2):
        assert not one & other
    assert not set.union(*seen.values()) & set(lines._TOPICS)
    pages = " ".join(re.findall("[a-z]+", " ".join(lines.documents(seed=0, n=4000, subjects="more")).lower()))
    topics = [*lines._MORE_TOPICS, *lines._TOPICS]
    read = {topic for topic in topics if any(f" {name} " in pages for name in (topic, grammar.plural(topic)))}
    assert read == {topic for topic in lines._MORE_TOPICS if lines._group(topic) == "sft"} | set(lines._TOPICS)


@pytest.mark.parametrize("typed", [False, True])
def test_keys_and_questions_of_a_split_are_in_no_other(typed: bool) -> None:
    splits: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split, subjects in HAS:
        for row in lines.rows(split, 0, 900, subjects=subjects, typed=typed):
            splits[split] |= {row["key"], row["question"]}
    for one, other in itertools.combinations(splits.values(), 2):
        assert not one & other


def _skeleton(row: Row) -> str:
    """Return a question without thing, setting and punctuation, in lower case."""
    articles = itertools.chain(*lines._ARTICLES.values())
    names = sorted({*articles, row["noun"], row["setting"]} - {""}, key=len, reverse=True)
    text = re.sub(rf"\b(?:{'|'.join(names)}|an)\b", " ", row["question"], flags=re.IGNORECASE)
    return " ".join(re.findall("[a-z']+", text.lower()))


def test_no_wording_of_a_test_row_is_in_training_and_no_text_fits_many_rows() -> None:
    for of, least in (("frames", 60), ("setting_frames", 40)):
        assert len({text for split in SPLITS for text in grammar.frames(lines._TEXTS[of], split)}) >= least
    rows = {split: lines.rows(split, 0, 4000) for split in ("train", "test")}
    seen, held_out = ({_skeleton(row) for row in rows[split]} for split in rows)
    assert len(held_out) > 100
    assert not seen & held_out
    attacks = ["It hums softly at night like a kept secret.", f"The {', the '.join(lines._TOPICS[:28])} hum at night."]
    attacks += [lines.demonstration(row, random.Random(0)) for row in rows["test"][:20]]
    for text in attacks:
        assert sum(lines.score(row, text) for row in rows["test"][:500]) < 20
    for row in rows["test"][:500]:
        assert lines.score(row, f"{row['question'].rstrip('.?!').capitalize()}.") == 0
