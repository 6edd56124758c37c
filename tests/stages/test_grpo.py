"""GRPO on tiny models: it learns what is rewarded, resumes after a kill, and logs what users look for."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset

from zero2chat.core.errors import UserError
from zero2chat.models.loading import load_model
from zero2chat.stages import evaluate, grpo
from zero2chat.trainers import pass_rate_filter
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.grpo import draw_others, fill_missing

REPOSITORY = Path(__file__).parents[2]

# A module of reward functions as a user would write it, on the path of this process and its children.
REWARDS = '''
import json
import math
import os


def digits(completions, **columns):
    """The share of a text that is digits."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(c.isdigit() for c in text) / max(1, len(text)) for text in texts]


def longer(completions, answer, goal=40, **columns):
    return [min(len(completion[0]["content"]), goal) / goal for completion in completions]


def of_some(completions, **columns):
    """No opinion on texts that begin with a letter."""
    texts = [completion[0]["content"] for completion in completions]
    return [None if text[:1].isalpha() else 1.0 for text in texts]


def one_too_few(completions, **columns):
    return [0.0] * (len(completions) - 1)


def not_a_number(completions, **columns):
    return [math.nan] * len(completions)


def words(completions, **columns):
    return ["good"] * len(completions)


def text(completions, **columns):
    return "good"


def one(completions, **columns):
    return 1.0


async def slow(completions, **columns):
    return [0.0] * len(completions)


def closed(completions):
    return [0.0] * len(completions)


def needy(completions, difficulty, **columns):
    return [0.0] * len(completions)


def kept(completions, **columns):
    """Writes down what this rank sampled."""
    with open(os.environ["KEPT"] + os.environ["RANK"], "a") as file:
        file.write(json.dumps([completion[0]["content"] for completion in completions]) + "\\n")
    return [0.0] * len(completions)


def often(completions, prompts, **columns):
    """Right where the text's length says so, for words that begin with a to m; elsewhere never."""
    asked = [prompt[-1]["content"].lower() for prompt in prompts]
    return [float(len(c[0]["content"]) % 2 and sum(map(ord, q)) % 2) for c, q in zip(completions, asked)]


def tokens(completions, completion_ids, **columns):
    return [float(len(ids)) for ids in completion_ids]


def of_letters(completions, kind, **columns):
    return [float(k.startswith("l")) for k in kind]


def logs(completions, log_extra, **_):
    log_extra("found", ["\\x1b]0;owned\\x07" for _ in completions])
    return [0.0] * len(completions)


def alike(completions, **columns):
    return [1.0] * len(completions)


