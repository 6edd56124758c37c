"""No expression that a test may ask for carries the answer; a program that overrides every operator earns nothing."""

from __future__ import annotations

import pytest

from zero2chat.core.errors import UserError
from zero2chat.rewards.code import check_references, code_tests
from zero2chat_sandbox import SandboxError
from zero2chat_sandbox.python import ENGINES
from zero2chat_sandbox.unit_tests import read_tests

CARRYING = [
    "f(2) - 4 == 0",
    "abs(f(2) - 4) == 0",
    "f(2) ** 4 == 1",
    "4 - f(2) == 0",
    "operator.eq(f(2), 4)",
    "f(2).__eq__(4)",
    "int.__eq__(f(2), 4)",
    "f(2).__sub__(4) == 0",
    "getattr(f(2), '__eq__')(4)",
    "(lambda x: x - 4)(f(2)) == 0",
    "[x - 4 for x in f(2)] == [0, 0]",
    "list(map(lambda x: x - 4, f(2))) == [0]",
    "list(map(operator.sub, f(2), [4])) == [0]",
    "sum(a - b for a, b in zip(f(2), [1, 2])) == 0",
    "f(2).count(4) == 1",
    "f(2).issubset({4})",
    "f(2).startswith('4')",
    "'4'.startswith(f(2))",
    "{4: True}[f(2)]",
    "[0, 4].index(f(2)) == 1",
    "len({f(2), 4}) == 1",
    "len(set(f(2)) ^ {4}) == 0",
    "set(f(2)) - {4} == set()",
    "(f(2) or 4) == 4",
    "(1 if f(2) else 0) == 1",
    "max(f(2), 4) == 4",
    "max([f(2), 4]) == 4",
    "divmod(f(2), 4) == (1, 0)",
    "isinstance(f(2), int)",
    "hasattr(f(2), 'x')",
    "math.dist([f(2)], [4]) == 0",
    "int(math.isclose(f(2), 4)) == 1",
    "re.fullmatch('4', f(2)) is None",
    "f'{f(2) - 4}' == '0'",
    "'%d' % f(2) == '4'",
    "functools.reduce(operator.sub, [f(2), 4]) == 0",
    "sorted([f(2), 4])[0] == 4",
    "same(f(2) - 4) == 0",
    "same(x=f(2) - 4) == 0",
    "same([f(2), f(2) - 4]) == 0",
    "f(2)[g(1) - 4] == 0",
    "eq(f(2), 4)",
    "sum(f(2), -4) == 0",
    "sum(f(2), start=-4) == 0",
    "dict(zip(f(2), [4])) == {}",
    "str(f(2)).strip('4') == ''",
    "bool(f(2) - 4) is False",
    "all(f(2) - i for i in range(4))",
    "[i - f(2) for i in range(4)] == [0]",
    "f(2).get('a', 4) == 4",
    "min(f(2), key=lambda x: x - 4) == 4",
    "max(f(2), key=lambda x: x.less(4)) == 4",
    "sorted(f(2), key=lambda x, y=4: x.less(y)) == [4]",
    "list(map(lambda x: x.less(4), f(2))) == [0]",
    "list(map(lambda x, *, y=4: x.less(y), f(2))) == [0]",
    "[x.less(4) for x in f(2)] == [0]",
    "Counter(f(2)).pop('a', 4) == 4",
    "eval('f(2) - 4') == 0",
    "exec('f(2) - 4') is None",
]


@pytest.mark.parametrize("test", CARRYING)
def test_an_assertion_that_carries_its_answer_is_refused_with_its_row(test: str) -> None:
    imports = "import math, operator, re, functools\nfrom operator import eq\nfrom collections import Counter"
    tests = f"{imports}\nassert {test}"
    with pytest.raises(UserError, match=r"^row 1: tests: cannot judge "):
        check_references(["assert f(1) == 1", tests], engine="monty")


