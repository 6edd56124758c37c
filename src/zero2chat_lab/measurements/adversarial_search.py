"""Adversarial search for texts that a reward model overrates: finds in seconds what a policy would exploit."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

Judge = Callable[[Sequence[int], Sequence[str]], list[float]]


def pieces_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the texts of the vocabulary's tokens, without those that are not text by themselves."""
    special = set(tokenizer.all_special_ids)
    texts = (tokenizer.decode([i]) for i in range(len(tokenizer)) if i not in special)
    return sorted({text for text in texts if text.isprintable() and text.strip() and "\ufffd" not in text})


def search(
    judge: Judge, prompts: int, pieces: Sequence[str], rng: random.Random, rounds: int, tries: int, length: int
) -> list[list[str]]:
    """Return, per prompt, the texts that the search went through, each with a higher score than the one before.

    `judge(prompt indices, texts)` returns scores. A search starts with random pieces, or one repeated piece ("the the
    the"). Each round changes the best text in `tries` ways and keeps an improvement. Texts have at most `length`
    pieces. Only the judge guides the search.
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
