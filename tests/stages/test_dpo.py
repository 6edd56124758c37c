"""DPO on tiny models: it learns preferences, and reports correct metrics."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from stage_fixtures import LORA, Configured, Train, losses, main, metrics
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core.runs import read_jsonl
from zero2chat.data.preferences import Pair
from zero2chat.models import hardware
from zero2chat.models.loading import load_model
from zero2chat.trainers.preferences import log_probs


@pytest.mark.parametrize("rank", [0, 1])
def test_each_rank_computes_its_share_of_log_probabilities(rank, monkeypatch):
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
    others = (2, 3) if rank == 0 else (0, 1, 4)
    state = SimpleNamespace(num_processes=2, process_index=rank)
    monkeypatch.setattr(hardware, "PartialState", lambda: state)
    gather = lambda values: values + [(i, expected[i]) for i in others]  # noqa: E731
    monkeypatch.setattr("zero2chat.trainers.preferences.gather_object", gather)
    accelerator = SimpleNamespace(autocast=contextlib.nullcontext)
    trainer: Any = SimpleNamespace(data_collator=collate, args=SimpleNamespace(device="cpu"), accelerator=accelerator)
    assert log_probs(trainer, model, rows, batch_size=2) == expected
    assert model.calls == 2  # of three batches; the second rank repeats the last, as weights may be sharded


@pytest.fixture
def base(configured: Configured, model_folder: Path, preferences: Path) -> Configured:
    """`base(name, **changes)`: the YAML of a small run on `preferences`."""
    own = {"model_name_or_path": str(model_folder), "datasets": [{"path": str(preferences)}], "logging_steps": 1}
    return lambda name="run", **changes: configured("dpo", name, **own | changes)


@pytest.fixture
def learn(base: Configured) -> Train:
    """`learn(name, **changes)` → the folder of such a run."""
    return lambda name="run", **changes: main("dpo", base(name, **changes))


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


def assert_rewards_are_those_of_the_folder(run: Path, start: Path) -> None:
    (model, tokenizer), (reference, _) = load_model(run), load_model(start)
    for sample in read_jsonl(run / "samples.jsonl")[:4]:
        shown = pair(sample["prompt"], sample["completion"], sample["rejected"])
        for side in ("chosen", "rejected"):
            gained = by_hand(model, tokenizer, shown, side) - by_hand(reference, tokenizer, shown, side)
            assert sample[f"reward_{side}"] == pytest.approx(0.1 * gained.item(), abs=2e-3)


def test_it_learns_what_is_preferred_and_its_metrics_are_those_of_its_folder_by_hand(learn, model_folder):
    run = learn(max_steps=30, logging_steps=5)
    values = metrics(run)
    assert values["accuracy"]["value"] > 0.95
    assert values["accuracy_length"]["value"] < 0.75
    assert values["accuracy"]["n"] == values["pairs_test"]["value"] > 30
    assert values["pairs_train"]["value"] + values["pairs_test"]["value"] == 200
    assert values["accuracy"]["low"] < values["accuracy"]["value"]
    assert values["margin"]["value"] > 0.5
    assert values["tokens"]["value"] > 30 * 8 * 2 * 10
    assert len(read_jsonl(run / "samples.jsonl")) == 12
    assert_rewards_are_those_of_the_folder(run, model_folder)
    assert not [p.name for p in run.iterdir() if p.suffix in (".bin", ".pt")]


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_references_computed_before_are_those_computed_on_the_way(stage, train, model_folder, preferences):
    own = {"model_name_or_path": str(model_folder), "datasets": [{"path": str(preferences)}], "logging_steps": 1}
    own |= {"max_steps": 3, "save_strategy": "no"}
    late, early = (train(stage, str(early), **own, precompute_ref_log_probs=early) for early in (False, True))
    if stage == "dpo":
        assert losses(late)[0] == pytest.approx(0.6931, abs=1e-3)  # ln 2: chance
        assert losses(late)[-1] < 0.69
    assert losses(early) == pytest.approx(losses(late), abs=1e-4)
    for key in ("accuracy", "margin", "chosen_change"):
        assert metrics(early)[key]["value"] == pytest.approx(metrics(late)[key]["value"], abs=1e-3)


def test_an_adapters_folder_holds_the_adapter_alone_and_its_base_is_the_reference(learn, model_folder):
    run = learn(max_steps=20, save_strategy="no", **LORA, learning_rate=2.0e-2)
    assert losses(run)[0] == pytest.approx(0.6931, abs=1e-3)
    assert metrics(run)["accuracy"]["value"] > 0.9
    assert not (run / "model.safetensors").exists()
    assert json.loads((run / "adapter_config.json").read_text())["revision"] == "main"  # of its base
    assert_rewards_are_those_of_the_folder(run, model_folder)


@pytest.mark.slow
def test_two_zero2_ranks_take_the_steps_of_one(learn, base, two_ranks):
    changes: dict[str, Any] = {"precompute_ref_log_probs": True, "save_strategy": "no"}
    one, path = learn("one", **changes), base("two", per_device_train_batch_size=4, **changes)
    printed, two = two_ranks("dpo", path), path.with_suffix("")
    assert losses(two) == pytest.approx(losses(one), abs=2e-3)
    assert metrics(two)["margin"]["value"] == pytest.approx(metrics(one)["margin"]["value"], abs=5e-3)
    assert printed.count("training pairs") == 1
