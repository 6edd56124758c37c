"""PPO on tiny models: it learns what is rewarded, and is compared with the start model."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_fixtures import Configured, Train, checkpoints, history, main, metrics, sha256, write_rows
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.evaluation import comparison
from zero2chat.inference.generate import Answer
from zero2chat.models.loading import load_model
from zero2chat.stages import ppo
from zero2chat.trainers.ppo import model

pytestmark = pytest.mark.usefixtures("own_rewards")
DIGITS = {"function": "own_rewards.digits"}
GOLD = {"function": "zero2chat.rewards.task.task_taste", "weight": 0.0, "label": "gold"}
CONSTANT = {"lr_scheduler_type": "constant"}
OWN: dict[str, Any] = {
    "datasets": [{"task": "lines", "n": 48}],
    "held_out": {"task": "lines", "n": 20, "seed": 1},
    "seed": 0,
}
OWN |= {"rewards": [DIGITS], "num_ppo_epochs": 2, "max_steps": 8, "learning_rate": 1.0e-3, "logging_steps": 1}


@pytest.fixture
def base(configured: Configured, model_folder: Path) -> Configured:
    """`base(name, **changes)`: the YAML of a small run that rewards digits."""
    own = OWN | {"model_name_or_path": str(model_folder)}
    return lambda name="run", **changes: configured("ppo", name, **own | changes)


@pytest.fixture
def practise(base: Configured) -> Train:
    """`practise(name, **changes)` → the folder of such a run."""
    return lambda name="run", **changes: main("ppo", base(name, **changes))


def test_what_is_liked_becomes_likelier_and_is_measured_against_the_start(practise, capsys):
    # Digits are rare at first, so the KL penalty must be very small.
    weak = {"kl_coef": 0.001, "kl_limit": 50.0, "cliprange_value": 10.0}
    also = {"tasks": [{"task": "spelling", "n": 8, "max_new_tokens": 4}]}
    run = practise(max_steps=100, learning_rate=5.0e-3, save_strategy="no", **weak, **also, **CONSTANT)
    values, lines = metrics(run), history(run, "reward")
    rewards = [line["reward"] for line in lines]
    assert sum(rewards[-5:]) / 5 > 3 * sum(rewards[:5]) / 5
    assert (values["prompts"], values["steps"]) == ({"value": 48}, {"value": 100})
    assert values["win_rate"]["n"] == values["gold_before"]["n"] == values["kl"]["n"] == 20
    assert values["accuracy"]["n"] == 8
    assert values["reward"]["value"] > 2 * rewards[0]
    assert values["kl"]["value"] > 0.1
    printed = capsys.readouterr().out
    for shown in ("How to read the log. reward", "reward 0.", "truncated ", "length ", "KL ", "tokens/s", "ETA"):
        assert shown in printed

    # Before and after, of the same questions; and the folder opens as any model's.
    prompts = [[s["prompt"] for s in read_jsonl(run / "samples.jsonl") if s["step"] == step] for step in (0, 100)]
    assert prompts[0] == prompts[1][: len(prompts[0])] != []
    assert {s.get("won") for s in read_jsonl(run / "samples.jsonl") if s["step"]} <= {0.0, 0.5, 1.0, None}
    assert not [p.name for p in run.iterdir() if p.suffix in (".bin", ".pt") or p.name == "value.safetensors"]
    assert not [key for key in load_file(run / "model.safetensors") if key.startswith(("policy.", "value."))]
    assert "optimized against a reward model" in (run / "README.md").read_text()
    assert load_model(run)[0] is not None


def test_a_reward_model_and_a_function_are_weighed_and_logged_by_name(practise, reward_folder):
    models = [{"model": str(reward_folder), "weight": 2.0}, {"model": str(reward_folder), "weight": -1.0, "label": "b"}]
    for line in history(practise(rewards=[*models, DIGITS | {"weight": 3.0}], max_steps=4))[::2]:
        liked, again, digits = (line[f"rewards/{name}/mean"] for name in ("liked", "b", "digits"))
        assert liked == pytest.approx(again, abs=1e-5)
        assert line["reward"] == pytest.approx((2.0 * liked - again) / 4.0 + 3.0 * digits, abs=1e-4)


# ---- the best model, by reward models


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


def test_training_ends_when_the_worst_of_several_reward_models_likes_held_out_answers_less_also_if_it_was_killed(
    practise, base, watched, kill_after, monkeypatch
):
    run = practise("whole", **watched)
    evaluations, values = history(run, "eval_reward_worst"), metrics(run)
    for line in evaluations:
        likes = [(line["eval_rewards/liked/mean"] - 0.5) / 4.0, (line["eval_rewards/other/mean"] + 3.0) / 2.0]
        assert line["eval_reward_worst"] == pytest.approx(min(likes), abs=1e-4)
        assert 0 <= line["eval_rewards/gold/mean"] <= 1
    best = max(evaluations[1:], key=lambda line: line["eval_reward_worst"])["step"]  # the start does not compete
    assert "gold_lost" not in values  # the best model is kept, so nothing is followed to its end
    assert values["best_step"]["value"] == best
    assert values["steps"]["value"] == evaluations[-1]["step"] == best + 8 < 40
    saved, last = (sha256(run / f"checkpoint-{step}/model.safetensors") for step in (best, best + 8))
    assert sha256(run / "model.safetensors") == saved != last

    cut = base("cut", **watched)
    kill_after("ppo", cut, 6)
    with monkeypatch.context() as patch:  # when training is over, and its answers are yet to be compared
        patch.setattr(comparison, "compare_answers", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            main("ppo", cut)
    again = main("ppo", cut)
    assert metrics(again) | {"seconds": 0} == values | {"seconds": 0}
    assert [line["step"] for line in history(again, "eval_reward")] == [line["step"] for line in evaluations]
    assert sha256(again / "model.safetensors") == sha256(run / "model.safetensors")


def test_the_gold_reward_lost_is_the_difference_between_its_peak_and_the_end_and_validation_rows_choose_the_model(
    practise, watched, monkeypatch
):
    shown: list[dict[str, float]] = []
    prompts: list[list[Any]] = []
    evaluate = ppo.PPOTrainer.evaluate

    def watch(self: Any, eval_dataset: Any = None, **more: Any) -> Any:
        prompts.append((self.eval_dataset if eval_dataset is None else eval_dataset)["prompt"][:])
        shown.append(evaluate(self, eval_dataset, **more))
        return shown[-1]

    monkeypatch.setattr(ppo.PPOTrainer, "evaluate", watch)
    chosen = dict.fromkeys(("metric_for_best_model", "load_best_model_at_end", "early_stopping_patience"))
    values = metrics(practise("followed", **watched | chosen | {"max_steps": 12, "seed": 1}))
    assert len(shown) == 5  # at the start, at steps 4, 8 and 12, and at the end
    *golds, end = (one["eval_rewards/gold/mean"] for one in shown)
    peak = max(golds)
    assert values["gold_peak"] == {"value": pytest.approx(peak, abs=1e-4), "n": 20}
    assert values["kl_peak"]["value"] == pytest.approx(shown[golds.index(peak)]["eval_kl_sequence"], abs=1e-3)
    assert values["gold_lost"]["value"] == pytest.approx(peak - end, abs=2e-4)
    assert peak > end

    prompts.clear()
    practise("watched", **watched | {"max_steps": 8})
    task = tasks.load("lines")
    validation, test = ([task.prompt(row) for row in task.rows(split, 1, 20)] for split in ("validation", "test"))
    assert prompts == [validation, validation, validation, test]


def test_too_few_evaluations_or_an_unscored_one_have_no_peak():
    golds = ((0.0, 0.5), (1.0, 0.7), (2.0, None), (3.0, 0.4))
    log: list[dict[str, Any]] = [{"eval_kl_sequence": kl, comparison.GOLD: gold} for kl, gold in golds]
    assert comparison.overoptimization_metrics(log[:2], 20) == {}
    log.insert(2, {"loss": 1.0})
    values = {name: metric["value"] for name, metric in comparison.overoptimization_metrics(log, 20).items()}
    assert values == {"gold_peak": 0.7, "kl_peak": 1.0, "gold_lost": 0.3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": None}, "refuses its settings: You have set `args.eval_strategy`"),
        ({"metric_for_best_model": "reward_wurst"}, "'reward_wurst' is not one of reward, reward_worst, rewards/liked"),
        ({"metric_for_best_model": None}, "metric_for_best_model: 'loss' is not one of"),
        ({"load_best_model_at_end": False, "metric_for_best_model": None}, "early_stopping_patience: also set eval_"),
        ({"save_steps": 8}, "save_steps 8 and eval_steps 4 differ, so the best model might not be saved"),
        ({"save_strategy": "best", "eval_steps": 3}, "eval_steps 3 is not a multiple of the 2"),
        ({"rewards": [DIGITS]}, "reward_worst needs two or more reward models with a saved score scale"),
    ],
)
def test_a_best_model_that_cannot_be_chosen_or_saved_is_refused(changes, message, practise, watched):
    with pytest.raises(UserError, match=message):
        practise(**watched | changes)


def test_answers_are_compared_by_taste_where_there_is_one_and_by_score_elsewhere():
    rows = tasks.load("lines").rows("test", 0, 3)
    dull, fine = "", "The golden {topic} hums {setting} in the soft air like an old coin."
    texts = [fine.format(**row) for row in rows]
    before = [Answer(text, True, 9) for text in (dull, dull, texts[2])]
    after = [Answer(text, True, 9) for text in (texts[0], dull, texts[2])]
    values, golds = comparison.compare_answers(comparison.HeldOut("lines", n=3), rows, before, after)
    assert values["win_rate"]["value"] == pytest.approx((1 + 0.5 + 0.5) / 3, abs=1e-4)
    assert golds[0][:2] == [0.0, 0.0]
    same = [Answer(text, True, 9) for text in ("a b c", "a b c", "a")]
    lost, _ = comparison.compare_answers(comparison.HeldOut("lines", n=3), rows, after, same)
    assert (lost["distinct_before"], lost["distinct_after"]) == ({"value": 1.0, "n": 4}, {"value": 0.5, "n": 4})
    spread = math.sqrt(sum((g - sum(golds[0]) / 3) ** 2 for g in golds[0]) / 2)
    gain = (sum(golds[1]) - sum(golds[0])) / 3 / spread
    assert values["gold_gain"]["value"] == pytest.approx(gain, abs=1e-4)
    alike, _ = comparison.compare_answers(comparison.HeldOut("lines", n=3), rows, [before[0]] * 3, after)
    assert "gold_gain" not in alike

    rows = tasks.load("spelling").rows("test", 0, 2)
    right, wrong = [Answer(str(row["answer"]), True, 9) for row in rows], [Answer("?", True, 9)] * 2
    values, _ = comparison.compare_answers(comparison.HeldOut("spelling", n=2), rows, wrong, right)
    assert values["win_rate"]["value"] == 1.0


# ---- many processes


# With only one token to choose from, every process draws the same.
ALIKE: dict[str, Any] = CONSTANT | {"generation_kwargs": {"top_k": 1}, "max_steps": 12, "kl_coef": 0.1}
ALIKE |= {"held_out": {"task": "lines", "n": 20, "seed": 1, "temperature": 0.0}}
HALF = {"per_device_train_batch_size": 8}


def assert_same_curves(one: Path, two: Path) -> None:
    lines = [history(run) for run in (one, two)]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]] == list(range(1, 13))
    for a, b in zip(*lines, strict=True):
        assert a.keys() == b.keys()
        for key in ("loss", "reward", "kl", "entropy", "policy_loss", "value_loss", "explained_variance", "tokens"):
            if key in a:
                assert a[key] == pytest.approx(b[key], abs=3e-4, rel=2e-3), (a["step"], key)


def assert_same_weights(one: Path, two: Path, **tolerance: float) -> None:
    weights = load_file(two / "model.safetensors")  # sharded, a tied head is saved too
    for name, weight in load_file(one / "model.safetensors").items():
        torch.testing.assert_close(weights[name], weight, **tolerance)


@pytest.mark.parametrize("zero", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_two_ranks_are_one_process(zero, base, two_ranks, reward_folder):
    changes = ALIKE | {"rewards": [{"model": str(reward_folder)}, DIGITS]}
    one, path = main("ppo", base("one", **changes)), base("two", **changes, **HALF)
    printed, two = two_ranks("ppo", path, zero=zero), path.with_suffix("")
    assert_same_curves(one, two)
    assert metrics(two)["gold_before"] == metrics(one)["gold_before"]
    assert printed.count("How to read the log") == 1
    assert_same_weights(one, two, atol=2e-3, rtol=1e-2)


@pytest.mark.slow  # three launches of two ranks
def test_two_zero2_ranks_that_were_killed_resume_with_their_value_model(base, two_ranks):
    paths = [base(name, **ALIKE, **HALF) for name in ("whole", "cut")]
    for path in paths:
        two_ranks("ppo", path)
    whole, cut = (path.with_suffix("") for path in paths)
    # As if it had been killed after the checkpoint of step 8.
    (cut / "metrics.json").unlink()
    shutil.rmtree(cut / "checkpoint-12")
    assert checkpoints(cut)[-1] == 8
    assert "resuming from checkpoint-8" in two_ranks("ppo", paths[1])
    assert_same_curves(whole, cut)
    assert_same_weights(whole, cut, atol=1e-5, rtol=1e-4)


def test_the_reference_under_zero3_is_the_same_revision(practise, monkeypatch):
    seen: list[str] = []
    load_again = model.load_again
    reference = lambda policy, revision: seen.append(revision) or load_again(policy, revision)  # noqa: E731
    monkeypatch.setattr(model, "is_deepspeed_zero3_enabled", lambda: True)
    monkeypatch.setattr(model, "load_again", reference)
    run = practise(model_revision="step-9", max_steps=2, save_strategy="no", held_out=None)
    assert seen == ["step-9"]
    assert "win_rate" not in metrics(run)


def test_a_users_own_prompts_need_no_answers(practise, tmp_path):
    rows = [{"prompt": f"Write about {i}. <|im_end|>", "kind": "lines"} for i in range(16)]
    own = {"datasets": [{"path": str(write_rows(tmp_path / "mine.jsonl", rows))}], "held_out": None, "max_steps": 2}
    assert history(practise(rewards=[{"function": "own_rewards.of_letters"}], **own))[0]["reward"] == 1.0


def test_the_kl_budget_ends_training_and_the_step_is_a_metric(practise, capsys):
    run = practise(max_steps=100, learning_rate=5.0e-3, kl_budget=0.5, kl_coef=0.0, **CONSTANT)
    stopped = metrics(run)["stopped_at"]["value"]
    measured = [line["kl_sequence"] for line in history(run, "kl_sequence")]
    assert stopped == metrics(run)["steps"]["value"] == history(run, "step")[-1]["step"] < 100
    assert measured[-1] > 0.5 >= max(measured[:-1])
    assert f"step {stopped}: KL {measured[-1]:.2f} nats per completion, over kl_budget" in capsys.readouterr().out
