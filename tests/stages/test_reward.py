"""Reward models, tiny: the stage learns the taste, resumes after a kill, and reports correct metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stage_fixtures import LORA, Configured, Killed, Train, assert_same_end, history, main, metrics, write_rows

from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.models.reward_model import load_reward_model, score_texts
from zero2chat.trainers import reward_trainer
from zero2chat.trainers.reward_trainer import preference_metrics
from zero2chat_practice import lines


@pytest.fixture
def base(configured: Configured, model_folder: Path) -> Configured:
    """`base(name, **changes)`: the YAML of a small run on its own answers to the task `lines`."""
    own: dict[str, Any] = {"model_name_or_path": str(model_folder), "chat_template_path": None}
    own |= {"save_steps": 3, "logging_steps": 1, "seed": 0}
    return lambda name="run", **changes: configured("reward", name, **own | changes)


@pytest.fixture
def learn(base: Configured) -> Train:
    """`learn(name, **changes)` → the folder of such a run."""
    return lambda name="run", **changes: main("reward", base(name, **changes))


def _own(preferences: Path) -> dict[str, Any]:
    return {"comparisons": None, "datasets": [{"path": str(preferences)}], "test_fraction": 0.3}


def _pairs(run: Path) -> dict[str, list[dict[str, Any]]]:
    return {split: read_jsonl(run / "pairs" / f"{split}.jsonl") for split in ("train", "test")}


def test_it_learns_a_users_own_preferences_and_length_alone_does_not(learn, preferences):
    run = learn(**_own(preferences), max_steps=40)
    values = metrics(run)
    assert values["accuracy"]["value"] > 0.95
    assert values["accuracy_length"]["value"] < 0.75
    assert values["pairs_train"]["value"] + values["pairs_test"]["value"] == 200
    assert values["accuracy"]["n"] == values["pairs_test"]["value"] > 30
    assert "noise_ceiling" not in values

    # The folder is all that scoring needs, and gives what was measured.
    model, tokenizer = load_reward_model(run)
    samples = read_jsonl(run / "samples.jsonl")
    assert len(samples) == 12
    for side, score in (("completion", "score_chosen"), ("rejected", "score_rejected")):
        talks = [[{"role": "user", "content": s["prompt"]}, {"role": "assistant", "content": s[side]}] for s in samples]
        assert score_texts(model, tokenizer, talks)[1] == pytest.approx([s[score] for s in samples], abs=1e-4)
    assert not [p.name for p in run.iterdir() if p.suffix in (".bin", ".pt")]
    prompts = {split: {pair["prompt"][0]["content"] for pair in pairs} for split, pairs in _pairs(run).items()}
    assert not prompts["train"] & prompts["test"]

    # It learns from more pairs.
    again = learn("again", **_own(preferences), model_name_or_path=str(run), max_steps=2, learning_rate=1e-6)
    assert metrics(again)["accuracy"]["value"] == values["accuracy"]["value"]


def test_comparisons_without_a_seed_are_drawn_by_that_of_the_run_and_held_out_pairs_are_not(learn):
    comparisons = {"task": "lines", "n": 12, "answers": 2, "held_out": 10, "max_new_tokens": 8}
    given, same, other = (
        _pairs(learn(name, comparisons=comparisons | own, seed=seed, max_steps=1))
        for name, seed, own in (("given", 0, {"seed": 3}), ("same", 3, {}), ("other", 4, {}))
    )
    assert given["train"] == same["train"] != other["train"]
    assert given["test"] != same["test"] == other["test"]


def test_pairs_of_a_task_are_its_ranked_answers_held_out_on_test_prompts(learn, preferences):
    run = learn()
    values, pairs = metrics(run), _pairs(run)
    assert len(pairs["train"]) == values["pairs_train"]["value"] <= 12 * 3
    assert len(pairs["test"]) == values["pairs_test"]["value"] <= 40
    for split, n in (("train", 12), ("test", 40)):
        rows = {row["question"]: row for row in lines.rows(split, 0, n)}
        for pair in pairs[split]:
            row = rows[pair["prompt"][-1]["content"]]
            for side in ("chosen", "rejected"):
                assert pair[f"taste_{side}"] == lines.taste(row, pair[side][0]["content"])
    test = pairs["test"]
    assert all(pair["taste_chosen"] != pair["taste_rejected"] for pair in test)
    agree = sum(pair["taste_chosen"] > pair["taste_rejected"] for pair in test) / len(test)
    assert values["noise_ceiling"]["value"] == pytest.approx(agree, abs=1e-4)

    # Computed by hand from the folder: how often the higher score has the higher taste.
    model, tokenizer = load_reward_model(run)
    raw = [score_texts(model, tokenizer, [p["prompt"] + p[s] for p in test])[0] for s in ("chosen", "rejected")]
    right = [(a > b) == (p["taste_chosen"] > p["taste_rejected"]) for a, b, p in zip(*raw, test, strict=True) if a != b]
    assert values["accuracy"]["value"] == pytest.approx(sum(right) / len(test), abs=0.03)
    assert sum(b["n"] for b in history(run, "reliability")[-1]["reliability"]) == len(test)

    # Preferences beside comparisons are learned from, and none is held out.
    both = metrics(learn("both", datasets=[{"path": str(preferences)}]))
    assert both["pairs_train"]["value"] == values["pairs_train"]["value"] + 200
    assert both["pairs_test"] == values["pairs_test"]


@pytest.mark.parametrize("more", [LORA, {"train_sampling_strategy": "group_by_length"}], ids=["LoRA", "by length"])
def test_killed_and_run_again_it_ends_with_the_weights_of_an_uninterrupted_run(
    more, learn, base, monkeypatch, kill_after
):
    whole, cut = learn("whole", **more), base("cut", **more)
    written = reward_trainer.write_jsonl
    with monkeypatch.context() as patch:  # one of its files is written, the other is not
        first = lambda path, pairs: "test" not in path.name and written(path, pairs)  # noqa: E731
        patch.setattr(reward_trainer, "write_jsonl", first)
        patch.setattr(reward_trainer, "write_atomically", _raise(Killed()))
        with pytest.raises(Killed):
            main("reward", cut)
    assert not list(cut.with_suffix("").glob("checkpoint-*"))
    kill_after("reward", cut, 5)
    sampled_again = _raise(AssertionError("answers are sampled once"))
    monkeypatch.setattr(reward_trainer, "sample_pairs", sampled_again)
    run = main("reward", cut)
    assert_same_end(run, whole, "config.json", "pairs/train.jsonl", "pairs/test.jsonl")
    assert load_reward_model(run)[0].config.score_std > 0


def _raise(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_two_zero2_ranks_compare_and_learn_like_one(learn, base, two_ranks):
    # Most pairs of so small a model tie in taste, and are left out.
    pairs = {"task": "lines", "n": 12, "answers": 3, "held_out": 120, "max_new_tokens": 8}
    changes = {"comparisons": pairs, "max_steps": 8, "logging_steps": 1, "save_strategy": "no"}
    expected = metrics(learn("one", **changes))
    path = base("two", **changes, per_device_train_batch_size=4)
    printed, run = two_ranks("reward", path), path.with_suffix("")
    # Ranks draw answers of their own: the pairs are others, and as many.
    assert metrics(run)["pairs_train"] == expected["pairs_train"]
    assert metrics(run)["accuracy"]["n"] > 30
    losses = [line["loss"] for line in history(run)]
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    assert printed.count("training pairs") == 1
    assert load_reward_model(run)[0].config.score_std > 0


def test_muon_trains_it_too(learn, preferences):
    assert metrics(learn(**_own(preferences), muon=True, max_steps=30))["accuracy"]["value"] > 0.9


@pytest.mark.parametrize(
    ("pair", "option", "says"),
    [
        ({"chosen": "yes", "rejected": "yes "}, "equal", "mine, row 200: chosen and rejected are equal"),
        ({"chosen": "yes " * 400, "rejected": "no"}, "overlong", "1 of "),
    ],
)
def test_a_pair_that_is_equal_or_too_long_is_refused_or_dropped(pair, option, says, learn, preferences):
    write_rows(preferences, [*read_jsonl(preferences), {"prompt": "Is it?", **pair}])
    with pytest.raises(UserError, match=says):
        learn("refused", **_own(preferences), max_steps=2)
    values = metrics(learn("dropped", **_own(preferences), max_steps=2, **{option: "drop"}))
    assert values["pairs_train"]["value"] + values["pairs_test"]["value"] == 200
    if option == "equal":
        assert values["pairs_equal"]["value"] == 1


# ---- the measures


def pair_of(chosen: int, rejected: int) -> dict[str, Any]:
    return {"chosen": [{"content": "w " * chosen}], "rejected": [{"content": "w " * rejected}]}


def reliability(margins: list[float]) -> list[dict[str, float]]:
    return preference_metrics([pair_of(3, 1)], [pair_of(1, 1)] * len(margins), margins, seed=0)[1]


def test_reliability_bins_hold_certainty_and_agreement():
    sure = math.log(0.97 / 0.03)
    bins = reliability([0.1, -0.1, sure, sure, sure, -sure, 1e9])
    assert [b["n"] for b in bins] == [2, 5]
    assert (bins[0]["right"], bins[1]["right"]) == (0.5, 0.8)
    assert bins[1]["sure"] == pytest.approx((4 * 0.97 + 1) / 5)
    off = 2 * abs(bins[0]["sure"] - 0.5) + 5 * abs(bins[1]["sure"] - 0.8)
    assert stats.calibration_error(bins) == pytest.approx(off / 7)


def test_accuracy_is_held_against_taste_and_not_against_the_noisy_label():
    test = [pair_of(1, 1) | {"taste_chosen": a, "taste_rejected": b} for a, b in ((0.9, 0.1), (0.2, 0.4), (0.3, 0.1))]
    values, bins = preference_metrics([pair_of(3, 1)], test, [2.0, -1.0, -1.0], seed=0)
    assert values["accuracy"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert values["accuracy_noisy"]["value"] == pytest.approx(1 / 3, abs=1e-4)
    assert values["noise_ceiling"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert values["accuracy_length"]["value"] == 0.5
    assert sum(b["n"] for b in bins) == values["calibration_error"]["n"] == 3
