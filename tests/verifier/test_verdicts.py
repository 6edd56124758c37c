"""All rows of the suite: no wrong answer is accepted, and hardly any right one is refused."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

from zero2chat_verifier.verify import verify_answer

_SUITE = runpy.run_path(str(Path(__file__).with_name("rows.py")))
ROWS = _SUITE["ROWS"]


def test_nothing_wrong_is_accepted_and_at_most_three_in_a_hundred_right_ones_refused() -> None:
    judged = [(row, verify_answer(row.text, row.gold)) for row in ROWS]
    accepted = [(row, verdict) for row, verdict in judged if verdict.correct and not row.right]
    refused = [(row, verdict) for row, verdict in judged if row.right and not verdict.correct]
    shown = "\n".join(
        f"{row.category}: {row.gold[:70]!r}, {row.text[:90]!r}: {v.reason}" for row, v in accepted + refused
    )
    asked = Counter(row.category for row in ROWS if row.right)
    missed = Counter(row.category for row, _ in refused)
    recall = {category: f"{1 - missed[category] / n:.2f} of {n}" for category, n in asked.items()}
    assert not accepted, shown
    assert len(refused) <= 0.03 * sum(asked.values()), f"{recall}\n{shown}"


def test_a_unit_per_another_is_converted() -> None:
    assert verify_answer("1 km/min", "60\\text{ km/h}").correct
    assert not verify_answer("2 km/min", "60\\text{ km/h}").correct
