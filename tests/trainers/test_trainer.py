"""The order of rows, which seed and epoch decide, and what a step takes and counts."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler, prepare_data_loader, skip_first_batches
from accelerate.utils import random
from datasets import Dataset
from tiny import two_ranks
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM, TrainingArguments
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import DistillationConfig, DPOConfig, GRPOConfig, KTOConfig, RewardConfig, SFTConfig
from trl.experimental.orpo import ORPOConfig

from zero2chat.core.errors import UserError
from zero2chat.trainers.ppo.config import PPOConfig
from zero2chat.trainers.pretrain_trainer import PretrainTrainer, balance_loss, collate
from zero2chat.trainers.start import samples
from zero2chat.trainers.trainer import ResumableTrainer, order_by_epoch, reduce_each_batch, set_epoch, shard_precisely


def test_rows_of_like_length_stand_together_in_an_order_of_seed_and_epoch():
    lengths = [(37 * i) % 101 for i in range(96)]

    def order(seed, epoch):
        sampler = order_by_epoch(LengthGroupedSampler(8, lengths=lengths, generator=torch.Generator()), seed)
        sampler.set_epoch(epoch)
        torch.rand(epoch)  # what the global random state is does not matter
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed, epoch in ((0, 0), (0, 1), (5, 0))}) == 3
    assert sorted(order(0, 2)) == list(range(96))

    def padding(rows):
        batches = [[lengths[i] for i in rows[start : start + 8]] for start in range(0, 96, 8)]
        return sum(8 * max(batch) - sum(batch) for batch in batches)

    assert padding(order(0, 1)) < padding(list(range(96))) / 2


def test_rows_without_ids_have_no_length_to_group_by():
    args = SimpleNamespace(train_sampling_strategy="group_by_length", train_batch_size=2, seed=0, data_seed=None)
    args.gradient_accumulation_steps = args.world_size = 1
    trainer = SimpleNamespace(args=args, train_dataset=Dataset.from_dict({"pixels": [[1], [2, 3]]}))
    with pytest.raises(UserError, match=r"train_sampling_strategy: rows without input_ids, .* have no length"):
        ResumableTrainer._get_train_sampler(trainer)


def test_a_batch_without_ids_has_no_tokens_to_count():
    trainer = SimpleNamespace(args=SimpleNamespace(include_num_input_tokens_seen="non_padding"), uncounted=7)
    ResumableTrainer._track_num_input_tokens(trainer, {"inputs_embeds": torch.zeros(2, 3, 4)})
    assert trainer.uncounted == 7


@pytest.mark.parametrize("processes", [1, 2])
def test_the_epoch_reaches_the_sampler_of_a_resumed_run_on_any_number_of_processes(processes):
    rows = list(range(32))
    loader = DataLoader(rows, batch_size=2, sampler=SeedableRandomSampler(rows, generator=torch.Generator()))
    alone = DataLoader(rows, batch_size=2, sampler=SeedableRandomSampler(rows, generator=torch.Generator()))
    set_epoch(alone, 3)
    whole = torch.stack(list(alone))[processes - 1 :: processes]  # the last process's batches
    shard = prepare_data_loader(loader, num_processes=processes, process_index=processes - 1, put_on_device=False)
    skipped = skip_first_batches(shard, 2)
    skipped.set_epoch(3)  # as the Trainer
    set_epoch(skipped, 3)
    assert torch.equal(torch.stack(list(skipped)), whole[2:])


@pytest.mark.parametrize(
    ("config", "says"),
    [
        *((config, False) for config in (TrainingArguments, SFTConfig, DPOConfig, KTOConfig, RewardConfig, ORPOConfig)),
        *((config, True) for config in (GRPOConfig, DistillationConfig, PPOConfig)),
    ],
)
def test_ranks_share_an_order_of_rows_unless_they_sample(config, says, tmp_path, monkeypatch):
    settings = vars(config(output_dir=str(tmp_path), use_cpu=True, bf16=False))
    assert samples(settings) is says
    orders = set()
    for rank in range(2):
        monkeypatch.setattr(random, "AcceleratorState", lambda rank=rank: SimpleNamespace(process_index=rank))
        random.set_seed(0, device_specific=samples(settings))
        orders.add(tuple(SeedableRandomSampler(range(50), generator=torch.Generator())))
    assert len(orders) == 1 + says


RANKS = """
import json
import os
from types import SimpleNamespace

