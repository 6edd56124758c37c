"""Which expressions a test of `rewards.code` may evaluate in the program's process.

The program may return objects of its own classes, whose operators and methods it controls. So the test must not pass
anything it knows to such an object before the comparison, which happens outside: `f(2) - 4 == 0` passes 4 to the
program's `__sub__`, and so can be cheated. Allowed are calls of the program with given inputs, and operations around
them that add no information: `len`, `round(…, 2)`, an index, a list of several calls.
"""

from __future__ import annotations

import ast
import builtins
import sys

# Functions that take only the program's return value. Excluded are comparisons (`isinstance`, `max(a, b)`) and
# attribute access (`getattr`).
_PLAIN = """
    abs all any ascii bin bool bytes bytearray chr complex dict enumerate filter float frozenset hex int iter len list
    map max min next oct ord repr reversed round set slice sorted str sum tuple zip
    """.split()  # noqa: SIM905
# Functions with an integer as second argument: digits, a base, a count.
_WITH_A_NUMBER = {"round", "int", "islice"}
_JOINING = {"join", "format"}  # methods of a constant text, applied to the program's return value
_PARTING = {"split", "rsplit", "get", "encode", "decode"}  # methods of the return value, with a constant argument
_NEVER = (ast.Compare, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)


def is_askable(asked: ast.expr, imported: frozenset[str]) -> bool:
    """Whether the expression only uses the program, and contains nothing that reveals the answer to it. `imported` are
    the names that the tests import from Python."""
    # A comparison inside would pass the expected value in.
    if any(isinstance(part, _NEVER) for part in ast.walk(asked)):
        return False
    names = {part.id for part in ast.walk(asked) if isinstance(part, ast.Name)}
    known = imported | sys.stdlib_module_names | set(dir(builtins))
    if names <= known and isinstance(asked, ast.Call) and isinstance(asked.func, ast.Name):
        known -= {asked.func.id} - imported  # the requested function may have a built-in's name
    return _Asked(known).is_own(asked)


class _Asked:
    """`known`: names of Python, not of the program; `free`: names of elements of constants."""

    def __init__(self, known: frozenset[str], free: frozenset[str] = frozenset()):
        self._known, self._free = known, free

    def is_own(self, node: ast.expr) -> bool:
        """Whether this comes from the program, given only its inputs."""
        match node:
            case ast.Name(id=name):
                return name not in self._known | self._free
            case ast.Starred(value=value) | ast.FormattedValue(value=value):
                return self.is_own(value)
            case ast.Attribute(value=value, attr=name):
                return not name.startswith("__") and self.is_own(value)
            case ast.Subscript(value=value, slice=index):
                return self.is_own(value) and self._is_input(index)
            case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
                return bool(parts) and all(map(self.is_own, parts))
            case ast.Dict(keys=keys, values=parts):
                return bool(parts) and all(map(self.is_own, parts)) and not any(map(self._holds_own, keys))
            case ast.JoinedStr(values=parts):
                own = [part for part in parts if not isinstance(part, ast.Constant)]
                return bool(own) and all(map(self.is_own, own))
            case ast.ListComp(elt=part) | ast.SetComp(elt=part) | ast.GeneratorExp(elt=part):
                inner = self._within(node.generators)
                return inner is not None and inner.is_own(part)
            case ast.Call():
                return self._is_own_call(node)
        return False

    def _is_own_call(self, call: ast.Call) -> bool:
        given = [*call.args, *(option.value for option in call.keywords)]
        match call.func:
            case ast.Name(id=name) if name in self._known:
                return self._adds_nothing(name, call)
            case ast.Attribute(attr=name) if name.startswith("__"):
                return False
            case ast.Attribute(value=ast.Constant(value=str()), attr=name):
                return name in _JOINING and bool(given) and all(map(self.is_own, given))
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in self._known:
                return self._adds_nothing(name, call)
            case ast.Attribute(value=value, attr=name):
                if not self.is_own(value):
                    return False
                # A method of the program's own class takes inputs; a function's return value may be anything.
                takes = _is_made(value) or name in _PARTING
                return all(map(self._is_input if takes else self.is_own, given))
        return self.is_own(call.func) and all(map(self._is_input, given))

    def _adds_nothing(self, name: str, call: ast.Call) -> bool:
        """Whether this call of a Python function receives only the program's return value."""
        first, others = call.args[:1], call.args[1:]
        if any(option.arg not in ("key", "reverse", "strict", "ndigits") for option in call.keywords):
            return False
        if name in ("map", "filter") and len(others) == 1:
            return self._is_way(first[0]) and self.is_own(others[0])
        if name in _WITH_A_NUMBER and len(others) == 1:
            number = others[0]
            return self.is_own(first[0]) and isinstance(number, ast.Constant) and type(number.value) is int
        if name == "zip":
            return bool(first) and all(map(self.is_own, call.args))
        known = name in _PLAIN or not hasattr(builtins, name)
        return known and len(first) == 1 and not others and self.is_own(first[0])

    def _is_way(self, function: ast.expr) -> bool:
        """Whether this is a valid function for `map`: Python's, the program's, or one that adds nothing."""
        if isinstance(function, ast.Lambda):
            return self.is_own(function.body)
        return isinstance(function, ast.Name) and (function.id in _PLAIN or self.is_own(function))

    def _is_input(self, node: ast.expr) -> bool:
        """Whether this may be passed to the program: constants, or values that come from it alone."""
        return not self._holds_own(node) or self.is_own(node) or self._is_nested(node)

    def _is_nested(self, node: ast.expr) -> bool:
        """Whether this is a list of inputs with some from the program."""
        if isinstance(node, ast.Starred):
            return self._is_input(node.value)
        return isinstance(node, ast.List | ast.Tuple | ast.Set) and all(map(self._is_input, node.elts))

    def _holds_own(self, node: ast.AST | None) -> bool:
        if node is None:
            return False
        names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
        bound = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
        bound |= {p.id for p in ast.walk(node) if isinstance(p, ast.Name) and isinstance(p.ctx, ast.Store)}
        return not names <= self._known | self._free | bound

    def _within(self, generators: list[ast.comprehension]) -> _Asked | None:
        """Return the names inside a comprehension: elements of constants are inputs, others come from the program."""
        inner = self
        for one in generators:
            if one.ifs or one.is_async:
                return None
            targets = {part.id for part in ast.walk(one.target) if isinstance(part, ast.Name)}
            if not inner._holds_own(one.iter):
                inner = _Asked(inner._known - targets, inner._free | targets)
            elif inner.is_own(one.iter):
                inner = _Asked(inner._known - targets, inner._free - targets)
            else:
                return None
        return inner


def _is_made(value: ast.expr) -> bool:
    """Whether a value is an instance of a named class, a name, or the result of such an object's methods."""
    while isinstance(value, ast.Attribute | ast.Call) and not isinstance(value, ast.Name):
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
            return value.func.id[:1].isupper()
        value = value.func if isinstance(value, ast.Call) else value.value
    return isinstance(value, ast.Name)
