"""Documents of one window do not see each other, whatever computes attention."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM, TrainingArguments
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from zero2chat.trainers.pretrain_trainer import PretrainTrainer, balance_loss, collate

ROWS = [{"input_ids": torch.tensor(ids)} for ids in ([5, 6, 0, 7, 8, 9, 0, 3], [0, 0, 4, 2, 9, 9, 0, 5])]


@pytest.mark.usefixtures("flash_attention")
def test_flash_attention_is_told_where_documents_begin_in_each_row() -> None:
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=16,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            use_cache=False,
            initializer_range=0.5,
        )
    ).eval()
    batch, told = collate(ROWS, end=0), collate(ROWS, end=0, flash=True)
    with torch.no_grad():
        masked = model(**batch).logits
        model.config._attn_implementation = "flash_attention_2"
        assert not torch.allclose(model(**batch).logits, masked, atol=1e-2)  # so it is without being told
        torch.testing.assert_close(model(**told).logits, masked, atol=1e-4, rtol=1e-4)


def test_of_a_batch_that_is_cut_the_bounds_are_of_the_rows_that_stay() -> None:
    args = SimpleNamespace(world_size=2, process_index=0, per_device_train_batch_size=2, dataloader_drop_last=False)
    state = SimpleNamespace(gradient_state=SimpleNamespace(end_of_dataloader=True))
    trainer: Any = SimpleNamespace(args=args, train_dataset=range(5), accelerator=state)
    batch = PretrainTrainer._without_repeats(trainer, collate(ROWS, end=0, flash=True))
    assert batch["input_ids"].shape == (1, 8)
    assert batch["cu_seq_lens_q"].tolist() == batch["cu_seq_lens_k"].tolist() == [0, 3, 7, 8]
    assert (batch["max_length_q"], batch["max_length_k"]) == (4, 4)
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
    trainer = PretrainTrainer(model=model, args=TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"))
    found = trainer.compute_loss(model.train(), {"input_ids": ids, "labels": ids})
    read = model(ids, labels=ids, output_router_logits=True)
    each = balance_loss(read.router_logits, 2)
    assert abs(each - read.aux_loss) > 0.01
    assert found.item() == pytest.approx((read.loss - 0.5 * read.aux_loss + 0.5 * each).item())
