"""A mixture of experts: pretrained, killed and resumed, and adapted as any model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_dataset
from safetensors.torch import load_file
from stage_fixtures import LORA, Settings, assert_same_end, history, main, metrics
from transformers import AutoModelForCausalLM
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeTopKRouter

from zero2chat.core.errors import UserError
from zero2chat.data.packing import pack_documents
from zero2chat.models.hardware import active_count
from zero2chat.models.loading import load_model

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
BALANCED = {"output_router_logits": True, "router_aux_loss_coef": 0.5}


@pytest.fixture(scope="module")
def mixture(settings: Settings, write_yaml: Callable[..., Path]) -> Callable[..., Path]:
    """`mixture(folder, **changes)` writes the YAML of a tiny mixture's pretraining."""

    def write(folder: Path, model: dict[str, Any] | None = None, **changes: Any) -> Path:
        given = settings("pretrain", folder, model_type="qwen3_moe", sample_prompts=[], **changes)
        given["model"] = given["model"] | EXPERTS | BALANCED | (model or {})
        return write_yaml(folder.with_suffix(".yaml"), **given)

    return write


@pytest.fixture(scope="module")
def trained(mixture: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return main("pretrain", mixture(tmp_path_factory.mktemp("mixture") / "pretrain"))


def _values(run: Path) -> dict[str, Any]:
    return {name: metric["value"] for name, metric in metrics(run).items()}


def test_its_folder_has_a_matrix_per_expert_and_metrics_have_the_loads_and_the_active_parameters(trained):
    model, _ = load_model(trained)
    assert not model.config.output_router_logits  # what uses the model need not compute them
    weights = load_file(trained / "model.safetensors")
    assert weights["model.layers.1.mlp.experts.3.up_proj.weight"].shape == (32, 32)  # as Qwen3-MoE is published
    values = _values(trained)
    assert (values["parameters"], values["active_parameters"]) == (model.num_parameters(), active_count(model))
    assert 0 <= values["expert_share_min"] <= 0.5 <= values["expert_share_max"] <= 1  # two of four for each token
    for line in history(trained):
        assert 0 <= line["expert_share/min"] <= 0.5 <= line["expert_share/max"] <= 1
        assert 1.9 < line["aux_loss"] < 4


def test_losses_are_those_of_the_tokens_alone(trained, tiny):
    model, tokenizer = load_model(trained)
    rows = load_dataset(str(tiny / "corpus"), split="validation")
    losses = []
    for source in ("world", "textbook"):
        chosen = rows.select([i for i, name in enumerate(rows["source"]) if name == source])
        ids = torch.tensor(pack_documents(chosen, "text", tokenizer, 128, source)["input_ids"][:])
        logits = model(ids).logits[:, :-1].flatten(0, 1)
        losses.append(torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none"))
    assert _values(trained)["val_loss"] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-3)
    assert abs(history(trained)[0]["loss"] - math.log(len(tokenizer))) < 0.5  # the coefficient of 0.5 would add 1


def test_neither_accumulation_nor_processes_weigh_the_balance_anew(trained, mixture, tmp_path):
    parts = main("pretrain", mixture(tmp_path / "parts", per_device_train_batch_size=1, save_strategy="no"))
    for a, b in zip(history(trained), history(parts), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=2e-3)
        # Of one window the loads are less even than of eight; eight times the weight would even them out.
        assert b["aux_loss"] == pytest.approx(a["aux_loss"], rel=0.1)


def test_a_killed_run_ends_bit_for_bit_as_an_uninterrupted_one(trained, mixture, kill_after, tmp_path):
    path = mixture(tmp_path / "again")
    kill_after("pretrain", path, 5)
    assert_same_end(main("pretrain", path), trained)


def test_a_continued_model_is_balanced_if_set_although_its_folder_has_the_loss_switched_off(trained, train):
    own = {"model_name_or_path": str(trained), "tokenizer": None, "max_steps": 2, "logging_steps": 1}
    own |= {"sample_prompts": [], "save_strategy": "no"}
    for name, model in (("balanced", BALANCED), ("plain", None)):
        assert all(("aux_loss" in line) == bool(model) for line in history(train("pretrain", name, **own, model=model)))


def test_without_the_loss_only_the_loads_are_logged(mixture, tmp_path):
    (line,) = history(main("pretrain", mixture(tmp_path / "m", {"output_router_logits": False}, max_steps=2)))
    assert "aux_loss" not in line
    assert line["expert_share/max"] >= 0.5


def test_a_model_without_attention_trains(train):
    shape = {"num_hidden_layers": 2, "hidden_size": 32, "num_heads": 4, "head_dim": 16, "state_size": 8}
    shape |= {"n_groups": 1, "chunk_size": 16}
    run = train("pretrain", model_type="mamba2", model=shape, max_length=32, max_steps=4, sample_tokens=2)
    lines = history(run)
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["mfu"] > 0
    assert AutoModelForCausalLM.from_pretrained(run).config.model_type == "mamba2"


# ---- adapters


def test_adapters_of_experts_are_trained_and_merged_right_or_refused(trained, train):
    own = {"model_name_or_path": str(trained), "tasks": [], "max_steps": 2, "merge_adapter": True}
    own |= LORA | {"learning_rate": 3.0e-2}
    with pytest.raises(UserError, match="ParamWrapper does not work with"):
        train("sft", **own)
    run = train("sft", **own, lora_dropout=0.0)
    (base, _), (merged, tokenizer), (adapted, _) = (load_model(one) for one in (trained, run, run / "_adapter"))
    ids = torch.tensor([tokenizer("Ada was born in")["input_ids"]])
    torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, atol=1e-4, rtol=0)
    for name in ("gate_up_proj", "down_proj"):
        old, new = (getattr(model.model.layers[0].mlp.experts, name) for model in (base, merged))
        assert all((a - b).abs().max() > 1e-4 for a, b in zip(old, new, strict=True)), name  # every expert learned
    assert isinstance(merged.model.layers[0].mlp.gate, Qwen3MoeTopKRouter)
