"""A number out of range is reported before anything is read or written, in every stage."""

from __future__ import annotations

import math
from typing import Any

import pytest

from zero2chat import stages
from zero2chat.core.errors import UserError

BAD = [
    ("max_steps", -5),
    ("learning_rate", -1e-4),
    ("learning_rate", math.nan),
    ("learning_rate", math.inf),
    ("learning_rate", "nan"),
    ("num_train_epochs", 0),
    ("num_train_epochs", -math.inf),
    ("weight_decay", -0.1),
    ("warmup_steps", -1),
    ("max_grad_norm", math.nan),
    ("adam_beta2", 1.5),
    ("logging_steps", -1),
    ("save_total_limit", -1),
]


@pytest.mark.parametrize("stage", [name for name in stages.names() if stages.load(name).kind == "trains"])
@pytest.mark.parametrize(("key", "value"), BAD)
def test_a_number_that_cannot_be_meant_is_named(stage: str, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^x\.yaml: {key}: expected (a finite number|at least|more than)"):
        stages.load(stage).build({"output_dir": "out", key: value}, "x.yaml")


def test_epochs_are_counted_where_max_steps_is_minus_1() -> None:
    settings = {"output_dir": "out", "datasets": [{"task": "facts", "n": 9}], "max_steps": -1, "learning_rate": 0}
    assert stages.load("sft").build(settings, "x.yaml")[1].max_steps == -1


def test_no_setting_of_any_stage_is_infinite() -> None:
    with pytest.raises(UserError, match=r"^x\.yaml: validation_fraction: expected a finite number, got inf"):
        stages.load("corpus").build({"output_dir": "out", "validation_fraction": math.inf}, "x.yaml")
