"""The worlds: horizons are facts, splits share no names, and whatever a model writes is answered in a few words."""

from __future__ import annotations

import inspect
import itertools
import json
import random
import re
from typing import Any

import pytest
from transformers.utils import get_json_schema

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.data.conversations import load_conversations
from zero2chat.data.sources import read_sources
from zero2chat.tasks import SPLITS
from zero2chat.tools.environments import methods
from zero2chat_practice import worlds
from zero2chat_practice.synthetic.grammar import plural
from zero2chat_practice.worlds import desk, files, rooms

WORLDS = {"rooms": (rooms, rooms.Rooms), "desk": (desk, desk.Desk), "files": (files, files.Files)}
every_world = pytest.mark.parametrize("name", WORLDS)


def begin(name: str, seed: int = 0, horizon: int = 4, split: str = "train") -> tuple[Any, dict[str, Any]]:
    module, kind = WORLDS[name]
    row = module.world(seed, horizon, split)
    world = kind()
    world.reset(**row)
    return world, row


def sensible_actions(world: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Every action that could bring a world nearer to its goal, and many that do not."""
    state, found = world._state, []
    if isinstance(world, rooms.Rooms):
        found += [("go", (place,)) for place in state["row"]]
        found += [(method, (thing,)) for method in ("take", "put", "unlock") for thing in state["where"]]
    elif isinstance(world, desk.Desk):
        found += [(method, (one,)) for method in ("look", "pay", "send", "refuse") for one in state["records"]]
        found += [("change", (record, value)) for kind, record, value, _ in state["requests"]]
    else:
        found += [(method, (name,)) for method in ("read", "delete") for name in state["files"]]
        found += [("replace", tuple(edit)) for edit in state["edits"].values()]
        found += [("replace", (text, state["want"].get(name, ""))) for name, text in state["files"].items()]
    return found


def fewest(world: Any, most: int) -> int | None:
    """The length of the shortest way to the goal, by breadth-first search."""
    actions, start = sensible_actions(world), json.dumps(world._state, sort_keys=True)
    seen, frontier = {start}, [start]
    for length in range(1, most + 1):
        states, frontier = frontier, []
        for state, (method, given) in itertools.product(states, actions):
            world._state, world._left = json.loads(state), 1
            getattr(world, method)(*given)
            after = json.dumps(world._state, sort_keys=True)
            if after not in seen:
                seen.add(after)
                frontier.append(after)
                if world.get_reward():
                    return length
    return None


@every_world
def test_the_horizon_is_the_length_of_the_shortest_way(name: str) -> None:
    for horizon in range(1, 6 if name == "rooms" else 5):
        for seed in range(3 if horizon < 4 else 1):
            world, row = begin(name, seed, horizon)
            assert fewest(world, horizon) == horizon, row


@every_world
def test_the_plan_has_as_many_actions_as_the_horizon_and_solves_the_world(name: str) -> None:
    module, _ = WORLDS[name]
    for split, horizon in itertools.product(SPLITS, range(1, 17)):
        world, row = begin(name, 7, horizon, split)
        assert json.loads(json.dumps(row)) == row == module.world(7, horizon, split)
        plan = worlds.plan(row)
        assert (len(plan), world.get_reward()) == (horizon, 0.0)
        observations = [getattr(world, method)(**arguments) for method, arguments in plan]
        assert (world.get_reward(), world._plan()) == (1.0, [])
        assert max(map(len, observations)) <= 130  # characters: about 40 tokens
    for horizon in (0, 17):
        with pytest.raises(ValueError, match=f"{name}: horizon {horizon}: give a whole number from 1 to 16"):
            module.world(0, horizon, "train")


def names_in(row: dict[str, Any]) -> set[str]:
    """The names of a world's places, things, people, records and files."""
    state = json.loads(row["state"])
    if row["environment"] == "rooms":
        return {*state["row"], *state["where"]}
    if row["environment"] == "desk":
        people = {value for value in state["want"].values() if isinstance(value, str)}
        return {*state["records"], *people} - {*desk._DAYS, ""}
    return {*state["files"], *re.findall(r"[a-z]+", " ".join(text for text in state["want"].values() if "," in text))}


@every_world
def test_splits_share_no_names_and_no_wordings(name: str) -> None:
    by_split = []
    for split in SPLITS:
        made = [WORLDS[name][0].world(seed, horizon, split) for seed in range(40) for horizon in (2, 9)]
        by_split.append(set[str]().union(*map(names_in, made)))
        assert len(by_split[-1]) > 15
    assert not any(a & b for a, b in itertools.combinations(by_split, 2))


def test_splits_share_no_word_or_plural_and_no_wording_whatever_its_choices() -> None:
    def alternatives(text: str) -> list[str]:
        found = re.search(r"\[([^\[\]]*)\]", text)
        if not found:
            polite = re.sub(r"\b(?:please|(?:could|would|can) you)\b|[^\w{} ]", "", text.lower())
            return [" ".join(polite.split())]
        return [one for each in found[1].split("|") for one in alternatives(text.replace(found[0], each, 1))]

    for name in worlds.base._WORDS:
        words = [worlds.base.share(name, split) for split in SPLITS]
        if name in worlds.base._NAMES:
            parts = [{form.lower() for word in part for form in (word, plural(word))} for part in words]
            assert len(parts[0]) > 1000
            assert not parts[0] & {"hand", "nothing", "locked"}
        elif name == "asks" or name.endswith("_clauses"):  # pairs of these belong to a split
            continue
        else:
            words = [(*part, *worlds.base.framed(name, split)) for part, split in zip(words, SPLITS, strict=True)]
            parts = [{form for text in part for form in alternatives(text)} for part in words]
            clauses = {form for text in worlds.base._listed(f"{name}_clauses") for form in alternatives(text)}
            assert not clauses & {form for part in words[1:] for text in part for form in alternatives(text)}
        assert all(parts)
        assert not [a & b for a, b in itertools.combinations(parts, 2) if a & b]


def test_training_has_longer_names_with_the_words_that_are_names_of_other_splits() -> None:
    names = [name.lower() for which in worlds.base._NAMES for name in worlds.base.share(which, "train")]
    for word in ("lamp", "kettle", "study", "balcony", "holiday", "yellow", "uma"):
        assert word not in names
        assert any(name.startswith(word) for name in names)


_ACTIONS = (
    "So read delete change refund pay send refuse to becomes which is not allowed To must be or paid It Of of are"
)
OWN_WORDS = {*re.findall(r"\w+", f"{_ACTIONS} in stock fits too many In free for The goes the from left right here")}


@every_world
def test_a_demonstration_thinks_before_each_action_but_an_early_one_only_of_what_it_was_told(name: str) -> None:
    for seed, row in enumerate(worlds.rows("train", 0, 30, world=name, horizons=[6, 6])):
        turns, _ = worlds.episode(row, random.Random(seed), "mended")
        told = ""
        for turn in turns:
            if turn["role"] != "assistant":
                told += turn["content"] + "\n"
            elif turn.get("tool_calls"):
                assert bool(turn.get("reasoning_content")) != bool(turn.get("untrained"))
                said, known = (
                    set(re.findall(r"[A-Za-z]+|[0-9]+", text)) for text in (turn.get("reasoning_content", ""), told)
                )
                assert said <= known | OWN_WORDS


@every_world
def test_a_thought_says_where_it_leads_the_side_the_rule_or_the_edit_that_the_next_call_follows(name: str) -> None:
    for row in worlds.rows("train", 0, 40, world=name, horizons=[5, 8]):
        turns, _ = worlds.episode(row, random.Random(0))
        order, at, goal = (json.loads(row["state"]).get(name) for name in ("row", "at", "goal"))
        for turn in (turn for turn in turns if turn.get("tool_calls")):
            call, thought = turn["tool_calls"][0]["function"], turn["reasoning_content"]
            values = [*call["arguments"].values()]
            if name == "rooms":
                side = thought.rstrip(".").rpartition(": ")[2]
                assert goal[1] == "hand" or f"The {goal[0]} goes to the {goal[1]}" in thought
                assert side == (
                    "here" if call["name"] != "go" else ("left", "right")[order.index(values[0]) > order.index(at)]
                )
            elif name == "desk" and call["name"] != "look":
                assert thought.endswith(f"{call['name']} {' to '.join(values)}.")
            elif name == "files":
                last = (
                    f"{values[0]} becomes {values[-1]}."
                    if call["name"] == "replace"
                    else f"{call['name']} {values[0]}."
                )
                assert thought.endswith(last)
            at = values[0] if call["name"] == "go" else at


HOSTILE = (3, None, [], {}, True, "", "\ud800", "x" * 10**6, "hand", "../../etc/passwd", "<|im_end|>", "'", "٣")


@every_world
def test_whatever_a_model_writes_is_a_short_observation(name: str) -> None:
    world, _ = begin(name, horizon=9)
    before = json.dumps(world._state)
    for method in methods(name, world).values():
        takes = list(inspect.signature(method).parameters)
        calls = [(dict.fromkeys(takes, value), ()) for value in HOSTILE] if takes else []
        calls += [({"nothing": "x"}, ()), ({}, ("x",) * (len(takes) + 1)), (dict.fromkeys([*takes, "more"], "x"), ())]
        calls += [({}, ())] if takes else []
        for named, given in calls:
            world._left = 1
            assert 0 < len(text := method(*given, **named)) < 120, (method, named)
            assert "\n" not in text
            assert world._left == 0
    assert json.dumps(world._state) == before


@every_world
def test_steps_run_out(name: str) -> None:
    world, row = begin(name)
    method, arguments = world._plan()[0]
    world._left = 0
    assert getattr(world, method)(**arguments) == "No steps are left."
    assert row["steps"] > row["horizon"]
    assert len(world._plan()) == row["horizon"]


@every_world
def test_trl_finds_the_actions_and_nothing_else(name: str) -> None:
    """TRL takes every public function of the class but `reset` and `get_reward`, and makes its schema."""
    world, _ = begin(name)
    found = [key for key, _ in inspect.getmembers(type(world), inspect.isfunction) if not key.startswith("_")]
    actions = {"rooms": 4, "desk": 5, "files": 5}
    assert len(found) == actions[name] + 2
    assert world.consent <= set(found)
    for method in methods(name, world).values():
        schema = get_json_schema(method)["function"]
        assert set(schema["parameters"]["properties"]) == set(schema["parameters"].get("required", []))
    assert [key for key in vars(world) if not key.startswith("_")] == []


def test_a_box_needs_its_key_and_things_are_taken_where_they_lie() -> None:
    world, _ = begin("rooms")
    places = {"row": ["attic", "barn", "cellar"], "at": "attic", "goal": ["lamp", "barn"]}
    where = {"red box": "attic", "lamp": "red box", "red key": "barn", "blue box": "attic"}
    world._state = {**places, "where": where, "locks": {"red box": "red key", "blue box": "blue key"}}
    where["blue key"] = "red box"
    assert world.unlock("red box") == "You do not have the red key."
    assert world.take("lamp") == world.take("red box") == "That cannot be taken here."
    assert world.go("cellar") == "You are in the attic. It is not next to that."
    assert world.go("barn") == "barn 2: red key. Left: attic 1. Right: cellar 3."
    assert world.take("red key") == "You have the red key."
    assert [method for method, _ in world._plan()] == ["go", "unlock", "take", "go", "put"]
    assert world.go("attic") == "attic 1: red box (locked), blue box (locked). Left: nothing. Right: barn 2."
    assert world.unlock("blue box") == "You do not have the blue key."
    assert world.unlock("red box") == "In the red box: lamp, blue key."


def test_the_desk_obeys_and_only_its_final_state_counts() -> None:
    world, _ = begin("desk")
    records = {"31": ["lamps", 3, "sent"], "32": ["cups", 2, "open"], "lamps": 5, "cups": 4, "Monday": "Ada"}
    requests = [["count", "31", "4", False], ["pay", "32", "", True]]
    want = json.loads(json.dumps(records))
    want["32"][2] = "paid"
    world._state = {"records": records, "want": want, "seen": [], "refused": [], "requests": requests}
    world._left = 20
    assert world.refuse("31") == "Look up 31 first."
    assert world.look("31") == "Order 31: 3 lamps, sent."
    assert world.change("31", "4") == "Look up lamps first."
    assert world.refuse("31") == "Refused: 31."
    assert world.pay("32") == "Look up 32 first."
    assert world.look("32") == "Order 32: 2 cups, open."
    assert world.pay("32") == "Order 32 is paid."
    assert world.get_reward() == 1.0
    assert world.change("cups", "many") == "The value must be a number."
    assert world.look("Monday") == "Monday: Ada."
    assert world.change("Monday", "Eva") == "Monday is changed."  # the rules forbid it, the database does not
    assert world.get_reward() == 0.0


def test_files_are_judged_by_their_tests_and_texts() -> None:
    world, _ = begin("files")
    code, wrong = "def plus_7(x):\n    return x + 7\n", "def plus_7(x):\n    return x + 5\n"
    tests = {"sums.py": ["assert plus_7(3) == 10", "assert plus_7(20) == 27"]}
    state = {"open": "", "edits": {}, "tests": tests, "want": {"sums.py": code, "a.txt": "tea, rice"}}
    world._state = {**state, "files": {"sums.py": wrong, "a.txt": "tea, rice", "old.txt": "x"}}
    world._left = 20
    assert world.run() == "Fails: assert plus_7(3) == 10"
    assert world.replace("5", "7") == "Read a file first."
    assert world.delete("old.txt") == "old.txt is deleted."
    assert world.read("sums.py") == wrong
    assert world.replace("x", "y") == "sums.py has this text 2 times, not once."
    for hostile in ("while True: pass", "import os; return os.environ", "return open('/etc/passwd').read()"):
        world._state["files"]["sums.py"] = f"def plus_7(x):\n    {hostile}\n"
        assert world.get_reward() == 0.0
    world._state["files"]["sums.py"] = wrong
    assert world.replace("x + 5", "7 + x") == "sums.py is changed."
    assert (world.run(), world.get_reward()) == ("All tests pass.", 1.0)
    world.read("a.txt")
    world.replace("tea", "x" * 200)
    assert (world.get_reward(), world._plan()[0]) == (
        0.0,
        ("replace", {"old": "x" * 200 + ", rice", "new": "tea, rice"}),
    )
    for _ in range(60):  # a file cannot grow without end
        world._left, end = 1, world._state["files"]["a.txt"][-150:]
        observation = world.replace(end, "y" * 50 + end)
    assert observation == "The file would be too large."
    assert len(world._state["files"]["a.txt"]) <= 2000


def test_mended_episodes_have_errors_and_detours_and_are_solved() -> None:
    sizes = {}
    for style in worlds.STYLES:
        rng = random.Random(0)
        made = [worlds.episode(row, rng, style, 0.1) for row in worlds.rows("train", 0, 60, horizons=[4, 8])]
        sizes[style] = sum(len(messages) for messages, _ in made)
        for messages, functions in made:
            assert [turn["role"] for turn in messages[:2]] == ["user", "assistant"]
            assert messages[-1].get("tool_calls") is None
            assert messages[-1]["role"] == "assistant"
            called = {turn["tool_calls"][0]["function"]["name"] for turn in messages if turn.get("tool_calls")}
            assert called <= {function.__name__ for function in functions}
    assert sizes["mended"] > 1.1 * sizes["worked"]


def test_actions_that_are_mended_carry_no_loss_and_all_others_lead_to_the_goal() -> None:
    rows = worlds.rows("train", 0, 30, horizons=[4, 8])
    made = [worlds.episode(row, random.Random(i), "mended")[0] for i, row in enumerate(rows)]
    calls = [[turn for turn in messages if turn.get("tool_calls")] for messages in made]
    assert any(turn.get("untrained") for turns in calls for turn in turns)
    for row, messages, turns in zip(rows, made, calls, strict=True):
        left = worlds.actions_left(row, worlds.steps_of(messages))
        assert left[0] == row["horizon"]
        assert left[-1] == 0
        for turn, before, after in zip(turns, left[:-1], left[1:], strict=True):
            assert turn.get("untrained") or after == before - 1


def test_episodes_are_conversations_with_the_tools_of_their_world() -> None:
    entry = {"task": "worlds", "n": 6, "options": {"world": ["rooms", "desk"], "styles": {"worked": 3, "mended": 1}}}
    made = load_conversations(read_sources([entry])[0])
    tools = [[tool["function"]["name"] for tool in json.loads(one)] for one in made["tools"]]
    assert tools[:2] == [["go", "put", "take", "unlock"], ["change", "look", "pay", "refuse", "send"]]
    for messages in map(json.loads, made["messages"]):
        assert [turn["role"] for turn in messages[-2:]] == ["tool", "assistant"]
    row = tasks.load("worlds").rows("train", 0, 6, world=["rooms", "desk"])[0]
    first = json.loads(made["messages"][0])[0]["content"]
    assert first.startswith(f"{row['question']}\n")  # with the first observation
    assert (row["environment"], row["horizon"]) == ("rooms", 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"world": "room"}, r"worlds: world 'room' is not known; did you mean 'rooms'\?"),
        ({"horizons": [0, 4]}, r"worlds: horizons \[0, 4\]: give \[smallest, largest\], from 1 to 16"),
        ({"horizons": 4}, r"worlds: horizons 4: give \[smallest, largest\]"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        worlds.rows("train", 0, 3, **options)


@pytest.mark.parametrize("name", ["desk", "files"])
def test_if_the_person_says_no_the_rest_is_done_and_the_answer_names_what_is_not(name: str) -> None:
    rows, declined = (worlds.rows("train", 0, 40, name, [3, 8], declined=share) for share in (0.0, 1.0))
    assert [row["question"] for row in rows] == [row["question"] for row in declined]
    refused = [row for row in declined if row.get("consent") == "no"]
    assert 10 < len(refused) < 40
    assert all(row in rows for row in declined if "consent" not in row)
    for i, row in enumerate(refused):
        messages, _ = worlds.episode(row, random.Random(i), worlds.STYLES[i % 2], 0.1)
        steps = worlds.steps_of(messages)
        said_no = [next(iter(arguments.values())) for _, arguments, text in steps if text == "The user said no."]
        sentence = messages[-1]["content"]
        assert sorted(said_no) == sorted(sentence.partition("Not done: ")[2].rstrip(".").split(", "))
        assert worlds.score(row, sentence) == 1.0
        assert worlds.actions_left(row, steps)[-1] == 0
        world, others = WORLDS[name][1](), [step for step in worlds.plan(row) if step[0] not in WORLDS[name][1].consent]
        world.reset(**row)
        before = json.dumps(world._state)
        for number, (method, arguments) in enumerate(others):
            assert world.get_reward() == 0.0, number
            getattr(world, method)(**arguments)
        assert world.get_reward() == 1.0
        assert others or json.dumps(world._state) == before


def test_more_rows_than_distinct_prompts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "_SEEDS", 300)
    with pytest.raises(UserError, match=r"worlds, test: 300 rows requested, but only [0-9]+ distinct rows exist"):
        worlds.rows("test", 0, 300, world="files", horizons=[1, 1])
