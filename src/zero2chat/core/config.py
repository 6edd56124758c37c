"""Build a stage's dataclasses from a YAML file and `--key value` overrides. Unknown keys are errors."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from zero2chat.core.errors import UserError, nearest
from zero2chat.core.package_files import find

_BOUNDS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "min": ("at least", operator.ge),
    "above": ("more than", operator.gt),
    "max": ("at most", operator.le),
    "below": ("less than", operator.lt),
}
_BOOLEANS = dict.fromkeys(("yes", "true", "t", "y", "1"), True) | dict.fromkeys(("no", "false", "f", "n", "0"), False)


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that a field accepts: `n: Annotated[int, Range(min=1)]` → "n: expected at least 1, got 0".

    `why` is added to the message. NaN is in no range.
    """

    min: float | None = None
    above: float | None = None
    max: float | None = None
    below: float | None = None
    why: str = ""

    def check(self, value: Any) -> None:
        """Raises `ValueError` for a number out of the range."""
        bounds = [(*how, getattr(self, name)) for name, how in _BOUNDS.items() if getattr(self, name) is not None]
        if isinstance(value, int | float) and not all(ok(value, end) for _, ok, end in bounds):
            said = " and ".join(f"{words} {end}" for words, _, end in bounds)
            raise ValueError(f"expected {said}, got {value}" + (f": {self.why}" if self.why else ""))


class _Loader(yaml.CSafeLoader):
    """Reads 1e-5 as a number, and refuses a key that is set twice: PyYAML would silently use its last value."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        own = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for tag, value in own:
            if own.count((tag, value)) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"'{value}' is set twice", node.start_mark)
        super().flatten_mapping(node)
        # Merged keys (`<<`) that the mapping itself sets are left out, or a mapping that merges it would find two.
        node.value = list({(key.tag, str(key.value)): (key, value) for key, value in node.value}.values())


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]\d+$"), list("-+0123456789"))


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Load a YAML mapping from the working folder, or else from the package's files.

    Raises `UserError` if the file is missing, malformed or not a mapping.
    """
    try:
        settings = read_yaml(find(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: invalid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected `key: value` lines, found {type(settings).__name__}")
    return settings


def read_yaml(text: str | bytes) -> Any:
    """Return the value of a YAML text. Raises `yaml.YAMLError`."""
    return yaml.load(text, _Loader)


def build(
    classes: Sequence[type], settings: Mapping[str, Any], where: str, ranges: Mapping[str, Range] | None = None
) -> tuple[Any, ...]:
    """Build one instance of each dataclass, and of dataclasses in its fields, from a mapping. `where` names the mapping
    in messages; `ranges` has ranges for fields that declare none. Raises `UserError` for an unknown key, or a value
    that is missing, of the wrong type, out of its range, or rejected by a dataclass.
    """
    if not isinstance(settings, Mapping):
        raise UserError(f"{where}: expected `key: value` pairs, found {settings!r}")
    hints = {name: hint for cls in classes for name, hint in get_type_hints(cls, include_extras=True).items()}
    known = {one.name: one for cls in classes for one in fields(cls) if one.init}
    values = {}
    for key, value in settings.items():
        if key not in known:
            entries = [(name, kind) for cls in classes for name, kind in getattr(cls, "entries", {}).items()]
            homes = [name for name, kind in entries if key in (one.name for one in fields(kind))]
            hint = f": it belongs in an entry of {' or '.join(homes)}" if homes else nearest(str(key), list(known))
            raise UserError(f"{where}: unknown key '{key}'{hint}")
        hint, rules = hints[key], [*getattr(hints[key], "__metadata__", ()), (ranges or {}).get(key)]
        try:
            if value is None and known[key].default is not None and NoneType not in get_args(_bare(hint)):
                raise ValueError("null is not allowed: set a value, or remove the key")
            # Some fields of transformers default to None although their type does not allow it.
            made = None if value is None else _converted(value, hint, key, known[key].metadata.get("choices", ()))
            for rule in rules:
                if isinstance(rule, Range):
                    rule.check(made)
            if isinstance(made, float) and not math.isfinite(made):
                raise ValueError(f"expected a finite number, got {made}")
        except ValueError as error:
            raise UserError(f"{where}: {key}: {error}") from error
        except UserError as error:  # of a dataclass in this one
            raise UserError(f"{where}: {error}") from error
        values[key] = made
    missing = [key for key, one in known.items() if key not in values and one.default is one.default_factory is MISSING]
    if missing:
        raise UserError(f"{where}: missing required settings: {', '.join(f'--{key}' for key in missing)}")
    seed = values.get("seed", 0)
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise UserError(f"{where}: seed: expected an integer from 0 to {2**32 - 1}, got {seed}")
    try:
        return tuple(
            cls(**{one.name: values[one.name] for one in fields(cls) if one.name in values}) for cls in classes
        )
    except (UserError, ValueError, TypeError, ImportError) as error:  # also a dataclass's own field checks
        raise UserError(f"{where}: {error}") from error


def _bare(hint: Any) -> Any:
    return hint.__origin__ if hasattr(hint, "__metadata__") else hint


def _converted(value: Any, hint: Any, name: str, choices: Sequence[Any] = ()) -> Any:
    """Convert a YAML or command-line value to a type. A mapping for a field of type `dict` is returned as it is.

    Raises `ValueError` if the value cannot be converted, and `UserError` for an invalid setting in a nested dataclass.
    """
    hint = _bare(hint)
    kinds = {
        get_origin(one) or one: one for one in (get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint])
    }
    first = next(iter(kinds))
    if isinstance(first, type) and is_dataclass(first):
        return value if isinstance(value, first) else build([first], value, name)[0]
    if Any in kinds or (isinstance(value, Mapping) and dict in kinds) or (isinstance(value, bool) and bool in kinds):
        return value
    scalars = [one for one in kinds if one not in (list, dict, NoneType)]
    if list in kinds and (isinstance(value, list) or not scalars):
        (kind,) = get_args(kinds[list]) or (Any,)
        items = value if isinstance(value, list) else [value]
        # The stage itself reads the entries of a bare `list[dict]`.
        return items if kind is dict else [_converted(item, kind, f"{name}[{i}]") for i, item in enumerate(items)]
    kind = next((one for one in scalars if one is not str), str if scalars else dict)
    if kind is Literal:
        choices = get_args(kinds[kind])
    elif isinstance(kind, type) and issubclass(kind, Enum):
        choices = [one.value for one in kind]
    if value in (False, "False") and "no" in choices:
        value = "no"  # YAML reads a bare `no` as false
    text = str(value)
    if choices:
        if text not in map(str, choices):
            raise ValueError(f"{value!r} is not one of {', '.join(map(str, choices))}")
        return next(choice for choice in choices if str(choice) == text)
    try:
        if isinstance(value, list | Mapping) or kind is dict:
            raise ValueError
        return _BOOLEANS[text.lower()] if kind is bool else kind(text)
    except (ValueError, TypeError, KeyError) as error:
        if str in kinds and kind is not str and not isinstance(value, list | Mapping):
            return text
        said = "true or false" if kind is bool else "an int" if kind is int else f"a {kind.__name__}"
        raise ValueError(f"expected {said}, got {value!r}") from error
