"""Mixtures of experts: the parameters that a token uses, and how tokens are spread over the experts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import MixtralConfig, MixtralForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3_moe import Qwen3MoeConfig, Qwen3MoeForCausalLM

from zero2chat.models.experts import ExpertLoads, expert_stacks, experts_per_token, idle_count
from zero2chat.models.hardware import active_count, flops_per_token, parameter_count

SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


def _mixture(**changes: Any) -> Qwen3MoeForCausalLM:
    torch.manual_seed(0)
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "tie_word_embeddings": True}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SHAPE | experts | changes))


def test_a_token_uses_its_experts_and_all_else() -> None:
    model = _mixture()
    dense = Qwen3ForCausalLM(Qwen3Config(**SHAPE, intermediate_size=48, tie_word_embeddings=True))
    routers = 2 * 8 * 32
    assert active_count(model) == parameter_count(dense) + routers  # two experts of 24 are one MLP of 48
    assert parameter_count(model) - active_count(model) == idle_count(model) == 2 * 6 * 3 * 24 * 32
    assert flops_per_token(model, 10) == flops_per_token(dense, 10) + 6 * routers
    assert (idle_count(dense), active_count(dense), expert_stacks(dense)) == (0, parameter_count(dense), [])


def test_a_layer_without_experts_is_counted_whole() -> None:
    assert idle_count(_mixture(mlp_only_layers=[0])) == idle_count(_mixture()) // 2


def test_other_mixtures_are_known_too() -> None:
    shape = {k: v for k, v in SHAPE.items() if k != "head_dim"} | {"intermediate_size": 24, "num_local_experts": 4}
    model = MixtralForCausalLM(MixtralConfig(**shape, num_experts_per_tok=1))
    assert (experts_per_token(model.config), idle_count(model)) == (1, 2 * 3 * 3 * 24 * 32)


def test_loads_are_those_of_the_routers_choices_in_one_mode() -> None:
    model = _mixture()
    loads, accelerator = ExpertLoads(model), Accelerator(cpu=True)
    assert loads.take(accelerator) == []
    ids = torch.randint(64, (3, 20))
    model.eval()(input_ids=ids)  # as sampling does: not counted
    assert loads.take(accelerator) == []
    routed = model.train()(input_ids=ids, output_router_logits=True).router_logits
    shares = loads.take(accelerator)
    for layer, logits in zip(shares, routed, strict=True):
        counts = torch.bincount(logits.topk(2).indices.flatten(), minlength=8)
        assert layer == pytest.approx((counts / 60).tolist())
        assert sum(layer) == pytest.approx(2)
    assert loads.take(accelerator) == []


def test_experts_take_part_in_autocast() -> None:
    model, ids = _mixture(), torch.randint(64, (2, 20))
    exact = model(input_ids=ids).logits
    grads = []
    for implementation in ("grouped_mm", "eager"):  # eager's products are torch's own, which autocast knows
        model.set_experts_implementation(implementation)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            found = model(input_ids=ids, labels=ids)
        found.loss.backward()
        torch.testing.assert_close(found.logits.float(), exact, atol=2e-2, rtol=0)
        grads.append(model.model.layers[0].mlp.experts.down_proj.grad.clone())
    assert grads[0].dtype == torch.float32
    torch.testing.assert_close(grads[0], grads[1], atol=1e-6, rtol=2e-2)

    seen: set[torch.dtype] = set()

    class Precisions(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "grouped_mm" in str(function):
                seen.update({args[0].dtype, args[1].dtype})
            return function(*args, **kwargs or {})

    model.set_experts_implementation("grouped_mm")
    with Precisions(), torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids)
    assert seen == {torch.bfloat16}
