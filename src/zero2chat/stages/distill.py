"""Distill: rejection sampling. A teacher answers prompts, and correct answers become training conversations.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.distill --config recipes/distill/distill.yaml

One GPU: `single_gpu.yaml`; several: `ddp.yaml`; on two CPU ranks `cpu_zero2.yaml`.

Samples several answers per prompt, from datasets and tasks' training rows, with a model (`teacher`) or an
OpenAI-compatible API (`endpoint`). Judges the answers by reward functions, as GRPO does. Writes those that pass to
`data/train.jsonl`, an `sft` dataset with the origin of each row, and counts the rejected ones by reason.

This is the rejection sampling of DeepSeek-R1 (arXiv:2501.12948, sections 2.3.3 and 2.4), which also made data for its
distilled models. As there, several answers are sampled and the correct ones kept, including their reasoning. Empty and
truncated answers are rejected, and so are duplicates up to case and spaces (Yuan et al. 2023, arXiv:2308.01825, keep
only distinct solutions); near-duplicates are not detected. Of the answers that pass, the first `keep` are kept in
sampling order, because keeping the shortest would teach short answers. R1's further filters (mixed languages, long
paragraphs, code) can be added as your own reward functions.

Prompts that contain a question of the evaluations in `decontaminate` are removed and recorded.

Each row starts as `review: unreviewed`, which `zero2chat rank --review` changes; `sft` skips rejected rows. Answers are
saved as they come, and an interrupted run resumes from there.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Annotated, Any, Literal

from datasets import Dataset

from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import REVIEWED, digest
from zero2chat.core.runs import Run, is_main_process, read_jsonl, write_atomically
from zero2chat.data.decontamination import Decontamination, read_exams
from zero2chat.data.prompts import load_problems, safe_problems
from zero2chat.data.review_states import UNREVIEWED
from zero2chat.data.sources import Source, mixed, read_sources
from zero2chat.inference.openai_client import Endpoint
from zero2chat.inference.samplers import Ask, Said, ask_endpoint, ask_model
from zero2chat.models.chat_template import prepare_chat_template
from zero2chat.models.hardware import start_processes
from zero2chat.models.loading import context_length, load_model
from zero2chat.report.samples import Answers
from zero2chat.report.section import Section
from zero2chat.rewards import Reward, read_rewards
from zero2chat.stages import Stage

FILE = "answers.jsonl"  # in the run's folder: one line per prompt, with all of the teacher's answers
# Why an answer is not kept: the endpoint refused the prompt; it is empty; it is truncated; no reward function returned
# a reward; the score is too low; it is a duplicate; enough others were kept.
REASONS = ("refused", "empty", "cut", "unjudged", "wrong", "duplicate", "surplus")
_SHOWN = 6  # kept answers saved as samples, and rejected ones per reason
_QUIET_SECONDS = 10  # between two progress lines


@dataclass
class DistillArguments:
    """The teacher, its prompts, and which answers are kept."""

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
    temperature: float = 1.0
    max_completion_length: Annotated[int, Range(min=1)] = field(
        default=256, metadata={"help": "Maximum tokens per answer."}
    )
    eval_batch_size: Annotated[int, Range(min=1)] = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.teacher is None) == (self.endpoint is None):
            raise ValueError("teacher and endpoint: set exactly one of them")
        if self.temperature < 0 or (self.temperature == 0 and self.samples > 1):
            raise ValueError(f"temperature {self.temperature:g}: {self.samples} answers would be equal: set it above 0")
        # Checked here too, so that a recipe fails before its first step runs.
        read_sources(self.datasets)
        read_exams(self.decontaminate)
        _read_rewards(self.rewards)


def _read_rewards(entries: Sequence[Any]) -> list[Reward]:
    rewards = read_rewards(entries)
    for reward in rewards:
        if reward.needs_of_trainer:
            needed = ", ".join(reward.needs_of_trainer)
            raise UserError(f"rewards: '{reward.__name__}' needs {needed}, which only training has: use another")
    return rewards


def _load_prompts(sources: Sequence[Source], rewards: Sequence[Reward], decontamination: Decontamination) -> Dataset:
    """Load the problems, with `_source` and `_key` (a task row's key, or a dataset row's number)."""
    wanted = {column for reward in rewards for column in reward.needs} | {"row"}
    parts = []
    for source in sources:
        part = load_problems(source, wanted, answers=any("answer" in reward.needs for reward in rewards))
        for reward in rewards:
            reward.check(part, str(source.label))
        keys = [json.loads(row)["key"] for row in part["row"]] if source.task else range(len(part))
        part = part.add_column("_source", [source.label] * len(part)).add_column("_key", [str(key) for key in keys])
        parts.append(decontamination.clean(part, "prompt", str(source.label)))
    return mixed(parts, sources)[0]


# ---- who answers


def _model(args: DistillArguments, problems: Dataset) -> Ask:
    """Load a local model as the teacher. Raises `UserError` if it is missing, or if a prompt does not fit."""
    state = start_processes()
    model, tokenizer = load_model(
        args.teacher, args.dtype, args.model_revision, attn_implementation=args.attn_implementation
    )
    prepare_chat_template(tokenizer, args.chat_template_path)
    safe_problems(problems, tokenizer, context_length(model) - args.max_completion_length)
    model.to(state.device)
    return ask_model(model, tokenizer, args.samples, args.temperature, args.max_completion_length, args.eval_batch_size)


# ---- sampling answers, and selecting those to keep


def _collect(problems: Dataset, ask: Ask, rewards: Sequence[Reward], run: Run, args: DistillArguments) -> list[Any]:
    """Collect all answers to each problem with their scores, as saved in the run's file. Every rank must call this.

    Rank 0 judges and writes, batch by batch. Raises `UserError` if the teacher fails; its answers up to then are saved.
    """
    path, n = run.folder / FILE, len(problems)
    keys = [digest([row["prompt"], row.get("answer")]) for row in problems]
    lines = zip(read_jsonl(path), keys, strict=False)
    found = [line["said"] for line, _ in takewhile(lambda pair: pair[0]["problem"] == pair[1], lines)]
    at_once = max(1, 2 * args.eval_batch_size // args.samples)
    if args.teacher:
        found = found[: len(found) // at_once * at_once]  # so that sampling continues as without the interruption
    if is_main_process():  # drop a batch that a kill cut short
        lines_so_far = [_line(key, said) for key, said in zip(keys, found, strict=False)]
        write_atomically(path, "".join(lines_so_far))
    start = said_so = time.perf_counter()
    before = len(found)
    while len(found) < n:
        rows = problems.select(range(len(found), min(len(found) + at_once, n)))
        said, failure = ask(rows["prompt"][:], args.seed + len(found))
        if said and all(one["why"] == "refused" for some in (*found, *said) for one in some):
            raise UserError(f"endpoint: it refuses all {len(rows)} prompts: {said[0][0]['reason']}: check model")
        if is_main_process():
            _judge(rows.select(range(len(said))), said, rewards)
            with path.open("a", encoding="utf-8") as file:
                file.write("".join(_line(keys[len(found) + i], some) for i, some in enumerate(said)))
                file.flush()
                os.fsync(file.fileno())
        found += said
        if failure:
            raise UserError(
                f"{failure}; the answers to {len(found):,} of {n:,} prompts are saved: run it again to resume"
            )
        if is_main_process() and time.perf_counter() - said_so > _QUIET_SECONDS:
            said_so = time.perf_counter()
            left = (said_so - start) / (len(found) - before) * (n - len(found))
            print(f"answers to {len(found):,}/{n:,} prompts | ETA {left:.0f} s", flush=True)
            run.log({"step": len(found), "seconds": round(run.seconds, 1)})  # so that a killed attempt counts
    return found


def _line(key: str, said: Sequence[Said]) -> str:
    return json.dumps({"problem": key, "said": said}, ensure_ascii=False) + "\n"


def _message(said: Said) -> dict[str, str]:
    kept = {key: said[key] for key in ("reasoning_content", "content") if key in said}
    return {"role": "assistant"} | kept


def _judge(rows: Dataset, said: Sequence[list[Said]], rewards: Sequence[Reward]) -> None:
    """Give each answer a `score`: the weighted sum of the rewards that are not None, or None without any.

    Answers that cannot be kept anyway are not judged, and have no score.
    """
    judged = []
    for i, some in enumerate(said):
        for one in some:
            one["score"] = None
            if one["why"] is None and not one["content"].strip():
                one["why"] = "empty"
            if one["why"] is None:
                judged.append((i, one))
    if not judged:
        return
    columns = {key: [rows[i][key] for i, _ in judged] for key in rows.column_names if not key.startswith("_")}
    columns["prompts"] = columns.pop("prompt")
    completions = [[_message(one)] for _, one in judged]
    values = [reward(completions, **columns) for reward in rewards]
    for k, (_, one) in enumerate(judged):
        given = [(reward.weight, found[k]) for reward, found in zip(rewards, values, strict=True)]
        known = [weight * value for weight, value in given if value is not None]
        one["score"] = sum(known) if known else None


def choose(collected: Sequence[tuple[Any, Sequence[Said]]], keep: int, keep_above: float) -> list[list[str | None]]:
    """Return, per prompt, why each answer is not kept (one of `REASONS`), or None if it is kept."""
    seen: set[str] = set()

    def verdict(prompt: Any, one: Said, kept: int) -> str | None:
        if one["why"] is not None:
            return str(one["why"])
        if one["score"] is None:
            return "unjudged"
        if one["score"] <= keep_above:
            return "wrong"
        key = digest([prompt, " ".join(one["content"].casefold().split()), one.get("reasoning_content")])
        if key in seen:
            return "duplicate"
        seen.add(key)
        return "surplus" if kept >= keep else None

    verdicts: list[list[str | None]] = []
    for prompt, said in collected:
        verdicts.append([])
        for one in said:
            verdicts[-1].append(verdict(prompt, one, verdicts[-1].count(None)))
    return verdicts


def _measure(verdicts: Sequence[Sequence[str | None]], seed: int) -> dict[str, dict[str, Any]]:
    """Compute rates of kept and rejected answers. Answers to one prompt are correlated: intervals are over prompts."""

    def share(*found: str | None) -> dict[str, Any]:
        return stats.rate(sum(sum(why in found for why in some) / len(some) for some in verdicts), len(verdicts), seed)

    return {
        "prompts": {"value": len(verdicts)},
        "answers": {"value": sum(map(len, verdicts))},
        "conversations": {"value": sum(some.count(None) for some in verdicts)},
        "prompts_kept_rate": stats.rate(sum(None in some for some in verdicts), len(verdicts), seed),
        "pass_rate": share(None, "duplicate", "surplus"),
        "kept_rate": share(None),
        **{f"rejected_rate_{why}": share(why) for why in REASONS},
    }


def run(run: Run, args: DistillArguments) -> None:
    sources, rewards = read_sources(args.datasets), _read_rewards(args.rewards)
    endpoint = args.endpoint
    if endpoint and not is_main_process():  # one process asks, with many requests at once
        return
    decontamination = Decontamination(args.decontaminate)
    problems = _load_prompts(sources, rewards, decontamination)
    left_out = decontamination.finish(run)
    ask = (
        ask_endpoint(endpoint, args.samples, args.temperature, args.max_completion_length)
        if endpoint
        else _model(args, problems)
    )
    collected = _collect(problems, ask, rewards, run, args)
    if not is_main_process():
        return

    verdicts = choose(list(zip(problems["prompt"], collected, strict=True)), args.keep, args.keep_above)
    metrics = _measure(verdicts, args.seed) | left_out
    shown: Counter[str | None] = Counter()
    lines, samples = [], []
    origin = {"teacher": endpoint.model if endpoint else args.teacher, "temperature": args.temperature}
    for row, said, some in zip(problems, collected, verdicts, strict=True):
        for i, (one, why) in enumerate(zip(said, some, strict=True)):
            message = _message(one)
            if why is None:
                of_row = {"source": row["_source"], "key": row["_key"], "sample": i, "score": one["score"]}
                lines.append({"messages": [*row["prompt"], message], "origin": origin | of_row, "review": UNREVIEWED})
            shown[why] += 1
            if shown[why] <= _SHOWN:
                text = {"prompt": row["prompt"][-1]["content"], "completion": one["content"]}
                samples.append(text | {"kept": why is None, "why": why, "score": one["score"]})
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
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
