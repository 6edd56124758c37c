"""A recipe with further seeds, and one claim of it alone.

Launching is replaced: a step that trains or answers leaves what it would have measured, by its seed; steps that join
run as they are.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from recipes.tiny_recipes import enter, replace_launch, write_recipe, yaml_step

from zero2chat.core.errors import UserError
from zero2chat.core.registry import modules
from zero2chat.core.stats import rate
from zero2chat.recipes import runner
from zero2chat.recipes.recipe import Step
from zero2chat.stages.open_run import open_run

EXAM = [{"task": "word_problems", "n": 8, "seed": 1}]
READING = {
    "name": "reading",
    "claim": "It reads",
    "experiment": "asked",
    "figures": [{"figure": "right", "step": "runs/r/ask", "metric": "accuracy", "at_least": 0.5}],
}
LEARNING = {
    "name": "learning",
    "claim": "It learns, does/did it?",
    "experiment": "asked again",
    "figures": [
        {"figure": figure, "step": step, "metric": "accuracy"}
        for figure, step in (("more", "runs/r/other"), ("theirs", "runs/r/theirs"), ("before", "runs/q/model"))
    ],
}
# Of each step its stage and settings
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "corpus": ("corpus", {"datasets": [{"task": "word_problems", "n": 50}], "seed": 0}),
    "read": ("pretrain", {"dataset": "runs/r/corpus", "tokenizer": "runs/q/tokenizer", "seed": 0}),
    "ask": ("evaluate", {"model_name_or_path": "runs/r/read", "tasks": EXAM}),
    "other": (
        "sft",
        {"model_name_or_path": "runs/q/model", "datasets": [{"path": "runs/r/ask/samples.jsonl"}], "tasks": EXAM}
        | {"chat_template_path": "chat_templates/chatml.jinja", "max_steps": 1, "seed": 4},
    ),
    "theirs": ("evaluate", {"model_name_or_path": "runs/q/model", "tasks": EXAM, "seed": 0}),
    "claims": ("claims", {"claims": [READING, LEARNING]}),
    "report": ("report", {"steps": ["runs/r/claims", "runs/r/ask", "runs/r/other"]}),
}


def _write(names: Iterable[str] = STEPS, **changes: dict[str, Any]) -> None:
    configs = {name: settings for name, (_, settings) in STEPS.items()} | changes
    given = {name: {"output_dir": f"runs/r/{name}", **settings} for name, settings in configs.items()}
    write_recipe("recipes/r", [yaml_step(name, STEPS[name][0]) for name in names], **given)


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """recipes/r with two claims; one also reads runs of another recipe."""
    enter(tmp_path, monkeypatch)
    for name in ("tokenizer", "model"):
        open_run(f"runs/q/{name}", "sft", {"output_dir": f"runs/q/{name}"}).finish({"accuracy": rate(4, 8, 1)})
    _write()


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that were launched, in order."""

    def leave(step: Step, settings: dict[str, Any]) -> None:
        if step.declared.joins:
            importlib.import_module(modules("stages")[step.stage]).STAGE.main(step.words())
            return
        run = open_run(settings["output_dir"], step.stage, settings)
        run.sample(0, "What is 1 + 1?", step.name)
        seed = 1 if "seed-1" in settings["output_dir"] else 0
        run.finish({"accuracy": rate(6 - 2 * seed, 8, 1)})

    return replace_launch(monkeypatch, leave)


def _run(*overrides: str, **flags: Any) -> dict[str, str]:
    return runner.run("recipes/r", overrides=overrides, **flags)["steps"]


def _settings(folder: str) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(Path(folder, "run.json").read_text())["fingerprint"]["settings"]
    return settings


def _claims() -> dict[str, dict[str, Any]]:
    return {line["figure"]: line for line in json.loads(Path("runs/r/claims.json").read_text())}


