"""Check ranges of settings that transformers and TRL accept unchecked. (Our own ranges are declared with their fields.)

For example, `max_steps: -5` counts as not set, and a negative learning rate increases the loss. Only settings that a
recipe sets are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zero2chat.core.errors import UserError

# (the range in words, whether a number is in it, the settings)
_RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("1 or more, or -1 for whole epochs", lambda value: value >= 1 or value == -1, "max_steps"),
    (
        "1 or more",
        lambda value: value >= 1,
        "max_length max_completion_length num_generations num_iterations steps_per_generation save_total_limit "
        "per_device_eval_batch_size gradient_accumulation_steps",
    ),
    (
        "above 0",
        lambda value: value > 0,
        "logging_steps save_steps eval_steps num_train_epochs temperature adam_epsilon",
    ),
    (
        "0 or more",
        lambda value: value >= 0,
        "learning_rate weight_decay warmup_steps max_grad_norm beta epsilon epsilon_high",
    ),
    ("from 0 to 1", lambda value: 0 <= value <= 1, "min_p label_smoothing lmbda"),
    ("above 0, at most 1", lambda value: 0 < value <= 1, "top_p"),
    ("from 0 to below 1", lambda value: 0 <= value < 1, "adam_beta1 adam_beta2"),
)


def check_trainer_ranges(settings: Mapping[str, Any], where: str) -> None:
    """Raises `UserError` for the first setting out of its range. Values that are not numbers are left to the parser."""
    for said, holds, keys in _RANGES:
        for key in keys.split():
            value = settings.get(key)
            try:
                fine = value is None or isinstance(value, bool) or holds(float(value))
            except (TypeError, ValueError):
                continue
            if not fine:
                raise UserError(f"{where}: {key}: {value} is out of range: give a number {said}")
