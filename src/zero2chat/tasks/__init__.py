"""Tasks that a model can be trained and evaluated on, one module per task.

A task is a module with three functions:

- `rows(split, seed, n, **options)`: n distinct rows, the same in every process; a smaller n gives the first of them.
  A row is a JSON-serializable dict with at least `key` (determines the split), `question`, `answer`, and `kind` for
  `draw`; all rows of a task have the same columns.
- `demonstration(row, rng, style="worked")`: a correct answer, with wording chosen by `rng`.
- `score(row, completion)`: 1.0 or 0.0, strict about the answer and tolerant about the words around it.

A task may also have:

- `prompt(row)`: messages that end with a user's turn. By default the question is the only turn.
- `documents(seed, n, **options)`: n plain texts for pretraining, none made from a validation or test row.
- `use_tools(row, rng, call, style="worked")`: an answer found with tools. `call(name, argument)` runs a tool, adds call
  and result to the conversation, and returns the text, or None if the call failed. Without this function a task's
  demonstrations do not use tools.
- `episode(row, rng, style="worked", failing=0.0)`: a demonstration of many calls, for rows with an `environment`: the
  messages from the prompt to the answer, and the functions that they call.
- `taste(row, completion)`: the gold reward. The preference stages only see noisy comparisons made from this reward.
- `said(row, completion)`: the short form of a completion's answer, equal for different wordings of the same answer;
  None if the completion abstains.
- `stated(row)`: the facts that a right answer states, in the answer's order.
- `declines(text)`: whether a text abstains, for tasks with questions that the model cannot answer.
- `MEANS`: what a score of 1 and of 0 mean, in words for the report, if not that an answer is correct or wrong.
- `STYLES`: the styles of `demonstration`, `use_tools` and `episode`, if there are others than `worked`.
- `FETCHES = True`, if its rows come over the network: recipes are then checked without loading rows.

`load` adds checks of split, options and style before each call, so the module's functions need not check these.

Training data, rewards and evaluation all use tasks. Every task splits by `in_split`, so held-out rows are held out
everywhere.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

from zero2chat.core.errors import UserError, nearest
from zero2chat.core.registry import modules, own_module

Row = dict[str, Any]
Message = dict[str, str]
Taste = Callable[[Row, str], float]
CallTool = Callable[[str, str], str | None]

SPLITS = ("train", "validation", "test")
SHARES = (0.8, 0.1, 0.1)
_FUNCTIONS = ("rows", "demonstration", "score")
_signature = functools.cache(inspect.signature)


@dataclass(frozen=True)
class Task:
    """A task's functions, with checks of split, options and style before each call."""

    name: str
    rows: Callable[..., list[Row]]
    prompt: Callable[[Row], list[Message]]
    demonstration: Callable[..., str]
    score: Callable[[Row, str], float]
    documents: Callable[..., list[str]]
    use_tools: Callable[..., str] | None = None
    episode: Callable[..., tuple[list[Any], list[Any]]] | None = None
    taste: Taste | None = None
    said: Callable[[Row, str], str | None] | None = None
    stated: Callable[[Row], list[str]] | None = None
    declines: Callable[[str], bool] | None = None
    means: tuple[str, str] | None = None
    fetches: bool = False  # its rows come over the network: they are only loaded when needed


def names() -> list[str]:
    """Return the short names of the built-in tasks."""
    return sorted(modules("tasks"))


def load(name: str) -> Task:
    """Load a task by its short name (`facts`) or by a module's dotted path (`my_package.my_task`).

    Raises `UserError` if the module is missing, or lacks a required function.
    """
    if not all(part.isidentifier() for part in name.split(".")) or ("." not in name and name not in names()):
        known = nearest(name, names()) or f"; known: {', '.join(names())}"
        raise UserError(f"task '{name[:100]}': no such task{known}; or give a module's dotted path")
    module = own_module(modules("tasks").get(name, name), f"task '{name}': cannot import it")
    missing = [function for function in _FUNCTIONS if not callable(getattr(module, function, None))]
    if missing:
        raise UserError(f"task '{name}': {module.__name__} lacks {', '.join(missing)}")
    acting = {key: getattr(module, key, None) for key in ("use_tools", "episode")}
    optional = {key: getattr(module, key, None) for key in ("taste", "said", "stated", "declines")}
    return Task(
        name=name,
        rows=_checked(name, module, module.rows),
        prompt=getattr(module, "prompt", ask),
        demonstration=_checked(name, module, module.demonstration),
        score=_scored(name, module),
        documents=_documents(name, module),
        fetches=getattr(module, "FETCHES", False),
        means=getattr(module, "MEANS", None),
        **{key: function and _checked(name, module, function) for key, function in acting.items()},
        **optional,
    )


def load_taste(name: str) -> Taste:
    """Return the task's `taste`. Raises `UserError` if it has none."""
    taste = load(name).taste
    if taste is None:
        raise UserError(f"task '{name}': has no `taste` to rank answers: use a task such as lines")
    return taste


