"""What stages share: settings of stages that measure a model, rows that one process makes for all processes, and the
report's metrics and figures."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset, load_from_disk
from transformers import TrainingArguments

from zero2chat.core.errors import UserError
from zero2chat.core.runs import ROWS, is_main_process
from zero2chat.models.hardware import first_goes_first
from zero2chat.report.section import Curve
from zero2chat.report.steps import StepResult


@dataclass
class MeasuringArguments:
    """Settings of the stages that measure a model."""

    needs: ClassVar[tuple[str, ...]] = ("model_name_or_path",)  # what must be set
    output_dir: str | None = None
    model_name_or_path: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    seed: int = field(default=0, metadata={"help": "Seed for choosing rows, for sampling and for intervals."})

    def __post_init__(self) -> None:
        for key in self.needs:
            if getattr(self, key) is None:
                raise ValueError(f"{key} is not set: set it to a folder or a Hub name")


def make_once(make: Callable[[], Dataset], training: TrainingArguments, name: str) -> Dataset:
    """Return the result of `make`. Only rank 0 calls `make`; all ranks load the saved rows from the run folder.

    A `UserError` in `make` reaches all processes. `remove_shared` removes the files.
    """
    if training.world_size == 1:
        return make()
    folder = Path(str(training.output_dir)) / ROWS / name
    failed: list[UserError | None] = [None]
    with first_goes_first(is_main_process()):
        if is_main_process():
            shutil.rmtree(folder, ignore_errors=True)  # of a killed attempt
            try:
                make().save_to_disk(folder)
            except UserError as error:
                failed = [error]
    broadcast_object_list(failed)
    if failed[0] is not None:
        raise failed[0]
    return load_from_disk(folder)


def remove_shared(training: TrainingArguments) -> None:
    """Remove the files of `make_once`. Every rank must call this before the run is marked done. After a kill in
    between, the files would stay for ever."""
    PartialState().wait_for_everyone()  # no rank reads them any more
    if is_main_process():
        shutil.rmtree(Path(str(training.output_dir)) / ROWS, ignore_errors=True)


REWARDS = Curve("Training reward, by reward function.", "mean reward", r"rewards/(.+)/mean")
LENGTHS = Curve(
    "Mean length of completions, in tokens.",
    "tokens",
    {"all": "completions/mean_length", "ended with the EOS token": "completions/mean_terminated_length"},
)
ENTROPY = Curve("The entropy of the policy shows how much it still explores.", "nats per token", "entropy")
ACCURACIES = Curve(
    "Accuracy during training.", "accuracy", r"accuracy_(.+)(?<!_n)(?<!_low)(?<!_high)", percent=True
)  # of `tasks_steps`
LOSSES = {"training": "loss", "held-out {}": "(?:eval|val)_(?:(.+)_)?loss"}
ANSWERED = {  # metric → label, of stages whose models answer questions
    "accuracy": "accuracy, mean over tasks",
    "accuracy_sampled": "accuracy when sampled",
    "stop_rate": "of answers end with the EOS token",
    "empty_rate": "of answers are empty",
}


def evaluation_metrics(step: StepResult) -> dict[str, str]:
    """Return metric → label, for tasks, the user's own data, harness tasks, and what every evaluation has."""
    own = {
        f"{score}_{label}": f"{score}, {label}"
        for label in step.named("stop_rate_(.+)")
        for score in step.named(rf"(?!(?:change|constant|accuracy|stop_rate|empty_rate)_)(.+)_{re.escape(label)}")
    }
    win_rates = {f"win_rate_{task}": f"win rate by a simulated person, {task}" for task in step.named("win_rate_(.+)")}
    sampled = ", ".join(step.named("accuracy_sampled_(.+)"))
    return {
        "accuracy": "accuracy, mean over tasks",
        "accuracy_sampled": "accuracy when sampled" + f": {sampled}" * bool(sampled),
        "win_rate": "win rate by a simulated person, when sampled",
        **own,
        **win_rates,
        **{name: name for name in step.named(r"(.+\..+)")},
        **{name: name.replace("_", " ", 1) for name in step.named("(wrong_declined_.+|confident_(?:right|wrong)_.+)")},
        "needless_calls": "of answers call a tool although none is needed",
        "declined_within_reach": "of requests within reach are declined",
        "stop_rate": "of answers end with the EOS token",
        "empty_rate": "of answers are empty",
        "bytes_model": "model weights",
    }


# ---- of preference stages

PREFERRED = {
    "accuracy": "accuracy on held-out preference pairs",
    "accuracy_before": "of pairs: chosen answer more likely before training",
    "accuracy_length": "accuracy by length alone",
    "margin": "mean implicit reward margin, chosen minus rejected",
    "chosen_change": "nats: change of log-probability, chosen",
    "rejected_change": "nats: change of log-probability, rejected",
}
IMPLICIT_REWARDS = Curve(
    "Implicit rewards in training: chosen, rejected, and their margin.",
    "implicit reward",
    {"chosen": "rewards/chosen", "rejected": "rewards/rejected", "margin": "rewards/margins"},
)
