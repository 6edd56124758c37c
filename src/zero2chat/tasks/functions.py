"""Small Python functions to write, with generated unit tests.

A function has a kind (what it does, with one or two numbers) and a name. A row's tests are calls with their results as
literals, computed with the reference function. An answer is scored by these tests in the sandbox.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zero2chat.core.errors import as_mistakes_of
from zero2chat.tasks import Row, draw, exercises, in_split, make_pages

STYLES = ("worked", "bare")
TESTS = 6  # per row, or more if six do not distinguish the function from similar ones
_SHOWN = 2  # tests that the question shows


@dataclass(frozen=True)
class _Rule:
    """What a function does. `text` and `body` contain `{k}`; `takes` is the type of its argument."""

    name: str
    takes: str  # number, two, word or list
    texts: tuple[str, ...]
    bodies: tuple[str, ...]  # all return the same
    ks: tuple[int, ...] = (0,)


_K = tuple(range(2, 42))
_KINDS = (
    _Rule("add", "number", ("x plus {k}", "the sum of x and {k}"), ("x + {k}", "{k} + x"), _K),
    _Rule("subtract", "number", ("x minus {k}", "x less {k}"), ("x - {k}",), _K),
    _Rule("take from", "number", ("{k} minus x",), ("{k} - x",), _K),
    _Rule("times", "number", ("x times {k}", "the product of x and {k}"), ("x * {k}", "{k} * x"), _K),
    _Rule("rest", "number", ("the rest of x divided by {k}", "x modulo {k}"), ("x % {k}",), _K),
    _Rule("whole", "number", ("how many times {k} goes into x",), ("x // {k}",), _K),
    _Rule("more", "number", ("whether x is greater than {k}",), ("x > {k}", "{k} < x"), _K),
    _Rule("less", "number", ("whether x is less than {k}",), ("x < {k}", "{k} > x"), _K),
    _Rule("divisible", "number", ("whether x is divisible by {k}",), ("x % {k} == 0", "not x % {k}"), _K),
    _Rule("at most", "number", ("x, but at most {k}", "the smaller of x and {k}"), ("min(x, {k})", "min({k}, x)"), _K),
    _Rule("at least", "number", ("x, but at least {k}", "the larger of x and {k}"), ("max(x, {k})", "max({k}, x)"), _K),
    _Rule("square and", "number", ("x squared plus {k}",), ("x * x + {k}", "x ** 2 + {k}"), _K),
    _Rule("twice and", "number", ("twice x plus {k}",), ("2 * x + {k}", "x + x + {k}"), _K),
    _Rule("apart", "number", ("how far x is from {k}",), ("abs(x - {k})", "abs({k} - x)"), _K),
    _Rule("repeat", "word", ("s, {k} times in a row",), ("s * {k}",), tuple(range(2, 10))),
    _Rule("first", "word", ("the first {k} letters of s",), ("s[:{k}]",), tuple(range(1, 6))),
    _Rule("without", "word", ("s without its first {k} letters",), ("s[{k}:]",), tuple(range(1, 6))),
    _Rule("longer", "word", ("whether s has more than {k} letters",), ("len(s) > {k}",), tuple(range(1, 12))),
    _Rule("sum and", "list", ("the sum of the list a plus {k}",), ("sum(a) + {k}",), _K),
    _Rule("count", "list", ("how often {k} is in the list a",), ("a.count({k})",), tuple(range(1, 30))),
    _Rule("first of", "list", ("the first {k} items of the list a",), ("a[:{k}]",), tuple(range(1, 6))),
    _Rule("each plus", "list", ("the list a with {k} added to each item",), ("[x + {k} for x in a]",), _K),
    _Rule("each times", "list", ("the list a with each item times {k}",), ("[x * {k} for x in a]",), _K),
    _Rule("above", "list", ("the items of the list a above {k}",), ("[x for x in a if x > {k}]",), _K),
)
_ARGUMENTS = {"number": "x", "word": "s", "list": "a"}
_CALLED = ("f", "g", "h", "solve", "compute", "result")
_FORMS = (
    "Write a Python function {name}({argument}) that returns {text}.",
    "Define {name}({argument}): it returns {text}.",
    "In Python, {name}({argument}) is to return {text}. Write it.",
)


def rows(split: str, seed: int, n: int) -> list[Row]:
    """Return n functions to write, alternating between kinds. `tests` has at least six `assert f(…) == …` per row."""
    return draw(_pool(split), f"functions, {split}", seed, n)


@functools.cache
def _pool(split: str) -> list[Row]:
    return [
        _row(kind, k, name, form)
        for kind in _KINDS
        for k in kind.ks
        if in_split(f"{kind.name} {k}", split)  # a function is in one split, in all wordings
        for name in _CALLED
        for form in _FORMS
    ]


def _row(kind: _Rule, k: int, name: str, form: str) -> Row:
    rng = random.Random(f"functions {kind.name} {k} {name} {form}")
    argument = _ARGUMENTS[kind.takes]
    tests = [f"assert {name}({given!r}) == {result!r}" for given, result in _cases(kind, k)]
    rng.shuffle(tests)
    request = form.format(name=name, argument=argument, text=rng.choice(kind.texts).format(k=k))
    return {
        "key": f"{kind.name} {k}",
        "question": "\n".join((request, *tests[:_SHOWN])),
        "answer": _source(name, argument, kind.bodies[0].format(k=k)),
        "kind": kind.name,
        "name": name,
        "argument": argument,
        "bodies": [body.format(k=k) for body in kind.bodies],
        "tests": tests,
    }


@functools.cache
def _cases(kind: _Rule, k: int) -> list[tuple[Any, Any]]:
    """Return the arguments and results of tests. The same function with another number fails at least one test."""
    rng = random.Random(f"functions {kind.name} {k}")
    right = _function(kind, k)
    others = [_function(kind, other) for other in kind.ks if other != k]
    cases: dict[str, tuple[Any, Any]] = {}
    while others or len(cases) < TESTS:
        given = _argument(kind.takes, k, rng)
        result = right(given)
        left = [other for other in others if other(given) == result]
        if repr(given) not in cases and (len(left) < len(others) or not others):
            cases[repr(given)] = (given, result)
            others = left
    return list(cases.values())


@functools.cache
def _function(kind: _Rule, k: int) -> Callable[[Any], Any]:
    """Return the reference function, from the table above. Never called with a model's text."""
    made: Callable[[Any], Any] = eval(f"lambda {_ARGUMENTS[kind.takes]}: {kind.bodies[0].format(k=k)}")
    return made