ASKED = [
    "f(2) == 4",
    "f(2)[0] == 4",
    "f(2).real == 4",
    "round(f(2), 2) == 4",
    "len(f(2)) == 4",
    "int(f(2), 2) == 4",
    "sorted(f(2), key=lambda p: -p[1], reverse=True) == [4]",
    "sorted(f(2), key=lambda p: (-p[1], p[0])) == [4]",
    "sorted(f(2), key=len) == [4]",
    "sorted(f(2), key=str.lower) == ['a']",
    "sorted(set(f(2))) == [4]",
    "list(map(str, f(2))) == ['4']",
    "list(map(lambda x: round(x, 2), f(2))) == [4]",
    "[f(i) for i in range(3)] == [4]",
    "[g(x) for x in f(2)] == [4]",
    "(f(1), f(2)) == (1, 4)",
    "{'a': f(2)} == {'a': 4}",
    "f(f(2)) == 4",
    "f([f(1), 5], *g(3), k=h(2)) == 4",
    "f(lambda x: x + 1, [1, 2]) == 4",
    "f(2)(3) == 4",
    "f(-3, 2 ** 5, [i for i in range(3)], {'a': None}) == 4",
    "Solution().add(2, 2) == 4",
    "Stack([1]).push(3).pop() == 3",
    "obj.method(2).items == [4]",
    "f('a').upper() == 'A'",
    "f('a b').split(' ') == ['a', 'b']",
    "f(2).get('a') == 4",
    "', '.join(f(2)) == '4'",
    "'{:.2f}'.format(f(2)) == '4.00'",
    "f'{f(2):.2f}' == '4.00'",
    "math.sqrt(f(2)) == 4",
    "json.loads(f(2)) == {'a': 4}",
    "list(itertools.islice(f(2), 5)) == [4]",
    "dict(Counter(f(2))) == {'a': 4}",
    "Counter(f(2)).most_common(1) == [('a', 4)]",
    "sum(10, 15) == 6",
    "f(2) is None",
    "f(2)",
    "not f(2)",
    "all(f(i) for i in range(3))",
    "abs(len(f(2)) - 4) < 1",
    "math.isclose(f(2), 4)",
]


@pytest.mark.parametrize("test", ASKED)
def test_what_adds_nothing_to_the_programs_own_call_is_asked(test: str) -> None:
    imports = "import math, json, itertools\nfrom collections import Counter\n"
    assert len(read_tests(f"{imports}assert {test}")[1]) == 1


def test_names_that_are_not_told_from_the_programs_are_refused() -> None:
    with pytest.raises(SandboxError, match="'from operator import \\*' hides the imported names"):
        read_tests("from operator import *\nassert eq(f(2), 4)")


LIAR = """class Liar:
    def __init__(self, *given, **more): pass
    def __getattr__(self, name): return Liar()
    def __call__(self, *given): return Liar()
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __repr__(self): return '0'
def same(*given): return 0
"""
LIAR += "".join(
    f"def _{name}(self, *given): return {value}\nLiar.__{name}__ = _{name}\n"
    for name, value in {
        **dict.fromkeys(("sub", "rsub", "neg", "xor", "rxor", "int", "index", "len", "hash", "round", "abs"), "0"),
        **dict.fromkeys(("truediv", "rtruediv", "pow", "mod", "float"), "1"),
        **dict.fromkeys(("getitem", "add", "radd"), "Liar()"),
        "iter": "iter([])",
    }.items()
)
LIAR += "def f(*given): return Liar()\ng = h = f\n"


@pytest.mark.usefixtures("bubblewrap_here")
def test_a_program_that_overrides_every_operator_earns_nothing() -> None:
    """Of the tests that are asked, those of truth aside."""
    tests = [f"import math, json, itertools\nfrom collections import Counter\nassert {test}" for test in ASKED]
    tests = [test for test in tests if "==" in test or "<" in test]
    answer = f"```python\n{LIAR}class Solution(Liar): pass\nclass Stack(Liar): pass\nobj = Liar()\n```"
    assert code_tests([answer], [tests], engine=ENGINES[1]) == [0.0]
