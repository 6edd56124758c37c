"""Reward for code by unit tests: run in a sandbox, judged outside of it.

A test `assert f(2) == 4` is taken apart: the program gets only `f(2)`, and the value that the program reports is
compared with `4` here. No expected value enters the process in which the model's code runs. A program that takes over
that process (prints "passed", exits early, replaces `assert`, `repr` or this module's few lines) can therefore only
give wrong answers. The program's input, limits included, does not depend on the expected value, and the call may not
contain it, as `f(2) - 4` does (`askable.py`). A program can pass a bare test of truth, `assert f(2)`, by guessing, so
prefer tests of values. Values are compared as by Python's `==`; a Counter, a named tuple or an IntEnum counts as plain
data. A value without a literal, such as a Decimal, a Fraction or a dict's keys, equals nothing.
"""

from __future__ import annotations

import ast
import functools
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zero2chat_sandbox import SandboxError, python
from zero2chat_sandbox.askable import is_askable

_FORMS = (
    "assert CALL == LITERAL, assert CALL is None, assert [not] CALL, "
    "assert math.isclose(CALL, LITERAL) or assert abs(CALL - LITERAL) < LITERAL, where CALL is the program's own, with "
    "at most an index, len, round or sorted around it, and no operator or other value beside it"
)
_LONGEST = 5_000  # characters of an expected value
_LONGEST_ANSWER = 2 * _LONGEST + 100  # an equal value may have a longer representation
_MOST = 100  # tests per row
_LONGEST_TESTS = python.LONGEST // 2  # characters of a row's expressions and imports; the rest is for the answer
_DEEPEST = 50  # nested brackets in an answer
_UNREADABLE = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, OverflowError)  # parsing errors
# The evaluating function, with a name that no program is likely to use. Its defaults bind Python's own built-ins, in
# case the program redefines names such as `list`.
_ATTEMPT = f"""
def _z2c_attempt(call, repr=repr, isinstance=isinstance, type=type, bool=bool, dict=dict, frozenset=frozenset,
                 lists=(list, tuple, set), scalars=(int, float, str)):
    def plain(x):
        if isinstance(x, dict):
            return {{plain(key): plain(value) for key, value in x.items()}}
        if isinstance(x, frozenset):
            return {{plain(part) for part in x}}
        for kind in lists:
            if isinstance(x, kind):
                return kind([plain(part) for part in x])
        for kind in scalars:
            if isinstance(x, kind) and type(x) not in (kind, bool):
                return kind.__add__(x, kind())
        return x
    try:
        return repr(plain(call()))[:{_LONGEST_ANSWER}]
    except BaseException:
        return ''
"""
_STRING = r"'(?:[^'\\\n]++|\\.)*+'|\"(?:[^\"\\\n]++|\\.)*+\""
_ONE_STRING = re.compile(_STRING)
_TOKEN = re.compile(
    rf"b?(?:{_STRING})|[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[-+]?\d+)?j?|True|False|None|set\(\)|[\[\](){{}}:,\s]"
)


@dataclass(frozen=True)
class Case:
    """One assertion: an expression to evaluate inside the sandbox, and the expected value, which stays outside."""

    expression: str
    expected: Any
    how: str = "equal"  # or "is", "close", "nearer than", "as near as"
    relative: float = 0.0
    absolute: float = 0.0

    def passed(self, value: Any) -> bool:
        """Whether the value is as expected; False if the values cannot be compared."""
        try:
            if self.how == "is":
                return value is self.expected
            if self.how == "close":
                return math.isclose(value, self.expected, rel_tol=self.relative, abs_tol=self.absolute)
            if self.how == "nearer than":
                return bool(abs(value - self.expected) < self.absolute)
            if self.how == "as near as":
                return bool(abs(value - self.expected) <= self.absolute)
            return bool(value == self.expected)
        except (TypeError, OverflowError):  # not a number, or an integer larger than any float
            return False


