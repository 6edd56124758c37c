from __future__ import annotations

import random

import pytest

from zero2chat_practice.synthetic import grammar


@pytest.mark.parametrize(
    ("singular", "plural"),
    [("box", "boxes"), ("cherry", "cherries"), ("toy", "toys"), ("loaf", "loaves"),
     ("glass of milk", "glasses of milk"), ("red mouse", "red mice"), ("euro", "euros"), ("potato", "potatoes")],
)  # fmt: skip
def test_plurals(singular: str, plural: str) -> None:
    assert grammar.plural(singular) == plural


def test_choices_are_nested_and_slots_are_drawn_once() -> None:
    made = {grammar.choose("a[ [big|small]|] cat", random.Random(i)) for i in range(40)}
    assert made == {"a big cat", "a small cat", "a cat"}
    for seed in range(20):
        filling = grammar.Filling(random.Random(seed), {"pet": ["ox", "cat"]}, {"a": "3"})
        text = filling.fill("{A} has {a} {pets}. a {pet} of {A.his} and {pet2s}, {n}")
        name, _, rest = text.partition(" has 3 ")
        assert name[0].isupper()
        assert rest.startswith(("oxen. An ox of ", "cats. A cat of "))
        assert rest.endswith((" and cats, {n}", " and oxen, {n}"))
        assert "oxen" in rest
        assert "cats" in rest


def test_prepositions_articles_and_marks_fit_the_words_drawn() -> None:
    def filled(text: str, box: str) -> str:
        return grammar.Filling(random.Random(0), {"box": [box]}, {"a": "3"}).fill(text)

    text = "In the {box} are {a}. How many are in each?"
    assert filled(text, "shelf") == "On the shelf are 3. How many are on each?"
    assert filled(text, "jar") == "In the jar are 3. How many are in each?"
    assert filled("they go into {a} {boxes} .", "bench") == "They go onto 3 benches."
    assert filled("a euro, a unicorn, a owl, a hour ...", "jar") == "A euro, a unicorn, an owl, an hour ..."


def test_typed_texts_keep_their_numbers_and_words() -> None:
    text = "Ada has 12 apples. She doesn't eat 3 of them. How many are left?"
    made = [grammar.typed(text, random.Random(i)) for i in range(300)]
    assert len(set(made)) > 50
    assert all("12" in one and " 3 " in one for one in made)
    assert sum(text in one for one in made) > 60
