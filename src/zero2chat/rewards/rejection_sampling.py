"""Rejection sampling: collect a teacher's answers, score them by rewards, and select the answers to keep."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from datasets import Dataset
from tqdm import tqdm

from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import digest
from zero2chat.core.runs import Run, is_main_process, read_jsonl, write_jsonl
from zero2chat.inference.samplers import Ask, Said
from zero2chat.rewards import Reward

FILE = "answers.jsonl"  # in the run's folder: one line per prompt, with all of the teacher's answers
# Why an answer is not kept: the endpoint refused the prompt; it is empty; it is truncated; no reward function returned
# a reward; the score is too low; it is a duplicate; enough others were kept.
REASONS = ("refused", "empty", "cut", "unjudged", "wrong", "duplicate", "surplus")


def in_saved_batches(
    run: Run,
    file: str,
    keys: Sequence[str],
    at_once: int,
    work: Callable[[range, list[dict[str, Any]]], tuple[Sequence[Mapping[str, Any]], UserError | None]],
    what: str,
    whole: bool = True,
) -> list[dict[str, Any]]:
    """Return a line for each problem, computed batch by batch and saved in the run's `file`. Every rank must call this.

    `work(rows, lines)` gets the lines of earlier rows. It returns the lines of `rows`, and any error that stopped it
    early. An interrupted run resumes after the lines whose problems, identified by `keys`, are unchanged; with `whole`,
    after a whole batch, so that sampling continues as if uninterrupted. Raises `UserError` if the work fails.
    """
    path, n = run.folder / file, len(keys)
    saved = zip(read_jsonl(path), keys, strict=False)
    lines = [line for line, _ in takewhile(lambda pair: pair[0].get("problem") == pair[1], saved)]
    if whole and len(lines) < n:
        lines = lines[: len(lines) // at_once * at_once]
    if is_main_process():  # drop a batch that a kill cut short
        write_jsonl(path, lines)
    progress = tqdm(desc=what, initial=len(lines), total=n, mininterval=10, disable=not is_main_process())
    while len(lines) < n:
        rows = range(len(lines), min(len(lines) + at_once, n))
        values, failure = work(rows, lines)
        more = [{"problem": keys[i]} | dict(value) for i, value in zip(rows, values, strict=False)]
        if is_main_process():
            with path.open("a", encoding="utf-8") as opened:
                opened.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in more)
                opened.flush()
                os.fsync(opened.fileno())
        lines += more
        progress.update(len(more))
        if failure:
            raise UserError(f"{failure}; the {what} {len(lines):,} of {n:,} prompts are saved: run again to resume")
    return lines


def collect(
    problems: Dataset, ask: Ask, rewards: Sequence[Reward], run: Run, at_once: int, seed: int, in_batches: bool
) -> list[Any]:
    """Collect all answers to each problem with their scores, as saved in the run's file. Every rank must call this.

    Rank 0 judges and writes, `at_once` problems at a time; `in_batches` is passed to `in_saved_batches` as `whole`.
    Raises `UserError` if the teacher fails; earlier answers are saved.
    """

    def work(rows: range, lines: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], UserError | None]:
        batch = problems.select(rows)
        said, failure = ask(batch["prompt"][:], seed + len(lines))
        if said and all(one["why"] == "refused" for some in (*(line["said"] for line in lines), *said) for one in some):
            raise UserError(f"endpoint: all {len(rows)} prompts were refused ({said[0][0]['reason']}): check `model`")
        if is_main_process():
            _judge(batch.select(range(len(said))), said, rewards)
            run.log({"step": rows.stop, "seconds": round(run.seconds, 1)})  # so that a killed attempt counts
        return [{"said": some} for some in said], failure

    keys = [digest([row["prompt"], row.get("answer")]) for row in problems]
    return [line["said"] for line in in_saved_batches(run, FILE, keys, at_once, work, "answers to", in_batches)]


def message_of(said: Said) -> dict[str, str]:
    """Return an answer as an assistant's message."""
    texts = {key: said[key] for key in ("reasoning_content", "content") if key in said}
    return {"role": "assistant"} | texts


def _judge(rows: Dataset, said: Sequence[list[Said]], rewards: Sequence[Reward]) -> None:
    """Give each answer a `score`: the weighted sum of the rewards that are not None, or None if all are.

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
    completions = [[message_of(one)] for _, one in judged]
    values = [reward(completions, **columns) for reward in rewards]
    for k, (_, one) in enumerate(judged):
        given = [(reward.weight, scores[k]) for reward, scores in zip(rewards, values, strict=True)]
        known = [weight * value for weight, value in given if value is not None]
        one["score"] = sum(known) if known else None


def choose(collected: Sequence[tuple[Any, Sequence[Said]]], keep: int, keep_above: float) -> list[list[str | None]]:
    """Return, per prompt and answer, why the answer is not kept (one of `REASONS`), or None if it is kept."""
    seen = set[str]()
    verdicts: list[list[str | None]] = []
    for prompt, said in collected:
        reasons: list[str | None] = []
        for one in said:
            why = one["why"]
            if why is None:
                why = "unjudged" if one["score"] is None else "wrong" if one["score"] <= keep_above else None
            if why is None:
                key = digest([prompt, " ".join(one["content"].casefold().split()), one.get("reasoning_content")])
                why = "duplicate" if key in seen else "surplus" if reasons.count(None) >= keep else None
                seen.add(key)
            reasons.append(why)
        verdicts.append(reasons)
    return verdicts


def measure(verdicts: Sequence[Sequence[str | None]], seed: int) -> dict[str, dict[str, Any]]:
    """Compute rates of kept and rejected answers. Answers to a prompt are correlated, so intervals are over prompts."""

    def share(*kinds: str | None) -> dict[str, Any]:
        return stats.rate(sum(sum(why in kinds for why in some) / len(some) for some in verdicts), len(verdicts), seed)

    return {
        "prompts": {"value": len(verdicts)},
        "answers": {"value": sum(map(len, verdicts))},
        "conversations": {"value": sum(some.count(None) for some in verdicts)},
        "prompts_kept_rate": stats.rate(sum(None in some for some in verdicts), len(verdicts), seed),
        "pass_rate": share(None, "duplicate", "surplus"),
        "kept_rate": share(None),
        **{f"rejected_rate_{why}": share(why) for why in REASONS},
    }