number = 5
'''


@pytest.fixture(autouse=True)
def own_rewards(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "own"
    folder.mkdir(exist_ok=True)
    (folder / "own_rewards.py").write_text(REWARDS)
    (folder / "broken_rewards.py").write_text("def digits(:\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


@pytest.fixture
def base(model_folder: Path, tmp_path: Path, write_yaml: Callable[..., Path]) -> Callable[..., Path]:
    """`base(name, **changes)`: the YAML of a small run; a change of None leaves a setting out."""

    def make(name: str, **changes: Any) -> Path:
        settings: dict[str, Any] = {
            "output_dir": str(tmp_path / name),
            "model_name_or_path": str(model_folder),
            "datasets": [{"task": "spelling", "n": 24}],
            "rewards": [{"function": "own_rewards.digits"}],
            "tasks": [{"task": "spelling", "n": 8, "max_new_tokens": 4}],
            "global_batch_size": 16,
            "per_device_train_batch_size": 16,
            "num_generations": 4,
            "max_completion_length": 12,
            "max_steps": 6,
            "learning_rate": 1.0e-3,
            "gradient_checkpointing": False,
            "logging_steps": 1,
            "save_strategy": "steps",
            "save_steps": 2,
            "bf16": False,
            "disable_tqdm": True,
            "seed": 0,
        } | changes
        return write_yaml(tmp_path / f"{name}.yaml", **{k: v for k, v in settings.items() if v is not None})

    return make


def run(path: Path) -> dict[str, Any]:
    """Run the stage; its metrics."""
    grpo.STAGE.main(["--config", str(path)])
    return json.loads((path.with_suffix("") / "metrics.json").read_text())


def history(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path.with_suffix("") / "history.jsonl").read_text().splitlines()]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_rewarded_becomes_likelier(base: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = base("digits", max_steps=60, learning_rate=5.0e-3, save_strategy="no", lr_scheduler_type="constant")
    metrics = run(path)
    rewards = [line["reward"] for line in history(path)]
    assert sum(rewards[-10:]) / 10 > 3 * sum(rewards[:10]) / 10
    assert metrics["problems"] == {"value": 24}
    assert metrics["unscored_completions"] == {"value": 0}
    assert metrics["accuracy"]["n"] == 8
    said = capsys.readouterr().out
    assert "How to read the log. loss: near 0 by construction" in said
    for shown in ("reward 0.", "zero-variance groups ", "truncated ", "length ", "entropy ", "tokens/s", "ETA"):
        assert shown in said

    # Before and after, of the same questions.
    samples = [json.loads(line) for line in (path.with_suffix("") / "samples.jsonl").read_text().splitlines()]
    asked = {step: [s["prompt"] for s in samples if s["step"] == step] for step in (0, 60)}
    assert asked[0] == asked[60]
    assert len(asked[0]) == 6


def test_its_folder_opens_as_any_model_and_answers_alike(base: Callable[..., Path], tmp_path: Path) -> None:
    path = base("whole")
    run(path)
    folder = path.with_suffix("")
    assert not [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt")]
    assert "pass" not in (folder / "README.md").read_text().split("## Measured")[0]
    assert "trained with GRPO" in (folder / "README.md").read_text()
    again = tmp_path / "again"
    asked = json.dumps([{"task": "spelling", "n": 8, "max_new_tokens": 4}])
    evaluate.STAGE.main(["--output_dir", str(again), "--model_name_or_path", str(folder), "--tasks", asked])
    said = [
        [s["completion"] for s in map(json.loads, (f / "samples.jsonl").open()) if s["step"] == step]
        for f, step in ((folder, 6), (again, 0))
    ]
    assert said[0] == said[1] != []


def test_rewards_are_weighed_and_logged_by_function(
    base: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rewards = [
        {"function": "own_rewards.digits", "weight": 2.0},
        {"function": "own_rewards.longer", "weight": -0.5, "options": {"goal": 20}, "label": "brief"},
    ]
    path = base("two", rewards=rewards, max_steps=3)
    run(path)
    said = capsys.readouterr().out
    for line in history(path):
        expected = 2.0 * line["rewards/digits/mean"] - 0.5 * line["rewards/brief/mean"]
        assert line["reward"] == pytest.approx(expected, abs=1e-4)
        shown = f"reward {line['reward']:.3f} | digits {line['rewards/digits/mean']:.3f} | brief "
        assert shown in said
        assert {"entropy", "completions/clipped_ratio", "completions/mean_length", "frac_reward_zero_std"} <= set(line)


def test_groups_of_equal_rewards_teach_nothing_and_the_log_says_so(
    base: Callable[..., Path], model_folder: Path
) -> None:
    path = base("alike", rewards=[{"function": "own_rewards.alike"}], max_steps=2, weight_decay=0.0)
    run(path)
    assert [line["frac_reward_zero_std"] for line in history(path)] == [1, 1]
    before, after = load_model(model_folder)[0].state_dict(), load_model(path.with_suffix(""))[0].state_dict()
    assert all((before[name] == after[name]).all() for name in before)


def test_answers_that_no_function_judges_are_left_out_and_counted(base: Callable[..., Path]) -> None:
    path = base("some", rewards=[{"function": "own_rewards.of_some"}], max_steps=4)
    left_out = run(path)["unscored_completions"]["value"]
    assert 0 < left_out < 4 * 16
    assert all(line["reward"] in (0.0, 1.0) or math.isclose(line["reward"], 1.0) for line in history(path))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # 8 steps learn from four generations of two steps each, in the second round of the problems.
        {"datasets": [{"task": "spelling", "n": 9}], "steps_per_generation": 2, "num_iterations": 1, "beta": 0.1},
        {"use_peft": True, "lora_r": 4, "lora_target_modules": "all-linear", "learning_rate": 1.0e-2},
        {"muon": True, "rewards": [{"function": "own_rewards.of_some"}]},
    ],
    ids=["plain", "reused generations and KL", "LoRA", "Muon and None"],
)
def test_killed_and_run_again_it_ends_with_the_weights_of_an_uninterrupted_run(
    changes: dict[str, Any], base: Callable[..., Path], kill_after: Callable[..., None]
) -> None:
    changes = {"max_steps": 8, "lr_scheduler_type": "constant"} | changes
    whole, cut = base("whole", **changes), base("cut", **changes)
    expected = run(whole)

    for last in (5, 7):  # after the checkpoints of steps 4 and 6
        kill_after(grpo, cut, last)
    found = run(cut)
    folders = whole.with_suffix(""), cut.with_suffix("")
    weights = "adapter_model.safetensors" if changes.get("use_peft") else "model.safetensors"
    for name in (weights, "samples.jsonl"):
        assert len({sha256(folder / name) for folder in folders}) == 1, name
    assert {k: v for k, v in found.items() if k != "seconds"} == {k: v for k, v in expected.items() if k != "seconds"}
    times = ("seconds", "tokens_per_second", "step_time")
    curves = [[{k: v for k, v in line.items() if k not in times} for line in history(p)] for p in (whole, cut)]
    assert curves[0] == curves[1]
    assert [line["step"] for line in curves[0]] == list(range(1, 9))


def test_lora_learns_and_its_folder_opens(base: Callable[..., Path], model_folder: Path) -> None:
    more = {"use_peft": True, "lora_r": 8, "lora_target_modules": "all-linear"}
    path = base("lora", max_steps=60, learning_rate=2.0e-2, save_strategy="no", lr_scheduler_type="constant", **more)
    run(path)
    rewards = [line["reward"] for line in history(path)]
    assert sum(rewards[-10:]) > 2 * sum(rewards[:10])
    assert (path.with_suffix("") / "adapter_model.safetensors").exists()
    assert not (path.with_suffix("") / "model.safetensors").exists()
    assert load_model(path.with_suffix(""))[0] is not None


def test_two_zero2_ranks_practise_together(
    base: Callable[..., Path], two_ranks: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group is spread over both ranks, which draw different answers, compare them all, and learn from all."""
    monkeypatch.setenv("KEPT", str(tmp_path / "kept"))
    path = base(
        "zero2", max_steps=40, learning_rate=5.0e-3, save_steps=20, per_device_train_batch_size=8, num_generations=16,
        rewards=[{"function": "own_rewards.digits"}, {"function": "own_rewards.kept"}], lr_scheduler_type="constant",
    )  # fmt: skip
    said = two_ranks("grpo", path)
    ranks = [[json.loads(line) for line in (tmp_path / f"kept{rank}").open()] for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1]) == 40
    # Different to the end, but for the one digit all along that both find out to be worth most.
    assert all(len(set(text)) == 1 for a, b in zip(*ranks, strict=True) for text in set(a) & set(b))
    assert not any(set(a) & set(b) for a, b in list(zip(*ranks, strict=True))[:10])
    rewards = [line["rewards/digits/mean"] for line in history(path)]
    assert sum(rewards[-10:]) > 2 * sum(rewards[:10])
    assert len(rewards) == 40
    assert said.count("How to read the log") == 1
    assert load_model(path.with_suffix(""))[0] is not None


@pytest.mark.slow  # two launches of two ranks
def test_two_ranks_replace_groups_and_choose_problems_together(
    base: Callable[..., Path], two_ranks: Callable[..., str]
) -> None:
    """Each has groups of its own; while one of them has a group to replace, both sample on."""
    path = base(
        "ranks", max_steps=3, save_strategy="no", per_device_train_batch_size=8, resample=2,
        rewards=[{"function": "own_rewards.often"}], pass_rate={"samples": 4, "low": 0.0, "high": 0.9},
    )  # fmt: skip
    said = two_ranks("grpo", path)
    assert said.count("problems kept") == 1
    metrics = json.loads((path.with_suffix("") / "metrics.json").read_text())
    assert metrics["groups_replaced"]["value"] > 0
    assert len((path.with_suffix("") / "pass_rates.jsonl").read_text().splitlines()) == 24
    assert len(history(path)) == 3


@pytest.mark.parametrize(
    "changes",
    [
        # The usual way on a small GPU: a step's answers in many small batches.
        {"per_device_train_batch_size": 2, "num_generations": 8},
        {"generation_batch_size": 32, "save_steps": 4},
        {"shuffle_dataset": False},
        {"save_steps": 0.5},
    ],
    ids=["accumulated", "two steps a generation", "in order", "a share of the steps"],
)
def test_settings_that_can_be_are_taken(changes: dict[str, Any], base: Callable[..., Path]) -> None:
    path = base("taken", max_steps=4, **changes)
    run(path)
    assert [line["step"] for line in history(path)] == [1, 2, 3, 4]


# ---- as it is done today


def test_dapos_settings_train(base: Callable[..., Path]) -> None:
    """Clip-higher, truncated answers masked (of a random model they are all cut: nothing is learned, and no NaN)."""
    overlong = "zero2chat.rewards.length.soft_overlong"
    path = base(
        "dapo", max_steps=3, epsilon_high=0.28, mask_truncated_completions=True, max_completion_length=3,
        rewards=[
            {"function": "own_rewards.digits"},
            {"function": overlong, "weight": 0.5, "options": {"longest": 3, "margin": 2}},
        ],
    )  # fmt: skip
    run(path)
    for line in history(path):
        assert math.isfinite(line["loss"])
        assert "clip_ratio/high_mean" in line
        # 0 for one token, half for two, a whole one for three.
        expected = -(line["completions/mean_length"] - 1) / 2
        assert line["rewards/soft_overlong/mean"] == pytest.approx(expected, abs=1e-5)


def test_none_of_one_function_moves_an_answer_neither_up_nor_down() -> None:
    none = math.nan
    # Two groups of three answers, two functions.
    rewards = torch.tensor([[1.0, 5.0], [0.0, none], [none, none], [1.0, none], [0.0, none], [0.5, none]])
    found = fill_missing(rewards, 3)
    assert found[:2].tolist() == [[1.0, 5.0], [0.0, 5.0]]
    assert found[2].isnan().all()  # left out
    assert found[3:, 0].tolist() == [1.0, 0.0, 0.5]
    assert found[3:, 1].isnan().all()  # the function said nothing of the whole group
    # So TRL's sum differs within a group by the other function alone.
    assert found[3:].nansum(1).diff().tolist() == [-1.0, 0.5]


def test_trl_is_given_the_groups_mean_in_place_of_none(
    base: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    real = grpo.GrpoTrainer._calculate_rewards
    monkeypatch.setattr(grpo.GrpoTrainer, "_calculate_rewards", lambda *more: seen.append(real(*more)) or seen[-1])
    rewards = [{"function": "own_rewards.digits"}, {"function": "own_rewards.of_some"}]
    metrics = run(base("two", rewards=rewards, max_steps=3, save_strategy="no"))
    assert metrics["unscored_completions"]["value"] == 0
    some = torch.cat(seen)[:, 1].view(-1, 4)  # 1 or None, which is 1 then too where another answer of the group has it
    assert all(group.isnan().all() or (group == 1).all() for group in some)
    assert (some == 1).any()


def test_further_problems_are_none_of_the_batchs_own_and_each_is_drawn_once() -> None:
    problems = Dataset.from_list([{"prompt": [{"role": "user", "content": str(i)}]} for i in range(12)])
    own = [problems[3], problems[7]]
    for seed in range(20):
        found = draw_others(problems, own, 5, random.Random(seed))
        assert sorted(found) == [i for i in range(12) if i not in (3, 7)]
    assert len(draw_others(problems, own, 1, random.Random(0))) >= 2
    assert len(draw_others(problems.select([3, 7]), own, 1, random.Random(0))) == 2  # there are no others


def test_problems_too_easy_and_too_hard_are_left_out_and_a_resumed_run_reads_what_was_found(
    base: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {
        "rewards": [{"function": "own_rewards.often"}, {"function": "own_rewards.digits"}],
        "pass_rate": {"samples": 6, "low": 0.1, "high": 0.9},
        "max_steps": 2,
        "eval_batch_size": 12,  # a few problems at once
        "save_strategy": "no",
    }
    whole, cut = base("whole", **changes), base("cut", **changes)
    metrics = run(whole)
    lines = [json.loads(line) for line in (whole.with_suffix("") / "pass_rates.jsonl").open()]
    rates = [line["passed"] / line["samples"] for line in lines]
    assert len(rates) == 24
    kept = sum(0.1 <= rate <= 0.9 for rate in rates)
    assert metrics["problems"]["value"] == kept > 4
    assert metrics["problems_too_hard"]["value"] == sum(rate < 0.1 for rate in rates) > 0
    assert metrics["problems_too_easy"]["value"] + metrics["problems_too_hard"]["value"] + kept == 24
    assert metrics["pass_rate_before"]["value"] == pytest.approx(sum(rates) / 24, abs=1e-3)
    assert f"pass rates: {kept} of 24 problems kept" in capsys.readouterr().out

    class Killed(BaseException):
        pass

    asked: list[int] = []

    def dies(*args: Any, real: Any = pass_rate_filter.answer, **more: Any) -> Any:
        asked.append(len(args[2]))
        if len(asked) == 3:
            raise Killed
        return real(*args, **more)

    monkeypatch.setattr(pass_rate_filter, "answer", dies)
    with pytest.raises(Killed):
        grpo.STAGE.main(["--config", str(cut)])
    assert len((cut.with_suffix("") / "pass_rates.jsonl").read_text().splitlines()) == 8
    run(cut)
    assert sum(asked) - asked[2] == 24 * 6  # the killed one asked in vain; no other problem was asked again
    for name in ("pass_rates.jsonl", "model.safetensors"):
        assert sha256(whole.with_suffix("") / name) == sha256(cut.with_suffix("") / name)


def test_groups_that_teach_nothing_are_replaced_and_a_resumed_run_ends_alike(
    base: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "rewards": [{"function": "own_rewards.often"}], "resample": 2, "max_steps": 4, "lr_scheduler_type": "constant"
    }  # fmt: skip
    plain, whole, cut = base("plain", **changes | {"resample": 0}), base("whole", **changes), base("cut", **changes)
    before = run(plain)
    assert "groups_replaced" not in before
    metrics = run(whole)
    assert metrics["groups_replaced"]["value"] > 0

    class Killed(BaseException):
        pass

    old = RunCallback.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        old(self, args, state, control, **more)
        if state.global_step == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunCallback, "on_step_end", on_step_end)
        with pytest.raises(Killed):
            grpo.STAGE.main(["--config", str(cut)])
    again = run(cut)
    assert again["groups_replaced"] == metrics["groups_replaced"]
    assert sha256(whole.with_suffix("") / "model.safetensors") == sha256(cut.with_suffix("") / "model.safetensors")


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "recipes").glob("*/grpo.yaml")), ids=lambda path: path.parent.name
)
def test_the_batches_of_every_recipe_fit_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing a recipe does not do these sums, which depend on how many processes there are."""
    monkeypatch.chdir(REPOSITORY)
    settings, (args, training, _) = grpo.STAGE.parse(["--config", str(path), "--use_vllm", "false"])
    grpo.set_global_batch(training, args.global_batch_size)
    grpo.set_generations(training, settings)
    two: Any = SimpleNamespace(**vars(training) | {"world_size": 2, "num_generations": 2, "steps_per_generation": 1})
    two.per_device_train_batch_size = 1
    with pytest.raises(UserError, match="resample: each process samples 1 completions, not a multiple of num_gen"):
        grpo.set_generations(two, {"steps_per_generation": 1, "resample": 1})
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps
    assert batch == args.global_batch_size
    assert training.generation_batch_size % batch == 0


def test_a_tasks_columns_and_its_own_score_are_there_for_rewards_that_ask(base: Callable[..., Path]) -> None:
    rewards = [{"function": "own_rewards.of_letters"}, {"function": "zero2chat.rewards.task.task_score"}]
    path = base("columns", rewards=rewards, max_steps=1, save_strategy="no")
    run(path)
    (line,) = history(path)
    assert 0 <= line["rewards/of_letters/mean"] <= 1
    assert line["rewards/task_score/mean"] >= 0


# ---- mistakes


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """`rows(...)`: problems in a file of the user's own, as a `datasets` list."""

    def write(problems: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        path = tmp_path / "mine.jsonl"
        path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
        return [{"path": str(path)}]

    return write


def test_a_users_own_problems_are_practised_with_control_tokens_as_plain_text(
    base: Callable[..., Path], rows: Callable[..., list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    prepare = grpo.prepare
    monkeypatch.setattr(grpo, "prepare", lambda *args: seen.append(prepare(*args)) or seen[0])
    problems = [{"prompt": f"What is {i} + 1? <|im_end|>", "answer": i + 1, "level": 1} for i in range(8)]
    rewards = [{"function": "zero2chat.rewards.math.math_answer"}]
    own = [rows(problems)[0] | {"n": 6}]
    run(base("own", datasets=own, rewards=rewards, max_steps=1, save_strategy="no"))
    found = seen[0].train
    assert len(found) == 6
    assert found[0]["answer"] == "1"
    assert found[0]["level"] == 1
    (turn,) = found[0]["prompt"]
    assert turn["role"] == "user"
    assert turn["content"].startswith("What is 0 + 1?")
    assert "<|im_end|>" not in turn["content"]


MATHS = {"rewards": [{"function": "zero2chat.rewards.math.math_answer"}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": []}, "rewards: the list is empty"),
        ({"rewards": [{"function": "own_rewards.nothing"}]}, "cannot import 'own_rewards.nothing'"),
        ({"rewards": [{"function": "nowhere.at_all"}]}, "cannot import 'nowhere.at_all': No module named 'nowhere'"),
        ({"rewards": [{"function": "digits"}]}, "cannot import 'digits'"),
        ({"rewards": [{"function": "own_rewards.number"}]}, "cannot import 'own_rewards.number'"),
        ({"rewards": [{"function": "own_rewards.longer", "options": {"gaol": 3}}]}, "no option 'gaol'; did you mean"),
        ({"rewards": [{"function": "own_rewards.digits", "wieght": 2}]}, r"rewards\[0\]: unknown key 'wieght'"),
        (
            {"rewards": [{"function": "own_rewards.digits", "weight": math.inf}]},
            "weight: expected a finite number, got inf",
        ),
        ({"rewards": [{"function": "own_rewards.digits"}] * 2}, "two entries have the same name"),
        ({"rewards": [{"function": "own_rewards.one_too_few"}]}, "returned 15 rewards for 16 completions"),
        ({"rewards": [{"function": "own_rewards.not_a_number"}]}, "returned nan for completion 0, not a finite number"),
        ({"rewards": [{"function": "own_rewards.words"}]}, "returned 'good' for completion 0, not a finite number"),
        ({"max_completion_length": 120}, "prompts leave no room for max_completion_length"),
        ({"num_generations": 3}, "must be divisible by num_generations"),
        (
            {
                "num_generations": 6,
                "global_batch_size": 48,
                "per_device_train_batch_size": 12,
                "generation_batch_size": 30,
            },
            "generation_batch_size",
        ),
        ({"generation_batch_size": 24, "num_generations": 8, "per_device_train_batch_size": 16}, "24"),
        ({"datasets": [{"task": "spelling", "n": 3}]}, "3 problems remain, but one generation needs 4: give more"),
        ({"beta": 0.1, "model_revision": "v2"}, "beta: TRL would load the reference model from the main revision"),
        ({"rewards": [{"function": "broken_rewards.digits"}]}, "cannot import 'broken_rewards.digits': invalid syntax"),
        ({"rewards": [{"function": "own_rewards.text"}]}, "returned 'good', not a list of rewards"),
        ({"rewards": [{"function": "own_rewards.one"}]}, "returned 1.0, not a list of rewards"),
        ({"rewards": [{"function": "own_rewards.slow"}]}, "own_rewards.slow. is not a plain function"),
        ({"rewards": [{"function": "own_rewards.closed"}]}, r"add \*\*columns"),
        (
            {"rewards": [{"function": "own_rewards.needy"}]},
            "no column 'difficulty', which the reward own_rewards.needy",
        ),
        (
            {"rewards": [{"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 0}}]},
            "longest: expected at least 1, got 0",
        ),
        ({"steps_per_generation": 4, "save_steps": 2}, "save_steps 2 is not a multiple of 4"),
        ({"steps_per_generation": 4, "save_steps": 0.5}, "save_steps 0.5 is not a multiple of 4"),  # every 3 of 6
        ({"muon": True, "use_peft": True}, "muon: Muon updates full matrices, not adapters"),
        ({"pass_rate": {"samples": 1}}, "samples: expected at least 2, got 1"),
        ({"pass_rate": {"low": 0.9, "high": 0.1}}, "expected 0 <= low <= high <= 1"),
        ({"pass_rate": {"sample": 4}}, "pass_rate: unknown key 'sample'"),
        (
            {"pass_rate": {}, "rewards": [{"function": "own_rewards.tokens"}]},
            "'tokens' needs completion_ids, which only training has",
        ),
        (
            {"pass_rate": {"samples": 2}, "rewards": [{"function": "own_rewards.alike"}]},
            "pass_rate: 0 problems remain, but one generation needs 4",
        ),
        ({"resample": -1}, "resample: expected at least 0, got -1"),
        ({"resample": 1, "scale_rewards": "batch"}, "resample: rewards must be normalised per group"),
        ({"resample": 1, "scale_rewards": "none"}, "resample: rewards must be normalised per group"),
        ({"resample": 1, "scale_rewards": False}, "resample: rewards must be normalised per group"),
        ({"eval_batch_size": 0}, "eval_batch_size: expected at least 1, got 0"),
        ({"reward_weights": [1.0]}, "reward_weights: the stage decides it"),
        ({"lerning_rate": 1}, "unknown key 'lerning_rate'"),
        ({"tasks": [{"task": "speling"}]}, "no such task"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str, base: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=message):
        run(base("bad", **changes))


def test_settings_are_refused_before_a_model_is_loaded(
    base: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpo, "open_chat_model", lambda *_, **__: pytest.fail("a model was loaded"))
    for changes in (
        {"resample": 1, "scale_rewards": "batch"},
        {"rewards": [{"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 0}}]},
    ):
        with pytest.raises(UserError):
            run(base("bad", **changes))


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ({"answer": "1"}, "no column 'prompt'"),
        ({"prompt": "What is 1 + 1?"}, "no column 'answer'"),
        ({"prompt": 5, "answer": "1"}, "mine, row 0: prompt: expected text or a list"),
        ({"prompt": ["a", "b"], "answer": "1"}, "mine, row 0: prompt: expected text or a list"),
        (
            {"prompt": [{"role": "assistant", "content": "a"}], "answer": "1"},
            "row 0: prompt: does not end with the user",
        ),
        ({"prompt": "What?", "answer": "no idea at all \\"}, "row 0 .*: the reference answer"),
        ({"prompt": "What?", "answer": ""}, "mine, row 0: answer: expected text or a number, got .*: remove the row"),
        ({"prompt": "What?", "answer": None}, "mine, row 0: answer: expected text or a number, got .*: remove the row"),
        ({"prompt": "What? " * 200, "answer": "1"}, "row 0 has"),
    ],
)
def test_problems_that_cannot_be_practised_are_refused(
    problem: dict[str, Any], message: str, base: Callable[..., Path], rows: Callable[..., list[dict[str, Any]]]
) -> None:
    with pytest.raises(UserError, match=message):
        run(base("bad", datasets=rows([problem] * 4), **MATHS))


# ---- with tools


def test_what_tools_say_gets_no_gradient_and_every_token_that_the_model_drew_gets_one(
    base: Callable[..., Path], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tokenizer = load_model(model_folder)
    contexts: list[str] = []

    def draw(self: Any, prompt_ids: Any, *_: Any, **more: Any) -> Any:
        """Return four answers; three of them call Python first."""
        texts = []
        for n, ids in enumerate(prompt_ids):
            contexts.append(tokenizer.decode(ids))
            called = "<|im_start|>tool" in contexts[-1]
            texts.append(f"{n}!<|im_end|>" if called or not n % 4 else "<PYTHON_START>6 * 7<PYTHON_END>")
        return [tokenizer.encode(text) for text in texts], None

    compute_loss, likelihoods, seen = (
        grpo.GrpoTrainer.compute_loss,
        grpo.GrpoTrainer._get_per_token_logps_and_entropies,
        [],
    )

    def keep(self: Any, *args: Any, **more: Any) -> Any:
        found = likelihoods(self, *args, **more)
        if found[0].requires_grad:
            found[0].retain_grad()
            seen.append(found[0])
        return found

    def listen(self: Any, model: Any, inputs: Any, **more: Any) -> Any:
        seen.append(inputs)
        return compute_loss(self, model, inputs, **more)

    monkeypatch.setattr(grpo.GrpoTrainer, "_generate_single_turn", draw)
    monkeypatch.setattr(grpo.GrpoTrainer, "_get_per_token_logps_and_entropies", keep)
    monkeypatch.setattr(grpo.GrpoTrainer, "compute_loss", listen)
    path = base("tools", tools={"python": {}}, max_completion_length=40, max_steps=1, tasks=[])
    run(path)

    assert contexts[0].startswith("<|im_start|>system\npython(code)<|im_end|>")
    assert contexts[-1].endswith(
        "<PYTHON_START>6 * 7<PYTHON_END><|im_end|>\n<|im_start|>tool\n42<|im_end|>\n<|im_start|>assistant\n"
    )
    assert history(path)[0]["tools/call_frequency"] == 0.75
    assert history(path)[0]["tools/failure_frequency"] == 0.0
    inputs, of_tokens = seen
    mine = inputs["completion_mask"] * inputs["tool_mask"]
    told = inputs["completion_mask"] * (1 - inputs["tool_mask"])
    moved = inputs["advantages"].abs() > 0
    assert told[1].sum() > 10
    assert (of_tokens.grad[mine == 0] == 0).all()
    assert (of_tokens.grad[moved][mine[moved] == 1] != 0).all()
    assert tokenizer.decode(inputs["completion_ids"][1][mine[1] == 1]) == "<PYTHON_START>6 * 7<PYTHON_END>0!<|im_end|>"


def test_a_reward_reads_the_turns_of_an_answer_and_the_answer_last(
    base: Callable[..., Path], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tokenizer = load_model(model_folder)
    said = iter(["I look. <PYTHON_START>6 * 7<PYTHON_END>"] * 16 + ["42<|im_end|>"] * 16)
    monkeypatch.setattr(
        grpo.GrpoTrainer,
        "_generate_single_turn",
        lambda self, prompt_ids, *_, **more: ([tokenizer.encode(next(said)) for _ in prompt_ids], None),
    )
    answers: list[Any] = []
    monkeypatch.setattr("own_rewards.digits", lambda completions, **columns: answers.extend(completions) or [0.0] * 16)
    run(base("turns", tools={"python": {}}, max_completion_length=60, max_steps=1, tasks=[]))
    call = {"type": "function", "function": {"name": "python", "arguments": {"code": "6 * 7"}}}
    assert answers[0] == [
        {"role": "assistant", "content": "I look. ", "tool_calls": [call]},
        {"role": "tool", "name": "python", "content": "42"},
        {"role": "assistant", "content": "42"},
    ]


@pytest.mark.parametrize(
    ("drawn", "arguments"),
    [
        ("\x1b]0;owned\x07\x1b[2J <PYTHON_START>6 * 7<PYTHON_END>", {"code": "6 * 7"}),
        ("<PYTHON_END>", {}),  # a column of empty structs is none that a table can hold
    ],
)
def test_whatever_a_model_writes_is_logged_without_escape_sequences(
    drawn: str,
    arguments: dict[str, str],
    base: Callable[..., Path],
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _, tokenizer = load_model(model_folder)
    said = iter([drawn] * 16 + ["42<|im_end|>"] * 16)
    monkeypatch.setattr(
        grpo.GrpoTrainer,
        "_generate_single_turn",
        lambda self, prompt_ids, *_, **more: ([tokenizer.encode(next(said)) for _ in prompt_ids], None),
    )
    rewards = [{"function": "own_rewards.logs"}]
    more = {"tools": {"python": {}}, "max_completion_length": 60, "max_steps": 1, "tasks": [], "log_completions": True}
    run(base("logged", rewards=rewards, **more))
    shown = capfd.readouterr().out
    assert "ASSISTANT" in shown
    assert not re.search("\x1b(?!\\[[\\d;]*m)", shown)  # but for rich's own colours
    (table,) = (tmp_path / "logged" / "completions").glob("*.parquet")
    (call,) = pd.read_parquet(table)["completion"][0][0]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == arguments


def test_calls_and_results_stay_within_the_length_of_an_answer(
    base: Callable[..., Path], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tokenizer = load_model(model_folder)
    rows: list[Any] = []
    monkeypatch.setattr(
        grpo.GrpoTrainer,
        "_generate_single_turn",
        lambda self, prompt_ids, *_, **more: (
            [tokenizer.encode('<PYTHON_START>"long " * 99<PYTHON_END>') for _ in prompt_ids],
            None,
        ),
    )
    loop = grpo.GrpoTrainer._tool_call_loop

    def watch(self: Any, *args: Any) -> Any:
        found = loop(self, *args)
        rows.extend(found[2])
        return found

    monkeypatch.setattr(grpo.GrpoTrainer, "_tool_call_loop", watch)
    run(base("long", tools={"python": {}}, max_completion_length=60, max_steps=1, tasks=[]))
    assert all(20 < len(ids) <= 60 for ids in rows)


def test_a_rank_without_calls_left_generates_with_those_that_have_some(
    base: Callable[..., Path], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ranks gather sharded weights together. Here another one says that it has calls after the first two turns."""
    _, tokenizer = load_model(model_folder)
    asked: list[int] = []

    def draw(self: Any, prompt_ids: Any, *_: Any, **more: Any) -> Any:
        asked.append(len(prompt_ids))
        return [tokenizer.encode("So.<|im_end|>") for _ in prompt_ids], None

    others = iter([1, 1, 1])
    monkeypatch.setattr("zero2chat.trainers.grpo.is_deepspeed_zero3_enabled", lambda: True)
    monkeypatch.setattr("zero2chat.trainers.grpo.gather_object", lambda numbers: [*numbers, next(others, 0)])
    monkeypatch.setattr(grpo.GrpoTrainer, "_generate_single_turn", draw)
    path = base("waits", tools={"python": {}}, max_steps=1, tasks=[])
    run(path)
    assert asked == [16, 1, 1]
    assert history(path)[0]["completions/mean_length"] == len(tokenizer.encode("So.<|im_end|>"))
    assert history(path)[0]["tools/call_frequency"] == 0


# In a process of its own it makes rank 0 call once and rank 1 never, where a real model would call seldom.
CALLER = """
from zero2chat.stages import grpo

drawn = grpo.GrpoTrainer._generate_single_turn


def call(self, prompt_ids, *more, **options):
    ids, logprobs = drawn(self, prompt_ids, *more, **options)
    tokenizer = self.processing_class
    for i, prompt in enumerate(prompt_ids):
        called = "<|im_start|>tool" in tokenizer.decode(prompt)
        calls = self.accelerator.process_index == 0 and i == 0 and not called
        ids[i] = tokenizer.encode("<PYTHON_START>6 * 7<PYTHON_END>" if calls else "So.<|im_end|>")
    return ids, logprobs


grpo.GrpoTrainer._generate_single_turn = call


def digits(completions, **columns):
    return [float(i % 3) for i in range(len(completions))]
"""


@pytest.mark.slow
def test_two_zero3_ranks_with_unlike_numbers_of_calls_do_not_wait_for_ever(
    base: Callable[..., Path],
    two_ranks: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "calling_rewards.py").write_text(CALLER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    zero2 = REPOSITORY / "accelerate_configs/cpu_zero2.yaml"
    config = tmp_path / "cpu_zero3.yaml"
    config.write_text(zero2.read_text().replace("zero_stage: 2", "zero_stage: 3\n  zero3_save_16bit_model: true"))
    path = base(
        "two", tools={"python": {}}, max_steps=1, tasks=[], max_completion_length=60, per_device_train_batch_size=8,
        rewards=[{"function": "calling_rewards.digits"}],
    )  # fmt: skip
    two_ranks("grpo", path, config=config)
    assert history(path)[0]["tools/call_frequency"] == 1 / 16


def test_vllm_is_told_what_ends_a_turn(base: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the model's folder, which knows no chat template."""
    told: list[Any] = []

    class Enough(Exception):
        pass

    def vllm(model: Any, generation_kwargs: dict[str, Any], **_: Any) -> None:
        told.append((generation_kwargs, model.generation_config.eos_token_id))
        raise Enough

    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", vllm)
    for more in ({}, {"generation_kwargs": {"stop_token_ids": [5], "seed": 1}}):
        with pytest.raises(Enough):
            run(base(f"vllm{len(told)}", use_vllm=True, **more))
    (given, ends), (own, _) = told
    assert given == {"stop_token_ids": ends}
    assert len(ends) > 0
    assert own == {"stop_token_ids": [5], "seed": 1}


def test_with_vllm_calls_end_a_request_and_each_token_keeps_its_log_probability(
    base: Callable[..., Path], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tokenizer = load_model(model_folder)
    requests: list[tuple[int, list[int]]] = []
    stops: list[int] = []

    class Sampler:
        """Answers with calls of unlike lengths, and never twice; a token's log-probability is its id / -1000."""

        def __init__(self, generation_kwargs: dict[str, Any], max_completion_length: int, **_: Any):
            stops.extend(generation_kwargs["stop_token_ids"])
            self.max_completion_length = max_completion_length

        def sync_weights(self) -> None:
            pass

        def generate(self, prompts: list[list[int]], **_: Any) -> tuple[Any, ...]:
            requests.append((self.max_completion_length, [len(ids) for ids in prompts]))
            ids = []
            for n, prompt in enumerate(prompts):
                called = "<|im_start|>tool" in tokenizer.decode(prompt)
                call = f"<PYTHON_START>6 * 7{' + 0' * (n % 3)}<PYTHON_END>"
                ids.append(tokenizer.encode(f"{n}!<|im_end|>" if called or not n % 4 else call))
            return prompts, ids, [[[i / -1000] for i in row] for row in ids], None

    seen: list[Any] = []
    compute_loss = grpo.GrpoTrainer.compute_loss

    def listen(self: Any, model: Any, inputs: Any, **more: Any) -> Any:
        seen.append(inputs)
        return compute_loss(self, model, inputs, **more)

    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", Sampler)
    monkeypatch.setattr(grpo.GrpoTrainer, "compute_loss", listen)
    path = base("vllm", tools={"python": {}}, use_vllm=True, max_completion_length=40, max_steps=1, tasks=[])
    run(path)

    assert tokenizer.convert_tokens_to_ids("<PYTHON_END>") in stops
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in stops
    assert history(path)[0]["tools/call_frequency"] == 0.75
    (first, prompts), *later = requests
    assert first == 40
    assert len(later) > 1  # some wait for those with more room
    assert sum(len(lengths) for _, lengths in later) == 12
    for more, lengths in later:
        assert more < first
        assert max(lengths) + more <= max(prompts) + first
    (inputs,) = seen
    mine = inputs["completion_mask"] * inputs["tool_mask"]
    assert torch.equal(inputs["sampling_per_token_logps"], mine * inputs["completion_ids"] / -1000)
    ends = [tokenizer.decode(ids[keep == 1][-1]) for ids, keep in zip(inputs["completion_ids"], mine, strict=True)]
    assert ends == ["<|im_end|>"] * 16


@pytest.mark.parametrize("more", [{"resample": 1}, {"pass_rate": {"samples": 2}}])
def test_what_does_not_go_with_tools_is_refused(base: Callable[..., Path], more: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="tools: these sample completions without calls: remove pass_rate and resample"):
        run(base("refused", tools={"python": {}}, **more))


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ({"pyhton": {}}, r"tools: no tool 'pyhton'; did you mean 'python'\?"),
        ({"python": {"seconds": 3}}, "tools: python takes no options"),
        ({"search": {}}, "tools: search: where is not set"),
        ({"search": {"where": "nowhere"}}, "nowhere: no such index"),
        ({"search": {"wear": "x"}}, r"unknown key 'wear'"),
        ({"own_rewards.nothing": {}}, "tools: cannot import 'own_rewards.nothing'"),
        ({"own_rewards.needy": {}}, "a tool needs a type hint and a docstring"),
    ],
)
def test_tools_that_cannot_be_are_one_line(base: Callable[..., Path], tools: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        run(base("none", tools=tools))
