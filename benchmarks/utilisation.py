"""How much of the machine's matrix throughput does training use? FLOP/s of a recipe's steps over the machine's.

    make data
    python benchmarks/utilisation.py [--steps 8] [--json]

A wide Qwen3 of 15 million parameters, 16,384 tokens per step, launched as a recipe is, with Muon and compiled. FLOPs
are those that PyTorch counts in one step of the same model: forward, backward and the optimizer's products. The
machine's FLOP/s are the best of square products of several sizes, in bf16 on a CPU with bf16 units, else in fp32,
measured before and after. About 2 minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
import yaml
from pretrain import LENGTH, SETTINGS, launch, prepare
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, TrainingArguments

from zero2chat.core.config import build
from zero2chat.models.hardware import bf16_is_fast
from zero2chat.stages.pretrain import PretrainArguments
from zero2chat.stages.pretrain_model import build_model
from zero2chat.trainers.muon import use_muon

MODEL = {
    "num_hidden_layers": 3,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "tie_word_embeddings": True,
}
ROWS = 64  # of 256 tokens per step


def best_product(seconds: float = 4.0) -> float:
    """FLOP/s of the fastest square product."""
    dtype = torch.bfloat16 if bf16_is_fast() else torch.float32
    best = 0.0
    for n in (1024, 2048, 4096):
        a, b = torch.randn(n, n, dtype=dtype), torch.randn(n, n, dtype=dtype)
        out, end = a @ b, time.perf_counter() + seconds / 3
        while (start := time.perf_counter()) < end:
            torch.mm(a, b, out=out)
            best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def flops_of_step(settings: Path, tokenizer: Path) -> int:
    """FLOPs of one step's matrix products, counted as they are called."""
    given = yaml.safe_load(settings.read_text()) | {"dataset": "-", "tokenizer": "-", "use_cpu": True}
    args, training = build([PretrainArguments, TrainingArguments], given, str(settings))
    model = build_model(args, AutoTokenizer.from_pretrained(tokenizer))
    kind, options = use_muon(model, training)
    optimizer = kind(**options)
    rows = torch.randint(0, model.config.vocab_size, (args.global_batch_size, LENGTH))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=rows, labels=rows, use_cache=False).loss.backward()
        optimizer.step()
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder, tune=True)
        settings = folder / "utilisation.yaml"
        changes = {"model_type": "qwen3", "model": MODEL, "global_batch_size": ROWS, "logging_steps": 1}
        changes |= {"per_device_train_batch_size": ROWS, "embedding_learning_rate": None}
        settings.write_text(yaml.safe_dump(yaml.safe_load(SETTINGS.read_text()) | changes))
        flops = flops_of_step(settings, folder / "tokenizer")
        before = best_product()
        run = launch(folder, 0, args.steps, "run", settings)
        machine = max(before, best_product())
    reached = flops * run["tokens_per_second"] / run["tokens_per_step"]
    share = reached / machine
    a_token = flops / run["tokens_per_step"] / 1e6
    print(f"{run['parameters']:,} parameters, {a_token:.1f} MFLOPs per token with the optimizer")
    print(f"{run['tokens_per_second']:,.0f} tokens/s: {reached / 1e9:.0f} GFLOP/s of {machine / 1e9:.0f}: {share:.2f}")
    if args.json:
        print(json.dumps(run | {"flops_a_step": flops, "flops": reached, "machine": machine, "share": share}))


if __name__ == "__main__":
    main()
