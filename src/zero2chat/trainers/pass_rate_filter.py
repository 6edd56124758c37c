"""Filter problems by the current model's pass rate: problems that are too easy or too hard are removed.

GRPO gets no gradient from problems whose answers are all correct or all wrong. As in Kimi k1.5 (arXiv:2501.12599,
section 2.1), such problems are removed before training. (DAPO skips them during training.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from accelerate.utils import broadcast_object_list
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl import GRPOConfig

from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import digest
from zero2chat.core.runs import Run, is_main_process
from zero2chat.inference.generate import answer
from zero2chat.models.hardware import is_fsdp
from zero2chat.rewards import Reward
from zero2chat.rewards.rejection_sampling import in_saved_batches

FILE = "pass_rates.jsonl"  # in the run's folder: one line per problem with its hash, answers passed and answers judged


@dataclass
class PassRate:
    """A YAML's `pass_rate:`: keep problems with a pass rate from `low` to `high` over `samples` answers.

    An answer passes if the first reward function returns 1 or more. With `mask_truncated_completions`, truncated
    answers do not pass, because training masks them.
    """

    samples: Annotated[int, Range(min=2, why="one answer gives no rate")] = 8
    low: float = 0.1
    high: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"pass_rate: low {self.low} and high {self.high}: expected 0 <= low <= high <= 1")


def check_pass_rate(reward: Reward, training: GRPOConfig) -> None:
    """Raises `UserError` if the reward needs a trainer, or if weights are sharded."""
    if reward.needs_of_trainer:
        needs = ", ".join(reward.needs_of_trainer)
        raise UserError(f"pass_rate: '{reward.__name__}' needs {needs}, which only training has: list another first")
    if is_deepspeed_zero3_enabled() or is_fsdp(training.fsdp):
        raise UserError("pass_rate: sharded weights cannot generate before training: use zero2.yaml or ddp.yaml")


def keep_by_pass_rate(
    problems: Dataset,
    spec: PassRate,
    reward: Reward,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    run: Run,
    training: GRPOConfig,
    batch_size: int,
) -> tuple[Dataset, dict[str, dict[str, Any]]]:
    """Return the kept problems, in order, and metrics that count the removed problems. Every rank must call this; rank
    0 judges. Pass rates are saved batch by batch, and an interrupted run with the same problems resumes from them."""
    model = model.to(training.device)

    def work(numbers: range, before: list[dict[str, Any]]) -> tuple[list[dict[str, int]], None]:
        rows = problems.select(numbers)
        columns = {key: [value for value in rows[key] for _ in range(spec.samples)] for key in rows.column_names}
        answers = answer(
            model,
            tokenizer,
            columns["prompt"],
            training.max_completion_length,
            training.temperature,
            batch_size,
            training.seed + len(before),
            template=training.chat_template_kwargs,
            unaided=True,
        )
        lines: list[Any] = [None] * len(rows)
        if is_main_process():
            columns["prompts"] = columns.pop("prompt")
            values = reward([[{"role": "assistant", "content": a.text}] for a in answers], **columns)
            passed = [
                None if value is None else value >= 1 and (a.stopped or not training.mask_truncated_completions)
                for value, a in zip(values, answers, strict=True)
            ]
            for i in range(len(rows)):
                judged = [p for p in passed[i * spec.samples : (i + 1) * spec.samples] if p is not None]
                lines[i] = {"passed": sum(judged), "samples": len(judged)}
        return broadcast_object_list(lines), None

    keys = [digest([prompt, gold]) for prompt, gold in zip(problems["prompt"], problems["answer"], strict=True)]
    judged_rows = in_saved_batches(run, FILE, keys, max(1, 2 * batch_size // spec.samples), work, "pass rates of")
    rates = {i: line["passed"] / line["samples"] for i, line in enumerate(judged_rows) if line["samples"]}
    indices = [i for i, rate in rates.items() if spec.low <= rate <= spec.high]
    easy, hard = sum(rate > spec.high for rate in rates.values()), sum(rate < spec.low for rate in rates.values())
    if is_main_process():
        what = f"{len(indices):,} of {len(judged_rows):,} problems kept; {easy:,} too easy, {hard:,} too hard"
        print(f"pass rates: {what}", flush=True)
    metrics: dict[str, dict[str, Any]] = {"problems_too_easy": {"value": easy}, "problems_too_hard": {"value": hard}}
    if rates:
        metrics["pass_rate_before"] = stats.mean(list(rates.values()), training.seed)
    return problems.select(indices), metrics