import torch
import torch.distributed as dist
import transformers.trainer
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from peft import LoraConfig, get_peft_model
from torch.distributed.fsdp import FSDPModule
from transformers import Qwen3Config, Qwen3ForCausalLM

from zero2chat.trainers.trainer import shard_precisely

assert callable(transformers.trainer.update_fsdp_plugin_peft)  # what `shard_precisely` replaces
os.environ["ACCELERATE_USE_FSDP"] = "true"
dist.init_process_group("gloo")
sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 64, "head_dim": 16}


def prepared(adapter):
    model = Qwen3ForCausalLM(Qwen3Config(**sizes, num_attention_heads=2, num_key_value_heads=2))
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="TRANSFORMER_BASED_WRAP", reshard_after_forward=True,
        state_dict_type="FULL_STATE_DICT", cpu_ram_efficient_loading=False,
    )
    plugin.set_mixed_precision("bf16")
    shard_precisely(plugin)
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin), mixed_precision="bf16", is_main_process=False,
        device=torch.device("cpu"), torch_device_mesh=None, parallelism_config=None,
    )
    if adapter:
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
        transformers.trainer.update_fsdp_plugin_peft(model, accelerator)
    return fsdp2_prepare_model(accelerator, model)


ids = torch.tensor([[2, 3, 4, 5]])
found = {}
for adapter in (False, True):
    model = prepared(adapter)
    output = model(input_ids=ids, labels=ids)
    layers = [m for m in model.modules() if isinstance(m, FSDPModule) and hasattr(m, "self_attn")]
    found[str(adapter)] = {
        "layers": len(layers), "loss": str(output.loss.dtype),
        "sums": [str(m._get_fsdp_state()._mp_policy.reduce_dtype) for m in layers[:1]],
    }
if dist.get_rank() == 0:
    print(json.dumps(found), flush=True)
dist.barrier()
os._exit(0)
"""


def test_layers_are_sharded_one_by_one_with_adapters_too_and_losses_are_in_fp32(tmp_path):
    each = '{"layers": 3, "loss": "torch.float32", "sums": ["torch.float32"]}'
    assert two_ranks(RANKS, tmp_path).strip().splitlines()[-1] == f'{{"False": {each}, "True": {each}}}'


def test_gradients_are_reduced_after_each_micro_batch_unless_asked_otherwise(tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True)
    reduce_each_batch(args)
    assert args.accelerator_config.gradient_accumulation_kwargs == {"sync_each_batch": True}
    args.accelerator_config.gradient_accumulation_kwargs = {"sync_each_batch": False}
    reduce_each_batch(args)
    assert args.accelerator_config.gradient_accumulation_kwargs == {"sync_each_batch": False}
    fsdp1 = SimpleNamespace(fsdp_version=1, mixed_precision_policy="its own")
    shard_precisely(fsdp1)  # which is left as it is
    assert fsdp1.mixed_precision_policy == "its own"


HELD_OUT = """
import os
import sys

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments
from trl import DPOConfig, SFTConfig

from zero2chat.trainers.preferences import PairTrainer
from zero2chat.trainers.pretrain_trainer import PretrainTrainer
from zero2chat.trainers.sft import SftTrainer

folder, name = sys.argv[1:]
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
how = {"per_device_eval_batch_size": 2, "use_cpu": True, "bf16": False, "report_to": "none"}
ids = [[n, 41, 42 + n, 43, 44 * n] for n in range(2, 7)]
if name == "pretrain":
    rows = Dataset.from_dict({"input_ids": ids}).with_format("torch")
    trainer = PretrainTrainer(model, tokenizer, args=TrainingArguments(folder, **how), train_dataset=list(rows) * 8)
elif name == "sft":
    masks = [[0] * n + [1] * (5 - n) for n in (1, 4, 3, 1, 2)]
    rows = Dataset.from_dict({"input_ids": ids, "assistant_masks": masks})
    trainer = SftTrainer(
        model, SFTConfig(folder, **how), train_dataset=rows, eval_dataset=rows, processing_class=tokenizer
    )
else:
    rows = Dataset.from_dict({"prompt_ids": ids, "chosen_ids": [i[1:] for i in ids], "rejected_ids": ids})
    other = AutoModelForCausalLM.from_pretrained(folder)
    other.model.embed_tokens.weight.data *= 2
    trainer = PairTrainer(model, other, DPOConfig(folder, **how), train_dataset=rows, processing_class=tokenizer)
value = trainer.evaluate(trainer.eval_dataset or rows)["eval_loss"]
if trainer.is_world_process_zero():
    print("held-out loss:", value, flush=True)
