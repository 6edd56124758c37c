"""Problems for RL, from tasks and datasets: prompts, with final answers if known."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, Features, List, Value, concatenate_datasets
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core.config import build
from zero2chat.core.errors import UserError
from zero2chat.core.registry import modules
from zero2chat.data.chat_formats import Shape, refuse_empty, refuse_tools, text_turns
from zero2chat.data.documents import read_text
from zero2chat.data.encoding import which_fit
from zero2chat.data.preferences import MESSAGES, Messages
from zero2chat.data.rows import first_rows, load_table, require_column
from zero2chat.data.sources import Source
from zero2chat.inference.generate import encode_prompts
from zero2chat.inference.tool_format import row_schemas
from zero2chat.models.tokenization import neutral
from zero2chat.rewards import GIVEN
from zero2chat.tools.environments import opened, worlds_of

if TYPE_CHECKING:
    from zero2chat.inference.tool_format import Tools
    from zero2chat.rewards import Reward

_PROMPT = Shape("prompt", ("prompt",))
# Columns that a trainer gives to rewards itself, that TRL takes for pictures, or that this package adds
_TAKEN = (*GIVEN, "image", "images", "_row", "_key", "_source")


def load_problems(
    source: Source,
    rewards: Sequence[Reward] = (),
    answers: bool = True,
    wanted: Collection[str] = (),
) -> Dataset:
    """Load `prompt` (messages), `answer` (str) and a dataset's other columns. A task gives its training rows.

    If `rewards` need them or `wanted` names them, adds more columns: a task's name (`task`), its row as JSON (`row`),
    and the row number (`_row`). Raises `UserError` if a column is missing, and for rows with tools, or with an invalid
    prompt or answer. If `answers` is False, answers may be missing.
    """
    wanted = {*wanted, *(column for reward in rewards for column in reward.needs)}
    if source.retell is not None:
        raise UserError(f"{source.label}: `retell` makes pages, which no reward can judge: remove `retell`")
    if source.task is not None:
        rows = tasks.load(source.task).rows("train", source.seed, source.n, **source.options)
        problems, numbers, names = task_problems(source.task, rows, wanted), list(range(len(rows))), list[str]()
    else:
        problems, numbers, names = _read_problems(source, answers)
        named = [("worlds", name) for name in {*worlds_of(problems)} - {None}]
        if "task" in wanted & {*problems.column_names}:
            named += [("tasks", name) for name in set(problems["task"])]
        for kind, name in named:  # data must not choose what is imported
            tasks.known(name, list(modules(kind)), f"{source.label}: {kind[:-1]}")
    for reward in rewards:
        reward.check(problems, str(source.label), names)
    return problems.add_column("_row", numbers) if "_row" in wanted else problems


def _read_problems(source: Source, answers: bool) -> tuple[Dataset, list[int], list[str]]:
    """Return the problems of a dataset, and the number and name of each problem's row."""
    table = first_rows(load_table(source), source.n)
    for column in ("prompt", "answer") if answers else ("prompt",):
        require_column(table, column, source.label, "columns")
    has_answers = "answer" in table.column_names

    def problem(row: dict[str, Any], where: str) -> dict[str, Any]:
        prompt = text_turns(_PROMPT.question(row, where), f"{where}: prompt")
        if not prompt or prompt[-1]["role"] != "user":
            raise UserError(f"{where}: prompt: does not end with the user's turn")
        refuse_empty(prompt, where)
        refuse_tools(row, where)
        answer = {"answer": _answer(row["answer"], where, answers)} if has_answers else {}
        return {"prompt": prompt} | answer

    numbers, entries = zip(*table.read(problem), strict=True)
    features = {"prompt": MESSAGES} | ({"answer": Value("string")} if has_answers else {})
    problems = Dataset.from_list(list(entries), features=Features(features))
    others = table.typed([name for name in table.column_names if name not in (*features, "tools", *_TAKEN)], numbers)
    whole = concatenate_datasets([problems, others], axis=1) if others.column_names else problems
    return whole, list(numbers), list(map(table.where, numbers))


def _answer(value: Any, where: str, required: bool) -> str | None:
    """Return an answer as text. A missing or invalid answer gives None, or raises `UserError` if `required`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_as_text(value, where)
    if isinstance(value, str) and value.strip():
        return value
    if required:
        raise UserError(f"{where}: answer: expected text or a number, got {value!r:.40}: remove the row")
    return None


def number_as_text(value: float, where: str) -> str:
    """Return a number as text. Whole numbers get no decimal point, because pandas stores 16 as 16.0 if another row has
    no answer. Raises `UserError` if the number is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: answer: expected text or a number, got {value}: remove the row")
    return str(int(value) if value == int(value) else value)


