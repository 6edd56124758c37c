"""Rank a model's answers in the terminal, or through a pipe, as training data for the reward stage."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from zero2chat.chat.terminal import typed, until_interrupted
from zero2chat.core.errors import UserError
from zero2chat.core.text import SPACES
from zero2chat.data.preference_files import append_ranking, read_rankings
from zero2chat.data.preferences import Messages, pairs_of_ranking
from zero2chat.data.prompts import prompt_key
from zero2chat.inference.generate import answer, encode_prompts
from zero2chat.inference.session import Sampling
from zero2chat.models.loading import load_for_use
from zero2chat.models.tokenization import split_reasoning, visible

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HELP = "Type the answers' numbers, the best first: 2 1 4 3, or with a tie 2=1 4 3. s skips, q stops."

# Answers' indices, the best first; those in one group are tied.
Order = list[list[int]]


def rank_answers(
    model_path: str,
    prompts: Sequence[Messages],
    out: str | Path,
    answers: int = 4,
    sampling: Sampling | None = None,
) -> None:
    """Ask a person to rank a model's `answers` to each prompt, and append the pairs to `out`, ranking by ranking.

    Prompts already ranked in `out` are left out; prompts that were skipped or fully tied are asked again. Orders are
    read from stdin; `q`, Ctrl-C or the end of stdin stop. `sampling.seed` and the prompt determine the answers and
    their order on screen. Raises `UserError` at the start if the model cannot be used or `out` is not writable, and
    later if a prompt exceeds the context. After a mistake in an order, prints the mistake and asks again.
    """
    sampling = sampling or Sampling(temperature=1.0)
    if answers < 2:
        raise UserError(f"answers {answers}: a ranking needs 2 or more answers")
    file = Path(out)
    done = read_rankings(file)
    left = [(place, prompt) for place, prompt in enumerate(prompts, 1) if prompt_key(prompt) not in done]
    if not left:
        print(f"{out}: all prompts are already ranked: give other prompts, or another file")
        return
    model, tokenizer = load_for_use(model_path)
    try:
        encode_prompts(tokenizer, [prompt for _, prompt in left])
    except (UserError, ValueError) as error:  # the template refuses a role, for example; ValueError: there is none
        raise UserError(f"{model_path}: {error}") from error
    console = Console(highlight=False)
    orders = typed()
    print(HELP, flush=True)
    rankings = pairs = 0
    with until_interrupted():
        for place, prompt in left:
            print(f"\nPrompt {place} of {len(prompts)}")
            show(console, [(message["role"], message["content"]) for message in prompt])
            print()
            texts = _distinct_answers(model, tokenizer, prompt, answers, sampling)
            if len(texts) < 2:
                print("(all answers are the same: nothing to rank)", flush=True)
                continue
            show(console, [(str(number), text) for number, text in enumerate(texts, 1)])
            order = _read_order(orders, len(texts))
            if order is None:
                break
            made = pairs_of_order(order)
            if not made:
                print("(skipped)" if not order else "(all tied: no preference, nothing saved)", flush=True)
                continue
            said = [split_reasoning(text)[1] for text in texts]  # in a row, the tags of reasoning would be plain text
            append_ranking(file, model_path, prompt, [(said[a], said[b]) for a, b in made])
            rankings, pairs = rankings + 1, pairs + len(made)
    print(f"{rankings} rankings, {pairs} pairs added to {out}")


# ---- answers


def _distinct_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: Messages, answers: int, sampling: Sampling
) -> list[str]:
    """Sample answers to a prompt. Returns the distinct answers, in the order to show them."""
    # One seed per prompt: with the same seed, the answers to all prompts would start in the same way.
    rng = random.Random(f"rank {sampling.seed} {prompt_key(prompt)}")
    seed, longest = rng.getrandbits(32), sampling.max_new_tokens
    outputs = answer(model, tokenizer, [prompt] * answers, longest, sampling.temperature, seed=seed)
    # Equal in the sense of the reward stage, which rejects equal pairs.
    texts = list({a.text.strip(): a.text for a in outputs}.values())
    rng.shuffle(texts)
    return texts


# ---- the dialogue


def show(console: Console, rows: Sequence[tuple[str, str]]) -> None:
    """Print names and texts in two columns, so that no text can pass for a row of its own."""
    table = Table.grid(padding=(0, 2))
    for name, text in rows:
        shown = Text(visible(text, keep=SPACES)) if text.strip() else Text("(empty)", style="dim")
        table.add_row(Text(visible(name), style="bold"), shown)
    console.print(table)


def _read_order(orders: Iterator[str], n: int) -> Order | None:
    """Read the order that the person types. Returns [] to skip the prompt, None to stop."""
    for line in orders:
        if line.lower() in ("q", "s"):
            return None if line.lower() == "q" else []
        try:
            return parse_order(line, n)
        except UserError as error:
            print(f"error: {error}", flush=True)
    return None


def parse_order(line: str, n: int) -> Order:
    """Parse `2=1 4 3` as [[1, 0], [3], [2]]. Raises `UserError` unless each of the `n` answers is listed once."""
    groups = [group.split("=") for group in re.sub(r"\s*=\s*", "=", line).split()]
    names = [name for group in groups for name in group]
    known = [str(number) for number in range(1, n + 1)]
    syntax = f"type all numbers from 1 to {n}, the best first, or s or q"
    for name in names:
        if name not in known:
            raise UserError(f"there is no answer '{visible(name[:20])}': {syntax}")
        if names.count(name) > 1:
            raise UserError(f"answer {name} is listed twice: {syntax}")
    if missing := [name for name in known if name not in names]:
        raise UserError(f"answer {missing[0]} is missing: {syntax}")
    return [[int(name) - 1 for name in group] for group in groups]


def pairs_of_order(order: Order) -> list[tuple[int, int]]:
    """Return (better, worse) for all pairs that are not tied."""
    place = {i: rank for rank, group in enumerate(order) for i in group}
    return [(a, b) for a, b in pairs_of_ranking(list(place)) if place[a] != place[b]]
