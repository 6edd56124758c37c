"""Preview a stage's rows: tokens with the loss mask, lengths, and rows over the limit.

    zero2chat preview --config recipes/mine/sft.yaml

Settings, tokenizer, template and data are read by the stage's own functions. No weights are loaded, and no run folder
is written.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from rich.console import Console
from rich.text import Text
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig

from zero2chat.chat.tools import Tools, make_tools
from zero2chat.data.contamination import Decontamination
from zero2chat.data.conversations import encode_conversations, end_turn, load_conversations, prepare_chat_template
from zero2chat.data.corpora import Source, load_source, mix, read_sources, require_column, rows_kept
from zero2chat.data.packing import pack_documents
from zero2chat.data.preferences import Pair, load_preferences, read_pairs
from zero2chat.data.problems import encode_prompts, load_parts
from zero2chat.data.streaming import open_stream
from zero2chat.errors import UserError
from zero2chat.models import context_length, load_model, load_tokenizer
from zero2chat.rewards import Reward, read_rewards
from zero2chat.stages import dpo, reward
from zero2chat.stages.ppo import read_ppo_rewards
from zero2chat.tokens import control_ids, token_pieces
from zero2chat.trainers.loop import parse_training, set_max_length

_LOSS = "carries loss"
_LEARNED, _LEARNED_CONTROL = ("black on green", "black on bright_green"), "bold white on dark_green"
_GIVEN, _GIVEN_CONTROL = ("dim", "dim on grey15"), "bold magenta"  # alternating, to show where a token ends
_MARKS = ("⟦", "⟧")  # used without colour


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
    marks: str  # meaning of a marked token
    n: int
    sources: Counter[str]
    where: Callable[[int], str]
    sides: Callable[[int], Sequence[Side]]
    tokenizer: PreTrainedTokenizerBase
    limit: tuple[str, int] | None = None  # name of the setting, and the maximum tokens of a row
    fate: str = ""  # what happens to longer rows
    ends: frozenset[int] = frozenset()  # ids that a marked span should end with


# ---- the stages


def _sft(args: Any, training: Any, model_args: ModelConfig) -> Rows:
    sources, tools = read_sources(args.datasets), make_tools(args.tools)
    model, tokenizer = _open(model_args, training.chat_template_path)
    end_turn(model, tokenizer)
    set_max_length(training, model)
    decontamination = Decontamination(args.decontaminate)
    parts = [
        decontamination.clean(load_conversations(source, tools=tools), "messages", str(source.label), json.loads)
        for source in sources
    ]
    rows, counts = _mixed(parts, sources)
    encoded = encode_conversations(rows, tokenizer)

    def of_row(i: int) -> list[Side]:
        row = encoded[i]
        return [Side(row["input_ids"], row["assistant_masks"])]

    return Rows(
        "conversations",
        _LOSS,
        len(encoded),
        counts,
        lambda i: str(encoded[i]["where"]),
        of_row,
        tokenizer,
        ("max_length", training.max_length),
        _fate(args.overlong),
        frozenset({tokenizer.eos_token_id}),
    )


def _reward(args: Any, training: Any, model_args: ModelConfig) -> Rows:
    made = Path(training.output_dir) / "pairs"
    model, tokenizer = _open(model_args, training.chat_template_path)
    set_max_length(training, model)
    if not args.comparisons:
        pairs, counts = _preferences(args)
    elif (made / "equal.json").exists():
        pairs = read_pairs(made / "train.jsonl")
        counts = Counter({str(made / "train.jsonl"): len(pairs)})
    else:
        raise UserError(
            f"comparisons: the stage has not sampled these pairs yet: run it, and preview shows those of {made}"
        )
    rows, _ = reward.tokenize_pairs(pairs, tokenizer, sys.maxsize, args.overlong, "datasets")

    def of_row(i: int) -> list[Side]:
        both = [(side, rows[i][f"{side}_ids"]) for side in ("chosen", "rejected")]
        return [Side(ids, [0] * (len(ids) - 1) + [1], side) for side, ids in both]

    marks = "is the token whose output is the score"
    limit = ("max_length", training.max_length)
    return Rows("pairs", marks, len(rows), counts, _pair, of_row, tokenizer, limit, _fate(args.overlong))


def _dpo(args: Any, training: Any, model_args: ModelConfig) -> Rows:
    model, tokenizer = _open(model_args, args.chat_template_path)
    end_turn(model, tokenizer)
    set_max_length(training, model)
    pairs, counts = _preferences(args)
    rows, _ = dpo.tokenize_pairs(pairs, tokenizer, sys.maxsize, args.overlong, "datasets")

    def of_row(i: int) -> list[Side]:
        prompt, *both = (rows[i][f"{part}_ids"] for part in ("prompt", "chosen", "rejected"))
        names = zip(("chosen", "rejected"), both, strict=True)
        return [Side(prompt + ids, [0] * len(prompt) + [1] * len(ids), side) for side, ids in names]

    limit, ends = ("max_length", training.max_length), frozenset({tokenizer.eos_token_id})
    return Rows("pairs", _LOSS, len(rows), counts, _pair, of_row, tokenizer, limit, _fate(args.overlong), ends)


def _preferences(args: Any) -> tuple[list[Pair], Counter[str]]:
    sources = read_sources(args.datasets)
    pairs, counts = _mixed([load_preferences(source, args.equal)[0] for source in sources], sources)
    return list(pairs), counts


def _pair(i: int) -> str:
    return f"pair {i}"


def _grpo(args: Any, training: Any, model_args: ModelConfig) -> Rows:
    return _prompts(args, training, model_args, read_rewards(args.rewards), make_tools(args.tools))


def _ppo(args: Any, training: Any, model_args: ModelConfig) -> Rows:
    functions = [function for function in read_ppo_rewards(args.rewards) if isinstance(function, Reward)]
    rows = _prompts(args, training, model_args, functions, answers=False)
    if args.max_prompt_length is None:
        return rows
    return replace(rows, limit=("max_prompt_length", args.max_prompt_length), fate="dropped")


def _prompts(
    args: Any,
    training: Any,
    model_args: ModelConfig,
    rewards: Sequence[Reward],
    tools: Tools | None = None,
    answers: bool = True,
) -> Rows:
    sources = read_sources(args.datasets)
    model, tokenizer = _open(model_args, args.chat_template_path)
    end_turn(model, tokenizer)
    problems, counts = _mixed(load_parts(sources, rewards, answers), sources)
    _, ids = encode_prompts(problems, tokenizer, tools, training.chat_template_kwargs)
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


def _pretrain(args: Any, training: Any) -> Rows:
    tokenizer = load_tokenizer(args.tokenizer)
    if args.stream:
        fraction = args.validation_fraction
        _, documents, _ = open_stream(args.source, args.column, tokenizer, args.max_length, 1, fraction)
    else:
        documents = load_source(Source(path=args.dataset, split="train", label="train"))
        require_column(documents, args.column, args.dataset)
    windows = pack_documents(documents, args.column, tokenizer, args.max_length, "train")
    counts = Counter(documents["source"] if "source" in documents.column_names else {"documents": len(documents)})
    return Rows(
        "windows of documents",
        _LOSS,
        len(windows),
        counts,
        lambda i: f"window {i}",
        lambda i: [Side(windows[i]["input_ids"], [0] + [1] * (args.max_length - 1))],
        tokenizer,
    )


STAGES: dict[str, Callable[..., Rows]] = {
    "pretrain": _pretrain,
    "sft": _sft,
    "dpo": _dpo,
    "reward": _reward,
    "ppo": _ppo,
    "grpo": _grpo,
}


def open_rows(config: str, stage: str | None = None, changes: Sequence[str] = ()) -> tuple[str, Rows]:
    """Return the stage named in a YAML's first comment, or `stage`, and its rows. `changes` are `key=value`.

    Raises the same `UserError` as the stage would before training.
    """
    stage = stage or _stage_of(config)
    if stage not in STAGES:
        raise UserError(f"stage '{stage}': preview shows the data of {', '.join(STAGES)}")
    arguments = importlib.import_module(f"zero2chat.stages.{stage}").ARGUMENTS
    _, built = parse_training(arguments, ["--config", config, *(f"--{change}" for change in changes)])
    return stage, STAGES[stage](*built)


def _stage_of(config: str) -> str:
    try:
        lines = Path(config).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{config}: cannot be read: {error}") from error
    comment = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
    found = re.search(r"zero2chat\.stages\.(\w+)", comment)
    if not found:
        raise UserError(f"{config}: its first comment has no launch command (-m zero2chat.stages.sft): give --stage")
    return found[1]


def _open(model_args: ModelConfig, template: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model, tokenizer = load_model(model_args.model_name_or_path, None, model_args.model_revision, weights=False)
    prepare_chat_template(tokenizer, template)
    return model, tokenizer


def _mixed(parts: Sequence[Dataset], sources: Sequence[Source]) -> tuple[Dataset, Counter[str]]:
    """Return the stage's data mixture, and its number of rows per source."""
    fractions = [source.fraction for source in sources]
    counts: Counter[str] = Counter()
    for source, n in zip(sources, rows_kept(parts, fractions, lambda _: 1), strict=True):
        counts[str(source.label)] += n
    return mix(parts, fractions, size=lambda _: 1), counts


