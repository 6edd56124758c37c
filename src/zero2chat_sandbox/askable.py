"""Decide which expressions a test of `unit_tests.py` may ask a program to evaluate.

The program may return objects of its own classes, whose operators and methods it controls. So the test must not pass
expected values to such an object; the comparison happens outside: `f(2) - 4 == 0` passes 4 to the program's `__sub__`,
and can be cheated. A test may call the program with given inputs, and use operations that add no information to the
result: `len`, `round(…, 2)`, an index, a list of several calls.
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
_JOINING = {"join", "format"}  # of a text, with what the program returned
# Of what the program returned, with one constant: `get` has no default, which would be handed back.
_PARTING = {"split", "rsplit", "get", "encode", "decode", "most_common"}
_NEVER = (ast.Compare, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)


def is_askable(expression: ast.expr, imported: frozenset[str]) -> bool:
    """Whether the expression only uses the program, and reveals nothing about the expected answer. `imported` are
    the names that the tests import from Python."""
    # A comparison inside would pass the expected value in.
    if any(isinstance(part, _NEVER) for part in ast.walk(expression)):
        return False
    names = {part.id for part in ast.walk(expression) if isinstance(part, ast.Name)}
    known = imported | sys.stdlib_module_names | set(dir(builtins))
    if names <= known and isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name):
        # The requested function may have a built-in's name, save one that would run code in a text: eval("f(2) - 4").
        known -= {expression.func.id} - imported - {"eval", "exec"}
    return _Origins(known).is_own(expression)


class _Origins:
    """`known`: names that are Python's, not the program's; `free`: names of elements that are constants; `parts`: names
    of elements of what the program returned."""

    def __init__(self, known: frozenset[str], free: frozenset[str] = frozenset(), parts: frozenset[str] = frozenset()):
        self._known, self._free, self._parts = known, free, parts

    def is_own(self, node: ast.expr) -> bool:
        """Whether this value comes from the program, given only the program's inputs."""
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
                takes = self._is_made(value) or (name in _PARTING and len(given) == 1)
                return all(map(self._is_input if takes else self.is_own, given))
        return self.is_own(call.func) and all(map(self._is_input, given))

    def _adds_nothing(self, name: str, call: ast.Call) -> bool:
        """Whether this call of a Python function receives only the program's return value."""
        first, others = call.args[:1], call.args[1:]
        for option in call.keywords:
            if option.arg == "key" and not self._is_key(option.value):
                return False
            if option.arg not in ("key", "reverse", "strict", "ndigits"):
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
        """Whether this is a valid function for `map`: Python's, the program's, or a lambda that adds nothing."""
        if isinstance(function, ast.Lambda):
            inner = self._inside(function)
            return inner is not None and inner.is_own(function.body)
        return isinstance(function, ast.Name) and (function.id in _PLAIN or self.is_own(function))

    def _is_key(self, function: ast.expr) -> bool:
        """Whether this is a valid sort key: `str.lower`, a function as in `_is_way`, a negated function, or a tuple of
        functions."""
        match function:
            case ast.Attribute(value=ast.Name(id=kind), attr=name) if kind in self._known:
                return not name.startswith("__")
        if not isinstance(function, ast.Lambda):
            return self._is_way(function)
        inner = self._inside(function)
        by = function.body.elts if isinstance(function.body, ast.Tuple) else [function.body]
        by = [one.operand if isinstance(one, ast.UnaryOp) else one for one in by]
        return inner is not None and all(map(inner.is_own, by))

    def _inside(self, function: ast.Lambda) -> _Origins | None:
        """Return the names inside a function of elements; None if it has default values, as in `lambda x, y=4`."""
        given = function.args
        if given.defaults or any(given.kw_defaults):
            return None
        names = {argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
        return _Origins(self._known - names, self._free - names, self._parts | names)

    def _is_input(self, node: ast.expr) -> bool:
        """Whether this may be passed to the program: constants, or values that come from the program alone."""
        return not self._holds_own(node) or self.is_own(node) or self._is_nested(node)

    def _is_nested(self, node: ast.expr) -> bool:
        """Whether this is a list of inputs, some of which come from the program."""
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

    def _within(self, generators: list[ast.comprehension]) -> _Origins | None:
        """Return the names inside a comprehension: elements of constants are inputs, others come from the program."""
        inner = self
        for one in generators:
            if one.ifs or one.is_async:
                return None
            targets = {part.id for part in ast.walk(one.target) if isinstance(part, ast.Name)}
            if not inner._holds_own(one.iter):
                inner = _Origins(inner._known - targets, inner._free | targets, inner._parts - targets)
            elif inner.is_own(one.iter):
                inner = _Origins(inner._known - targets, inner._free - targets, inner._parts | targets)
            else:
                return None
        return inner

    def _is_made(self, value: ast.expr) -> bool:
        """Whether a value is a plain name, a new instance of a program's class, or what its methods return."""
        while isinstance(value, ast.Attribute | ast.Call):
            if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
                return value.func.id[:1].isupper() and value.func.id not in self._known
            value = value.func if isinstance(value, ast.Call) else value.value
        return isinstance(value, ast.Name) and value.id not in self._parts