def read_tests(tests: str | Sequence[str]) -> tuple[str, tuple[Case, ...]]:
    """Return the imports of a row's tests, and the tests. Raises `SandboxError` for other statements."""
    texts = [tests] if isinstance(tests, str) else tests
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise SandboxError("tests: expected text, or a list of texts")
    return _read_tests("\n".join(texts))


def last_block(text: str) -> str | None:
    """Return the last complete ```python block of a text."""
    code: str | None = None
    block: list[str] | None = None
    wanted = False
    for line in text.split("\n"):
        mark = line.strip()
        if block is None and mark.startswith("```"):
            block, wanted = [], mark[3:].strip().lower() in ("python", "py", "python3")
        elif block is not None and mark == "```":
            code, block = ("\n".join(block) if wanted else code), None
        elif block is not None:
            block.append(line)
    return code


def share_passed(text: str, tests: Any, engine: str, limits: python.Limits) -> float:
    """Return the share, 0 to 1, of a row's tests that the last ```python block passes. Raises `SandboxError`."""
    setup, cases = read_tests(tests)
    code = last_block(text)
    if code is None:
        return 0.0
    answers = _answers(code, setup, cases, engine, limits)
    return sum(case.passed(answer) for case, answer in zip(cases, answers, strict=True)) / len(cases)


class _Nothing:
    """A missing answer: equal to nothing."""


def _answers(code: str, setup: str, cases: Sequence[Case], engine: str, limits: python.Limits) -> list[Any]:
    """Return each expression's value, as reported by the program."""
    # Not as `__main__`: a solution's script part must not run. (Monty's name cannot be set.)
    before, after = _ATTEMPT if engine == "monty" else f"__name__ = 'solution'\n{_ATTEMPT}", ""
    if "__future__" in code:  # must come first
        before, after = "", _ATTEMPT
    calls = ", ".join(f"_z2c_attempt(lambda: ({case.expression}))" for case in cases)
    program = f"{before}{code}\n{after}\n{setup}\n'\\n'.join([t.replace('\\n', ' ') for t in [{calls}]])\n"
    output = 10_000 + 2 * len(cases) * _LONGEST_ANSWER
    result = python.run(program, engine, python.Limits(limits.seconds, limits.memory, output, limits.scratch))
    nothing = [_Nothing()] * len(cases)
    if result.error is not None or result.value is None or not _ONE_STRING.fullmatch(result.value):
        return nothing
    try:
        lines = str(ast.literal_eval(result.value)).split("\n")
    except _UNREADABLE:  # an invalid escape
        return nothing
    if len(lines) != len(cases):
        return nothing
    return [_literal(line, case.expected) for line, case in zip(lines, cases, strict=True)]


def _literal(text: str, expected: Any) -> Any:
    """Parse untrusted text as a Python literal. The length is checked before Python's parser sees the text: a text much
    longer than the expected value cannot be equal, and is not worth the time."""
    if len(text) > 2 * len(repr(expected)) + 100:
        return _Nothing()
    depth, at = 0, 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return _Nothing()
        depth += (token[0] in "([{") - (token[0] in ")]}")
        if depth > _DEEPEST:
            return _Nothing()
        at = token.end()
    try:
        return ast.literal_eval(text.strip())
    except _UNREADABLE:
        return _Nothing()


@functools.lru_cache(maxsize=4096)
def _read_tests(text: str) -> tuple[str, tuple[Case, ...]]:
    try:
        return _taken_apart(ast.parse(text).body)
    except _UNREADABLE as error:
        raise SandboxError(f"tests: cannot be read: {type(error).__name__}: {error}") from error


