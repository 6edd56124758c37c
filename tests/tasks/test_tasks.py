"""What every task must keep, proved for each module in `zero2chat.tasks`: a new one is covered at once."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.inference.tool_format import Tools, make_tools
from zero2chat.tools.bm25 import write_index


@pytest.fixture(scope="session")
def gsm8k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the form of GSM8K's dataset, its problems our own."""
    folder = tmp_path_factory.mktemp("gsm8k")
    problems = tasks.load("word_problems")
    for part, n in (("train", 14_000), ("test", 700)):
        with (folder / f"{part}.jsonl").open("w") as file:
            for row in problems.rows(part, 0, n):
                solution = problems.demonstration(row, random.Random(0)).replace("= ", "= <<1+1=2>>")
                file.write(json.dumps({"question": row["question"], "answer": solution}) + "\n")
    files = [{"split": part, "path": f"{part}.jsonl"} for part in ("train", "test")]
    front = {"configs": [{"config_name": "main", "data_files": files}]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(front)}---\n")
    return folder


@pytest.fixture(scope="session")
def countries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An almanac of made-up countries."""
    file = tmp_path_factory.mktemp("almanac") / "countries.jsonl"
    rng = random.Random(0)
    first = ("Bra", "Dor", "Fel", "Gon", "Hul", "Jas", "Kel", "Lom", "Mur", "Nev", "Pol", "Quo")
    second = ("va", "ri", "to", "nu", "sk", "el", "ma", "dy")
    with file.open("w") as lines:
        for i, name in enumerate(f"{a}{b}{c}" for a in first for b in second for c in ("land", "ia", "istan")):
            facts = {
                "name": f"the {name} Islands" if i % 7 == 0 else name,
                "capital": name if i % 20 == 0 else f"{name} City" if i % 5 == 0 else f"Port {name[::-1].capitalize()}",
                "currency": rng.choice(("ducat", f"{name} ducat", "florin", "new groat")),
                "population": f"{rng.randrange(1000, 90_000_000):,}",
                "area": f"{rng.randrange(10, 9_000_000):,}",
                "languages": rng.choice(("Norrish", "Old Norrish", "Vellic and Norrish", f"{name[:4]}ish")),
            }
            lines.write(json.dumps(facts) + "\n")
    return file


def _load(name: str, request: pytest.FixtureRequest) -> tasks.Task:
    """A task; one that fetches its rows reads them from a folder or file."""
    found = tasks.load(name)
    if not found.fetches:
        return found
    return dataclasses.replace(found, rows=functools.partial(found.rows, path=str(request.getfixturevalue(name))))


EXAMS = ("asdiv", "svamp", "unseen")  # they have no rows for training, and tests of their own


@pytest.fixture(params=[name for name in tasks.names() if name not in EXAMS])
def task(request: pytest.FixtureRequest) -> tasks.Task:
    return _load(request.param, request)


def test_no_key_and_no_prompt_is_in_two_splits(task: tasks.Task) -> None:
    keys: dict[str, str] = {}
    prompts: dict[str, str] = {}
    for split in tasks.SPLITS:
        for row in task.rows(split, seed=0, n=600):
            assert keys.setdefault(row["key"], split) == split
            assert prompts.setdefault(json.dumps(task.prompt(row)), split) == split
    assert set(keys.values()) == set(tasks.SPLITS)


def test_test_split_has_500_distinct_prompts_and_seeds_differ(task: tasks.Task) -> None:
    rows = task.rows("test", seed=0, n=500)
    # The whole prompt: a question such as "What is my name?" asks something else in each conversation.
    assert len({json.dumps(task.prompt(row)) for row in rows}) == 500
    assert task.rows("test", seed=1, n=500) != rows
    assert task.rows("test", seed=0, n=100) == rows[:100]


def test_rows_are_json_with_the_same_keys_and_prompts_end_with_the_user(task: tasks.Task) -> None:
    rows = task.rows("train", seed=0, n=300)
    assert json.loads(json.dumps(rows)) == rows
    assert {"key", "question", "answer", "kind"} <= rows[0].keys()
    # A column is lost where only some rows have it.
    assert all(row.keys() == rows[0].keys() for row in rows)
    for row in rows:
        assert all(isinstance(row[column], str) and row[column] for column in ("key", "question", "answer"))
        last = task.prompt(row)[-1]
        assert last["role"] == "user"
        assert row["question"] in last["content"]


def test_what_a_task_may_have_is_a_function(task: tasks.Task) -> None:
    for function in (task.use_tools, task.taste, task.said, task.stated, task.declines):
        assert function is None or callable(function)


_PRINT_DIGEST = """
import hashlib, json, random, sys
from zero2chat import tasks
from zero2chat.core.errors import UserError
task = tasks.load(sys.argv[1])
made = [task.rows(split, 3, 200, **json.loads(sys.argv[2])) for split in tasks.SPLITS]
made.append([task.demonstration(row, random.Random(5)) for row in made[0]])
try:
    made.append(task.documents(3, 500))
