"""Rejection sampling: a teacher's answers, judged by rewards as they come, and which of them are kept."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from datasets import Dataset

from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import digest
from zero2chat.core.runs import Run, is_main_process, read_jsonl, write_atomically
from zero2chat.inference.samplers import Ask, Said
from zero2chat.rewards import Reward, read_rewards

FILE = "answers.jsonl"  # in the run's folder: one line per prompt, with all of the teacher's answers
# Why an answer is not kept: the endpoint refused the prompt; it is empty; it is truncated; no reward function returned
# a reward; the score is too low; it is a duplicate; enough others were kept.
REASONS = ("refused", "empty", "cut", "unjudged", "wrong", "duplicate", "surplus")
_QUIET_SECONDS = 10  # between two progress lines


def read_judges(entries: Sequence[Any]) -> list[Reward]:
    """`read_rewards`, without those that need a trainer."""
    rewards = read_rewards(entries)
    for reward in rewards:
        if reward.needs_of_trainer:
            needed = ", ".join(reward.needs_of_trainer)
            raise UserError(f"rewards: '{reward.__name__}' needs {needed}, which only training has: use another")
    return rewards


def collect(
    problems: Dataset, ask: Ask, rewards: Sequence[Reward], run: Run, at_once: int, seed: int, in_batches: bool
) -> list[Any]:
    """Collect all answers to each problem with their scores, as saved in the run's file. Every rank must call this.

    Rank 0 judges and writes, `at_once` problems at a time; `in_batches`: a resumed run begins with a whole batch, so
    that sampling continues as without the interruption. Raises `UserError` if the teacher fails; its answers up to then
    are saved.
    """
    path, n = run.folder / FILE, len(problems)
    keys = [digest([row["prompt"], row.get("answer")]) for row in problems]
    lines = zip(read_jsonl(path), keys, strict=False)
    found = [line["said"] for line, _ in takewhile(lambda pair: pair[0]["problem"] == pair[1], lines)]
    if in_batches:
        found = found[: len(found) // at_once * at_once]
    if is_main_process():  # drop a batch that a kill cut short
        lines_so_far = [_line(key, said) for key, said in zip(keys, found, strict=False)]
        write_atomically(path, "".join(lines_so_far))
    start = said_so = time.perf_counter()
    before = len(found)
    while len(found) < n:
        rows = problems.select(range(len(found), min(len(found) + at_once, n)))
        said, failure = ask(rows["prompt"][:], seed + len(found))
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


def message_of(said: Said) -> dict[str, str]:
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
    completions = [[message_of(one)] for _, one in judged]
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


def measure(verdicts: Sequence[Sequence[str | None]], seed: int) -> dict[str, dict[str, Any]]:
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
