"""The page of claims: marks in the table of contents, plots over an axis, pending claims; (slow) in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zero2chat.report.page import render
from zero2chat.report.steps import read_steps
from zero2chat_lab.claims import STAGE

HOSTILE = "</style></svg><script>alert(1)</script><img src=//evil.example onerror=x>\x00$\\frac{"


def _line(name: str, figure: str, metric: str, value: float | None, **more: Any) -> dict[str, Any]:
    ends = {} if value is None else {"n": 500, "low": round(value - 0.04, 4), "high": round(value + 0.04, 4)}
    about = {"name": name, "claim": f"Claim of {name}", "figure": figure, "step": f"runs/x/{name}", "metric": metric}
    measured = {"value": value, "seeds": 0 if value is None else 3, "target": "", "met": None, "experiment": "Asked."}
    return about | ends | measured | more


@pytest.fixture
def claims(tmp_path: Path, write_run: Callable[..., Path]) -> list[Path]:
    """Claims of each kind, and a step that they read."""
    lines = [
        *(
            _line("recall", f"told {at} times", f"accuracy_{at}", value, at=at, axis="documents")
            for at, value in ((0, 0.06), (1, 0.1), (10, 0.3), (100, 0.8))
        ),
        _line("known", "right", "accuracy_known", 0.72, target="at least 70%", met=True),
        _line("known", "a figure whose name is so long that it does not fit a phone", "accuracy_b", 0.5),
        _line("unknown", "declined", "abstention_rate", 0.5, target="at least 90%", met=False),
        _line("unknown", "known", "accuracy_known", 0.9, target="85% of “right”", met=True),
        _line("later", "right", "accuracy", None, target="at least 90%"),
        _line(HOSTILE, HOSTILE, "accuracy", 0.5, seeds=1),
        *(_line("ranking", name, f"rating_{name}", value, low=value - 30, high=value + 30) for name, value in RATINGS),
    ]
    curve = {"claim": "Claim of known", "x": "seconds of training", "y": "right", "percent": True}
    return [
        write_run(
            tmp_path / "claims",
            "claims",
            {"met": 2, "judged": 3, "claims": 5} | {f"{i:02d}_{line['metric']}": line for i, line in enumerate(lines)},
            history=[
                {"step": 0, **curve, "line": line, "points": [[0, 0.1], [60, 0.3 * k]]}
                for k, line in enumerate(("imitation", "practice"), start=1)
            ],
            samples=[
                {"step": 0, "prompt": "Where was Ada born?", "completion": "In Genoa.", "task": "Claim of known"},
                {"step": 0, "prompt": HOSTILE, "completion": HOSTILE * 3, "task": f"Claim of {HOSTILE}"},
            ],
        ),
        write_run(tmp_path / "thinks", "sft", {"accuracy": 0.5, "seconds": 60.0}, history=[{"step": 1, "loss": 2.0}]),
    ]


RATINGS = (("base", 700.0), ("practised", 1120.0))


@pytest.fixture
def page(claims: list[Path]) -> str:
    sections = {"claims": STAGE.section} if STAGE.section else {}
    return render(read_steps(claims), sections, "claims", "The story, measured")


def test_the_contents_say_of_each_claim_what_became_of_it(page: str) -> None:
    start = page.index('<nav aria-label="Claims"')
    contents = page[start : page.index("</nav>", start)]
    for i, (name, mark, said) in enumerate(
        (
            ("recall", "·", "no target"),
            ("known", "✓", "met"),
            ("unknown", "✗", "not met"),  # one of two targets
            ("later", "…", "not measured yet"),
        )
    ):
        entry = contents[contents.index(f'href="#s1-claims-claim-{i}"') :].partition("</li>")[0]
        assert f">{mark}</span>" in entry
        assert f"<span>Claim of {name}</span><small>{said}</small>" in entry
        assert f'id="s1-claims-claim-{i}"' in page


def test_a_claim_stands_with_its_number_pictures_and_words(page: str) -> None:
    known = page[page.index('id="s1-claims-claim-1"') : page.index('id="s1-claims-claim-2"')]
    assert '<p class="result right"><b>72.0%</b>' in known
    assert "at least 70%: <b>✓ met</b>" in known
    assert known.count("<figure>") == 2  # how it came to it, and its figures
    assert "In Genoa." in known
    assert "95%: 68.0–76.0% · n = 500 · 3 seeds" in known
    recall = page[page.index('id="s1-claims-claim-0"') : page.index('id="s1-claims-claim-1"')]
    assert recall.count("<figure>") == 1
    assert "told 0 times 6.0%, told 1 times 10.0%, told 10 times 30.0%, told 100 times 80.0%" in recall
    later = page[page.index('id="s1-claims-claim-3"') : page.index('id="s1-claims-claim-4"')]
    assert "<code>--only later</code>" in later
    assert "null" not in later


def test_text_of_models_does_nothing(page: str) -> None:
    assert "<script" not in page
    assert page.count("<img") == page.count('src="data:image/svg+xml;base64,')
