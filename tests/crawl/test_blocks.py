"""A crawl's settings: defaults are those of datatrove and FineWeb, and mistakes are reported."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from zero2chat.core.errors import UserError
from zero2chat_crawl.settings import read_crawl

pytest.importorskip("datatrove")

from zero2chat_crawl.pipelines import FILTERS, _quality_filter, filter_settings

ROOT = Path(__file__).parents[2]


def test_a_filter_has_datatroves_defaults_but_for_those_of_fineweb_and_takes_a_recipes_settings() -> None:
    settings = filter_settings(read_crawl({"warcs": ["a"]}))
    differing = {"filter_no_terminal_punct": False, "timeout": 10.0}  # FineWeb's own, and ours
    for section, (block, _) in FILTERS.items():
        theirs = {name: p.default for name, p in inspect.signature(block).parameters.items()}
        for name, value in settings[section].items():
            if name == "stop_words":
                assert value == {"en": ["the", "be", "to", "of", "and", "that", "have", "with"]}
            else:
                as_theirs = tuple(value.items()) if isinstance(value, dict) else value
                assert as_theirs == differing.get(name, theirs[name]), name
    recipe = yaml.safe_load((ROOT / "recipes/debian-docs/corpus.yaml").read_text())["crawl"]
    settings = filter_settings(read_crawl(recipe))
    for section in FILTERS:
        assert settings[section].items() >= recipe[section].items()
    # Datatrove's filters have these values for a language with stop words, and for one without.
    quality = settings["gopher_quality"]
    english, german = (_quality_filter("gopher_quality", quality, code) for code in ("en", "de"))
    assert (english.min_stop_words, german.min_stop_words) == (2, 0)
    assert english.max_non_alpha_words_ratio == german.max_non_alpha_words_ratio == 0.6
    repetition = _quality_filter("gopher_repetition", settings["gopher_repetition"], "en")
    assert repetition.top_n_grams == ((2, 0.2), (3, 0.18), (4, 0.16))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "warcs: the list is empty"),
        ({"warcs": ["a"], "wokers": 2}, "crawl: unknown key 'wokers'; did you mean 'workers'"),
        ({"warcs": ["a"], "minhash": {"row": 2}}, r"crawl: minhash: unknown key 'row'"),
        ({"warcs": ["a"], "minhash": {"rows": "many"}}, r"crawl: minhash: rows: expected an int, got 'many'"),
        ({"warcs": ["a"], "minhash": {"rows": 0}}, r"crawl: minhash: rows: expected at least 1, got 0"),
        ({"warcs": ["a"], "executor": "slurm"}, "crawl: unknown key 'executor'"),
        ({"warcs": ["a"], "extraction": None}, "extraction: null is not allowed"),
        ({"warcs": ["a"], "crawled_before": "May 2025"}, "May 2025"),
        ({"warcs": ["a"], "languages": {"keep": []}}, "add at least one language"),
        ({"warcs": ["a"], "languages": {"threshold": 0.3}}, "expected at least 0.5 and less than 1, got 0.3"),
        ({"warcs": ["a"], "workers": 0}, "workers: expected at least 1, got 0"),
        ({"warcs": ["a"], "tasks": 20_000}, "tasks: expected at least 1 and at most 10000, got 20000"),
    ],
)
def test_mistakes_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_crawl(settings)
