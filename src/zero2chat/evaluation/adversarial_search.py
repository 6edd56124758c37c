"""A search for texts that a judge loves and nobody else would: what a policy finds in the end, found in seconds."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

Judge = Callable[[Sequence[int], Sequence[str]], list[float]]


def pieces_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What the vocabulary's tokens read as, those left out that are no text of their own."""
    special = set(tokenizer.all_special_ids)
    texts = (tokenizer.decode([i]) for i in range(len(tokenizer)) if i not in special)
    return sorted({text for text in texts if text.isprintable() and text.strip() and "\ufffd" not in text})


def search(
    judge: Judge, prompts: int, pieces: Sequence[str], rng: random.Random, rounds: int, tries: int, length: int
) -> list[list[str]]:
    """For each of so many prompts the texts that the search went through, each better than the one before.

    `judge(prompt numbers, texts)` gives scores. A search begins with random pieces, or with one said again and again
    ("the the the"); each round changes the best text in `tries` ways and keeps what is better. Texts have at most
    `length` pieces. Nothing but the judge leads it.
    """

    def start() -> list[str]:
        piece = rng.choice(pieces)
        return [piece] * length if rng.random() < 0.5 else [rng.choice(pieces) for _ in range(length)]

    def changed(text: list[str]) -> list[str]:
        new, place = list(text), rng.randrange(len(text))
        kind = rng.random()
        if kind < 0.2 and len(new) > 1:
            del new[place]
        elif kind < 0.4 and len(new) < length:
            new.insert(place, rng.choice(pieces))
        elif kind < 0.6:
            new[place] = rng.choice(text)
        else:
            new[place] = rng.choice(pieces)
        return new

    best: list[tuple[float, list[str]]] = [(float("-inf"), [])] * prompts
    found: list[list[str]] = [[] for _ in range(prompts)]
    for _ in range(rounds):
        asked = [number for number in range(prompts) for _ in range(tries)]
        texts = [changed(best[number][1]) if best[number][1] else start() for number in asked]
        scores = judge(asked, ["".join(text).strip() for text in texts])
        for number, text, score in zip(asked, texts, scores, strict=True):
            if score > best[number][0]:
                best[number] = (score, text)
        for number, (_, text) in enumerate(best):
            if (joined := "".join(text).strip()) not in found[number]:
                found[number].append(joined)
    return found