def _argument(takes: str, k: int, rng: random.Random) -> Any:
    """Draw an argument near k, where the functions differ, or elsewhere."""
    near = (k, k + rng.randint(-3, 3), rng.randint(0, 60), k * rng.randint(1, 4))
    if takes == "number":
        return rng.choice(near)
    size = rng.choice((0, rng.randint(1, 5), max(0, k + rng.randint(-1, 2)) if k < 15 else 3))
    if takes == "word":
        return "".join(rng.choice("abcdefghijklmnoprstuvw") for _ in range(size))
    return [rng.choice(near) for _ in range(size)]


def _source(name: str, argument: str, body: str) -> str:
    return f"def {name}({argument}):\n    return {body}"


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the function in a fenced block, with varying text around it (`worked`) or no text (`bare`)."""
    body = rng.choice(row["bodies"]) if style == "worked" else row["bodies"][0]
    before = rng.choice(("", "Here it is:\n")) if style == "worked" else ""
    return f"{before}```python\n{_source(row['name'], row['argument'], body)}\n```"


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the last ```python block passes all of the row's tests in the sandbox."""
    # Imported here, because rows and pages are also made without a sandbox.
    from zero2chat_sandbox import SandboxError
    from zero2chat_sandbox.python import Limits
    from zero2chat_sandbox.unit_tests import share_passed

    with as_mistakes_of(SandboxError):
        return float(share_passed(completion, row["tests"], "monty", Limits(seconds=1.0)) == 1.0)


def documents(seed: int, n: int) -> list[str]:
    """Return n pages, each with four requests and their functions, all from train rows."""
    pool = _pool("train")
    return make_pages(seed, n, "functions pages", lambda rng: exercises(rng.sample(pool, 4), demonstration, rng))
