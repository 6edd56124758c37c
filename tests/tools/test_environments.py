from __future__ import annotations

import time

import pytest
from own_worlds import boxes

from zero2chat.core.errors import UserError
from zero2chat.inference.tool_format import ToolResult, world_tools
from zero2chat.tools import environments
from zero2chat.tools.environments import Episode, bounded, find, make_row, needs_consent, opened, opening

NAME = "own_worlds.boxes"
ROW = {"environment": NAME, "coin": "red", "key": "1"}


def act(episode: Episode, name: str, seconds: float = 5.0, **arguments: object) -> ToolResult:
    return world_tools(NAME).of(episode).result(name, arguments, seconds)


def test_its_methods_are_tools_and_its_reward_is_of_this_row_alone():
    one, other = Episode(ROW), Episode(ROW | {"coin": "blue"})
    assert sorted(one.functions) == ["burn", "leave", "open", "wait"]
    assert [schema["function"]["name"] for schema in world_tools(NAME).schemas] == sorted(one.functions)
    assert act(one, "open", colour="red") == ToolResult("There is a coin.")
    assert act(other, "open", colour="red") == ToolResult("It is empty.")
    assert (one.get_reward(), other.get_reward(), one.acted) == (1.0, 0.0, 1)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("open", {"colour": "black"}, "There is no black box."),
        ("open", {"colour": 3}, "The arguments of open are"),
        ("open", {"colour": "a" * 5000}, "The arguments are longer than 4000 characters."),
        ("look", {}, "There is no tool 'look'"),
        ("leave", {}, "SystemExit"),
        ("wait", {}, "There was no result within 0.1 seconds."),
        ("get_reward", {}, "There is no tool 'get_reward'"),
    ],
)
def test_whatever_goes_wrong_in_a_world_is_an_observation(name, arguments, says):
    result = act(Episode(ROW), name, 0.1, **arguments)
    assert result.failed
    assert says in result.text


def test_calls_fail_as_often_as_the_row_says_and_the_same_ones_each_time():
    row = ROW | {"failing": 0.4}
    first, again = ([act(episode, "open", colour="red") for _ in range(50)] for episode in (Episode(row), Episode(row)))
    assert first == again
    assert 10 < sum(result.failed for result in first) < 30
    assert {result.text for result in first if result.failed} == {"{'error': 'It is out of order just now.'}"}


def test_a_world_in_which_a_call_never_ends_earns_nothing_and_takes_no_more():
    episode = Episode(ROW)
    act(episode, "open", colour="red")
    act(episode, "wait", 0.1)
    assert "An earlier action has not ended." in act(episode, "open", colour="red").text
    assert episode.get_reward() == 0.0
    assert Episode(ROW).get_reward() == 0.0


@pytest.mark.parametrize(
    ("row", "replaced", "says"),
    [
        ({"environment": "nowhere"}, {}, "environment 'nowhere': no such world.*or give a module's dotted path"),
        ({"environment": "own_worlds.none"}, {}, "environment 'own_worlds.none': cannot import it"),
        ({"environment": NAME}, {}, "environment 'own_worlds.boxes': cannot begin: TypeError.*coin"),
        (ROW, {"get_reward": lambda self: float("nan")}, ""),
        (ROW, {"get_reward": lambda self: 1 / 0}, ""),
    ],
)
def test_a_world_that_cannot_begin_is_named_and_a_reward_that_is_none_is_0(row, replaced, says, monkeypatch):
    for key, value in replaced.items():
        monkeypatch.setattr(boxes.Boxes, key, value)
    if says:
        with pytest.raises(UserError, match=says):
            Episode(row)
    else:
        assert Episode(row).get_reward() == 0.0


@pytest.mark.parametrize("consent", ["burn", ("brun",)])  # a text is the set of its letters
def test_consent_for_what_is_no_method_is_refused(consent, monkeypatch):
    assert needs_consent(NAME) == {"burn"}
    monkeypatch.setattr(boxes.Boxes, "consent", consent)
    with pytest.raises(UserError, match=r"environment 'own_worlds\.boxes': consent names .*, no methods"):
        needs_consent(NAME)


@pytest.mark.parametrize(
    ("said", "agrees"), [({}, True), *(({"consent": one}, one == "yes") for one in ("yes", "no", "No", "never", False))]
)
def test_only_a_yes_is_consent(said, agrees):
    assert Episode(ROW | said).agrees is agrees


def test_worlds_are_found_in_packages_that_entry_points_name(monkeypatch):
    monkeypatch.setattr(environments, "modules", lambda kind: {"boxes": NAME} if kind == "worlds" else {})
    assert find("boxes") is boxes
    row = make_row("boxes", 3, 1)
    assert row == boxes.world(3, 1, "validation") | {"environment": "boxes"}
    with pytest.raises(UserError, match="no world with seed 3 and horizon 2: each has horizon 1"):
        make_row("boxes", 3, 2)


def test_the_first_observation_ends_the_prompt_once():
    first = [{"role": "user", "content": "Find the coin. The boxes are red, blue and green."}]
    asked = [{"role": "user", "content": "Find the coin."}]
    assert opened(asked, ROW) == opened(first, ROW) == first
    ruled = [{"role": "system", "content": "Be quick."}, *asked]
    assert opening(ROW | {"prompt": "Find the coin."}) == (first[0]["content"], None)
    assert opening(ROW | {"prompt": ruled}) == (first[0]["content"], "Be quick.")
    assert opened(asked, {"key": "1"}) == opened(asked, {"environment": None, "row": None}) == asked


def test_a_datasets_columns_become_the_row_again():
    whole = {"environment": NAME, "row": '{"environment": "own_worlds.boxes", "coin": "red"}', "coin": "blue"}
    assert Episode(whole).row == {"environment": NAME, "coin": "red"}
    assert Episode(ROW | {"row": None, "others": None}).row == ROW
    assert Episode(ROW | {"row": ""}).row == ROW | {"row": ""}
    assert Episode(ROW | {"row": '{"environment": "own_worlds.none", "coin": "red"}'}).name == NAME  # not imported


def test_a_function_that_never_ends_is_ended():
    begun, turns = time.monotonic(), [0]

    def loop() -> None:
        while True:
            turns[0] += 1

    with pytest.raises(TimeoutError, match=r"no result within 0\.1 seconds"):
        bounded(loop, 0.1)
    time.sleep(0.1)
    ended = turns[0]
    time.sleep(0.1)
    assert turns[0] == ended > 0
    assert time.monotonic() < begun + 2
