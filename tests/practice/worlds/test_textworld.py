"""A game of TextWorld in the shape of a world: `pip install -e ".[worlds]"`. A game is compiled in about a second."""

from __future__ import annotations

import json
from typing import Any

import pytest

from zero2chat.tasks import SPLITS
from zero2chat_practice import worlds
from zero2chat_practice.worlds import textworld

library = pytest.importorskip("textworld")


def fewest(game: Any, most: int) -> int | None:
    """The fewest actions that complete the quest, by breadth-first search in TextWorld's own logic."""
    progress = library.generator.game.GameProgression(game)
    frontier, seen = [progress.copy()], {frozenset(progress.state.facts)}
    for length in range(1, most + 1):
        states, frontier = frontier, []
        for before, action in ((state, action) for state in states for action in state.valid_actions):
            after = before.copy()
            after.update(action)
            if after.completed:
                return length
            facts = frozenset(after.state.facts)
            if facts not in seen:
                seen.add(facts)
                frontier.append(after)
    return None


def test_a_game_has_a_plan_as_long_as_its_horizon_and_is_won_by_it() -> None:
    world = textworld.TextWorld()
    prompts = set()
    for horizon, split in zip((1, 2, 3), SPLITS, strict=True):
        row = textworld.world(0, horizon, split)
        assert row == textworld.world(0, horizon, split)
        prompts.add(row["prompt"][0]["content"])
        plan = worlds.plan(row)
        assert len(plan) == horizon
        assert world.reset(**row).startswith("\nRoom")
        for method, arguments in plan:
            assert world.get_reward() == 0.0
            observation = getattr(world, method)(**arguments)
            assert 0 < len(observation) <= 350
            assert not {"\n", ">"} & set(observation)
        assert world.get_reward() == 1.0
        assert (world.act("look"), world._plan()) == ("The game is over.", [])
    assert len(prompts) == 3


def test_a_command_may_have_only_words_of_the_game() -> None:
    world = textworld.TextWorld()
    world.reset(**textworld.world(0, 2, "train"))
    before, world._left = world._now.description, 100
    for hostile in (
        "save",
        "restart",
        "quit",
        "look. save",
        "look then quit",
        "undo",
        "script",
        "",
        "x" * 150,
        "\ud800",
    ):
        assert world.act(hostile) == "The game does not know these words."
    assert world.act(3) == world.act("x" * 10**6) == "command: give short text."
    assert world.act("look").startswith("Room")
    assert (world._now.description, world.get_reward()) == (before, 0.0)


def test_no_shorter_way_wins() -> None:
    for horizon, seed in ((1, 0), (2, 0), (3, 1)):
        row = textworld.world(seed, horizon, "train")
        game = textworld._game(json.loads(row["state"])["seed"], horizon)
        assert fewest(game, horizon) == horizon
