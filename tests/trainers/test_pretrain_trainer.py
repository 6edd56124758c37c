"""Documents of one window do not see each other, whatever computes attention."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM, TrainingArguments
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from zero2chat.core.errors import UserError
from zero2chat.trainers.pretrain_trainer import PretrainTrainer, balance_loss, collate

ROWS = [{"input_ids": torch.tensor(ids)} for ids in ([5, 6, 0, 7, 8, 9, 0, 3], [0, 0, 4, 2, 9, 9, 0, 5])]


@pytest.mark.usefixtures("flash_attention")
def test_flash_attention_which_would_not_mask_them_is_refused(tmp_path: Path) -> None:
    model = SimpleNamespace(config=SimpleNamespace(_attn_implementation="flash_attention_2"))
    with pytest.raises(UserError, match="mask_documents: not with FlashAttention"):
        PretrainTrainer(model, SimpleNamespace(eos_token_id=0), mask_documents=True)


def test_a_batch_that_is_cut_has_the_rows_that_stay() -> None:
    args = SimpleNamespace(world_size=2, process_index=0, per_device_train_batch_size=2, dataloader_drop_last=False)
    state = SimpleNamespace(gradient_state=SimpleNamespace(end_of_dataloader=True))
    trainer: Any = SimpleNamespace(args=args, train_dataset=range(5), accelerator=state)
    batch = PretrainTrainer._without_repeats(trainer, collate(ROWS, end=0))
    assert batch["input_ids"].shape == (1, 8)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 0]]
    assert PretrainTrainer._without_repeats(trainer, collate(ROWS)).keys() == {"input_ids", "labels"}


def test_idle_experts_of_one_layer_cost_though_another_layer_makes_up_for_them() -> None:
    one = torch.tensor([[9.0, 9, 0, 0]]).repeat(6, 1)
    layers = (one, one.flip(1))
    assert load_balancing_loss_func(layers, 4, 2) == pytest.approx(2)  # transformers' own
    assert balance_loss(layers, 2) == pytest.approx(4, abs=1e-2)


def test_of_one_layer_the_balance_is_that_of_transformers() -> None:
    logits = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    assert balance_loss([logits], 2).item() == pytest.approx(load_balancing_loss_func((logits,), 8, 2).item())


def test_what_is_learned_from_is_the_tokens_loss_and_the_balance_of_each_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
    sizes |= {"num_key_value_heads": 2, "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, output_router_logits=True, router_aux_loss_coef=0.5))
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.mlp.gate.weight, std=2.0)  # loads that are not even
    ids = torch.randint(32, (2, 12))
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer = PretrainTrainer(model=model, args=args, train_dataset=ROWS * 4)
    found = trainer.compute_loss(model.train(), {"input_ids": ids, "labels": ids})
    read = model(ids, labels=ids, output_router_logits=True)
    each = balance_loss(read.router_logits, 2)
    assert abs(each - read.aux_loss) > 0.01
    assert found.item() == pytest.approx((read.loss - 0.5 * read.aux_loss + 0.5 * each).item())
