from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from tiny import mixture, qwen3
from transformers import GPT2Config, GPT2LMHeadModel, GptOssConfig, GptOssForCausalLM, Qwen3ForCausalLM, get_scheduler

from zero2chat.trainers.muon import BatchedMuon, MuonAdamW, split_parameters, use_muon

LR, DECAY, BETAS, EPS = 0.01, 0.1, (0.9, 0.95), 1e-8


def _optimizer(model: Qwen3ForCausalLM) -> MuonAdamW:
    return MuonAdamW(model, lr=LR, weight_decay=DECAY, betas=BETAS, eps=EPS)


def _train(model: Qwen3ForCausalLM, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        ids = torch.randint(64, (4, 16), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("tied", [True, False])
def test_hidden_matrices_are_muons_and_all_else_is_adamws(tied):
    model = qwen3(tie_word_embeddings=tied)
    matrices, others = ({id(p) for p in part} for part in split_parameters(model))
    for name, parameter in model.named_parameters():
        is_projection = name.endswith("_proj.weight")
        assert (id(parameter) in matrices) == is_projection, name
        assert (id(parameter) in others) != is_projection, name
    assert id(model.get_output_embeddings().weight) in others
    # q, k, v, o, gate, up, down a layer; four norms a layer and the last, embedding, and the head where it is its own.
    assert (len(matrices), len(others)) == (14, 8 + 1 + 1 + (not tied))
    model.model.layers[0].requires_grad_(False)  # frozen parameters are left out
    frozen, rest = split_parameters(model)
    assert len(frozen) == 7
    assert all(p.requires_grad for p in frozen + rest)
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=1, n_head=2))
    matrices, others = ({id(p) for p in part} for part in split_parameters(gpt2))
    assert len(matrices) == 4
    assert {id(gpt2.transformer.wpe.weight), id(gpt2.transformer.wte.weight)} <= others  # learned positions, too


def test_a_stack_makes_the_steps_of_its_matrices():
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


def test_of_a_mixture_experts_are_muons_and_a_bias_per_expert_is_adamws():
    model = mixture(num_hidden_layers=1)
    matrices = {id(p) for p in split_parameters(model)[0]}
    assert {name for name, p in model.named_parameters() if id(p) in matrices} == {
        name for name, p in model.named_parameters() if "proj" in name or name.endswith("mlp.gate.weight")
    }
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    shape |= {"vocab_size": 64, "head_dim": 16, "intermediate_size": 24}
    oss = GptOssForCausalLM(GptOssConfig(**shape, num_local_experts=4))
    matrices = {id(p) for p in split_parameters(oss)[0]}
    assert id(oss.model.layers[0].mlp.experts.gate_up_proj) in matrices
    assert id(oss.model.layers[0].mlp.experts.gate_up_proj_bias) not in matrices


@pytest.mark.parametrize("together", [2**24, 1])
def test_a_step_is_torchs_muon_on_the_one_part_and_torchs_adamw_on_the_other(together, monkeypatch):
    monkeypatch.setattr("zero2chat.trainers.muon.TOGETHER", together)  # many matrices at once, or few
    monkeypatch.setattr("zero2chat.trainers.muon.bf16_is_fast", lambda: True)  # torch's takes no other
    ours, reference = qwen3(), qwen3()
    matrices, others = split_parameters(reference)
    muon = torch.optim.Muon(matrices, lr=LR, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=LR, weight_decay=0.0, betas=BETAS, eps=EPS)
    optimizer = _optimizer(ours)
    for step in range(3):
        reference.zero_grad()
        ids = torch.randint(64, (4, 16), generator=torch.Generator().manual_seed(step))
        reference(input_ids=ids, labels=ids).loss.backward()
        for a, b in zip(ours.parameters(), reference.parameters(), strict=True):
            a.grad = b.grad.clone()
        for one in (optimizer, muon, adamw):
            one.step()
    for (name, a), b in zip(ours.named_parameters(), reference.parameters(), strict=True):
        # Three updates of 0.01 × 0.2 × √48 at most; products of bf16 add up in another order.
        torch.testing.assert_close(a, b, atol=5e-4, rtol=0, msg=f"{name}: {(a - b).abs().max()}")


@pytest.mark.parametrize("tied", [True, False])
def test_the_embedding_learns_at_its_own_rate_and_a_saved_state_and_the_scheduler_reach_every_part(tied, tmp_path):
    model = qwen3(tie_word_embeddings=tied)
    optimizer = MuonAdamW(model, LR, DECAY, BETAS, EPS, embedding_lr=0.3)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert rates.pop(id(model.get_input_embeddings().weight)) == 0.3
    assert set(rates.values()) == {LR}
    before = copy.deepcopy(model)
    _train(model, optimizer, range(1))
    moved = (before.get_input_embeddings().weight - model.get_input_embeddings().weight).abs().max().item()
    assert moved == pytest.approx(0.3, rel=1e-3)  # AdamW's first step

    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    resumed, fresh = copy.deepcopy(model), copy.deepcopy(model)
    again, without = (MuonAdamW(m, LR, DECAY, BETAS, EPS, embedding_lr=0.3) for m in (resumed, fresh))
    again.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    for one, its in ((model, optimizer), (resumed, again), (fresh, without)):
        _train(one, its, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))
    assert not torch.equal(fresh.model.layers[0].mlp.up_proj.weight, model.model.layers[0].mlp.up_proj.weight)

    scheduler = get_scheduler("linear", again, num_warmup_steps=0, num_training_steps=2)
    scheduler.step()
    assert [group["lr"] for group in again.param_groups if group["lr"] != 0.15] == [LR / 2, LR / 2]
    scheduler.step()
    _train(resumed, again, range(1))  # at a rate of 0 nothing may move, be it Muon's or AdamW's
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("make", [qwen3, mixture])
def test_deepspeeds_muon_is_set_to_the_same_step_for_every_shape(make):
    pytest.importorskip("deepspeed")
    model = make()
    plugin = SimpleNamespace(zero_stage=2, deepspeed_config={"zero_optimization": {}})
    adam = {"adam_beta1": BETAS[0], "adam_beta2": BETAS[1], "adam_epsilon": EPS, "weight_decay": DECAY}
    more = {"fsdp": None, "max_grad_norm": 1.0, "device": torch.device("cpu"), "torch_compile": True}
    args = SimpleNamespace(deepspeed_plugin=plugin, learning_rate=LR, **adam, **more)
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
            effective = group["lr"] * max(1, rows / columns) ** 0.5
            assert effective == pytest.approx(LR * 0.2 * max(rows, columns) ** 0.5)
            assert group["lr"] * group["weight_decay"] == pytest.approx(LR * DECAY)
            assert p.use_muon
    assert not any(p.use_muon for p in others)
