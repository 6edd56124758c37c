"""Puzzles of reasoning-gym's environments, generated without limit and scored by the environments' verifiers.

reasoning-gym (Stojanovski et al. 2025, arXiv:2505.24760; Apache-2.0) comes with `pip install "zero2chat[reasoning]"`.
A row's split depends on its seed (no seed is in two splits) and on its question (two seeds may share one).

Some of its verifiers pass the answer to `eval` or to sympy's parser, which also evaluates code, so a model's text could
run anything. One converts it to a fraction, which never ends for `1e999999999`. These environments are refused.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

from zero2chat.core.errors import UserError, nearest
from zero2chat.tasks import Row, exercises, in_split, make_pages

STYLES = ("worked", "bare")
SEEDS = {"train": range(8_000_000), "validation": range(8_000_000, 9_000_000), "test": range(9_000_000, 10_000_000)}
# Small numbers and short words: what a small model can learn.
ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
    "gcd": {"min_value": 2, "max_value": 60},
    "spell_backward": {"min_word_len": 3, "max_word_len": 5},
}
# Environments that evaluate the answer in 0.1.25: the first four by `eval`, the others by sympy's `parse_expr`; and
# those that may never end.
_REFUSED = {
    **dict.fromkeys(
        (
            *("binary_matrix", "n_queens", "spiral_matrix", "string_insertion"),
            *("countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24", "simple_integration"),
        ),
        "evaluates what the model wrote",
    ),
    "coin_flip": "may never end on a model's text",
}
_PATIENCE = 2_000  # draws without a new question, after which an environment counts as exhausted
_UNFIT = 40  # a question whose answer is not one line counts as this many draws
_LONGEST = 1_000  # characters per answer: longer ones are wrong, without asking the verifier
_BOMB = re.compile(r"[eE][+-]?\d[\d_]{2}")  # a verifier may write out all digits of a number with such an exponent
_WORDINGS = ("#### {}", "The answer is {}.\n#### {}", "It is {}.\n#### {}", "I find {}.\n#### {}")


def rows(split: str, seed: int, n: int, environments: Mapping[str, Any] | None = None) -> list[Row]:
    """Return n puzzles, alternating between environments. `environments`: name → options; default `ENVIRONMENTS`.

    Raises `UserError` for an unknown environment or option, for an environment with an unsafe verifier or with answers
    of several lines, and if there are fewer than n distinct puzzles.
    """
    chosen = _chosen(environments)
    sources = {name: _puzzles(name, dict(options or {}), split, seed) for name, options in chosen.items()}
    found: list[Row] = []
    while len(found) < n:
        if not sources:
            raise UserError(
                f"reasoning_gym, {split}: {n} rows asked for, {len(found)} distinct ones exist: ask for fewer, or "
                "give other environments"
            )
        for name in list(sources):
            row = next(sources[name], None)
            if row is None:
                del sources[name]
            else:
                found.append(row)
    return found[:n]


def _puzzles(name: str, options: dict[str, Any], split: str, seed: int) -> Iterator[Row]:
    """Yield distinct puzzles of the split until new ones become rare. Raises `UserError` if there are none."""
    seeds = SEEDS[split]
    environment = json.dumps({"name": name, "options": options}, sort_keys=True)
    dataset = _dataset(environment)
    start = random.Random(f"reasoning_gym {split} {seed} {name}").randrange(len(seeds))
    seen: set[str] = set()
    misses = 0
    for i in range(len(seeds)):
        entry = dataset[seeds[(start + i) % len(seeds)]]  # the index is the seed
        question, answer = entry["question"], entry["answer"]
        # The same words in another order ("12 + 5", "5 + 12") are in one split.
        key = " ".join((name, *sorted(re.findall(r"\w+", question))))
        row = {
            "key": key,
            "question": question,
            "answer": answer,
            "kind": name,
            "environment": environment,
            "entry": json.dumps(entry, default=str, sort_keys=True),
        }
        new = question not in seen and in_split(key, split)
        fits = isinstance(answer, str) and answer and "\n" not in answer
        # A verifier needs the whole entry, and some entries are not JSON-serializable.
        if new and fits and score(row, f"#### {answer}"):
            misses = 0
            seen.add(question)
            yield row
        else:
            misses += _UNFIT if new or not fits else 1
            if misses > _PATIENCE:
                break
    if not seen:
        raise UserError(f"reasoning_gym: environment '{name}': no puzzle of {split} whose answer is one line")


@functools.lru_cache(maxsize=64)
def _dataset(environment: str) -> Any:
    """Return reasoning-gym's dataset, with the puzzle of seed i at index i."""
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise UserError(f"task 'reasoning_gym': {error}: pip install \"zero2chat[reasoning]\"") from error
    name, options = json.loads(environment).values()
    if name in _REFUSED:
        raise UserError(f"reasoning_gym: environment '{name}': its verifier {_REFUSED[name]}: remove it")
    if name not in DATASETS:
        raise UserError(f"reasoning_gym: environment '{name}' does not exist{nearest(name, DATASETS)}")
    if {"seed", "size"} & options.keys():
        raise UserError(f"reasoning_gym: environment '{name}': seed and size are set by the task: remove them")
    try:
        return reasoning_gym.create_dataset(name, seed=0, size=SEEDS["test"].stop, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"reasoning_gym: environment '{name}': {error}") from error


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the answer after `####`, with `worked` sometimes after a sentence. RL has to find the steps."""
    wording = _WORDINGS[0] if style == "bare" else rng.choice(_WORDINGS)
    return wording.format(*[row["answer"]] * 2)


def score(row: Row, completion: str) -> float:
    """Return 1.0 if every `####` is followed by the same answer, and the verifier gives it the full score."""
    finals = {part.split("\n")[0].strip() for part in completion.split("####")[1:]}
    if len(finals) != 1:
        return 0.0
    (final,) = finals
    if len(final) > _LONGEST or _BOMB.search(final):
        return 0.0
    try:
        return float(_dataset(row["environment"]).score_answer(final, json.loads(row["entry"])) >= 1)
    except UserError:
        raise
    except Exception:  # a verifier may fail on some completions
        return 0.0


def documents(seed: int, n: int, environments: Mapping[str, Any] | None = None) -> list[str]:
    """Return n pages with six puzzles of one environment and their answers each, all from train rows.

    An environment with fewer puzzles repeats them.
    """
    chosen = _chosen(environments)
    sources = itertools.cycle(
        [itertools.cycle(_puzzles(name, dict(options or {}), "train", seed)) for name, options in chosen.items()]
    )

    def page(rng: random.Random) -> str:
        return exercises(itertools.islice(next(sources), 6), demonstration, rng)

    return make_pages(seed, n, "reasoning_gym pages", page)


def _chosen(environments: Mapping[str, Any] | None) -> Mapping[str, Any]:
    chosen = ENVIRONMENTS if environments is None else environments
    each = chosen.values() if isinstance(chosen, Mapping) else ()
    if not each or not all(options is None or isinstance(options, Mapping) for options in each):
        raise UserError(f"reasoning_gym: environments: expected names, each with its options, got {chosen!r}")
    return chosen
