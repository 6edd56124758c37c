"""Material for tasks: words and phrases in YAML files, and a made-up world. No module here is a task."""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent


def read_texts(name: str) -> Any:
    """Return the content of a YAML file of this folder, such as `sums` or `small_talk/kinds`."""
    return yaml.load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)


def read_all(folder: str) -> dict[str, Any]:
    """Return the entries of all YAML files of a folder, by name."""
    files = sorted((FOLDER / folder).glob("*.yaml"))
    return {name: entry for file in files for name, entry in read_texts(f"{folder}/{file.stem}").items()}


@functools.cache
def written_words() -> frozenset[str]:
    """Return the words of all YAML files here, in lower case, except the exam's in `unseen`."""
    texts = [file.read_text(encoding="utf-8") for file in FOLDER.rglob("*.yaml") if file.parent.name != "unseen"]
    return frozenset(re.findall("[a-z]+", "\n".join(texts).lower()))


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
