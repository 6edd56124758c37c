from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    get_scheduler,
)
from transformers.models.qwen3_moe import Qwen3MoeConfig, Qwen3MoeForCausalLM

from zero2chat.trainers.muon import BatchedMuon, MuonAdamW, split_parameters, use_muon

LR, DECAY, BETAS, EPS = 0.01, 0.1, (0.9, 0.95), 1e-8


def _model(tied: bool = True) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=16,
        tie_word_embeddings=tied,
    )
    return Qwen3ForCausalLM(config)


def _optimizer(model: Qwen3ForCausalLM) -> MuonAdamW:
    return MuonAdamW(model, lr=LR, weight_decay=DECAY, betas=BETAS, eps=EPS)


def _train(model: Qwen3ForCausalLM, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        ids = torch.randint(64, (4, 16), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("tied", [True, False])
def test_hidden_matrices_are_muons_and_all_else_is_adamws(tied: bool) -> None:
    model = _model(tied)
    matrices, others = ({id(p) for p in part} for part in split_parameters(model))
    for name, parameter in model.named_parameters():
        is_projection = name.endswith("_proj.weight")
        assert (id(parameter) in matrices) == is_projection, name
        assert (id(parameter) in others) != is_projection, name
    assert id(model.get_output_embeddings().weight) in others
    # q, k, v, o, gate, up, down a layer; four norms a layer and the last, embedding, and the head where it is its own.
    assert (len(matrices), len(others)) == (14, 8 + 1 + 1 + (not tied))


def test_learned_positions_are_no_matrix() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=1, n_head=2))
    matrices, others = ({id(p) for p in part} for part in split_parameters(model))
    for table in (model.transformer.wpe, model.transformer.wte):
        assert id(table.weight) in others
    assert len(matrices) == 4


def _mixture() -> Qwen3MoeForCausalLM:
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 16}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**shape, **experts, num_key_value_heads=2, tie_word_embeddings=True))


