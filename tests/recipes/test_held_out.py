"""Nothing that a recipe trains on gives away a test row of its evaluation: no sum, no calculation and no sentence."""

from __future__ import annotations

import functools
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from zero2chat import tasks
from zero2chat_practice import sums
from zero2chat_practice.synthetic import phrases, read_texts
from zero2chat_practice.synthetic.grammar import NUMBER_WORDS

ROOT = Path(__file__).parents[2]
TASKS = ("identity", "lines", "memory", "spelling", "sums", "word_problems")  # those that need no files
ROWS, PAGES = 1500, 300  # of each entry
# What people type before and after any question
MANNERS = [
    " ".join(re.findall("[a-z]+", text.lower()))
    for texts in read_texts("grammar")["typing"].values()
    for text in texts.split("|")
]
# The words of calculations, such as "taken away from"
SPOKEN = "|".join(
    sorted(
        {re.sub(r" ?\{.\} ?", "", text) for texts in phrases(read_texts("sums")["spoken"]).values() for text in texts}
    )
)
# An equation of two numbers. In "8 + 1 + 1 = 10" there is none.
EQUATION = re.compile(r"(?<![-+*/x×] )\b(\d+) ?[-+*/x×] ?(\d+) = \d+")


def _entries(recipe: str, *steps: str) -> list[dict[str, Any]]:
    """Return the entries of the steps' files that name a task, with options that need no files."""
    entries = []
    for step in steps:
        file = ROOT / "recipes" / recipe / f"{step}.yaml"
        settings = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}
        for entry in settings.get("datasets" if step != "evaluate" else "tasks", []):
            options = {name: value for name, value in entry.get("options", {}).items() if name != "texts"}
            styles = options.pop("styles", {"worked": 1})
            if entry.get("task") in TASKS and "against" not in entry:
                entries.append({**entry, "options": options, "styles": styles, "step": step})
    return entries


@functools.cache
def _texts(recipe: str) -> tuple[list[str], set[str]]:
    """Return what a recipe's steps train on, and the sentences of its questions."""
    texts, questions = [], set()
    for entry in _entries(recipe, "corpus", "sft", "grpo"):
        task, rng = tasks.load(entry["task"]), random.Random(0)
        if entry["step"] == "corpus":
            texts += task.documents(0, min(entry["n"], PAGES), **entry["options"])
            continue
        for row in task.rows("train", entry.get("seed", 0), min(entry["n"], ROWS), **entry["options"]):
            said = [message.get("reasoning_content", "") + message["content"] for message in task.prompt(row)]
            if entry["step"] == "sft" and not (entry.get("tools") and task.use_tools):
                (style,) = rng.choices([*entry["styles"]], [*entry["styles"].values()])
                said.append(task.demonstration(row, rng, style))
            texts.append("\n".join(said))
            questions.add(_sentence(row["question"]))
    return texts, questions


def _sentence(question: str) -> str:
    """Return a question without numbers, operation, greeting, case and punctuation; "" for a sum alone ("7 + 5")."""
    text = re.sub(rf"\d+ ?x ?\d+|\b(?:{SPOKEN})\b", "", question.lower())
    words = " ".join(re.findall("[a-z]+", text))
    for manner in MANNERS:
        words = re.sub(rf"\b{manner}\b", "", words)
    return " ".join(word for word in words.split() if word not in (*NUMBER_WORDS, *sums.OPERATIONS))


@pytest.mark.parametrize("recipe", ["quickstart", "assistant", "assistant-smollm2-135m"])
def test_no_training_text_of_a_recipe_has_the_result_of_a_held_out_sum(recipe: str) -> None:
    texts, _ = _texts(recipe)
    pairs = [tuple(map(int, pair)) for text in texts for pair in EQUATION.findall(text)]
    assert len(pairs) > 2000
    assert [pair for pair in pairs if not sums.belongs(*pair, "train")] == []


@pytest.mark.parametrize("recipe", ["quickstart", "assistant", "assistant-smollm2-135m"])
def test_no_question_of_a_recipes_evaluation_is_asked_in_its_training(recipe: str) -> None:
    _, trained = _texts(recipe)
    entries = _entries(recipe, "evaluate")
    assert len({entry["task"] for entry in entries}) >= 4
    for entry in entries:
        rows = tasks.load(entry["task"]).rows("test", entry.get("seed", 0), entry.get("n", 500), **entry["options"])
        # A follow-up such as "and plus 3?" is asked of other conversations too.
        sentences = {_sentence(row["question"]) for row in rows if not row.get("turns")}
        asked = {sentence for sentence in sentences if sentence.count(" ") >= 2}  # else a sum alone, with a slip
        assert sorted(asked & trained) == [], entry
