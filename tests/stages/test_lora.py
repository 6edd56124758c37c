"""Adapters by configuration alone: LoRA, and QLoRA where its package is installed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from zero2chat.errors import UserError
from zero2chat.models.loading import load_model, refuse_adapter
from zero2chat.models.reward_model import load_reward_model
from zero2chat.runs import Run
from zero2chat.stages import evaluate, sft


def test_an_adapters_folder_opens_and_says_what_the_trained_model_said(
    tiny: Path, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    changes = {"use_peft": True, "lora_r": 8, "lora_target_modules": "all-linear", "learning_rate": 3.0e-2}
    run, again = tmp_path / "sft", tmp_path / "evaluate"
    asked = [{"task": "facts", "n": 8, "max_new_tokens": 6}]
    sft.main(["--config", str(write_yaml(tmp_path / "s.yaml", **settings("sft", run, tasks=asked, **changes)))])

    losses = [line["loss"] for line in map(json.loads, (run / "history.jsonl").open()) if "loss" in line]
    assert losses[-1] < losses[0]
    assert (run / "adapter_model.safetensors").exists()
    assert not (run / "model.safetensors").exists()
    (base, _), (model, tokenizer) = load_model(tiny / "pretrain"), load_model(run)
    ids = torch.tensor([tokenizer("Ada was born in")["input_ids"]])
    assert not torch.allclose(model(ids).logits, base(ids).logits, atol=1e-3)
    assert tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id)[0] == "<|im_end|>"

    more = {"model_name_or_path": str(run), "tasks": asked}
    evaluate.main(["--config", str(write_yaml(tmp_path / "e.yaml", **settings("evaluate", again, **more)))])
    said = [
        [line["completion"] for line in map(json.loads, (r / "samples.jsonl").open()) if "score" in line]
        for r in (run, again)
    ]
    assert said[0]
    assert said[0] == said[1]


@pytest.mark.parametrize("stage", ["sft", "dpo", "reward", "grpo", "ppo"])
def test_an_adapter_is_trained_on_weights_of_4_bits(
    stage: str,
    settings: Callable[..., dict[str, Any]],
    write_model: Callable[..., Path],
    write_yaml: Callable[..., Path],
    tmp_path: Path,
) -> None:
    pytest.importorskip("bitsandbytes")
    # On a CPU its kernels take no narrower matrices.
    width = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32, "num_key_value_heads": 2}
    model, run = write_model(tmp_path / "model", **width), tmp_path / "run"
    changes = {"use_peft": True, "load_in_4bit": True, "lora_target_modules": "all-linear", "max_steps": 2}
    given = settings(stage, run, model_name_or_path=str(model), **changes)
    importlib.import_module(f"zero2chat.stages.{stage}").main(
        ["--config", str(write_yaml(tmp_path / "x.yaml", **given))]
    )
    assert (load_reward_model if stage == "reward" else load_model)(run)
    assert (run / "adapter_model.safetensors").exists() != (stage == "reward")


def test_a_merged_adapters_folder_is_a_whole_model_that_says_what_the_adapter_does(
    settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    run = tmp_path / "sft"
    changes = {"use_peft": True, "lora_target_modules": "all-linear", "learning_rate": 3.0e-2, "merge_adapter": True}
    sft.main(["--config", str(write_yaml(tmp_path / "s.yaml", **settings("sft", run, tasks=[], **changes)))])
    assert (run / "model.safetensors").exists()
    assert not (run / "adapter_model.safetensors").exists()
    (whole, tokenizer), (adapted, _) = load_model(run), load_model(run / "_adapter")
    refuse_adapter(whole, run)
    ids = torch.tensor([tokenizer("Ada was born in")["input_ids"]])
    assert torch.allclose(whole(ids).logits, adapted(ids).logits, atol=1e-4)
    assert tokenizer.convert_ids_to_tokens(whole.generation_config.eos_token_id)[0] == "<|im_end|>"
    assert whole.config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_what_practised_with_an_adapter_is_whole_where_asked_for(
    stage: str, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    run = tmp_path / stage
    changes = {"use_peft": True, "lora_target_modules": "all-linear", "learning_rate": 3.0e-2, "merge_adapter": True}
    given = settings(stage, run, **changes)
    importlib.import_module(f"zero2chat.stages.{stage}").main(
        ["--config", str(write_yaml(tmp_path / "x.yaml", **given))]
    )
    assert not (run / "adapter_model.safetensors").exists()
    assert json.loads((run / "_adapter" / "adapter_config.json").read_text())["revision"] == "main"  # of its base
    (whole, tokenizer), (adapted, _) = load_model(run), load_model(run / "_adapter")
    refuse_adapter(whole, run)
    ids = torch.tensor([tokenizer("Ada was born in")["input_ids"]])
    assert torch.allclose(whole(ids).logits, adapted(ids).logits, atol=1e-4)


def test_merging_without_an_adapter_is_refused(
    settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_yaml(tmp_path / "s.yaml", **settings("sft", tmp_path / "sft", merge_adapter=True))
    with pytest.raises(UserError, match="merge_adapter: there is no adapter without use_peft"):
        sft.main(["--config", str(path)])
    assert not (tmp_path / "sft").exists()


@pytest.mark.parametrize(("stage", "peft"), [("dpo", False), ("dpo", True), ("grpo", True), ("sft", False)])
def test_a_stage_starts_from_an_adapter_merged_into_its_base(
    stage: str,
    peft: bool,
    model_folder: Path,
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finish, there = Run.finish, []

    def watched(self: Run, metrics: Any) -> None:
        there.append((self.folder / "_base").exists())
        finish(self, metrics)

    monkeypatch.setattr(Run, "finish", watched)
    lora = {"use_peft": True, "lora_target_modules": "all-linear", "lora_r": 4}
    start, run = tmp_path / "start", tmp_path / stage
    base, tokenizer = load_model(model_folder)
    torch.manual_seed(0)
    adapter = get_peft_model(
        base, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False)
    )
    for part in (adapter, base.generation_config, tokenizer):
        part.save_pretrained(start)
    short = {"max_steps": 2, "logging_steps": 1, "save_strategy": "no", "tasks": [], "learning_rate": 1e-6}
    short |= {"beta": 0.1} if stage == "grpo" else {}  # a reference model
    given = settings(stage, run, model_name_or_path=str(start), **short, **(lora if peft else {}))
    given = {key: value for key, value in given.items() if key != "tasks" or stage != "dpo"}
    importlib.import_module(f"zero2chat.stages.{stage}").main(
        ["--config", str(write_yaml(tmp_path / "s.yaml", **given))]
    )
    assert f"{start}: a LoRA adapter: merged into its base model, in {run / '_base'}" in capsys.readouterr().out
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    if stage == "dpo":
        assert next(line["loss"] for line in history if "loss" in line) == pytest.approx(0.6931, abs=1e-3)
    if stage == "grpo":
        assert next(line["kl"] for line in history if "kl" in line) == pytest.approx(0, abs=1e-3)
    ids = torch.arange(3, 40)[None]  # without the pad token, whose embedding is zero
    (before, _), (after, _), (plain, _) = load_model(start), load_model(run), load_model(model_folder)
    near, far = ((after(ids).logits - one(ids).logits).abs().max() for one in (before, plain))
    assert near < far / 100  # two small steps from the adapter
    assert (run / "_base").exists() == (run / "adapter_config.json").exists() == peft
    assert there == [peft]  # a kill cannot leave it in a finished run
    if peft:
        empty, _ = load_model(run, weights=False)  # as preview opens it
        assert empty.config.hidden_size == plain.config.hidden_size
