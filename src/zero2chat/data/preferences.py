"""Preference pairs, made from ranked answers to a task's prompts, or loaded from a dataset."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from datasets import Dataset, Features, List, Value

from zero2chat import tasks
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.data.chat_formats import (
    PREFERENCES,
    VOTES,
    Shape,
    cell,
    open_rows,
    read_turns,
    refuse_empty,
    refuse_tools,
    text_turns,
)
from zero2chat.data.rows import Table, without
from zero2chat.data.sources import Source, read_sources

Messages = list[dict[str, str]]
# prompt, chosen, rejected (messages, as in TRL), and, if known, taste_chosen and taste_rejected, or its name, `where`.
Pair = dict[str, Any]
# prompt, completion (messages, as in TRL), label: true for thumbs up, and, if known, `where`, as above.
Thumb = dict[str, Any]

MESSAGES = List({"role": Value("string"), "content": Value("string")})
_FEATURES = Features({"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES, "where": Value("string")})
_THUMBS = Features({"prompt": MESSAGES, "completion": MESSAGES, "label": Value("bool"), "where": Value("string")})


@dataclass
class PairArguments:
    """Settings for preference datasets, shared by the stages that train on preferences."""

    datasets: list[dict] = field(default_factory=list, metadata={"help": "Sources of prompt, chosen and rejected."})
    test_fraction: Annotated[float, Range(above=0, below=1)] = field(
        default=0.1, metadata={"help": "Share of the datasets' prompts to hold out."}
    )
    overlong: Literal["error", "drop"] = field(
        default="error", metadata={"help": "Pairs with an answer over max_length: error or drop."}
    )
    equal: Literal["error", "drop"] = field(
        default="error", metadata={"help": "Pairs with equal chosen and rejected: error or drop."}
    )

    def __post_init__(self) -> None:
        # Checked here too, so that a recipe fails before its first step runs.
        if self.datasets:
            read_sources(self.datasets)


@dataclass
class Comparisons:
    """Pairs from a task with a `taste`. For each of `n` training prompts, `answers` answers are sampled at
    `temperature`, and ranked with `noise`.

    `noise` is in units of taste: if two answers differ by `noise`, the better answer wins in 73 of 100 cases. `pairs`
    selects `all` pairs of a ranking, or only `adjacent` ranks. `held_out` test prompts get two answers each. Without a
    `seed`, the run's seed draws the training pairs, and the held-out pairs are always the same.
    """

    task: str
    n: Annotated[int, Range(min=1)] = 1000
    answers: Annotated[int, Range(min=2, why="comparing needs two or more answers")] = 4
    pairs: Literal["all", "adjacent"] = "all"
    noise: Annotated[float, Range(min=0)] = 0.1
    held_out: Annotated[int, Range(min=1)] = 700
    seed: int | None = None
    max_new_tokens: Annotated[int, Range(min=1)] = 48
    temperature: Annotated[float, Range(above=0, why="all answers would be equal")] = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises `UserError` for an invalid task, option or `n`."""
        tasks.load_taste(self.task)
        for split, n in (("train", self.n), ("test", self.held_out)):
            tasks.check_rows(self.task, split, self.seed or 0, n, self.options)


# ---- rankings


def draw_ranking(tastes: Sequence[float], noise: float, rng: random.Random) -> list[int]:
    """Rank by taste, with noise as from a human ranker. Returns indices, the best first.

    This is the Plackett-Luce model: sort by taste / noise + Gumbel noise. Index i comes before j with probability
    sigmoid((taste i - taste j) / noise), as in Bradley and Terry (1952). Ties have a random order.
    """
    values = list(tastes)
    if noise:
        values = [taste / noise - math.log(-math.log(rng.random() or 1e-300)) for taste in tastes]
    order = list(range(len(tastes)))
    rng.shuffle(order)
    return sorted(order, key=lambda i: -values[i])


def pairs_of_ranking(order: Sequence[int], which: str = "all") -> list[tuple[int, int]]:
    """Return (better, worse) for `all` pairs of the ranking, or only for `adjacent` ranks."""
    return list(itertools.pairwise(order) if which == "adjacent" else itertools.combinations(order, 2))


def ranked_pairs(
    rows: Sequence[tasks.Row],
    prompts: Sequence[Messages],
    answers: Sequence[Sequence[str]],
    taste: tasks.Taste,
    noise: float,
    seed: int,
    which: str = "all",
) -> tuple[list[Pair], int]:
    """Rank each prompt's answers. Returns the pairs, and the number of pairs dropped as equal."""
    rng = random.Random(f"preferences {seed}")
    pairs: list[Pair] = []
    equal = 0
    for row, prompt, texts in zip(rows, prompts, answers, strict=True):
        tastes = [taste(row, text) for text in texts]
        for better, worse in pairs_of_ranking(draw_ranking(tastes, noise, rng), which):
            if texts[better].strip() == texts[worse].strip():
                equal += 1
                continue
            pairs.append(
                {
                    "prompt": list(prompt),
                    "chosen": [{"role": "assistant", "content": texts[better]}],
                    "rejected": [{"role": "assistant", "content": texts[worse]}],
                    "taste_chosen": tastes[better],
                    "taste_rejected": tastes[worse],
                }
            )
    return pairs, equal


# ---- datasets


def load_preferences(source: Source, equal: str = "error") -> tuple[Dataset, int]:
    """Load a dataset, in any format of `chat_formats.py`. The columns `prompt`, `chosen` and `rejected` are lists of
    messages; `where` is the row's name.

    Plain text becomes turns of user and assistant. Without a prompt column, the prompt is the common beginning of both
    conversations. Raises `UserError` that names the first invalid or equal pairs. With `equal="drop"`, equal pairs are
    dropped. Returns the number of dropped pairs, too.
    """
    return _pairs(*_open(source, PREFERENCES, "pairs"), equal)


