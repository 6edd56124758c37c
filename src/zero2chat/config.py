"""From a YAML file and `--key value` overrides to a stage's dataclasses, refusing what none of them knows."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import yaml
from trl import TrlParser

from zero2chat.errors import UserError, nearest


class _Parser(TrlParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping. Raises `UserError` where the file is missing, broken or no mapping."""
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected `key: value` lines, found {type(settings).__name__}")
    return settings


def parse(classes: Sequence[type], argv: Sequence[str] | None = None) -> tuple[dict[str, Any], Any]:
    """`--config X.yaml [--key value …]` → (what was set, one instance of each class).

    Raises `UserError` for a key that no class knows, a value of the wrong type, or one a class refuses.
    """
    settings, where = read_arguments(sys.argv[1:] if argv is None else argv)
    return settings, build(classes, settings, where)


def read_arguments(argv: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The merged settings of `--config` and the overrides after it, and a name for them in messages."""
    settings: dict[str, Any] = {}
    where = "command line"
    overrides = _pairs(argv)
    if "config" in overrides:
        where = str(overrides.pop("config"))
        settings = load_yaml(where)
    return {**settings, **overrides}, where


def _pairs(argv: Iterable[str]) -> dict[str, Any]:
    """`--a 1 --b x y --flag --c '{d: 2}'` → `{"a": "1", "b": ["x", "y"], "flag": "true", "c": {"d": 2}}`."""
    values: dict[str, list[Any]] = {}
    key = None
    for word in argv:
        if word.startswith("--"):
            key, _, value = word[2:].partition("=")
            key = key.replace("-", "_")
            values[key] = [_word(value)] if value else []
        elif key is None:
            raise UserError(f"unexpected argument '{word}': arguments have the form --key value")
        else:
            values[key].append(_word(word))
    return {k: "true" if not v else v[0] if len(v) == 1 else v for k, v in values.items()}


def _word(word: str) -> Any:
    """A word of the command line; a YAML mapping, list or null as what it is."""
    if word != "null" and word[:1] not in ("{", "["):
        return word
    with contextlib.suppress(ValueError):
        return json.loads(word)  # as a recipe prints it: YAML takes 1e-05 for a text
    try:
        return yaml.safe_load(word)
    except yaml.YAMLError:  # a text that only begins like one
        return word


def build(classes: Sequence[type], settings: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    """One instance of each dataclass from a mapping. `where` names the mapping in messages."""
    if not isinstance(settings, Mapping):
        raise UserError(f"{where}: expected `key: value` pairs, found {settings!r}")
    parser = _Parser(classes)
    # A flag that is true by default has a second action, `--no_flag`, under its name: the first one converts.
    actions = {action.dest: action for action in reversed(parser._actions) if action.dest != "help"}
    hints = {name: str(hint) for cls in classes for name, hint in get_type_hints(cls).items()}
    # Some of transformers' fields are None by default though their type does not say so.
    empty = {f.name for cls in classes for f in fields(cls) if f.default is None or "None" in hints[f.name]}
    values = {}
    for key, value in settings.items():
        if key not in actions:
            raise UserError(f"{where}: unknown key '{key}'{nearest(str(key), list(actions))}")
        if value is None and key not in empty and "Optional" not in hints[key]:
            raise UserError(f"{where}: {key}: null is no value for it: give one, or leave the key out")
        values[key] = _convert(actions[key], hints[key], value, where)
    seed = values.get("seed", 0)
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise UserError(f"{where}: seed: {seed} is no number from 0 to {2**32 - 1}")
    parser.set_defaults_with_config(**values)
    infinite = [key for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    try:
        # By default it would also read a file named like the program, ending in `.args`.
        built = parser.parse_args_into_dataclasses(args=[], look_for_args_file=False)
    except (UserError, ValueError, TypeError, ImportError) as error:  # a dataclass's own check of its fields, too
        said = str(error)
        # Which speaks for itself where it quotes the number.
        infinite = [key for key in infinite if not re.search(rf"\b{key}\b.*\b{values[key]}\b", said)]
        if not infinite:
            raise UserError(f"{where}: {said}") from error
    if infinite:
        raise UserError(f"{where}: {infinite[0]}: {values[infinite[0]]} is no finite number: give one")
    return built


def _convert(action: argparse.Action, hint: str, value: Any, where: str) -> Any:
    """A YAML or command-line value as the field's type; mappings stay for the dataclass that takes them."""
    if value is None:
        return value
    if action.nargs in ("+", "*"):
        items = value if isinstance(value, list) else [value]
        return [item if isinstance(item, Mapping) else _convert_one(action, item, where) for item in items]
    # The parser sees only the first type of `str | list[str]` and `dict | str`.
    if (isinstance(value, list) and "list" in hint) or (isinstance(value, Mapping) and "dict" in hint):
        return value
    return _convert_one(action, value, where)


def _convert_one(action: argparse.Action, value: Any, where: str) -> Any:
    if action.type is dict:
        return value
    if value in (False, "False") and action.choices and "no" in action.choices:
        value = "no"  # YAML reads a bare `no` as false
    convert = action.type if callable(action.type) else str
    try:
        if isinstance(value, list | Mapping):
            raise ValueError
        converted = convert(value if isinstance(value, str) else str(value))
    except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
        name = getattr(convert, "__name__", "value").replace("string_to_bool", "true or false")
        raise UserError(f"{where}: {action.dest}: {value!r} is no {name}") from error
    if action.choices and converted not in action.choices:
        raise UserError(f"{where}: {action.dest}: {value!r} is none of {', '.join(map(str, action.choices))}")
    return converted
