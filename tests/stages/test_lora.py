"""Adapters by configuration alone: LoRA, and QLoRA where its package is installed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from zero2chat.core.errors import UserError
from zero2chat.core.registry import modules
from zero2chat.core.runs import Run, read_jsonl
from zero2chat.models.adapters import merged
from zero2chat.models.loading import load_model, refuse_adapter
from zero2chat.models.reward_model import load_reward_model, score_texts
from zero2chat.stages import evaluate, sft

LORA = {"target_modules": "all-linear", "init_lora_weights": False}


@pytest.fixture
def start(model_folder: Path, tmp_path: Path) -> Path:
    """An adapter of random weights on `model_folder`, as a stage saves it."""
    base, tokenizer = load_model(model_folder)
    torch.manual_seed(0)
    adapter = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **LORA))
    for part in (adapter, base.generation_config, tokenizer):
        part.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


@pytest.fixture
def reward_adapter(model_folder: Path, tmp_path: Path) -> Path:
    """An adapter for a reward model of random opinions, as TRL's trainer saves it."""
    torch.manual_seed(0)
    base, tokenizer = load_reward_model(model_folder, fresh=True)
    adapter = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", **LORA))
    torch.nn.init.normal_(adapter.base_model.model.score.modules_to_save["default"].weight)
    for part in (adapter, tokenizer):
        part.save_pretrained(tmp_path / "likes")
    return tmp_path / "likes"


def test_an_adapters_folder_opens_and_says_what_the_trained_model_said(
    tiny: Path, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    changes = {"use_peft": True, "lora_r": 8, "lora_target_modules": "all-linear", "learning_rate": 3.0e-2}
    run, again = tmp_path / "sft", tmp_path / "evaluate"
    asked = [{"task": "facts", "n": 8, "max_new_tokens": 6}]
    sft.STAGE.main(["--config", str(write_yaml(tmp_path / "s.yaml", **settings("sft", run, tasks=asked, **changes)))])

    losses = [line["loss"] for line in map(json.loads, (run / "history.jsonl").open()) if "loss" in line]
    assert losses[-1] < losses[0]
    assert (run / "adapter_model.safetensors").exists()
    assert not (run / "model.safetensors").exists()
    (base, _), (model, tokenizer) = load_model(tiny / "pretrain"), load_model(run)
    ids = torch.tensor([tokenizer("Ada was born in")["input_ids"]])
    assert not torch.allclose(model(ids).logits, base(ids).logits, atol=1e-3)
    assert tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id)[0] == "<|im_end|>"

    more = {"model_name_or_path": str(run), "tasks": asked}
    evaluate.STAGE.main(["--config", str(write_yaml(tmp_path / "e.yaml", **settings("evaluate", again, **more)))])
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
    importlib.import_module(modules("stages")[stage]).STAGE.main(
        ["--config", str(write_yaml(tmp_path / "x.yaml", **given))]
    )
    assert (load_reward_model if stage == "reward" else load_model)(run)
    assert (run / "adapter_model.safetensors").exists() != (stage == "reward")


