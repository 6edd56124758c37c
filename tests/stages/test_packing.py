"""Packed conversations: loss and gradients as apart, for each kind of attention and of model in the recipes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from stage_fixtures import history, write_rows
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig

from zero2chat.core.errors import UserError
from zero2chat.data.packing import PackedRows
from zero2chat.trainers.sft import SftTrainer, require_packable

LENGTHS = (9, 4, 12, 7, 5, 3)  # tokens, in rows of at most 20
# In SmolLM3 every second layer here has no positions; in Gemma 3 it sees four tokens.
KINDS: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "llama": {},
    "smollm3": {"no_rope_layers": [1, 0]},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4},
}


def _model(kind: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": len(tokenizer)}
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    more = KINDS[kind] | {"tie_word_embeddings": False, "initializer_range": 0.3}
    config = AutoConfig.for_model(kind, **sizes, **ids, **more)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


def _trainer(model: PreTrainedModel, tokenizer: Any, folder: Path, packing: bool, only: int | None = None) -> Any:
    """A trainer of the stage, with one batch of all conversations, each of tokens of its own; loss on all, or `only`
    on one."""
    rows = {
        "input_ids": [[40 * (i + 1) + place % 7 for place in range(n)] for i, n in enumerate(LENGTHS)],
        "assistant_masks": [[0] + [int(only in (None, i))] * (n - 1) for i, n in enumerate(LENGTHS)],
    }
    quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "bf16": False}
    training = SFTConfig(str(folder), packing=packing, max_length=20, per_device_train_batch_size=6, **quiet)
    return SftTrainer(model=model, args=training, train_dataset=Dataset.from_dict(rows), processing_class=tokenizer)


def _learn(trainer: Any) -> tuple[dict[str, Any], float, dict[str, torch.Tensor]]:
    """(batch, loss, gradients)"""
    (batch,) = trainer.get_train_dataloader()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return batch, loss.item(), {name: p.grad.clone() for name, p in trainer.model.named_parameters()}


@pytest.mark.parametrize("kind", [*KINDS, "flash_attention_2"])
def test_packed_rows_have_the_loss_and_gradients_of_conversations_apart(kind, tokenizer, tmp_path, request):
    """With FlashAttention rows are joined into one."""
    flash = kind not in KINDS
    model = _model("qwen3" if flash else kind, tokenizer)
    apart, loss, gradients = _learn(_trainer(model, tokenizer, tmp_path, False))
    if flash:
        request.getfixturevalue("flash_attention")
        model.config._attn_implementation = kind
    packed, packed_loss, packed_gradients = _learn(_trainer(model, tokenizer, tmp_path, True))
    assert apart["input_ids"].shape == (6, 12)
    assert packed["input_ids"].shape == ((1, 40) if flash else (3, 19))  # 12 + 7, 9 + 5 + 4, 3
    if flash:
        assert sorted(packed["cu_seq_lens_q"].diff().tolist()) == sorted(LENGTHS)
    assert packed_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(packed_gradients, gradients, atol=1e-5, rtol=1e-4)


def test_no_conversation_learns_from_another(tokenizer, tmp_path):
    for one in (1, 5):
        _, _, gradients = _learn(_trainer(_model("smollm3", tokenizer), tokenizer, tmp_path, True, only=one))
        touched = gradients["model.embed_tokens.weight"].abs().sum(1).nonzero().flatten().tolist()
        assert touched == sorted({40 * (one + 1) + place % 7 for place in range(LENGTHS[one] - 1)})


def test_positions_restart_and_first_tokens_and_padding_are_not_learned():
    rows = [
        {"input_ids": [5, 6, 7, 8, 9], "labels": [5, 6, 7, 8, 9], "seq_lengths": [2, 3]},
        {"input_ids": [3, 4], "labels": [-100, 4], "seq_lengths": [2]},
    ]
    batch = PackedRows(1)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [3, 4, 1, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 2], [0, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, -100, 8, 9], [-100, 4, -100, -100, -100]]


def test_the_stage_packs_says_how_full_rows_are_and_counts_the_tokens_without_padding(train, tmp_path, capsys):
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    path = write_rows(tmp_path / "c.jsonl", [{"messages": chat}] * 40)
    two = {"global_batch_size": 2, "per_device_train_batch_size": 2, "max_steps": 1, "logging_steps": 1}
    run = train("sft", datasets=[{"path": str(path)}], tasks=[], **two)
    length = len(AutoTokenizer.from_pretrained(run).apply_chat_template(chat)["input_ids"])
    in_a_row = 128 // length
    assert f"packed into {-(-40 // in_a_row)} rows; attention: sdpa" in capsys.readouterr().out
    (line,) = history(run)
    assert line["tokens"] in {length * (n + in_a_row) for n in (in_a_row, 40 % in_a_row)}


def test_layers_that_no_mask_of_attention_separates_are_refused():
    def packable(*kinds: str) -> None:
        config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(layer_types=list(kinds)))
        require_packable(SimpleNamespace(config=config))

    packable("full_attention", "sliding_attention")
    packable()
    with pytest.raises(UserError, match=r"^packing: the model's layers of type conv .*: set `packing: false`$"):
        packable("full_attention", "conv")
