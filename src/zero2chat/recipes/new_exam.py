"""What `zero2chat new` evaluates before and after the training: the rows, and the scores that fit them."""

from __future__ import annotations

import contextlib
import io
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from datasets import Dataset
from trl import ModelConfig

from zero2chat.core.errors import UserError
from zero2chat.data.chat_formats import first_fitting, guessed_columns
from zero2chat.data.prepared import open_empty
from zero2chat.data.review_states import leave_out_rejected
from zero2chat.data.rows import InvalidRows, load_table
from zero2chat.data.sources import Source
from zero2chat.evaluation.own_data import SHAPES, OwnData, Rows, load_rows, read_own_data
from zero2chat.inference.generate import encode_prompts
from zero2chat.recipes.new_inputs import MARKS, Base, Part, choose_rewards, load_for_step

Key = tuple[tuple[str, str], ...]  # the turns of a prompt

_FEWEST_HELD_OUT = 4
_SHORT = 5  # words of an answer that can be expected to the letter
_STEP = 64  # tokens: lengths are multiples of it


@dataclass
class Exam:
    """The rows that the recipe evaluates before and after: an entry of the evaluate stage's `datasets`."""

    entry: dict[str, Any]
    says: str  # which rows
    notes: dict[str, str]


def choose_exam(parts: Sequence[Part], held_out: str | None, base: Base, most: int, longest: int) -> Exam | None:
    """Return the rows of `held_out`, or at most `most` rows split off from the data, with scores that fit them.

    Answers get at most `longest` tokens. Preference pairs have no reference answer: with them alone there is no exam.
    Raises `UserError` for rows that the evaluate stage would refuse.
    """
    part = next((part for stage in ("grpo", "sft") for part in parts if part.stage == stage), None)
    if held_out is not None:
        columns = load_table(Source(path=held_out)).column_names
        named = {} if first_fitting(SHAPES, columns) else guessed_columns(columns)
        entry, says = {"path": held_out} | ({"columns": named} if named else {}), f"the rows of {held_out}"
    elif part is not None:
        path = max(part.paths, key=part.counts.__getitem__)  # others may have few rows
        rows_there = part.counts[path]
        n = min(most, max(_FEWEST_HELD_OUT, rows_there // 10), rows_there // 2)
        for other in parts:
            if path in other.paths:  # no step trains on these rows
                other.splits[path], other.held = f"train[:-{n}]", n
        entry = part.source(path) | {"split": f"train[-{n}:]"}
        columns = load_table(Source(**part.source(path))).column_names
        if part.stage == "sft" and {"prompt", "completion", "answer"} <= set(columns):  # `answer` would come first
            entry["reference"] = "completion"
        says = f"the last {n} rows of {path}"
    else:
        return None
    entry["label"] = "held_out"
    with contextlib.redirect_stdout(io.StringIO()):
        (spec,) = read_own_data([entry | {"metrics": ["exact_match"]}])
        try:
            rows = load_rows(spec)
        except InvalidRows as refused:  # such as a conversation to train on that ends with the user's turn
            if held_out is not None or 2 * len(refused.rows) > refused.n:
                raise
            entry["invalid"] = spec.invalid = "drop"
            rows = load_rows(spec)
    _, tokenizer = open_empty(ModelConfig(model_name_or_path=base.path), base.template)
    asked = [len(ids) for ids in encode_prompts(tokenizer, rows.prompts, schemas=rows.schemas)]
    over = [i for i, length in enumerate(asked) if length >= base.context]
    if over and (held_out is not None or len(over) == len(asked)):
        row = f"{rows.names[asked.index(max(asked))]} has a prompt of {max(asked)} tokens"
        raise UserError(f"{entry['path']}: {row}, and the model's context is {base.context}: remove such rows")
    repeated = set(_repeated(parts, rows)) - set(over)
    left_out = {*over, *repeated}
    if repeated and (held_out is not None or len(asked) - len(left_out) < _FEWEST_HELD_OUT):
        says += f", {len(repeated)} with a prompt of the training data: their scores are too high"
        left_out = set(over)
    elif held_out is None:
        says += ", which are not trained on"
        says += f", without {len(repeated)} whose prompt other rows repeat" if repeated else ""
    if over:
        says += f", without {len(over)} whose prompt does not fit the model's context of {base.context:,} tokens"
    if left_out:
        with contextlib.redirect_stdout(io.StringIO()):
            entry["split"] = spec.split = _split_without([rows.names[i] for i in sorted(left_out)], spec)
            rows = load_rows(spec)
        asked = [length for i, length in enumerate(asked) if i not in left_out]
    scores, why = choose_scores(rows.prompts, rows.references, part is not None and part.stage == "grpo")
    lengths = [len(ids) for ids in tokenizer(rows.references, add_special_tokens=False)["input_ids"]]
    if "metrics" in scores and all(a + b <= base.context for a, b in zip(asked, lengths, strict=True)):
        scores["metrics"].append("perplexity")
        why += " perplexity is that of the reference answers."
    if rows.schemas:
        why += " The rows' own tools are shown; the model's call is then the answer, compared as text."
    needed = sorted(lengths)[math.ceil(0.95 * len(lengths)) - 1] + _STEP if "metrics" in scores else longest
    entry |= scores | {"max_new_tokens": min(longest, _STEP * math.ceil(needed / _STEP))}
    return Exam(entry, says, {"datasets": f"The model answers {says}. {why}"})


def _repeated(parts: Sequence[Part], rows: Rows) -> list[int]:
    """Return which rows have a prompt that a step trains on too: its other rows, or another format, may repeat it."""
    with contextlib.redirect_stdout(io.StringIO()):
        trained = {prompt for part in parts for source in part.sources() for prompt in _prompts(part.stage, source)}
    return [i for i, prompt in enumerate(rows.prompts) if _as_key(prompt) in trained]


def _prompts(stage: str, entry: dict[str, Any]) -> Iterator[Key]:
    """Return the prompts of all rows of a step; of a conversation, those of all its answers."""
    rows, _ = load_for_step(stage, Source(**entry))
    if stage != "sft":
        yield from map(_as_key, rows["prompt"])
        return
    for turns in map(json.loads, rows["messages"]):
        yield from (_as_key(turns[:n]) for n, turn in enumerate(turns, 1) if turn["role"] == "user")


def _as_key(prompt: Sequence[dict[str, Any]]) -> Key:
    return tuple((turn["role"], turn["content"].strip()) for turn in prompt)


def _split_without(names: Sequence[str], spec: OwnData) -> str:
    """Return the split of a file's last rows without the rows of these names."""
    states = [None if state is None else str(state) for state in load_table(spec)["review"]]
    n = len(states)
    # A name has the row's number without the rejected rows.
    named = leave_out_rejected(Dataset.from_dict({"row": list(range(n)), "review": states}), spec.label)["row"]
    cuts = [-1, *(named[int(name.removeprefix(f"{spec.label}, row ").split()[0])] for name in names), n]
    return "+".join(f"train[{a + 1 - n}:{b - n or ''}]" for a, b in pairwise(cuts) if b > a + 1)


def choose_scores(
    prompts: Sequence[Sequence[dict[str, Any]]], references: Sequence[str], verified: bool
) -> tuple[dict[str, Any], str]:
    """Return `rewards` or `metrics` for these rows, and why. `verified`: grpo's rewards, if the references allow it."""
    texts = [str(turn["content"]) for prompt in prompts for turn in prompt]
    marked = any(mark in text for text in references for mark in MARKS)
    short = statistics.median(len(text.split()) for text in references) <= _SHORT
    if verified and (marked or short):
        rewards, why = choose_rewards(texts, references)
        return {"rewards": rewards}, why
    scores: dict[str, Any] = {"metrics": ["exact_match", "f1"] if short and not marked else ["f1"]}
    why = "f1 is that of the words which answer and reference share."
    if marked:
        scores["rewards"], reason = choose_rewards(texts, references)
        why = f"{reason} {why}"
    return scores, why
