"""Adapters by configuration alone: LoRA, and QLoRA where its package is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from stage_fixtures import LORA, history

from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, read_jsonl
from zero2chat.models.adapters import merged
from zero2chat.models.loading import load_model, refuse_adapter
from zero2chat.models.reward_model import load_reward_model, score_texts

MUCH = LORA | {"lora_r": 8, "learning_rate": 3.0e-2}
IDS = torch.arange(3, 40)[None]  # without the pad token, whose embedding is zero


def _logits(folder: Path) -> torch.Tensor:
    return load_model(folder)[0](IDS).logits


def _assert_near(before: Path, after: Path, plain: Path) -> None:
    """Assert that two small steps were taken from the adapter `before`, not from its base, `plain`."""
    to_start, to_base = ((_logits(after) - _logits(one)).abs().max() for one in (before, plain))
    assert to_start < to_base / 100


@pytest.fixture
def start(write_adapter: Callable[..., Path], tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "start")


@pytest.fixture
def reward_adapter(model_folder: Path, tmp_path: Path) -> Path:
    """An adapter for a reward model of random opinions, as TRL's trainer saves it."""
    torch.manual_seed(0)
    base, tokenizer = load_reward_model(model_folder, fresh=True)
    adapter = get_peft_model(
        base, LoraConfig(task_type="SEQ_CLS", target_modules="all-linear", init_lora_weights=False)
    )
    torch.nn.init.normal_(adapter.base_model.model.score.modules_to_save["default"].weight)
    for part in (adapter, tokenizer):
        part.save_pretrained(tmp_path / "likes")
    return tmp_path / "likes"


def test_an_adapters_folder_opens_and_answers_as_the_trained_model(tiny, train):
    tasks = [{"task": "facts", "n": 8, "max_new_tokens": 6}]
    run = train("sft", tasks=tasks, **MUCH)
    losses = [line["loss"] for line in history(run)]
    assert losses[-1] < losses[0]
    assert (run / "adapter_model.safetensors").exists()
    assert not (run / "model.safetensors").exists()
    assert not torch.allclose(_logits(run), _logits(tiny / "pretrain"), atol=1e-3)
    model, tokenizer = load_model(run)
    assert tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id)[0] == "<|im_end|>"
    again = train("evaluate", "again", model_name_or_path=str(run), tasks=tasks)
    trained, evaluated = ([s for s in read_jsonl(r / "samples.jsonl") if "score" in s] for r in (run, again))
    assert [s["completion"] for s in trained] == [s["completion"] for s in evaluated] != []


@pytest.mark.parametrize("stage", ["sft", "dpo", "reward", "grpo", "ppo"])
def test_an_adapter_is_trained_on_weights_of_4_bits(stage, train, write_model, tmp_path):
    pytest.importorskip("bitsandbytes")
    # On a CPU its kernels take no narrower matrices.
    width = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32, "num_key_value_heads": 2}
    model = write_model(tmp_path / "model", **width)
    run = train(stage, model_name_or_path=str(model), load_in_4bit=True, max_steps=2, **LORA)
    assert (load_reward_model if stage == "reward" else load_model)(run)
    assert (run / "adapter_model.safetensors").exists() != (stage == "reward")


