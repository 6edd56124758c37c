"""Worlds to act in for many steps: rooms, a desk, a folder of files, and games that others wrote.

A row is a world and what a person wants from it. The world's methods are the tools, and its final state decides whether
the row is solved. A row's `horizon` is the number of actions in the shortest plan. Names and wordings belong to one
split. `score` compares only the sentence at the end of an episode.
"""

from __future__ import annotations

import copy
import importlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.inference.tool_format import call_message, failed
from zero2chat.models.tokenization import as_message
from zero2chat.tasks import Row, ask, shuffled
from zero2chat.tools.environments import OUT_OF_ORDER, methods, world_class
from zero2chat_practice.helpers import known_all
from zero2chat_practice.worlds import base

STYLES = ("worked", "mended")
WORLDS = tuple(sorted({file.stem for file in Path(__file__).parent.glob("*.py")} - {"__init__", "base"}))
Step = tuple[str, dict[str, Any], str]  # an action's name and arguments, and what was observed
_SEEDS = 100_000  # of each world, horizon and split
_FORMS = ("{}", "Done. {}", "That is all. {}", "Finished. {}")
_SLIPS = 0.45  # of the style `mended`: how often an early action is tried first


def rows(
    split: str,
    seed: int,
    n: int,
    world: str | Sequence[str] = ("rooms", "desk", "files"),
    horizons: Sequence[int] = (1, 8),
    declined: float = 0.0,
) -> list[Row]:
    """Return rows of one or several worlds, in turn: `world` is `rooms`, `desk`, `files` or `textworld`, or a list of
    these. `horizons` are the smallest and the largest number of actions, from 1 to 16.
    `declined` is the share of rows in which the person says no to what needs consent, of rows with such actions."""
    names = [world] if isinstance(world, str) else world
    known_all(names, WORLDS, "worlds: world")
    first, last = horizons if isinstance(horizons, list | tuple) and len(horizons) == 2 else (0, 0)
    if not (isinstance(first, int) and isinstance(last, int) and 1 <= first <= last <= 16):
        raise UserError(f"worlds: horizons {horizons!r}: give [smallest, largest], from 1 to 16, such as [1, 8]")
    where, found = f"worlds, {split}", dict[str, Row]()
    for i, number in enumerate(shuffled(range(_SEEDS), where, seed, n)):
        if len(found) == n:
            break
        name, horizon = names[i % len(names)], first + i // len(names) % (last - first + 1)
        row = importlib.import_module(f"{__name__}.{name}").world(number, horizon, split)
        question = row.pop("prompt")[0]["content"]
        key = f"{name} {split} {number} {horizon}"
        if (denied := row.pop("denied", "")) and random.Random(f"declined {key}").random() < declined:
            row |= {"consent": "no", "answer": denied}
        found.setdefault(question, {"key": key, "question": question, "kind": name, **row})
    if len(found) < n:
        raise UserError(f"{where}: {n} rows requested, but only {len(found)} distinct rows exist: request fewer")
    return list(found.values())


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the sentence at the end of an episode."""
    return rng.choice(_FORMS).format(row["answer"])


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the sentence at the end is right. The final state of the world is judged by the world."""
    return float(any(completion.strip() == form.format(row["answer"]) for form in _FORMS))


def episode(
    row: Row, rng: random.Random, style: str = "worked", failing: float = 0.0
) -> tuple[list[dict[str, Any]], list[Callable[..., str]]]:
    """Return an episode that solves the row, from the prompt to the sentence at the end, and the world's methods.

    In the style `mended`, some actions come too early: they fail, or are a detour, and are mended. Such actions carry
    no loss (`untrained`). `failing` is the fraction of calls that fail with an error, and are made again. Before each
    other action, its goal is thought of."""
    world, turns = world_class(row["environment"])(), ask(row)
    turns[-1]["content"] += world.reset(**row)
    spare = row["horizon"]  # steps that may be lost; the way back takes as many
    while plan := world._to_do():
        (name, arguments), goal = plan[0], world._goal()
        if slips := style == "mended" and spare > 0 and rng.random() < _SLIPS:
            early, ahead = rng.choice(plan), copy.deepcopy(world)
            getattr(ahead, early[0])(**early[1])
            if slips := len(ahead._to_do()) >= len(plan):
                (name, arguments), spare = early, spare - 2
        if fails := not slips and spare > 0 and rng.random() < failing:
            spare -= 1
        result = failed(OUT_OF_ORDER).text if fails else getattr(world, name)(**arguments)
        call = call_message((name, arguments)) | ({"untrained": True} if slips else {"reasoning_content": goal})
        turns += [call, {"role": "tool", "name": name, "content": result}]
    if style == "mended" and not world.get_reward():  # in a game, an early action may close the way
        return episode(row, rng, failing=failing)
    return [*turns, as_message(demonstration(row, rng))], [*methods(row["environment"], world).values()]


def plan(row: Row) -> base.Plan:
    """Return the shortest plan of a row."""
    world: base.World = world_class(row["environment"])()
    world.reset(**row)
    return world._plan()


def steps_of(messages: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Return the calls of an episode that were answered."""
    calls = [call["function"] for turn in messages for call in turn.get("tool_calls") or ()]
    seen = [turn["content"] for turn in messages if turn["role"] == "tool"]
    return [(call["name"], call["arguments"], text) for call, text in zip(calls, seen, strict=False)]


def actions_left(row: Row, steps: Sequence[Step]) -> list[int]:
    """Return the length of the shortest plan at the beginning and after each step; 0 if no plan is left, either."""
    world = world_class(row["environment"])()
    world.reset(**row)
    left, known = [len(world._to_do())], methods(row["environment"], world)
    for name, arguments, _ in steps:
        if name in known:
            getattr(world, name)(**arguments)
        left.append(len(world._to_do()))
    return left
