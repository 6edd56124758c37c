"""Preference pairs, from ranked answers to a task's prompts, or from a dataset."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

from zero2chat import tasks
from zero2chat.config import build
from zero2chat.data.corpora import Source, load_source, mix, read_sources, split_of
from zero2chat.data.shapes import PREFERENCES, Shape, read_turns, recognise, text_turns
from zero2chat.errors import UserError
from zero2chat.runs import is_main_process, read_jsonl, write_atomically

Messages = list[dict[str, str]]
# prompt, chosen, rejected (messages, as in TRL), and, if known, taste_chosen and taste_rejected.
Pair = dict[str, Any]

MESSAGES = List({"role": Value("string"), "content": Value("string")})
_FEATURES = Features({"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES})


@dataclass
class PairArguments:
    """Settings of preference datasets, shared by the stages that train on them."""

    datasets: list[dict] = field(default_factory=list, metadata={"help": "Sources of prompt, chosen and rejected."})
    test_fraction: float = field(default=0.1, metadata={"help": "Share of the datasets' prompts to hold out."})
    overlong: str = field(default="error", metadata={"help": "Pairs with an answer over max_length: error or drop."})
    equal: str = field(default="error", metadata={"help": "Pairs with equal chosen and rejected: error or drop."})

    def __post_init__(self) -> None:
        for key in ("overlong", "equal"):
            if getattr(self, key) not in ("error", "drop"):
                raise ValueError(f"{key}: '{getattr(self, key)}' is neither error nor drop")
        if not 0 < self.test_fraction < 1:
            raise ValueError(f"test_fraction: {self.test_fraction} is not between 0 and 1")
        # Checked here too, so that a recipe fails before its first step runs.
        if self.datasets:
            read_sources(self.datasets)


@dataclass
class Comparisons:
    """Pairs of a task with a `taste`: `answers` per prompt for `n` training prompts, sampled at `temperature`, ranked
    with `noise`.

    `noise` is in units of taste: of two answers that differ by that much, the better one wins in 73 of 100 cases.
    `pairs` takes `all` pairs of a ranking, or those of `adjacent` ranks. `held_out` prompts of `split` get two answers
    each: test rows, or validation rows for choosing settings.
    """

    task: str
    n: int = 1000
    answers: int = 4
    pairs: str = "all"
    noise: float = 0.1
    held_out: int = 700
    split: str = "test"
    seed: int = 0
    max_new_tokens: int = 48
    temperature: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n < 1 or self.held_out < 1 or self.max_new_tokens < 1:
            raise ValueError("n, held_out and max_new_tokens must be above 0")
        if self.answers < 2:
            raise ValueError(f"answers: {self.answers} is too few to compare: set 2 or more")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature: {self.temperature} is not above 0: all answers would be equal")
        if not (self.noise >= 0 and math.isfinite(self.noise)):
            raise ValueError(f"noise: {self.noise} is not 0 or above")
        if self.split not in ("validation", "test"):
            raise ValueError(f"split: '{self.split}' is neither validation nor test")
        if self.pairs not in ("all", "adjacent"):
            raise ValueError(f"pairs: '{self.pairs}' is neither all nor adjacent")


def read_comparisons(settings: dict[str, Any]) -> Comparisons:
    """Read a YAML's `comparisons:`. Raises `UserError` for an invalid key, task, option or n, before any work."""
    found: Comparisons = build([Comparisons], settings, "comparisons")[0]
    tasks.load_taste(found.task)
    for split, n in (("train", found.n), (found.split, found.held_out)):
        tasks.load(found.task).rows(split, found.seed, n, **found.options)
    return found


# ---- rankings


def rank(tastes: Sequence[float], noise: float, rng: random.Random) -> list[int]:
    """Return indices, the best first, with noise as from a human ranker.

    Plackett-Luce: taste / noise + Gumbel noise, sorted. So i is before j with probability
    sigmoid((taste i - taste j) / noise), as in Bradley and Terry (1952). Without noise, ties have a random order.
    """
    if noise:
        values = [taste / noise - math.log(-math.log(rng.random() or 1e-300)) for taste in tastes]
    else:
        values = list(tastes)
    order = list(range(len(tastes)))
    rng.shuffle(order)
    return sorted(order, key=lambda i: -values[i])


def pairs_of_ranking(order: Sequence[int], which: str = "all") -> list[tuple[int, int]]:
    """Return (better, worse) for all pairs of the ranking, or only for adjacent ones."""
    if which == "adjacent":
        return list(itertools.pairwise(order))
    return [(better, worse) for place, better in enumerate(order) for worse in order[place + 1 :]]


def compare(
    rows: Sequence[tasks.Row],
    prompts: Sequence[Messages],
    answers: Sequence[Sequence[str]],
    taste: tasks.Taste,
    noise: float,
    seed: int,
    which: str = "all",
) -> tuple[list[Pair], int]:
    """Return the pairs of each prompt's ranked answers, and the number of pairs dropped as equal."""
    rng = random.Random(f"preferences {seed}")
    pairs: list[Pair] = []
    equal = 0
    for row, prompt, texts in zip(rows, prompts, answers, strict=True):
        tastes = [taste(row, text) for text in texts]
        for better, worse in pairs_of_ranking(rank(tastes, noise, rng), which):
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


def without_ties(pairs: Iterable[Pair]) -> list[Pair]:
    """Return the pairs where one side is better by taste, so that a noise-free label exists."""
    return [pair for pair in pairs if pair["taste_chosen"] != pair["taste_rejected"]]


# ---- datasets


