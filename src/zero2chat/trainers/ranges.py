"""Ranges of the settings of transformers and TRL, which these take as they are. (Ours stand with the field.)

For example, `max_steps: -5` counts as not set, and a negative learning rate increases the loss. Only settings that a
recipe sets are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zero2chat.errors import UserError

_Range = tuple[Callable[[Any], bool], str]

_ABOVE_0: _Range = (lambda value: value > 0, "above 0")
_FROM_0: _Range = (lambda value: value >= 0, "0 or more")
_FROM_1: _Range = (lambda value: value >= 1, "1 or more")
_SHARE: _Range = (lambda value: 0 <= value <= 1, "from 0 to 1")
_DECAY: _Range = (lambda value: 0 <= value < 1, "from 0 to below 1")

_RANGES: dict[str, _Range] = {
    "max_steps": (lambda value: value >= 1 or value == -1, "1 or more, or -1 for whole epochs"),
    "max_length": _FROM_1,
    "max_completion_length": _FROM_1,
    "num_generations": _FROM_1,
    "num_iterations": _FROM_1,
    "steps_per_generation": _FROM_1,
    "save_total_limit": _FROM_1,
    "per_device_eval_batch_size": _FROM_1,
    "gradient_accumulation_steps": _FROM_1,
    "logging_steps": _ABOVE_0,
    "save_steps": _ABOVE_0,
    "eval_steps": _ABOVE_0,
    "num_train_epochs": _ABOVE_0,
    "temperature": _ABOVE_0,
    "adam_epsilon": _ABOVE_0,
    "learning_rate": _FROM_0,
    "weight_decay": _FROM_0,
    "warmup_steps": _FROM_0,
    "max_grad_norm": _FROM_0,
    "beta": _FROM_0,
    "epsilon": _FROM_0,
    "epsilon_high": _FROM_0,
    "min_p": _SHARE,
    "top_p": (lambda value: 0 < value <= 1, "above 0, at most 1"),
    "adam_beta1": _DECAY,
    "adam_beta2": _DECAY,
    "label_smoothing": _SHARE,
    "lmbda": _SHARE,
}


def check_ranges(settings: Mapping[str, Any], where: str) -> None:
    """Raises `UserError` for the first setting out of its range. Values that are not numbers are left to the parser."""
    for key, (holds, said) in _RANGES.items():
        value = settings.get(key)
        try:
            fine = value is None or isinstance(value, bool) or holds(float(value))
        except (TypeError, ValueError):
            continue
        if not fine:
            raise UserError(f"{where}: {key}: {value} is out of range: give a number {said}")
