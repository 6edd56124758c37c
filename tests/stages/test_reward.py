"""Reward models, tiny: the stage learns the taste, resumes after a kill, and reports correct metrics."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.data import preference_files
from zero2chat.models.reward_model import load_reward_model, score_texts
from zero2chat.stages import reward
from zero2chat.trainers.reward_trainer import preference_metrics
from zero2chat_practice import lines


@pytest.fixture
def base(model_folder: Path, tmp_path: Path, write_yaml: Callable[..., Path]) -> Callable[..., Path]:
    """`base(name, **changes)`: the YAML of a small run on its own answers to the task `lines`."""

    def make(name: str, **changes: Any) -> Path:
        settings: dict[str, Any] = {
            "output_dir": str(tmp_path / name),
            "model_name_or_path": str(model_folder),
            "comparisons": {"task": "lines", "n": 12, "answers": 3, "held_out": 40, "max_new_tokens": 8},
            "max_length": 128,
            "global_batch_size": 8,
            "per_device_train_batch_size": 8,
            "max_steps": 6,
            "learning_rate": 2.0e-3,
            "gradient_checkpointing": False,
            "logging_steps": 2,
            "save_strategy": "steps",
            "save_steps": 3,
            "bf16": False,
            "disable_tqdm": True,
            "seed": 0,
        } | changes
        return write_yaml(tmp_path / f"{name}.yaml", **{k: v for k, v in settings.items() if v is not None})

    return make


def run(path: Path) -> dict[str, Any]:
    """Run the stage; its metrics."""
    reward.STAGE.main(["--config", str(path)])
    return json.loads((path.with_suffix("") / "metrics.json").read_text())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_learns_a_users_own_preferences_and_length_alone_does_not(
    base: Callable[..., Path], preferences: Path
) -> None:
    path = base("own", comparisons=None, datasets=[{"path": str(preferences)}], test_fraction=0.3, max_steps=40)
    metrics = run(path)
    assert metrics["accuracy"]["value"] > 0.95
    assert metrics["accuracy_length"]["value"] < 0.75
    assert metrics["pairs_train"]["value"] + metrics["pairs_test"]["value"] == 200
    assert metrics["accuracy"]["n"] == metrics["pairs_test"]["value"] > 30
    assert "noise_ceiling" not in metrics

    # The folder is all that scoring needs, and gives what was measured.
    folder = path.with_suffix("")
    model, tokenizer = load_reward_model(folder)
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 12
    for said, score in (("completion", "score_chosen"), ("rejected", "score_rejected")):
        talks = [[{"role": "user", "content": s["prompt"]}, {"role": "assistant", "content": s[said]}] for s in samples]
        assert score_texts(model, tokenizer, talks)[1] == pytest.approx([s[score] for s in samples], abs=1e-4)
    assert not [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt")]

    kept = {split: read_jsonl(folder / "pairs" / f"{split}.jsonl") for split in ("train", "test")}
    prompts = {split: {pair["prompt"][0]["content"] for pair in pairs} for split, pairs in kept.items()}
    assert not prompts["train"] & prompts["test"]


def test_comparisons_without_a_seed_are_drawn_by_that_of_the_run_and_held_out_pairs_are_not(
    base: Callable[..., Path],
) -> None:
    comparisons = {"task": "lines", "n": 12, "answers": 2, "held_out": 10, "max_new_tokens": 8}
    pairs = {}
    for name, seed, given in (("given", 0, {"seed": 3}), ("same", 3, {}), ("other", 4, {})):
        path = base(name, comparisons=comparisons | given, seed=seed, max_steps=1)
        run(path)
        folder = path.with_suffix("") / "pairs"
        pairs[name] = read_jsonl(folder / "train.jsonl"), read_jsonl(folder / "test.jsonl")
    assert pairs["given"][0] == pairs["same"][0] != pairs["other"][0]
    assert pairs["given"][1] != pairs["same"][1] == pairs["other"][1]


def test_pairs_of_a_task_are_its_ranked_answers_held_out_on_test_prompts(base: Callable[..., Path]) -> None:
    path = base("lines")
    metrics = run(path)
    folder = path.with_suffix("")
    train, test = (read_jsonl(folder / "pairs" / f"{split}.jsonl") for split in ("train", "test"))
    assert len(train) == metrics["pairs_train"]["value"] <= 12 * 3
    assert len(test) == metrics["pairs_test"]["value"] <= 40
    rows = {row["question"]: row for split, n in (("train", 12), ("test", 40)) for row in lines.rows(split, 0, n)}
    for pairs, split in ((train, "train"), (test, "test")):
        allowed = {row["question"] for row in lines.rows(split, 0, 12 if split == "train" else 40)}
        for pair in pairs:
            question = pair["prompt"][-1]["content"]
            assert question in allowed
            for side in ("chosen", "rejected"):
                assert pair[f"taste_{side}"] == lines.taste(rows[question], pair[side][0]["content"])
    assert all(pair["taste_chosen"] != pair["taste_rejected"] for pair in test)
    agree = sum(pair["taste_chosen"] > pair["taste_rejected"] for pair in test) / len(test)
    assert metrics["noise_ceiling"]["value"] == pytest.approx(agree, abs=1e-4)

    # Computed by hand from the folder: how often the higher score has the higher taste.
    model, tokenizer = load_reward_model(folder)
    raw = [score_texts(model, tokenizer, [p["prompt"] + p[s] for p in test])[0] for s in ("chosen", "rejected")]
    right = [(a > b) == (p["taste_chosen"] > p["taste_rejected"]) for a, b, p in zip(*raw, test, strict=True) if a != b]
    assert metrics["accuracy"]["value"] == pytest.approx(sum(right) / len(test), abs=0.03)
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert sum(b["n"] for b in history[-1]["reliability"]) == len(test)


def test_near_temperature_0_the_answers_are_alike_and_cannot_be_compared(base: Callable[..., Path]) -> None:
    cold = {"task": "lines", "n": 3, "answers": 2, "held_out": 3, "max_new_tokens": 8, "temperature": 1e-4}
    with pytest.raises(UserError, match="all answers of the model are equal"):
        run(base("cold", comparisons=cold))


@pytest.mark.parametrize("peft", [False, True])
def test_killed_and_run_again_it_ends_with_the_weights_of_an_uninterrupted_run(
    peft: bool, base: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, kill_after: Callable[..., None]
) -> None:
    lora = {"use_peft": True, "lora_target_modules": ["q_proj", "v_proj"], "lora_r": 4}
    more = lora if peft else {"train_sampling_strategy": "group_by_length"}
    whole, cut = base("whole", **more), base("cut", **more)
    assert run(whole)["accuracy"]["n"] > 0

    class Killed(BaseException):
        pass

    written = preference_files.write_jsonl
    with monkeypatch.context() as patch:  # one of its files is written, the other is not
        first = lambda path, pairs: "test" not in path.name and written(path, pairs)  # noqa: E731
        patch.setattr(preference_files, "write_jsonl", first)
        patch.setattr(preference_files, "write_atomically", _raise(Killed))
        with pytest.raises(Killed):
            reward.STAGE.main(["--config", str(cut)])
    assert not list(cut.with_suffix("").glob("checkpoint-*"))
    kill_after(reward, cut, 5)
    monkeypatch.setattr(
        "zero2chat.trainers.reward_trainer.sample_pairs", _raise(AssertionError("answers are sampled once"))
    )
    run(cut)
    folders = whole.with_suffix(""), cut.with_suffix("")
    for name in ("model.safetensors", "config.json", "pairs/train.jsonl", "pairs/test.jsonl", "samples.jsonl"):
        assert len({sha256(folder / name) for folder in folders}) == 1, name
    assert load_reward_model(folders[1])[0].config.score_std > 0


def _raise(error: Any) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_two_zero2_ranks_compare_and_learn_like_one(base: Callable[..., Path], two_ranks: Callable[..., str]) -> None:
    # Most pairs of so small a model tie in taste, and are left out.
    pairs = {"task": "lines", "n": 12, "answers": 3, "held_out": 120, "max_new_tokens": 8}
    one = base("one", comparisons=pairs, max_steps=8, logging_steps=1, save_strategy="no")
    two = base(
        "two", comparisons=pairs, max_steps=8, logging_steps=1, save_strategy="no", per_device_train_batch_size=4
    )
    expected = run(one)
    said = two_ranks("reward", two)
    # Ranks draw answers of their own: the pairs are others, and as many.
    found = json.loads((two.with_suffix("") / "metrics.json").read_text())
    assert found["pairs_train"] == expected["pairs_train"]
    assert found["accuracy"]["n"] > 30
    losses = [json.loads(line)["loss"] for line in (two.with_suffix("") / "history.jsonl").open() if "loss" in line]
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    assert said.count("training pairs") == 1
    assert load_reward_model(two.with_suffix(""))[0].config.score_std > 0


def test_preferences_beside_comparisons_are_learned_from_and_none_is_held_out(
    base: Callable[..., Path], preferences: Path
) -> None:
    alone, both = run(base("alone")), run(base("both", datasets=[{"path": str(preferences)}]))
    assert both["pairs_train"]["value"] == alone["pairs_train"]["value"] + 200
    assert both["pairs_test"] == alone["pairs_test"]


def test_muon_trains_it_too(base: Callable[..., Path], preferences: Path) -> None:
    path = base("muon", comparisons=None, datasets=[{"path": str(preferences)}], muon=True, max_steps=30)
    assert run(path)["accuracy"]["value"] > 0.9


def test_a_reward_model_learns_from_more_pairs(base: Callable[..., Path], preferences: Path) -> None:
    given: dict[str, Any] = {"comparisons": None, "datasets": [{"path": str(preferences)}]}
    first = run(base("first", **given, max_steps=30))["accuracy"]["value"]
    start = str(base("first").with_suffix(""))
    again = run(base("again", **given, model_name_or_path=start, max_steps=2, learning_rate=1e-6))
    assert again["accuracy"]["value"] == first > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"comparisons": None}, "set `comparisons`"),
        ({"comparisons": {"task": "facts"}}, "has no `taste`"),
        ({"overlong": "cut"}, "overlong: 'cut' is not one of error, drop"),
        ({"equal": "keep"}, "equal: 'keep' is not one of error, drop"),
        (
            {"test_fraction": 1.0, "comparisons": None, "datasets": [{"path": "x"}]},
            "test_fraction: expected more than 0",
        ),
        ({"muon": True, "use_peft": True}, "muon: Muon updates full matrices, not adapters"),
        ({"max_length": 4096}, "max_length 4096 exceeds the model's context of 128"),
        ({"max_length": 20}, r"training pairs: \d+ of \d+ rows have an answer longer than max_length 20"),
        ({"lerning_rate": 1.0}, "unknown key 'lerning_rate'"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str, base: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=message):
        run(base("bad", **changes))


def test_pairs_with_equal_sides_are_the_users_mistake_or_left_out_if_asked(
    base: Callable[..., Path], preferences: Path
) -> None:
    with preferences.open("a") as file:
        file.write(json.dumps({"prompt": "Is it?", "chosen": "yes", "rejected": "yes "}) + "\n")
    own: dict[str, Any] = {"comparisons": None, "datasets": [{"path": str(preferences)}], "max_steps": 2}
    with pytest.raises(UserError, match="mine, row 200: chosen and rejected are equal"):
        run(base("equal", **own))
    metrics = run(base("without", equal="drop", **own))
    assert metrics["pairs_equal"]["value"] == 1
    assert metrics["pairs_train"]["value"] + metrics["pairs_test"]["value"] == 200


def test_a_pair_that_is_too_long_is_left_out_if_asked(
    base: Callable[..., Path], preferences: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with preferences.open("a") as file:
        file.write(json.dumps({"prompt": "Is it?", "chosen": "yes " * 400, "rejected": "no"}) + "\n")
    own: dict[str, Any] = {"comparisons": None, "datasets": [{"path": str(preferences)}], "max_steps": 2}
    metrics = run(base("long", overlong="drop", **own))
    assert metrics["pairs_train"]["value"] + metrics["pairs_test"]["value"] == 200
    assert "1 of" in capsys.readouterr().out


# ---- the measures


def pair(chosen: int, rejected: int) -> dict[str, Any]:
    return {"chosen": [{"content": "w " * chosen}], "rejected": [{"content": "w " * rejected}]}


def reliability(margins: list[float]) -> list[dict[str, float]]:
    return preference_metrics([pair(3, 1)], [pair(1, 1)] * len(margins), margins, seed=0)[1]


def test_reliability_bins_hold_certainty_and_agreement() -> None:
    sure = math.log(0.97 / 0.03)
    bins = reliability([0.1, -0.1, sure, sure, sure, -sure, 1e9])
    assert [b["n"] for b in bins] == [2, 5]
    assert (bins[0]["right"], bins[1]["right"]) == (0.5, 0.8)
    assert bins[1]["sure"] == pytest.approx((4 * 0.97 + 1) / 5)
    off = 2 * abs(bins[0]["sure"] - 0.5) + 5 * abs(bins[1]["sure"] - 0.8)
    assert stats.calibration_error(bins) == pytest.approx(off / 7)


def test_scores_that_say_the_chances_of_their_labels_are_calibrated() -> None:
    rng = random.Random(0)
    margins = []
    for _ in range(20_000):
        margin = abs(rng.gauss(0, 2))
        margins.append(margin if rng.random() < 1 / (1 + math.exp(-margin)) else -margin)
    assert stats.calibration_error(reliability(margins)) < 0.012
    assert stats.calibration_error(reliability([3 * margin for margin in margins])) > 0.05


def test_accuracy_is_held_against_taste_and_not_against_the_noisy_label() -> None:
    test = [pair(1, 1) | {"taste_chosen": a, "taste_rejected": b} for a, b in ((0.9, 0.1), (0.2, 0.4), (0.3, 0.1))]
    metrics, bins = preference_metrics([pair(3, 1)], test, [2.0, -1.0, -1.0], seed=0)
    assert metrics["accuracy"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert metrics["accuracy_noisy"]["value"] == pytest.approx(1 / 3, abs=1e-4)
    assert metrics["noise_ceiling"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert metrics["accuracy_length"]["value"] == 0.5
    assert sum(b["n"] for b in bins) == metrics["calibration_error"]["n"] == 3
