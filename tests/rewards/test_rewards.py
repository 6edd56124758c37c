"""What all reward functions share: parsing a recipe's list, and the part of a completion that they read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.rewards import Reward, last_message, read_rewards, written
from zero2chat.rewards.task import task_score, task_taste
from zero2chat.trainers.ppo.rewards import read_ppo_rewards

TURNS = [
    {"role": "assistant", "content": "call", "reasoning_content": "a tool"},
    {"role": "tool", "content": "5"},
    {"role": "assistant", "content": "It is 5.", "reasoning_content": "2 + 3"},
]


def test_the_last_assistant_message_is_read_and_its_thought_where_it_was_written() -> None:
    assert last_message(TURNS) == "It is 5."
    assert written(TURNS) == "<think>2 + 3</think>It is 5."
    assert written(TURNS[:2]) == "<think>a tool</think>call"
    assert written([{"role": "assistant", "content": None}]) == written([]) == ""
    assert written("as it is") == "as it is"
    inline = [{"role": "assistant", "content": "<think>2 + 3</think>It is 5."}]
    assert (last_message(inline), written(inline)) == ("It is 5.", "<think>2 + 3</think>It is 5.")


@pytest.mark.parametrize(
    ("name", "options"), [("exact.exact_match", {}), ("exact.exact_match", {"whole": True}), ("math.math_answer", {})]
)
def test_an_answer_in_a_thought_is_none_and_one_after_it_counts(name: str, options: dict[str, Any]) -> None:
    (reward,) = read_rewards([{"function": f"zero2chat.rewards.{name}", "options": options}])
    mark = "" if options else "#### "
    thought = f"<think>\n{mark}5\n\\boxed{{5}}</think>"
    texts = [f"{thought}I do not know.", f"<think>{mark}5 \\boxed{{5}}", f"<think>hm, 6</think>\n{mark}5"]
    assert reward(texts, answer=["5"] * 3) == [0.0, 0.0, 1.0]


JUDGE = {"url": "http://localhost:8000/v1", "model": "m"}


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("judge.judge", {"key_variable": "NO_SUCH_KEY"}, "the environment variable NO_SUCH_KEY"),
        ("judge.judge", {"max_tokens": 0}, "judge.judge: max_tokens: expected at least 1, got 0"),
        ("judge.judge", {"at_once": 0}, "at_once: expected at least 1, got 0"),
        ("length.soft_overlong", {"longest": 0, "margin": 1}, "longest: expected at least 1, got 0"),
        ("length.soft_overlong", {"longest": 10, "margin": 0}, "margin: expected at least 1, got 0"),
        ("length.soft_overlong", {"longest": 10, "margin": 11}, "margin 11"),
        ("length.soft_overlong", {"longest": 10}, "margin"),
        ("length.short_answer", {"longest": 0}, "longest: expected at least 1, got 0"),
        ("math.math_answer", {"tolerance": 1}, "tolerance: expected at least 0 and less than 1, got 1"),
        ("math.math_answer", {"tolerance": True}, "tolerance: expected a float, got True"),
        ("math.math_answer", {"percent": "much"}, "percent: expected true or false, got 'much'"),
    ],
)
def test_a_wrong_option_is_refused_at_once(function: str, options: dict[str, Any], message: str) -> None:
    given = (JUDGE if function == "judge.judge" else {}) | options
    with pytest.raises(UserError, match=re.escape(message)):
        read_rewards([{"function": f"zero2chat.rewards.{function}", "options": given}])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Reward]:
    """Makes a reward function of a module's own out of its name, `module.function`, and the expression that it
    returns."""

    def made(name: str, expression: str) -> Reward:
        module, function = name.split(".")
        source = f"def {function}(completions, answer=(), **_):\n    return {expression}\n"
        (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        return read_rewards([{"function": name}])[0]

    return made


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("./taste.py", "expected MODULE.FUNCTION, such as my_rewards.polite for a function in the working folder"),
        ("short", "expected MODULE.FUNCTION"),
        ("tastes.short", "No module named 'tastes': put tastes.py into the working folder "),
        ("needs_more.short", "No module named 'no_such_package'$"),
        ("taste.shrt", "taste has no function 'shrt'; did you mean 'short'?"),
        ("taste.brevity", "taste has no function 'brevity'; known: short"),
    ],
)
def test_a_missing_function_is_named(own: Callable[[str, str], Reward], tmp_path: Path, name: str, says: str) -> None:
    own("taste.short", "[1.0 for _ in completions]")
    (tmp_path / "needs_more.py").write_text("import no_such_package\n")
    pattern = re.escape(f"rewards: cannot import '{name}': {says.removesuffix('$')}") + "$" * says.endswith("$")
    with pytest.raises(UserError, match=pattern):
        read_rewards([{"function": name}])


@pytest.mark.parametrize("read", [read_rewards, read_ppo_rewards])
def test_rewards_that_are_no_list_are_shown(read: Callable[[Any], Any]) -> None:
    for given, says in (
        ({"model": "runs/none"}, "rewards: expected a list, got {'model': 'runs/none'}: list a"),
        (None, "rewards: expected a list, got None"),
        ([], "rewards: the list is empty: list a"),
    ):
        with pytest.raises(UserError, match=re.escape(says)):
            read(given)


def test_exceptions_are_no_reward(
    own: Callable[[str, str], Reward], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reward = own("fragile.parse", "[float(int(c) == int(a)) for c, a in zip(completions, answer)]")
    logged: dict[str, float] = {}
    assert reward(["5", "five", "6"], answer=["5", "5", "5"], log_metric=logged.__setitem__) == [1.0, None, 0.0]
    assert logged == {"parse/errors": 1 / 3}
    assert reward.errors == 1
    assert "'five'" in caplog.text
    assert "(1 of 3 completions failed)" in caplog.text
    assert len(caplog.records) == 1
    assert reward.failure is not None
    assert reward.failure.startswith(f"row 1: reward fragile.parse: {tmp_path}/fragile.py, line 2: ValueError(")
    assert reward(["5"], answer=["5"]) == [1.0]
    assert reward.failure is None
    assert reward(["x"] * 100, answer=["5"] * 100) == [None] * 100


def test_a_function_that_always_fails_ends_the_run(own: Callable[[str, str], Reward]) -> None:
    reward = own("broken.broken", "[c.lenght for c in completions]")
    assert reward(["a"] * 32) == [None] * 32
    with pytest.raises(
        UserError, match=r"^reward broken\.broken: .*broken\.py, line 2: AttributeError\(.*\), for every completion"
    ) as caught:
        reward(["a"] * 32, prompts=[[{"role": "user", "content": f"What is {i}?"}] for i in range(32)])
    assert str(caught.value).endswith(": prompt 'What is 31?'")


def test_a_problem_is_scored_by_its_own_task() -> None:
    sums = tasks.load("word_problems").rows("train", 0, 1)[0]
    fact = tasks.load("facts").rows("train", 0, 1)[0]
    right = [{"role": "assistant", "content": "#### 0"}, {"role": "assistant", "content": f"#### {sums['answer']}"}]
    names = ["word_problems", "word_problems", "facts", "facts"]
    rows = [json.dumps(row) for row in (sums, sums, fact, fact)]
    assert task_score([right, "#### 0", f"It is {fact['answer']}.", right], names, rows) == [1.0, 0.0, 1.0, 0.0]


def test_taste_is_the_tasks_own_and_a_task_without_one_is_the_users_mistake() -> None:
    rows = tasks.load("lines").rows("train", 0, 2)
    said = [f"The golden {rows[0]['topic']} hums {rows[0]['setting']} like an old coin.", ""]
    found = task_taste(said, ["lines"] * 2, [json.dumps(row) for row in rows])
    assert found == [tasks.load_taste("lines")(row, text) for row, text in zip(rows, said, strict=True)]
    assert found[0] > found[1]
    with pytest.raises(UserError, match="task 'facts': has no `taste`"):
        task_taste(["x"], ["facts"], ["{}"])