@pytest.mark.parametrize("together", [2**24, 1])
def test_each_expert_of_a_stack_is_orthogonalised_by_itself(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zero2chat.trainers.muon.TOGETHER", together)
    monkeypatch.setattr("zero2chat.trainers.muon.bf16_is_fast", lambda: False)
    model = _mixture()
    before = copy.deepcopy(model)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    MuonAdamW(model, lr=LR, weight_decay=0.0, betas=BETAS, eps=EPS).step()
    for name, (rows, columns) in (("gate_up_proj", (48, 32)), ("down_proj", (32, 24))):
        old, new = (getattr(m.model.layers[0].mlp.experts, name).detach() for m in (before, model))
        update = (old - new) / (LR * 0.2 * max(rows, columns) ** 0.5)
        assert update.shape == (4, rows, columns)
        for values in torch.linalg.svdvals(update):  # of one expert; Newton-Schulz brings them near 1
            assert 0.4 < values.min() <= values.max() < 1.3, name
        # Orthogonalised together, as rows of one matrix, the experts would share what one of them has here.
        assert torch.linalg.svdvals(update.flatten(0, 1)).max() > 1.4, name


def test_a_stack_makes_the_steps_of_its_matrices() -> None:
    torch.manual_seed(0)
    stack = torch.nn.Parameter(torch.randn(3, 8, 16))
    alone = [torch.nn.Parameter(matrix.clone()) for matrix in stack.detach()]
    stacked, apart = (BatchedMuon(params, lr=LR, adjust_lr_fn="match_rms_adamw") for params in ([stack], alone))
    for _ in range(3):
        stack.grad = torch.randn_like(stack)
        for p, grad in zip(alone, stack.grad, strict=True):
            p.grad = grad.clone()
        stacked.step()
        apart.step()
    torch.testing.assert_close(stack.detach(), torch.stack([p.detach() for p in alone]), atol=1e-6, rtol=0)


def test_of_a_mixture_experts_are_muons_and_a_bias_per_expert_is_adamws() -> None:
    model = _mixture()
    matrices = {id(p) for p in split_parameters(model)[0]}
    assert {name for name, p in model.named_parameters() if id(p) in matrices} == {
        name for name, p in model.named_parameters() if "proj" in name or name.endswith("mlp.gate.weight")
    }
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    oss = GptOssForCausalLM(
        GptOssConfig(**shape, vocab_size=64, head_dim=16, intermediate_size=24, num_local_experts=4)
    )
    matrices = {id(p) for p in split_parameters(oss)[0]}
    assert id(oss.model.layers[0].mlp.experts.gate_up_proj) in matrices
    assert id(oss.model.layers[0].mlp.experts.gate_up_proj_bias) not in matrices


def test_frozen_parameters_are_left_out() -> None:
    model = _model()
    model.model.layers[0].requires_grad_(False)
    matrices, others = split_parameters(model)
    assert len(matrices) == 7
    assert all(p.requires_grad for p in matrices + others)


@pytest.mark.parametrize("tied", [True, False])
def test_the_embedding_learns_at_a_rate_of_its_own(tied: bool) -> None:
    model = _model(tied)
    optimizer = MuonAdamW(model, LR, DECAY, BETAS, EPS, embedding_lr=0.3)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert rates.pop(id(model.get_input_embeddings().weight)) == 0.3
    assert set(rates.values()) == {LR}
    before = copy.deepcopy(model)
    _train(model, optimizer, range(1))
    moved = (before.get_input_embeddings().weight - model.get_input_embeddings().weight).abs().max().item()
    assert moved == pytest.approx(0.3, rel=1e-3)  # AdamW's first step


def test_a_step_is_torchs_muon_on_the_one_part_and_torchs_adamw_on_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zero2chat.trainers.muon.bf16_is_fast", lambda: True)  # torch's takes no other
    ours, theirs = _model(), _model()
    matrices, others = split_parameters(theirs)
    muon = torch.optim.Muon(matrices, lr=LR, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=LR, weight_decay=0.0, betas=BETAS, eps=EPS)
    optimizer = _optimizer(ours)
    for step in range(3):
        theirs.zero_grad()
        ids = torch.randint(64, (4, 16), generator=torch.Generator().manual_seed(step))
        theirs(input_ids=ids, labels=ids).loss.backward()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = b.grad.clone()
        for one in (optimizer, muon, adamw):
            one.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # Three updates of 0.01 × 0.2 × √48 at most; products of bf16 add up in another order.
        torch.testing.assert_close(a, b, atol=5e-4, rtol=0, msg=f"{name}: {(a - b).abs().max()}")


def test_many_matrices_at_once_or_few_make_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    together, apart = _model(), _model()
    _train(together, _optimizer(together), range(2))
    monkeypatch.setattr("zero2chat.trainers.muon.TOGETHER", 1)
    _train(apart, _optimizer(apart), range(2))
    for (name, a), b in zip(together.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=5e-4, rtol=0, msg=f"{name}: {(a - b).abs().max()}")


def test_muons_update_has_adamws_size_whatever_the_matrix() -> None:
    """0.2 is the root mean square of AdamW's updates that Liu et al. 2025 match."""
    model = _model()
    before = copy.deepcopy(model)
    _train(model, MuonAdamW(model, lr=LR, weight_decay=0.0, betas=BETAS, eps=EPS), range(1))
    for name, p in model.named_parameters():
        if name.endswith("_proj.weight"):
            update = (before.get_parameter(name) - p).detach() / LR
            assert 0.1 < update.square().mean().sqrt() < 0.3, name


def test_a_saved_state_goes_on_bit_for_bit(tmp_path: Path) -> None:
    model = _model()
    optimizer = _optimizer(model)
    _train(model, optimizer, range(3))
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    resumed = copy.deepcopy(model)
    _train(model, optimizer, range(3, 6))

    again = _optimizer(resumed)
    again.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    _train(resumed, again, range(3, 6))
    for (name, a), b in zip(model.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(a, b[1]), name
    fresh = _model()
    _train(fresh, _optimizer(fresh), range(3))
    _train(fresh, _optimizer(fresh), range(3, 6))  # the state matters: without it the end is another
    assert not torch.equal(fresh.model.layers[0].mlp.up_proj.weight, model.model.layers[0].mlp.up_proj.weight)


@pytest.mark.parametrize("loaded", [False, True])
def test_the_scheduler_sets_the_learning_rate_of_every_part(loaded: bool) -> None:
    model = _model()
    optimizer = _optimizer(model)
    if loaded:
        optimizer.load_state_dict(_optimizer(model).state_dict())
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=2)
    assert len(optimizer.param_groups) == 2
    _train(model, optimizer, range(1))
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [LR / 2, LR / 2]
    _train(model, optimizer, range(1))
    scheduler.step()
    at_the_end = copy.deepcopy(model)
    _train(model, optimizer, range(1))  # at a rate of 0 nothing may move, be it Muon's or AdamW's
    for a, b in zip(model.parameters(), at_the_end.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("make", [_model, _mixture])
def test_deepspeeds_muon_is_set_to_the_same_step_for_every_shape(make: Callable[[], Any]) -> None:
    pytest.importorskip("deepspeed")
    model = make()
    plugin = SimpleNamespace(zero_stage=2, deepspeed_config={"zero_optimization": {}})
    args = SimpleNamespace(
        deepspeed_plugin=plugin,
        fsdp=None,
        learning_rate=LR,
        weight_decay=DECAY,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        adam_epsilon=EPS,
        max_grad_norm=1.0,
        device=torch.device("cpu"),
        torch_compile=True,
    )
    _, kwargs = use_muon(model, args)
    assert args.max_grad_norm == 0.0
    adamw, *muon = kwargs["params"]
    matrices, others = split_parameters(model)
    assert [id(p) for p in adamw["params"]] == [id(p) for p in others]
    assert (adamw["lr"], adamw["weight_decay"], adamw["use_muon"]) == (LR, 0.0, False)
    assert sorted(id(p) for group in muon for p in group["params"]) == sorted(map(id, matrices))
    for group in muon:
        for p in group["params"]:
            rows, columns = p.shape[-2:]
            theirs = group["lr"] * max(1, rows / columns) ** 0.5
            assert theirs == pytest.approx(LR * 0.2 * max(rows, columns) ** 0.5)
            assert group["lr"] * group["weight_decay"] == pytest.approx(LR * DECAY)
            assert p.use_muon
    assert not any(p.use_muon for p in others)
