"""DPO on tiny models: it learns preferences, resumes after a kill, and reports correct metrics."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core.errors import UserError
from zero2chat.data.preferences import Pair
from zero2chat.models import hardware
from zero2chat.models.loading import load_model
from zero2chat.stages import dpo
from zero2chat.trainers.preferences import log_probs

LORA = {"use_peft": True, "lora_target_modules": "all-linear", "lora_r": 4, "learning_rate": 2.0e-2}


@pytest.mark.parametrize("rank", [0, 1])
def test_each_rank_computes_its_share_of_log_probabilities(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        calls = 0

        def eval(self) -> None: ...

        def __call__(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
            self.calls += 1
            return SimpleNamespace(log_probs=-input_ids.float())

    def collate(rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        ids = torch.tensor([[row[side]] for side in ("chosen", "rejected") for row in rows])
        return {"input_ids": ids, "completion_mask": torch.ones_like(ids)}

    rows, model = Dataset.from_dict({"chosen": range(5), "rejected": range(10, 15)}), Model()
    expected = [(-float(i), -float(10 + i)) for i in range(5)]
    theirs = (2, 3) if rank == 0 else (0, 1, 4)
    state = SimpleNamespace(num_processes=2, process_index=rank)
    monkeypatch.setattr(hardware, "PartialState", lambda: state)
    gather = lambda found: found + [(i, expected[i]) for i in theirs]  # noqa: E731
    monkeypatch.setattr("zero2chat.trainers.preferences.gather_object", gather)
    accelerator = SimpleNamespace(autocast=contextlib.nullcontext)
    trainer: Any = SimpleNamespace(data_collator=collate, args=SimpleNamespace(device="cpu"), accelerator=accelerator)
    assert log_probs(trainer, model, rows, batch_size=2) == expected
    assert model.calls == 2  # of three batches; the second rank repeats the last, as weights may be sharded


def run(path: Path) -> dict[str, Any]:
    """Run the stage; its metrics."""
    dpo.STAGE.main(["--config", str(path)])
    return json.loads((path.with_suffix("") / "metrics.json").read_text())


def losses(path: Path) -> list[float]:
    return [line["loss"] for line in map(json.loads, (path.with_suffix("") / "history.jsonl").open()) if "loss" in line]


def by_hand(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pair: Pair, side: str) -> torch.Tensor:
    """log π(answer, its end of turn included | prompt), a token at a time from plain logits."""
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    prompt = tokenizer.apply_chat_template(pair["prompt"], add_generation_prompt=True, **options)["input_ids"]
    ids = tokenizer.apply_chat_template(pair["prompt"] + pair[side], **options)["input_ids"]
    end = int((ids[0] == tokenizer.convert_tokens_to_ids("<|im_end|>")).nonzero()[-1])
    said = torch.log_softmax(model(ids).logits[0].float(), -1)
    return sum(said[i - 1, ids[0, i]] for i in range(prompt.shape[1], end + 1))  # type: ignore[return-value]


def pair(prompt: str, chosen: str, rejected: str) -> Pair:
    turns = {"prompt": ("user", prompt), "chosen": ("assistant", chosen), "rejected": ("assistant", rejected)}
    return {key: [{"role": role, "content": text}] for key, (role, text) in turns.items()}


def test_it_learns_what_is_preferred_and_its_metrics_are_those_of_its_folder_by_hand(
    preference_yaml: Callable[..., Path], model_folder: Path
) -> None:
    path = preference_yaml("whole", max_steps=30, logging_steps=5)
    metrics = run(path)
    assert metrics["accuracy"]["value"] > 0.95
    assert metrics["accuracy_length"]["value"] < 0.75
    assert metrics["accuracy"]["n"] == metrics["pairs_test"]["value"] > 30
    assert metrics["pairs_train"]["value"] + metrics["pairs_test"]["value"] == 200
    assert metrics["accuracy"]["low"] < metrics["accuracy"]["value"]
    assert metrics["margin"]["value"] > 0.5
    assert metrics["tokens"]["value"] > 30 * 8 * 2 * 10

    (model, tokenizer), (reference, _) = load_model(path.with_suffix("")), load_model(model_folder)
    samples = [json.loads(line) for line in (path.with_suffix("") / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 12
    for sample in samples[:4]:
        shown = pair(sample["prompt"], sample["completion"], sample["rejected"])
        for side in ("chosen", "rejected"):
            reward = 0.1 * (by_hand(model, tokenizer, shown, side) - by_hand(reference, tokenizer, shown, side)).item()
            assert sample[f"reward_{side}"] == pytest.approx(reward, abs=2e-3)
    assert not [p.name for p in path.with_suffix("").iterdir() if p.suffix in (".bin", ".pt")]


def test_references_computed_before_are_those_computed_on_the_way(preference_yaml: Callable[..., Path]) -> None:
    short = {"max_steps": 3, "save_strategy": "no"}
    late, early = preference_yaml("late", **short), preference_yaml("early", precompute_ref_log_probs=True, **short)
    metrics, again = run(late), run(early)
    assert losses(late)[0] == pytest.approx(0.6931, abs=1e-3)  # a coin's
    assert losses(late)[-1] < 0.69
    assert losses(early) == pytest.approx(losses(late), abs=1e-4)
    for key in ("accuracy", "accuracy_before", "margin", "chosen_change"):
        assert again[key]["value"] == pytest.approx(metrics[key]["value"], abs=1e-3)


def test_an_adapters_folder_holds_the_adapter_alone_and_its_base_is_the_reference(
    preference_yaml: Callable[..., Path], model_folder: Path
) -> None:
    path = preference_yaml("adapter", max_steps=20, save_strategy="no", **LORA)
    metrics = run(path)
    assert losses(path)[0] == pytest.approx(0.6931, abs=1e-3)
    assert metrics["accuracy"]["value"] > 0.9
    folder = path.with_suffix("")
    assert (folder / "adapter_model.safetensors").exists()
    assert not (folder / "model.safetensors").exists()
    assert json.loads((folder / "adapter_config.json").read_text())["revision"] == "main"  # of its base
    (reference, tokenizer), (adapted, _) = load_model(model_folder), load_model(folder)
    sample = json.loads((folder / "samples.jsonl").open().readline())
    shown = pair(sample["prompt"], sample["completion"], sample["rejected"])
    gained = by_hand(adapted, tokenizer, shown, "chosen") - by_hand(reference, tokenizer, shown, "chosen")
    assert sample["reward_chosen"] == pytest.approx(0.1 * gained.item(), abs=2e-3)


@pytest.mark.parametrize(
    "more", [{"train_sampling_strategy": "group_by_length"}, {**LORA, "precompute_ref_log_probs": True}]
)
def test_killed_and_run_again_it_ends_with_the_weights_of_an_uninterrupted_run(
    more: dict[str, Any], preference_yaml: Callable[..., Path], kill_after: Callable[..., None]
) -> None:
    whole, cut = preference_yaml("whole", **more), preference_yaml("cut", **more)
    run(whole)
    kill_after(dpo, cut, 5)
    run(cut)
    folders = whole.with_suffix(""), cut.with_suffix("")
    weights = "adapter_model.safetensors" if "use_peft" in more else "model.safetensors"
    for name in (weights, "samples.jsonl"):
        assert len({hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in folders}) == 1, name
    assert losses(whole) == losses(cut)


@pytest.mark.slow
def test_two_zero2_ranks_take_the_steps_of_one(
    preference_yaml: Callable[..., Path], two_ranks: Callable[..., str]
) -> None:
    changes: dict[str, Any] = {"precompute_ref_log_probs": True, "save_strategy": "no"}
    one, two = preference_yaml("one", **changes), preference_yaml("two", per_device_train_batch_size=4, **changes)
    expected = run(one)
    said = two_ranks("dpo", two)
    found = json.loads((two.with_suffix("") / "metrics.json").read_text())
    assert losses(two) == pytest.approx(losses(one), abs=2e-3)
    assert found["margin"]["value"] == pytest.approx(expected["margin"]["value"], abs=5e-3)
    assert said.count("training pairs") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": []}, "datasets: the list is empty"),
        ({"test_fraction": 1.0}, "test_fraction: expected more than 0 and less than 1, got 1.0"),
        ({"test_fraction": 1e-6}, "none of 200 rows is left to hold out"),
        ({"max_length": 4096}, "max_length 4096 exceeds the model's context of 128"),
        ({"max_length": 20}, r"training pairs: \d+ of \d+ rows have an answer longer than max_length 20"),
        ({"sync_ref_model": True}, "sync_ref_model: a resumed run would have another reference"),
        ({"loss_type": ["sigmod"]}, "sigmod"),
        ({"use_peft": True, "lora_target_modules": ["lm_head"]}, "the trainer refuses its settings: .*lm_head"),
        ({"lerning_rate": 1.0}, "unknown key 'lerning_rate'"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    changes: dict[str, Any], message: str, preference_yaml: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=message):
        run(preference_yaml("bad", **changes))


def test_an_answer_of_several_turns_is_refused_by_its_row(
    preference_yaml: Callable[..., Path], preferences: Path
) -> None:
    more = [{"role": role, "content": "x"} for role in ("assistant", "user", "assistant")]
    preferences.write_text(
        "".join(json.dumps({"prompt": f"{i}", "chosen": more, "rejected": "no"}) + "\n" for i in range(9))
    )
    with pytest.raises(UserError, match=r"mine, row 0 .*line 1.*: chosen has 3 turns"):
        run(preference_yaml("turns"))