def _fate(overlong: str) -> str:
    return "dropped" if overlong == "drop" else "an error: raise it, or set `overlong: drop`"


# ---- display


def measure(rows: Rows) -> dict[str, Any]:
    """Compute lengths in tokens (of a row's longest sequence), rows over the limit, and the shares of marked tokens."""
    lengths: list[int] = []
    tokens = marked = spans = ended = 0
    for i in range(rows.n):
        found = rows.sides(i)
        lengths.append(max(len(side.ids) for side in found))
        for side in found:
            tokens, marked = tokens + len(side.ids), marked + sum(side.marked)
            for mine, span in itertools.groupby(zip(side.ids, side.marked, strict=True), key=lambda pair: pair[1]):
                if mine and rows.ends:
                    spans, ended = spans + 1, ended + any(token in rows.ends for token, _ in span)
    ordered = sorted(lengths)
    figures = {
        "rows": rows.n,
        "sources": dict(rows.sources),
        "tokens": tokens,
        "median": statistics.median(ordered),
        "percentile_95": ordered[math.ceil(0.95 * rows.n) - 1],
        "longest": ordered[-1],
        "longest_row": rows.where(lengths.index(ordered[-1])),
        "marked": marked,
    }
    if rows.limit:
        name, most = rows.limit
        over = sum(length > most for length in lengths)
        figures |= {"limit": {name: most}, "over": over} | ({"over_is": rows.fate} if over else {})
    if rows.ends:
        figures |= {"answers": spans, "answers_ended": ended}
    return figures


