"""Distill: rejection sampling. A teacher answers prompts, and correct answers become training conversations.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.distill --config recipes/distill/distill.yaml

One GPU: `single_gpu.yaml`; several: `ddp.yaml`; on two CPU ranks `cpu_zero2.yaml`.

Reads prompts from datasets and tasks' training rows. Samples several answers per prompt from a model (`teacher`) or an
OpenAI-compatible API (`endpoint`), and scores them by reward functions, as GRPO does. Writes the answers that pass to
`data/train.jsonl`, a dataset for `sft` with the origin of each row. Counts rejected answers by reason.

This is the rejection sampling of DeepSeek-R1 (arXiv:2501.12948, sections 2.3.3 and 2.4), used there for distilled
models too. As in R1, several answers are sampled, and the correct ones are kept with their reasoning. Empty, truncated
and duplicate answers are rejected. Duplicates may differ in case and spaces (Yuan et al. 2023, arXiv:2308.01825, keep
only distinct solutions); near-duplicates are not detected. The first `keep` answers that pass are kept, in sampling
order: keeping the shortest would teach short answers. R1 also filters mixed languages, long paragraphs and code: write
reward functions for these.

Prompts that contain a question from the evaluation sets in `decontaminate` are removed and recorded.

Each row starts as `review: unreviewed`. People may change this value, and `sft` skips rejected rows. Answers are saved
as they arrive, and an interrupted run resumes after the last saved answer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from datasets import Dataset

from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import REVIEWED, UNREVIEWED
from zero2chat.core.runs import Run, is_main_process, write_atomically
from zero2chat.data.decontamination import Decontamination, read_held_out
from zero2chat.data.prompts import fitting_problems, load_problems
from zero2chat.data.sources import Source, mixed, read_sources
from zero2chat.inference.openai_client import Endpoint
from zero2chat.inference.samplers import Ask, ask_endpoint, ask_model, open_teacher
from zero2chat.report.samples import Answers
from zero2chat.report.section import Section
from zero2chat.rewards import Reward, read_rewards
from zero2chat.rewards.rejection_sampling import FILE, REASONS, choose, collect, measure, message_of
from zero2chat.stages import Stage

_SHOWN = 6  # kept answers saved as samples, and rejected ones per reason


@dataclass
class DistillArguments:
    """The teacher, its prompts, and the rules for keeping answers."""

    output_dir: str | None = None
    teacher: str | None = field(default=None, metadata={"help": "A model folder or a Hub name."})
    endpoint: Endpoint | None = field(
        default=None, metadata={"help": "Instead of `teacher`: url, model, key_variable, …"}
    )
    model_revision: str = "main"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    attn_implementation: str | None = None
    chat_template_path: str | None = None
    datasets: list[dict] = field(default_factory=list, metadata={"help": "Sources of prompts."})
    decontaminate: list[dict] = field(
        default_factory=list,
        metadata={"help": "Evaluation sets whose questions are removed from the data: tasks, datasets, files."},
    )
    rewards: list[dict] = field(default_factory=list, metadata={"help": "Reward functions: function, weight, options."})
    keep_above: float = field(default=0.5, metadata={"help": "Keep answers with a weighted reward above this."})
    keep: Annotated[int, Range(min=1)] = field(default=1, metadata={"help": "Maximum answers kept per prompt."})
    samples: Annotated[int, Range(min=1)] = field(default=4, metadata={"help": "Answers sampled per prompt."})
    temperature: Annotated[float, Range(min=0)] = 1.0
    max_completion_length: Annotated[int, Range(min=1)] = field(
        default=256, metadata={"help": "Maximum tokens per answer."}
    )
    eval_batch_size: Annotated[int, Range(min=1)] = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.teacher is None) == (self.endpoint is None):
            raise ValueError("teacher and endpoint: set exactly one of them")
        if self.temperature == 0 and self.samples > 1:
            raise ValueError("temperature 0: expected above 0, or all answers would be equal")
        # Checked here too, so that a recipe fails before its first step runs.
        read_sources(self.datasets)
        read_held_out(self.decontaminate)
        read_rewards(self.rewards, alone=True)


def _load_prompts(sources: Sequence[Source], rewards: Sequence[Reward], decontamination: Decontamination) -> Dataset:
    """Load the problems, with their `_source` and their `_key`: a task row's key, or a dataset row's number."""
    parts, answers = [], any("answer" in reward.needs for reward in rewards)
    for source in sources:
        part = load_problems(source, rewards, answers, wanted=("row", "_row"))
        keys = [json.loads(row)["key"] for row in part["row"]] if source.task else part["_row"]
        part = part.add_column("_source", [source.label] * len(part)).add_column("_key", [str(key) for key in keys])
        parts.append(decontamination.clean(part, "prompt", [f"{source.label}, row {row}" for row in part["_row"]]))
    return mixed(parts, sources)[0]


def _teacher(args: DistillArguments, problems: Dataset) -> Ask:
    """Return a function that samples answers. Raises `UserError` if the model is missing, or a prompt is too long."""
    if args.endpoint:
        return ask_endpoint(args.endpoint, args.samples, args.temperature, args.max_completion_length)
    settings = args.dtype, args.model_revision, args.attn_implementation, args.chat_template_path
    model, tokenizer, context = open_teacher(args.teacher, *settings)
    fitting_problems(problems, tokenizer, context - args.max_completion_length)
    return ask_model(model, tokenizer, args.samples, args.temperature, args.max_completion_length, args.eval_batch_size)


def run(run: Run, args: DistillArguments) -> None:
    sources, rewards = read_sources(args.datasets), read_rewards(args.rewards, alone=True)
    endpoint = args.endpoint
    if endpoint and not is_main_process():  # one process asks, with many requests at once
        return
    decontamination = Decontamination(args.decontaminate)
    problems = _load_prompts(sources, rewards, decontamination)
    left_out = decontamination.finish(run)
    at_once = max(1, 2 * args.eval_batch_size // args.samples)
    collected = collect(
        problems, _teacher(args, problems), rewards, run, at_once, args.seed, in_batches=endpoint is None
    )
    if not is_main_process():
        return

    verdicts = choose(list(zip(problems["prompt"], collected, strict=True)), args.keep, args.keep_above)
    metrics = measure(verdicts, args.seed) | left_out
    by = rewards[0].__name__ if len(rewards) == 1 else "sum of rewards"
    shown: Counter[str | None] = Counter()
    lines, samples = [], []
    origin = {"teacher": endpoint.model if endpoint else args.teacher, "temperature": args.temperature}
    for row, said, some in zip(problems, collected, verdicts, strict=True):
        for i, (one, why) in enumerate(zip(said, some, strict=True)):
            message = message_of(one)
            if why is None:
                of_row = {"source": row["_source"], "key": row["_key"], "sample": i, "score": one["score"]}
                lines.append({"messages": [*row["prompt"], message], "origin": origin | of_row, "review": UNREVIEWED})
            shown[why] += 1
            if shown[why] <= _SHOWN:
                text = {"prompt": row["prompt"][-1]["content"], "completion": one["content"]}
                samples.append(text | {"kept": why is None, "why": why, "score": one["score"], "by": by})
    counted = ", ".join(f"{shown[why]:,} {why}" for why in REASONS if shown[why])
    print(f"{len(lines):,} of {metrics['answers']['value']:,} answers kept; {counted or 'none rejected'}", flush=True)
    if not lines:
        raise UserError(f"{run.folder}: no answer was kept ({counted}): lower keep_above, or see {run.folder / FILE}")
    (run.folder / REVIEWED).parent.mkdir(exist_ok=True)
    write_atomically(run.folder / REVIEWED, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    run.replace_samples(0, samples)
    run.finish(metrics)


STAGE = Stage(
    name="distill",
    story="Conversations with a teacher's answers, filtered by the rewards.",
    kind="answers",
    arguments=(DistillArguments,),
    run=run,
    section=Section(
        title="A teacher's answers",
        story="Worked examples need not be written by people. A stronger model, the teacher, answers each prompt "
        "several times. Answers that pass the check become training examples for another model.",
        metrics={
            "conversations": "answers kept, one conversation each",
            "pass_rate": "of the teacher's answers pass",
            "prompts_kept_rate": "of prompts have an answer that was kept",
            "kept_rate": "of the teacher's answers were kept",
            "rejected_rate_wrong": "of answers rejected: score too low",
            "rejected_rate_cut": "of answers rejected: truncated",
            "rejected_rate_duplicate": "of answers rejected: duplicates",
        },
        samples=Answers("Kept and rejected answers"),
    ),
)

if __name__ == "__main__":
    STAGE.command()