@pytest.mark.parametrize("stage", ["sft", "ppo", "grpo"])
def test_a_merged_adapters_folder_is_a_whole_model_with_the_adapters_logits(stage, tiny, train):
    run = train(stage, **MUCH, merge_adapter=True, tasks=[])
    assert not (run / "adapter_model.safetensors").exists()
    assert json.loads((run / "_adapter" / "adapter_config.json").read_text())["revision"] == "main"  # of its base
    whole, tokenizer = load_model(run)
    refuse_adapter(whole, run)
    assert torch.allclose(_logits(run), _logits(run / "_adapter"), atol=1e-4)
    assert not torch.allclose(_logits(run), _logits(tiny / "pretrain"), atol=1e-3)  # it has learned
    assert tokenizer.convert_ids_to_tokens(whole.generation_config.eos_token_id)[0] == "<|im_end|>"
    assert whole.config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize(
    ("stage", "peft"),
    [("dpo", False), ("dpo", True), ("grpo", True), ("sft", False), ("ppo", False), ("ppo", True), ("gkd", True)],
)
def test_a_stage_starts_from_an_adapter_merged_into_its_base(
    stage, peft, model_folder, start, train, capsys, monkeypatch
):
    finish, there = Run.finish, []

    def watched(self: Run, metrics: Any) -> None:
        there.append((self.folder / "_base").exists())
        finish(self, metrics)

    monkeypatch.setattr(Run, "finish", watched)
    short = {"max_steps": 2, "logging_steps": 1, "save_strategy": "no", "learning_rate": 1e-6}
    # GRPO with a reference model. GKD's student is its teacher, which is read as the adapter that it is.
    own = {"grpo": {"beta": 0.1}, "gkd": {"teacher_model_name_or_path": str(start)}}.get(stage, {})
    own |= {} if stage == "dpo" else {"tasks": []}
    run = train(stage, model_name_or_path=str(start), **short | own | (LORA if peft else {}) | {"learning_rate": 1e-6})
    assert f"{start}: merging the LoRA adapter into its base model, in {run / '_base'}" in capsys.readouterr().out
    if stage == "dpo":
        assert history(run)[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    if stage in ("grpo", "ppo"):
        assert history(run, "kl")[0]["kl"] == pytest.approx(0, abs=1e-3)
    if stage == "gkd":
        assert history(run)[0]["loss"] == pytest.approx(0, abs=1e-4)
    _assert_near(start, run, model_folder)
    assert (run / "_base").exists() == (run / "adapter_config.json").exists() == peft
    assert there == [peft]  # a kill cannot leave it in a finished run
    if peft:
        empty, _ = load_model(run, weights=False)  # as preview opens it
        assert empty.config.hidden_size == 32


@pytest.mark.slow
def test_two_zero3_ranks_start_from_an_adapter_and_its_reward_model(
    start, reward_adapter, model_folder, configured, two_ranks
):
    changes = {"model_name_or_path": str(start), "rewards": [{"model": str(reward_adapter)}], "max_steps": 2}
    path = configured("ppo", **changes, learning_rate=1e-6, per_device_train_batch_size=8, held_out=None)
    two_ranks("ppo", path, zero=3)
    _assert_near(start, path.with_suffix(""), model_folder)


def test_a_reward_model_starts_from_an_adapter(start, train, capsys):
    run = train("reward", model_name_or_path=str(start), max_steps=2, learning_rate=1e-6)
    assert f"{start}: merging the LoRA adapter into its base model, in {run / '_base'}" in capsys.readouterr().out
    assert not (run / "_base").exists()
    body, whole = load_reward_model(run)[0].base_model.state_dict(), merged(start).base_model.state_dict()
    for name, weight in whole.items():
        torch.testing.assert_close(body[name], weight, atol=1e-5, rtol=0)


def test_an_adapter_for_a_reward_model_scores_as_its_merged_model_does_and_trains_by_ppo(
    start, reward_adapter, model_folder, train, capsys
):
    torch.manual_seed(0)
    adapted, tokenizer = load_reward_model(model_folder, fresh=True)
    adapted = PeftModel.from_pretrained(adapted, reward_adapter).eval()
    talks = [[{"role": "user", "content": "Who?"}, {"role": "assistant", "content": text}] for text in ("a", "b c d")]
    whole = load_reward_model(reward_adapter)
    assert f"{reward_adapter}: merging the LoRA adapter into its base model\n" in capsys.readouterr().out
    assert score_texts(*whole, talks)[0] == pytest.approx(score_texts(adapted, tokenizer, talks)[0], abs=1e-4)
    with pytest.raises(UserError, match="start: not a reward model"):
        load_reward_model(start)
    run = train("ppo", model_name_or_path=str(model_folder), rewards=[{"model": str(reward_adapter)}], max_steps=2)
    assert history(run, "rewards/likes/mean")