def chosen(rows: Rows, n: int, row: int | None) -> list[int]:
    """Return the indices of `n` rows spread over the data, or of one `row`."""
    if row is not None:
        if not 0 <= row < rows.n:
            raise UserError(f"--row {row}: the rows are 0 to {rows.n - 1}")
        return [row]
    if n < 0:
        raise UserError(f"--n {n}: expected 0 or more")
    n = min(n, rows.n)
    return [i * rows.n // n for i in range(n)]


def as_json(stage: str, rows: Rows, numbers: Sequence[int]) -> dict[str, Any]:
    """Return the figures, and the tokens of each row: id, text, and whether it is marked."""
    examples = [
        {
            "where": rows.where(i),
            "sides": [
                {
                    "name": side.name,
                    "tokens": [
                        {"id": token, "text": text, "marked": bool(mark)}
                        for token, text, mark in zip(
                            side.ids, token_pieces(rows.tokenizer, side.ids), side.marked, strict=True
                        )
                    ],
                }
                for side in rows.sides(i)
            ],
        }
        for i in numbers
    ]
    return {"stage": stage, "unit": rows.unit, "marks": rows.marks} | measure(rows) | {"examples": examples}


def show(rows: Rows, numbers: Sequence[int], console: Console) -> None:
    """Print the rows in colour, or with marks around spans if there is no colour; then the figures."""
    coloured = console.color_system is not None
    if numbers:
        console.print(f"{'green' if coloured else ''.join(_MARKS)} {rows.marks}", soft_wrap=True)
    for i in numbers:
        for side in rows.sides(i):
            long = rows.limit and len(side.ids) > rows.limit[1]
            head = f"\n{rows.where(i)}{side.name and f', {side.name}'}: {len(side.ids):,} tokens"
            head += f", over {rows.limit[0]}" if rows.limit and long else ""
            console.print(Text(head, style="bold"))
            shown = show_side(side, rows.tokenizer, coloured)
            shown.rstrip()
            console.print(shown, soft_wrap=True)
    console.print(Text("\n" + "\n".join(_said(rows, measure(rows)))), soft_wrap=True)


def show_side(side: Side, tokenizer: PreTrainedTokenizerBase, coloured: bool = True) -> Text:
    """Show the tokens, with the text's line breaks; marked spans have one colour, or are between marks."""
    shown, control = Text(), control_ids(tokenizer)
    pieces = zip(side.ids, token_pieces(tokenizer, side.ids), [0, *side.marked], side.marked, strict=False)
    for n, (token, piece, before, mine) in enumerate(pieces):
        if not coloured and before != mine:
            shown.append(_MARKS[0] if mine else _MARKS[1])
        if token in control:
            style = _LEARNED_CONTROL if mine else _GIVEN_CONTROL
        else:
            style = (_LEARNED if mine else _GIVEN)[n % 2]
        shown.append(piece, style=style)
        if piece.endswith("\\n"):
            shown.append("\n")
    if not coloured and side.marked[-1]:
        shown.append(_MARKS[1])
    return shown


def _said(rows: Rows, figures: dict[str, Any]) -> list[str]:
    sources = ", ".join(f"{label} {n:,}" for label, n in rows.sources.items())
    lines = [
        f"{rows.n:,} {rows.unit}: {sources}",
        f"tokens: median {figures['median']:g}, 95th percentile {figures['percentile_95']:,}, longest "
        f"{figures['longest']:,} ({figures['longest_row']}); {figures['tokens']:,} in total",
    ]
    if rows.limit:
        over = {0: "0 are", 1: "1 is"}.get(figures["over"], f"{figures['over']:,} are")
        fate = f": {rows.fate}" if figures["over"] else ""
        lines.append(f"{over} over {rows.limit[0]}, {rows.limit[1]:,} tokens{fate}")
    if figures["marked"] and rows.marks == _LOSS:
        lines.append(f"{figures['marked'] / figures['tokens']:.1%} of the tokens carry loss")
    if rows.ends:
        (end,) = token_pieces(rows.tokenizer, sorted(rows.ends))
        said = f"{figures['answers_ended']:,} of {figures['answers']:,} answers end"
        lines.append(f"{said} with {end}, which carries loss")
    return lines
