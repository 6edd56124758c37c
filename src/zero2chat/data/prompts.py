"""RL problems: prompts, with final answers if known, from tasks and datasets."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, Features, Value, concatenate_datasets
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core.config import build
from zero2chat.core.errors import UserError
from zero2chat.data.chat_formats import asked_in, read_tools, refuse_empty, text_turns
from zero2chat.data.documents import read_text
from zero2chat.data.encoding import which_fit
from zero2chat.data.preferences import MESSAGES, Messages
from zero2chat.data.rows import first_rows, load_table, refuse_unread, require_column
from zero2chat.data.sources import Source
from zero2chat.inference.generate import encode_prompts
from zero2chat.models.tokenization import neutral
from zero2chat.rewards import GIVEN

if TYPE_CHECKING:
    from zero2chat.inference.tool_format import Tools
    from zero2chat.rewards import Reward

# Columns that a trainer gives to rewards itself, or that TRL takes for pictures
_TAKEN = (*GIVEN, "image", "images")
_TASK_PROMPTS = 50  # default number of prompts from a task


def load_problems(source: Source, wanted: Collection[str] = (), answers: bool = True) -> Dataset:
    """Load `prompt` (messages), `answer` (str) and a dataset's other columns; for a task, its training rows.

    Of a task's own columns, `task` (its name) and `row` (its row as JSON), only those in `wanted` are included. Raises
    `UserError` if a dataset lacks prompt or answer, or with the rows whose prompt or answer is invalid, or that have
    tools; without `answers` it may have none.
    """
    return _load_named(source, wanted, answers)[0]


def _load_named(source: Source, wanted: Collection[str], answers: bool) -> tuple[Dataset, list[str]]:
    """Return the problems of `load_problems`, and the names of a dataset's rows."""
    if source.retell is not None:
        raise UserError(f"{source.label}: retell: pages are not problems and have no reward: remove it")
    if source.task is not None:
        rows = tasks.load(source.task).rows("train", source.seed, source.n, **source.options)
        return task_problems(source.task, rows, wanted), []
    refuse_unread(source, {"prompt", "answer", "system", "tools", *wanted}, others=True)
    found = first_rows(load_table(source), source.n)
    for column in ("prompt", "answer") if answers else ("prompt",):
        require_column(found, column, source.label, "columns")
    has_answers, has_tools = (column in found.column_names for column in ("answer", "tools"))

    def read(row: dict[str, Any], where: str) -> dict[str, Any]:
        prompt = text_turns(asked_in("prompt", row, where), f"{where}: prompt")
        if not prompt or prompt[-1]["role"] != "user":
            raise UserError(f"{where}: prompt: does not end with the user's turn")
        refuse_empty(prompt, where)
        kept: dict[str, Any] = {"prompt": prompt}
        if has_tools and read_tools(row["tools"], where):
            raise UserError(f"{where}: tools: only sft and evaluate show a row's tools: remove the column")
        if has_answers:
            kept["answer"] = _answer(row["answer"], where, answers, answers or "answer" in wanted)
        return kept

    numbered = found.read(read)
    features = {"prompt": MESSAGES} | ({"answer": Value("string")} if has_answers else {})
    problems = Dataset.from_list([row for _, row in numbered], features=Features(features))
    numbers = [number for number, _ in numbered]
    names = [name for name in found.column_names if name not in (*features, "tools", *_TAKEN)]
    others = found.typed(names, numbers, numeric=True)
    whole = concatenate_datasets([problems, others], axis=1) if others.column_names else problems
    return whole, list(map(found.where, numbers))


def _answer(value: Any, where: str, required: bool, used: bool) -> str | None:
    """Return an answer as text; None for a missing one, and for one of another type that is not `used`."""
    if value is None or (isinstance(value, str) and not value.strip()):
        if required:
            raise UserError(f"{where}: no answer: remove the row")
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        if used:
            raise UserError(f"{where}: answer: expected text or a number, got {type(value).__name__}")
        return None
    return value if isinstance(value, str) else number_as_text(value, where)


def number_as_text(value: float, where: str) -> str:
    """Return an answer that is a number as text, a whole one without a point: pandas stores 16 as 16.0 if another row
    has none. Raises `UserError` if it is not finite."""
    if isinstance(value, int):  # of any size: one of 400 digits is no float
        return str(value)
    if not math.isfinite(value):
        raise UserError(f"{where}: answer: expected text or a number, got {value}: remove the row")
    return str(int(value)) if value.is_integer() else str(value)


