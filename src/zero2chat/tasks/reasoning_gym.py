"""Puzzles from three environments of reasoning-gym, generated without limit and scored by its own verifiers.

reasoning-gym (Stojanovski et al. 2025, arXiv:2505.24760; Apache-2.0) comes with `pip install "zero2chat[reasoning]"`. A
row's split depends on its seed (no seed is in two splits), and on its question, because two seeds may share a question.
Other environments are left out, because some verifiers run a model's answer as code, or never end.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
import re
from collections.abc import Iterator
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.tasks import Row, exercises, in_split, make_pages

STYLES = ("worked", "bare")
SEEDS = {"train": range(8_000_000), "validation": range(8_000_000, 9_000_000), "test": range(9_000_000, 10_000_000)}
# Small numbers and short words: what a small model can learn.
ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
    "gcd": {"min_value": 2, "max_value": 60},
    "spell_backward": {"min_word_len": 3, "max_word_len": 5},
}
_PATIENCE = 2_000  # draws without a new question, after which an environment counts as exhausted
_LONGEST = 1_000  # characters per answer: longer ones are wrong, without asking the verifier
_BOMB = re.compile(r"[eE][+-]?\d[\d_]{2}")  # a verifier may write out all digits of a number with such an exponent
_WORDINGS = ("#### {}", "The answer is {}.\n#### {}", "It is {}.\n#### {}", "I find {}.\n#### {}")


def rows(split: str, seed: int, n: int) -> list[Row]:
    """Return n puzzles, alternating between environments. Raises `UserError` if there are fewer distinct ones."""
    sources = {name: _puzzles(name, split, seed) for name in ENVIRONMENTS}
    puzzles: list[Row] = []
    while len(puzzles) < n:
        if not sources:
            raise UserError(f"reasoning_gym, {split}: {n} rows requested, but only {len(puzzles)} distinct rows exist")
        for name in list(sources):
            row = next(sources[name], None)
            if row is None:
                del sources[name]
            else:
                puzzles.append(row)
    return puzzles[:n]


def _puzzles(name: str, split: str, seed: int) -> Iterator[Row]:
    """Yield distinct puzzles of the split until new ones become rare."""
    seeds, dataset = SEEDS[split], _dataset(name)
    environment = json.dumps({"name": name, "options": ENVIRONMENTS[name]}, sort_keys=True)
    start = random.Random(f"reasoning_gym {split} {seed} {name}").randrange(len(seeds))
    seen: set[str] = set()
    misses = 0
    for i in range(len(seeds)):
        entry = dataset[seeds[(start + i) % len(seeds)]]  # the index is the seed
        question, answer = entry["question"], entry["answer"]
        # The same words in another order ("12 + 5", "5 + 12") are in one split.
        key = " ".join((name, *sorted(re.findall(r"\w+", question))))
        if question not in seen and in_split(key, split):
            misses = 0
            seen.add(question)
            details = json.dumps(entry, default=str, sort_keys=True)
            row = {"key": key, "question": question, "answer": answer, "kind": name}
            yield row | {"environment": environment, "entry": details}
        else:
            misses += 1
            if misses > _PATIENCE:
                break


@functools.cache
def _dataset(name: str) -> Any:
    """Return reasoning-gym's dataset, with the puzzle of seed i at index i."""
    try:
        import reasoning_gym
    except ImportError as error:
        raise UserError(f"task 'reasoning_gym': {error}: pip install \"zero2chat[reasoning]\"") from error
    return reasoning_gym.create_dataset(name, seed=0, size=SEEDS["test"].stop, **ENVIRONMENTS[name])


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return `####` and the answer; with style `worked`, sometimes after a sentence. RL must find the steps itself."""
    wording = _WORDINGS[0] if style == "bare" else rng.choice(_WORDINGS)
    return wording.format(*[row["answer"]] * 2)


def score(row: Row, completion: str) -> float:
    """Return 1.0 if every `####` is followed by the same answer, and the verifier gives it the full score."""
    finals = {part.split("\n")[0].strip() for part in completion.split("####")[1:]}
    final = finals.pop() if len(finals) == 1 else ""
    if not final or len(final) > _LONGEST or _BOMB.search(final):
        return 0.0
    try:
        return float(_dataset(row["kind"]).score_answer(final, json.loads(row["entry"])) >= 1)
    except UserError:
        raise
    except Exception:  # a verifier may fail on some completions
        return 0.0


def documents(seed: int, n: int) -> list[str]:
    """Return n pages, each with six puzzles of one environment and their answers, all from train rows.

    If an environment has fewer puzzles, pages repeat them.
    """
    sources = itertools.cycle([itertools.cycle(_puzzles(name, "train", seed)) for name in ENVIRONMENTS])

    def page(rng: random.Random) -> str:
        return exercises(itertools.islice(next(sources), 6), demonstration, rng)

    return make_pages(seed, n, "reasoning_gym pages", page)
