"""Material for tasks: words and phrases in YAML files, and a made-up world. No module here is a task."""

from __future__ import annotations

import functools
import importlib.resources
import itertools
import re
from typing import Any

import yaml

FOLDER = importlib.resources.files(__name__)


def read_texts(name: str) -> Any:
    """Return the content of a YAML file of this folder, such as `sums` or `small_talk/kinds`."""
    return yaml.load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)


def read_all(folder: str) -> dict[str, Any]:
    """Return the entries of all YAML files of a folder, by name. Raises `ValueError` if two have one name."""
    names = sorted(file.name for file in (FOLDER / folder).iterdir() if file.name.endswith(".yaml"))
    read = [read_texts(f"{folder}/{name.removesuffix('.yaml')}") for name in names]
    entries = {name: entry for some in read for name, entry in some.items()}
    if len(entries) < sum(map(len, read)):
        raise ValueError(f"{folder}: two entries have one name")
    return entries


@functools.cache
def written_words() -> frozenset[str]:
    """Return the words of all YAML files here, in lower case, except the exam's in `unseen`."""
    folders = [FOLDER, *(one for one in FOLDER.iterdir() if one.is_dir() and one.name != "unseen")]
    files = [file for folder in folders for file in folder.iterdir() if file.name.endswith(".yaml")]
    return frozenset(word for file in files for word in re.findall("[a-z]+", file.read_text(encoding="utf-8").lower()))


def phrases(value: Any) -> Any:
    """Return the phrases of a text, separated by `|`; for a mapping, the phrases of each value."""
    if isinstance(value, dict):
        return {key: phrases(text) for key, text in value.items()}
    return tuple(phrase.strip() for phrase in value.split("|"))


def forms(pattern: str) -> list[str]:
    """Return all forms of a pattern, in order: `{a|b}` means either, and an alternative may be empty."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]
