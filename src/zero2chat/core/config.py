"""Build a stage's dataclasses from a YAML file and `--key value` overrides. Unknown keys are errors."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from zero2chat.core.errors import UserError, nearest
from zero2chat.core.package_files import find

# The wordings of `Refuse`, and when each holds. NaN is refused by all of them.
_RANGES: tuple[tuple[str, Callable[..., bool]], ...] = (
    (r"not from (\S+) to below (\S+)", lambda value, low, high: not low <= value < high),
    (r"not from (\S+) to (\S+)", lambda value, low, high: not low <= value <= high),
    (r"not between (\S+) and (\S+)", lambda value, low, high: not low < value < high),
    (r"not above (\S+)", lambda value, bound: not value > bound),
    (r"(?:below|less than) (\S+)", lambda value, least: not value >= least),
)
_BOOLEANS = dict.fromkeys(("yes", "true", "t", "y", "1"), True) | dict.fromkeys(("no", "false", "f", "n", "0"), False)


@dataclass(frozen=True)
class Refuse:
    """The numbers that a field refuses, in words: `n: Annotated[int, Refuse("below 1")]` → "n 0 is below 1".

    The words are "below 1", "not above 0", "not from 0 to 1", "not from 0 to below 1" or "not between 0 and 1", and
    may be followed by a colon and a reason.
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


class _Loader(yaml.CSafeLoader):
    """Refuses a key that is set twice: YAML's own reader silently takes the last."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        own = [_key(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key, _ in node.value:
            if own.count(_key(key)) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is set twice", key.start_mark)
        super().flatten_mapping(node)
        # Merged keys (`<<`) that the mapping itself sets are left out, or a mapping that merges it would find two.
        node.value = list({_key(key): (key, value) for key, value in node.value}.values())


def _key(node: yaml.Node) -> Any:
    """Return what two equal keys share. `1` and `"1"` differ."""
    return (node.tag, node.value) if isinstance(node, yaml.ScalarNode) else node


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Load a YAML mapping, of the working folder or of the package's files.

    Raises `UserError` if the file is missing, malformed or not a mapping.
    """
    try:
        settings = yaml.load(find(path).read_text(encoding="utf-8-sig"), _Loader)
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
        given = overrides.pop("config")
        if isinstance(given, list):
            words = " ".join(map(str, given[1:]))
            raise UserError(f"'{words}': settings are given as --{words}, and --config takes one file")
        if given in ("", "true"):
            raise UserError("--config: no file is given: write --config and the YAML's path")
        where = str(given)
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
    """Build one instance of each dataclass from a mapping. `where` names the mapping in messages.

    Fields that are dataclasses, or lists of them, are built from their mappings in the same way.
    """
    if not isinstance(settings, Mapping):
        raise UserError(f"{where}: expected `key: value` pairs, found {settings!r}")
    hints = {name: hint for cls in classes for name, hint in get_type_hints(cls).items()}
    known = {one.name: one for cls in classes for one in fields(cls) if one.init}
    values = {}
    for key, value in settings.items():
        if key not in known:
            raise UserError(f"{where}: unknown key '{key}'{nearest(str(key), list(known))}")
        try:
            values[key] = _converted(value, hints[key], known[key])
        except ValueError as error:
            raise UserError(f"{where}: {key}: {error}") from error
        except UserError as error:  # of a dataclass in this one
            raise UserError(f"{where}: {error}") from error
    missing = [key for key, one in known.items() if key not in values and one.default is one.default_factory is MISSING]
    if missing:
        raise UserError(f"{where}: these settings are required: {', '.join(f'--{key}' for key in missing)}")
    seed = values.get("seed", 0)
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise UserError(f"{where}: seed: expected an integer from 0 to {2**32 - 1}, got {seed}")
    infinite = [key for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    built: list[Any] = []
    try:
        for cls in classes:
            check_ranges(cls, values)
        for cls in classes:
            built.append(cls(**{one.name: values[one.name] for one in fields(cls) if one.name in values}))
    except (UserError, ValueError, TypeError, ImportError) as error:  # also a dataclass's own field checks
        said = str(error)
        # An error that quotes the number needs no second message about it.
        infinite = [key for key in infinite if not re.search(rf"\b{key}\b.*\b{values[key]}\b", said)]
        if not infinite:
            raise UserError(f"{where}: {said}") from error
    if infinite:
        raise UserError(f"{where}: {infinite[0]}: expected a finite number, got {values[infinite[0]]}")
    return tuple(built)


def _converted(value: Any, hint: Any, field: Field[Any]) -> Any:
    """Convert a YAML or command-line value to the field's type. Mappings of a `dict` field are left as they are.

    Raises `ValueError` if it cannot be converted.
    """
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    origins = {get_origin(kind) or kind: kind for kind in kinds}
    if value is None:
        # Some fields of transformers default to None although their type does not allow it.
        if NoneType not in origins and field.default is not None:
            raise ValueError("null is not allowed: set a value, or remove the key")
        return None
    if isinstance(kinds[0], type) and is_dataclass(kinds[0]):
        return value if isinstance(value, kinds[0]) else build([kinds[0]], value, field.name)[0]
    if (isinstance(value, Mapping) and dict in origins) or (isinstance(value, bool) and bool in origins):
        return value
    scalars = [kind for kind in kinds if (get_origin(kind) or kind) not in (list, dict, NoneType)]
    if list in origins and (isinstance(value, list) or not scalars):
        (kind,) = get_args(origins[list]) or (Any,)
        items = value if isinstance(value, list) else [value]
        if isinstance(kind, type) and is_dataclass(kind):
            return [build([kind], item, f"{field.name}[{i}]")[0] for i, item in enumerate(items)]
        return [item if isinstance(item, Mapping) or kind is dict else _scalar(item, kind, ()) for item in items]
    choices = field.metadata.get("choices", ())
    special = next((kind for kind in scalars if kind is not str), None)
    if special is None:
        return _scalar(value, str if scalars else dict, choices)
    try:
        return _scalar(value, special, choices)
    except ValueError:
        # A field of type `int | str` takes any text, one of type `IntervalStrategy | str` only the enum's values.
        if str not in scalars or (isinstance(special, type) and issubclass(special, Enum)):
            raise
        return _scalar(value, str, choices)


def _scalar(value: Any, kind: Any, choices: Sequence[Any]) -> Any:
    if kind is Any:
        return value
    if get_origin(kind) is Literal:
        choices = get_args(kind)
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
        name = "true or false" if kind is bool else "an int" if kind is int else f"a {kind.__name__}"
        raise ValueError(f"expected {name}, got {value!r}") from error
