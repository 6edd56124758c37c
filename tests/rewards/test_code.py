"""Code is rewarded by its tests, and no attack on the test runner earns more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from zero2chat.core.errors import UserError
from zero2chat.rewards import read_rewards
from zero2chat.rewards.code import check_references, code_tests
from zero2chat_sandbox import python
from zero2chat_sandbox.unit_tests import last_block

TESTS = ["assert square(2) == 4", "assert square(-3) == 9", "assert square(10) == 100", "assert square(0) == 0"]
RIGHT = "def square(x):\n    return x * x"


def block(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```\nThat is all."


def share(code: str, engine: str, tests: Any = None, **options: Any) -> float:
    return code_tests([[{"role": "assistant", "content": block(code)}]], [tests or TESTS], engine=engine, **options)[0]


def test_the_reward_is_the_share_of_tests_passed(engine: str) -> None:
    assert share(RIGHT, engine) == 1.0
    assert share("def square(x):\n    return x + x", engine) == 0.5
    assert share("def square(x):\n    return x / 0", engine) == 0.0
    assert share("def square(x:", engine) == 0.0
    assert share("def square(x):\n    return [x][x]", engine) == 0.25  # only of 0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\na\n```", "a"),
        ("```python\na\n```\n```py\nb\n```\n```\nc\n```\n```json\nd\n```", "b"),
        ("```python\na\nb\n\n```", "a\nb\n"),
        ("```python\na", None),
        ("```python\na\n```\n```python\nb", "a"),
        ("``` Python \r\na\r\n```", "a\r"),
        ("```\n```python\na\n```", None),
        ("a", None),
        ("", None),
    ],
)
def test_a_block_is_whole_and_marked_as_python(text: str, code: str | None) -> None:
    assert last_block(text) == code


ATTACKS = Path(__file__).with_name("attacks.txt").read_text().removesuffix("\n").split("\n---\n")


@pytest.mark.parametrize("code", ATTACKS)
def test_what_is_done_to_the_judge_earns_nothing(code: str, engine: str) -> None:
    assert share(code, engine, seconds=1.0, tests=TESTS[:3]) == 0.0


def test_what_is_expected_leaves_no_mark_on_what_enters_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(python, "run", lambda *given: seen.append(given) or python.ExecutionResult("", "''"))
    for value, near, true in (("12345", "0.5", ""), ("'" + "x" * 4000 + "'", "1000", "not ")):
        tests = f"import math\nassert f(1) == {value}\nassert math.isclose(f(2), {len(value)}, rel_tol={near})\n"
        tests += f"assert abs(f(3) - {len(value)}) < {near}\nassert {true}f(4)"
        assert code_tests([block("def f(x): ...")], [tests]) == [0.0]
    assert "f(3)" in seen[0][0]
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (" " * 9000 + "4", "4"),
        ("1" + "0" * 400 + "+1j", repr("x" * 400)),
        ("(" * 40 + "4" + ",)" * 40 + "[]", "4"),
        ("{" + ", ".join(str(k * (2**61 - 1)) for k in range(1, 450)) + "}", repr("x" * 4990)),
        ("'" + "\\x00" * 1000, repr("x" * 4990)),
        ("\\", "4"),
    ],
)
def test_a_hostile_answer_is_nothing_and_soon(line: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = [f"assert f({i}) == {expected}" for i in range(100)]
    monkeypatch.setattr(python, "run", lambda *_: python.ExecutionResult("", repr("\n".join([line] * 100))))
    start = time.monotonic()
    assert code_tests([block("def f(x): ...")], [tests]) == [0.0]
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("test", "code", "reward"),
    [
        ("assert f() == [1, (2, 'a\\nb'), {'k': None}, {3}, b'x', -1.5, 1e300]", None, 1.0),
        ("assert 4 == f()", "4", 1.0),
        ("assert f() == 4, 'it should be four'", "4", 1.0),
        ("assert f() == 4", "4.0", 1.0),
        ("assert f() == '4'", "4", 0.0),
        ("assert f() == 'it\\'s \"so\"\\n'", None, 1.0),
        ("assert f() == set()", "set()", 1.0),
        ("assert f() is None", "None", 1.0),
        ("assert f() is True", "True", 1.0),
        ("assert f() is True", "1", 0.0),
        ("assert f()", "[1]", 1.0),
        ("assert f()", "[]", 0.0),
        ("assert not f()", "''", 1.0),
        ("assert not f()", "'x'", 0.0),
        ("import math\nassert math.isclose(f(), 0.3)", "0.1 + 0.2", 1.0),
        ("import math\nassert math.isclose(f(), 0.3, rel_tol=0, abs_tol=0.1)", "0.39", 1.0),
        ("import math\nassert math.isclose(f(), 0.3)", "0.31", 0.0),
        ("import math\nassert math.isclose(f(), 0.3)", "10**400", 0.0),
        ("import math\nassert math.isclose(f(), 0.3)", "'0.3'", 0.0),
        ("assert abs(f() - 0.3) < 1e-6", "0.1 + 0.2", 1.0),
        ("assert abs(f() - 0.3) <= 1e-6", "0.4", 0.0),
        ("assert abs(f() - 5) < 1", "6", 0.0),
        ("assert abs(f() - 5) < 1", "True", 0.0),
        ("assert abs(f() - 5) <= 1", "6", 1.0),
        ("assert abs(f() - 9007199254740993) < 1", "9007199254740992", 0.0),
        ("assert abs(f() - 9007199254740993) < 1", "9007199254740993", 1.0),
        ("assert abs(f() - 0.3) < 1", "10**400", 0.0),
        ("assert abs(f() - 3) < 1", "'3'", 0.0),
        ("import math\nassert round(math.sqrt(f()), 3) == 1.414", "2", 1.0),
        ("assert [f() for i in range(3)] == [1, 1, 1]", "1", 1.0),
        ("assert sorted(f(), key=lambda p: -p) == [3, 2, 1]", "[1, 3, 2]", 1.0),
    ],
)
def test_each_form_of_a_test(test: str, code: str | None, reward: float, engine: str) -> None:
    if code is None:
        code = test.partition("== ")[2]
    assert share(f"def f():\n    return {code}", engine, tests=test) == reward


PLAIN = [
    ("from collections import Counter\ndef f(): return Counter('aab')", "{'a': 2, 'b': 1}"),
    ("from collections import defaultdict\nd = defaultdict(int)\nd['a'] += 1\ndef f(): return [d]", "[{'a': 1}]"),
    ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return {1: P(1, [2])}", "{1: (1, [2])}"),
    ("def f(): return frozenset([1, 2])", "{2, 1}"),
    ("def f(): return frozenset()", "set()"),
    ("list = dict = 5\ndef f(): return [{}]", "[{}]"),  # the program's own names
    ("def _attempt(x): return x\ndef f(): return _attempt(1)", "1"),
]


@pytest.mark.parametrize(("code", "value"), PLAIN)
def test_what_equals_plain_data_is_that_data(code: str, value: str, engine: str) -> None:
    assert share(code, engine, tests=f"assert f() == {value}") == 1.0


@pytest.mark.parametrize(
    "tests",
    [
        "",
        [],
        None,
        "assert f(",
        "import os",
        "assert f(1) == g(1)",
        "assert (f(1) == 2) == True",
        "assert all(f(i) == i for i in range(3))",
        "assert f(1) == 1 and f(2) == 2",
        "assert f(1) != 2",
        "def check(candidate):\n    assert candidate(1) == 2",
        "assert math.isclose(f(1), g(1))",
        f"assert f(1) == {'x' * 6000!r}",
        ["assert f(1) == 1"] * 101,
        "import numpy\nassert f(1) == 1",
        "from . import x\nassert f(1) == 1",
        "from __future__ import annotations\nassert f(1) == 1",
        "import json.nothing\nassert f(1) == 1",
        "assert f(1) == ...",
        "assert f(1) == 1e999",
        "assert f(1) == " + "[" * 60 + "]" * 60,
        "assert abs(f(1) - 5) < 0",
        f"assert f({'x' * 50_000!r}) == 1",
        "assert f(1) == " + "-" * 100_000 + "1",
        "assert f(" + "1 + " * 30_000 + "1) == 1",
        "assert f(1) == 0x" + "f" * 5000,
        "import math\nassert math.isclose(f(1), 1, abs_tol=1" + "0" * 400 + ")",
    ],
)
def test_tests_that_cannot_be_judged_from_outside_are_refused_with_their_row(tests: Any) -> None:
    with pytest.raises(UserError, match=r"^row 1: tests: "):
        check_references(["assert f(1) == 1", tests], engine="monty")


def test_a_recipes_column_is_checked_before_training() -> None:
    (reward,) = read_rewards([{"function": "zero2chat.rewards.code.code_tests", "options": {"engine": "monty"}}])
    reward.check(Dataset.from_dict({"prompt": ["a"], "tests": [["assert f(1) == 1"]]}), "problems")
    with pytest.raises(UserError, match=r"problems: row 0: tests: cannot judge 'assert f\(1\) == g\(1\)'"):
        reward.check(Dataset.from_dict({"prompt": ["a"], "tests": [["assert f(1) == g(1)"]]}), "problems")
    with pytest.raises(UserError, match="no column 'tests'"):
        reward.check(Dataset.from_dict({"prompt": ["a"], "answer": ["1"]}), "problems")
    fine = Dataset.from_dict({"prompt": ["a"], "tests": [["assert f(1) == 1"]]})
    for options in ({"engine": "docker"}, {"engine": 7}, {"engine": "monty", "seconds": -1}, {"seconds": "five"}):
        spec = [{"function": "zero2chat.rewards.code.code_tests", "options": options}]
        with pytest.raises(UserError, match=r"python: |seconds: expected a float"):
            read_rewards(spec)[0].check(fine, "problems")
    assert reward(prompts=["a"], completions=[block(RIGHT)], tests=[TESTS]) == [1.0]


def test_without_a_sandbox_nothing_runs(tmp_path: Path, bwrap_says: Callable[[str], None]) -> None:
    with pytest.raises(UserError, match="python: no engine 'docker'"):
        code_tests([block(RIGHT)], [TESTS], engine="docker")
    trace = f"open({str(tmp_path / 'trace')!r}, 'w')\n"
    bwrap_says('os.execv(sys.executable, [sys.executable, *sys.argv[sys.argv.index("--") + 2 :]])')  # as it is
    with pytest.raises(UserError, match="bubblewrap cannot set up its sandbox"):
        code_tests([block(f"{trace}def square(x):\n    {trace}    return x * x")], [TESTS])
    with pytest.raises(UserError, match="bubblewrap cannot set up its sandbox"):
        check_references([TESTS])
    assert not (tmp_path / "trace").exists()
