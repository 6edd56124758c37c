"""Read a stage's settings from its YAML and the command line: `--config X.yaml --key value …`."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zero2chat.core.config import load_yaml, read_yaml
from zero2chat.core.errors import UserError


def load_settings(path: str | Path) -> dict[str, Any]:
    """Load a stage's YAML. Settings that it lacks come from the YAML that its key `base` names.

    The base is relative to the YAML's folder, and must have no base itself. Raises `UserError` for an invalid file.
    """
    settings = load_yaml(path)
    if "base" not in settings:
        return settings
    base = os.path.normpath(Path(path).parent / str(settings.pop("base")))
    below = load_yaml(base)
    if "base" in below:
        raise UserError(f"{path}: the base {base} has its own base: use {below['base']}, or copy the settings")
    return below | merged(below, settings)


def merged(below: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings. Each mapping in them also gets the keys that it lacks, from its counterpart in `below`."""
    return {
        key: below[key] | value if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in settings.items()
    }


def read_arguments(argv: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Return the settings of `--config` merged with the overrides, and their origin, for messages."""
    overrides = _pairs(argv)
    if "config" not in overrides:
        return overrides, "command line"
    where = overrides.pop("config")
    if not isinstance(where, str) or where == "true":
        raise UserError("--config takes the path of one YAML; settings are given as --key value")
    return {**load_settings(where), **overrides}, where


def _pairs(argv: Iterable[str]) -> dict[str, Any]:
    """Read `--a 1 --b x y --flag --c '{d: 2}'` as `{"a": "1", "b": ["x", "y"], "flag": "true", "c": {"d": 2}}`."""
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
    """Parse a command-line word: YAML if it is a mapping, a list or null, otherwise text."""
    if word != "null" and word[:1] not in ("{", "["):
        return word
    with contextlib.suppress(ValueError):
        return json.loads(word)  # recipes print JSON, some of which is no YAML
    try:
        return read_yaml(word)
    except yaml.YAMLError:  # text that only starts like YAML
        return word
