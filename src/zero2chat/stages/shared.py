"""What several stages declare alike: settings of those that measure a model, and metrics and figures of the report."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

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
}


def evaluation_metrics(step: StepResult) -> dict[str, str]:
    """Return metric → label: of tasks, the user's own data and harness tasks, then what every evaluation has."""
    own = {
        f"{score}_{label}": f"{score}, {label}"
        for label in step.named("stop_rate_(.+)")
        for score in step.named(rf"(?!(?:change|constant|accuracy|stop_rate)_)(.+)_{re.escape(label)}")
    }
    win_rates = {f"win_rate_{task}": f"win rate, {task}" for task in step.named("win_rate_(.+)")}
    return {
        "accuracy": "accuracy, mean over tasks",
        "accuracy_sampled": "accuracy when sampled",
        "pass_at_1": "pass@1",
        "pass_at_8": "pass@8",
        **own,
        **win_rates,
        **{name: name for name in step.named(r"(.+\..+)")},
        "needless_calls": "of answers call a tool although none is needed",
        "declined_within_reach": "abstention rate on answerable questions",
        "stop_rate": "of answers end with the EOS token",
        "bytes_model": "model weights",
    }


# ---- of preference stages

PREFERRED = {
    "accuracy": "accuracy on held-out preference pairs",
    "accuracy_before": "of pairs: chosen answer more likely before training",
    "accuracy_length": "accuracy of preferring the longer answer",
    "margin": "mean implicit reward margin, chosen minus rejected",
    "chosen_change": "nats: change of log-probability, chosen",
    "rejected_change": "nats: change of log-probability, rejected",
}
IMPLICIT_REWARDS = Curve(
    "Implicit rewards in training: chosen, rejected, and their margin.",
    "implicit reward",
    {"chosen": "rewards/chosen", "rejected": "rewards/rejected", "margin": "rewards/margins"},
)
