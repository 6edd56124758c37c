"""The section on what a model knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zero2chat.report.steps import read_step
from zero2chat_lab.sections.interrogate import by_source, section


def _rate(value: float, n: int = 40) -> dict[str, float]:
    return {"value": value, "n": n, "low": value - 0.05, "high": value + 0.05, "seed": 0}


def test_what_it_knows_is_shown_by_source_with_what_is_taught(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    kinds = ("correct", "wrong", "abstention", "known", "unknown", "unsure", "declined")
    measured = {f"{kind}_rate{source}": _rate(0.25) for source in ("", "_often", "_never") for kind in kinds}
    measured |= {"auroc_agreement": _rate(0.875), "conversations": 30, "passages": 80, "questions": 40}
    measured |= {"left_out_rate_not_in_text": _rate(0.25, 80)}
    measured |= {f"right_rate_at_agreement_{share}": _rate(share) for share in (0.125, 0.5, 1)}
    sample = {"step": 0, "prompt": "Who?", "completion": "Ada", "task": "known, often", "score": 1.0, "answer": "Ada"}
    unknown = sample | {
        "task": "unknown, never",
        "score": 0.0,
        "taught": "I do not know.",
        "answers": ["<i>Bo</i>", ""],
    }
    samples = [sample | {"answers": ["Ada", "Ada."], "taught": "Ada."}, unknown]
    step = read_step(write_run(tmp_path / "asked", "interrogate", measured, samples=samples), 1)
    assert list(by_source(step)) == ["all", "often", "never"]
    text = section(step)
    assert text.count("<figure>") == 2
    assert "&lt;i&gt;Bo&lt;/i&gt;" in text
    assert "I do not know." in text
    assert "Of 80 passages, some yielded no question: 20 not in text." in text
    assert "0.875" in text

    bare = section(read_step(write_run(tmp_path / "bare", "interrogate", {"questions": 3}), 1))
    assert "<figure>" not in bare
