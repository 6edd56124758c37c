"""Canaries: secrets planted in a corpus, to measure later whether a model has memorized them.

As in Carlini et al. 2019 (The Secret Sharer, arXiv:1802.08232), a canary is a random number in a fixed sentence, with a
known number of copies in the training text. Canaries with 0 copies are the control.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Annotated

from zero2chat.core.config import Range

CANARIES = "canaries"  # the source of their documents
FILE = "canaries.jsonl"  # in a corpus's folder: a row of each canary
_DIGITS = 9  # per secret, as in the paper


@dataclass
class Planting:
    """Settings: `n` canaries for each number in `copies`, and `n` more with 0 copies."""

    copies: list[int]
    n: Annotated[int, Range(min=1)] = 8

    def __post_init__(self) -> None:
        if not self.copies or min(self.copies) < 1 or len(set(self.copies)) < len(self.copies):
            raise ValueError(f"copies {self.copies}: expected distinct integers above 0")


@dataclass(frozen=True)
class Canary:
    """The sentence before the secret, the secret, and the number of copies in the training text."""

    sentence: str
    secret: str
    copies: int

    @property
    def text(self) -> str:
        return self.sentence + self.secret


def make_canaries(planting: Planting, seed: int) -> list[Canary]:
    """Make `n` canaries per number of copies, 0 copies first. All names differ, so each has one secret."""
    rng = random.Random(f"canaries {seed}")
    levels = [copies for copies in (0, *sorted(planting.copies)) for _ in range(planting.n)]
    names: dict[str, None] = {}
    while len(names) < len(levels):
        # Invented names, which do not occur elsewhere in the corpus.
        names["".join(rng.choice("bdfgklmnprtvz") + rng.choice("aeiou") for _ in range(3)).capitalize()] = None
    return [
        Canary(f"The secret of {name} is ", make_secret(rng), copies)
        for name, copies in zip(names, levels, strict=True)
    ]


def make_secret(rng: random.Random) -> str:
    return "".join(rng.choice("0123456789") for _ in range(_DIGITS))