def _checked(name: str, module: ModuleType, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `function` with checks for unknown options, splits and styles."""

    @functools.wraps(function)
    def checked(*args: Any, **given: Any) -> Any:
        check_options(name, function, given)
        values = _signature(function).bind(*args, **given).arguments
        if "split" in values:
            known(values["split"], SPLITS, "split")
        if "style" in values:
            known(values["style"], getattr(module, "STYLES", ("worked",)), f"{name}: style")
        return function(*args, **given)

    return checked


def _scored(name: str, module: ModuleType) -> Callable[[Row, str], float]:
    def score(row: Row, completion: str) -> float:
        given = module.score(row, completion)
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # raised for None, text and arrays
            if math.isfinite(given):  # also NumPy's booleans and tensors, as rewards may be
                return float(given)
        raise UserError(f"task '{name}': score returned {given!r}, not a finite number")

    return score


def check_options(name: str, function: Callable[..., Any], given: Iterable[str]) -> None:
    """Raises `UserError` for an option that the task's function does not have, without calling it."""
    parameters = _signature(function).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    options = [parameter for parameter in parameters if parameter not in ("split", "seed", "n")]
    for key in given:
        if key not in parameters and not takes_any:
            hint = nearest(key, options) if options else "; the task takes no options"
            raise UserError(f"task '{name}': unknown option '{key}'{hint}")


# What a check has made, because a recipe's steps often name the same rows: how many, and the first one.
_made: dict[tuple[Any, ...], tuple[int, list[Row]]] = {}


def check_rows(name: str, split: str, seed: int, n: int, options: Mapping[str, Any]) -> list[Row]:
    """Return the first of n rows, or no row of a task that fetches. Raises `UserError` for an option or n that the task
    does not have.
    """
    task = load(name)
    if task.fetches:
        check_options(name, task.rows, options)
        return []
    key = (inspect.unwrap(task.rows), Path.cwd(), split, seed, repr(options))
    made, first = _made.get(key, (-1, []))
    if n > made:
        first = task.rows(split, seed, n, **options)[:1]
        _made[key] = n, first
    return first


def _documents(name: str, module: ModuleType) -> Callable[..., list[str]]:
    if hasattr(module, "documents"):
        return _checked(name, module, module.documents)

    def none(*args: Any, **options: Any) -> list[str]:
        raise UserError(f"task '{name}': no documents to pretrain on: use another task")

    return none


# ---- helpers for tasks


def known(value: Any, allowed: Sequence[Any], where: str) -> None:
    """Raises `UserError`, which suggests the nearest name, if `value` is not one of `allowed`."""
    if value not in allowed:
        raise UserError(f"{where} {value!r} is not known{nearest(str(value), [str(item) for item in allowed])}")


def in_split(key: str, split: str, shares: tuple[float, float, float] = SHARES) -> bool:
    """Whether a row's key is in the split. Raises `UserError` for an unknown split.

    The key's `place` decides, so splits are disjoint by construction. Tasks with few keys may set the `shares` of
    train, validation and test (sum 1), and must then always use the same ones.
    """
    known(split, SPLITS, "split")
    at, (train, validation, _) = place(key), shares
    part = "train" if at < train else "validation" if at < train + validation else "test"
    return part == split


def place(key: str) -> float:
    """Return a key's place between 0 and 1, from its SHA-256: the same in every process."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def shuffled(pool: Iterable[Any], where: str, seed: int, n: int) -> list[Any]:
    """Return a finite pool, shuffled by `seed`. Raises `UserError` if the pool is smaller than n."""
    rows = list(pool)
    if n > len(rows):
        distinct = f"only {len(rows)} distinct rows exist: request fewer" if rows else "none of this split exist"
        raise UserError(f"{where}: {n} rows requested, but {distinct}")
    random.Random(f"{where} {seed}").shuffle(rows)
    return rows


def draw(pool: Iterable[Row], where: str, seed: int, n: int, by: str = "kind", drop: bool = False) -> list[Row]:
    """Draw n rows of a finite pool, shuffled by `seed`, alternating between kinds as long as possible.

    `by` is the column to alternate by; `drop` removes that column. Raises `UserError` if the pool is smaller than n.
    """
    rows = shuffled(pool, where, seed, n)
    seen: Counter[str] = Counter()
    turns = []
    for row in rows:
        if by not in row:
            raise UserError(f"{where}: rows are drawn by '{by}', which this one lacks: {str(row)[:80]}")
        turns.append(seen[row[by]])
        seen[row[by]] += 1
    chosen = [rows[i] for i in sorted(range(len(rows)), key=turns.__getitem__)[:n]]
    return [{column: row[column] for column in row if column != by} for row in chosen] if drop else chosen


_FINAL = re.compile(r"\$?(-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?)\.?")


def score_final(row: Row, completion: str) -> float:
    """Return 1.0 if there is a `####`, and after each one only the answer stands on its line."""
    finals = [part.split("\n")[0].strip() for part in completion.split("####")[1:]]
    matches = [_FINAL.fullmatch(final) for final in finals]
    numbers = {Decimal(match[1].replace(",", "")) if match else None for match in matches}
    return float(numbers == {Decimal(row["answer"])})


_NUMBER = re.compile(r"(?<![0-9])-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")  # in 12-5 the minus is no sign


def numbers_in(text: str) -> list[float]:
    """Return the numbers of a text, without their commas."""
    return [float(number.replace(",", "")) for number in _NUMBER.findall(text)]


def score_number(row: Row, completion: str) -> float:
    """Return 1.0 if what follows `####` is the answer; without it, if the last number is."""
    if "####" in completion:
        return score_final(row, completion)
    return float(numbers_in(completion)[-1:] == numbers_in(row["answer"]))


def make_pages(seed: int, n: int, where: str, page: Callable[[random.Random], str]) -> list[str]:
    """Make n pages with `page`; random choices in them depend on `where` and `seed`."""
    rng = random.Random(f"{where} {seed}")
    return [page(rng) for _ in range(n)]


def exercises(rows: Iterable[Row], demonstration: Callable[[Row, random.Random], str], rng: random.Random) -> str:
    """Return a page with the rows' questions, each with an answer on the next line."""
    return "\n\n".join(f"{row['question']}\n{demonstration(row, rng)}" for row in rows)


def ask(row: Row) -> list[Message]:
    """Return the question as one user turn: the prompt of a task without instructions."""
    return [{"role": "user", "content": row["question"]}]