def _open(source: Source, shapes: Sequence[Shape], unit: str) -> tuple[Table, Shape]:
    if source.task is not None:
        raise UserError(f"{source.label}: `datasets` takes no pairs of a task: use reward's `comparisons`")
    return open_rows(source, shapes, unit)


def _pairs(rows: Table, shape: Shape, equal: str) -> tuple[Dataset, int]:
    if "preferred" in shape.columns:
        rows = without(rows, "preferred", "tie", "are ties")
    pairs = rows.read(lambda row, where: _read_pair(row, shape, where, equal, rows.source.kind == "csv"))
    choices = [pair | {"where": rows.where(i)} for i, pair in pairs if pair is not None]
    if not choices:
        raise UserError(f"{rows.source.label}: chosen and rejected are equal in every row")
    return Dataset.from_list(choices, features=_FEATURES), len(pairs) - len(choices)


def load_votes(source: Source, equal: str = "error") -> tuple[Dataset, int]:
    """Load votes in TRL's format: the columns `prompt`, `completion` and `label` (true is thumbs up).

    A preference pair, such as from `zero2chat rank`, gives two adjacent rows: the chosen answer is up, the rejected
    answer is down. (TRL's `unpair_preference_dataset` puts 1,000 chosen answers before 1,000 rejected answers.) Raises
    `UserError` as `load_preferences` does, and if a label is not true or false.
    """
    rows, shape = _open(source, (*PREFERENCES, *VOTES), "rows")
    if shape in VOTES:
        votes = rows.read(lambda row, where: _read_thumb(row, shape, where))
        return Dataset.from_list([thumb | {"where": rows.where(i)} for i, thumb in votes], features=_THUMBS), 0
    pairs, dropped = _pairs(rows, shape, equal)
    thumbs = [
        {"prompt": pair["prompt"], "completion": pair[side], "label": side == "chosen", "where": pair["where"]}
        for pair in pairs
        for side in ("chosen", "rejected")
    ]
    return Dataset.from_list(thumbs, features=_THUMBS), dropped


def _read_thumb(row: dict[str, Any], shape: Shape, where: str) -> Thumb:
    label = {"true": True, "false": False}.get(str(row["label"]).strip().lower())  # a CSV's are text
    if label is None:
        raise UserError(f"{where}: label: expected true (thumbs up) or false (thumbs down), got {row['label']!r}")
    turns = text_turns(shape.conversation(row, where), where)
    if turns[-1]["role"] != "assistant":
        raise UserError(f"{where}: completion: does not end with the assistant's turn")
    refuse_tools(row, where)
    return {"prompt": turns[:-1], "completion": turns[-1:], "label": label}


def pairs_of_thumbs(thumbs: Sequence[Thumb]) -> list[tuple[int, int]]:
    """Pair up votes on the same prompt: (index of a vote up, index of a vote down). A vote is in at most one pair.

    If votes were made from preference pairs, the same pairs result.
    """
    sides: dict[str, tuple[list[int], list[int]]] = {}
    for i, thumb in enumerate(thumbs):
        sides.setdefault(str(thumb["prompt"]), ([], []))[not thumb["label"]].append(i)
    return [pair for ups, downs in sides.values() for pair in zip(ups, downs, strict=False)]


def _read_pair(row: dict[str, Any], shape: Shape, where: str, equal: str, filled: bool) -> Pair | None:
    """Read a row as a pair. `filled`: empty answers are invalid, as in a CSV, where they are missing values."""
    if "preferred" in shape.columns:
        vote = str(cell(row, "preferred", where)).strip().lower()
        if vote not in ("a", "b"):
            raise UserError(f"{where}: preferred: expected A, B or tie, got {row['preferred']!r}")
        row = row | {"chosen": cell(row, vote, where), "rejected": cell(row, "b" if vote == "a" else "a", where)}
    chosen, rejected = (
        text_turns(read_turns(cell(row, side, where), "assistant", f"{where}: {side}"), f"{where}: {side}")
        for side in ("chosen", "rejected")
    )
    prompt = text_turns(shape.question(row, where), where) if row.get("prompt") else []
    both = zip(chosen, rejected, strict=False)
    shared = [a for a, _ in itertools.takewhile(lambda turns: turns[0] == turns[1], both)]
    if shared and shared[0]["role"] != "assistant":
        # Both sides are whole conversations, as in many datasets; only the prompt may have the system message.
        system = prompt[:1] if prompt and prompt[0]["role"] == "system" != shared[0]["role"] else []
        prompt, chosen, rejected = [*system, *shared], chosen[len(shared) :], rejected[len(shared) :]
    if _stripped(chosen) == _stripped(rejected):
        if equal == "drop":
            return None
        raise UserError(
            f"{where}: chosen and rejected are equal: remove the row, or set `equal: drop` to drop all such rows"
        )
    if not prompt:
        raise UserError(f"{where}: no prompt: add a column 'prompt', or start chosen and rejected with the prompt")
    refuse_empty(prompt, where)
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not side or {side[0]["role"], side[-1]["role"]} != {"assistant"}:
            raise UserError(f"{where}: {name}: after the prompt, the first and last turn must be the assistant's")
        refuse_empty(side if filled else side[:-1], f"{where}: {name}")
    refuse_tools(row, where)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _stripped(messages: Messages) -> list[tuple[str, str]]:
    return [(message["role"], message["content"].strip()) for message in messages]
