from __future__ import annotations

from typing import Any

import pytest

from zero2chat.report.page import main_result
from zero2chat.report.parts import beginning, esc, interval, short, small_print, spoken
from zero2chat.report.samples import mark
from zero2chat.report.section import Section
from zero2chat.report.steps import StepResult


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy_sums", 0.83, "83.0%"),
        ("stop_rate", 1.0, "100.0%"),
        ("pass_at_8_sums", 0.5, "50.0%"),
        ("constant_sums", 0.056, "5.6%"),
        ("tool_call_rate_sums", 0.5, "50.0%"),
        ("declined_within_reach", 0.01, "1.0%"),
        ("learning_rate", 0.0003, "0.0003"),
        ("bytes_train", 12_345_678, "12.3 MB"),
        ("bytes_per_token", 3.61234, "3.612"),
        ("parameters", 4_213_248, "4.21 million"),
        ("documents_train", 21240, "21,240"),
        ("tokens_per_second", 9812.3, "9,812"),
        ("seconds", 135, "2 min"),
        ("points", -0.028, "-2.8 points"),
        ("verdict", "<b>", "&lt;b&gt;"),
        ("val_loss", float("nan"), "NaN"),
    ],
)
def test_a_number_reads_as_one_says_it(name: str, value: Any, text: str) -> None:
    assert short(name, {"value": value}) == text


def test_an_interval_is_shown_with_its_n_and_omitted_if_missing() -> None:
    metric = {"value": 0.83, "n": 500, "low": 0.8, "high": 0.86}
    assert interval("accuracy", metric) == "80.0–86.0%"
    assert small_print("accuracy", metric) == "95%: 80.0–86.0% · n = 500"
    assert small_print("accuracy", metric | {"contaminated": 0}).endswith(" · n = 500 · 0 contaminated")
    assert small_print("named", metric | {"count": 0}) == "95%: 80.0–86.0% · 0 of 500"
    assert small_print("loss", {"value": 1.0}) == ""
    assert interval("thought_tokens_sums", {"value": 0.09, "low": -0.09, "high": 0.28}) == "0–0.28"


def test_outside_text_loses_its_power_and_stays_encodable() -> None:
    assert esc("<script>\x00\x1b[31m\ud800'\"") == "&lt;script&gt;[31m&#x27;&quot;"
    assert esc("a" * 20, limit=5) == "aaaaa …"
    assert [
        spoken(text) for text in ("<think>\n\n</think>\n\nHi <b>", "<think></think>", "<think>a</think>b", "<think>a")
    ] == [
        "Hi &lt;b&gt;",
        "<i>nothing</i>",
        "<small>thought: a</small>\nb",
        "<small>thought: a</small>",
    ]


def test_long_tables_begin_with_a_few_rows_and_fold_the_rest() -> None:
    shown = beginning([str(i) for i in range(14)], "".join)
    assert shown == "01234567891011<details><summary>2 more</summary>\n1213</details>\n"
    assert beginning(["a"], "".join) == "a"


@pytest.mark.parametrize(
    ("sample", "shown"),
    [
        ({"score": 1}, ("right", "✓ correct")),
        ({"score": True}, ("right", "✓ correct")),
        ({"score": 0.0}, ("wrong", "✗ wrong")),
        ({"score": 0.4}, ("partly", "◐ 0.40")),
        ({"score": 0.0, "means": ("names it", "does not")}, ("wrong", "✗ does not")),
        ({"score": None}, ("", "")),
        ({"score": "1"}, ("", "")),
        ({"score": 1.0, "by": "politeness"}, ("", "politeness 1")),
        ({"score": 2.25, "by": "gold reward", "won": 0.0}, ("wrong", "worse · gold reward 2.25")),
        ({"score": 1.0, "by": "a<b", "kept": True}, ("right", "kept · a&lt;b 1")),
        ({"score": 0.0, "by": "judge", "kept": False, "why": "wrong"}, ("wrong", "rejected: score too low · judge 0")),
    ],
)
def test_only_a_tasks_own_score_says_what_is_correct(sample: dict[str, Any], shown: tuple[str, str]) -> None:
    assert mark(sample) == shown


def test_the_headline_falls_back_to_a_tasks_score() -> None:
    step = StepResult("exam", "evaluate", 1, {"seconds": {"value": 1}, "accuracy_sums": {"value": 0.5}})
    found = main_result(step, Section(title="", story="", metrics={"accuracy": "right"}))
    assert found == ("accuracy_sums", {"value": 0.5}, "right, sums")
    assert main_result(step, Section(title="", story="", metrics={"reward": "reward"})) is None
