"""A tiny world: a coin is in one of the boxes. Its module is a task, too. Some of its methods break it."""

from __future__ import annotations

import random
import time
from typing import Any

COLOURS = ("red", "blue", "green")


class Boxes:
    consent = frozenset({"burn"})

    def reset(self, coin: str, **_: Any) -> str:
        self._coin, self._found, self._opened = coin, False, list[str]()
        return " The boxes are red, blue and green."

    def open(self, colour: str) -> str:
        """Open a box.

        Args:
            colour: Its colour
        """
        if colour not in COLOURS:
            raise ValueError(f"There is no {colour} box.")
        self._opened.append(colour)
        self._found |= colour == self._coin
        return "There is a coin." if colour == self._coin else "It is empty."

    def burn(self) -> str:
        """Burn all boxes."""
        self._found = False
        return "All is ash."

    def wait(self) -> str:
        """Wait for ever."""
        while True:
            time.sleep(0.01)

    def leave(self) -> str:
        """Leave."""
        raise SystemExit

    def get_reward(self) -> float:
        return float(self._found)


def world(seed: int, horizon: int, split: str) -> dict[str, Any]:
    if horizon > 1:
        raise ValueError("each has horizon 1")
    coin = random.Random(f"{seed} {split}").choice(COLOURS)
    return {"prompt": [{"role": "user", "content": "Find the coin."}], "coin": coin}


def rows(split: str, seed: int, n: int, consent: str = "yes") -> list[dict[str, Any]]:
    made = [world(seed + i, 1, split) | {"key": f"{split} {i}", "question": "Find the coin."} for i in range(n)]
    return [row | {"answer": row["coin"], "environment": __name__, "consent": consent} for row in made]


def demonstration(row: dict[str, Any], rng: random.Random, style: str = "") -> str:
    return "Done."


def score(row: dict[str, Any], completion: str) -> float:
    raise AssertionError("the world's reward is the score")
