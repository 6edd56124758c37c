"""PPO on tiny models: it learns what is rewarded, is compared with the start model, and resumes after a kill."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.evaluation import comparison
from zero2chat.inference.generate import Answer
from zero2chat.models.loading import load_model
from zero2chat.stages import ppo
from zero2chat.trainers.ppo import model

REPOSITORY = Path(__file__).parents[2]

# A module of reward functions as a user would write it, on the path of this process and its children.
REWARDS = '''
def digits(completions, **columns):
    """The share of a text that is digits."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(c.isdigit() for c in text) / max(1, len(text)) for text in texts]


def of_some(completions, **columns):
    """No opinion on texts that begin with a letter."""
    texts = [completion[0]["content"] for completion in completions]
    return [None if text[:1].isalpha() else 1.0 for text in texts]


def one_too_few(completions, **columns):
    return [0.0] * (len(completions) - 1)


def of_letters(completions, kind, **columns):
    return [float(k.startswith("l")) for k in kind]


def needy(completions, difficulty, **columns):
    return [0.0] * len(completions)
'''


@pytest.fixture(autouse=True)
def own_rewards(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "own_ppo"
    folder.mkdir(exist_ok=True)
    (folder / "own_ppo_rewards.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def base(model_folder: Path, tmp_path: Path, write_yaml: Callable[..., Path]) -> Callable[..., Path]:
    """`base(name, **changes)`: the YAML of a small run; a change of None leaves a setting out."""

    def make(name: str, **changes: Any) -> Path:
        settings: dict[str, Any] = {
            "output_dir": str(tmp_path / name),
            "model_name_or_path": str(model_folder),
            "datasets": [{"task": "lines", "n": 48}],
            "rewards": [{"function": "own_ppo_rewards.digits"}],
            "held_out": {"task": "lines", "n": 20, "seed": 1},
            "global_batch_size": 16,
            "per_device_train_batch_size": 16,
            "num_ppo_epochs": 2,
            "max_completion_length": 12,
            "max_steps": 8,
            "learning_rate": 1.0e-3,
            "gradient_checkpointing": False,
            "logging_steps": 1,
            "save_strategy": "steps",
            "save_steps": 4,
            "bf16": False,
            "disable_tqdm": True,
            "seed": 0,
        } | changes
        return write_yaml(tmp_path / f"{name}.yaml", **{k: v for k, v in settings.items() if v is not None})

    return make


GOLD = {"function": "zero2chat.rewards.task.task_taste", "weight": 0.0, "label": "gold"}

# Digits are rare at first, so the KL penalty must be very small.
LEARNS = {
    "max_steps": 100,
    "learning_rate": 5.0e-3,
    "kl_coef": 0.001,
    "kl_limit": 50.0,
    "cliprange_value": 10.0,
    "num_ppo_epochs": 2,
    "save_strategy": "no",
    "lr_scheduler_type": "constant",
}


def run(path: Path) -> dict[str, Any]:
    """Run the stage; its metrics."""
    ppo.STAGE.main(["--config", str(path)])
    return json.loads((path.with_suffix("") / "metrics.json").read_text())


def history(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path.with_suffix("") / "history.jsonl").read_text().splitlines()]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_liked_becomes_likelier_and_is_measured_against_the_start(
    base: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = base("digits", **LEARNS)
    metrics = run(path)
    lines = history(path)
    rewards = [line["reward"] for line in lines if "reward" in line]
    assert sum(rewards[-5:]) / 5 > 3 * sum(rewards[:5]) / 5
    assert metrics["prompts"] == {"value": 48}
    assert metrics["steps"] == {"value": 100}
    assert metrics["win_rate"]["n"] == metrics["gold_before"]["n"] == metrics["kl"]["n"] == 20
    assert metrics["reward"]["value"] > 2 * rewards[0]
    assert metrics["kl"]["value"] > 0.1
    said = capsys.readouterr().out
    assert "How to read the log. reward: mean of the reward functions" in said
    for shown in ("reward 0.", "truncated ", "length ", "entropy ", "KL ", "tokens/s", "ETA"):
        assert shown in said
    names = {"policy_loss", "value_loss", "explained_variance", "clip_ratio/region_mean", "kl_sequence"}
    assert names <= lines[-2].keys() | lines[-1].keys()

    # Before and after, of the same questions.
    samples = [json.loads(line) for line in (path.with_suffix("") / "samples.jsonl").read_text().splitlines()]
    asked = {step: [s["prompt"] for s in samples if s["step"] == step] for step in (0, 100)}
    assert asked[0] == asked[100]
    assert len(asked[0]) == 6


def test_a_reward_model_and_a_function_are_weighed_and_logged_by_name(
    base: Callable[..., Path], reward_folder: Path
) -> None:
    rewards = [
        {"model": str(reward_folder), "weight": 2.0},
        {"model": str(reward_folder), "weight": -1.0, "label": "again"},
        {"function": "own_ppo_rewards.digits", "weight": 3.0},
    ]
    path = base("two", rewards=rewards, max_steps=4)
    run(path)
    for line in history(path)[::2]:
        liked, again, digits = (line[f"rewards/{name}/mean"] for name in ("liked", "again", "digits"))
        assert liked == pytest.approx(again, abs=1e-5)
        assert line["reward"] == pytest.approx((2.0 * liked - again) / 4.0 + 3.0 * digits, abs=1e-4)


@pytest.fixture
def watched(reward_folder: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> dict[str, Any]:
    """Settings of a training that two reward models watch, and that goes against the second one's liking."""
    torch.manual_seed(2)
    other = AutoModelForSequenceClassification.from_pretrained(reward_folder)
    torch.nn.init.normal_(other.score.weight)
    other.config.score_mean, other.config.score_std = -3.0, 2.0
    other.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    models = [{"model": str(reward_folder), "weight": 0.0}, {"model": str(tmp_path / "other"), "weight": -9.0}]
    return {
        "rewards": [*models, GOLD],
        "max_steps": 40,
        "learning_rate": 1.0e-2,
        "kl_coef": 0.0,
        "kl_limit": 50.0,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "eval_batch_size": 16,  # of 20 rows: the second batch is smaller
        "eval_on_start": True,
        "metric_for_best_model": "reward_worst",
        "load_best_model_at_end": True,
        "early_stopping_patience": 2,
    }


def test_training_ends_when_the_worst_of_several_reward_models_likes_held_out_answers_less(
    base: Callable[..., Path], watched: dict[str, Any]
) -> None:
    path = base("watched", **watched)
    metrics = run(path)
    evaluations = [line for line in history(path) if "eval_reward_worst" in line]
    for line in evaluations:
        likes = [(line["eval_rewards/liked/mean"] - 0.5) / 4.0, (line["eval_rewards/other/mean"] + 3.0) / 2.0]
        assert line["eval_reward_worst"] == pytest.approx(min(likes), abs=1e-4)
        assert 0 <= line["eval_rewards/gold/mean"] <= 1
    best = max(evaluations[1:], key=lambda line: line["eval_reward_worst"])  # the start does not compete
    assert "gold_lost" not in metrics  # the best model is kept, so nothing is followed to its end
    assert metrics["best_step"]["value"] == best["step"]
    assert metrics["steps"]["value"] == evaluations[-1]["step"] == best["step"] + 8 < 40
    folder = path.with_suffix("")
    kept, last = (folder / f"checkpoint-{step}" / "model.safetensors" for step in (best["step"], best["step"] + 8))
    assert sha256(folder / "model.safetensors") == sha256(kept) != sha256(last)


def test_what_is_lost_of_the_gold_reward_is_what_the_evaluations_show_between_its_peak_and_the_end(
    base: Callable[..., Path], watched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, float]] = []
    evaluate = ppo.PPOTrainer.evaluate
    monkeypatch.setattr(ppo.PPOTrainer, "evaluate", lambda *a, **k: shown.append(evaluate(*a, **k)) or shown[-1])
    chosen = dict.fromkeys(("metric_for_best_model", "load_best_model_at_end", "early_stopping_patience"))
    metrics = run(base("followed", **watched | chosen | {"max_steps": 12}))
    assert len(shown) == 5  # at the start, at steps 4, 8 and 12, and at the end
    *golds, end = (one["eval_rewards/gold/mean"] for one in shown)
    peak = max(golds)
    assert metrics["gold_peak"] == {"value": pytest.approx(peak, abs=1e-4), "n": 20}
    assert metrics["kl_peak"]["value"] == pytest.approx(shown[golds.index(peak)]["eval_kl_sequence"], abs=1e-3)
    assert metrics["gold_lost"]["value"] == pytest.approx(peak - end, abs=2e-4)
    assert peak > end


def test_too_few_evaluations_or_an_unscored_one_have_no_peak() -> None:
    log: list[dict[str, Any]] = [
        {"eval_kl_sequence": kl, comparison.GOLD: gold} for kl, gold in ((0.0, 0.5), (1.0, 0.7))
    ]
    assert (
        comparison.overoptimization_metrics(log, 20) == comparison.overoptimization_metrics([{"loss": 1.0}], 20) == {}
    )
    log += [
        {"loss": 1.0},
        {"eval_kl_sequence": 2.0, comparison.GOLD: None},
        {"eval_kl_sequence": 3.0, comparison.GOLD: 0.4},
    ]
    found = comparison.overoptimization_metrics(log, 20)
    assert {name: metric["value"] for name, metric in found.items()} == {
        "gold_peak": 0.7,
        "kl_peak": 1.0,
        "gold_lost": 0.3,
    }


def test_a_model_is_chosen_by_validation_rows_and_judged_by_others(
    base: Callable[..., Path], watched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[Any]] = []
    evaluate = ppo.PPOTrainer.evaluate

    def watch(self: Any, eval_dataset: Any = None, **more: Any) -> Any:
        asked.append((self.eval_dataset if eval_dataset is None else eval_dataset)["prompt"][:])
        return evaluate(self, eval_dataset, **more)

    monkeypatch.setattr(ppo.PPOTrainer, "evaluate", watch)
    run(base("watched", **watched | {"max_steps": 8}))
    task = tasks.load("lines")
    validation, test = ([task.prompt(row) for row in task.rows(split, 1, 20)] for split in ("validation", "test"))
    assert asked == [validation, validation, validation, test]


def test_stopped_and_killed_at_any_step_it_stops_at_the_same_one(
    base: Callable[..., Path], watched: dict[str, Any], kill_after: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = base("whole", **watched), base("cut", **watched)
    expected = run(whole)
    kill_after(ppo, cut, 6)
    with monkeypatch.context() as patch:  # when training is over, and its answers are yet to be compared
        patch.setattr(comparison, "compare_answers", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(cut)
    found = run(cut)
    assert {k: v for k, v in found.items() if k != "seconds"} == {k: v for k, v in expected.items() if k != "seconds"}
    steps = [[line["step"] for line in history(path) if "eval_reward" in line] for path in (whole, cut)]
    assert steps[0] == steps[1]
    assert len({sha256(path.with_suffix("") / "model.safetensors") for path in (whole, cut)}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": None}, "refuses its settings: You have set `args.eval_strategy`"),
        ({"metric_for_best_model": "reward_wurst"}, "'reward_wurst' is not one of reward, reward_worst, rewards/liked"),
        ({"metric_for_best_model": None}, "metric_for_best_model: 'loss' is not one of"),
        (
            {"load_best_model_at_end": False, "metric_for_best_model": None},
            "early_stopping_patience: set eval_strategy",
        ),
        ({"save_steps": 8}, "save_steps 8 and eval_steps 4 differ: the best model might not be saved"),
        ({"save_strategy": "best", "eval_steps": 3}, "eval_steps 3 is not a multiple of 2"),
        ({"early_stopping_patience": 0}, "early_stopping_patience: expected at least 1, got 0"),
    ],
)
def test_a_best_model_that_cannot_be_found_or_kept_is_refused(
    changes: dict[str, Any], message: str, base: Callable[..., Path], watched: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=message):
        run(base("bad", **watched | changes))


def test_one_reward_model_has_no_worst(base: Callable[..., Path], watched: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="reward_worst needs two or more reward models with a saved score scale"):
        run(base("bad", **watched | {"rewards": watched["rewards"][1:]}))


def test_answers_are_compared_by_taste_where_there_is_one_and_by_score_elsewhere() -> None:
    rows = tasks.load("lines").rows("test", 0, 3)
    dull, fine = "", "The golden {topic} hums {setting} in the soft air like an old coin."
    texts = [fine.format(**row) for row in rows]
    before = [Answer(text, True, 9) for text in (dull, dull, texts[2])]
    after = [Answer(text, True, 9) for text in (texts[0], dull, texts[2])]
    metrics, golds = comparison.compare_answers(comparison.HeldOut("lines", n=3), rows, before, after)
    assert metrics["win_rate"]["value"] == pytest.approx((1 + 0.5 + 0.5) / 3, abs=1e-4)
    assert golds[0][:2] == [0.0, 0.0]
    spread = math.sqrt(sum((g - sum(golds[0]) / 3) ** 2 for g in golds[0]) / 2)
    gain = (sum(golds[1]) - sum(golds[0])) / 3 / spread
    assert metrics["gold_gain"]["value"] == pytest.approx(gain, abs=1e-4)
    alike, _ = comparison.compare_answers(comparison.HeldOut("lines", n=3), rows, [before[0]] * 3, after)
    assert "gold_gain" not in alike

    rows = tasks.load("spelling").rows("test", 0, 2)
    right = [Answer(str(row["answer"]), True, 9) for row in rows]
    wrong = [Answer("?", True, 9)] * 2
    metrics, _ = comparison.compare_answers(comparison.HeldOut("spelling", n=2), rows, wrong, right)
    assert metrics["win_rate"]["value"] == 1.0


def test_tasks_are_examined_beside_the_comparison(base: Callable[..., Path]) -> None:
    path = base("tasks", max_steps=2, save_steps=2, tasks=[{"task": "spelling", "n": 8, "max_new_tokens": 4}])
    metrics = run(path)
    assert metrics["accuracy"]["n"] == 8
    assert metrics["win_rate"]["n"] == 20
    kept = [json.loads(line) for line in (path.with_suffix("") / "samples.jsonl").open()]
    assert sum(sample["step"] == 2 for sample in kept) == 12
    without = run(base("none", max_steps=2, save_steps=2, held_out=None))
    assert "win_rate" not in without


@pytest.mark.parametrize(
    "changes",
    [
        {"rewards": [{"function": "own_ppo_rewards.digits"}, GOLD], "eval_strategy": "steps", "eval_steps": 4},
        # In the second round of the prompts.
        {"datasets": [{"task": "lines", "n": 18}], "num_mini_batches": 2, "per_device_train_batch_size": 4,
         "global_batch_size": 8},
        {"rewards": [{"function": "own_ppo_rewards.of_some"}]},
        {"use_peft": True, "lora_r": 4, "lora_target_modules": "all-linear", "learning_rate": 1.0e-2},
        {"muon": True},
    ],
    ids=["gold watched", "minibatches", "None", "LoRA", "Muon"],
)  # fmt: skip
def test_killed_and_run_again_it_ends_with_the_weights_of_an_uninterrupted_run(
    changes: dict[str, Any], base: Callable[..., Path], kill_after: Callable[..., None]
) -> None:
    changes = {"max_steps": 12, "lr_scheduler_type": "constant"} | changes
    whole, cut = base("whole", **changes), base("cut", **changes)
    expected = run(whole)

    for last in (6, 11):  # after the checkpoints of steps 4 and 8
        kill_after(ppo, cut, last)
    found = run(cut)
    folders = whole.with_suffix(""), cut.with_suffix("")
    weights = "adapter_model.safetensors" if changes.get("use_peft") else "model.safetensors"
    for name in (weights, "samples.jsonl", "checkpoint-8/value.safetensors", "checkpoint-12/value.safetensors"):
        assert len({sha256(folder / name) for folder in folders}) == 1, name
    assert {k: v for k, v in found.items() if k != "seconds"} == {k: v for k, v in expected.items() if k != "seconds"}
    times = ("seconds", "per_second", "runtime")
    curves = [[{k: v for k, v in line.items() if not k.endswith(times)} for line in history(p)] for p in (whole, cut)]
    assert curves[0] == curves[1]
    assert [line["step"] for line in curves[0] if "loss" in line] == list(range(1, 13))
    assert ("gold_lost" in found) == ("eval_strategy" in changes)


def test_its_folder_opens_as_any_model_and_says_what_it_is(base: Callable[..., Path]) -> None:
    path = base("whole")
    run(path)
    folder = path.with_suffix("")
    assert not [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt")]
    assert not (folder / "value.safetensors").exists()
    assert not [key for key in load_file(folder / "model.safetensors") if key.startswith(("policy.", "value."))]
    assert "trained with PPO" in (folder / "README.md").read_text()
    assert "optimized against a reward model" in (folder / "README.md").read_text()
    assert load_model(folder)[0] is not None


def test_lora_learns_and_its_folder_opens(base: Callable[..., Path]) -> None:
    more = {"use_peft": True, "lora_r": 8, "lora_target_modules": "all-linear"}
    path = base("lora", **LEARNS | more | {"learning_rate": 2.0e-2})
    run(path)
    rewards = [line["reward"] for line in history(path) if "reward" in line]
    assert sum(rewards[-5:]) > 2 * sum(rewards[:5])
    assert (path.with_suffix("") / "adapter_model.safetensors").exists()
    assert not (path.with_suffix("") / "model.safetensors").exists()
    assert load_model(path.with_suffix(""))[0] is not None


# ---- many processes


# With only one token to choose from, every process draws the same.
ALIKE = {
    "generation_kwargs": {"top_k": 1}, "max_steps": 12, "num_ppo_epochs": 2, "kl_coef": 0.1,
    "lr_scheduler_type": "constant",
    "held_out": {"task": "lines", "n": 20, "seed": 1, "temperature": 0.0},
}  # fmt: skip


def same_curves(one: Path, two: Path) -> None:
    found = [[line for line in history(path) if "loss" in line] for path in (one, two)]
    assert [line["step"] for line in found[0]] == [line["step"] for line in found[1]] == list(range(1, 13))
    for a, b in zip(*found, strict=True):
        assert a.keys() == b.keys()
        for key in ("loss", "reward", "kl", "entropy", "policy_loss", "value_loss", "explained_variance", "tokens"):
            if key in a:
                assert a[key] == pytest.approx(b[key], abs=3e-4, rel=2e-3), (a["step"], key)


def test_two_zero2_ranks_are_one_process(
    base: Callable[..., Path], two_ranks: Callable[..., str], reward_folder: Path
) -> None:
    changes = ALIKE | {"rewards": [{"model": str(reward_folder)}, {"function": "own_ppo_rewards.digits"}]}
    one, two = base("one", **changes), base("two", per_device_train_batch_size=8, **changes)
    metrics = run(one)
    said = two_ranks("ppo", two)
    same_curves(one, two)
    found = json.loads((two.with_suffix("") / "metrics.json").read_text())
    assert found["gold_before"] == metrics["gold_before"]
    assert said.count("How to read the log") == 1
    weights = load_file(two.with_suffix("") / "model.safetensors")
    for name, weight in load_file(one.with_suffix("") / "model.safetensors").items():
        torch.testing.assert_close(weights[name], weight, atol=2e-3, rtol=1e-2)


@pytest.mark.slow  # three launches of two ranks
def test_two_zero2_ranks_killed_go_on_with_their_value(
    base: Callable[..., Path], two_ranks: Callable[..., str]
) -> None:
    more = ALIKE | {"per_device_train_batch_size": 8}
    whole, cut = base("whole", **more), base("cut", **more)
    for path in (whole, cut):
        two_ranks("ppo", path)
    # As if it had been killed after the checkpoint of step 8.
    folder = cut.with_suffix("")
    (folder / "metrics.json").unlink()
    subprocess.run(["rm", "-r", str(folder / "checkpoint-12")], check=True)
    assert "resuming from checkpoint-8" in two_ranks("ppo", cut)
    same_curves(whole, cut)
    weights = [load_file(path.with_suffix("") / "model.safetensors") for path in (whole, cut)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_two_zero3_ranks_are_one_process(
    base: Callable[..., Path],
    two_ranks: Callable[..., str],
    reward_folder: Path,
    tmp_path: Path,
) -> None:
    changes = ALIKE | {"rewards": [{"model": str(reward_folder)}]}
    one, two = base("one", **changes), base("two", per_device_train_batch_size=8, **changes)
    run(one)
    config = tmp_path / "cpu_zero3.yaml"
    zero2 = REPOSITORY / "accelerate_configs/cpu_zero2.yaml"
    text = zero2.read_text().replace("zero_stage: 2", "zero_stage: 3\n  zero3_save_16bit_model: true")
    config.write_text(text)
    two_ranks("ppo", two, config=config)
    same_curves(one, two)
    assert load_model(two.with_suffix(""))[0] is not None


def test_what_the_trainer_loads_again_is_the_same_revision(
    base: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference, where ZeRO-3 has sharded the model."""
    seen: list[str] = []
    load_again = model.load_again

    def reference(policy: Any, revision: str) -> Any:
        seen.append(revision)
        return load_again(policy, revision)

    monkeypatch.setattr(model, "is_deepspeed_zero3_enabled", lambda: True)
    monkeypatch.setattr(model, "load_again", reference)
    run(base("revised", model_revision="step-9", max_steps=2, save_strategy="no", held_out=None))
    assert seen == ["step-9"]


# ---- mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": []}, "rewards: the list is empty"),
        ({"rewards": [{"model": "runs/none/reward"}]}, "runs/none/reward: not a finished run"),
        ({"rewards": [{"model": "./none"}]}, "./none: no such folder"),
        ({"rewards": [{"model": "./none", "wieght": 2}]}, r"rewards\[0\]: unknown key 'wieght'"),
        ({"rewards": [{"model": "./none", "weight": math.inf}]}, "weight: expected a finite number, got inf"),
        ({"rewards": [{"function": "own_ppo_rewards.nothing"}]}, "cannot import 'own_ppo_rewards.nothing'"),
        ({"rewards": [{"function": "own_ppo_rewards.digits"}] * 2}, "two entries have the same name"),
        ({"rewards": [{"function": "own_ppo_rewards.one_too_few"}]}, "returned 15 rewards for 16 completions"),
        ({"rewards": [{"function": "own_ppo_rewards.needy"}]}, "no column 'difficulty', which the reward"),
        ({"held_out": {"task": "lines", "n": 1}}, "held_out: n: expected at least 2, got 1"),
        ({"held_out": {"task": "lnes"}}, "no such task"),
        ({"held_out": {"task": "lines", "split": "train"}}, "split: 'train' is not one of validation, test"),
        ({"held_out": {"tsk": "lines"}}, "held_out: unknown key 'tsk'"),
        ({"max_completion_length": 120}, "prompts leave no room for max_completion_length"),
        ({"datasets": [{"task": "lines", "n": 3}]}, "3 prompts, but one rollout needs 16: give more"),
        ({"save_steps": 3}, "save_steps 3 is not a multiple of 2, the optimizer steps per rollout"),
        ({"save_steps": 0.3}, r"save_steps 0.3 is not a multiple of 2"),
        ({"muon": True, "use_peft": True}, "muon: Muon updates full matrices, not adapters"),
        ({"kl_budget": 0}, "kl_budget: expected more than 0, got 0.0"),
        ({"max_prompt_length": 0}, "max_prompt_length: expected at least 1, got 0"),
        ({"max_prompt_length": 3}, "48 of 48 prompts are over max_prompt_length 3"),
        ({"value_model": "own"}, "unknown key 'value_model'"),
        ({"reward_weights": [1.0]}, "unknown key 'reward_weights'"),
        ({"lerning_rate": 1}, "unknown key 'lerning_rate'"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str, base: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=message):
        run(base("bad", **changes))


def test_a_language_model_is_no_reward_model(base: Callable[..., Path], model_folder: Path) -> None:
    with pytest.raises(UserError, match=r"not a reward model \(no score head\)"):
        run(base("bad", rewards=[{"model": str(model_folder)}]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "a"}, "no column 'prompt'"),
        ({"prompt": 5}, "mine, row 0: prompt: expected text or a list"),
        ({"prompt": [{"role": "assistant", "content": "a"}]}, "row 0: prompt: does not end with the user"),
        ({"prompt": "What? " * 200}, r"row \d+ has"),
    ],
)
def test_prompts_that_cannot_be_answered_are_refused(
    row: dict[str, Any], message: str, base: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "mine.jsonl").write_text((json.dumps(row) + "\n") * 16)
    with pytest.raises(UserError, match=message):
        run(base("bad", datasets=[{"path": str(tmp_path / "mine.jsonl")}]))


def test_a_users_own_prompts_need_no_answers(base: Callable[..., Path], tmp_path: Path) -> None:
    rows = [{"prompt": f"Write about {i}. <|im_end|>", "kind": "lines"} for i in range(16)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rewards = [{"function": "own_ppo_rewards.of_letters"}]
    path = base(
        "own",
        datasets=[{"path": str(tmp_path / "mine.jsonl")}],
        rewards=rewards,
        held_out=None,
        max_steps=2,
        save_steps=2,
    )
    run(path)
    assert history(path)[0]["reward"] == 1.0


def test_the_kl_budget_ends_training_and_the_step_is_a_metric(
    base: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = base("far", max_steps=100, learning_rate=5.0e-3, kl_budget=0.5, kl_coef=0.0, lr_scheduler_type="constant")
    metrics = run(path)
    stopped = metrics["stopped_at"]["value"]
    assert stopped == metrics["steps"]["value"] == history(path)[-1]["step"] < 100
    assert f"step {stopped}: KL " in capsys.readouterr().out


def test_kl_that_explodes_is_a_mistake(base: Callable[..., Path]) -> None:
    path = base("far", max_steps=60, learning_rate=0.5, num_ppo_epochs=1, save_steps=1, kl_coef=0.0)
    with pytest.raises(UserError, match=r"step \d+: .*training has diverged: lower learning_rate"):
        run(path)
    assert not (path.with_suffix("") / "metrics.json").exists()
