"""Check a step's settings against the fields that its stage declares, without importing the stage.

Most stages import trl, which takes seconds. A dry run therefore reads the dataclasses in a stage's `arguments` from
syntax trees and checks keys, types and ranges. What only a class itself can refuse is refused when the recipe runs.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import Field, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Optional, Union

from zero2chat import stages
from zero2chat.core import config
from zero2chat.core.registry import modules
from zero2chat.trainers.ranges import check_trainer_ranges

_TYPES = {"Any": Any, "Annotated": Annotated, "ClassVar": ClassVar, "Literal": Literal}
_TYPES |= {"Optional": Optional, "Union": Union, "Refuse": config.Refuse}
_PACKAGES = ("zero2chat", "zero2chat_crawl", "zero2chat_lab", "transformers", "trl")  # whose files are read
_SET = ...  # a default that only the file itself can compute


def check_settings(stage: str, settings: Mapping[str, Any], where: str) -> None:
    """Raises `UserError` for an unknown key, a value of another type, or a number out of its range."""
    module = modules("stages")[stage]
    listed = stages.declaration(stage)["arguments"]
    classes = [_dataclass(ast.unparse(one), module) for one in getattr(listed, "elts", [listed])]
    if None in classes:  # declared in a way that only Python can read
        stages.load(stage).build(settings, where)
        return
    if stages.described(stage).kind == "trains":
        check_trainer_ranges(settings, where)
    config.build(classes, settings, where)


def _file(module: str) -> Path:
    package, *inside = module.split(".")
    ours = package.startswith("zero2chat")
    spec = importlib.util.find_spec(module if ours else package)  # a name with a dot imports its package
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin)
    if ours or not inside:
        return file
    path = file.parent.joinpath(*inside)
    return path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


def _find(name: str, module: str) -> tuple[ast.ClassDef, str] | None:
    """Return the class that a name in a module stands for, and its own module; None if the name is no class."""
    package = module if _file(module).stem == "__init__" else module.rpartition(".")[0]
    for node in [inner for outer in _tree(module).body for inner in (outer, *getattr(outer, "body", ()))]:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, module
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                    return _find(alias.name, source) if source.partition(".")[0] in _PACKAGES else None
    return None


@functools.cache
def _dataclass(name: str, module: str) -> Any:
    """Return a copy of the dataclass that a name stands for, without methods; None if the name is no dataclass."""
    found = _find(name, module)
    if found is None or not any("dataclass" in ast.unparse(one) for one in found[0].decorator_list):
        return None
    node, module = found
    bases = [_dataclass(base.id, module) for base in node.bases if isinstance(base, ast.Name)]
    own = [
        (line.target.id, _hint(line.annotation, module), _field(line.value))
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    ]
    return make_dataclass(node.name, own, bases=tuple(base for base in bases if base is not None), kw_only=True)


class _Names(dict[str, Any]):
    """What a name in an annotation stands for: a type, or a dataclass of ours; anything else may be of any type."""

    def __init__(self, module: str):
        super().__init__(vars(builtins) | _TYPES)
        self.module = module

    def __missing__(self, name: str) -> Any:
        ours = self.module.startswith("zero2chat")
        return (_dataclass(name, self.module) if ours else None) or Any


def _hint(annotation: ast.expr, module: str) -> Any:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    try:
        return eval(compile(ast.Expression(annotation), module, "eval"), {}, _Names(module))
    except (TypeError, AttributeError):  # such as `torch.device`, of an `Any`
        return Any | None


def _field(value: ast.expr | None) -> Field[Any]:
    """Return a field with the default and the metadata that the file gives, as far as they are literals."""
    if value is None:
        return field()
    words = {"default": value}
    if isinstance(value, ast.Call) and ast.unparse(value.func).endswith("field"):
        words = {word.arg: word.value for word in value.keywords if word.arg is not None}
    if "default_factory" in words:
        words["default"] = words["default_factory"]
    options = {"init": _literal(words.get("init"), True), "metadata": _literal(words.get("metadata"), {})}
    if "default" in words:
        options["default"] = _literal(words["default"], _SET)
    made: Field[Any] = field(**options)
    return made


def _literal(value: ast.expr | None, otherwise: Any) -> Any:
    try:
        return otherwise if value is None else ast.literal_eval(value)
    except ValueError:
        return otherwise