def _taken_apart(statements: Sequence[ast.stmt]) -> tuple[str, tuple[Case, ...]]:
    imported = [statement for statement in statements if isinstance(statement, ast.Import | ast.ImportFrom)]
    imports, cases = [_import(statement) for statement in imported], []
    known = frozenset((alias.asname or alias.name).partition(".")[0] for node in imported for alias in node.names)
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        test = _read_test(statement.test, known) if isinstance(statement, ast.Assert) else None
        if test is None:
            raise SandboxError(
                f"tests: cannot judge {ast.unparse(statement)[:60]!r} from outside the sandbox; use {_FORMS}"
            )
        if len(repr(test.expected)) > _LONGEST:
            raise SandboxError(f"tests: an expected value is longer than {_LONGEST:,} characters")
        if not test.passed(_literal(repr(test.expected), test.expected)):
            raise SandboxError(f"tests: no answer can pass {ast.unparse(statement)[:60]!r}")
        cases.append(test)
    if not 1 <= len(cases) <= _MOST:
        raise SandboxError(f"tests: found {len(cases)} tests: give 1 to {_MOST}")
    if sum(map(len, imports)) + sum(len(test.expression) for test in cases) > _LONGEST_TESTS:
        raise SandboxError(
            f"tests: longer than {_LONGEST_TESTS:,} characters, expected values not counted: shorten the tests"
        )
    return "\n".join(imports), tuple(cases)


def _import(node: ast.Import | ast.ImportFrom) -> str:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    if any(name.partition(".")[0] not in sys.stdlib_module_names or name == "__future__" for name in modules):
        raise SandboxError(f"tests: no {ast.unparse(node)[:60]!r} in the sandbox, which has only the standard library")
    if any(alias.name == "*" for alias in node.names):
        raise SandboxError(f"tests: {ast.unparse(node)[:60]!r} hides the imported names: import each name")
    return ast.unparse(node)


def _read_test(node: ast.expr, imported: frozenset[str]) -> Case | None:
    """Return the two sides of an assertion, or None if they cannot be separated."""
    match node:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            sides = [(left, right), (right, left)]
            return next((test for side in sides if (test := _test(*side, imported, how="equal"))), None)
        case ast.Compare(left=left, ops=[ast.Is()], comparators=[ast.Constant(value=None | True | False) as right]):
            return _test(left, right, imported, how="is")
        case ast.Compare(
            left=ast.Call(func=ast.Name(id="abs"), args=[ast.BinOp(left=left, op=ast.Sub(), right=right)], keywords=[]),
            ops=[ast.Lt() | ast.LtE() as least],
            comparators=[ast.Constant(value=float() | int() as most)],
        ):
            how = "nearer than" if isinstance(least, ast.Lt) else "as near as"
            return _test(left, right, imported, how=how, absolute=most)
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="math"), attr="isclose") | ast.Name(id="isclose"), args=[left, right]
        ):
            return _isclose(left, right, imported, node.keywords)
        case ast.UnaryOp(op=ast.Not(), operand=ast.Call() as call):
            return _test(call, ast.Constant(False), imported, how="is", ask="bool({})")
        case ast.Call():
            return _test(node, ast.Constant(True), imported, how="is", ask="bool({})")
    return None


def _isclose(left: ast.expr, right: ast.expr, imported: frozenset[str], options: list[ast.keyword]) -> Case | None:
    known = {"rel_tol": 1e-9, "abs_tol": 0.0}
    for option in options:
        if option.arg not in known or not isinstance(option.value, ast.Constant):
            return None
        if not isinstance(option.value.value, int | float):
            return None
        known[option.arg] = float(option.value.value)
    return _test(left, right, imported, how="close", relative=known["rel_tol"], absolute=known["abs_tol"])


def _test(node: ast.expr, expected: ast.expr, imported: frozenset[str], ask: str = "{}", **how: Any) -> Case | None:
    if not is_askable(node, imported):
        return None
    try:
        value = ast.literal_eval(expected)
    except (ValueError, TypeError):
        return None
    numeric = how["how"] not in ("equal", "is")
    if numeric and (isinstance(value, bool) or not isinstance(value, int | float)):
        return None
    return Case(ask.format(ast.unparse(node)), value, **how)
