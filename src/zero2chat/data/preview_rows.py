"""Rows as `zero2chat preview` shows them: what a stage's `rows` returns, and what those functions share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig

from zero2chat.data.preferences import load_preferences
from zero2chat.data.prompts import encode_problems, load_parts
from zero2chat.data.sources import Source, mix, read_sources, rows_kept
from zero2chat.inference.tool_format import Tools
from zero2chat.models.chat_template import choose_chat_template, end_turn, prepare_chat_template
from zero2chat.models.loading import context_length, load_model
from zero2chat.rewards import Reward

LOSS = "carries loss"


@dataclass(frozen=True)
class Side:
    """A sequence that the model sees: its ids, and a mask of the marked ones, such as those with loss."""

    ids: Sequence[int]
    marked: Sequence[int]
    name: str = ""


@dataclass(frozen=True)
class Rows:
    """The rows of a stage. `where(i)` names row i; `sides(i)` returns its sequences: one, or chosen and rejected."""

    unit: str
    marks: str  # what a marked token is
    n: int
    sources: Counter[str]
    where: Callable[[int], str]
    sides: Callable[[int], Sequence[Side]]
    tokenizer: PreTrainedTokenizerBase
    limit: tuple[str, int] | None = None  # its name, and the most tokens of a row
    fate: str = ""  # of longer rows
    ends: frozenset[int] = frozenset()  # with which a marked span should end


def open_empty(model_args: ModelConfig, template: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the model without weights, and its tokenizer with the chat template."""
    model, tokenizer = load_model(model_args.model_name_or_path, None, model_args.model_revision, weights=False)
    prepare_chat_template(tokenizer, choose_chat_template(tokenizer, template))
    return model, tokenizer


def mixed(parts: Sequence[Dataset], sources: Sequence[Source]) -> tuple[Dataset, Counter[str]]:
    """Return the stage's mixture, and the number of its rows from each source."""
    fractions = [source.fraction for source in sources]
    counts: Counter[str] = Counter()
    for source, n in zip(sources, rows_kept(parts, fractions, lambda _: 1), strict=True):
        counts[str(source.label)] += n
    return mix(parts, fractions, size=lambda _: 1), counts


def mixed_preferences(
    args: Any, load: Callable[[Source, str], tuple[Dataset, int]] = load_preferences
) -> tuple[list[Any], Counter[str]]:
    """Return the preference pairs of `args.datasets`, or what `load` reads, and the number from each source."""
    sources = read_sources(args.datasets)
    rows, counts = mixed([load(source, args.equal)[0] for source in sources], sources)
    return list(rows), counts


def fate_of(overlong: str) -> str:
    """Say whether rows over `max_length` are dropped or are an error."""
    return "dropped" if overlong == "drop" else "an error: raise it, or set `overlong: drop`"


def prompt_rows(
    args: Any,
    training: Any,
    model_args: ModelConfig,
    rewards: Sequence[Reward],
    tools: Tools | None = None,
    answers: bool = True,
    own_tools: bool = False,
) -> Rows:
    """Return the prompts of `args.datasets`, tokenized as in a stage that samples completions."""
    sources = read_sources(args.datasets)
    model, tokenizer = open_empty(model_args, args.chat_template_path)
    end_turn(model, tokenizer)
    problems, counts = mixed(load_parts(sources, rewards, answers, own_tools), sources)
    _, ids = encode_problems(problems, tokenizer, tools, training.chat_template_kwargs)
    return Rows(
        "prompts",
        "carries loss: nothing in the prompt; the completion will",
        len(ids),
        counts,
        lambda i: f"prompt {i}",
        lambda i: [Side(ids[i], [0] * len(ids[i]))],
        tokenizer,
        ("the context minus max_completion_length", context_length(model) - (training.max_completion_length or 0)),
        "an error: lower it, or remove these rows",
    )
