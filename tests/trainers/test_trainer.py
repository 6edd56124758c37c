"""The order of rows, which seed and epoch decide, and what a step takes and counts."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler, prepare_data_loader, skip_first_batches
from torch.utils.data import DataLoader
from transformers import Qwen3Config, Qwen3ForCausalLM, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from zero2chat.core.runs import read_jsonl
from zero2chat.stages.open_run import open_run
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.trainer import ResumableTrainer, order_by_epoch, set_epoch, train


def test_rows_of_like_length_stand_together_in_an_order_of_seed_and_epoch() -> None:
    lengths = [(37 * i) % 101 for i in range(96)]

    def order(seed: int, epoch: int) -> list[int]:
        sampler = order_by_epoch(LengthGroupedSampler(8, lengths=lengths, generator=torch.Generator()), seed)
        sampler.set_epoch(epoch)
        torch.rand(epoch)  # what the global random state is does not matter
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed, epoch in ((0, 0), (0, 1), (5, 0))}) == 3
    assert sorted(order(0, 2)) == list(range(96))

    def padding(rows: list[int]) -> int:
        batches = [[lengths[i] for i in rows[start : start + 8]] for start in range(0, 96, 8)]
        return sum(8 * max(batch) - sum(batch) for batch in batches)

    assert padding(order(0, 1)) < padding(list(range(96))) / 2


@pytest.mark.parametrize("processes", [1, 2])
def test_the_epoch_reaches_the_sampler_of_a_resumed_run_on_any_number_of_processes(processes: int) -> None:
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


class Slow:
    """Rows of 8 tokens, 5 of them no padding; each row takes a while to read."""

    seconds = 0.02

    def __len__(self) -> int:
        return 32

    def __getitem__(self, i: int) -> dict[str, Any]:
        time.sleep(self.seconds)
        ids = torch.full((8,), 1 + i % 40)
        return {"input_ids": ids, "labels": ids, "attention_mask": torch.tensor([1] * 5 + [0] * 3)}


@pytest.mark.parametrize(("count", "tokens"), [("all", 8), ("non_padding", 5)])
def test_speed_is_by_the_clock_and_tokens_are_read_back_only_for_a_log(count: str, tokens: int, tmp_path: Path) -> None:
    config = Qwen3Config(
        vocab_size=48,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=16,
        pad_token_id=0,
    )
    args = TrainingArguments(
        str(tmp_path / "run"),
        max_steps=4,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="no",
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    tokenizer: Any = SimpleNamespace(pad_token_id=0, eos_token_id=None, bos_token_id=None)
    trainer = ResumableTrainer(
        Qwen3ForCausalLM(config), args, train_dataset=Slow(), eval_dataset=Slow(), processing_class=tokenizer
    )
    gather, gathered = trainer.accelerator.gather, []

    def watched(value: Any) -> Any:
        gathered.append(value)
        return gather(value)

    trainer.accelerator.gather = watched
    run = open_run(args.output_dir, "pretrain", {"output_dir": args.output_dir})
    callback = RunCallback(run)
    start = time.perf_counter()
    train(trainer, run, callback, count)
    whole, rows = time.perf_counter() - start, 4 * 4 * 2
    lines = [line for line in read_jsonl(run.folder / "history.jsonl") if "loss" in line]
    assert [line["tokens"] for line in lines] == [rows / 2 * tokens, rows * tokens]
    counts = [value for value in gathered if not value.is_floating_point()]
    assert len(counts) == len(lines) + 1  # and the end, but not each of 16 micro-batches
    assert callback.all_seconds > rows * Slow.seconds
    assert callback.all_seconds < whole - 2 * 32 * Slow.seconds  # two evaluations
    # A batch is read ahead: of the second half's 8, one in the first half.
    assert all(line["tokens_per_second"] < 8 / 7 * tokens / Slow.seconds for line in lines)
