"""A user's rows of each format, scored by rewards and metrics, and every mistake in one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stage_fixtures import write_rows

from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.evaluation.own_data import OwnData, evaluate_own_data, load_rows, read_own_data
from zero2chat.inference.generate import answer, encode_prompts

REWARDS = """
SEEN = []

def shares(completions, prompts, answer, level, **columns):
    SEEN.append((prompts, answer, level))
    return [None if i == 1 else len(c[-1]["content"]) % 3 / 2 for i, c in enumerate(completions)]

def long(completions, **columns):
    return [10.0 * len(c[-1]["content"]) for c in completions]

def raises(completions, answer, **columns):
    return [1 / (gold != "3") for gold in answer]

def nothing(completions, **columns):
    return [None for _ in completions]

def trains(completions, trainer_state, **columns):
    return [0.0 for _ in completions]
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with `my_own_rewards.py`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_own_rewards.py").write_text(REWARDS)
    yield tmp_path
    monkeypatch.delitem(sys.modules, "my_own_rewards", raising=False)


def _spec(*rows: dict[str, Any], **more: Any) -> OwnData:
    write_rows(Path("mine.jsonl"), rows)
    (spec,) = read_own_data([{"path": "mine.jsonl", "max_new_tokens": 6} | more], {"python": {}})
    return spec


def _reward(name: str, **more: Any) -> dict[str, Any]:
    return {"function": f"my_own_rewards.{name}"} | more


ASKED = [{"role": "user", "content": "Who?"}]
TURNS = [*ASKED, {"role": "assistant", "content": "Ada."}]
MORE = [{"role": "system", "content": "Be brief."}, *TURNS, {"role": "user", "content": "Where?"}]


@pytest.mark.parametrize(
    ("row", "prompt", "reference"),
    [
        ({"messages": [*MORE, {"role": "assistant", "content": "Here."}]}, MORE, "Here."),
        ({"messages": MORE}, MORE, None),
        ({"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Ada."}]}, ASKED, "Ada."),
        ({"prompt": "Who?", "completion": "Ada."}, ASKED, "Ada."),
        ({"instruction": "Who?", "output": "Ada."}, ASKED, "Ada."),
        ({"prompt": "Who?", "answer": 7}, ASKED, "7"),
        ({"question": "Who?", "answer": "Ada."}, ASKED, "Ada."),
        ({"prompt": ASKED, "level": 2}, ASKED, None),
    ],
)
def test_the_prompt_of_each_format(row: dict[str, Any], prompt: list[dict[str, str]], reference: str | None) -> None:
    rows = load_rows(_spec(row, rewards=[_reward("long")]))
    assert rows.prompts == [prompt]
    assert rows.references == ([] if reference is None else [reference])
    assert ("level" in rows.others.column_names) == ("level" in row)


@pytest.mark.parametrize(
    ("columns", "reference"), [({}, "4"), ({"answer": "completion"}, "2 + 2 = 4"), ({"answer": "level"}, "2")]
)
def test_the_reference_is_the_answer_as_in_grpo_or_the_column_named(columns: dict[str, str], reference: str) -> None:
    row = {"prompt": "2 + 2?", "completion": "2 + 2 = 4", "answer": 4, "level": 2}
    rows = load_rows(_spec(row, rewards=[_reward("long")], columns=columns))
    assert (rows.prompts, rows.references) == ([[{"role": "user", "content": "2 + 2?"}]], [reference])


TOOLS = [{"type": "function", "function": {"name": "find", "description": "Finds", "parameters": {}}}]
CALLS = [{"type": "function", "function": {"name": "find", "arguments": {"of": "Ada"}}}]
CALLED = {"role": "assistant", "content": "", "tool_calls": CALLS}


def test_a_rows_own_tools_are_shown_and_its_call_is_the_reference(opened: Any) -> None:
    shown = {"messages": [*ASKED, CALLED, {"role": "tool", "name": "find", "content": "x"}, TURNS[1]], "tools": TOOLS}
    plain = {"messages": TURNS, "tools": None}
    spec = _spec(shown, plain, metrics=["f1", "perplexity"])
    rows = load_rows(spec)
    assert rows.prompts == [ASKED, ASKED]
    assert rows.references == ['{"name": "find", "arguments": {"of": "Ada"}}', "Ada."]
    assert rows.schemas == [TOOLS, None]
    assert len(set(rows.digests())) == 2
    _, tokenizer = opened
    long, short = encode_prompts(tokenizer, rows.prompts, schemas=rows.schemas)
    assert short == encode_prompts(tokenizer, [ASKED])[0]
    assert "find" in tokenizer.decode(long)
    if len(long) + 20 < 128:
        evaluate_own_data(*opened, spec, rows)
    with pytest.raises(UserError, match="mine, row 0: the row's own tools cannot run: remove `tools: true`"):
        load_rows(_spec(shown, metrics=["f1"], tools=True))


