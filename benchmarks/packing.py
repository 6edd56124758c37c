"""Padding and packing in SFT: tokens/s without padding, and the share of padding, for conversations of three lengths.

    python benchmarks/packing.py [--means 32 128 320] [--seconds 15] [--json]

The stage's own trainer and a small Qwen3 with random weights, on made-up conversations of at most 512 tokens, whose
lengths are spread as those of chat data. Each batch has about 2,048 tokens:

- padded: conversations in random order;
- grouped: conversations of similar length together (`train_sampling_strategy: group_by_length`);
- packed: four rows of whole conversations (`packing: true`), which attention keeps apart by a mask of each row;
- joined: the same four rows as one, as TRL gives them to FlashAttention, here also with a mask.

`benchmarks/gpu.py --only sft` measures padded and packed rows on a GPU. On two cores it takes 4 minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import tempfile
import time
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from transformers import PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM
from trl import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from zero2chat.core.errors import exit_on_mistake
from zero2chat.models.hardware import bf16_is_fast, is_on_cpu, keep_memory
from zero2chat.stages.tokenizer import train_tokenizer
from zero2chat.trainers.arguments import score_what_is_learned
from zero2chat.trainers.sft import SftTrainer

LENGTH, ROWS, VOCABULARY = 512, 4, 4096
SHAPE = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "head_dim": 64}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": VOCABULARY}
SPREAD = 0.8  # of the logarithms of lengths
KINDS: dict[str, dict[str, Any]] = {
    "padded": {},
    "grouped": {"train_sampling_strategy": "group_by_length"},
    "packed": {"packing": True},
    "joined": {"packing": True},
}
WARM_UP = 2  # steps


def conversations(mean: int, tokens: int) -> Dataset:
    """Conversations of random tokens, in whose second half is the answer."""
    rng = random.Random(0)
    ids, masks = [], []
    while sum(map(len, ids)) < tokens:
        drawn = rng.lognormvariate(0, SPREAD) * mean / math.exp(SPREAD**2 / 2)
        length = min(LENGTH, max(8, round(drawn)))
        ids.append([rng.randrange(300, VOCABULARY) for _ in range(length)])
        masks.append([0] * (length // 2) + [1] * (length - length // 2))
    return Dataset.from_dict({"input_ids": ids, "assistant_masks": masks})


def measure(
    kind: str, rows: Dataset, batch_size: int, tokenizer: PreTrainedTokenizerBase, seconds: float
) -> dict[str, float]:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        training = SFTConfig(
            scratch,
            max_length=LENGTH,
            per_device_train_batch_size=batch_size,
            use_cpu=is_on_cpu(),
            bf16=bf16_is_fast(),
            report_to="none",
            dataloader_drop_last=True,
            **KINDS[kind],
        )
        model = Qwen3ForCausalLM(Qwen3Config(**SHAPE))
        trainer = SftTrainer(model=model, args=training, train_dataset=rows, processing_class=tokenizer)
    if kind == "joined":
        trainer.data_collator = DataCollatorForLanguageModeling(tokenizer.pad_token_id, padding_free=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = processed = 0
    start = 0.0
    for step, batch in enumerate(itertools.chain.from_iterable(trainer.get_train_dataloader() for _ in range(1000))):
        if step == WARM_UP:
            tokens, processed, start = 0, 0, time.perf_counter()
        with trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(model, dict(batch))
        trainer.accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        tokens += int((batch["input_ids"] != tokenizer.pad_token_id).sum())
        processed += batch["input_ids"].numel()
        if step > WARM_UP and time.perf_counter() - start > seconds:
            break
    return {"tokens_per_second": tokens / (time.perf_counter() - start), "padding": 1 - tokens / processed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--means", type=int, nargs="+", default=[32, 128, 320], help="mean lengths in tokens")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seconds", type=float, default=15.0, help="of each case")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    disable_progress_bars()
    keep_memory()
    score_what_is_learned()
    tokenizer = train_tokenizer(iter(["A conversation has turns."]), 280)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for mean in args.means:
        rows = conversations(mean, 200_000)
        actual = sum(map(len, rows["input_ids"])) / len(rows)
        found[f"{actual:.0f}"] = {}
        for kind in args.kinds:
            batch_size = ROWS if "packing" in KINDS[kind] else round(ROWS * LENGTH / actual)
            one = found[f"{actual:.0f}"][kind] = measure(kind, rows, batch_size, tokenizer, args.seconds)
            shown = f"{one['tokens_per_second']:,.0f} tokens/s, {one['padding']:.1%} padding"
            print(f"{actual:.0f} tokens on average, {kind}: {shown}", flush=True)
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    with exit_on_mistake():
        main()