trainer.accelerator.wait_for_everyone()
os._exit(0)
"""


@pytest.mark.parametrize("name", ["pretrain", "sft", "dpo"])
def test_a_held_out_loss_is_that_of_each_row_once_on_any_number_of_processes(name, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    printed = [two_ranks(HELD_OUT, tmp_path, folder, name, processes=n) for n in (1, 2)]
    one, two = (float(text.rpartition("held-out loss:")[2]) for text in printed)
    assert two == pytest.approx(one, rel=1e-5)
    if name == "dpo":
        return
    model = AutoModelForCausalLM.from_pretrained(folder)
    learned = [1, 4, 3, 1, 2] if name == "sft" else [1] * 5  # the first token with loss
    rows = torch.tensor([[n, 41, 42 + n, 43, 44 * n] for n in range(2, 7)])
    labels = rows.masked_fill(torch.arange(5) < torch.tensor(learned)[:, None], -100)
    assert one == pytest.approx(model(rows, labels=labels).loss.item(), rel=1e-5)


ROWS = [{"input_ids": torch.tensor(ids)} for ids in ([5, 6, 0, 7, 8, 9, 0, 3], [0, 0, 4, 2, 9, 9, 0, 5])]


@pytest.mark.usefixtures("flash_attention")
def test_flash_attention_which_would_not_mask_them_is_refused(tmp_path):
    model = SimpleNamespace(config=SimpleNamespace(_attn_implementation="flash_attention_2"))
    with pytest.raises(UserError, match="mask_documents: not supported with FlashAttention"):
        PretrainTrainer(model, SimpleNamespace(eos_token_id=0), mask_documents=True)


@pytest.mark.parametrize(("stateful", "kinds"), [(True, []), (False, ["full_attention", "linear_attention"])])
def test_documents_in_recurrent_models_are_not_said_to_be_masked(stateful, kinds):
    """Such as Jamba and Qwen3-Next, also if a trained one is continued."""
    text = SimpleNamespace(layer_types=kinds)
    config = SimpleNamespace(_attn_implementation="sdpa", model_type="jamba", get_text_config=lambda: text)
    base = SimpleNamespace(forward=lambda position_ids: None)
    model = SimpleNamespace(config=config, _is_stateful=stateful, base_model=base)
    with pytest.raises(UserError, match="mask_documents has no effect on jamba"):
        PretrainTrainer(model, SimpleNamespace(eos_token_id=0), mask_documents=True)


def test_a_batch_that_is_cut_has_the_rows_that_stay():
    args = SimpleNamespace(world_size=2, process_index=0, per_device_train_batch_size=2, dataloader_drop_last=False)
    state = SimpleNamespace(gradient_state=SimpleNamespace(end_of_dataloader=True))
    trainer: Any = SimpleNamespace(args=args, train_dataset=range(5), accelerator=state)
    batch = PretrainTrainer._without_repeats(trainer, collate(ROWS, end=0))
    assert batch["input_ids"].shape == (1, 8)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 0]]
    assert PretrainTrainer._without_repeats(trainer, collate(ROWS)).keys() == {"input_ids", "labels"}


def test_idle_experts_of_one_layer_cost_though_another_layer_makes_up_for_them():
    one = torch.tensor([[9.0, 9, 0, 0]]).repeat(6, 1)
    layers = (one, one.flip(1))
    assert load_balancing_loss_func(layers, 4, 2) == pytest.approx(2)  # transformers' own
    assert balance_loss(layers, 2) == pytest.approx(4, abs=1e-2)


def test_of_one_layer_the_balance_is_that_of_transformers():
    logits = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    assert balance_loss([logits], 2).item() == pytest.approx(load_balancing_loss_func((logits,), 8, 2).item())


def test_what_is_learned_from_is_the_tokens_loss_and_the_balance_of_each_layer(tmp_path):
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
    sizes |= {"num_key_value_heads": 2, "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, output_router_logits=True, router_aux_loss_coef=0.5))
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.mlp.gate.weight, std=2.0)  # loads that are not even
    ids = torch.randint(32, (2, 12))
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer = PretrainTrainer(model=model, args=args, train_dataset=ROWS * 4)
    output = trainer.compute_loss(model.train(), {"input_ids": ids, "labels": ids})
    read = model(ids, labels=ids, output_router_logits=True)
    each = balance_loss(read.router_logits, 2)
    assert abs(each - read.aux_loss) > 0.01
    assert output.item() == pytest.approx((read.loss - 0.5 * read.aux_loss + 0.5 * each).item())
