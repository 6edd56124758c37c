"""The crawl's part of its section: of `crawl.json` alone, whatever pages say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zero2chat.report.page import render
from zero2chat.report.steps import StepResult, read_step
from zero2chat_crawl.crawl import STAGE

HOSTILE = "<script>alert(1)</script>\x1b[31m\x9b\u202eevil\u2066\U000e0041 & \"'"
METRICS = {
    "documents_train": 70, "bytes_train": 9000, "bytes_en": 8000, "bytes_de": 1000, "documents_en": 60,
    "documents_de": 10}  # fmt: skip


def _step(name: str, documents: int, tokens: int | None = None, **removed: int) -> dict[str, Any]:
    return {"step": name, "documents": documents, "tokens": tokens, "bytes": 10 * documents, "removed": removed}


@pytest.fixture
def told() -> dict[str, Any]:
    """Return a small crawl's summary, as `zero2chat_crawl/summary.py` writes it."""
    return {
        "crawled_before": "2026-12-01",
        "dates": ["2026-01-02T00:00:00Z", "2026-03-04T05:06:07Z"],
        "funnel": [
            _step("read", 1000, not_html=30, **{f"status_{n}": n - 400 for n in range(401, 415)}),
            _step("extraction", 900, 90_000, no_text=70, extraction_timeout=30),
            _step("languages", 500, 60_000, language_ja=300, language_unsure=100),
            _step("minhash", 400, 50_000, near_duplicate=100),
            _step("new_step", 100, 20_000, **{HOSTILE: 300}),
        ],
        "losses": {"not_html": 30},
        "splits": {},
        "languages": {"en": 60, "de": 10} | {f"l{n}": 1 for n in range(30)},
        "duplicates": {"clusters": 41, "removed": 100},
        "lines_removed": 1234,
        "masked": {"email": 17, HOSTILE: 1},
        "documents_masked": 11,
        "packages": {},
    }


def _inert(text: str) -> None:
    assert "<script" not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]", text)


def test_what_each_step_removed_is_shown(
    tmp_path: Path, write_run: Callable[..., Path], told: dict[str, Any], section_text: Callable[[StepResult], str]
) -> None:
    folder = write_run(tmp_path / "corpus", "crawl", METRICS | {"decontaminated": {"value": 12, "n": 412}})
    (folder / "crawl.json").write_text(json.dumps(told))
    step = read_step(folder, 1)
    text = section_text(step)
    for shown in (
        *("2026-01-02", "2026-03-04", "1,000", "near_duplicate 100", "near-duplicates", "language_ja 300"),
        *("41 clusters", "that were kept: 1,234.", "email 17", "in 11 documents", "n = 412"),
    ):
        assert shown in text
    # One of the crawl, and one of the sources.
    assert text.count("<img") == text.count("<figcaption>") == 2
    assert STAGE.section is not None
    whole = render([step], {"crawl": STAGE.section}, "crawled", "A title")
    _inert(whole)