def test_what_trains_and_what_reads_it_is_made_once_a_seed_and_joined_last(launched: list[str]) -> None:
    _run(seeds=2)
    assert launched == [
        *("corpus", "read", "ask", "other", "theirs"),
        *("seed-1/read", "seed-1/ask", "seed-1/other"),
        *("claims", "report"),
    ]
    more = _settings("runs/r/seed-1/other")
    assert more["seed"] == 5
    assert more["datasets"] == [{"path": "runs/r/seed-1/ask/samples.jsonl"}]
    assert more["model_name_or_path"] == "runs/q/model"
    assert more["tasks"] == EXAM  # the same rows
    read = _settings("runs/r/seed-1/read")
    assert (read["seed"], read["dataset"]) == (1, "runs/r/corpus")
    assert _settings("runs/r/read")["seed"] == 0
    lines = _claims()
    assert [lines[name]["seeds"] for name in ("right", "more", "theirs", "before")] == [2, 2, 1, 1]
    assert lines["right"]["value"] == pytest.approx((6 + 4) / 16)
    assert lines["right"]["n"] == 8
    assert lines["theirs"]["value"] == 0.75
    page = Path("runs/r/report.html").read_text()
    assert "· 2 seeds" in page


def test_further_seeds_are_added_and_joined_again(launched: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    _run()
    assert _claims()["right"]["seeds"] == 1
    assert "· 2 seeds" not in Path("runs/r/report.html").read_text()
    del launched[:]
    _run(seeds=2)
    assert launched == ["seed-1/read", "seed-1/ask", "seed-1/other", "claims", "report"]
    assert "claims: its inputs have changed: running it again" in capsys.readouterr().out
    assert set(_run(seeds=2).values()) == {"done"}
    assert _claims()["right"]["seeds"] == 2
    del launched[:]
    asked = Path("runs/r/ask/metrics.json")  # measured again, as after its folder was removed
    asked.write_text(json.dumps(json.loads(asked.read_text()) | {"seconds": {"value": 99}}))
    _run(seeds=2)
    assert launched == ["claims", "report"]


def test_seeds_that_nothing_would_join_or_that_no_yaml_says_are_refused(launched: list[str]) -> None:
    _write(read={key: value for key, value in STEPS["read"][1].items() if key != "seed"})
    with pytest.raises(UserError, match=r"recipes/r/read\.yaml: --seeds needs a seed in the YAML"):
        _run(seeds=2)
    _write(["corpus", "read"])
    with pytest.raises(UserError, match="no step of this recipe combines the seeds"):
        _run(seeds=2)
    assert launched == []


def test_a_claim_alone_makes_what_it_reads_and_the_others_wait(launched: list[str]) -> None:
    _run(only="reading")
    assert launched == ["corpus", "read", "ask", "claims", "report"]
    lines = _claims()
    assert lines["right"]["met"] is True
    assert (lines["more"]["value"], lines["more"]["met"], lines["more"]["seeds"]) == (None, None, 0)
    page = Path("runs/r/report.html").read_text()
    assert "Not measured yet: the recipe's <code>--only learning</code> does it." in page
    assert "runs/r/other" not in json.dumps(_settings("runs/r/report"))
    del launched[:]
    assert set(_run(only="reading").values()) == {"done"}
    _run(only="learning")
    assert launched == ["other", "theirs", "claims", "report"]
    assert _claims()["more"]["value"] == 0.75
    # All claims together
    assert set(_run().values()) == {"done", "made"}
    assert _claims()["right"]["met"] is True


def test_all_claims_need_all_steps(launched: list[str]) -> None:
    _run(only="reading")
    with pytest.raises(UserError, match=r"runs/r/other: not a finished run"):
        _run(only="claims")
    with pytest.raises(UserError, match=r"--only: unknown step or claim 'raeding'; did you mean 'reading'\?"):
        _run(only="raeding")
    with pytest.raises(UserError, match=r"--set other\.…: --only, --restart or --until leaves out step other"):
        _run("other.max_steps=2", only="reading")
