from __future__ import annotations

from zero2chat.report.evaluate import section
from zero2chat.report.steps import Step


def test_standard_tasks_have_a_table_and_what_was_seen_in_training_is_said_or_that_nobody_looked() -> None:
    metric = {"value": 1 / 3, "n": 9, "low": 0.12, "high": 0.65}
    unchecked = section(Step("exam", "evaluate", 1, {"arc_easy.acc_norm": metric, "seconds": {"value": 1.5}}))
    assert "<th>arc_easy.acc_norm</th><td>0.3333</td><td>95%: 0.12–0.65 · n = 9</td>" in unchecked
    assert "Contamination: not checked" in unchecked
    assert "measured no score" not in unchecked
    checked = section(Step("exam", "evaluate", 1, {"arc_easy.acc_norm": metric | {"contaminated": 2}}))
    assert "n = 9 · 2 of them seen in training</td>" in checked
    assert "not checked" not in checked