except UserError:
    pass
print(hashlib.sha256(json.dumps(made).encode()).hexdigest())
"""


def test_rows_demonstrations_and_documents_are_the_same_in_every_process(task: tasks.Task) -> None:
    command = [sys.executable, "-c", _PRINT_DIGEST, task.name, json.dumps(getattr(task.rows, "keywords", {}))]
    digests = {
        subprocess.check_output(command, env=os.environ | {"PYTHONHASHSEED": hash_seed}) for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("split", tasks.SPLITS)
def test_demonstrations_score_one_and_vary(task: tasks.Task, split: str) -> None:
    rng = random.Random(0)
    rows = task.rows(split, seed=0, n=200)
    for row in rows:
        text = task.demonstration(row, rng)
        assert task.score(row, text) == 1.0, (row, text)
        assert task.score(row, f"  {text}\n\n") == 1.0, (row, text)
    # GSM8K has one solution to each problem, and so has a problem of one calculation without a note.
    first = rows[:20] if task.name in ("memory", "word_problems") else rows[:1]
    varied = [row for row in first if len({task.demonstration(row, rng) for _ in range(50)}) > 1]
    assert varied or task.name == "gsm8k"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory, countries: Path) -> Tools:
    """A search in the register of everyone and in an almanac, and Python."""
    folder = tmp_path_factory.mktemp("register") / "index"
    texts = tasks.load("facts").documents(seed=0, n=700, everyone=True)
    texts += tasks.load("countries").documents(seed=0, n=288, path=str(countries))
    write_index(str(folder), ((text, str(i)) for i, text in enumerate(texts)), "register")
    found = make_tools({"search": {"where": str(folder), "passages": 2}, "python": {}})
    assert found
    return found


@pytest.mark.parametrize("failing", ["never", "once", "always"])
@pytest.mark.parametrize("name", [name for name in tasks.names() if tasks.load(name).use_tools])
def test_answers_found_with_tools_are_right(
    tools: Tools, name: str, failing: str, request: pytest.FixtureRequest
) -> None:
    task, calls = _load(name, request), 0

    def call(called: str, argument: str) -> str | None:
        nonlocal calls
        calls += 1
        if failing == "always" or (failing == "once" and calls == 1):
            return None
        arguments = dict.fromkeys(tools.example(called), argument)
        result = tools.result(called, arguments, 20.0)
        return None if result.failed else result.text

    assert task.use_tools
    for row in task.rows("train", seed=0, n=120, **_NEEDS_TOOLS.get(task.name, {})):
        calls = 0
        text = task.use_tools(row, random.Random(0), call)
        assert task.score(row, text) == float(failing != "always"), (row, text)
        assert calls >= 1 + (failing != "never")
    assert task.use_tools(row, random.Random(0), call, style="worked") == text
    with pytest.raises(UserError, match=r"style 'wroked' is not known"):
        task.use_tools(row, random.Random(0), call, style="wroked")


# Without these options a task has rows that need no tools.
_NEEDS_TOOLS = {"sums": {"digits": [3, 4, 5]}}
# Questions of one kind have one answer, or few: these tasks' own tests cross the kinds.
_FEW_ANSWERS = ("identity", "out_of_reach", "small_talk")


def _others(row: tasks.Row, rows: list[tasks.Row]) -> list[tasks.Row]:
    """Rows whose answers are wrong for this one.

    Of another kind an answer may hold this one by chance: "b-e-d has 3 letters" names the d.
    """
    return [other for other in rows if other["kind"] == row["kind"] and other["answer"] != row["answer"]]


def test_answers_to_other_questions_score_zero(task: tasks.Task) -> None:
    rng = random.Random(0)
    rows = task.rows("test", seed=0, n=400)
    checked = 0
    for row in rows:
        for other in _others(row, rows)[:20]:
            text = task.demonstration(other, rng)
            assert task.score(row, text) == 0.0, (row, text)
            checked += 1
    assert checked > 2000 or task.name in _FEW_ANSWERS


def test_no_answer_and_the_question_said_back_score_zero(task: tasks.Task) -> None:
    for row in task.rows("test", seed=0, n=500):
        for text in ("", " \n", "I do not know.", "####", row["question"]):
            if task.name == "out_of_reach" and text == "I do not know.":  # there it is the right answer
                continue
            assert task.score(row, text) == 0.0, (row, text)


def test_two_different_answers_at_once_score_zero(task: tasks.Task) -> None:
    rng = random.Random(0)
    rows = task.rows("test", seed=0, n=400)
    checked = 0
    for row in rows:
        # Of a reversal only another order of the same letters is another answer: test_spelling has these.
        for other in _others(row, rows)[: 3 if row["kind"] != "reverse" else 0]:
            texts = [task.demonstration(row, rng), task.demonstration(other, rng)]
            # Of several blocks of code the last is the answer.
            for both in ("\n".join(texts), "\n".join(reversed(texts)))[: 1 if task.name == "functions" else 2]:
                assert task.score(row, both) == 0.0, (row, both)
            checked += 1
    assert checked > 500 or task.name in _FEW_ANSWERS


def test_what_a_task_does_not_have_is_named(task: tasks.Task, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"split 'tets' is not known; did you mean 'test'\?"):
        task.rows("tets", 0, 5)
    with pytest.raises(UserError, match="unknown option 'sede'"):
        task.rows("test", 0, 5, sede=3)
    row = task.rows("test", 0, 1)[0]
    with pytest.raises(UserError, match=r"style 'wroked' is not known(; did you mean 'worked'\?|; known: worked)"):
        task.demonstration(row, random.Random(0), style="wroked")
    if task.name == "word_problems":  # its rows are drawn, not listed: leave it few to draw from
        from zero2chat_practice import word_problems

        of_train = next(one for one in word_problems.stories() if one.of("train") and len(one.steps) == 1)
        only = dataclasses.replace(of_train, texts=("What is {a} + {b}?",), numbers={"a": "2-3", "b": "2-3"})
        monkeypatch.setattr(word_problems, "stories", lambda: (only,))
        monkeypatch.setattr(word_problems, "_ASIDES", 0)
        monkeypatch.setattr(word_problems, "_WORDS", 0)
        monkeypatch.setattr(word_problems, "typed", lambda text, rng: text)
        with pytest.raises(UserError, match=r"1000 rows requested, but only [0-4] distinct rows exist"):
            task.rows("train", 0, 1000, levels=[1])
    else:
        with pytest.raises(UserError, match=r"1000000 rows requested, but only \d+ distinct rows exist"):
            task.rows("test", 0, 1_000_000)


def test_a_users_module_is_a_task_by_its_dotted_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "half.py").write_text("def rows(split, seed, n): return []\n")
    (package / "whole.py").write_text(
        "def rows(split, seed, n): return [{'key': 'k', 'question': 'q', 'answer': 'a'}] * n\n"
        "STYLES = ('worked', 'bare')\n"
        "def demonstration(row, rng, style='worked'): return row['answer']\n"
        "import numpy\n"
        "def score(row, completion):\n"
        "    return {'a': 1, 'b': False, 'c': numpy.bool_(True), 'd': float('inf'), 'e': None}.get(completion, 'no')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task = tasks.load("mine.whole")
    row, _ = task.rows("test", 0, 2)
    assert task.prompt(row) == [{"role": "user", "content": "q"}]
    assert task.demonstration(row, random.Random(0), style="bare") == "a"
    assert [task.score(row, text) for text in "abc"] == [1.0, 0.0, 1.0]
    for text, given in {"d": "inf", "e": "None", "f": "'no'"}.items():
        with pytest.raises(UserError, match=rf"task 'mine\.whole': score returned {given}, not a finite number"):
            task.score(row, text)
    for lacking, shown in ((row, "'key': 'k'"), ({}, "")):
        with pytest.raises(UserError, match=rf"here: rows are drawn by 'kind', which this one lacks: \{{{shown}"):
            tasks.draw([lacking], "here", 0, 1)
    with pytest.raises(UserError, match=r"mine\.whole: style 'bear' is not known; did you mean 'bare'"):
        task.demonstration(row, random.Random(0), style="bear")
    with pytest.raises(UserError, match="split 'tets' is not known"):
        task.rows("tets", 0, 2)
    with pytest.raises(UserError, match="unknown option 'levels'; the task takes no options"):
        task.rows("test", 0, 2, levels=[1])
    with pytest.raises(UserError, match="no documents"):
        task.documents(0, 2)
    with pytest.raises(UserError, match=r"mine\.half lacks demonstration, score"):
        tasks.load("mine.half")
