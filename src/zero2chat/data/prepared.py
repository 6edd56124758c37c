"""The rows of a training stage: what `prepare` returns, and what the stages' `prepare` functions share.

`prepare(*arguments)` makes a tokenizer and the trainer's datasets from settings. `prepare` loads no weights, and in a
single process writes nothing. `run` first calls `prepare`, then loads the model and trains. `zero2chat preview` shows
the rows, and `zero2chat new` reads their lengths. If a model selects rows, such as by pass rate, `run` does so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig

from zero2chat.data.preferences import load_preferences
from zero2chat.data.prompts import alike, fitting_problems, load_problems
from zero2chat.data.sources import Source, mixed, read_sources
from zero2chat.inference.tool_format import Tools
from zero2chat.models.chat_template import end_turn, prepare_chat_template
from zero2chat.models.loading import context_length, load_model
from zero2chat.rewards import Reward

LOSS = "carries loss"


@dataclass(frozen=True)
class Side:
    """One sequence of a row: its ids, and a mask of marked ids, such as ids with loss. `name` labels the sequence."""

    ids: Sequence[int]
    marked: Sequence[int]
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A stage's tokenizer and rows, as its trainer gets them, and how to show a row. If `run` needs more, such as
    held-out pairs, a subclass adds fields."""

    tokenizer: PreTrainedTokenizerBase
    train: Dataset  # in the order of the data: `run`, or the trainer, shuffles them
    validation: Dataset | None = None
    unit: str  # of `train`, such as "conversations"
    sources: Mapping[str, int]  # label → rows in the mixture
    where: Callable[[int], str]  # names a row of `train`
    sides: Callable[[int], Sequence[Side]]  # returns its sequences: one, or chosen and rejected
    marks: str = LOSS  # what a marked token is
    limit: tuple[str, int] | None = None  # the setting, and the most tokens of a sequence
    dropped: Sequence[int] = ()  # tokens of each row that was dropped because it is longer
    note: str = ""  # what `run` changes, such as rows that a model chooses

    @property
    def n(self) -> int:
        return len(self.train)


def open_empty(
    model_args: ModelConfig, template: str | None, may_score: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the model without weights, and its tokenizer with the chat template. `may_score`: allow a reward model."""
    path, revision = model_args.model_name_or_path, model_args.model_revision
    model, tokenizer = load_model(path, None, revision, weights=False, may_score=may_score)
    prepare_chat_template(tokenizer, template)
    return model, tokenizer


def open_empty_chat(model_args: ModelConfig, template: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Like the trainers' `open_chat_model`, but without weights. The tokenizer's EOS is the end-of-turn token."""
    model, tokenizer = open_empty(model_args, template)
    end_turn(model, tokenizer)
    return model, tokenizer


def mixed_preferences(
    datasets: Sequence[Any], equal: str, load: Callable[[Source, str], tuple[Dataset, int]] = load_preferences
) -> tuple[list[Any], Counter[str], int]:
    """Return the preferences of a YAML's `datasets:`, their number by source, and how many were dropped as equal."""
    sources = read_sources(datasets)
    loaded = [load(source, equal) for source in sources]
    rows, counts = mixed([part for part, _ in loaded], sources)
    return list(rows), counts, sum(dropped for _, dropped in loaded)


def prompt_rows(
    args: Any,
    training: Any,
    model_args: ModelConfig,
    rewards: Sequence[Reward],
    tools: Tools | None = None,
    answers: bool = True,
    longest: int | None = None,
    context: float = math.inf,
) -> Prepared:
    """Return the prompts of `args.datasets`, prepared for a stage that samples completions.

    Prompts with more than `longest` tokens are dropped. `context` is the context of another model that also reads the
    completions. Raises `UserError` if a prompt leaves no room for a completion.
    """
    sources = read_sources(args.datasets)
    model, tokenizer = open_empty_chat(model_args, args.chat_template_path)
    problems, counts = mixed(alike([load_problems(source, rewards, answers) for source in sources]), sources)
    room = int(min(context_length(model), context)) - training.max_completion_length
    template = training.chat_template_kwargs
    problems, ids, dropped = fitting_problems(problems, tokenizer, room, longest, tools, template)
    return Prepared(
        tokenizer=tokenizer,
        train=problems,
        unit="prompts",
        sources=counts,
        where=lambda i: f"prompt {i}",
        sides=lambda i: [Side(ids[i], [0] * len(ids[i]))],
        marks="carries loss: nothing in the prompt; the completion will",
        limit=("the context minus max_completion_length", room),
        dropped=dropped,
    )
