"""Build a stage's dataclasses from a YAML file and `--key value` overrides. Unknown keys are errors."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, get_type_hints

import yaml

from zero2chat.errors import UserError, nearest

# The wordings of `Refuse`, and when each holds. NaN is refused by all of them.
_RANGES: tuple[tuple[str, Callable[..., bool]], ...] = (
    (r"not from (\S+) to below (\S+)", lambda value, low, high: not low <= value < high),
    (r"not from (\S+) to (\S+)", lambda value, low, high: not low <= value <= high),
    (r"not between (\S+) and (\S+)", lambda value, low, high: not low < value < high),
    (r"not above (\S+)", lambda value, bound: not value > bound),
    (r"(?:below|less than) (\S+)", lambda value, least: not value >= least),
)


@dataclass(frozen=True)
class Refuse:
    """The numbers that a field refuses, in words: `n: Annotated[int, Refuse("below 1")]` → "n 0 is below 1".

    The words are "below 1", "not above 0", "not from 0 to 1", "not from 0 to below 1" or "not between 0 and 1", and
    may go on after a colon.
    """

    words: str

    def __post_init__(self) -> None:
        self.holds(0)

    def holds(self, value: Any) -> bool:
        """Whether the value is a number that is refused."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        for pattern, refuses in _RANGES:
            if found := re.search(pattern, self.words.partition(":")[0]):
                return refuses(value, *map(float, found.groups()))
        raise TypeError(f"Refuse({self.words!r}): unknown wording")


@dataclass
class MeasuringArguments:
    """Settings of the stages that measure a model. A subclass lists in `needs` what must be set."""

    needs: ClassVar[tuple[str, ...]] = ("model_name_or_path",)

    output_dir: str | None = None
    model_name_or_path: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    seed: int = field(default=0, metadata={"help": "Seed for choosing rows, for sampling and for intervals."})

    def __post_init__(self) -> None:
        for key in self.needs:
            if getattr(self, key) is None:
                raise ValueError(f"{key} is not set: set it to a folder or a Hub name")


def check_ranges(kind: type, values: Mapping[str, Any]) -> None:
    """Raises `ValueError` for the first value that the field of that name refuses."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for rule in getattr(hint, "__metadata__", ()):
            if isinstance(rule, Refuse) and rule.holds(values.get(name)):
                raise ValueError(f"{name} {values[name]} is {rule.words}")


def _parser(classes: Sequence[type]) -> Any:
    from trl import TrlParser  # takes seconds

    class Parser(TrlParser):
        def error(self, message: str) -> NoReturn:
            raise UserError(message)

    return Parser(classes)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Load a YAML mapping. Raises `UserError` if the file is missing, malformed or not a mapping."""
    try:
        settings = yaml.load(Path(path).read_text(encoding="utf-8-sig"), yaml.CSafeLoader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: invalid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected `key: value` lines, found {type(settings).__name__}")
    return settings


def parse(classes: Sequence[type], argv: Sequence[str] | None = None) -> tuple[dict[str, Any], Any]:
    """`--config X.yaml [--key value …]` → (the settings given, one instance of each class).

    Raises `UserError` for an unknown key, a value of the wrong type, or a value that a class rejects.
    """
    settings, where = read_arguments(sys.argv[1:] if argv is None else argv)
    return settings, build(classes, settings, where)


def read_arguments(argv: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Return the settings of `--config` merged with the overrides, and a name for them in messages."""
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
    """Parse a command-line word: a YAML mapping, list or null as such, anything else as text."""
    if word != "null" and word[:1] not in ("{", "["):
        return word
    with contextlib.suppress(ValueError):
        return json.loads(word)  # recipes print JSON; YAML would read 1e-05 as a string
    try:
        return yaml.safe_load(word)
    except yaml.YAMLError:  # text that only starts like YAML
        return word


def build(classes: Sequence[type], settings: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    """Build one instance of each dataclass from a mapping. `where` names the mapping in messages."""
    if not isinstance(settings, Mapping):
        raise UserError(f"{where}: expected `key: value` pairs, found {settings!r}")
    parser = _parser(classes)
    # A flag that defaults to true has a second action, `--no_flag`, under the same name. The first one converts.
    actions = {action.dest: action for action in reversed(parser._actions) if action.dest != "help"}
    hints = {name: str(hint) for cls in classes for name, hint in get_type_hints(cls).items()}
    # Some fields of transformers default to None although their type does not allow it.
    empty = {f.name for cls in classes for f in fields(cls) if f.default is None or "None" in hints[f.name]}
    values = {}
    for key, value in settings.items():
        if key not in actions:
            raise UserError(f"{where}: unknown key '{key}'{nearest(str(key), list(actions))}")
        if value is None and key not in empty and "Optional" not in hints[key]:
            raise UserError(f"{where}: {key}: null is not allowed: set a value, or remove the key")
        values[key] = _convert(actions[key], hints[key], value, where)
    seed = values.get("seed", 0)
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise UserError(f"{where}: seed: expected an integer from 0 to {2**32 - 1}, got {seed}")
    for cls in classes:
        try:
            check_ranges(cls, values)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
    parser.set_defaults_with_config(**values)
    infinite = [key for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    try:
        # By default the parser would also read a file named after the program, with the suffix `.args`.
        built = parser.parse_args_into_dataclasses(args=[], look_for_args_file=False)
    except (UserError, ValueError, TypeError, ImportError) as error:  # also a dataclass's own field checks
        said = str(error)
        # An error that quotes the number needs no second message about it.
        infinite = [key for key in infinite if not re.search(rf"\b{key}\b.*\b{values[key]}\b", said)]
        if not infinite:
            raise UserError(f"{where}: {said}") from error
    if infinite:
        raise UserError(f"{where}: {infinite[0]}: expected a finite number, got {values[infinite[0]]}")
    return built


def _convert(action: argparse.Action, hint: str, value: Any, where: str) -> Any:
    """Convert a YAML or command-line value to the field's type. Mappings are left to the dataclass."""
    if value is None:
        return value
    if action.nargs in ("+", "*"):
        items = value if isinstance(value, list) else [value]
        return [item if isinstance(item, Mapping) else _convert_one(action, item, where) for item in items]
    # The parser knows only the first type of `str | list[str]` and `dict | str`.
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
        kind = name if name.startswith("true") else f"an {name}" if name == "int" else f"a {name}"
        raise UserError(f"{where}: {action.dest}: expected {kind}, got {value!r}") from error
    if action.choices and converted not in action.choices:
        raise UserError(f"{where}: {action.dest}: {value!r} is not one of {', '.join(map(str, action.choices))}")
    return converted
