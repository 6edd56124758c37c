"""The engine `monty`: results are small whatever the program's value is, and are what Python would show."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from zero2chat_sandbox.monty import _last_statement
from zero2chat_sandbox.python import Limits, run

HUGE = {
    "one text many times": "s = 'a' * 10**6\n[s] * 200",
    "lists of lists": "a = [1] * 100\nb = [a] * 100\nc = [b] * 100\n[c] * 100",
    "an instance's attributes": "class A:\n    pass\na = A()\na.x = ['a' * 10**6] * 300\na",
    "keys": "t = tuple(['a' * 10**6] * 100)\n{t: t}",
    "after a semicolon": "s = 'a' * 10**6; [s] * 200;",
    "in syntax of a newer Python": "s = {'a': 'a' * 10**6}\n[f\"{s['a']}\", f\"{s[\"a\"]}\"] + [s['a']] * 200",
    "a line to be continued": "s = 'a' * 10**6\n[s] * 200 or \\",
    "returned outside of functions": "s = 'a' * 10**6\nif s:\n    return [s] * 200",
    "returned, hidden from who cuts f-strings": "s = 'a' * 10**6\nf\"{\"'''\"}\"\nreturn [s] * 200\n#'''",
    "returned by what is judged": "1)\nreturn ['a' * 10**6] * 200 or (2",
    "returned by what is called": "exec('return [\\'a\\' * 10**6] * 200')",
    "a set in an assertion": "s = 'a' * 10**6\nassert [s] * 200 == 1",
}


@pytest.mark.parametrize("code", HUGE.values(), ids=HUGE)
def test_a_value_is_bounded_before_it_is_copied_here(code: str) -> None:
    """Each in a process of its own, whose memory has its high-water mark."""
    measured = (
        "import resource, sys\nfrom zero2chat_sandbox.python import run\nrun('1')\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = peak()\nrun(sys.stdin.read())\nprint(peak() - before)"
    )
    ran = subprocess.run([sys.executable, "-c", measured], input=code, capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 10


VALUES = [
    ("x = 1; x", "1"),
    ("x = 1; x  ;  # so", "1"),
    ("if True:\n    2; 3", None),
    ("if True: 2; 3", None),
    ("[1,\n\n2]  # two\n\n# end\n", "[1, 2]"),
    ("def f(*a): return a\nf(\n    1,\n    2)", "(1, 2)"),
    ("'''a\nb''' 'c'", "'a\\nbc'"),
    ("x = '''\n1 + 1\n'''", None),
    ("1 + \\\n    2", "3"),
    ("1, 'a;b'", "(1, 'a;b')"),
    ("x = 5", None),
    ("x = 1\nx += 1", None),
    ("async def f(): return 3\nawait f()", "3"),
    ('d = {\'a\': 2}\nf"{d["a"]}"', "'2'"),
    ("1\r\n2\r\n", "2"),
    ("\ufeff1 + 1", "2"),
    ("'\\'' ; '#'", "'#'"),
    ("lambda: 0; 1", "1"),
    ('def f(x):\n    """Returns."""\n    return f"{x[\'a\']}"  # return\nf({\'a\': \'return\'})', "'return'"),
    ("class A:\n    def f(self):\n        if self:\n            return 1\n        return 2\nA().f()", "1"),
    ('d = {\'a\': 2}\ndef f(): return f"{d["a"]}"\nf()', "'2'"),
]


@pytest.mark.parametrize(("code", "value"), VALUES)
def test_the_last_expression_is_the_value(code: str, value: str | None) -> None:
    result = run(code)
    assert (result.value, result.error) == (value, None)


@pytest.mark.parametrize(
    "code",
    [
        "return",
        "x = 1; return x",
        "def f():\n    return 1\nreturn f()",
        "def f(): pass\rreturn 1",
        "def f():\n    pass\n    \x0creturn 1",
        "if 1:\n  if 1:\n\tdef f(): pass\n  return 1",
        "if 1:\n  x = '''\n def f(): '''\n  return 1",
    ],
)
def test_a_return_outside_of_functions_is_an_error_as_in_python(code: str) -> None:
    assert "SyntaxError: 'return' outside function" in str(run(code).error)


def test_the_value_is_shown_once_and_its_repr_may_print_as_in_python() -> None:
    code = "class A:\n    def __repr__(self):\n        print('asked')\n        return 'A' * 100\nA()"
    result = run(code, limits=Limits(output=20))
    assert (result.stdout, result.value) == ("asked\n", "A" * 20 + "… (cut after 20 characters)")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\nx.y(2)", "  line 2, in <module>\n    x.y(2)\nAttributeError"),
        ("x = (", "  line 1\n    x = (\nSyntaxError"),
        ("class A:\n    def __repr__(self): return 1 / 0\nA()", "  line 3, in <module>\n    A()\n  line 2, in"),
    ],
)
def test_an_error_shows_the_programs_own_lines(code: str, said: str) -> None:
    error = run(code).error or ""
    assert said in error
    assert "_z2c" not in error
    assert "None" not in error


@pytest.mark.parametrize("text", ["'\\'", '"""' + "'''\\", "(", "\\", "f'{", "#", ";", "\n", "'''", '"', "[)", " \\\n"])
def test_any_text_is_taken_apart_in_no_time(text: str) -> None:
    start = time.monotonic()
    _last_statement(text * (100_000 // len(text)))
    assert time.monotonic() - start < 2
