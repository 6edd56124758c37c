"""Code earns what its tests say, and nothing that it does to its judge earns more."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset

from zero2chat.errors import UserError
from zero2chat.rewards import read_rewards
from zero2chat.rewards.code import check_references, code_tests, last_block, read_tests
from zero2chat.tools.python import ENGINES, run

TESTS = ["assert square(2) == 4", "assert square(-3) == 9", "assert square(10) == 100", "assert square(0) == 0"]
RIGHT = "def square(x):\n    return x * x"


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    try:
        run("0", request.param)
    except UserError as error:
        pytest.skip(str(error))
    return request.param


def block(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```\nThat is all."


def share(code: str, engine: str, tests: Any = None, **options: Any) -> float:
    return code_tests([[{"role": "assistant", "content": block(code)}]], [tests or TESTS], engine=engine, **options)[0]


def test_the_reward_is_the_share_of_tests_passed(engine: str) -> None:
    assert share(RIGHT, engine) == 1.0
    assert share("def square(x):\n    return x + x", engine) == 0.5
    assert share("def square(x):\n    return x + x", engine, all_or_nothing=True) == 0.0
    assert share(RIGHT, engine, all_or_nothing=True) == 1.0
    assert share("def square(x):\n    return x / 0", engine) == 0.0
    assert share("def square(x:", engine) == 0.0
    assert share("def square(x):\n    return [x][x]", engine) == 0.25  # only of 0


def test_the_last_python_block_of_the_last_assistants_message_counts(engine: str) -> None:
    wrong, right = block("def square(x):\n    return 1"), block(RIGHT)
    said = [
        [
            {"role": "assistant", "content": right},
            {"role": "tool", "content": "x"},
            {"role": "assistant", "content": wrong},
        ],
        [{"role": "assistant", "content": wrong}, {"role": "assistant", "content": f"{wrong}\n{right}"}],
        [{"role": "assistant", "content": "no code"}],
        [{"role": "user", "content": right}],
    ]
    assert code_tests(said, [TESTS] * 4, engine=engine) == [0.0, 1.0, 0.0, 0.0]


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


ATTACKS = r"""print('passed')
print('4 passed')
---
import sys
sys.exit(0)
---
import os
os._exit(0)
---
raise SystemExit(0)
---
exit(0)
---
def square(x):
    raise SystemExit(0)
---
def square(x):
    import os
    os._exit(0)
---
class Anything:
    def __eq__(self, other):
        return True
def square(x):
    return Anything()
---
class Anything(int):
    def __eq__(self, other):
        return True
    __hash__ = None
def square(x):
    return Anything(7)
---
class Anything:
    def __repr__(self):
        return 'True'
def square(x):
    return Anything()
---
AssertionError = None
def square(x):
    return 1
---
import builtins
builtins.AssertionError = Exception
builtins.repr = lambda x: 'True'
def square(x):
    return 1
---
import builtins
builtins.str = builtins.len = builtins.list = lambda *a: 'True'
def square(x):
    return 1
---
repr = lambda x: '[4, 9, 100]'
def square(x):
    return 7
---
import ast
ast.literal_eval = lambda x: True
def square(x):
    return 7
---
import unittest
unittest.TestCase.run = lambda *a: True
def square(x):
    return 7
---
import atexit, os
atexit.register(os._exit, 0)
def square(x):
    return 7
---
import sys
sys.settrace(lambda *a: None)
sys.excepthook = lambda *a: print('ok')
def square(x):
    return 7
---
import os
for fd in range(3, 64):
    try:
        os.write(fd, b"v'True\\nTrue\\nTrue\\nTrue'")
    except OSError:
        pass
os._exit(0)
---
import os
for fd in range(3, 64):
    try:
        os.write(fd, b'v' + b'(' * 90000)
    except OSError:
        pass
os._exit(0)
---
import sys
def square(x):
    f = sys._getframe()
    while f:
        for v in list(f.f_locals.values()):
            if isinstance(v, str) and '=' '= 4' in v:
                return 4
        f = f.f_back
    return 7
---
import gc
def square(x):
    return 4 if any(isinstance(o, str) and 'assert square' in o for o in gc.get_objects()) else 7
---
'''
---
if False:
---
def square(x):
    return 7

'''
---
def _attempt(call):
    return '4'
def square(x):
    return 7
def _attempt(call):
    return '4'
---
def square(x):
    while True:
        pass
---
while True:
    print('passed')
---
def square(x):
    return '4' * 10**7
---
def square(x):
    y = []
    for i in range(10**5):
        y = [y]
    return y
---
class A:
    def __repr__(self):
        return '-' * 90000
def square(x):
    return A()
