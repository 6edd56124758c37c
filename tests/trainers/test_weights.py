"""Trained weights are fp32: in 16 bits they would not take small updates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import SIZES, qwen3
from transformers import Qwen3Config, Qwen3ForSequenceClassification
from trl import ModelConfig

from zero2chat.core.errors import UserError
from zero2chat.trainers.arguments import check_precision
from zero2chat.trainers.ppo.model import PolicyWithValue
from zero2chat.trainers.start import adapter_config, train_in_fp32


def _check(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], **settings: Any) -> None:
    for name in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given = {"dtype": "bfloat16", "use_peft": False, "bf16": True, "fp16": False, "fsdp": None} | settings
    check_precision(given)


DEEPSPEED, FSDP = {"ACCELERATE_USE_DEEPSPEED": "true"}, {"ACCELERATE_USE_FSDP": "true"}


@pytest.mark.parametrize(
    ("environment", "settings"), [({}, {}), ({}, {"dtype": "float16"}), ({}, {"bf16": False}), (FSDP, {"bf16": False})]
)
def test_16_bit_weights_are_refused_where_nobody_keeps_fp32_copies(environment, settings, monkeypatch):
    with pytest.raises(UserError, match=r"^dtype: b?float16 weights lose .* set `dtype: float32`, with `bf16: true`"):
        _check(monkeypatch, environment, **settings)


@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_fsdp_is_refused_for_quantized_weights_whose_adapters_it_would_leave_in_16_bits(bits, monkeypatch):
    _check(monkeypatch, DEEPSPEED, use_peft=True, **{bits: True})
    with pytest.raises(UserError, match=f"^{bits}: FSDP would train the adapters in 16 bits"):
        _check(monkeypatch, FSDP, use_peft=True, **{bits: True})


def _trainer(model: Any, **changes: Any) -> Any:
    usual = {"is_deepspeed_enabled": False, "is_fsdp_enabled": False}
    return SimpleNamespace(model=model, accelerator=SimpleNamespace(mixed_precision="no"), **usual | changes)


@pytest.mark.parametrize(
    ("environment", "settings"),
    [({}, {"dtype": "float32"}), ({}, {"use_peft": True}), (DEEPSPEED, {}), (DEEPSPEED, {"bf16": False}), (FSDP, {})],
)
def test_16_bit_weights_are_accepted_where_they_are_frozen_or_copied(environment, settings, monkeypatch):
    _check(monkeypatch, environment, **settings)
    model = qwen3().to(torch.bfloat16)  # as `dtype: auto` may leave it
    with pytest.raises(UserError, match=r"^dtype: bfloat16 weights lose small updates"):
        train_in_fp32(_trainer(model))
    train_in_fp32(_trainer(model, is_deepspeed_enabled=True))
    assert model.dtype == torch.bfloat16
    train_in_fp32(_trainer(model.float()))


def test_what_is_trained_beside_frozen_16_bit_weights_is_fp32_and_takes_small_updates():
    base = qwen3(tie_word_embeddings=False).to(torch.bfloat16)
    whole = ["embed_tokens", "lm_head"]
    model = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", modules_to_save=whole))
    ids = torch.arange(24).view(2, 12)
    with torch.no_grad():
        before = model(input_ids=ids).logits
    train_in_fp32(_trainer(model))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert sum("modules_to_save" in name for name in trained) == 2
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    output = model(input_ids=ids, labels=ids)  # without autocast, too
    torch.testing.assert_close(output.logits, before.float(), atol=0.02, rtol=0.02)
    assert (output.logits != output.logits.bfloat16()).any()  # the head is fp32, and nothing rounds its logits
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(input_ids=ids).logits.float(), before.float(), atol=0.02, rtol=0.02)
    output.loss.backward()
    head = next(p for name, p in trained.items() if "lm_head" in name)
    start = head.detach().clone()
    torch.optim.AdamW(trained.values(), lr=1e-6, weight_decay=0.0).step()
    assert (head != start).float().mean() > 0.95
    # Layers that are trained whole return what their neighbours compute in.
    base = qwen3().to(torch.bfloat16)
    whole = ["norm", "input_layernorm", "down_proj"]
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=whole))
    with torch.no_grad():
        before = model(input_ids=ids).logits
    train_in_fp32(_trainer(model))
    torch.testing.assert_close(model(input_ids=ids).logits, before, atol=0.02, rtol=0.02)  # without autocast


def test_values_and_a_reward_models_scores_are_not_rounded_to_16_bits():
    base = qwen3(tie_word_embeddings=False).to(torch.bfloat16)
    policy = PolicyWithValue(get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])))
    torch.nn.init.normal_(policy.score.weight)
    base = Qwen3ForSequenceClassification(
        Qwen3Config(**SIZES, intermediate_size=48, num_key_value_heads=1, num_labels=1, pad_token_id=0)
    ).to(torch.bfloat16)
    reward = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="SEQ_CLS"))
    for model in (policy, reward):
        train_in_fp32(_trainer(model))
    ids = torch.arange(1, 25).view(2, 12)
    for values in (policy(ids, torch.ones_like(ids), 11, 1.0)[1], reward(input_ids=ids).logits):
        assert values.dtype is torch.float32
        assert (values != values.bfloat16()).any()


def test_an_adapters_config_has_the_revision_of_its_base():
    assert adapter_config(ModelConfig(use_peft=True, model_revision="v1")).revision == "v1"
    assert adapter_config(ModelConfig()) is None