def load_pairs(datasets: Sequence[Any], equal: str) -> tuple[list[Pair], int]:
    """Load the pairs of a YAML's `datasets:`, and the number of pairs dropped as equal."""
    sources = read_sources(datasets)
    loaded = [load_preferences(source, equal) for source in sources]
    rows = mix([part for part, _ in loaded], [source.fraction for source in sources], size=lambda _: 1)
    return list(rows), sum(n for _, n in loaded)


def split_pairs(pairs: Sequence[Pair], test_fraction: float) -> tuple[list[Pair], list[Pair]]:
    """Return (training pairs, held-out pairs), split by prompt, so that no prompt is in both.

    Raises `UserError` if one of the two would be empty.
    """
    split: dict[str, list[Pair]] = {"train": [], "test": []}
    for pair in pairs:
        split[split_of(str(pair["prompt"]), 0.0, test_fraction)].append(pair)
    for name, found in split.items():
        if not found:
            raise UserError(f"datasets: none of {len(pairs)} pairs is in the {name} split: change test_fraction")
    return split["train"], split["test"]


def load_preferences(source: Source, equal: str = "error") -> tuple[Dataset, int]:
    """Load `prompt`, `chosen` and `rejected`, each a list of messages, from a dataset in a format of `shapes.py`.

    Plain text becomes a user's and an assistant's turn. Without a prompt column, the prompt is the common beginning of
    both conversations. Raises `UserError` with the row's number for an invalid pair, or for equal sides; with
    `equal="drop"` such pairs are dropped, and their number is returned too.
    """
    if source.task is not None:
        raise UserError(f"{source.label}: pairs of a task are not read from `datasets`: use `comparisons`")
    rows = load_source(source, as_text=True)
    for column in ("chosen", "rejected"):
        if column not in rows.column_names:
            raise UserError(f"{source.label}: no column '{column}'; it has {', '.join(rows.column_names)}")
    if source.n is not None:
        rows = rows.select(range(min(source.n, len(rows))))
    shape = recognise(rows.column_names, PREFERENCES, source.label)
    if is_main_process():
        print(f"{source.label}: {len(rows):,} pairs, read as {shape.described(rows.column_names)}", flush=True)
    pairs = [_read_pair(row, shape, f"{source.label}, row {i}", equal) for i, row in enumerate(rows)]
    kept = [pair for pair in pairs if pair is not None]
    if not kept:
        raise UserError(f"{source.label}: chosen and rejected are equal in every row")
    return Dataset.from_list(kept, features=_FEATURES), len(pairs) - len(kept)


def _read_pair(row: dict[str, Any], shape: Shape, where: str, equal: str) -> Pair | None:
    chosen, rejected = (
        text_turns(read_turns(row[side], "assistant", f"{where}: {side}"), f"{where}: {side}")
        for side in ("chosen", "rejected")
    )
    prompt = [] if row[shape.columns[0]] is None else text_turns(shape.begin(row, where), where)
    if not prompt:
        same = [a == b for a, b in zip(chosen, rejected, strict=False)]
        prompt = chosen[: same.index(False) if False in same else len(same)]
    # In many datasets both sides are complete conversations.
    chosen, rejected = (side[len(prompt) :] if side[: len(prompt)] == prompt else side for side in (chosen, rejected))
    if _stripped(chosen) == _stripped(rejected):
        if equal == "drop":
            return None
        raise UserError(
            f"{where}: chosen and rejected are equal: remove the row, or set `equal: drop` to drop all such rows"
        )
    if not prompt:
        raise UserError(f"{where}: no prompt: add a column 'prompt', or start both chosen and rejected with it")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not side or side[-1]["role"] != "assistant":
            raise UserError(f"{where}: {name}: does not end with the assistant's turn")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _stripped(messages: Messages) -> list[tuple[str, str]]:
    return [(message["role"], message["content"].strip()) for message in messages]


# ---- lengths


def which_fit(lengths: Sequence[tuple[int, int]], max_length: int, overlong: str, label: str) -> list[int]:
    """Return the indices of pairs with both sides within `max_length`, given their lengths in tokens.

    A longer pair raises `UserError` with `overlong="error"`, else it is dropped and counted.
    """
    fits = [max(both) <= max_length for both in lengths]
    if not all(fits):
        said = f"{label}: {fits.count(False)} of {len(fits)} pairs have an answer longer than max_length {max_length}"
        if overlong == "error" or not any(fits):
            raise UserError(f"{said} (row {fits.index(False)}): raise max_length, or set `overlong: drop`")
        if is_main_process():
            print(f"{said}: dropped", flush=True)
    return [i for i, fit in enumerate(fits) if fit]


def _words(messages: Sequence[dict[str, str]]) -> int:
    return sum(len(message["content"].split()) for message in messages)


def length_only(train: Sequence[Pair], test: Sequence[Pair]) -> list[float]:
    """Baseline from lengths alone on the test pairs: 1 if it picks chosen, 0 for rejected, 0.5 for a tie.

    The side whose number of words is closer to a best length wins. The best length maximizes agreement with the
    training labels; it may be 0 or infinite, so that the shorter or longer side wins.
    """

    def guess(lengths: tuple[int, int], best: int) -> float:
        off = [abs(length - best) for length in lengths]
        return 0.5 if off[0] == off[1] else float(off[0] < off[1])

    seen = [(_words(pair["chosen"]), _words(pair["rejected"])) for pair in train]
    longest = max(map(max, seen))
    best = max(range(longest + 1), key=lambda length: sum(guess(pair, length) for pair in seen))
    return [guess((_words(pair["chosen"]), _words(pair["rejected"])), best) for pair in test]


# ---- files


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write JSON lines atomically: a killed run leaves all pairs or none."""
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs))


def read_pairs(path: Path) -> list[Pair]:
    return read_jsonl(path)
