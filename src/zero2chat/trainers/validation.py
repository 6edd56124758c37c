"""Validation rows of the stages that train on a user's data: the loss on them is logged while the model trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from transformers import IntervalStrategy, Trainer, TrainingArguments

from zero2chat.core.config import Refuse
from zero2chat.core.errors import UserError
from zero2chat.data.sources import read_sources, split_of


@dataclass
class ValidationArguments:
    """Validation rows of their own, or a share of the training data's prompts."""

    validation_datasets: list[dict] = field(
        default_factory=list, metadata={"help": "Sources of validation rows, whose loss is logged during training."}
    )
    validation_fraction: Annotated[float, Refuse("not from 0 to below 1")] = field(
        default=0.0, metadata={"help": "Share of the datasets' prompts to hold out for validation instead."}
    )

    @property
    def validates(self) -> bool:
        return bool(self.validation_datasets or self.validation_fraction)

    def check_validation(self) -> None:
        if self.validation_datasets and self.validation_fraction:
            raise ValueError("validation_datasets and validation_fraction: set one of them")
        if self.validation_datasets:
            read_sources(self.validation_datasets, where="validation_datasets")


def hold_out(
    rows: Sequence[Any], prompt: Callable[[Any], str], fraction: float, test_fraction: float = 0.0
) -> tuple[list[int], list[int]]:
    """Return the indices of training rows and of validation rows. Rows with equal prompts are on the same side.

    `fraction` is of the data before `test_fraction` of it was held out, in the same way. Raises `UserError` if one of
    the two would be empty.
    """
    sides: dict[str, list[int]] = {"train": [], "validation": []}
    for i, row in enumerate(rows):
        sides[split_of(prompt(row), fraction, test_fraction)].append(i)
    for name, found in sides.items():
        if not found:
            raise UserError(
                f"validation_fraction {fraction}: none of {len(rows)} rows is in the {name} split: change it, or set "
                "validation_datasets"
            )
    return sides["train"], sides["validation"]


def evaluate_while_training(training: TrainingArguments) -> None:
    """Evaluate before the first step and every `eval_steps` (default: logging steps), unless the YAML says when."""
    if training.eval_strategy == IntervalStrategy.NO:
        training.eval_strategy, training.eval_on_start = IntervalStrategy.STEPS, True
        training.eval_steps = training.eval_steps or training.logging_steps


def validation_loss(trainer: Trainer, n: int) -> dict[str, dict[str, Any]]:
    """Return the metric `val_loss` of the trained model on its `n` validation rows. Every rank must call this."""
    return {"val_loss": {"value": round(trainer.evaluate()["eval_loss"], 4), "n": n}}