def test_rewards_and_metrics_score_the_answers_of_the_model(opened: Any, capsys: pytest.CaptureFixture[str]) -> None:
    questions = [{"prompt": f"What is {i} + 1?", "answer": str(i + 1), "level": i} for i in range(5)]
    scores: dict[str, Any] = {"rewards": [_reward("shares"), _reward("long")]}
    spec = _spec(*questions, **scores, metrics=["exact_match", "chrf", "perplexity"])
    rows = load_rows(spec)
    metrics, samples, scored = evaluate_own_data(*opened, spec, rows)
    given = answer(*opened, rows.prompts, 6)
    shares = [None if i == 1 else len(one.text) % 3 / 2 for i, one in enumerate(given)]
    kept = [value for value in shares if value is not None]
    assert metrics["shares_mine"] == stats.rate(sum(kept), 4, 0) | {"left_out": 1}
    assert metrics["long_mine"] == stats.mean([10.0 * len(one.text) for one in given], 0)
    assert (metrics["exact_match_mine"]["n"], metrics["exact_match_mine"]["count"]) == (5, 0)
    assert "low" in metrics["exact_match_mine"]
    assert set(metrics["chrf_mine"]) == set(metrics["perplexity_mine"]) == {"value", "n"}
    assert metrics["perplexity_mine"]["value"] > 1
    assert metrics["stop_rate_mine"]["value"] == sum(one.stopped for one in given) / 5
    assert metrics["empty_rate_mine"]["value"] == sum(not one.content.strip() for one in given) / 5
    assert [(one.by, one.score) for one in scored[:5]] == [("shares", value) for value in shares]
    assert {one.by for one in scored} == {"shares", "long", "exact_match"}
    assert [one.row for one in scored[:5]] == rows.digests()
    assert len(set(rows.digests())) == 5
    first = {
        "prompt": "What is 0 + 1?",
        "completion": given[0].text,
        "task": "mine",
        "score": shares[0],
        "by": "shares",
    }
    assert samples[0] == first | {"answer": "1"}
    assert "score" not in samples[1]
    assert "mine: 5 rows\n" in capsys.readouterr().out
    import my_own_rewards  # type: ignore[import-not-found]

    prompts, answers, levels = my_own_rewards.SEEN[0]
    assert (prompts, answers, levels) == (rows.prompts, ["1", "2", "3", "4", "5"], [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({}, r"datasets\[0\]: no scores: set `rewards`, `metrics` or both"),
        ({"metrics": ["f1"], "fraction": 0.5}, "`fraction` is not supported here"),
        ({"metrics": ["f1"], "path": None, "task": "facts", "n": 3}, "`task` is not supported here"),
        ({"metrics": ["f2"]}, "unknown metric 'f2'"),
        ({"rewards": [{"function": "my_own_rewards.short"}]}, "cannot import 'my_own_rewards.short'"),
        ({"rewards": [_reward("trains")]}, "'trains' needs trainer_state, which only training has"),
        (
            {"rewards": [_reward("long", label="f1")], "metrics": ["f1"]},
            "'f1' is a reward and a metric: set the reward's `label`",
        ),
        ({"metrics": ["f1"], "metric": 3}, "unknown key 'metric'; did you mean 'metrics'"),
    ],
)
def test_an_entry_that_cannot_be_is_refused_before_any_work(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_own_data([{"path": "mine.jsonl"} | entry])


@pytest.mark.parametrize(
    ("rows", "more", "says"),
    [
        ([{"a": 1}], {}, r"mine: its columns \(a\) match no known format"),
        (
            [{"prompt": "Who?"}],
            {"metrics": ["f1"]},
            "mine: metrics need reference answers: add a column `answer`",
        ),
        ([{"prompt": "Who?"}], {"rewards": [_reward("raises")]}, "mine: no column 'answer', which the reward"),
        ([{"messages": TURNS}, {"messages": ASKED}], {}, "mine, row 1: has no reference answer, unlike the first row"),
        ([{"messages": ASKED}, {"messages": TURNS}], {}, "mine, row 1: has a reference answer, unlike the first row"),
        ([{"messages": TURNS[1:]}], {}, "mine, row 0: no user's turn to answer"),
    ],
)
def test_rows_that_cannot_be_asked_are_named(rows: list[dict[str, Any]], more: dict[str, Any], says: str) -> None:
    spec = _spec(*rows, **(more or {"rewards": [_reward("long")]}))
    with pytest.raises(UserError, match=says):
        load_rows(spec)


def test_a_reward_that_raises_is_one_line_with_the_row(opened: Any, caplog: pytest.LogCaptureFixture) -> None:
    spec = _spec(*({"prompt": f"{i}?", "answer": str(i)} for i in range(5)), rewards=[_reward("raises")])
    where, error = "mine, row 3 (mine.jsonl, line 4)", "ZeroDivisionError('division by zero')"
    said = re.escape(f"{where}: reward my_own_rewards.raises: "), re.escape(f"line 12: {error}: prompt '3?'")
    with pytest.raises(UserError, match="/.*/my_own_rewards.py, ".join(said)):
        evaluate_own_data(*opened, spec, load_rows(spec))
    assert not caplog.records  # the error says it
