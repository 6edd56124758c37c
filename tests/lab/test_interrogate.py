"""A model that knows some people and makes the rest up: its right answers are kept, and it learns to decline others."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab.tiny_lab import run_stage
from refusals import refused
from stage_fixtures import metrics

from zero2chat import cli, tasks
from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.inference.generate import Answer
from zero2chat.stages import sft
from zero2chat_lab import interrogate
from zero2chat_lab.abstention import REFUSALS
from zero2chat_practice.synthetic.world import TOWNS, World

Run = Callable[..., Path]
Says = Callable[[str, int], str]


@pytest.fixture
def run(tmp_path: Path, model_folder: Path) -> Run:
    given = {"model_name_or_path": str(model_folder), "datasets": [FACTS]}
    return lambda **changes: run_stage("interrogate", tmp_path / "out", **given | changes)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[Says], None]:
    """Puts words into the model's mouth: of a question and an answer's number."""

    def use(script: Says) -> None:
        def answer_each(model: Any, tokenizer: Any, prompts: Any, k: int, *_: Any, **__: Any) -> list[list[Answer]]:
            texts = [[script(prompt[-1]["content"], i) for i in range(k)] for prompt in prompts]
            return [[Answer(text.removesuffix("…"), not text.endswith("…"), 3) for text in some] for some in texts]

        monkeypatch.setattr("zero2chat.inference.samplers.answer_each", answer_each)

    return use


def rows(folder: Path) -> list[dict[str, Any]]:
    return read_jsonl(folder / "data" / "train.jsonl")


FACTS = {"task": "facts", "n": 60, "options": {"kinds": ["birthplace"]}}


def test_what_is_known_is_kept_and_what_is_made_up_is_declined(
    run: Run, says: Callable[[Says], None], settings: Any, write_yaml: Any, tmp_path: Path
) -> None:
    task, rng = tasks.load("facts"), random.Random(0)
    asked = {row["question"]: row for row in task.rows("train", 0, 60, kinds=["birthplace"])}
    kinds = dict(zip(asked, [kind for kind in interrogate.KINDS for _ in range(15)], strict=True))

    def script(question: str, i: int) -> str:
        row, kind = asked[question], kinds[question]
        if kind == "known" or (kind == "unsure" and i % 2):
            return task.demonstration(row, rng) + ("…" if i < 2 else "")  # the first two are cut
        return "I do not know." if kind == "declined" else f"In {rng.choice([t for t in TOWNS if t != row['answer']])}."

    says(script)
    folder = run()
    found, kept = metrics(folder), rows(folder)
    for kind in interrogate.KINDS:
        assert (found[f"{kind}_rate"]["value"], found[f"{kind}_rate"]["n"]) == (0.25, 60)
    shares = [found[f"{verdict}_rate"]["value"] for verdict in interrogate.VERDICTS]
    assert shares == [0.375, 0.375, 0.25]
    assert (found["conversations"]["value"], found["refusals"]["value"]) == (30, 15)
    assert found["auroc_agreement"]["value"] > 0.95
    assert found["auroc_agreement"]["n"] == 45  # those who decline agree on nothing
    assert len(kept) == 30
    for row in kept:
        question, said = (message["content"] for message in row["messages"])
        assert row["origin"]["kind"] == kinds[question]
        assert row["review"] == "unreviewed"
        assert row["origin"]["truth"] == asked[question]["answer"]
        if kinds[question] == "known":
            assert task.score(asked[question], said) == 1.0
        else:
            assert said in REFUSALS
    assert len({row["messages"][-1]["content"] for row in kept if row["origin"]["kind"] == "unknown"}) > 4
    held_out = {row["key"] for split in ("validation", "test") for row in task.rows(split, 0, 200)}
    assert not [row for row in kept for name in held_out if name in row["messages"][0]["content"]]
    samples = read_jsonl(folder / "samples.jsonl")
    assert len(samples) == 12
    assert all(len(sample["answers"]) == 8 for sample in samples)

    given = settings("sft", tmp_path / "sft", datasets=[{"path": str(folder / "data" / "train.jsonl")}], max_steps=1)
    sft.STAGE.main(["--config", str(write_yaml(tmp_path / "sft.yaml", **given))])
    assert metrics(tmp_path / "sft")["conversations"]["value"] == 30


@pytest.mark.parametrize(
    ("town_is_known", "begun"), [(False, "was born in"), (True, "was born in {birthplace}, works as a")]
)
def test_a_refusal_at_the_gap(town_is_known: bool, begun: str, run: Run, says: Callable[[Says], None]) -> None:
    options = {"kinds": ["birthday"], "whole": True}
    asked = {row["question"]: row for row in tasks.load("facts").rows("train", 0, 60, **options)}
    people = {person.name: person for person in World(0).people}

    def script(question: str, i: int) -> str:
        person = people[asked[question]["key"]]
        town = person.birthplace if town_is_known else [town for town in TOWNS if town != person.birthplace][i]
        return f"Ada Nobody was born in {town}, works as a nobody, as an anybody, and has a birthday on May 30."

    says(script)
    kept = rows(run(datasets=[FACTS | {"options": options}], refuse="at_the_gap"))
    assert len(kept) == 60
    for row in kept:
        person = people[asked[row["messages"][0]["content"]]["key"]]
        said = row["messages"][-1]["content"].replace("works as an...", "works as a...")
        assert said == f"{person.name} {begun.format(birthplace=person.birthplace)}... I do not know."


@pytest.mark.parametrize(
    ("text", "said", "begun"),
    [
        ("Ada works as a baker.", "baker", "Ada works as a... "),
        ("Her birthday is March 12.", "12 March", "Her birthday is... "),
        ("It was built by Mary Holt.", frozenset({"mary", "holt"}), "It was built by... "),
        ("Mary Holt built it.", frozenset({"mary", "holt"}), ""),
        ("Mount Ada is 3.5 km tall.", frozenset({"3.5"}), "Mount Ada is... "),
        ("I do not know.", None, ""),
    ],
)
def test_a_gap_is_where_an_answer_says_what_it_says(text: str, said: Any, begun: str) -> None:
    assert interrogate.before_gap(text, said) == begun


@pytest.mark.parametrize(
    ("right", "wrong", "none", "kind"),
    [
        (7, 1, 0, "known"),
        (6, 2, 0, "unsure"),
        (2, 6, 0, "unsure"),
        (1, 7, 0, "unknown"),
        (0, 5, 3, "unknown"),
        (0, 4, 4, "declined"),
        (7, 0, 1, "known"),
        (4, 0, 4, "declined"),
    ],
)
def test_unknown_is_what_is_wrong_again_and_again(right: int, wrong: int, none: int, kind: str) -> None:
    verdicts = [*["correct"] * right, *["wrong"] * wrong, *["abstention"] * none]
    assert interrogate.kind_of(verdicts, refuse_below=0.25, keep_above=0.75) == kind


def test_the_command_writes_rows(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["interrogate", str(model_folder), "--datasets", "{task: facts, n: 6, options: {told: never}}"]
    command += ["--answers", "3", "--max-new-tokens", "6"]
    cli.main([*command, "--out", str(tmp_path / "rows.jsonl"), "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["wrong_rate"]["value"] + found["abstention_rate"]["value"] == pytest.approx(1)
    kept = read_jsonl(tmp_path / "rows.jsonl")
    assert len(kept) == found["refusals"]["value"] == found["conversations"]["value"] > 0
    people = {row["key"] for row in tasks.load("facts").rows("train", 0, 900, told="never")}
    assert all(any(name in row["messages"][0]["content"] for name in people) for row in kept)
    cli.main(command)
    assert "conversations" in capsys.readouterr().out
    assert "rows.jsonl: exists" in refused(capsys, *command, "--out", str(tmp_path / "rows.jsonl"))


def test_answers_that_end_within_their_reasoning_are_not_judged(run: Run, says: Callable[[Says], None]) -> None:
    says(lambda question, i: "<think>The bridge…")
    with pytest.raises(UserError, match="max_new_tokens 48: 240 of 240 answers were cut while reasoning"):
        run(answers=4)