def task_problems(name: str, rows: Sequence[tasks.Row], wanted: Collection[str] = ()) -> Dataset:
    """Return a task's rows as problems, with the columns of `load_problems`."""
    task = tasks.load(name)
    prompts = [task.prompt(row) for row in rows]
    message = {key: Value("string") for prompt in prompts for turn in prompt for key in turn}  # some have reasoning
    made = Dataset.from_list(
        [{"prompt": prompt, "answer": row["answer"]} for prompt, row in zip(prompts, rows, strict=True)],
        features=Features({"prompt": List(message), "answer": Value("string")}),
    )
    wanted = {*wanted, "environment", "row"} if "environment" in rows[0] else wanted
    columns = {key: [row[key] for row in rows] for key in rows[0] if key in wanted}
    columns |= {"task": [name] * len(rows), "row": [json.dumps(row) for row in rows]}
    for key in sorted(set(columns) & set(wanted) - {"prompt", "answer"}):
        made = made.add_column(key, columns[key])
    return made


def alike(parts: Sequence[Dataset]) -> list[Dataset]:
    """Give all parts' messages the same fields: those of some tasks have reasoning."""
    widest = max((part.features["prompt"] for part in parts), key=lambda feature: len(feature.feature))
    return [part.cast_column("prompt", widest) for part in parts]


def fitting_problems(
    problems: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    room: int,
    longest: int | None = None,
    tools: Tools | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> tuple[Dataset, list[list[int]], list[int]]:
    """Neutralise control tokens, add the worlds' first observations, and drop prompts with more than `longest` tokens.
    Returns the problems, the ids of each prompt as trainers encode it, and the lengths of the dropped prompts.

    Raises `UserError` if the chat template rejects a prompt, if no prompt remains, or if one exceeds `room` tokens.
    """
    begin = lambda row: {"prompt": neutral(opened(row["prompt"], row), tokenizer)}  # noqa: E731
    problems, schemas = problems.map(begin, load_from_cache_file=False), row_schemas(worlds_of(problems), tools)
    try:
        ids = encode_prompts(tokenizer, problems["prompt"][:], tools, schemas, template_kwargs)
    except TemplateError as error:  # for example an unknown role
        raise UserError(f"datasets: the chat template refuses a prompt: {error}") from error
    dropped: list[int] = []
    if longest is not None:
        lengths, what = list(map(len, ids)), "prompts are over"
        indices, dropped = which_fit(lengths, longest, "drop", "datasets", what, "row {}".format, "max_prompt_length")
        problems, ids = problems.select(indices) if dropped else problems, [ids[i] for i in indices]
    over = [(len(one), row) for row, one in enumerate(ids) if len(one) > room]
    if over:
        length, row = max(over, key=lambda pair: pair[0])  # the first of the longest
        raise UserError(
            f"datasets: {len(over)} of {len(ids)} prompts leave no room for max_completion_length in the model's "
            f"context: row {row} has {length} tokens, at most {room}: lower max_completion_length, or remove such rows"
        )
    return problems, ids, dropped


def read_prompts(task: str | None, path: str | None, n: int | None = None, seed: int = 0) -> list[Messages]:
    """Return the first `n` prompts, without duplicates, from a task's training rows or from a file. In a .txt file,
    each line is a prompt; in other files, each row. Raises `UserError` if there are no prompts."""
    n = 50 if task is not None and n is None else n
    settings = {"task": task, "path": path, "n": n, "seed": seed, "label": task or "prompts"}
    (source,) = build([Source], settings, "rank")
    if Path(path or "").suffix == ".txt":
        lines = [line.strip() for line in read_text(Path(str(path))).split("\n") if line.strip()]
        prompts = [[{"role": "user", "content": line}] for line in lines[:n]]
    else:
        prompts = list(load_problems(source, answers=False)["prompt"])
    if not prompts:
        raise UserError(f"prompts: {path}: the file is empty: write one prompt per line")
    return list({prompt_key(prompt): prompt for prompt in prompts}.values())


def prompt_key(prompt: Messages) -> str:
    return json.dumps([[message["role"], message["content"]] for message in prompt])