def test_a_merged_adapters_folder_is_a_whole_model_that_says_what_the_adapter_does(
    settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    run = tmp_path / "sft"
    changes = {"use_peft": True, "lora_target_modules": "all-linear", "learning_rate": 3.0e-2, "merge_adapter": True}
    sft.STAGE.main(["--config", str(write_yaml(tmp_path / "s.yaml", **settings("sft", run, tasks=[], **changes)))])
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
    importlib.import_module(modules("stages")[stage]).STAGE.main(
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
        sft.STAGE.main(["--config", str(path)])
    assert not (tmp_path / "sft").exists()


@pytest.mark.parametrize(
    ("stage", "peft"),
    [("dpo", False), ("dpo", True), ("grpo", True), ("sft", False), ("ppo", False), ("ppo", True), ("gkd", True)],
)
def test_a_stage_starts_from_an_adapter_merged_into_its_base(
    stage: str,
    peft: bool,
    model_folder: Path,
    start: Path,
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
    run = tmp_path / stage
    short = {"max_steps": 2, "logging_steps": 1, "save_strategy": "no", "tasks": [], "learning_rate": 1e-6}
    short |= {"beta": 0.1} if stage == "grpo" else {}  # a reference model
    left_out = {"dpo": ["tasks"], "gkd": ["rewards", "num_generations", "beta"]}.get(stage, [])
    if stage == "gkd":  # the student is its teacher, which is read as the adapter that it is
        short |= {"teacher_model_name_or_path": str(start)}
    given = settings("grpo" if stage == "gkd" else stage, run, model_name_or_path=str(start), **short)
    given = {key: value for key, value in (given | (lora if peft else {})).items() if key not in left_out}
    importlib.import_module(modules("stages")[stage]).STAGE.main(
        ["--config", str(write_yaml(tmp_path / "s.yaml", **given))]
    )
    assert f"{start}: a LoRA adapter: merged into its base model, in {run / '_base'}" in capsys.readouterr().out
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    if stage == "dpo":
        assert next(line["loss"] for line in history if "loss" in line) == pytest.approx(0.6931, abs=1e-3)
    if stage in ("grpo", "ppo"):
        assert next(line["kl"] for line in history if "kl" in line) == pytest.approx(0, abs=1e-3)
    if stage == "gkd":
        assert next(line["loss"] for line in history if "loss" in line) == pytest.approx(0, abs=1e-4)
    ids = torch.arange(3, 40)[None]  # without the pad token, whose embedding is zero
    (before, _), (after, _), (plain, _) = load_model(start), load_model(run), load_model(model_folder)
    near, far = ((after(ids).logits - one(ids).logits).abs().max() for one in (before, plain))
    assert near < far / 100  # two small steps from the adapter
    assert (run / "_base").exists() == (run / "adapter_config.json").exists() == peft
    assert there == [peft]  # a kill cannot leave it in a finished run
    if peft:
        empty, _ = load_model(run, weights=False)  # as preview opens it
        assert empty.config.hidden_size == plain.config.hidden_size


@pytest.mark.slow
def test_two_zero3_ranks_start_from_an_adapter_and_its_reward_model(
    start: Path,
    reward_adapter: Path,
    model_folder: Path,
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    two_ranks: Callable[..., str],
    tmp_path: Path,
) -> None:
    zero2 = Path(__file__).parents[2] / "accelerate_configs/cpu_zero2.yaml"
    config = tmp_path / "cpu_zero3.yaml"
    config.write_text(zero2.read_text().replace("zero_stage: 2", "zero_stage: 3\n  zero3_save_16bit_model: true"))
    changes = {"model_name_or_path": str(start), "rewards": [{"model": str(reward_adapter)}], "max_steps": 2}
    changes |= {"learning_rate": 1e-6, "per_device_train_batch_size": 8, "held_out": None}
    two_ranks("ppo", write_yaml(tmp_path / "p.yaml", **settings("ppo", tmp_path / "ppo", **changes)), config=config)
    ids = torch.arange(3, 40)[None]
    (before, _), (after, _), (plain, _) = load_model(start), load_model(tmp_path / "ppo"), load_model(model_folder)
    near, far = ((after(ids).logits - one(ids).logits).abs().max() for one in (before, plain))
    assert near < far / 100


def test_a_reward_model_starts_from_an_adapter(
    start: Path,
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "reward"
    given = settings("reward", run, model_name_or_path=str(start), max_steps=2, learning_rate=1e-6)
    importlib.import_module("zero2chat.stages.reward").STAGE.main(
        ["--config", str(write_yaml(tmp_path / "r.yaml", **given))]
    )
    assert f"{start}: a LoRA adapter: merged into its base model, in {run / '_base'}" in capsys.readouterr().out
    assert not (run / "_base").exists()
    body, whole = load_reward_model(run)[0].base_model.state_dict(), merged(start).base_model.state_dict()
    for name, weight in whole.items():
        torch.testing.assert_close(body[name], weight, atol=1e-5, rtol=0)


def test_an_adapter_for_a_reward_model_scores_as_its_merged_model_does_and_trains_by_ppo(
    start: Path,
    reward_adapter: Path,
    model_folder: Path,
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    adapted, tokenizer = load_reward_model(model_folder, fresh=True)
    adapted = PeftModel.from_pretrained(adapted, reward_adapter).eval()
    talks = [[{"role": "user", "content": "Who?"}, {"role": "assistant", "content": text}] for text in ("a", "b c d")]
    whole = load_reward_model(reward_adapter)
    assert f"{reward_adapter}: a LoRA adapter: merged into its base model\n" in capsys.readouterr().out
    assert score_texts(*whole, talks)[0] == pytest.approx(score_texts(adapted, tokenizer, talks)[0], abs=1e-4)
    with pytest.raises(UserError, match="start: not a reward model"):
        load_reward_model(start)

    changes = {"model_name_or_path": str(model_folder), "rewards": [{"model": str(reward_adapter)}]}
    given = settings("ppo", tmp_path / "ppo", max_steps=2, **changes)
    importlib.import_module("zero2chat.stages.ppo").STAGE.main(
        ["--config", str(write_yaml(tmp_path / "p.yaml", **given))]
    )
    assert any("rewards/likes/mean" in line for line in read_jsonl(tmp_path / "ppo" / "history.jsonl"))


@pytest.mark.parametrize("stage", ["arena", "compress", "distill", "interrogate", "probe"])
def test_a_stage_that_asks_a_model_takes_an_adapter_for_the_model_that_it_makes(
    stage: str,
    start: Path,
    reward_adapter: Path,
    model_folder: Path,
    tiny: Path,
    write_yaml: Callable[..., Path],
    tmp_path: Path,
) -> None:
    whole, likes = tmp_path / "whole" / "start", tmp_path / "whole" / "likes"
    for (model, tokenizer), folder in (
        ((merged(start), load_model(start)[1]), whole),
        (load_reward_model(reward_adapter), likes),
    ):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    task = {"task": "lines", "n": 3}
    few = {"gibberish_prompts": 2, "gibberish_rounds": 2, "gibberish_tries": 2, "gibberish_length": 4}
    short = {"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 60}}

    def asked(model: Path, judge: Path) -> dict[str, Any]:
        named = {"model_name_or_path": str(model)}
        return {
            "arena": {"models": [str(model), str(model_folder)], "reward_model": str(judge), "tasks": [task]},
            "compress": named | {"dataset": str(tiny / "corpus"), "n": 2},
            "distill": {"teacher": str(model), "datasets": [task], "rewards": [short], "max_completion_length": 8},
            "interrogate": named | {"datasets": [{"task": "facts", "n": 3}]},
            "probe": named | {"reward_model": str(judge), "n": 3, "answers": 2, "max_new_tokens": 8} | few,
        }[stage]

    said = []
    for name, paths in (("adapter", (start, reward_adapter)), ("merged", (whole, likes))):
        path = write_yaml(tmp_path / f"{name}.yaml", output_dir=str(tmp_path / name), **asked(*paths))
        with pytest.raises(UserError, match="cut") if stage == "distill" else nullcontext():
            importlib.import_module(modules("stages")[stage]).STAGE.main(["--config", str(path)])
        said.append(
            (tmp_path / name / ("answers" if stage == "distill" else "samples")).with_suffix(".jsonl").read_text()
        )
    assert said[0]
    assert said[0] == said[1]