def load_parts(sources: Sequence[Source], rewards: Sequence[Reward], answers: bool = True) -> list[Dataset]:
    """Load each source's problems. Also raises `UserError` if one lacks a column that a reward function needs."""
    wanted = {column for reward in rewards for column in reward.needs}
    parts = []
    for source in sources:
        part, names = _load_named(source, wanted, answers)
        for reward in rewards:
            reward.check(part, str(source.label), names)
        parts.append(part)
    return parts


def task_problems(name: str, rows: Sequence[tasks.Row], wanted: Collection[str] = ()) -> Dataset:
    """Return the same columns for a task's rows."""
    task = tasks.load(name)
    made = Dataset.from_list(
        [{"prompt": task.prompt(row), "answer": row["answer"]} for row in rows],
        features=Features({"prompt": MESSAGES, "answer": Value("string")}),
    )
    columns = {key: [row[key] for row in rows] for key in rows[0] if key in wanted}
    columns |= {"task": [name] * len(rows), "row": [json.dumps(row) for row in rows]}
    for key in sorted(set(columns) & set(wanted) - {"prompt", "answer"}):
        made = made.add_column(key, columns[key])
    return made


def encode_problems(
    problems: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    tools: Tools | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> tuple[Dataset, list[list[int]]]:
    """Return the problems with control tokens neutralised, and the ids of each prompt, as the trainers encode them.
    Raises `UserError` if the chat template rejects one."""

    def clean(row: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": neutral(row["prompt"], tokenizer)}

    problems = problems.map(clean, load_from_cache_file=False)
    try:
        encoded = encode_prompts(tokenizer, problems["prompt"][:], tools, template=template_kwargs)
    except TemplateError as error:  # for example an unknown role
        raise UserError(f"datasets: the chat template refuses a prompt: {error}") from error
    return problems, encoded


def safe_problems(
    problems: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    room: int,
    longest: int | None = None,
    tools: Tools | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> Dataset:
    """Return the problems with control tokens neutralised, without prompts of over `longest` tokens.

    Raises `UserError` if none remains, or if one has over `room` tokens.
    """
    problems, encoded = encode_problems(problems, tokenizer, tools, template_kwargs)
    kept = which_fit_the_context([len(ids) for ids in encoded], room, longest)
    return problems if len(kept) == len(problems) else problems.select(kept)


def which_fit_the_context(lengths: Sequence[int], room: int, longest: int | None = None) -> list[int]:
    """Return the indices of the prompts of at most `longest` tokens. Raises `UserError` as `safe_problems`."""
    kept = list(range(len(lengths)))
    if longest is not None:
        what = "prompts are over"
        kept = which_fit(lengths, longest, "drop", "datasets", what, "row {}".format, "max_prompt_length")
    left = [lengths[i] for i in kept]
    if max(left) > room:
        row = left.index(max(left))
        raise UserError(
            f"datasets: {sum(n > room for n in left)} of {len(left)} prompts leave no room for "
            f"max_completion_length in the model's context: the prompt limit is {room} tokens, but row {row} has "
            f"{left[row]}"
        )
    return kept


def read_prompts(task: str | None, path: str | None, n: int | None = None, seed: int = 0) -> list[Messages]:
    """Return the first `n` prompts of a task's training rows, or of a file: .txt (one per line) or .jsonl.

    Duplicates are removed. Raises `UserError` if there are no prompts.
    """
    n = _TASK_PROMPTS if task is not None and n is None else n
    settings = {"task": task, "path": path, "n": n, "seed": seed, "label": task or "prompts"}
    (source,) = build([Source], settings, "rank")
    kind = Path(path or "").suffix
    if path is not None and kind not in (".txt", ".jsonl"):
        raise UserError(f"prompts: {path}: give a .txt file with one prompt per line, or a .jsonl file with `prompt`")
    if kind == ".txt":
        lines = [line.strip() for line in read_text(Path(str(path))).split("\n") if line.strip()]
        found = [[{"role": "user", "content": line}] for line in lines[:n]]
    else:
        found = list(load_problems(source, answers=False)["prompt"])
    if not found:
        raise UserError(f"prompts: {path}: the file is empty: write one prompt per line")
    return list({prompt_key(prompt): prompt for prompt in found}.values())


def prompt_key(prompt: Messages) -> str:
    return json.dumps([[message["role"], message["content"]] for message in prompt])
