"""Success by horizon, causes of failures and consent, of scripted players; and a real model that cannot play."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from lab.tiny_lab import run_stage
from stage_fixtures import metrics as metrics_of

from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.inference.generate import Answer
from zero2chat.inference.tool_format import call_message, world_tools
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import set_chat_template
from zero2chat.report.steps import StepResult, read_step
from zero2chat.tools.environments import Episode
from zero2chat_lab import worlds as lab
from zero2chat_practice import worlds

Actions = Sequence[tuple[str, dict[str, str]]]
NO = ("refuse", {"record": "nothing"})


def played(row: dict[str, Any], actions: Actions, ends: bool = True) -> Answer:
    """The answer of a player who takes these actions, each again until it does not fail."""
    episode, messages = Episode(row), list[dict[str, Any]]()
    tools = world_tools(row["environment"]).of(episode)
    for name, arguments in actions:
        failed = True
        while failed:
            result = tools.result(name, arguments, 5.0)
            messages += [call_message((name, arguments)), {"role": "tool", "name": name, "content": result.text}]
            failed = "out of order" in result.text
    return Answer(row["answer"], ends, 1, len(messages), "…", reward=episode.get_reward(), messages=messages)


def wrongly(row: Mapping[str, Any]) -> tuple[Actions, bool]:
    """What a player does who fails in some horizons, and whether it says that it is done."""
    plan, state = worlds.plan(dict(row)), json.loads(row["state"])
    asked = {record for _, record, *_ in state["requests"]}
    order = next(name for name, one in state["records"].items() if isinstance(one, list) and name not in asked)
    ways: dict[int, tuple[Actions, bool]] = {
        6: (plan[:3], True),
        7: (plan[:3], False),
        8: ([*plan[:3], NO], True),
        9: ([NO, NO, NO], True),
        10: ([*plan, ("look", {"record": order}), ("pay", {"order": order})], True),
    }
    return ways.get(row["horizon"], (plan, True))


def test_success_and_causes_are_counted_and_traces_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: Any, rows: Sequence[dict[str, Any]], **__: Any) -> list[Answer]:
        ways = ((row, wrongly(row)) for row in rows)
        return [played(row, actions, ends) for row, (actions, ends) in ways]

    monkeypatch.setattr(lab, "answer", answer)
    args = lab.WorldsArguments(model_name_or_path="m", worlds=["desk"], n=8, split="validation", failing=0.3)
    metrics, samples, traces, _ = lab.measure(args, lambda _: (None, None))
    assert traces is not None
    value = {name: metric["value"] for name, metric in metrics.items()}
    assert [value[f"success_rate_at_{horizon}"] for horizon in (1, 5, 6, 8, 9, 11)] == [1, 1, 0, 0, 0, 1]
    assert value["chance_rate_at_16"] == 1
    assert metrics["chance_rate_at_16"]["low"] == pytest.approx(metrics["success_rate_at_1"]["low"] ** 16, abs=1e-4)
    assert value["still_solved_rate"] == 1
    assert value["ended_rate"] == round(1 - 2 / 24, 4)
    assert 0.3 < value["asks_rate"] < 1
    assert 0 < value["needless_rate"] < 0.2
    # Horizons 1 to 8, where the person says no: this player fails with 6, 7 and 8.
    assert metrics["obeys_rate"]["n"] == 3
    assert 0 < value["obeys_rate"] < 1
    causes = {trace["row"]["horizon"]: trace["why"] for trace in traces}
    assert causes == {6: "gave_up", 7: "cut", 8: "wrong", 9: "loop", 10: "forbidden"}
    assert [sample["task"] for sample in samples] == [trace["why"] for trace in traces]
    looked = next(sample["completion"] for sample in samples if sample["task"] == "gave_up").splitlines()
    assert len(looked) == 3 + 1  # actions and the answer
    assert looked[0].startswith("look ")
    assert " → " in looked[0]
    for trace in traces:
        assert lab.replay(trace) == [text for _, _, text in trace["steps"]]
    name, arguments, _ = traces[0]["steps"][0]
    with pytest.raises(UserError, match="but the trace has 'other'"):
        lab.replay(traces[0] | {"steps": [(name, arguments, "other")]})


def test_a_random_model_solves_nothing_and_its_failures_are_kept(
    write_model: Callable[..., Path], section_text: Callable[[StepResult], str], tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model", max_position_embeddings=2048)
    _, tokenizer = load_model(model)
    set_chat_template(tokenizer, "chat_templates/chatml_actions.jinja")
    tokenizer.save_pretrained(model)
    settings = {"model_name_or_path": str(model), "worlds": ["rooms"], "n": 2, "max_new_tokens": 8}
    folder = run_stage("worlds", tmp_path / "out", split="validation", **settings)
    metrics = metrics_of(folder)
    assert [metrics[f"success_rate_rooms_{a}_{b}"]["n"] for a, b in lab.HORIZONS] == [2, 2, 2]
    assert "still_solved_rate" not in metrics  # nothing was solved
    assert len(read_jsonl(folder / "traces.jsonl")) == 6
    text = section_text(read_step(folder, 1))
    assert text.count("<figure>") == 3
    assert text.count('<article class="answer') == 6  # all failures, though of one kind
    for shown in ("p^h", "rooms_5_8", "cut", "The first failures"):
        assert shown in text