---
class A:
    def __repr__(self):
        return '__import__("os").getpid()'
def square(x):
    return A()
---
class A:
    def __repr__(self):
        return '4\n9\n100\n0'
def square(x):
    return A()
---
def square(x):
    return float('nan')
---
def square(x):
    return print""".split("\n---\n")  # noqa: SIM905


@pytest.mark.parametrize("code", ATTACKS)
def test_what_is_done_to_the_judge_earns_nothing(code: str, engine: str) -> None:
    assert share(code, engine, seconds=1.0, tests=TESTS[:3]) == 0.0


def test_what_is_expected_never_enters_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    from zero2chat.tools import python

    seen = []
    monkeypatch.setattr(python, "run", lambda code, *_: seen.append(code) or python.Result("", "''"))
    tests = "import math\nassert f(1) == 12345\nassert math.isclose(f(2), 12345.0)\nassert abs(f(3) - 12345) < 0.5"
    assert code_tests([block("def f(x): ...")], [tests]) == [0.0]
    assert "f(3)" in seen[0]
    assert "12345" not in seen[0]


@pytest.mark.parametrize(
    ("test", "code", "reward"),
    [
        ("assert f() == [1, (2, 'a\\nb'), {'k': None}, {3}, b'x', -1.5, 1e300]", None, 1.0),
        ("assert 4 == f()", "4", 1.0),
        ("assert f() == 4, 'it should be four'", "4", 1.0),
        ("assert f() == 4", "4.0", 1.0),  # as Python's own assert has it
        ("assert f() == '4'", "4", 0.0),
        ("assert f() == 'it\\'s \"so\"\\n'", None, 1.0),
        ("assert f() == set()", "set()", 1.0),
        ("assert f() is None", "None", 1.0),
        ("assert f() is None", "0", 0.0),
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
        ("import math\nassert round(math.sqrt(f()), 3) == 1.414", "2", 1.0),
        ("assert [f() for i in range(3)] == [1, 1, 1]", "1", 1.0),
        ("assert sorted(f(), key=lambda p: -p) == [3, 2, 1]", "[1, 3, 2]", 1.0),
    ],
)
def test_each_form_of_a_test(test: str, code: str | None, reward: float, engine: str) -> None:
    if code is None:
        code = test.partition("== ")[2]
    assert share(f"def f():\n    return {code}", engine, tests=test) == reward


@pytest.mark.parametrize(
    "tests",
    [
        "",
        [],
        [1],
        None,
        7,
        "assert f(",
        "x = 1",
        "import os",
        "assert f(1) == g(1)",
        "assert 1 == 1",
        "assert (f(1) == 2) == True",
        "assert all(f(i) == i for i in range(3))",
        "assert f(1) == 1 and f(2) == 2",
        "assert f(1) != 2",
        "assert f(1) < 2",
        "assert f(1) in (1, 2)",
        "def check(candidate):\n    assert candidate(1) == 2",
        "for i in range(3):\n    assert f(i) == i",
        "assert math.isclose(f(1), g(1))",
        f"assert f(1) == {'x' * 6000!r}",
        ["assert f(1) == 1"] * 101,
    ],
)
def test_tests_that_cannot_be_judged_from_outside_are_refused_with_their_row(tests: Any) -> None:
    with pytest.raises(UserError, match=r"^row 1: tests: "):
        check_references(["assert f(1) == 1", tests])


def test_a_recipes_column_is_checked_before_training() -> None:
    (reward,) = read_rewards([{"function": "zero2chat.rewards.code.code_tests", "options": {"engine": "monty"}}])
    reward.check(Dataset.from_dict({"prompt": ["a"], "tests": [["assert f(1) == 1"]]}), "problems")
    with pytest.raises(UserError, match=r"problems: row 0: tests: cannot judge 'assert f\(1\) == g\(1\)'"):
        reward.check(Dataset.from_dict({"prompt": ["a"], "tests": [["assert f(1) == g(1)"]]}), "problems")
    with pytest.raises(UserError, match="no column 'tests'"):
        reward.check(Dataset.from_dict({"prompt": ["a"], "answer": ["1"]}), "problems")
    assert reward(prompts=["a"], completions=[block(RIGHT)], tests=[TESTS]) == [1.0]


def test_the_parts_of_a_row() -> None:
    imports, tests = read_tests(["import math", "assert f(2) == 4\nassert not f(0)"])
    assert imports == "import math"
    assert [(test.expression, test.expected) for test in tests] == [("f(2)", 4), ("bool(f(0))", False)]


def test_without_a_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="python: no engine 'docker'"):
        code_tests([block(RIGHT)], [TESTS], engine="docker")
